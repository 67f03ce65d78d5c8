"""I6: a start by a key is one record, whatever the table's keys are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import peewee as pw
import pytest

from agentsession import (
    DslError,
    IdempotencyMismatch,
    InputInvalid,
    ProviderCallError,
    ProviderFailed,
    testing,
)
from tests.support.idempotent_models import BY_ATTRIBUTE, Speaker, keyed_model

pytestmark = pytest.mark.matrix("full")


@pytest.mark.parametrize("pinned", [False, True])
def test_a_repeated_start_may_pass_its_arguments_again(database: Any, pinned: bool) -> None:
    options: Any = {"instruction": "Serve {{ name }}.", "session": {"pin_instruction": pinned}}
    say = Speaker(keyed_model(database, **options))
    given: Any = {"instruction_args": {"name": "Acme"}}
    with testing.script(say.Chat, [ProviderCallError("down")]), pytest.raises(ProviderFailed):
        say(**given)
    with testing.script(say.Chat, ["ok"]) as asked:
        say(**given)
    assert asked[0][0].content == "Serve Acme."
    with testing.script(say.Chat, []):
        assert say(**given).last_result.text == "ok"


PRIMARY_KEYS: dict[str, Callable[[], Any]] = {
    "uuid": lambda: pw.UUIDField(primary_key=True, default=uuid4),
    "binary uuid": lambda: pw.BinaryUUIDField(primary_key=True, default=uuid4),
    "text": lambda: pw.CharField(max_length=36, primary_key=True),
    "integer": lambda: pw.AutoField(),
}


@pytest.mark.parametrize("by_attribute", [False, True])
@pytest.mark.parametrize("kind", PRIMARY_KEYS)
def test_a_start_is_repeated_with_each_type_of_primary_key(
    database: Any, kind: str, by_attribute: bool
) -> None:
    session = BY_ATTRIBUTE if by_attribute else None
    Chat = keyed_model(database, PRIMARY_KEYS[kind](), session=session)
    given: Any = {"attributes": {"id": "mine"}} if kind == "text" and by_attribute else {}
    if kind == "integer" and not by_attribute:
        with testing.script(Chat, []), pytest.raises(InputInvalid, match="idempotency_attribute"):
            Chat.start_session("Hello", idempotency_key="k")
        assert Chat.select().count() == 0
        plain = Chat.start_session("Hello")
        Chat.continue_session(plain.id, "More", idempotency_key="k")
        with testing.script(Chat, []):
            Chat.continue_session(plain.id, "More", idempotency_key="k")
        return
    with testing.script(Chat, ["ok"]):
        first = Chat.start_session("Hello", idempotency_key="k", **given)
    with testing.script(Chat, []):
        again = Chat.start_session("Hello", idempotency_key="k", **given)
    assert again.id == first.id
    (row,) = Chat.select()
    assert row.id == first.id
    assert (row.start_key is not None) == by_attribute
    derived = row.start_key if by_attribute else row.id
    assert UUID(str(derived)).version == 5
    again.continue_session("More")
    assert len(Chat.continue_session(first.id, "More by id").get_context().messages) == 6


def test_sessions_started_without_a_key_store_null(database: Any) -> None:
    Chat = keyed_model(database, pw.AutoField(), session=BY_ATTRIBUTE)
    keys = [Chat.start_session("Hello").start_key for _ in range(3)]
    assert keys == [None, None, None]


def test_keys_of_two_owners_do_not_collide(database: Any) -> None:
    Chat = keyed_model(database, session={"owner_attribute": "owner"})
    sessions = [
        Chat.start_session("Hello", actor=actor, idempotency_key=key)
        for actor, key in [("ann", "k"), ("bob", "k"), ("ann k", "k"), ("ann", "k k"), ("Ann", "k")]
    ]
    assert len({session.id for session in sessions}) == 5
    assert Chat.start_session("Hello", actor="bob", idempotency_key="k").id == sessions[1].id
    with pytest.raises(IdempotencyMismatch):
        Chat.start_session("Other", actor="ann", idempotency_key="k")


@pytest.mark.parametrize("options", [None, BY_ATTRIBUTE], ids=["by primary key", "by attribute"])
def test_keys_of_two_tables_do_not_collide(database: Any, options: Any) -> None:
    one = keyed_model(database, session=options).start_session("Hello", idempotency_key="k")
    Two = keyed_model(database, session=options, name="talk")
    two = Two.start_session("Other words", idempotency_key="k")
    assert (one.id, one.start_key) != (two.id, two.start_key)
    assert one.id != two.id
    assert Two.start_session("Other words", idempotency_key="k").id == two.id


def test_the_key_of_the_start_finds_its_turn_after_later_turns(database: Any) -> None:
    Chat = keyed_model(database)
    session = Chat.start_session("Hello", idempotency_key="k")
    session.continue_session("More")
    with testing.script(Chat, []):
        assert session.continue_session("Hello", idempotency_key="k").last_turn.id == "k"
    assert len(session.get_context().messages) == 4


@pytest.mark.parametrize("options", [None, BY_ATTRIBUTE], ids=["by primary key", "by attribute"])
def test_the_record_of_a_repeated_start_is_the_stored_row(database: Any, options: Any) -> None:
    Chat = keyed_model(database, session=options)
    first = Chat.start_session("Hello", idempotency_key="k", attributes={"title": "first", "slug": "one"})
    again = Chat.start_session("Hello", idempotency_key="k", attributes={"title": "second", "slug": "two"})
    assert (again.id, again.title, again.slug) == (first.id, "first", "one")
    assert again.context == first.context == Chat.get().context
    again.title = "changed"
    again.save()
    assert [row.title for row in Chat.select()] == ["changed"]


@pytest.mark.parametrize("key", [None, "k"])
def test_the_derived_column_is_not_an_attribute(database: Any, key: Any) -> None:
    by_key, by_attribute = keyed_model(database), keyed_model(database, session=BY_ATTRIBUTE)
    with pytest.raises(InputInvalid, match="pass idempotency_key="):
        by_attribute.start_session("Hello", idempotency_key=key, attributes={"start_key": str(uuid4())})
    if key is None:
        by_key.start_session("Hello", attributes={"id": uuid4()})
        return
    with pytest.raises(InputInvalid, match="the idempotency key decides it"):
        by_key.start_session("Hello", idempotency_key=key, attributes={"id": uuid4()})
    assert by_key.select().count() == 0
    mine = uuid4()
    by_attribute.start_session("Hello", idempotency_key=key, attributes={"id": mine})
    assert by_key.get().id == mine


def test_a_subclass_whose_key_column_is_not_unique_is_refused(database: Any) -> None:
    Chat = keyed_model(database, session=BY_ATTRIBUTE)

    class Twice(Chat):
        start_key = pw.CharField(max_length=36, null=True)

        class Meta:
            table_name = "twice"

    database.create_tables([Twice])
    for _ in range(2):
        with pytest.raises(DslError, match="'start_key'"):
            Twice.start_session("Hello", idempotency_key="k")
    assert Twice.select().count() == 0


@pytest.mark.parametrize("kind", ["uuid", "integer"])
def test_a_refused_row_raises_the_error_of_the_database(database: Any, kind: str) -> None:
    Chat = keyed_model(database, PRIMARY_KEYS[kind]())
    Chat.start_session("Hello", attributes={"slug": "taken"})
    with testing.script(Chat, []), pytest.raises(pw.IntegrityError):
        Chat.start_session("Hello", attributes={"slug": "taken"})
    assert Chat.select().count() == 1
