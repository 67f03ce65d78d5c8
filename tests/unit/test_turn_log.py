"""The log records about turns name the model, the session and the turn, and hold nobody's text."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from agentsession import AgentSessionError, Halt, agent, info, testing, tool
from agentsession.provider import ProviderCallError, Reply, Request
from tests.support.models import chat_model, let_the_lease_run_out
from tests.support.slow_replies import AsyncHalves, half_of
from tests.support.tool_sessions import WAYS, Way, said, tooled

SECRET = "tangerine"


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agentsession")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The level of each record and what it says of the end of a turn."""
    records = [record for record in caplog.records if "the turn ended" in record.msg]
    return [(record.levelname, record.getMessage().partition("the turn ended: ")[2]) for record in records]


def check_names(caplog: pytest.LogCaptureFixture, session: Any) -> None:
    (record,) = [record for record in caplog.records if "the turn ended" in record.msg]
    place, turn = info.qualified_name(type(session)), session.get_context().turn.id
    assert (record.model, record.session, record.turn) == (place, session.id, turn)  # type: ignore[attr-defined]
    assert record.getMessage().startswith(f"[{place} {session.id} turn {turn}] ")
    assert SECRET not in caplog.text


@pytest.mark.backends("sqlite")
@pytest.mark.parametrize("way", WAYS)
class TestEachWay:
    def test_a_completed_turn_is_an_info_record(
        self, way: Way, database: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        Chat = chat_model(database)
        session, _, _ = said(way, Chat, [f"The answer is {SECRET}"], "start_session", SECRET)
        ((level, text),) = lines(caplog)
        assert level == "INFO"
        assert text.startswith("completed (")
        assert text.endswith(" and 1 model calls")
        check_names(caplog, session)

    def test_a_failed_turn_is_a_warning_that_names_the_type_of_its_error(
        self, way: Way, database: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        Chat = chat_model(database)
        error, _, _ = said(way, Chat, [ProviderCallError(f"no {SECRET}")], "start_session", SECRET)
        ((level, text),) = lines(caplog)
        assert level == "WARNING"
        assert text.startswith("failed: ProviderFailed, after ")
        check_names(caplog, error.session)

    def test_a_turn_that_waits_for_an_approval_is_an_info_record(
        self, way: Way, database: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def pay(euros: int) -> str:
            """Pay."""
            return "paid"

        Chat = tooled(database, tool(needs_approval=True)(pay))
        session, _, _ = said(way, Chat, [testing.tool_call("pay", euros=3)])
        ((level, text),) = lines(caplog)
        assert (level, text.partition(" (")[0]) == ("INFO", "awaiting_approval")
        check_names(caplog, session)


@pytest.mark.backends("sqlite")
@pytest.mark.parametrize("on_a_loop", [False, True])
def test_a_stream_that_is_left_is_an_info_record(
    on_a_loop: bool, database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    Chat = chat_model(database, provider=AsyncHalves())

    async def leave() -> Any:
        async with Chat.astream_start_session("slow") as stream:
            await anext(stream)
            return stream.session

    if on_a_loop:
        session = asyncio.run(leave())
    else:
        with Chat.stream_start_session("slow") as stream:
            half_of(stream)
            session = stream.session
    ((level, text),) = lines(caplog)
    assert (level, text.partition(",")[0]) == ("INFO", "interrupted by StreamClosed")
    check_names(caplog, session)


class TakenOver:
    """Another process takes the turn over, or cancels it, while the model answers."""

    def __init__(self, meanwhile: str) -> None:
        self.meanwhile = meanwhile
        self.Chat: Any = None

    def ask(self, request: Request) -> Reply:
        session = self.Chat.get()
        if self.meanwhile == "cancel":
            session.cancel_session()
        elif self.meanwhile == "delete":
            self.Chat.delete().execute()
        elif len(request.prompt) < 4:
            self.meanwhile = ""
            let_the_lease_run_out(self.Chat, session.id)
            session.resume_session()
        return Reply("late")


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("document")
@pytest.mark.parametrize(
    ("meanwhile", "level", "text"),
    [
        ("cancel", "INFO", "cancelled by another caller"),
        ("delete", "WARNING", "not stored, because the session was deleted"),
        ("take over", "WARNING", "lost: another process took the turn over"),
    ],
)
def test_a_turn_that_another_has_ended_says_so(
    meanwhile: str, level: str, text: str, database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    provider = TakenOver(meanwhile)
    provider.Chat = Chat = chat_model(database, provider=provider)
    with pytest.raises(AgentSessionError):
        Chat.start_session("Hello")
    last = lines(caplog)[-1]
    assert last[0] == level
    assert last[1].startswith(text)


@pytest.mark.backends("sqlite")
def test_what_runs_no_turn_logs_nothing(database: Any, caplog: pytest.LogCaptureFixture) -> None:
    Chat = chat_model(database)
    session = Chat.start_session("Later", run=False)
    session.cancel_session()
    Chat.get_context(session)
    assert caplog.records == []


@pytest.mark.backends("sqlite")
def test_a_repeated_key_is_no_second_turn(database: Any, caplog: pytest.LogCaptureFixture) -> None:
    Chat = chat_model(database)
    for _ in range(2):
        Chat.start_session("Hello", idempotency_key="k")
    assert len(lines(caplog)) == 1


def test_a_call_is_logged_under_the_place_of_its_class(caplog: pytest.LogCaptureFixture) -> None:
    @agent(client="echo:", instruction="Sort.")
    class Sorter:
        pass

    with testing.script(Sorter, [ProviderCallError(SECRET)]), pytest.raises(AgentSessionError):
        Sorter.call(SECRET)  # type: ignore[attr-defined]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"[{info.qualified_name(Sorter)} call turn " in record.getMessage()
    assert record.session is None  # type: ignore[attr-defined]
    assert SECRET not in caplog.text


def test_a_halted_turn_is_completed(database: Any, caplog: pytest.LogCaptureFixture) -> None:
    def stop() -> Halt:
        """Stop."""
        return Halt("done")

    session, _, _ = said(WAYS[0], tooled(database, stop), [testing.tool_call("stop")])
    assert lines(caplog)[0][1].startswith("completed (")
    check_names(caplog, session)


@pytest.mark.parametrize("key", ["a\nINFO:root:forged", "a\r", "a\x1b[31m", "a\u2028b", "a\x85b"])
def test_a_key_that_a_client_chose_makes_no_line_of_its_own(
    database: Any, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    session = chat_model(database).start_session("One")
    caplog.clear()
    session.continue_session("Two", idempotency_key=key)
    (record,) = caplog.records
    assert record.turn == key  # type: ignore[attr-defined]
    assert record.getMessage().isprintable()
    assert ascii(key)[1:-1] in record.getMessage()
