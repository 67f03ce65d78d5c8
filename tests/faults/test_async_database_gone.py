"""Asynchronous databases that become unreachable: reads are repeated, writes raise `WriteUnconfirmed`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import peewee as pw
import pytest
from playhouse.pwasyncio import await_

from agentsession._store.declared import backend_of
from agentsession._turn.effects import WriteUnconfirmed
from tests.support import servers
from tests.support.async_databases import change, opened, read_again, run, stored_session
from tests.support.models import chat_model
from tests.support.tcp_proxy import Server

pytestmark = pytest.mark.matrix

on_servers = pytest.mark.backends("postgres", "mariadb")


async def wait_for_a_blocked_statement(server: Server) -> None:
    """Wait until a statement on the database waits for a lock."""
    async with asyncio.timeout(20):
        while not server.connections(waiting=True):
            await asyncio.sleep(0.15)


@on_servers
@pytest.mark.parametrize("end", ["cancelled", "killed"])
def test_a_write_stopped_while_it_waits_for_a_lock_releases_its_connection(
    database_url: str, end: str
) -> None:
    """The write may be stored or not: MariaDB finishes the statement of a client that has disconnected."""

    async def scenario(db: Any) -> None:
        session, server = await stored_session(db), Server(database_url)
        other = servers.open_async_database(database_url)
        async with other, other.atomic():
            await other.run(opened(chat_model(other, create=False), session.key).load, locking=True)
            write = asyncio.create_task(db.run(session.claim, 1, change(2)))
            await wait_for_a_blocked_statement(server)
            if end == "cancelled":
                write.cancel()
            else:
                server.kill(waiting=True)
            with pytest.raises((asyncio.CancelledError, WriteUnconfirmed)):
                await write
            assert not backend_of(session.model).is_connected
        await other.close_pool()
        assert (await db.run(opened(session.model, session.key).load)).seen in (1, 2)

    run(database_url, scenario)


async def kill_connections(server: Server, turns_of_the_loop: int) -> None:
    """End the connections, and run the loop this often: it learns of the end in several steps."""
    server.kill()
    for _ in range(turns_of_the_loop):
        await asyncio.sleep(0)


@on_servers
@pytest.mark.parametrize("turns_of_the_loop", [0, 1, 50])
@pytest.mark.parametrize("effect", ["load", "write"])
@pytest.mark.parametrize("holds", [False, True])
def test_a_connection_closed_by_the_server_is_replaced(
    database_url: str, holds: bool, effect: str, turns_of_the_loop: int
) -> None:
    """A read is repeated. A write raises `WriteUnconfirmed` and the next one works."""

    async def scenario(db: Any) -> None:
        session, server = await stored_session(db), Server(database_url)
        if holds:
            await db.run(db.connect)
        session = await read_again(db, session)
        await kill_connections(server, turns_of_the_loop)
        if effect == "write":
            try:
                assert await db.run(session.claim, 1, change(2))
            except WriteUnconfirmed:
                assert not (await db.run(session.load, change(2))).stored
                assert await db.run(session.claim, 1, change(2))
        assert (await db.run(session.load)).seen == (2 if effect == "write" else 1)
        assert backend_of(session.model).is_connected == holds

    run(database_url, scenario)


@on_servers
@pytest.mark.parametrize("turns_of_the_loop", [0, 1, 50])
def test_a_transaction_does_not_continue_on_another_connection(
    database_url: str, turns_of_the_loop: int
) -> None:
    """Peewee would silently open another connection and commit the write alone on it."""

    async def scenario(db: Any) -> None:
        session, server = await stored_session(db), Server(database_url)
        async with db:
            with pytest.raises((pw.InterfaceError, pw.OperationalError)):
                async with db.atomic():
                    inside = await read_again(db, session)
                    assert await db.run(inside.claim, 1, change(2))
                    await kill_connections(server, turns_of_the_loop)
                    for _ in range(2):
                        with pytest.raises((pw.InterfaceError, pw.OperationalError)):
                            await db.run(inside.save, change(3), "mine", 30)
                    await db.run(inside.load)
        assert (await db.run(session.load)).seen == 1

    run(database_url, scenario)


@on_servers
@pytest.mark.layouts("rows")
def test_a_write_whose_connection_closes_after_begin_is_not_partly_stored(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(db: Any) -> None:
        session, server = await stored_session(db), Server(database_url)
        atomic = db.atomic

        @contextmanager
        def kill_after_begin() -> Iterator[None]:
            with atomic():
                await_(kill_connections(server, 50))
                yield

        monkeypatch.setattr(db, "atomic", kill_after_begin)
        with pytest.raises(WriteUnconfirmed):
            await db.run(session.claim, 1, change(2))
        monkeypatch.undo()
        assert (await db.run(session.load, change(2))).seen == 1

    run(database_url, scenario)


@on_servers
def test_an_unresponsive_server_raises_an_operational_error(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        db.connect_params["port"] = 1
        session = opened(chat_model(db, create=False), uuid4())
        with pytest.raises(pw.OperationalError):
            await db.run(session.load)
        with pytest.raises(WriteUnconfirmed):
            await db.run(session.finish, change(), "mine")
        assert not backend_of(session.model).is_connected

    run(database_url, scenario)


@on_servers
def test_a_rejected_login_raises_an_operational_error(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        db.connect_params["user"] = "nobody_of_that_name"
        with pytest.raises(pw.OperationalError, match="nobody_of_that_name"):
            await db.run(opened(chat_model(db, create=False), uuid4()).load)

    run(database_url, scenario)


@pytest.mark.backends("sqlite")
def test_a_locked_file_raises_an_operational_error(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        db.init(db.database, pragmas={"journal_mode": "wal", "busy_timeout": 1})
        session = await stored_session(db)
        other = servers.open_async_database(database_url)
        async with other, other.atomic("IMMEDIATE"):
            with pytest.raises(WriteUnconfirmed) as locked:
                await db.run(session.claim, 1, change(2))
        await other.close_pool()
        assert "database is locked" in str(locked.value.__cause__)
        assert await db.run(session.claim, 1, change(2))

    run(database_url, scenario)
