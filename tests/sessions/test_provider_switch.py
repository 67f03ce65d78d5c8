"""I7: a session whose client is changed in the middle of a tool conversation, over real HTTP to servers that
keep to each wire format's strictest rules."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import permutations
from typing import Any

import pytest

from agentsession import TurnStarted, tool
from tests.support.litellm_calls import CLAUDE, GPT, KEY
from tests.support.llm_formats import SIGNATURE, Calls, Says, Streams
from tests.support.llm_server import LlmServer
from tests.support.tool_sessions import tooled

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.backends("sqlite", "postgres"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict:UserWarning"),
]

MISTRAL = "openai:mistral-large"
ORDERS = list(permutations((CLAUDE, GPT, MISTRAL)))

TWO = (Calls("find", '{"order": 3, "note": "Zo\\u00eb"}'), Calls("find", '{"order": 4}'))
THINKS = {"thinking": "Hm.", "redacted": "x" * 8}


def find(order: int, note: str = "") -> str:
    """Find an order."""
    return f"order {order}{note}"


@tool(needs_approval=True)
def refund(order: int) -> str:
    """Refund an order."""
    return f"refunded {order}"


class Service:
    """One server for all clients; what it is asked keeps to the rules of each, or it answers 400."""

    def __init__(self, server: LlmServer) -> None:
        self.server = server

    def options(self, client: str) -> dict[str, Any]:
        if client != CLAUDE:
            return {"api_base": self.server.openai, "api_key": KEY}
        thinking = {"type": "enabled", "budget_tokens": 1024}
        return {"api_base": self.server.url, "api_key": KEY, "thinking": thinking, "max_tokens": 2048}

    def bodies(self) -> list[Any]:
        return [asked.body for asked in self.server.requests]


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    """One for all: litellm keeps a client, with its connections, for each address."""
    with LlmServer() as server:
        yield server


@pytest.fixture
def service(server: LlmServer) -> Service:
    server.script.clear()
    server.requests.clear()
    return Service(server)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: " ".join(each.split(":")[1] for each in order))
@pytest.mark.parametrize("kind", [Says, Streams])
def test_each_provider_continues_a_turn_of_another(
    order: tuple[str, ...], kind: Any, service: Service, database: Any
) -> None:
    first, second, third = order
    Chat = tooled(database, find, refund, client=first)
    service.server.script += [
        kind("Let me look. ", calls=TWO, **(THINKS if first == CLAUDE else {})),
        kind("It is there."),
        kind(
            "",
            calls=(
                Calls("nothing", "{}" if second == CLAUDE else "no JSON"),
                Calls("refund", '{"order": 3}'),
            ),
        ),
        kind("Refunded."),
        kind("Bye."),
    ]
    run = streamed if kind is Streams else plain
    record = run(Chat, "start_session", "Hello!", client_options=service.options(first))
    record = run(
        Chat,
        "continue_session",
        record.id,
        "Refund it",
        client=second,
        client_options=service.options(second),
    )
    (approval,) = record.approvals
    approval.approve()
    record = run(Chat, "resume_session", record.id, client=third, client_options=service.options(third))
    assert record.last_result.text == "Refunded."
    run(Chat, "continue_session", record.id, "Bye", client_options=service.options(first))
    texts = [message.text for message in Chat.get_context(record.id).messages]
    assert texts[-1] == "Bye."
    assert "refunded 3" in texts
    signed = [SIGNATURE in str(body) for body in service.bodies()]
    assert signed == ([False, True, False, False, True] if first == CLAUDE else [False] * 5)


def plain(Chat: Any, action: str, *args: Any, **options: Any) -> Any:
    return asyncio.run(getattr(Chat, f"a{action}")(*args, **options))


def streamed(Chat: Any, action: str, *args: Any, **options: Any) -> Any:
    with getattr(Chat, f"stream_{action}")(*args, **options) as stream:
        assert isinstance(next(stream), TurnStarted)
        for _ in stream:
            pass
    return stream.session
