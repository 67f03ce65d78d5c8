"""A pooler such as PgBouncer in transaction mode takes prepared statements away: the error says what to set.

The server is made to forget them, as if another of its connections was used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asyncpg.prepared_stmt import PreparedStatement

from agentsession import DslError, StorageFailed, actions
from agentsession.provider import Reply
from tests.support.async_databases import run
from tests.support.models import chat_model, let_the_lease_run_out, texts

pytestmark = pytest.mark.backends("postgres")

FORGET = "do $$ begin execute 'deallocate all'; end $$"
FOUND = "the server does not know a statement that the driver has prepared"
SYNC = "PostgresRecording(…, prepare_threshold=None)"
ASYNC = "AsyncPostgresqlDatabase(…, statement_cache_size=0)"


class Model:
    def __init__(self) -> None:
        self.then: Callable[[], Any] = lambda: None

    def ask(self, request: Any) -> Reply:
        self.then()
        return Reply("ok")


def preparing(database: Any, **options: Any) -> Any:
    """A model whose connection prepares each statement."""
    Chat = chat_model(database, **options)
    database.connect()
    database.connection().prepare_threshold = 0
    return Chat


def forget(database: Any) -> None:
    database.connection().execute(FORGET, prepare=False)


ACTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "start": lambda Chat, _: Chat.start_session("New", run=False),
    "continue": lambda Chat, key: Chat.continue_session(key, "More", idempotency_key="k", run=False),
    "get_context": lambda Chat, key: Chat.get_context(key),
    "cancel": lambda Chat, key: Chat.cancel_session(key),
    "list": lambda Chat, _: actions.list_sessions(Chat),
    "delete": actions.delete_session,
}


@pytest.mark.parametrize("action", ACTIONS)
def test_the_first_failing_statement_says_what_to_set(database: Any, action: str) -> None:
    Chat = preparing(database)
    key, other = (Chat.start_session("Hello").id for _ in range(2))
    ACTIONS[action](Chat, other)
    forget(database)
    with pytest.raises(DslError, match=FOUND) as refused:
        ACTIONS[action](Chat, key)
    (problem,) = refused.value.problems
    assert problem.fix == SYNC
    database.connection().prepare_threshold = None
    ACTIONS[action](Chat, key)
    database.close()


def test_after_the_model_call_the_reply_is_in_the_error(database: Any) -> None:
    Chat = preparing(database, provider=(model := Model()))
    session = Chat.start_session("Hello")
    model.then = lambda: forget(database)
    with pytest.raises(StorageFailed, match=FOUND) as failed:
        session.continue_session("More")
    assert failed.value.result.text == "ok"
    assert SYNC in failed.value.fix
    assert isinstance(failed.value.__cause__, DslError)
    database.close()
    model.then = lambda: None
    let_the_lease_run_out(Chat, session.id)
    Chat.resume_session(session.id)
    assert texts(Chat, session) == ["Hello", "ok", "More", "ok"]


def test_asyncpg_says_what_to_set(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = PreparedStatement.fetch

    async def forget_and_fetch(statement: Any, *values: Any) -> Any:
        await statement._connection.execute(FORGET)
        return await fetch(statement, *values)

    async def scenario(db: Any) -> None:
        Chat = await db.run(chat_model, db)
        session = await Chat.astart_session("Hello")
        monkeypatch.setattr(PreparedStatement, "fetch", forget_and_fetch)
        for action in (Chat.aget_context, Chat.aresume_session, Chat.acancel_session):
            with pytest.raises(DslError, match=FOUND) as refused:
                await action(session.id)
            (problem,) = refused.value.problems
            assert problem.fix == ASYNC
        monkeypatch.undo()
        assert len((await Chat.aget_context(session.id)).messages) == 2

    run(database_url, scenario)
