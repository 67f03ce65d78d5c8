"""`cancel_session` stores the open turn as interrupted at once, and its holder stores nothing more."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import pytest

from agentsession import (
    LeaseLost,
    NoResult,
    ProviderCallError,
    ProviderFailed,
    SessionNotFound,
    TurnCancelled,
    _clock,
    testing,
)
from tests.support import servers
from tests.support.async_databases import run
from tests.support.blocked_turn import by_the_clock
from tests.support.lease_watch import SHORT, eventually
from tests.support.models import chat_model, stored, texts
from tests.support.slow_replies import SAID, WHOLE, AsyncHalves, is_completed, is_interrupted, replies

pytestmark = pytest.mark.matrix

WORDS = "tell me all"
CANCELLED = "TurnCancelled"


def called(Chat: Any, key: Any) -> None:
    Chat.continue_session(key, WORDS)


def awaited(Chat: Any, key: Any) -> None:
    asyncio.run(Chat.acontinue_session(key, WORDS))


def streamed(Chat: Any, key: Any) -> None:
    for _ in Chat.stream_continue_session(key, WORDS):
        pass


def streamed_on_a_loop(Chat: Any, key: Any) -> None:
    async def follow() -> None:
        async for _ in Chat.astream_continue_session(key, WORDS):
            pass

    asyncio.run(follow())


CALLS = [called, awaited, streamed, streamed_on_a_loop]
STREAMS = [streamed, streamed_on_a_loop]
SOON = 20
"""Seconds within which a stream learns that it was cancelled, before it times out for its silence."""


@contextmanager
def turn_in_a_thread(
    Chat: Any, call: Callable[..., None], model: AsyncHalves, at: _clock.FakeClock
) -> Iterator[Any]:
    """Yield a session and the turn that another thread runs on it.

    Half of the reply has arrived. In a stream it is stored."""
    session = Chat.start_session("fast, before")
    with ThreadPoolExecutor(1) as pool:
        turn: Future[None] = pool.submit(by_the_clock, at, call, Chat, session.id)
        try:
            assert model.said.wait(60)
            if call in STREAMS:
                eventually(lambda: Chat.get_context(session.id).turn.partial == SAID)
            yield session, turn
        finally:
            model.goes_on.set()


@pytest.mark.parametrize("call", CALLS)
def test_cancelling_a_running_turn_stores_it_as_interrupted_and_stops_its_holder(
    database: Any, at: _clock.FakeClock, call: Any
) -> None:
    model = AsyncHalves()
    Chat = chat_model(database, provider=model, session=SHORT)
    with turn_in_a_thread(Chat, call, model, at) as (session, turn):
        record = Chat.cancel_session(session.id)
        assert (record.last_turn.status, record.status) == ("interrupted", "interrupted")
        assert is_interrupted(Chat.get_context(session), WORDS, SAID if call in STREAMS else "", CANCELLED)
        before = stored(session)
        if call not in STREAMS:
            model.goes_on.set()
        with pytest.raises(TurnCancelled, match="was cancelled while it ran") as error_info:
            turn.result(SOON)
        assert not model.goes_on.is_set() or call not in STREAMS, "a stream does not wait for its model"
        assert (error_info.value.result and error_info.value.result.text) == (
            None if call in STREAMS else WHOLE
        )
        assert error_info.value.session.id == session.id
        assert error_info.value.session.last_turn.status != "completed"
        assert stored(session) == before
    eventually(lambda: model.closed == model.streams)


@pytest.mark.parametrize("call", CALLS)
def test_a_cancelled_turn_can_be_resumed_and_its_late_holder_writes_nothing(
    database: Any, at: _clock.FakeClock, call: Any
) -> None:
    model = AsyncHalves()
    Chat = chat_model(database, provider=model, session=SHORT)
    with turn_in_a_thread(Chat, call, model, at) as (session, turn):
        Chat.cancel_session(session.id)
        with testing.script(Chat, ["another reply"]) as prompts:
            again = Chat.resume_session(session.id)
        before = stored(session)
        model.goes_on.set()
        with pytest.raises((LeaseLost, TurnCancelled) if call in STREAMS else LeaseLost):
            turn.result(SOON)
    assert [message.content for message in prompts[0]][1:] == ["fast, before", WHOLE, WORDS]
    context = Chat.get_context(session)
    assert replies(context, WORDS) == [("another reply", None)]
    assert context.messages[2].metadata.get("partials") == ([SAID] if call in STREAMS else None)
    assert again.last_result.text == "another reply"
    assert stored(session) == before


def test_the_partial_reply_of_a_cancelled_turn_is_in_the_next_prompt(
    database: Any, at: _clock.FakeClock
) -> None:
    model = AsyncHalves()
    Chat = chat_model(database, provider=model, session=SHORT)
    with turn_in_a_thread(Chat, streamed, model, at) as (session, turn):
        Chat.cancel_session(session.id)
        with testing.script(Chat, ["and then?"]) as prompts:
            Chat.continue_session(session.id, "go on")
        with pytest.raises(TurnCancelled):
            turn.result(SOON)
    assert [message.content for message in prompts[0]][3:] == [WORDS, SAID, "go on"]
    assert texts(Chat, session)[2:] == [WORDS, SAID, "go on", "and then?"]


def test_leaving_a_cancelled_stream_stores_and_raises_nothing(
    database: Any,
) -> None:
    Chat = chat_model(database, provider=AsyncHalves())
    session = Chat.start_session("fast, before")
    with Chat.stream_continue_session(session.id, WORDS) as stream:
        next(stream)
        Chat.cancel_session(session.id)
        before = stored(session)
    assert stored(session) == before
    assert is_interrupted(Chat.get_context(session), WORDS, "", CANCELLED)


HOLDING_PROCESS = """
import sys
from agentsession import AgentSessionError
from tests.support.slow_replies import AsyncHalves
from tests.support.models import chat_model, open_database

