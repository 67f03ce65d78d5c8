"""`on_iteration_complete` is called once for each reply, before the end of the turn is stored."""

from __future__ import annotations

from typing import Any

import pytest

from agentsession import (
    BudgetExceeded,
    Halt,
    HookFailed,
    MaxIterations,
    OutputInvalid,
    ProviderCallError,
    ToolFailed,
    testing,
    tool,
)
from agentsession._turn_state import Usage
from agentsession.provider import Reply
from agentsession.testing import tool_call
from tests.support.models import Answer
from tests.support.tool_sessions import WAYS, Way, plain, results, said, streamed, tooled

BAD, GOOD = "no JSON", '{"content": "yes"}'


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def broken() -> None:
    """Never works."""
    raise ValueError("no luck")


def end() -> Halt:
    """End the turn."""
    return Halt("The end.")


@tool(needs_approval=True)
def pay() -> str:
    """Pay."""
    return "paid"


TOOLS = [add, broken, end, pay]
ADD, MORE = tool_call("add", a=1, b=2), tool_call("add", a=3, b=4)


def spending(*calls: Any) -> Reply:
    return Reply("" if calls else "3", calls=calls, usage=Usage(10, 10, 20))


class Hooks:
    """Notes the status of the turn and the stored results when it is called, and the reply."""

    def __init__(self, error: Exception | None = None) -> None:
        self.called: list[tuple[int, str, int, int]] = []
        self.error = error
        self.Chat: Any = None

    def on_iteration_complete(self, context: Any, reply: Reply) -> None:
        found = self.Chat.get_by_id(context.session_id)
        roles = [message.role for message in self.Chat.get_context(found.id).messages]
        self.called.append((context.iteration, found.status, len(reply.calls), roles.count("tool")))
        if self.error is not None:
            raise self.error


def hooked(database: Any, error: Exception | None = None, **options: Any) -> tuple[Any, Hooks]:
    hooks = Hooks(error)
    hooks.Chat = tooled(database, *TOOLS, hooks=hooks, **options)
    return hooks.Chat, hooks


