"""Connections of Peewee's asynchronous databases: none is leaked, and the caller's stay the caller's."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import peewee as pw
import pytest

from agentsession import DslError, InputInvalid, SessionNotFound, UnsafeDatabase
from agentsession._store.declared import Declared, backend_of, refuse_async
from tests.support import servers
from tests.support.async_databases import change, new, opened, read_again, run, stored_session
from tests.support.models import chat_model

pytestmark = pytest.mark.matrix


def test_effects_of_many_tasks_share_one_connection(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        session = await stored_session(db)

        async def turn(number: int) -> bool:
            mine = opened(session.model, session.key)
            seen = (await db.run(mine.load)).seen
            assert not backend_of(session.model).is_connected
            return bool(await db.run(mine.claim, seen, change(number)))

        won = await asyncio.gather(*(turn(number) for number in range(20)))
        assert (await db.run(session.load)).seen == 1 + sum(won) > 1

    run(database_url, scenario)


def test_an_error_returns_the_connection(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        session = await stored_session(db)
        with pytest.raises(SessionNotFound):
            await db.run(opened(session.model, uuid4()).load)
        with pytest.raises(pw.IntegrityError):
            await db.run(new(session.model, {"id": session.key}).insert, change(2))
        assert not backend_of(session.model).is_connected
        assert await asyncio.create_task(db.run(session.claim, 1, change(2)))

    run(database_url, scenario)


def test_the_callers_connection_stays_open_and_is_used(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        session = await stored_session(db)
        async with db:
            assert backend_of(session.model).is_connected
            mine = await db.run(db.connection)
            session = opened(session.model, session.key)
            assert await db.run(session.claim, (await db.run(session.load)).seen, change(2))
            assert await db.run(db.connection) is mine
            assert not backend_of(session.model).is_in_transaction
        assert not backend_of(session.model).is_connected

    run(database_url, scenario)


def test_the_callers_transaction_decides_what_is_stored(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        session = await stored_session(db)
        Chat = session.model

        async def elsewhere() -> bool:
            return backend_of(Chat).is_in_transaction or backend_of(Chat).is_connected

        async with db:
            with pytest.raises(ZeroDivisionError):
                async with db.atomic():
                    inside = opened(Chat, session.key)
                    assert await db.run(
                        inside.claim, (await db.run(inside.load, locking=True)).seen, change(2)
                    )
                    assert await db.run(new(Chat, key="k").insert, change())
                    assert backend_of(Chat).is_in_transaction
                    assert not await asyncio.create_task(elsewhere())
                    raise ZeroDivisionError
            assert not backend_of(Chat).is_in_transaction
        assert (await db.run(session.load)).seen == 1
        assert await db.run(Chat.select().count) == 1

    run(database_url, scenario)


def test_a_transaction_begun_by_hand_is_noticed(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        session = await stored_session(db)
        async with db:
            await db.aexecute_sql("begin")
            assert backend_of(session.model).is_in_transaction
            assert await db.run((await read_again(db, session)).claim, 1, change(2))
            await db.aexecute_sql("rollback")
            assert not backend_of(session.model).is_in_transaction
        assert (await db.run(session.load)).seen == 1

    run(database_url, scenario)


def test_an_in_memory_database_is_one_for_all_tasks() -> None:
    async def scenario(db: Any) -> None:
        db.init(":memory:")
        session = await stored_session(db)
        assert not backend_of(session.model).has_one_connection, "tasks take turns"
        won = await asyncio.gather(*(db.run(session.claim, 1, change(number)) for number in range(5)))
        assert sum(won) == 1
        assert (await db.run(session.load)).seen == 2

    run("sqlite:///none", scenario)


def test_an_unsafe_file_causes_a_warning(tmp_path: Path) -> None:
    async def scenario(db: Any) -> None:
        db.init(db.database, pragmas={})
        with pytest.warns(UnsafeDatabase, match="journal_mode is delete"):
            session = await stored_session(db)
        assert (await db.run(session.load)).seen == 1, "every other warning is an error"

    run(f"sqlite:///{tmp_path / 'plain.db'}", scenario)


@pytest.mark.backends("mariadb")
def test_mariadb_under_mysqls_flag_is_refused(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        db.mariadb = False
        session = opened(chat_model(db, create=False), uuid4())
        for _ in range(2):
            with pytest.raises(DslError, match="the server is MariaDB"):
                await db.run(session.load)

    run(database_url, scenario)


def test_a_plain_call_is_refused_outside_the_bridge(database_url: str) -> None:
    db = servers.open_async_database(database_url)
    Chat = chat_model(db, create=False)

    def refused() -> None:
        with pytest.raises(
            InputInvalid, match="start_session was called on an asynchronous database"
        ) as error:
            refuse_async(Declared.of(Chat), "start_session")
        assert error.value.fix == "await its async twin, astart_session(…), or await db.run(start_session, …)"

    async def scenario(_: Any) -> None:
        refused()
        await db.run(refuse_async, Declared.of(Chat), "start_session")

    assert backend_of(Chat).is_async
    assert not backend_of(Chat).is_connected
    assert not backend_of(Chat).is_in_transaction
    refused()
    run(database_url, scenario)


def test_a_plain_database_is_used_without_the_bridge() -> None:
    program = (
        "import sys, types, peewee\n"
        "from agentsession._store.declared import backend_of\n"
        "from agentsession._store.declared import refuse_async\n"
        "class Chat(peewee.Model):\n class Meta: database = peewee.SqliteDatabase(':memory:')\n"
        "backend = backend_of(Chat); assert not backend.is_async\n"
        "refuse_async(types.SimpleNamespace(backend=backend), 'start_session')\n"
        "assert not {'greenlet', 'playhouse.pwasyncio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
