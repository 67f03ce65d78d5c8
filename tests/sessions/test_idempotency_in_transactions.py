"""I6: inside the caller's transaction a key is repeated without harm to it, and goes with its rollback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee as pw
import pytest

from agentsession import IdempotencyMismatch, testing
from tests.support.idempotent_models import BY_ATTRIBUTE, Speaks, keyed_model
from tests.support.models import open_database

pytestmark = pytest.mark.matrix

BEGIN = ["atomic", "by hand"]


@contextmanager
def transaction(database: Any, begin: str) -> Iterator[None]:
    """A transaction of the caller's, which is committed."""
    if begin == "atomic":
        with database.atomic():
            yield
        return
    database.execute_sql("begin")
    database.execute_sql("savepoint still_mine")
    yield
    database.execute_sql("release savepoint still_mine")
    database.execute_sql("commit")


@pytest.mark.parametrize("begin", BEGIN)
def test_a_repeat_inside_a_transaction_keeps_the_callers_writes(
    speaker: Speaks, database: Any, begin: str
) -> None:
    say = speaker()
    other = keyed_model(database, name="other")
    with transaction(database, begin):
        other.create(title="before")
        first = say(run=False)
        again = say(run=False)
        assert again.id == first.id
        with pytest.raises(IdempotencyMismatch):
            say("Other words", run=False)
        other.create(title="after")
    assert sorted(row.title for row in other.select()) == ["after", "before"]
    assert say.said() == ["user"]
    with testing.script(say.Chat, ["ok"]):
        say()


@pytest.mark.parametrize("begin", BEGIN)
def test_a_rollback_removes_the_turn_of_a_key(speaker: Speaks, database: Any, begin: str) -> None:
    say = speaker()
    before = say.rows()

    class Undone(Exception):
        pass

    with pytest.raises(Undone):
        with transaction(database, begin):
            try:
                say(run=False)
                say(run=False)
            finally:
                if begin == "by hand":
                    database.execute_sql("rollback")
            raise Undone
    assert say.rows() == before
    assert say().last_result.text.startswith("You said: Hello")


@pytest.mark.backends("mariadb")
def test_a_key_stored_after_the_snapshot_of_a_transaction_is_found(database: Any) -> None:
    """REPEATABLE READ: plain reads show the past, the unique index the present."""
    Chat = keyed_model(database)
    elsewhere = keyed_model(open_database(database.url))
    with database.atomic():
        assert Chat.select().count() == 0
        first = elsewhere.start_session("Hello", idempotency_key="k")
        elsewhere._meta.database.close()
        again = Chat.start_session("Hello", idempotency_key="k", run=False)
    assert again.id == first.id
    assert again.last_result.text == first.last_result.text


@pytest.mark.parametrize("options", [None, BY_ATTRIBUTE], ids=["by primary key", "by attribute"])
def test_a_conflict_in_another_unique_column_is_not_a_repeat(database: Any, options: Any) -> None:
    Chat = keyed_model(database, session=options)
    Chat.start_session("Hello", attributes={"slug": "taken"}, idempotency_key="first")
    with testing.script(Chat, []), pytest.raises(pw.IntegrityError):
        Chat.start_session("Hello", attributes={"slug": "taken"}, idempotency_key="second")
    assert Chat.select().count() == 1
    for begin in BEGIN:
        with transaction(database, begin):
            Chat.update(title=begin).execute()
            with pytest.raises(pw.IntegrityError):
                Chat.start_session("Hello", attributes={"slug": "taken"}, idempotency_key="second", run=False)
            Chat.update(owner="still there").execute()
        (row,) = Chat.select()
        assert (row.title, row.owner) == (begin, "still there")
    with testing.script(Chat, []):
        Chat.start_session("Hello", attributes={"slug": "taken"}, idempotency_key="first")
