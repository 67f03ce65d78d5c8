"""I4, I10: a server that closes connections costs no message, no reply and no connection of the caller.

A proxy cuts the connection at a chosen statement, or the server kills it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import peewee as pw
import pytest
from playhouse.shortcuts import ReconnectMixin

from agentsession import ProviderCallError, ProviderFailed, StorageFailed
from agentsession.provider import Reply
from tests.support import servers
from tests.support.models import Answer, chat_model, let_the_lease_run_out, stored, texts
from tests.support.tcp_proxy import WRITE, WRITE_OR_COMMIT, Server, Wire

pytestmark = [pytest.mark.matrix("full"), pytest.mark.backends("postgres", "mariadb")]

OK = '{"content":"ok"}'


@pytest.fixture
def wire(database_url: str) -> Iterator[Wire]:
    place = urlsplit(database_url)
    usual = 5432 if servers.backend_of(database_url) == "postgres" else 3306
    is_rows = place.fragment == "rows"
    wire = Wire((str(place.hostname), place.port or usual), WRITE_OR_COMMIT if is_rows else WRITE)
    yield wire
    wire.close()


@pytest.fixture
def server(database_url: str) -> Server:
    return Server(database_url)


@pytest.fixture
def database(database: Any, server: Server, wire: Wire) -> Any:
    return behind_proxy(wire, database, server)


def behind_proxy(wire: Wire, database: Any, server: Server) -> Any:
    """Connect the database by way of the proxy, without encryption and under a name that the server lists."""
    database.connect_params |= {"host": "127.0.0.1", "port": wire.port}
    plain = {
        "postgres": {"sslmode": "disable", "application_name": server.name},
        "mariadb": {"ssl_disabled": True},
    }
    database.connect_params |= plain[server.backend]
    return database


class Model:
    """Calls `then` and replies "ok": to "Repeat" after an unfit reply, to "Fail" never."""

    def __init__(self, then: Callable[[], Any] = lambda: None) -> None:
        self.then = then
        self.asked = 0

    def ask(self, request: Any) -> Reply:
        self.asked += 1
        self.then()
        message_text = request.prompt[-1].content
        if message_text == "Fail":
            raise ProviderCallError("down")
        return Reply("not JSON" if message_text == "Repeat" else OK)


def chat(database: Any, model: Model, **options: Any) -> Any:
    return chat_model(database, output_schema=Answer, provider=model, **options)


@contextmanager
def caller_keeps_a_connection(database: Any) -> Iterator[None]:
    """The caller opens a connection, which is open and works afterwards."""
    database.autoconnect = False
    with database.connection_context():
        yield
        assert not database.is_closed()
        assert database.execute_sql("select 1").fetchone() == (1,)
    database.autoconnect = True


@contextmanager
def caller_has_no_connection(database: Any) -> Iterator[None]:
    """The caller has no connection before and afterwards."""
    assert database.is_closed()
    yield
    assert database.is_closed()


CALLERS: dict[str, Callable[[Any], AbstractContextManager[None]]] = {
    "kept open": caller_keeps_a_connection,
    "opened for each effect": caller_has_no_connection,
}


def session_for(Chat: Any, action: str) -> Any:
    """Return a session on which the action can be called."""
    with Chat._meta.database.connection_context():
        if action.startswith("start"):
            return None
        session = Chat.create()
        return session.continue_session("New", run=False) if action == "resume" else session


ACTIONS: dict[str, tuple[int, Callable[[Any, Any], Any]]] = {
    "start": (2, lambda Chat, _: Chat.start_session("New")),
    "start by key": (2, lambda Chat, _: Chat.start_session("New", idempotency_key=uuid4().hex)),
    "start, run later": (1, lambda Chat, _: Chat.start_session("New", run=False)),
    "continue": (2, lambda Chat, session: session.continue_session("New")),
    "continue, run later": (1, lambda Chat, session: session.continue_session("New", run=False)),
    "continue, repeated output": (3, lambda Chat, session: Chat.continue_session(session.id, "Repeat")),
    "resume": (2, lambda Chat, session: session.resume_session()),
}
IN_ROWS = {
    "start": 6,
    "start by key": 6,
    "start, run later": 3,
    "continue": 6,
    "continue, run later": 3,
    "continue, repeated output": 10,
    "resume": 5,
}
"""How often each action can be cut in rows, where a write is a transaction: at its statements and its end."""


def cuts(database: Any, action: str) -> range:
    """Return the numbers of the writes at which the connection can be cut."""
    count = ACTIONS[action][0] if database.layout == "document" else IN_ROWS[action]
    return range(1, count + 1)


def assert_stored_once(Chat: Any, record: Any, action: str) -> None:
    later = "later" in action
    with Chat._meta.database.connection_context():
        opening = ["Repeat" if "repeated" in action else "New"]
        assert texts(Chat, record) == (opening if later else [*opening, OK])
        row = Chat.get_by_id(record.id)
        assert row.status == record.status == record.last_turn.status == ("pending" if later else "completed")
        assert row.context["revision"] == record.context["revision"]


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_turn_whose_connection_is_cut_is_stored_once(
    database: Any, wire: Wire, action: str, caller: str
) -> None:
    Chat = chat(database, model := Model())
    act = ACTIONS[action][1]
    for number in cuts(database, action):
        for when in ("before", "after"):
            session, model.asked = session_for(Chat, action), 0
            with CALLERS[caller](database):
                wire.cut_at(number, when)
                record = act(Chat, session)
            assert wire.cut is None, "the write was not met"
            assert_stored_once(Chat, record, action)
            assert model.asked == ("later" not in action) + ("repeated" in action)
    with database.connection_context():
        assert Chat.select().count() == 2 * len(cuts(database, action))


@pytest.mark.parametrize("action", ["start", "continue", "continue, repeated output", "resume"])
def test_a_connection_killed_during_a_model_call_is_replaced(
    database: Any, server: Server, action: str
) -> None:
    Chat = chat(database, model := Model())
    session = session_for(Chat, action)
    model.then = server.kill
    with caller_keeps_a_connection(database):
        record = ACTIONS[action][1](Chat, session)
    assert_stored_once(Chat, record, action)


def test_a_failure_is_stored_after_its_connection_is_killed(database: Any, server: Server) -> None:
    Chat = chat(database, model := Model())
    session = session_for(Chat, "continue")
    model.then = server.kill
    with caller_keeps_a_connection(database):
        with pytest.raises(ProviderFailed):
            session.continue_session("Fail")
    assert stored(session)["turn"]["status"] == "failed"


class Repeating(ReconnectMixin):
    """Peewee's own remedy: it connects again and repeats the statement."""

    reconnect_errors = ((pw.OperationalError, ""),)


