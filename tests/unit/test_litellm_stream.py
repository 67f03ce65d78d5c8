"""Streams of the litellm provider against a local HTTP server that speaks both formats."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from agentsession.errors import ProviderCallError
from agentsession.provider import Delta
from agentsession.provider.litellm import retry
from tests.support.litellm_calls import (
    CLAUDE,
    CLAUDE_BY_TOOL,
    GPT,
    KEY,
    LITELLM,
    STREAMS,
    in_a_thread,
    plain,
    plain_async,
    request_to,
    streamed,
    whole,
)
from tests.support.llm_server import Behaviour, Fails, LlmServer, Says, Sends, Slow, Streams, Trickles

pytestmark = pytest.mark.filterwarnings("ignore:Items? .* on TypedDict:UserWarning")
"""Of pydantic about litellm's types, when they are first used."""

BOTH = pytest.mark.parametrize("client", [GPT, CLAUDE])
EITHER_WAY = pytest.mark.parametrize("ask", STREAMS)


class Person(BaseModel):
    name: str
    number: int


def fail(
    ask: Any, script: list[Behaviour], client: str = GPT, **limits: Any
) -> tuple[ProviderCallError, list[Any], LlmServer]:
    """A stream that must fail: its error, the pieces before it, and the server."""
    came: list[Any] = []
    with LlmServer(*script) as server, pytest.raises(ProviderCallError) as caught:
        request = request_to(server, client, **limits)
        if ask is streamed:
            in_a_thread(lambda: came.extend(LITELLM.stream(request)))
        else:
            asyncio.run(into(came, LITELLM.astream(request)))
    return caught.value, came, server


async def into(came: list[Any], pieces: Any) -> None:
    async for piece in pieces:
        came.append(piece)


# What a stream gives


@BOTH
@EITHER_WAY
def test_a_stream_gives_thinking_and_text_in_pieces_and_the_reply_at_last(ask: Any, client: str) -> None:
    with LlmServer(Streams("Hello there, friend", thinking="Hm, hm.", pieces=5)) as server:
        pieces = ask(request_to(server, client))
    assert [bool(piece.thinking) for piece in pieces[:-1]] == [True] * 4 + [False] * 5
    assert (whole(pieces).text, whole(pieces).thinking) == ("Hello there, friend", "Hm, hm.")
    assert server.requests[0].body["stream"] is True


@pytest.mark.parametrize(
    ("client", "options"),
    [
        (GPT, {}),
        (CLAUDE, {}),
        ("openai:my-local-model", {}),
        ("anthropic:claude-sonnet-4-20990101", {}),
        ("openai:priced", {"input_cost_per_token": 0.5, "output_cost_per_token": 0.25}),
        ("openai:free", {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}),
    ],
)
@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_all_four_ways_of_asking_give_the_same_reply(client: str, options: Any, finish_reason: str) -> None:
    says = Says(
        "Hello!", "Hm.", input_tokens=100, output_tokens=50, cached_tokens=40, finish_reason=finish_reason
    )
    with LlmServer(*[says] * 4) as server:
        request = request_to(server, client, options=options)
        replies = [plain(request), plain_async(request), *(whole(ask(request)) for ask in STREAMS)]
    assert [replace(reply, raw=None) for reply in replies] == [replace(replies[0], raw=None)] * 4
    assert all(reply.raw is not None for reply in replies)


@EITHER_WAY
def test_a_users_own_stream_options_win_and_tokens_that_were_not_told_are_not_estimated(ask: Any) -> None:
    with LlmServer(Says("Hello!")) as server:
        options = {"stream_options": {"include_usage": False}}
        reply = whole(ask(request_to(server, options=options)))
    assert server.requests[0].body["stream_options"] == {"include_usage": False}
    assert (reply.usage.total_tokens, reply.cost) == (0, None)


