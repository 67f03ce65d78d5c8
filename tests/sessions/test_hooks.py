"""Hooks: functions of the user's between the steps of a turn, which may change what they are given."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from agentsession import HookFailed, ProviderCallError, ProviderFailed, ToolFailed, TurnFailed, testing, tool
from agentsession._options import HOOKS
from agentsession.provider import PromptMessage, Reply
from agentsession.testing import tool_call
from tests.support import servers
from tests.support.models import About, Answer, texts
from tests.support.tool_sessions import WAYS, Way, awaited, plain, results, said, shown, tooled

NAMES = [
    "before_call",
    "after_render",
    "on_iteration_start",
    "prepare_messages",
    "prepare_tool_results",
    "on_iteration_complete",
    "on_iteration_start",
    "prepare_messages",
    "on_iteration_complete",
    "after_call",
]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Recorder:
    """Each hook notes what it was given, and changes nothing."""

    def __init__(self) -> None:
        self.called: list[tuple[str, Any, Any]] = []

    def before_call(self, context: Any, args: Any) -> None:
        self.called.append(("before_call", context, args))

    def after_render(self, context: Any, text: Any) -> None:
        self.called.append(("after_render", context, text))

    def on_iteration_start(self, context: Any, number: Any) -> None:
        self.called.append(("on_iteration_start", context, number))

    def prepare_messages(self, context: Any, messages: Any) -> None:
        self.called.append(("prepare_messages", context, messages))

    def prepare_tool_results(self, context: Any, results: Any) -> None:
        self.called.append(("prepare_tool_results", context, results))

    def on_iteration_complete(self, context: Any, reply: Any) -> None:
        self.called.append(("on_iteration_complete", context, reply))

    def after_call(self, context: Any, reply: Any) -> None:
        self.called.append(("after_call", context, reply))

    def on_error(self, context: Any, error: Any) -> None:
        self.called.append(("on_error", context, error))


def awaiting(recorder: Recorder) -> Any:
    """The same hooks, as coroutine functions."""

    def hook(name: str) -> Any:
        async def call(self: Any, context: Any, value: Any) -> None:
            getattr(recorder, name)(context, value)

        return call

    return type("AsyncHooks", (), {name: hook(name) for name in HOOKS})


INSTRUCTION = {"instruction": "You work for {{ company_name }}.", "instruction_schema": About}


@pytest.mark.parametrize("way", WAYS)
def test_hooks_are_called_in_order(way: Way, database: Any) -> None:
    hooks = Recorder()
    Chat = tooled(database, add, hooks=hooks)
    record, _, _ = said(way, Chat, [tool_call("add", a=1, b=2), "3"])
    assert [name for name, _, _ in hooks.called] == NAMES
    contexts = [context for _, context, _ in hooks.called]
    assert {(each.session_id, each.turn, each.client) for each in contexts} == {
        (record.id, record.last_turn.id, "echo:")
    }
    assert [each.iteration for each in contexts] == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    values = [value for _, _, value in hooks.called]
    assert values[1] == "You help."
    assert values[2] == 1
    assert [message.role for message in values[3]] == ["system", "user"]
    assert [each.text for each in values[4]] == ["3"]
    assert values[9].text == "3"


@pytest.mark.backends("sqlite")
def test_hooks_may_be_asynchronous(database: Any) -> None:
    hooks = Recorder()
    Chat = tooled(database, add, hooks=awaiting(hooks))
    said(awaited, Chat, [tool_call("add", a=1, b=2), "3"])
    assert [name for name, _, _ in hooks.called] == NAMES
    error, _, _ = said(plain, Chat, [])
    assert isinstance(error, HookFailed)
    assert "it is asynchronous: await an async twin" in error.found


def test_the_value_of_a_hook_replaces_the_original(database: Any) -> None:
    class Hooks:
        def before_call(self, context: Any, args: Any) -> Any:
            return {**args, "company_name": args["company_name"].upper()}

        def after_render(self, context: Any, text: str) -> str:
            return f"{text} Be brief."

        def prepare_messages(self, context: Any, messages: Any) -> Any:
            return [
                *messages[:-1],
                PromptMessage(messages[-1].role, messages[-1].content.replace("secret", "***")),
            ]

        def after_call(self, context: Any, reply: Any) -> Any:
            return replace(reply, text=reply.text.replace("maybe", "yes"))

    Chat = tooled(database, hooks=Hooks, **INSTRUCTION, output_schema=Answer)
    with testing.script(Chat, ['{"content": "maybe"}']) as asked:
        record = Chat.start_session("My secret", instruction_args={"company_name": "Acme"})
    assert [message.content for message in asked[0]] == ["You work for ACME. Be brief.", "My ***"]
    assert record.last_result.output == Answer(content="yes")
    assert texts(Chat, record.id) == ["My secret", '{"content": "yes"}']
    assert record.get_context().instruction_args == {"company_name": "Acme"}


def test_a_hook_may_change_the_results_that_the_model_receives(database: Any) -> None:
    class Hooks:
        def prepare_tool_results(self, context: Any, ran: Any) -> Any:
            return [
                msgspec.structs.replace(each, text_for_model=f"about {each.text}", text="gone")
                for each in ran
            ]

    Chat = tooled(database, add, hooks=Hooks())
    record, asked, _ = said(plain, Chat, [tool_call("add", a=1, b=2), "3"])
    assert shown(asked[1])[-1] == ("tool", "about 3")
    assert results(Chat, record.id) == [("completed", "3")]


@pytest.mark.parametrize("name", sorted({*NAMES}))
def test_a_hook_that_fails_fails_the_turn_and_nothing_is_lost(name: str, database: Any) -> None:
    def fail(self: Any, context: Any, value: Any) -> None:
        raise ValueError("no luck")

    Chat = tooled(database, add, hooks=type("Hooks", (), {name: fail}))
    replies = [tool_call("add", a=1, b=2), "3"]
    with testing.script(Chat, lambda prompt: replies[min(len(prompt) // 3, 1)]):
        with pytest.raises(HookFailed) as raised:
            Chat.start_session("Hello!")
    assert raised.value.found == f"{name} raised ValueError: no luck"
    assert isinstance(raised.value.__cause__, ValueError)
    record = raised.value.session
    assert (record.last_turn.status, record.last_turn.error.type) == ("failed", "HookFailed")
    ran = name in ("prepare_tool_results", "on_iteration_complete", "after_call")
    assert results(Chat, record.id) == ([("completed", "3")] if ran else [])


@pytest.mark.backends("sqlite")
@pytest.mark.parametrize(
    ("name", "gives", "found"),
    [
        ("before_call", "text", "before_call returned str, not dict"),
        ("after_render", 3, "after_render returned int, not str"),
        ("prepare_messages", "text", "prepare_messages returned str, not a list"),
        ("prepare_messages", ["text"], "prepare_messages returned str, not PromptMessage"),
        ("after_call", "text", "after_call returned str, not Reply"),
        ("prepare_tool_results", [], "prepare_tool_results returned other results than it received"),
        ("prepare_tool_results", ["x"], "prepare_tool_results returned str, not ToolResult"),
        ("after_call", Reply(None), "after_call returned a Reply whose text is not a str"),
        (
            "after_call",
            Reply("x", cost=math.nan),
            "after_call returned a Reply that cannot be stored",
        ),
    ],
)
def test_the_value_of_a_hook_has_to_fit(name: str, gives: Any, found: str, database: Any) -> None:
    Chat = tooled(database, add, hooks=type("Hooks", (), {name: lambda self, context, value: gives}))
    replies = [tool_call("add", a=1, b=2), "3"]
    with testing.script(Chat, lambda prompt: replies[min(len(prompt) // 3, 1)]):
        with pytest.raises(HookFailed) as raised:
            Chat.start_session("Hello!")
    assert raised.value.found.startswith(found)


@pytest.mark.backends("sqlite")
def test_a_variable_that_a_hook_removes_fails_the_turn(database: Any) -> None:
    class Hooks:
        def before_call(self, context: Any, args: Any) -> Any:
            return {"other": 1}

    Chat = tooled(database, hooks=Hooks, **INSTRUCTION)
    with pytest.raises(HookFailed, match=r"left .* company_name .* without a value"):
        Chat.start_session("Hello!", instruction_args={"company_name": "Acme"})


@pytest.mark.parametrize("way", WAYS)
def test_on_error_receives_the_failure_and_may_change_it(way: Way, database: Any) -> None:
    seen: list[TurnFailed] = []

    class Hooks:
        def on_error(self, context: Any, error: TurnFailed) -> TurnFailed | None:
            seen.append(error)
            return ToolFailed("we are closed") if "down" in error.found else None

    Chat = tooled(database, hooks=Hooks())
    error, _, _ = said(way, Chat, [ProviderCallError("down")])
    assert isinstance(seen[0], ProviderFailed)
    assert (type(error), error.found) == (ToolFailed, "we are closed")
    assert error.session.last_turn.error.message == "we are closed"
    error, _, _ = said(way, Chat, [ProviderCallError("busy")])
    assert isinstance(error, ProviderFailed)


@pytest.mark.backends("sqlite")
def test_a_failing_on_error_hook_hides_no_failure(database: Any) -> None:
    class Hooks:
        def on_error(self, context: Any, error: TurnFailed) -> None:
            raise KeyError("x")

    Chat = tooled(database, hooks=Hooks())
    error, _, _ = said(plain, Chat, [ProviderCallError("down")])
    assert isinstance(error, HookFailed)
    assert error.found == "on_error raised KeyError: 'x', when told of ProviderFailed: down"
    assert isinstance(error.__cause__, ProviderFailed)
    assert error.session.last_turn.status == "failed"


@pytest.mark.backends("sqlite")
def test_hooks_run_in_a_call_without_a_session(database: Any) -> None:
    hooks = Recorder()
    Chat = tooled(database, add, hooks=hooks)
    with testing.script(Chat, [tool_call("add", a=1, b=2), "3"]):
        Chat.call("Hello!")
    assert [name for name, _, _ in hooks.called] == NAMES
    assert {context.session_id for _, context, _ in hooks.called} == {None}


@pytest.mark.backends("sqlite")
def test_a_failure_that_a_hook_replaced_by_a_wrong_value_is_stored(database: Any) -> None:
    class Hooks:
        def on_error(self, context: Any, error: Any) -> None:
            error.found = None

    Chat = tooled(database, hooks=Hooks())
    error, _, _ = said(plain, Chat, [ProviderCallError("down")])
    assert error.session.last_turn.status == "failed"


@pytest.mark.parametrize("way", WAYS)
def test_a_hook_that_uses_the_database_leaves_no_connection_open(way: Way, database_url: str) -> None:
    pool = servers.open_database(database_url, pool=1)
    counted: list[int] = []

    def count(*_: Any) -> None:
        counted.append(Chat.select().count())

    class Hooks:
        before_call = on_iteration_start = prepare_tool_results = after_call = staticmethod(count)

    def may_run(arguments: Any) -> bool:
        count()
        return False

    Chat = tooled(pool, tool(add, needs_approval=may_run), hooks=Hooks)
    record, _, _ = said(way, Chat, [tool_call("add", a=1, b=2), "3"])
    assert record.status == "completed"
    assert len(counted) == 6
    assert pool.is_closed()
    assert not pool._in_use
    pool.close_all()
