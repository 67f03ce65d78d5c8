"""Streamed turns of a session over real HTTP, in both wire formats: what is kept when the stream is slow,
cut, fails, goes silent, or is left."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from agentsession import ProviderFailed, TextDelta
from agentsession._drive import reply_pieces
from agentsession.provider.litellm.adapter import LiteLLM
from tests.support.lease_watch import eventually
from tests.support.llm_server import Behaviour, LlmServer, Streams
from tests.support.models import Answer, chat_model

# The layout makes no difference to what comes from a provider.
pytestmark = [pytest.mark.backends("sqlite"), pytest.mark.layouts("document")]

CLIENTS = {"openai": "openai:gpt-4o", "anthropic": "anthropic:claude-sonnet-4-5"}
WORDS = "one two three four five six seven eight"
FIRST = pytest.mark.parametrize("name", CLIENTS)
Follow = Callable[[Any, list[str], int], None]


def follow(Chat: Any, heard: list[str], most: int) -> None:
    with Chat.stream_start_session("Hello") as stream:
        for event in stream:
            if isinstance(event, TextDelta):
                heard.append(event.text)
            if len(heard) == most:
                return


def afollow(Chat: Any, heard: list[str], most: int) -> None:
    async def run() -> None:
        async with Chat.astream_start_session("Hello") as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    heard.append(event.text)
                if len(heard) == most:
                    return

    asyncio.run(run())


BOTH = pytest.mark.parametrize("follow", [follow, afollow])


def chat(server: LlmServer, name: str, database: Any, **options: Any) -> Any:
    base = server.openai if name == "openai" else server.url
    client = (CLIENTS[name], {"api_base": base, "api_key": "sk-test-0"})
    return chat_model(database, client=client, retries=0, **options)


def stored(Chat: Any) -> tuple[str, list[tuple[str, Any]]]:
    (row,) = Chat.select()
    return row.status, [(message["role"], message["content"]) for message in row.context["messages"]]


@FIRST
@BOTH
def test_a_slow_stream_is_read_and_stored(name: str, follow: Follow, database: Any) -> None:
    heard: list[str] = []
    with LlmServer(Streams(WORDS, pieces=8, pause=0.02)) as server:
        Chat = chat(server, name, database)
        follow(Chat, heard, -1)
    assert "".join(heard) == WORDS
    assert len(heard) > 1
    assert stored(Chat) == ("completed", [("user", "Hello"), ("assistant", WORDS)])


@FIRST
@BOTH
@pytest.mark.parametrize("ends", ["cut", "early", "error"])
def test_a_broken_stream_fails_the_turn_and_keeps_the_partial_reply(
    name: str, follow: Follow, ends: Any, database: Any
) -> None:
    heard: list[str] = []
    with LlmServer(Streams(WORDS, pieces=8, pause=0.01, ends=ends, after=3)) as server:
        Chat = chat(server, name, database)
        with pytest.raises(ProviderFailed):
            follow(Chat, heard, -1)
    said = "".join(heard)
    assert said
    assert WORDS.startswith(said)
    assert stored(Chat) == ("failed", [("user", "Hello"), ("assistant", said)])


@FIRST
@BOTH
def test_leaving_a_stream_stops_the_provider_and_keeps_the_partial_reply(
    name: str, follow: Follow, database: Any
) -> None:
    heard: list[str] = []
    words = "word " * 2000
    with LlmServer(Streams(words, pieces=2000, pause=0.01)) as server:
        Chat = chat(server, name, database)
        follow(Chat, heard, 3)
        until = time.monotonic() + 20
        while not server.hung_up and time.monotonic() < until:
            time.sleep(0.01)
        assert server.hung_up
    status, messages = stored(Chat)
    assert status == "interrupted"
    assert messages[1][1].startswith("".join(heard))
    assert len(messages[1][1]) < len(words)


class WithoutCoroutines:
    """litellm as a provider whose stream is read in a thread, also from an event loop."""

    def ask(self, request: Any) -> Any:
        raise AssertionError("it is streamed")

    def stream(self, request: Any) -> Any:
        return LiteLLM().stream(request)


def is_hung_up(connection: socket.socket) -> bool:
    """Has the client closed it?"""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@FIRST
@pytest.mark.parametrize(
    ("follow", "provider"), [(follow, None), (afollow, None), (afollow, WithoutCoroutines())]
)
def test_leaving_a_silent_stream_frees_its_thread_and_connection(
    name: str, follow: Follow, provider: Any, database: Any
) -> None:
    with LlmServer(*[Streams(WORDS, ends="silent", after=2)] * 20) as server:
        Chat = chat(server, name, database, provider=provider)
        for _ in range(20):
            follow(Chat, [], 1)
        eventually(lambda: "agentsession-read" not in [each.name for each in threading.enumerate()], 20)
        eventually(lambda: all(map(is_hung_up, server.connections)), 20)
        assert server.connected == 20
    assert {row.status for row in Chat.select()} == {"interrupted"}


@FIRST
@BOTH
def test_a_stream_that_goes_silent_fails(
    name: str, follow: Follow, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_pieces, "IDLE", 0.3)
    heard: list[str] = []
    with LlmServer(Streams(WORDS, pieces=2, pause=0.8)) as server:
        Chat = chat(server, name, database)
        with pytest.raises(ProviderFailed, match=r"nothing more for 0.3 s"):
            follow(Chat, heard, -1)
    assert stored(Chat) == ("failed", [("user", "Hello"), ("assistant", "".join(heard))])


@FIRST
@BOTH
def test_a_stream_that_exceeds_the_total_timeout_fails(name: str, follow: Follow, database: Any) -> None:
    heard: list[str] = []
    with LlmServer(Streams("word " * 2000, pieces=2000, pause=0.02)) as server:
        Chat = chat(server, name, database, timeout=1.0)
        with pytest.raises(ProviderFailed, match=r"no complete reply within 1 s"):
            follow(Chat, heard, -1)
    assert stored(Chat)[0] == "failed"


@FIRST
@BOTH
def test_structured_output_is_emitted_while_it_arrives(name: str, follow: Follow, database: Any) -> None:
    script: Behaviour = Streams(Answer(content=WORDS).model_dump_json(), pieces=8)
    with LlmServer(script) as server:
        Chat = chat(server, name, database, output_schema=Answer)
        with Chat.stream_start_session("Hello") as stream:
            values = [event.value for event in stream if hasattr(event, "value")]
    assert stream.result.output == Answer(content=WORDS)
    assert values[-1] == {"content": WORDS}
    shown = [value.get("content", "") for value in values]
    assert all(WORDS.startswith(part) for part in shown)
    assert len(values) > 3
