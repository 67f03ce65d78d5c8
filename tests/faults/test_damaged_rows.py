"""Damaged rows: each action works, or raises an error of the library that names the place of the damage."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import peewee as pw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentsession import AgentSessionError, ContextUnreadable, ProviderCallError, actions, info, testing, tool
from agentsession._store.message_table import OTHER
from agentsession.provider import Reply
from agentsession.testing import tool_call
from tests.support.layouts import LAYOUTS, all_rows, put_rows
from tests.support.models import let_the_lease_run_out
from tests.support.tool_sessions import tooled

pytestmark = pytest.mark.matrix

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    3,
    99,
    2**62,
    2**70,
    0.5,
    "",
    "user",
    "x",
    "{}",
    "[1]",
    [],
    [1],
    [{}],
    [{"type": "tool_call"}],
    [{"type": "tool_result", "call": 7, "content": 7}],
    {},
    {"x": 1},
    {"type": []},
)

ACTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "get_context": lambda Chat, key: Chat.get_context(key).messages,
    "a page": lambda Chat, key: Chat.get_context(key, last=2, before=4),
    "last_result": lambda Chat, key: Chat.get_by_id(key).last_result,
    "last_turn": lambda Chat, key: Chat.get_by_id(key).last_turn,
    "record's approvals": lambda Chat, key: Chat.get_by_id(key).approvals,
    "approvals": actions.approvals,
    "approve": lambda Chat, key: [each.approve() for each in actions.approvals(Chat, key)],
    "edit": lambda Chat, key: [each.edit({"number": 2}) for each in actions.approvals(Chat, key)],
    "continue": lambda Chat, key: Chat.continue_session(key, "More"),
    "continue by key": lambda Chat, key: Chat.continue_session(key, "Hello", idempotency_key="k"),
    "continue later": lambda Chat, key: Chat.continue_session(key, "More", run=False),
    "continue as a stream": lambda Chat, key: [*Chat.stream_continue_session(key, "More")],
    "resume": lambda Chat, key: Chat.resume_session(key),
    "cancel": lambda Chat, key: Chat.cancel_session(key),
    "list": lambda Chat, key: actions.list_sessions(Chat),
    "migrate": lambda Chat, key: actions.migrate(Chat, to="document"),
    "delete": lambda Chat, key: actions.delete_session(Chat, key),
}


@tool
def order(number: int) -> str:
    """Order."""
    return f"ordered {number}"


@tool(needs_approval=True)
def pay(number: int) -> str:
    """Pay."""
    return f"paid {number}"


def completed(Chat: Any) -> Any:
    with testing.script(Chat, [tool_call("order", number=1), "done", "more"]):
        session = Chat.start_session("Hello")
        return session.continue_session("Hello", idempotency_key="k").id


def failed(Chat: Any) -> Any:
    key = completed(Chat)
    with testing.script(Chat, [tool_call("order", number=1), ProviderCallError("down")]):
        with pytest.raises(AgentSessionError):
            Chat.continue_session(key, "Fail")
    return key


def interrupted(Chat: Any) -> Any:
    key = completed(Chat)
    with testing.script(Chat, [("half ", "a reply")]):
        stream = Chat.stream_continue_session(key, "Half")
        next(stream), next(stream)
        stream.close()
    return key


def again(Chat: Any) -> Any:
    key = interrupted(Chat)
    with testing.script(Chat, [("another ", "half")]):
        stream = Chat.stream_resume_session(key)
        next(stream), next(stream)
        stream.close()
    return key


def running(Chat: Any) -> Any:
    key = completed(Chat)
    with testing.script(Chat, [(tool_call("order", number=1), tool_call("order", number=2))]):
        with testing.crash_after(4):
            Chat.continue_session(key, "Left")
    let_the_lease_run_out(Chat, key)
    return key


def awaiting(Chat: Any) -> Any:
    key = completed(Chat)
    with testing.script(Chat, [(tool_call("order", number=1), tool_call("pay", number=2))]):
        Chat.continue_session(key, "Pay")
    return key


STATES = {each.__name__: each for each in (completed, failed, interrupted, again, running, awaiting)}


class Replies:
    def ask(self, request: Any) -> Reply:
        return Reply("reply")


class Damaged:
    """A session in each state, which is stored again with each damage."""

    def __init__(self, layout: str, database: Any = None) -> None:
        self.database = database or pw.SqliteDatabase(":memory:")
        self.database.layout = layout
        self.database.connection_context().__enter__()
        self.Chat = tooled(
            self.database, order, pay, create=False, provider=Replies(), session={"history_turns": 2}
        )
        models = [self.Chat]
        if layout == "rows":
            models.append(info.message_model(self.Chat))
        self.database.create_tables(models)
        self.states: dict[str, tuple[Any, Any]] = {}
        for name, make in STATES.items():
            key = make(self.Chat)
            self.states[name] = key, copy.deepcopy(all_rows(self.Chat))
            put_rows(self.Chat, [[] for _ in models])

    def put(self, state: str, damage: Callable[[Any], None]) -> Any:
        """Store the damaged rows and return the key of the session."""
        key, rows = self.states[state]
        rows = copy.deepcopy(rows)
        damage(rows)
        put_rows(self.Chat, rows)
        return key


@pytest.fixture(scope="module", params=LAYOUTS)
def damaged(request: pytest.FixtureRequest) -> Iterator[Damaged]:
    yield (made := Damaged(request.param))
    made.database.close()


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*path, name)
        yield from paths(inner, (*path, name))


def odd_value(chance: random.Random, first: int = 0) -> Any:
    return copy.deepcopy(chance.choice(ODD[first:]))


def damage_in(rows: Any, chance: random.Random) -> None:
    """Change, add or remove one value inside the head or inside the columns of a message."""
    tables = [index for index, table in enumerate(rows) if table]
    table = rows[chance.choice(tables)]
    is_messages = table is not rows[0]
    if is_messages and chance.random() < 0.2:
        table.remove(chance.choice(table))
        return
    row = chance.choice(table)
    names = ["seq", "turn", "role", "content", "metadata"] if is_messages else ["context"]
    name = chance.choice(names)
    inside = [*paths(row[name])] if isinstance(row[name], (dict, list)) else []
    if not inside or chance.random() < 0.3:
        if name in ("content", "metadata"):
            row[name] = odd_value(chance, 1)
        elif name == "context":
            row[name] = odd_value(chance)
        elif name != "seq" or not is_messages:
            row[name] = str(odd_value(chance))
        else:
            free = {99, 2**31 - 1, -7} - {each["seq"] for each in table}
            row[name] = chance.choice(sorted(free))
        return
    *way, last = chance.choice(inside)
    inner = row[name]
    for step in way:
        inner = inner[step]
    if chance.random() < 0.3:
        del inner[last]
    else:
        inner[last] = odd_value(chance)


def attempt(Chat: Any, action: str, key: Any) -> None:
    """Call an action, which may raise only errors of the library."""
    with suppress(AgentSessionError):
        ACTIONS[action](Chat, key)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(STATES)), st.sampled_from(sorted(ACTIONS)), st.randoms(use_true_random=False))
def test_damaged_rows_raise_only_errors_of_the_library(
    damaged: Damaged, state: str, action: str, chance: random.Random
) -> None:
    def damage(rows: Any) -> None:
        for _ in range(chance.choice((1, 1, 1, 2))):
            damage_in(rows, chance)

    attempt(damaged.Chat, action, damaged.put(state, damage))


def first(rows: Any, **found: Any) -> dict[str, Any]:
    """Return the first message with these values, in either layout."""
    messages = rows[1] if len(rows) > 1 else rows[0][0]["context"]["messages"]
    return next(each for each in messages if found.items() <= each.items())


def duplicate_ids(rows: Any) -> None:
    """Give the partial reply the id of the user's message."""
    turn = rows[0][0]["context"]["turn"]["id"]
    opening, reply = first(rows, turn=turn, role="user"), first(rows, turn=turn, role="assistant")
    if "seq" in reply:
        reply["metadata"][OTHER] = {"id": f"{turn}:{opening['seq']}"}
    else:
        reply["id"] = opening["id"]


