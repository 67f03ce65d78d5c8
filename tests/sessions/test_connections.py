"""Connections: unsafe settings are told at the first action; none is leaked; the caller's stay its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import peewee as pw
import pytest
from playhouse.pool import PooledSqliteDatabase
from playhouse.sqliteq import SqliteQueueDatabase

from agentsession import (
    DslError,
    ProviderCallError,
    ProviderFailed,
    SessionBusy,
    SessionNotFound,
    TransactionOpen,
    UnsafeDatabase,
    testing,
)
from tests.support import servers
from tests.support.models import chat_model, open_database, roles, stored, texts

pytestmark = pytest.mark.matrix

WAL = {"journal_mode": "wal", "busy_timeout": 5000}

FIRST_ACTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "start": lambda Chat, key: Chat.start_session("Hello"),
    "continue": lambda Chat, key: Chat.continue_session(key, "Hello", idempotency_key="k"),
    "resume": lambda Chat, key: Chat.resume_session(key),
    "context": lambda Chat, key: Chat.get_context(key),
}


def sqlite_with(path: Path, *, pooled: bool = False, **options: Any) -> Any:
    if pooled:
        return PooledSqliteDatabase(str(path / "plain.db"), timeout=20, **options)
    return pw.SqliteDatabase(str(path / "plain.db"), **options)


def a_stored_turn(database: Any) -> Any:
    """The id of a session whose turn is pending, stored by a database object of its own."""
    safe = pw.SqliteDatabase(database.database, pragmas={"journal_mode": "wal"})
    key = chat_model(safe).start_session("Hello", idempotency_key="k", run=False).id
    safe.execute_sql("pragma journal_mode = delete")
    safe.close()
    return key


UNSAFE: dict[str, tuple[dict[str, Any], str]] = {
    "no WAL": ({}, "journal_mode is delete"),
    "no busy timeout": ({"pragmas": {**WAL, "busy_timeout": 0}}, "there is no busy timeout"),
}


@pytest.mark.parametrize("action", FIRST_ACTIONS)
@pytest.mark.parametrize("unsafe", UNSAFE)
@pytest.mark.parametrize("pooled", [False, True])
def test_an_unsafe_file_causes_one_warning_at_the_first_action(
    tmp_path: Path, action: str, unsafe: str, pooled: bool
) -> None:
    options, found = UNSAFE[unsafe]
    database = sqlite_with(tmp_path, pooled=pooled, **options)
    key = a_stored_turn(database)
    Chat = chat_model(database, create=False)
    with pytest.warns(UnsafeDatabase, match=found) as told:
        FIRST_ACTIONS[action](Chat, key)
    assert len(told) == 1
    assert 'pragmas={"journal_mode": "wal", "busy_timeout": 5000}' in str(told[0].message)
    assert str(tmp_path / "plain.db") in str(told[0].message)
    Chat.start_session("Nobody is told again").continue_session("Nor here")


def test_each_unsafe_file_causes_a_warning(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Chat = chat_model(sqlite_with(tmp_path / name))
        with pytest.warns(UnsafeDatabase, match=f"{name}.plain.db"):
            Chat.start_session("Hello")


def test_a_declaration_warns_about_nothing_and_opens_nothing(tmp_path: Path) -> None:
    database = sqlite_with(tmp_path)
    chat_model(database, create=False)
    assert database.is_closed()
    assert not (tmp_path / "plain.db").exists()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (":memory:", {}),
        ("file::memory:", {"uri": True}),
        ("file:talk?mode=memory&cache=shared", {"uri": True}),
        ("good.db", {"pragmas": WAL}),
        ("good.db", {"pragmas": {"journal_mode": "WAL"}, "timeout": 3}),
    ],
)
def test_a_safe_file_and_memory_cause_no_warning(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    """Every warning is an error here."""
    database = pw.SqliteDatabase(str(tmp_path / name) if name == "good.db" else name, **options)
    Chat = chat_model(database, create=False)
    database.create_tables([Chat])
    if name == "good.db":
        database.close()
    session = Chat.start_session("Hello")
    session.continue_session("More")
    assert len(session.get_context().messages) == 4
    assert database.is_closed() == (name == "good.db")
    database.close()


@pytest.mark.backends("mariadb")
@pytest.mark.parametrize("action", FIRST_ACTIONS)
@pytest.mark.parametrize("pool", [0, 2])
def test_mariadb_under_mysqls_flag_is_refused_with_the_fix(database: Any, action: str, pool: int) -> None:
    key = chat_model(database).start_session("Hello", idempotency_key="k", run=False).id
    wrong = servers.open_database(database.url, pool=pool)
    wrong.mariadb = False
    Chat = chat_model(wrong, create=False)
    for _ in range(2):
        with pytest.raises(DslError, match="the server is MariaDB") as refused:
            FIRST_ACTIONS[action](Chat, key)
        (problem,) = refused.value.problems
        assert "mariadb=True" in problem.fix
    assert wrong.is_closed()
    assert not getattr(wrong, "_in_use", {})
    wrong.mariadb = True
    assert Chat.resume_session(key).last_turn.status == "completed"


@pytest.mark.backends("sqlite")
def test_a_queue_of_writes_keeps_documents_and_is_refused_for_rows(database: Any) -> None:
    """Through a proxy that is initialized after the declaration, it is refused at the first action."""
    chat_model(database).start_session("Before")
    queued = SqliteQueueDatabase(database.database, autostart=True)
    proxy = pw.DatabaseProxy()
    Chat = chat_model(proxy, create=False, session={"messages": database.layout})
    proxy.initialize(queued)
    if database.layout == "rows":
        with pytest.raises(DslError, match="SqliteQueueDatabase has no transactions"):
            Chat.start_session("Hello")
    else:
        assert texts(Chat, Chat.start_session("Hello"))[0] == "Hello"
    queued.stop()
    queued.close()


@pytest.fixture
def pool(database_url: str) -> Iterator[Any]:
    """A pooled database of one connection."""
    opened = servers.open_database(database_url, pool=1)
    opened.url = database_url
    yield opened
    opened.close_all()


def test_every_action_returns_its_connection_to_the_pool(pool: Any) -> None:
    Chat = chat_model(pool)

    def nothing_leaked() -> None:
        assert pool._in_use == {}
        assert pool.is_closed()

    nothing_leaked()
    session = Chat.start_session("One", run=False)
    nothing_leaked()
    session.resume_session()
    nothing_leaked()
    Chat.continue_session(session.id, "Two")
    nothing_leaked()
    assert len(session.get_context().messages) == 4
    nothing_leaked()
    Chat.start_session("One", idempotency_key="k")
    Chat.start_session("One", idempotency_key="k")
    nothing_leaked()
    with pool.connection_context():
        slim = Chat.select(Chat.id).where(Chat.id == session.id).get()
    assert slim.last_turn.status == "completed"
    nothing_leaked()
    assert len(pool._connections) == 1


def test_a_failure_returns_the_connection_to_the_pool(pool: Any) -> None:
    Chat = chat_model(pool)
    session = Chat.start_session("One")
    with testing.script(Chat, [ProviderCallError("down")]), pytest.raises(ProviderFailed):
        session.continue_session("Two")
    assert pool._in_use == {}
    for action in (Chat.get_context, Chat.resume_session, lambda key: Chat.continue_session(key, "x")):
        with pytest.raises(SessionNotFound):
            action(uuid4())
        assert pool._in_use == {}
    with pytest.raises(pw.IntegrityError):
        Chat.start_session("Again", attributes={"id": session.id})
    assert pool._in_use == {}
    with testing.crash_after(2):
        session.continue_session("Three")
    assert pool._in_use == {}
    with pytest.raises(SessionBusy):
        session.continue_session("Four")
    assert pool._in_use == {}
    with testing.script(Chat, [KeyboardInterrupt()]), pytest.raises(KeyboardInterrupt):
        Chat.start_session("Five")
    assert pool._in_use == {}


@pytest.mark.parametrize("size", [0, 1])
def test_a_connection_that_the_caller_opened_stays_open_and_is_used(database_url: str, size: int) -> None:
    database = servers.open_database(database_url, pool=size)
    Chat = chat_model(database)
    database.connect()
    mine = database.connection()
    session = Chat.start_session("One")
    session.continue_session("Two", run=False)
    Chat.resume_session(session.id)
    assert len(session.get_context().messages) == 4
    with pytest.raises(SessionNotFound):
        Chat.get_context(uuid4())
    with testing.script(Chat, [ProviderCallError("down")]), pytest.raises(ProviderFailed):
        session.continue_session("Three")
    assert not database.is_closed()
    assert database.connection() is mine
    database.close()
    assert not getattr(database, "_in_use", {})


@pytest.mark.parametrize("size", [0, 1])
def test_a_connection_whose_settings_fail_is_not_left_open(
    database_url: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peewee leaves such a connection open, and would use it without its settings."""
    database = servers.open_database(database_url, pool=size)
    Chat = chat_model(database)
    key = Chat.start_session("Hello").id
    bad = "select * from no_such_table"
    monkeypatch.setattr(database, "_initialize_connection", lambda conn: conn.cursor().execute(bad))
    for action in FIRST_ACTIONS.values():
        with pytest.raises(pw.DatabaseError, match="no_such_table"):
            action(Chat, key)
        assert database.is_closed()
    assert not getattr(database, "_in_use", {})
    monkeypatch.undo()
    assert len(Chat.get_context(key).messages) == 2
    getattr(database, "close_all", database.close)()