CASES: dict[str, tuple[dict[str, Any], list[Any], Any, list[tuple[int, str, int, int]]]] = {
    "an answer": ({}, ["Hi."], None, [(1, "running", 0, 0)]),
    "tools": (
        {},
        [(ADD, MORE), tool_call("broken"), "3"],
        None,
        [(1, "running", 2, 2), (2, "running", 1, 3), (3, "running", 0, 3)],
    ),
    "a repeated call": ({}, [(ADD, ADD), "3"], None, [(1, "running", 2, 2), (2, "running", 0, 2)]),
    "no such tool": ({}, [tool_call("gone"), "3"], None, [(1, "running", 1, 1), (2, "running", 0, 1)]),
    "a reply that does not fit": (
        {"output_schema": Answer},
        [BAD, GOOD],
        None,
        [(1, "running", 0, 0), (2, "running", 0, 0)],
    ),
    "no reply that fits": (
        {"output_schema": Answer, "output_retries": 1},
        [BAD, BAD],
        OutputInvalid,
        [(1, "running", 0, 0), (2, "running", 0, 0)],
    ),
    "the end by a tool": ({}, [(ADD, tool_call("end"))], None, [(1, "running", 2, 1)]),
    "the end by a tool, beside an approval": (
        {},
        [(tool_call("end"), tool_call("pay"))],
        None,
        [(1, "running", 2, 0)],
    ),
    "an approval": ({}, [(ADD, tool_call("pay"))], None, [(1, "running", 2, 1)]),
    "a tool that fails the turn": (
        {"on_tool_error": "halt"},
        [(ADD, tool_call("broken"))],
        ToolFailed,
        [(1, "running", 2, 2)],
    ),
    "too many replies": (
        {"max_iterations": 2},
        [ADD, MORE],
        MaxIterations,
        [(1, "running", 1, 1), (2, "running", 1, 1)],
    ),
    "too many tokens, with calls": (
        {"token_budget": 30, "on_budget": "halt"},
        [spending(ADD), spending(ADD)],
        BudgetExceeded,
        [(1, "running", 1, 1), (2, "running", 1, 1)],
    ),
    "too many tokens, without calls": (
        {"token_budget": 10, "on_budget": "halt"},
        [spending()],
        BudgetExceeded,
        [(1, "running", 0, 0)],
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_the_hook_is_called_once_for_each_reply(way: Way, case: str, database: Any) -> None:
    options, replies, error, called = CASES[case]
    Chat, hooks = hooked(database, **options)
    record, _, _ = said(way, Chat, replies)
    assert hooks.called == called
    assert isinstance(record, Chat if error is None else error), record


@pytest.mark.backends("sqlite")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_a_turn_whose_hook_fails_fails_and_keeps_its_results(way: Way, case: str, database: Any) -> None:
    options, replies, error, called = CASES[case]
    Chat, hooks = hooked(database, ValueError("no luck"), **options)
    with testing.script(Chat, lambda prompt: replies[sum(each.role == "assistant" for each in prompt)]):
        with pytest.raises(HookFailed) as raised:
            way(Chat, "start_session", "Hello!")
    record = raised.value.session
    assert record.last_turn.status == "failed"
    assert hooks.called == called[:1]
    found = raised.value.found
    assert found.startswith("on_iteration_complete raised ValueError: no luck")
    if error is not None and len(called) == 1:
        assert f"when told of {error.__name__}: " in found
    outcomes = [outcome for outcome, _ in results(Chat, record.id)]
    assert outcomes.count("completed") == {
        "tools": 2, "a repeated call": 1, "the end by a tool": 2, "the end by a tool, beside an approval": 1,
        "an approval": 1, "a tool that fails the turn": 1, "too many replies": 1,
        "too many tokens, with calls": 1,
    }.get(case, 0)  # fmt: skip


def test_a_turn_whose_hook_failed_at_the_end_can_be_resumed(database: Any) -> None:
    Chat, hooks = hooked(database, ValueError("no luck"))
    error, _, _ = said(streamed, Chat, [(tool_call("end"), tool_call("pay"))])
    assert isinstance(error, HookFailed)
    assert not error.session.approvals
    hooks.error = None
    with testing.script(Chat, ["Done."]):
        record = error.session.resume_session()
        assert record.status == "awaiting_approval"
        record.approvals[0].approve()
        record.resume_session()
    assert results(Chat, record.id) == [("completed", "The end."), ("completed", "paid")]
    assert record.last_result.text == "Done."


def test_a_run_that_continues_from_a_stored_reply_does_not_repeat_the_hook(database: Any) -> None:
    Chat, hooks = hooked(database)
    with testing.script(Chat, [tool_call("pay"), "Paid."]):
        record = Chat.start_session("Pay.")
        assert hooks.called == [(1, "running", 1, 0)]
        record.approvals[0].approve()
        record.resume_session()
    assert hooks.called == [(1, "running", 1, 0), (1, "running", 0, 1)]


@pytest.mark.parametrize("way", WAYS)
def test_the_hook_is_not_called_if_the_provider_fails(way: Way, database: Any) -> None:
    Chat, hooks = hooked(database)
    said(way, Chat, [ProviderCallError("down")])
    assert hooks.called == []


@pytest.mark.backends("sqlite")
def test_a_turn_whose_results_could_not_be_prepared_calls_the_hook_once(database: Any) -> None:
    class Preparing(Hooks):
        def prepare_tool_results(self, context: Any, ran: Any) -> Any:
            raise ValueError("no luck")

    hooks = Preparing()
    hooks.Chat = tooled(database, *TOOLS, hooks=hooks)
    error, _, _ = said(plain, hooks.Chat, [ADD])
    assert isinstance(error, HookFailed)
    assert hooks.called == [(1, "running", 1, 1)]


@pytest.mark.parametrize("calls", [(tool_call("end"),), (ADD, tool_call("pay"))])
def test_a_turn_that_is_interrupted_in_the_hook_keeps_its_results(calls: Any, database: Any) -> None:
    class Leaving:
        def on_iteration_complete(self, context: Any, reply: Any) -> None:
            raise KeyboardInterrupt

    Chat = tooled(database, *TOOLS, hooks=Leaving)
    with testing.script(Chat, [calls]), pytest.raises(KeyboardInterrupt):
        Chat.start_session("Hello!")
    (record,) = Chat.select()
    assert record.last_turn.status == "interrupted"
    assert [outcome for outcome, _ in results(Chat, record.id)] == ["completed"]