def unreadable_partials(rows: Any) -> None:
    turn = rows[0][0]["context"]["turn"]["id"]
    first(rows, turn=turn, role="user")["metadata"]["partials"] = 7


def unreadable_arguments(rows: Any) -> None:
    (approval,) = rows[0][0]["context"]["turn"]["approvals"]
    approval["arguments"] = "[1]"


CASES: dict[str, tuple[str, Callable[[Any], Any], tuple[str, ...], str]] = {
    "two messages of one id": ("interrupted", duplicate_ids, ("resume",), "the same id"),
    "partial replies": (
        "again",
        unreadable_partials,
        ("resume",),
        "`partials` of a stored message are not a list",
    ),
    "arguments": (
        "awaiting",
        unreadable_arguments,
        ("approvals", "last_turn", "continue", "cancel"),
        "approvals",
    ),
}
READS = ("get_context", "continue", "resume", "cancel", "approvals")
HEADS: dict[str, tuple[str, Any, str]] = {
    "size of a type": ("size", {}, "not a count of bytes"),
    "size of nothing": ("size", None, "not a count of bytes"),
    "size below 0": ("size", -1, "not a count of bytes"),
    "system": ("system", "first", "not a position"),
    "count": ("count", 2**31, "no count of messages"),
    "turns": ("turns", 2**31, "no count of messages"),
}