@pytest.mark.parametrize("begin", ["begin", "start transaction"])
@pytest.mark.parametrize("size", [0, 1])
def test_a_transaction_begun_by_hand_is_noticed(database_url: str, begin: str, size: int) -> None:
    if database_url.startswith("sqlite"):
        begin = begin.replace("start transaction", "begin immediate")
    database = servers.open_database(database_url, pool=size)
    Chat = chat_model(database)
    session = Chat.start_session("One")
    pending = Chat.start_session("Later", run=False)
    before = stored(session)
    database.connect(reuse_if_open=True)
    database.execute_sql(begin)
    for action in (
        lambda: Chat.start_session("Two"),
        lambda: session.continue_session("Two"),
        lambda: Chat.resume_session(pending.id),
    ):
        with testing.script(Chat, []), pytest.raises(TransactionOpen):
            action()
    assert len(session.get_context().messages) == 2
    session.continue_session("Stored in it", run=False)
    Chat.start_session("Stored in it", run=False)
    assert len(session.get_context().messages) == 3
    database.execute_sql("rollback")
    assert stored(session) == before
    assert Chat.select().count() == 2
    session.continue_session("Two")
    database.close()
    assert texts(Chat, session)[2] == "Two"


def switch_autocommit_off(database: Any) -> None:
    connection = database.connection()
    if isinstance(database, pw.SqliteDatabase):
        connection.isolation_level = "DEFERRED"
    elif isinstance(database, pw.MySQLDatabase):
        connection.autocommit(False)
    else:
        connection.autocommit = False


