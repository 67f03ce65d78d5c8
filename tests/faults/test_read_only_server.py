"""A server that becomes read-only, as in a failover: the write is repeated on another connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any
from uuid import uuid4

import peewee as pw
import pytest

from agentsession import StorageFailed, actions
from agentsession._store.declared import backend_of
from agentsession._turn.effects import WriteUnconfirmed
from agentsession.provider import Reply
from tests.support import servers
from tests.support.async_databases import change, run, stored_session
from tests.support.models import chat_model, texts

pytestmark = pytest.mark.matrix

READ_ONLY = "set session characteristics as transaction read only"

on_postgres = pytest.mark.backends("postgres")


class Model:
    def __init__(self) -> None:
        self.then: Callable[[], Any] = lambda: None
        self.asked = 0

    def ask(self, request: Any) -> Reply:
        self.asked += 1
        self.then()
        return Reply("ok")


def stop_writes(database: Any) -> None:
    """Make the connection of this thread read-only, or the next one of the pool."""
    with nullcontext() if not database.is_closed() else database.connection_context():
        database.execute_sql(READ_ONLY)


ACTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "start": lambda Chat, _: Chat.start_session("New"),
    "start later": lambda Chat, _: Chat.start_session("New", run=False),
    "continue": lambda Chat, key: Chat.continue_session(key, "New"),
    "cancel": lambda Chat, key: Chat.cancel_session(key),
}


@on_postgres
@pytest.mark.parametrize("moment", ["before", "while the model is asked"])
@pytest.mark.parametrize("caller", ["holds a connection", "has a pool"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_write_refused_as_read_only_is_repeated_on_another_connection(
    database_url: str, action: str, caller: str, moment: str
) -> None:
    database = servers.open_database(database_url, pool=1 if caller == "has a pool" else 0)
    Chat = chat_model(database, provider=(model := Model()))
    key = Chat.start_session("Old", run=action != "cancel").id
    if caller == "holds a connection":
        database.connect()
    if moment == "before":
        stop_writes(database)
    else:
        model.then = lambda: stop_writes(database)
    model.asked = 0
    record = ACTIONS[action](Chat, key)
    assert model.asked == (action in ("start", "continue"))
    assert record.status == {"cancel": "interrupted", "start later": "pending"}.get(action, "completed")
    if caller == "holds a connection":
        assert not database.is_closed()
        assert Chat.update(title="mine").where(Chat.id == record.id).execute() == 1
        database.close()
    assert database.is_closed()
    assert not getattr(database, "_in_use", {})
    getattr(database, "close_all", database.close)()


@on_postgres
def test_a_refused_action_that_is_not_repeated_succeeds_on_the_next_call(database: Any) -> None:
    Chat = chat_model(database)
    key = Chat.start_session("Old").id
    with database.connection_context():
        stop_writes(database)
        with pytest.raises(pw.OperationalError, match="read-only"):
            actions.delete_session(Chat, key)
        actions.delete_session(Chat, key)


@on_postgres
def test_a_callers_transaction_is_not_continued_on_another_connection(database: Any) -> None:
    Chat = chat_model(database)
    session = Chat.start_session("Old")
    with database.connection_context():
        mine = database.connection()
        with pytest.raises(pw.DatabaseError, match="read-only"), database.atomic():
            database.execute_sql("set transaction read only")
            session.continue_session("New", run=False)
        assert database.connection() is mine
    assert texts(Chat, session)[:1] == ["Old"]
    assert len(texts(Chat, session)) == 2


def with_first_connection_read_only(acquire: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wrap `acquire` of a pool so that its first connection is read-only."""
    connections: list[Any] = []

    async def acquired(pool: Any) -> Any:
        connections.append(await acquire(pool))
        if len(connections) == 1:
            await connections[0].execute(READ_ONLY)
        return connections[-1]

    return acquired


@on_postgres
@pytest.mark.parametrize("holds", [False, True])
def test_asyncpg_repeats_a_refused_write_on_another_connection(
    database_url: str, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(db: Any) -> None:
        session = await stored_session(db)
        if holds:
            await db.run(db.connect)
            await db.aexecute_sql(READ_ONLY)
        else:
            monkeypatch.setattr(db, "_pool_acquire", with_first_connection_read_only(db._pool_acquire))
        with pytest.raises(WriteUnconfirmed):
            await db.run(session.claim, 1, change(2))
        assert backend_of(session.model).is_connected == holds
        assert await db.run(session.claim, 1, change(2))

    run(database_url, scenario)


@pytest.fixture
def limited_user(database_url: str) -> Iterator[tuple[Any, Any]]:
    """Yield a database of a user to whom `read_only` applies, and the administrator.

    The setting belongs to the server, so that a lock lets one test at a time change it."""
    admin, user = servers.admin("mariadb"), f"user_{uuid4().hex[:8]}"
    database = servers.open_database(database_url)
    hosts = ("localhost", "127.0.0.1")
    for host in hosts:
        admin.execute_sql(f"create user '{user}'@'{host}'")
        admin.execute_sql(f"grant all on {database.database}.* to '{user}'@'{host}'")
    database.connect_params |= {"user": user, "password": ""}
    assert admin.execute_sql("select get_lock('agentsession_read_only', 120)").fetchone() == (1,)
    yield database, admin
    admin.execute_sql("set global read_only = 0")
    admin.execute_sql("do release_lock('agentsession_read_only')")
    for host in hosts:
        admin.execute_sql(f"drop user '{user}'@'{host}'")


@pytest.mark.backends("mariadb")
@pytest.mark.parametrize("recovers", [True, False])
def test_mariadb_repeats_a_refused_write_on_another_connection(
    limited_user: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, recovers: bool
) -> None:
    """The server accepts writes again when another connection is opened, or never."""
    database, admin = limited_user
    Chat = chat_model(database, provider=(model := Model()))
    session = Chat.start_session("Old")
    connect = database._connect

    def connect_elsewhere() -> Any:
        admin.execute_sql(f"set global read_only = {int(not recovers)}")
        return connect()

    with database.connection_context():
        monkeypatch.setattr(database, "_connect", connect_elsewhere)
        model.then = lambda: admin.execute_sql("set global read_only = 1")
        if recovers:
            assert session.continue_session("New").status == "completed"
        else:
            with pytest.raises(StorageFailed, match="read-only") as failed:
                session.continue_session("New")
            assert failed.value.result.text == "ok"
        assert not database.is_closed()


@pytest.mark.backends("mariadb")
@pytest.mark.parametrize("holds", [False, True])
def test_aiomysql_repeats_a_refused_write_on_another_connection(
    limited_user: tuple[Any, Any], database_url: str, holds: bool
) -> None:
    database, admin = limited_user

    async def scenario(db: Any) -> None:
        db.connect_params |= {"user": database.connect_params["user"], "password": ""}
        session = await stored_session(db)
        if holds:
            await db.run(db.connect)
        for _ in range(3):
            admin.execute_sql("set global read_only = 1")
            old = (await db.run(db.connection)).conn if holds else None
            with pytest.raises(WriteUnconfirmed):
                await db.run(session.claim, 1, change(2))
            assert backend_of(session.model).is_connected == holds
            assert not holds or (await db.run(db.connection)).conn is not old
        admin.execute_sql("set global read_only = 0")
        assert await db.run(session.claim, 1, change(2))

    run(database_url, scenario)