def chunks(*deltas: dict[str, Any], finish_reason: str = "stop") -> Sends:
    """An OpenAI stream with these deltas, the last of which brings the finish reason."""
    parts = [{"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"} for _ in deltas]
    for part, delta in zip(parts, deltas, strict=True):
        part["choices"] = [{"index": 0, "delta": delta, "finish_reason": None}]  # type: ignore[assignment]
    parts[-1]["choices"][0]["finish_reason"] = finish_reason  # type: ignore[index]
    return Sends("".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n")


@EITHER_WAY
def test_a_streamed_refusal_is_the_reply(ask: Any) -> None:
    refusal = chunks({"role": "assistant", "content": ""}, {"refusal": "I will "}, {"refusal": "not."}, {})
    with LlmServer(refusal) as server:
        assert whole(ask(request_to(server))).text == "I will not."


@EITHER_WAY
def test_words_in_the_piece_that_brings_the_finish_reason_are_kept(ask: Any) -> None:
    with LlmServer(chunks({"content": "Hel"}, {"content": "lo"}, finish_reason="length")) as server:
        reply = whole(ask(request_to(server)))
    assert (reply.text, reply.finish_reason) == ("Hello", "length")


@pytest.mark.parametrize("client", [GPT, CLAUDE, CLAUDE_BY_TOOL])
@EITHER_WAY
def test_structured_output_comes_in_pieces_of_its_json(ask: Any, client: str) -> None:
    text = '{"name": " true", "number": 7}'
    with LlmServer(Streams(text, thinking="Hm.", pieces=6)) as server:
        pieces = ask(request_to(server, client, output=Person))
    assert [piece.text for piece in pieces[:-1] if piece.text] == [
        '{"nam', 'e": "', " true", '", "n', "umber", '": 7}',
    ]  # fmt: skip
    assert (whole(pieces).text, whole(pieces).finish_reason) == (text, "stop")
    assert server.requests[0].schema is not None


# A stream that is cut


@BOTH
@EITHER_WAY
@pytest.mark.parametrize("ends", ["cut", "early", "error"])
def test_a_stream_that_is_cut_is_an_error(ask: Any, client: str, ends: Any) -> None:
    script: list[Behaviour] = [Streams("Hello there!", ends=ends, after=2)]
    error, came, _ = fail(ask, script, client, retries=2)
    assert came == [Delta("Hel"), Delta("lo ")]
    assert str(error).startswith(f"{client}: ")
    assert "Hel" not in str(error)
    assert ("scripted error" in str(error)) == (ends == "error")


@BOTH
@EITHER_WAY
def test_all_words_without_a_finish_reason_are_not_a_reply(ask: Any, client: str) -> None:
    _, came, _ = fail(ask, [Streams("Hello there!", ends="early")], client)
    assert came == [Delta(text) for text in ("Hel", "lo ", "the", "re!")]


@BOTH
@EITHER_WAY
def test_a_reply_is_whole_once_its_finish_reason_has_come(ask: Any, client: str) -> None:
    with LlmServer(Streams("Hello there!", ends="late")) as server:
        assert whole(ask(request_to(server, client))).text == "Hello there!"


@BOTH
@EITHER_WAY
@pytest.mark.parametrize("ends", ["cut", "early", "error"])
def test_a_stream_that_is_cut_before_the_first_word_is_retried(
    ask: Any, client: str, ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    with LlmServer(Streams("Lost", ends=ends, after=0), Says("Hello!")) as server:
        assert whole(ask(request_to(server, client))).text == "Hello!"
    assert len(server.requests) == 2


@BOTH
@EITHER_WAY
@pytest.mark.parametrize("status", [408, 429, 500, 529])
def test_a_transient_failure_is_retried(ask: Any, client: str, status: int) -> None:
    with LlmServer(Fails(status, retry_after="0.01"), Says("Hello!")) as server:
        assert whole(ask(request_to(server, client))).text == "Hello!"


@BOTH
@EITHER_WAY
def test_the_retries_of_a_stream_are_counted(ask: Any, client: str) -> None:
    error, came, server = fail(ask, [Fails(500, retry_after="0.01")] * 3, client, retries=2)
    assert (error.status, came, len(server.requests)) == (500, [], 3)


@BOTH
@EITHER_WAY
def test_a_permanent_failure_is_not_retried(ask: Any, client: str) -> None:
    error, _, server = fail(ask, [Fails(401)], client, retries=5)
    assert (error.status, len(server.requests)) == (401, 1)


@BOTH
@EITHER_WAY
def test_a_service_that_says_nothing_is_given_up(ask: Any, client: str) -> None:
    began = time.monotonic()
    error, _, _ = fail(ask, [Slow(20, Says("late"))], client, timeout=0.4)
    assert error.status == 408
    assert time.monotonic() - began < 10


# The plain question, asynchronously


@BOTH
def test_an_asynchronous_question_is_retried(client: str) -> None:
    with LlmServer(Fails(503, retry_after="0.01"), Says("Hello!")) as server:
        assert plain_async(request_to(server, client)).text == "Hello!"


@BOTH
def test_the_timeout_covers_an_asynchronous_reply_that_trickles_in(client: str) -> None:
    with LlmServer(Trickles(0.05)) as server, pytest.raises(ProviderCallError) as caught:
        plain_async(request_to(server, client, timeout=0.4))
    assert str(caught.value) == f"{client}: no complete reply within 0.4 s"
    assert caught.value.status == 408


# Leaving early


ENDLESS = Streams(" ".join(map(str, range(3000))), pieces=3000, pause=0.02)


@BOTH
def test_the_service_sees_that_a_stream_was_closed(client: str) -> None:
    def leave() -> None:
        pieces: Any = LITELLM.stream(request_to(server, client))
        assert isinstance(next(pieces), Delta)
        pieces.close()

    with LlmServer(ENDLESS) as server:
        in_a_thread(leave)
        assert server.hung_up.wait(10)


@BOTH
@pytest.mark.parametrize("way", ["cancelled", "closed"])
def test_the_service_sees_that_an_asynchronous_stream_was_left(client: str, way: str) -> None:
    async def leave(server: LlmServer) -> bool:
        pieces: Any = LITELLM.astream(request_to(server, client))
        assert isinstance(await anext(pieces), Delta)
        if way == "closed":
            await pieces.aclose()
        else:
            task = asyncio.create_task(into([], pieces))
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
        return await asyncio.to_thread(server.hung_up.wait, 10)

    with LlmServer(ENDLESS) as server:
        assert asyncio.run(leave(server))


# Secrets


@BOTH
@EITHER_WAY
def test_neither_key_nor_text_is_in_the_error_of_a_stream_or_in_a_log(
    ask: Any, client: str, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level(logging.INFO)
    error, came, _ = fail(ask, [Streams(f"Secret words and {KEY}", ends="cut", after=3)], client)
    body = json.dumps({"error": {"type": "auth", "message": f"Incorrect API key provided: {KEY}."}})
    refused, _, _ = fail(ask, [Fails(401, body)], client)
    assert len(came) == 3
    shown = "".join([*everything(error), *everything(refused), *capfd.readouterr(), caplog.text])
    assert "Incorrect API key provided: [hidden]" in shown
    assert KEY not in shown
    assert "Secret" not in shown


def everything(error: BaseException | None) -> list[str]:
    """Each text that a handler, a log or an error tracker would take from an error and its chain."""
    if error is None:
        return []
    told = [*traceback.format_exception(error), str(error), repr(vars(error))]
    return [*told, *everything(error.__cause__), *everything(error.__context__)]
