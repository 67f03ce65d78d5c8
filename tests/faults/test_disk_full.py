"""A full disk: the error names it and carries the reply.

SQLite rolls such a transaction back by itself, so that a rollback fails."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee as pw
import pytest

from agentsession import StorageFailed, testing
from tests.support.models import chat_model, open_database, texts

pytestmark = pytest.mark.backends("sqlite")

LONG = "a long reply " * 10_000


@contextmanager
def small_table(database: Any) -> Iterator[None]:
    """SQLite itself refuses a statement that needs more pages."""
    pages = database.pragma("page_count")
    database.pragma("max_page_count", pages + 8)
    yield
    database.pragma("max_page_count", 2**30)


@contextmanager
def small_files(database: Any) -> Iterator[None]:
    """The operating system refuses the writes of a commit. The log contains the statements before it."""
    size = Path(f"{database.database}-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 60_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


FULL = {
    "at a statement": (small_table, "database or disk is full"),
    "at the commit": (small_files, "disk I/O error"),
}


@pytest.mark.parametrize("when", FULL)
def test_the_error_names_the_full_disk_and_carries_the_reply(database_url: str, when: str) -> None:
    database = open_database(database_url)
    Chat = chat_model(database)
    fill, message = FULL[when]
    with database.connection_context():
        session = Chat.start_session("Hello")
        with testing.script(Chat, [LONG]), fill(database):
            with pytest.raises(StorageFailed, match=message) as failed:
                session.continue_session("More")
        assert failed.value.result.text == LONG
        assert message in str(failed.value.__cause__)
        assert not database.in_transaction()
        assert texts(Chat, session)[-1] == "More"


@pytest.mark.parametrize("when", FULL)
def test_a_session_that_does_not_fit_on_the_disk_does_not_start(database_url: str, when: str) -> None:
    database = open_database(database_url)
    Chat = chat_model(database)
    fill, message = FULL[when]
    with database.connection_context():
        Chat.start_session("Hello")
        with fill(database), pytest.raises(pw.OperationalError, match=message):
            Chat.start_session(LONG)
        assert not database.in_transaction()
        assert Chat.select().count() == 1