url, key, way = sys.argv[1:]
Chat = chat_model(open_database(url), provider=AsyncHalves(), session={"lease": 1.2}, create=False)
try:
    __import__("tests.faults.test_cancel_session", fromlist=[way]).__dict__[way](Chat, key)
except AgentSessionError as error:
    print(type(error).__name__)
"""


@contextmanager
def turn_in_another_process(database: Any, Chat: Any, call: Any) -> Iterator[Any]:
    """Yield a session and the process that runs a turn on it. Half of the reply is stored."""
    session = Chat.start_session("fast, before")
    command = [sys.executable, "-c", HOLDING_PROCESS, database.url, str(session.id), call.__name__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            eventually(lambda: Chat.get_context(session.id).turn.partial == SAID)
            yield session, process
        finally:
            process.kill()


def test_cancelling_a_turn_of_another_process_raises_turn_cancelled_there(database: Any) -> None:
    Chat = chat_model(database, provider=AsyncHalves())
    with turn_in_another_process(database, Chat, streamed_on_a_loop) as (session, process):
        assert Chat.cancel_session(session.id).last_turn.status == "interrupted"
        assert is_interrupted(Chat.get_context(session), WORDS, SAID, CANCELLED)
        before = stored(session)
        assert process.communicate(timeout=SOON)[0].split() == [CANCELLED]
    assert stored(session) == before


@pytest.mark.backends("sqlite", "postgres")
@pytest.mark.layouts("document")
def test_a_turn_of_a_dead_process_can_be_cancelled_before_its_lease_expires(database: Any) -> None:
    Chat = chat_model(database, provider=AsyncHalves(goes_on=True))
    with turn_in_another_process(database, Chat, streamed) as (session, process):
        process.kill()
        process.wait()
    asyncio.run(Chat.acancel_session(session.id))
    assert is_interrupted(Chat.get_context(session), WORDS, SAID, CANCELLED)
    assert Chat.resume_session(session.id).last_turn.status == "completed"
    context = Chat.get_context(session)
    assert is_completed(context, WORDS)
    assert context.messages[2].metadata["partials"] == [SAID]


def test_a_pending_turn_can_be_cancelled_and_then_resumed(database: Any) -> None:
    Chat = chat_model(database, provider=AsyncHalves(goes_on=True))
    for session in (Chat.start_session(WORDS, run=False), Chat.start_session("fast, before")):
        if session.last_turn.status == "completed":
            session.continue_session(WORDS, run=False)
        assert session.cancel_session().last_turn.status == session.status == "interrupted"
        assert is_interrupted(Chat.get_context(session), WORDS, "", CANCELLED)
        with testing.script(Chat, ["hello"]) as prompts:
            session.continue_session("fast")
        assert WORDS not in [message.content for message in prompts[0]]
        session.continue_session(f"{WORDS} again", run=False)
        session.cancel_session()
        session.resume_session()
        assert is_completed(Chat.get_context(session), f"{WORDS} again")


@pytest.mark.parametrize(
    "ending", ["hi", ProviderCallError("down"), KeyboardInterrupt(), "cancelled"], ids=str
)
def test_cancelling_an_ended_turn_changes_nothing(Chat: Any, ending: Any) -> None:
    session = Chat.start_session("Hello", run=False)
    if ending == "cancelled":
        session.cancel_session()
    else:
        with testing.script(Chat, [ending]):
            with suppress(ProviderFailed, KeyboardInterrupt):
                session.resume_session()
    before = Chat.select().dicts().get()
    again = Chat.cancel_session(session.id)
    assert Chat.select().dicts().get() == before
    assert again.last_turn.status == before["status"] != "running"
    asyncio.run(Chat.acancel_session(session.id))
    assert Chat.select().dicts().get() == before


def test_cancelling_a_session_without_a_turn_raises_an_error(Chat: Any) -> None:
    with pytest.raises(SessionNotFound):
        Chat.cancel_session(uuid4())
    row = Chat.create()
    with pytest.raises(NoResult, match="the session has no turn yet"):
        Chat.cancel_session(row.id)
    with pytest.raises(NoResult):
        asyncio.run(Chat.acancel_session(row.id))
    assert Chat.get_by_id(row.id).context is None


def test_a_turn_of_another_owner_cannot_be_cancelled(database: Any) -> None:
    Chat = chat_model(database, session={"owner_attribute": "title"})
    session = Chat.start_session("Hello", actor="me", run=False)
    before = stored(session)
    with pytest.raises(SessionNotFound):
        Chat.cancel_session(session.id, actor="you")
    with pytest.raises(SessionNotFound):
        asyncio.run(Chat.acancel_session(session.id, actor="you"))
    assert stored(session) == before
    assert Chat.cancel_session(session.id, actor="me").last_turn.status == "interrupted"


@pytest.mark.parametrize("state", ["pending", "running"])
def test_cancelling_in_a_transaction_takes_effect_on_commit(database: Any, state: str) -> None:
    Chat = chat_model(database)
    session = Chat.start_session("Hello", run=False)
    if state == "running":
        with testing.crash_after(2):
            session.resume_session()
    before = stored(session)
    with database.connection_context():
        with pytest.raises(ZeroDivisionError), database.atomic():
            assert Chat.cancel_session(session.id).last_turn.status == "interrupted"
            raise ZeroDivisionError
        assert stored(session) == before
        with database.atomic():
            Chat.cancel_session(session.id)
    assert is_interrupted(Chat.get_context(session), "Hello", "", CANCELLED)


def test_a_cancelled_stream_on_an_asynchronous_database_raises_turn_cancelled(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        model = AsyncHalves()
        Chat = await db.run(lambda: chat_model(db, provider=model, session=SHORT))
        session = await Chat.astart_session("fast, before")
        with testing.clock(), pytest.raises(TurnCancelled):
            async with Chat.astream_continue_session(session.id, WORDS) as stream:
                async for _ in stream:
                    if model.said.is_set() and stream.session.status == "running":
                        cancelled = await asyncio.create_task(Chat.acancel_session(session.id))
        assert cancelled.last_turn.status == "interrupted"
        context = await Chat.aget_context(session.id)
        text = "".join(text for text, _ in replies(context, WORDS))
        assert SAID.startswith(text)
        assert is_interrupted(context, WORDS, text, CANCELLED)
        model.goes_on.set()
        assert (await Chat.aresume_session(session.id)).last_result.text == WHOLE

    run(database_url, scenario, pool_size=2)


ROUNDS = 8


def test_concurrent_cancellations_and_the_end_of_the_turn_agree_on_one_outcome(database_url: str) -> None:
    """Each caller sees the outcome that is stored."""
    Chat = chat_model(servers.open_database(database_url), provider=AsyncHalves())
    session = Chat.start_session("fast, before")
    outcomes = set()
    for number in range(ROUNDS):
        start, words = threading.Barrier(4), f"fast {number}"
        with ThreadPoolExecutor(4) as pool:
            turn = pool.submit(act_at_once, start, Chat.continue_session, session.id, words)
            others = [pool.submit(act_at_once, start, Chat.cancel_session, session.id) for _ in range(3)]
            seen_turns = [other.result().last_turn for other in others]
            error = turn.exception()
        context = Chat.get_context(session)
        status = context.turn.status
        assert (
            is_completed(context, words) if error is None else is_interrupted(context, words, "", CANCELLED)
        )
        assert isinstance(error, TurnCancelled | None)
        assert {turn.status for turn in seen_turns if turn.id == context.turn.id} <= {status}
        outcomes.add(status)
        if status == "interrupted":
            Chat.resume_session(session.id)
            assert is_completed(Chat.get_context(session), words)
    assert outcomes
    stored_texts = [message.text for message in Chat.get_context(session).messages]
    assert stored_texts[2:] == [text for number in range(ROUNDS) for text in (f"fast {number}", WHOLE)]


def act_at_once(start: threading.Barrier, act: Callable[..., Any], *arguments: Any) -> Any:
    start.wait()
    return act(*arguments)