def test_a_connection_without_autocommit_counts_as_a_transaction(database: Any) -> None:
    Chat = chat_model(database)
    session = Chat.start_session("One")
    database.connect()
    switch_autocommit_off(database)
    with testing.script(Chat, []), pytest.raises(TransactionOpen):
        session.continue_session("Two")
    database.close()
    assert len(texts(Chat, session)) == 2


def elsewhere(database: Any) -> Any:
    """The model on a connection of its own, which does not wait for locks for ever."""
    other = open_database(database.url)
    other.connect()
    if isinstance(other, pw.PostgresqlDatabase):
        other.execute_sql("set lock_timeout = '20s'")
    elif isinstance(other, pw.MySQLDatabase):
        other.execute_sql("set innodb_lock_wait_timeout = 20")
    return chat_model(other, create=False)


def test_reading_inside_a_transaction_takes_no_lock(Chat: Any) -> None:
    database = Chat._meta.database
    session = Chat.start_session("One")
    Other = elsewhere(database)
    with database.atomic():
        database.statements.clear()
        assert len(session.get_context().messages) == 2
        assert not any("FOR UPDATE" in sql for sql in database.statements)
        assert Other.continue_session(session.id, "Two").last_turn.status == "completed"
    Other._meta.database.close()
    assert len(session.get_context().messages) == 4


