"""Every effect on Peewee's asynchronous databases: the same rows, guards and errors as elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import peewee as pw
import pytest
from playhouse import pwasyncio

from agentsession import (
    ContextUnreadable,
    SessionActions,
    SessionNotFound,
    _clock,
    agent,
    agent_session,
    testing,
)
from agentsession._turn.effects import WriteUnconfirmed
from tests.support.async_databases import ODD, change, new, opened, read_again, run, stored_session
from tests.support.layouts import layout_of, with_messages
from tests.support.models import Answer, chat_model, put_raw, raw_text
from tests.support.owned_models import KINDS, named

pytestmark = pytest.mark.matrix


def test_the_stored_result_of_each_effect_is_read_back_equal(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        session = await stored_session(db)
        args = {"company": ODD, "n": 1}
        seen = (await db.run(session.load)).seen
        second = change(2, metadata={"1:0": {"x": ODD}}, instruction_args=args)
        third, fourth = change(3), change(4, status="completed")
        assert await db.run(session.claim, seen, second)
        assert await db.run(session.save, third, "mine", 30)
        assert await db.run(session.extend, "mine", 30.5)
        assert await db.run(session.finish, fourth, "mine")
        again = opened(session.model, session.key)
        loaded = await db.run(again.load)
        assert (loaded.seen, loaded.context.turn) == (5, fourth.turn)
        first, *rest = loaded.context.messages
        assert (first.content, first.metadata) == (ODD, {"x": ODD})
        assert rest == [*second.append, *third.append, *fourth.append]
        assert loaded.context.instruction_args == args
        assert loaded.size > 200
        assert again.record.status == session.record.status == "completed"
        assert again.record.updated == session.record.updated

    run(database_url, scenario)


def test_a_lease_counts_from_the_databases_clock(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        session = await stored_session(db)
        assert await db.run(session.save, change(2), "mine", 1000)
        loaded = await db.run(session.load)
        assert loaded.context.turn.until - loaded.now == pytest.approx(1000, abs=5)
        assert await db.run(session.extend, "mine", 9000.5)
        loaded = await db.run(session.load)
        assert loaded.context.turn.until - loaded.now == pytest.approx(9000.5, abs=5)

    run(database_url, scenario)


def test_a_stopped_clock_replaces_the_databases_clock(database_url: str, at: _clock.FakeClock) -> None:
    async def scenario(db: Any) -> None:
        session = await stored_session(db)
        at.advance(100)
        assert await db.run(session.save, change(2), "mine", 5)
        loaded = await db.run(session.load)
        assert loaded.now == pytest.approx(at.seconds, abs=0.01)
        assert loaded.context.turn.until == pytest.approx(at.seconds + 5, abs=0.01)
        assert await db.run(session.extend, "mine", 7.5)
        loaded = await db.run(session.load)
        assert loaded.context.turn.until == pytest.approx(at.seconds + 7.5, abs=0.01)

    run(database_url, scenario)


def test_a_non_holder_writes_nothing(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        session = await stored_session(db)
        before = (await db.run(session.load)).context
        assert not await db.run(session.claim, 7, change(2))
        assert not await db.run(session.save, change(2), "theirs", 30)
        assert not await db.run(session.extend, "theirs", 30)
        assert not await db.run(session.finish, change(2), "theirs")
        assert (await db.run(session.load)).context == before

    run(database_url, scenario)


@pytest.mark.parametrize("older", [None, "{}", '{"messages":[],"metadata":{"é":1},"input":{"a":"b"}}'])
def test_a_map_of_an_earlier_version_is_upgraded_once(database_url: str, older: str | None) -> None:
    async def scenario(db: Any) -> None:
        Chat = await db.run(chat_model, db)
        session = opened(Chat, (await db.run(Chat.create)).id)
        await db.run(put_raw, Chat, older)
        seen = (await db.run(session.load)).seen
        assert (seen is None) == (older is None)
        assert await db.run(session.claim, seen, change(2))
        assert not await db.run(session.claim, seen, change(3))
        loaded = await db.run(session.load)
        assert loaded.context.messages == change(2).append
        assert loaded.context.metadata == ({"é": 1} if older and "é" in older else {})

    run(database_url, scenario)


def test_an_unreadable_context_is_refused_and_left_unchanged(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        session = await stored_session(db)
        await db.run(put_raw, session.model, '{"v":99}')
        with pytest.raises(ContextUnreadable):
            await db.run(session.load)
        assert (await db.run(raw_text, session.model)).replace(" ", "") == '{"v":99}'

    run(database_url, scenario)


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_only_its_owner_sees_a_session(database_url: str, kind: Callable[[Any], Any]) -> None:
    async def scenario(db: Any) -> None:
        case = await db.run(kind, db)
        mine = await stored_session(db, case.Chat, actor=case.ann)
        for actor in (case.ann, *case.same):
            again = opened(case.Chat, mine.key, actor)
            assert (await db.run(again.load)).seen == 1
        assert await db.run(again.claim, 1, change(2))
        theirs = opened(case.Chat, mine.key, case.bob)
        with pytest.raises(SessionNotFound):
            await db.run(theirs.load)
        assert not await db.run(theirs.claim, 2, change(3))

    run(database_url, scenario)


def keyed_by(db: Any, field: Any) -> Any:
    @agent_session(**layout_of(db))
    @agent(client="echo:", instruction="You help.")
    class Keyed(SessionActions, pw.Model):
        id = field
        context = pw.JSONField(null=True)

        class Meta:
            table_name = "chat"
            database = db

    return with_messages(Keyed)


KEYS: dict[str, tuple[Callable[[], Any], Any, list[Any]]] = {
    "uuid": (lambda: pw.UUIDField(primary_key=True), UUID(int=10**30), [uuid4(), str(uuid4()), "x", 7]),
    "text": (lambda: pw.CharField(primary_key=True), ODD, ["other", 7]),
    "auto": (pw.AutoField, None, [2**31, 2**63, -(2**70), "x", 0]),
    "bigauto": (pw.BigAutoField, None, [2**63, 10**30]),
    "int": (lambda: pw.IntegerField(primary_key=True), 2**31 - 1, [2**31, "1abc"]),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_session_is_found_by_its_key_alone(database_url: str, kind: str) -> None:
    make, given, others = KEYS[kind]

    async def scenario(db: Any) -> None:
        Chat = await db.run(keyed_by, db, make())
        session = await stored_session(db, Chat, attributes={} if given is None else {"id": given})
        for key in (session.key, str(session.key)):
            found = opened(Chat, key)
            assert (await db.run(found.load)).context.messages == change().append
            assert found.record.id == session.key
        assert await db.run(found.claim, 1, change(2))
        for key in others:
            with pytest.raises(SessionNotFound):
                await db.run(opened(Chat, key).load)

    run(database_url, scenario)


def test_an_existing_row_is_not_stored_again(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        session = await stored_session(db, key="k")
        assert not await db.run(new(session.model, key="k").insert, change(2))
        other = new(session.model, {"id": session.key})
        with pytest.raises(pw.IntegrityError):
            await db.run(other.insert, change(2))
        assert (await db.run(session.load)).context.messages == change().append

    run(database_url, scenario)


@asynccontextmanager
async def by_hand(db: Any) -> AsyncIterator[None]:
    """A transaction that Peewee knows nothing of."""
    await db.aexecute_sql("begin")
    yield
    await db.aexecute_sql("commit")


@pytest.mark.parametrize("how", ["atomic", "by hand"])
def test_a_used_key_keeps_the_callers_transaction(database_url: str, how: str) -> None:
    async def scenario(db: Any) -> None:
        session = await stored_session(db, key="k")
        async with db, by_hand(db) if how == "by hand" else db.atomic():
            assert await db.run(new(session.model, key="other").insert, change())
            assert not await db.run(new(session.model, key="k").insert, change(2))
            assert await db.run((await read_again(db, session)).claim, 1, change(2))
        assert (await db.run(session.load)).seen == 2
        assert await db.run(session.model.select().count) == 2

    run(database_url, scenario)


def test_complete_turns_run_in_the_bridge(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        Chat = await db.run(chat_model, db, output_schema=Answer)
        with testing.script(Chat, [Answer(content="one"), "not JSON", Answer(content="two")]):
            session = await db.run(Chat.start_session, "Hello")
            await db.run(session.continue_session, "More", run=False)
            await db.run(Chat.resume_session, session.id)
        context = await db.run(Chat.get_context, session.id)
        assert [message.role for message in context.messages] == ["user", "assistant"] * 2
        assert context.turn.status == "completed"

    run(database_url, scenario)


@pytest.mark.parametrize("stored", [True, False])
def test_an_unconfirmed_write_is_found_if_it_was_stored(
    database_url: str, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """The connection breaks off, as the drivers tell it, after the statement or before it; in rows after the
    last of the transaction or before the first."""

    async def scenario(db: Any) -> None:
        session = await stored_session(db)
        seen = (await db.run(session.load)).seen
        kind, name = type(await db.run(db.connection)), "_execute"
        await db.run(db.close)
        at_the_end = stored and db.layout == "rows"
        if at_the_end and isinstance(db, pw.PostgresqlDatabase):
            kind, name = pwasyncio.AsyncPgAtomic, "acommit"
        perform = getattr(kind, name)

        async def broken_off(self: Any, sql: Any, *given: Any) -> Any:
            if stored:
                done = await perform(self, sql, *given)
                if at_the_end and sql not in ("COMMIT", False):
                    return done
            raise ConnectionResetError(104, "Connection reset by peer")

        with monkeypatch.context() as patched:
            patched.setattr(kind, name, broken_off)
            with pytest.raises(WriteUnconfirmed) as lost:
                await db.run(session.claim, seen, change(2))
        assert isinstance(lost.value.__cause__, pw.OperationalError)
        assert (await db.run(session.load, change(2))).stored == stored

    run(database_url, scenario)