def assert_refused(
    damaged: Damaged, state: str, damage: Callable[[Any], Any], action: str, message: str
) -> None:
    """The action raises an error that names the damage, and stores nothing."""
    key = damaged.put(state, damage)
    before = all_rows(damaged.Chat)
    with pytest.raises(ContextUnreadable, match=message) as unreadable:
        ACTIONS[action](damaged.Chat, key)
    assert unreadable.value.where
    assert all_rows(damaged.Chat) == before


@pytest.mark.parametrize("case", CASES)
def test_the_error_names_a_damaged_value_and_nothing_is_stored(damaged: Damaged, case: str) -> None:
    state, damage, names, message = CASES[case]
    for name in names:
        assert_refused(damaged, state, damage, name, message)


@pytest.mark.parametrize("case", HEADS)
@pytest.mark.parametrize("action", READS)
def test_the_error_names_a_damaged_head_and_nothing_is_stored(
    damaged: Damaged, case: str, action: str
) -> None:
    name, value, message = HEADS[case]
    if damaged.database.layout != "rows":
        pytest.skip("only rows have a head")
    assert_refused(
        damaged, "completed", lambda rows: rows[0][0]["context"].update({name: value}), action, message
    )


@pytest.mark.parametrize("seq", [-1, 2**31 - 1, 2**40, "last"])
def test_the_error_names_a_damaged_position_and_nothing_is_stored(damaged: Damaged, seq: Any) -> None:
    if damaged.database.layout != "rows":
        pytest.skip("only rows have positions")

    def damage(rows: Any) -> None:
        rows[1][-1]["seq"] = -1 if isinstance(seq, str) else seq

    key = damaged.put("completed", damage)
    if isinstance(seq, str):  # SQLite stores text in an integer column
        damaged.database.execute_sql("update chat_message set seq = ? where seq = -1", (seq,))
    for action in ("get_context", "continue", "cancel"):
        with pytest.raises(ContextUnreadable, match="`seq` of a message row"):
            ACTIONS[action](damaged.Chat, key)