class PostgresRepeating(Repeating, pw.PostgresqlDatabase):
    pass


class MariaRepeating(Repeating, pw.MySQLDatabase):
    pass


@pytest.mark.parametrize("action", ["start", "start by key", "start, run later", "continue", "resume"])
def test_a_write_repeated_by_the_driver_is_recognized_as_stored(
    database: Any, wire: Wire, action: str
) -> None:
    if isinstance(database, pw.MySQLDatabase):
        repeating: Any = MariaRepeating(database.database, mariadb=True, **database.connect_params)
    else:
        repeating = PostgresRepeating(database.database, prefer_psycopg3=True, **database.connect_params)
    repeating.layout = database.layout
    Chat = chat(repeating, model := Model())
    act = ACTIONS[action][1]
    for number in cuts(database, action):
        session, model.asked = session_for(Chat, action), 0
        wire.cut_at(number, "after")
        record = act(Chat, session)
        assert (wire.cut, model.asked) == (None, "later" not in action)
        assert_stored_once(Chat, record, action)


@contextmanager
def lock_rows(url: str, new: Any = None) -> Iterator[None]:
    """Lock every row in another transaction, and the key `new`."""
    other = servers.open_database(url)
    Other = chat_model(other, create=False)
    with other.connection_context(), other.atomic() as transaction:
        assert new is not None or list(Other.select(Other.id).for_update())
        if new is not None:
            Other.create(id=new)
        yield
        transaction.rollback()


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("write", ["insert", "claim", "save", "finish"])
def test_a_write_killed_while_it_waits_for_a_lock_is_stored_once(
    database: Any, server: Server, write: str, caller: str
) -> None:
    asked, go = threading.Event(), threading.Event()

    def wait_for_the_lock() -> None:
        asked.set()
        assert go.wait(30)

    Chat = chat(database, Model(wait_for_the_lock))
    key = uuid4()
    action = {"insert": "start", "save": "continue, repeated output"}.get(write, "continue")
    session = session_for(Chat, action)

    def act() -> Any:
        with CALLERS[caller](database):
            if write == "insert":
                return Chat.start_session("New", attributes={"id": key})
            return ACTIONS[action][1](Chat, session)

    with ThreadPoolExecutor(1) as pool:
        if write in ("insert", "claim"):
            with lock_rows(database.url, key if write == "insert" else None):
                running = pool.submit(act)
                server.kill(waiting=True)
            go.set()
        else:
            running = pool.submit(act)
            assert asked.wait(30)
            with lock_rows(database.url):
                go.set()
                server.kill(waiting=True)
        record = running.result(60)
    assert_stored_once(Chat, record, action)


@pytest.mark.matrix
def test_dead_connections_in_a_pool_are_replaced(database_url: str, server: Server, wire: Wire) -> None:
    pooled = behind_proxy(wire, servers.open_database(database_url, pool=8), server)
    Chat = chat(pooled, model := Model())
    session = Chat.start_session("New")
    together = threading.Barrier(6)

    def use(_: int) -> None:
        with pooled.connection_context():
            together.wait(30)

    for act in (
        lambda: Chat.start_session("New"),
        lambda: Chat.continue_session(session.id, "New"),
        lambda: Chat.get_context(session.id),
        lambda: Chat.continue_session(session.id, "New", run=False),
        lambda: Chat.resume_session(session.id),
    ):
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(use, range(6)))
        assert len(server.connections()) >= 6
        server.kill()
        act()
    model.then = server.kill
    Chat.continue_session(session.id, "New")
    assert texts(Chat, session) == ["New", OK] * 4
    pooled.close_all()