def test_reading_outside_a_transaction_takes_no_lock(Chat: Any) -> None:
    database = Chat._meta.database
    database.statements.clear()
    session = Chat.start_session("One", idempotency_key="k")
    Chat.start_session("One", idempotency_key="k")
    session.continue_session("Two", run=False)
    Chat.resume_session(session.id)
    assert database.statements
    assert not any("FOR UPDATE" in sql for sql in database.statements)


@pytest.mark.backends("postgres", "mariadb")
def test_storing_inside_a_transaction_continues_from_newer_writes_of_others(Chat: Any) -> None:
    """MariaDB: a plain read would show the session as it was when the transaction first read."""
    database = Chat._meta.database
    session = Chat.start_session("One")
    Other = elsewhere(database)
    with database.atomic():
        assert len(session.get_context().messages) == 2
        Other.continue_session(session.id, "Elsewhere")
        session.continue_session("Mine", run=False)
        assert session.last_turn.status == "pending"
    Other._meta.database.close()
    assert texts(Chat, session)[2::2] == ["Elsewhere", "Mine"]
    assert session.resume_session().last_result.text.startswith("You said: Mine")


def at_isolation(database: Any, level: str) -> Any:
    """The same place, with transactions of this isolation level (SQLite knows one only)."""
    again = open_database(database.url)
    if isinstance(again, pw.PostgresqlDatabase):
        again.init(again.database, prefer_psycopg3=True, isolation_level=level, **again.connect_params)
    return again


@pytest.mark.backends("sqlite", "postgres")
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_that_cannot_continue_from_newer_writes_fails_and_loses_nothing(
    database: Any, level: str
) -> None:
    database = at_isolation(plain := database, level)
    Chat = chat_model(database)
    session = Chat.start_session("One")
    Other = elsewhere(plain)
    with pytest.raises(pw.OperationalError):
        with database.atomic():
            assert len(session.get_context().messages) == 2
            Other.continue_session(session.id, "Elsewhere")
            session.continue_session("Mine", run=False)
    Other._meta.database.close()
    assert texts(Chat, session)[2::2] == ["Elsewhere"]
    with database.atomic():
        session.continue_session("Mine", run=False)
    assert session.resume_session().last_turn.status == "completed"
    assert texts(Chat, session)[2::2] == ["Elsewhere", "Mine"]
    database.close()


@pytest.mark.backends("postgres")
def test_under_serializable_isolation_a_turn_runs_once_or_is_refused(database: Any) -> None:
    strict = open_database(database.url)
    parameters = strict.connect_params
    options = f"{parameters.pop('options', '')} -c default_transaction_isolation=serializable"
    strict.init(strict.database, prefer_psycopg3=True, options=options, **parameters)
    Chat = chat_model(strict)
    session = Chat.start_session("Hello")

    def attempt(words: str) -> str | None:
        try:
            Chat.continue_session(session.id, words)
        except SessionBusy:
            return None
        return words

    with ThreadPoolExecutor(8) as threads:
        done = [words for words in threads.map(attempt, map(str, range(64))) if words]
    assert done
    assert sorted(texts(Chat, session)[2::2]) == sorted(done)
    assert roles(Chat, session) == ["user", "assistant"] * (len(done) + 1)
