"""The backlog of a stream keeps what a reader needs, in bounded space."""

from __future__ import annotations

from itertools import pairwise

from agentsession._drive.stream_events import MAX_DELTA, MAX_EVENTS, Backlog
from agentsession.events import (
    PartialOutput,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolProgress,
    ToolStarted,
)


def taken(backlog: Backlog) -> list[object]:
    return [backlog.take() for _ in range(len(backlog))]


def test_a_short_backlog_gives_the_very_events() -> None:
    backlog = Backlog()
    events = [ToolStarted("c", "add", {}), *[TextDelta(str(number)) for number in range(MAX_EVENTS - 2)]]
    for event in events:
        backlog.add(event)
    assert taken(backlog) == events


def test_deltas_of_a_long_backlog_are_joined_and_lose_no_text() -> None:
    backlog, most = Backlog(), 0
    for number in range(200_000):
        backlog.add((ThinkingDelta if number % 50_000 < 10_000 else TextDelta)(f"{number} "))
        most = max(most, len(backlog))
    assert most <= MAX_EVENTS + 1
    events = taken(backlog)
    thinking = "".join(each.text for each in events if isinstance(each, ThinkingDelta))
    text = "".join(each.text for each in events if isinstance(each, TextDelta))
    assert text == "".join(f"{number} " for number in range(200_000) if number % 50_000 >= 10_000)
    assert thinking == "".join(f"{number} " for number in range(200_000) if number % 50_000 < 10_000)
    kinds = [type(each) for each in events]
    runs = sum(before is not after for before, after in pairwise(kinds))
    assert runs == 7, "thinking and text keep their order"


def test_joined_deltas_stay_small() -> None:
    """So each character is copied a few times only."""
    backlog = Backlog()
    for _ in range(100_000):
        backlog.add(TextDelta("x" * 100))
    assert max(len(each.text) for each in taken(backlog) if isinstance(each, TextDelta)) <= 2 * MAX_DELTA


def test_only_the_latest_partial_output_and_progress_wait() -> None:
    backlog = Backlog()
    backlog.add(ToolStarted("a", "count", {}))
    for number in range(10_000):
        backlog.add(PartialOutput({"number": number}))
        backlog.add(ToolProgress("a", "count", number))
        backlog.add(ToolProgress("b", "count", number))
    backlog.add(ToolFinished("a", "count"))
    events = taken(backlog)
    assert len(events) <= MAX_EVENTS + 1
    assert [each for each in events if isinstance(each, PartialOutput)] == [PartialOutput({"number": 9_999})]
    assert events[0] == ToolStarted("a", "count", {})
    assert events[-1] == ToolFinished("a", "count")
    for call in "ab":
        assert [e.progress for e in events if isinstance(e, ToolProgress) and e.call == call][-1] == 9_999
