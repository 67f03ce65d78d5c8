"""Results that do not end, or are too large to be turned to JSON, end at a limit; and where it is logged."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import UserDict, UserList
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, repeat
from typing import Any

import msgspec
import peewee as pw
import pytest
from pydantic import BaseModel

from agentsession import Halt, Tool, ToolContext, agent, testing, tool
from agentsession._tools import result
from agentsession._tools.result import ResultTooLarge, rendered
from agentsession.testing import tool_call
from tests.support.models import chat_model
from tests.support.tool_sessions import WAYS, Way, plain, results, said, shown, streamed, tooled

pytestmark = [pytest.mark.backends("sqlite"), pytest.mark.layouts("document")]

TOO_LARGE = "It has run, but its result takes more than 2,000 bytes, the limit (max_input_bytes)"


class Struct(msgspec.Struct):
    rows: Any


class Extra(BaseModel, extra="allow"):
    rows: Any = None


class EndlessMap(UserDict[str, int]):
    def __iter__(self) -> Iterator[str]:
        return map(str, count())

    def __getitem__(self, key: str) -> int:
        return 1


class EndlessList(UserList[int]):
    def __iter__(self) -> Iterator[int]:
        return count()


def numbers() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def nested() -> Iterator[Any]:
    while True:
        yield {"rows": iter(range(3))}


def doubled() -> Any:
    """Few objects, whose text would have 2^60 values."""
    value: Any = [1]
    for _ in range(60):
        value = [value, value]
    return value


def deep(kind: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(100_000):
        value = kind(value)
    return value


def generators() -> Iterator[Any]:
    yield generators()


ENDLESS: dict[str, Callable[[], Any]] = {
    "generator": numbers,
    "nested": nested,
    "words": lambda: repeat("x" * 100),
    "iterator": count,
    "map": lambda: map(str, count()),
    "zip": lambda: zip(count(), count(), strict=False),
    "in a dict": lambda: {"rows": numbers()},
    "in a list": lambda: [1, [numbers()]],
    "in a struct": lambda: Struct(numbers()),
    "mapping": EndlessMap,
    "sequence": EndlessList,
    "keys": lambda: EndlessMap().keys(),
    "doubled": doubled,
    "doubled in a model": lambda: Extra(rows=doubled()),
}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("limit", ["bytes", "values"])
def test_a_value_without_an_end_is_refused(name: str, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result, "MOST_VALUES", 5_000)
    if limit == "bytes" and name != "doubled in a model":
        with pytest.raises(ResultTooLarge, match="more than 2,000 bytes"):
            rendered(ENDLESS[name](), 2_000)
    elif limit == "values" and name != "words":
        with pytest.raises(ResultTooLarge, match="more than 5,000 values"):
            rendered(ENDLESS[name]())


@pytest.mark.parametrize("value", [deep(lambda it: [it]), deep(lambda it: {"a": it}), generators()])
def test_a_value_that_is_nested_without_an_end_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="holds itself, or is nested too deep for JSON"):
        rendered(value)


@pytest.mark.parametrize(
    "value", [Extra(rows=numbers()), Extra(more=numbers()), Extra(rows=[{"a": count()}])]
)
def test_an_iterator_that_pydantic_would_read_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^a \w+ inside a pydantic value might not end"):
        rendered(value)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        [1, -1, 0.5, None, True],
        ["é", "\\", '"'],
        {"é": {"": []}, "b": [{}]},
        {"a": Extra(rows=[1], more={"b": None})},
        [Struct(["x", 1.5])],
        {1: 2, None: 3},
    ],
)
def test_a_value_that_fits_exactly_is_taken(value: Any) -> None:
    text = rendered(value)
    assert rendered(value, len(text.encode())) == text
    assert json.loads(text) == json.loads(rendered(iter([value])))[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_an_endless_generator_is_an_error_of_its_tool(way: Way, kind: str, database: Any) -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        """List numbers."""
        try:
            yield from numbers()
        finally:
            closed.set()

    async def aendless() -> Iterator[int]:
        """List numbers."""
        return endless()

    listing = endless if kind == "function" else tool(name="endless")(aendless)
    Chat = tooled(database, listing, session={"max_input_bytes": 2_000})
    record, asked, _ = said(way, Chat, [tool_call("endless"), "Hm."])
    assert shown(asked[1])[-1] == ("tool", TOO_LARGE)
    assert results(Chat, record.id) == [("failed", TOO_LARGE)]
    assert closed.wait(10)


def test_an_endless_generator_ends_without_a_session_and_in_memory_as_well() -> None:
    database = pw.SqliteDatabase(":memory:")
    database.connect()
    Chat = chat_model(database, tools=[numbers_tool], create=False)
    database.create_tables([Chat])
    for act in (Chat.call, Chat.start_session):
        with testing.script(Chat, [tool_call("numbers_tool"), "Hm."]) as asked:
            act("Hello!")
        assert shown(asked[1])[-1][1].startswith(
            "It has run, but its result holds more than 1,000,000 values"
        )


def numbers_tool() -> Iterator[int]:
    """List numbers."""
    return numbers()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_nobody_lists_a_generator_of_a_call_that_was_too_late(way: Way, kind: str, database: Any) -> None:
    closed = threading.Event()

    def slow() -> Iterator[int]:
        try:
            for number in count():
                time.sleep(0.01)
                yield number
        finally:
            closed.set()

    @tool(name="listing", timeout=0.1)
    def listing() -> Iterator[int]:
        """List numbers."""
        return slow()

    @tool(name="listing", timeout=0.1)
    async def alisting() -> Iterator[int]:
        """List numbers."""
        return slow()

    Chat = tooled(database, listing if kind == "function" else alisting)
    record, _, _ = said(way, Chat, [tool_call("listing"), "Hm."])
    assert results(Chat, record.id) == [
        ("timed_out", "It did not end within 0.1 s, and may still be running.")
    ]
    assert closed.wait(10)


def test_an_endless_query_is_an_error_and_leaves_no_connection(database: Any) -> None:
    def rows() -> Any:
        """List rows."""
        return Chat.raw(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
        ).dicts()

    Chat = tooled(database, rows, session={"max_input_bytes": 2_000})
    record, asked, _ = said(plain, Chat, [tool_call("rows"), "Hm."])
    assert shown(asked[1])[-1] == ("tool", TOO_LARGE)
    assert record.continue_session("And?").last_turn.status == "completed"
    assert database.is_closed()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [numbers, lambda: [1, numbers()], lambda: (count(),)])
def test_a_turn_is_not_ended_by_what_does_not_end(way: Way, value: Any, database: Any) -> None:
    def end() -> Halt:
        """End the turn."""
        return Halt(value())

    Chat = tooled(database, end, output_schema=list[Any], session={"max_input_bytes": 2_000})
    _, asked, _ = said(way, Chat, [tool_call("end"), "[]"])
    assert shown(asked[1])[-1][1].startswith("It has run, but its result ")


def test_a_turn_may_be_ended_by_an_iterator(database: Any) -> None:
    def end() -> Halt:
        """End the turn."""
        return Halt({"rows": (number for number in range(3))})

    Chat = tooled(database, end, output_schema=dict[str, list[int]])
    record, _, _ = said(plain, Chat, [tool_call("end")])
    assert record.last_result.output == {"rows": [0, 1, 2]}


def test_progress_and_what_is_shown_end_at_a_limit_as_well(database: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(result, "MOST_VALUES", 1_000)

    @tool(result_limit=lambda value: numbers())
    def work(context: ToolContext) -> str:
        """Work."""
        context.report(numbers())
        return "done"

    Chat = tooled(database, work)
    record, asked, events = said(streamed, Chat, [tool_call("work"), "Hm."])
    assert [each.progress for each in events if each.name == "tool_progress"] == ["generator"]
    assert shown(asked[1])[-1][1] == "(It has run. Its result could not be shown: ResultTooLarge)"
    assert results(Chat, record.id) == [("completed", "done")]


def odd() -> object:
    """Give what has no JSON form."""
    return object()


def odd_rows() -> Iterator[object]:
    """Give what has no JSON form, in the end."""
    yield 1
    yield object()


def raising_rows() -> Iterator[int]:
    """Fail in the middle."""
    yield 1
    raise ValueError("no luck")


def odd_of(kind: object) -> object:
    """Give what has no JSON form."""
    return kind


@tool(result_limit=lambda value: object())
def shortened() -> str:
    """Give a text that cannot be shortened."""
    return "text"


written = Tool(name="written", description="It.", parameters={}, function=odd)
bound = Tool(name="bound", description="It.", parameters={}, function=partial(odd_of, object()))
builtin = Tool(name="builtin", description="It.", parameters={}, function=object)


class Odd:
    @tool
    @classmethod
    def odd_method(cls) -> object:
        """Give what has no JSON form."""
        return object()


def line_of(text: str) -> int:
    """The number of the line of this file that begins so."""
    with open(__file__, encoding="utf-8") as file:
        return next(number for number, line in enumerate(file, 1) if line.lstrip().startswith(text))


@pytest.mark.parametrize(
    ("given", "error", "name", "line"),
    [
        (odd, "TypeError", "odd", "def odd()"),
        (written, "TypeError", "odd", "def odd()"),
        (bound, "TypeError", "odd_of", "def odd_of("),
        (odd_rows, "TypeError", "odd_rows", "def odd_rows("),
        (raising_rows, "ValueError", "raising_rows", 'raise ValueError("no luck")'),
        (shortened, "TypeError", "shortened", "@tool(result_limit=lambda value: object())"),
        (None, "TypeError", "odd_method", "@tool"),
    ],
)
def test_the_log_names_the_function_whose_result_cannot_be_used(
    given: Any, error: str, name: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    declared = agent(client="echo:", instruction="You help.", tools=[] if given is None else [given])
    Asked = declared(type("Asked", (Odd if given is None else object,), {}))
    asked_for = getattr(given, "name", None) or getattr(given, "__name__", "odd_method")
    with (
        caplog.at_level(logging.WARNING, "agentsession"),
        testing.script(Asked, [tool_call(asked_for), "Hm."]),
    ):
        Asked.call("Hello!")
    (told,) = [each.getMessage() for each in caplog.records if each.getMessage().startswith("the tool")]
    found = re.fullmatch(
        rf"the tool {asked_for} failed: {error} in {name}, line (\d+) of test_endless_results.py", told
    )
    assert found is not None, told
    if line == "@tool":
        line = "@tool\n"
        assert int(found[1]) == line_of("def odd_method") - 2
    else:
        assert int(found[1]) == line_of(line)