@pytest.mark.parametrize("caller", ["kept open", "opened for each effect"])
@pytest.mark.parametrize("action", ["start", "continue", "resume"])
def test_the_error_carries_the_reply_if_the_server_becomes_unreachable(
    database: Any, wire: Wire, action: str, caller: str
) -> None:
    Chat = chat(database, model := Model())
    session = session_for(Chat, action)
    model.then = wire.down
    with database.connection_context() if caller == "kept open" else nullcontext():
        with pytest.raises(StorageFailed) as failed:
            ACTIONS[action][1](Chat, session)
    assert failed.value.result.output == Answer(content="ok")
    assert isinstance(failed.value.__cause__, (pw.OperationalError, pw.InterfaceError))
    wire.up()
    key = failed.value.session.id
    assert texts(Chat, key) == ["New"]
    let_the_lease_run_out(Chat, key)
    model.then = lambda: None
    assert_stored_once(Chat, Chat.resume_session(key), action)


def test_the_callers_connection_survives_a_short_outage(database: Any, wire: Wire) -> None:
    Chat = chat(database, model := Model())
    session = session_for(Chat, "continue")

    def restart() -> None:
        wire.refuse = 1
        wire.hang_up(*wire.open)

    model.then = restart
    with caller_keeps_a_connection(database):
        record = session.continue_session("New")
    assert_stored_once(Chat, record, "continue")


@pytest.mark.parametrize("closes", ["while it is lost", "after it was replaced"])
@pytest.mark.parametrize("pool", [0, 1])
def test_the_caller_can_close_a_connection_that_cannot_be_replaced(
    database_url: str, server: Server, wire: Wire, pool: int, closes: str
) -> None:
    database = behind_proxy(wire, servers.open_database(database_url, pool=pool), server)
    Chat = chat(database, Model())
    session = Chat.start_session("New")
    database.connect()
    wire.down()
    for _ in range(2):
        with pytest.raises((pw.OperationalError, pw.InterfaceError)):
            session.get_context()
        assert not database.is_closed()
    if closes == "while it is lost":
        assert database.close()
    wire.up()
    assert texts(Chat, session) == ["New", OK]
    assert database.is_closed() == (closes == "while it is lost")
    database.close()
    assert not getattr(database, "_in_use", {})
    getattr(database, "close_all", database.close)()


def test_the_error_carries_the_reply_if_the_pool_is_exhausted(
    database_url: str, server: Server, wire: Wire
) -> None:
    pooled = behind_proxy(wire, servers.open_database(database_url, pool=1), server)
    pooled.init(pooled.database, timeout=0.05)
    with ThreadPoolExecutor(1) as other:
        Chat = chat(pooled, Model(lambda: other.submit(pooled.connect).result(30)))
        session = session_for(Chat, "continue")
        with pytest.raises(StorageFailed) as failed:
            session.continue_session("New")
        other.submit(pooled.close).result(30)
    assert failed.value.result.output == Answer(content="ok")
    assert texts(Chat, session) == ["New"]
    pooled.close_all()


@pytest.mark.backends("postgres")
def test_the_error_carries_the_reply_if_the_server_becomes_read_only(database: Any) -> None:
    def fail_over() -> None:
        database.connect_params["options"] += " -c default_transaction_read_only=on"

    Chat = chat(database, Model(fail_over))
    session = session_for(Chat, "continue")
    with pytest.raises(StorageFailed, match="read-only") as failed:
        session.continue_session("New")
    assert failed.value.result.output == Answer(content="ok")


@pytest.mark.parametrize("moment", ["before", "at the write"])
@pytest.mark.parametrize("how", ["atomic", "manual", "by hand"])
def test_a_transaction_is_not_continued_after_its_connection_is_lost(
    database: Any, server: Server, wire: Wire, how: str, moment: str
) -> None:
    Chat = chat(database, Model())
    session = session_for(Chat, "continue")
    begin = {"atomic": database.atomic, "manual": database.manual_commit}.get(how, nullcontext)
    with database.connection_context():
        with pytest.raises((pw.OperationalError, pw.InterfaceError)), begin():
            if how != "atomic":
                database.execute_sql("begin")
            Chat.create(title="the caller's")
            if moment == "before":
                server.kill()
            else:
                wire.cut_at(1, "before")
            session.continue_session("New", run=False)
            pytest.fail("the lost transaction raised no error")
    with database.connection_context():
        assert [row.title for row in Chat.select()] == ["untitled"]
        assert texts(Chat, session) == []
