"""I16: a user's `save()` of a stale record changes no message, no status and no claim."""

from __future__ import annotations

import copy
from typing import Any

import peewee as pw
import pytest

from agentsession import ManagedField, SessionActions, agent, agent_session, testing
from tests.support.layouts import layout_of, with_messages
from tests.support.models import chat_model, kept, stored

pytestmark = pytest.mark.matrix


def test_a_stale_save_writes_the_users_columns_only(Chat: Any) -> None:
    session = Chat.start_session("One")
    stale = Chat.get_by_id(session.id)
    session.continue_session("Two")
    before = (stored(session), Chat.get_by_id(session.id).updated)
    stale.title = "New"
    assert stale.save() == 1
    again = Chat.get_by_id(session.id)
    assert (stored(again), again.updated) == before
    assert (again.title, again.status) == ("New", "completed")


def test_a_stale_save_during_a_turn_does_not_touch_the_claim(Chat: Any) -> None:
    session = Chat.start_session("One")
    stale = Chat.get_by_id(session.id)

    class Saves:
        def ask(self, request: Any) -> Any:
            from agentsession.provider import Reply

            stale.title = "during"
            stale.save()
            return Reply("ok")

    Busy = chat_model(Chat._meta.database, provider=Saves())
    assert Busy.continue_session(session.id, "Two").last_result.text == "ok"
    assert Chat.get_by_id(session.id).title == "during"


def test_unsaved_changes_survive_an_action(Chat: Any) -> None:
    session = Chat.start_session("One")
    session.title = "unsaved"
    session.continue_session("Two")
    assert session.title == "unsaved"
    assert session.dirty_fields == [Chat.title]
    assert Chat.get_by_id(session.id).title == "untitled"
    session.save()
    assert Chat.get_by_id(session.id).title == "unsaved"


@pytest.mark.parametrize(("name", "value"), [("context", {}), ("status", "pending"), ("updated", None)])
def test_an_assigned_managed_field_is_refused_and_nothing_is_written(
    Chat: Any, name: str, value: Any
) -> None:
    session = Chat.start_session("One")
    for record in (session, Chat.get_by_id(session.id)):
        before = Chat.select().dicts().get()
        record.title = "New"
        setattr(record, name, value)
        with pytest.raises(ManagedField, match=rf"Chat.update\({name}=…\)"):
            record.save()
        with pytest.raises(ManagedField, match="named in only="):
            record.save(only=[getattr(Chat, name)])
        assert Chat.select().dicts().get() == before


def test_the_fix_that_the_error_names_works(Chat: Any) -> None:
    session = Chat.start_session("One")
    assert Chat.update(status="mine").where(Chat.id == session.id).execute() == 1
    assert Chat.get_by_id(session.id).status == "mine"


def test_creating_and_inserting_are_unchanged(Chat: Any) -> None:
    made = Chat.create(title="made", status="draft")
    assert Chat.get_by_id(made.id).status == "draft"
    other = Chat(title="other", status="draft")
    assert other.save(force_insert=True) == 1
    assert Chat.get_by_id(other.id).status == "draft"
    made.title = "again"
    made.save()
    assert Chat.get_by_id(made.id).title == "again"


def test_a_record_built_with_an_id_updates_its_columns_only(Chat: Any) -> None:
    session = Chat.start_session("One")
    before = stored(session)
    assert Chat(id=session.id, title="New").save() == 1
    again = Chat.get_by_id(session.id)
    assert (again.title, again.status, stored(again)) == ("New", "completed", before)
    with pytest.raises(ManagedField):
        Chat(id=session.id, status="mine").save()


def test_only_works_as_in_peewee(Chat: Any) -> None:
    session = Chat.start_session("One")
    session.title, session.created = "New", None
    session.save(only=["title"])
    session.save(only=[Chat.title])
    again = Chat.get_by_id(session.id)
    assert again.title == "New"
    assert again.created is not None


def test_a_save_without_changes_is_not_an_error(database: Any) -> None:
    connection = database

    @agent_session(**layout_of(database))
    @agent(client="echo:", instruction="You help.")
    class Bare(SessionActions, pw.Model):
        context = pw.JSONField(null=True)

        class Meta:
            database = connection

    with_messages(Bare)
    session = Bare.start_session("One")
    assert session.save() == 0
    assert len(session.get_context().messages) == 2


def test_only_save_dirty_and_an_overridden_save_work(database: Any) -> None:
    connection = database
    saved: list[str] = []

    @agent_session(**layout_of(database))
    @agent(client="echo:", instruction="You help.")
    class Own(pw.Model):
        context = pw.JSONField(null=True)
        title = pw.CharField(default="x")

        class Meta:
            database = connection
            only_save_dirty = True

        def save(self, *args: Any, **keywords: Any) -> Any:
            saved.append(self.title)
            return super().save(*args, **keywords)

    with_messages(Own)
    session = Own.start_session("One", attributes={"title": "a"})
    stale = Own.get_by_id(session.id)
    session.continue_session("Two")
    assert not stale.save()
    stale.title = "b"
    assert stale.save() == 1
    assert saved == ["a", "a", "b"]
    assert len(Own.get_context(session.id).messages) == 4
    stale.context = {}
    with pytest.raises(ManagedField):
        stale.save()


def test_a_record_passed_to_an_action_is_refreshed(Chat: Any) -> None:
    session = Chat.start_session("One")
    stale = Chat.get_by_id(session.id)
    session.continue_session("Two")
    with testing.script(Chat, ["three"]):
        assert stale.continue_session("Three") is stale
    assert len(stored(stale)["messages"]) == 6
    assert stale.context == kept(stale)
    assert stale.dirty_fields == []


def a_change_of(record: Any, how: str) -> None:
    if how == "nested":
        record.context["turn"]["status"] = "mine"
    elif how == "removed":
        del record.context["turn"]
    elif how == "no JSON":
        record.context["mine"] = object()
    else:
        record.context["mine"] = 1


@pytest.mark.parametrize("how", ["key", "nested", "removed", "no JSON"])
def test_a_context_that_was_changed_in_place_is_refused_and_nothing_is_written(Chat: Any, how: str) -> None:
    session = Chat.start_session("One")
    selected = Chat.select(Chat.id, Chat.title, Chat.context).where(Chat.id == session.id)
    for record in (session, Chat.get_by_id(session.id), selected.get(), copy.deepcopy(session)):
        before = Chat.select().dicts().get()
        record.title = "New"
        a_change_of(record, how)
        with pytest.raises(ManagedField, match="'context' was changed in place"):
            record.save()
        assert Chat.select().dicts().get() == before
        assert record.save(only=[Chat.title]) == 1
        Chat.update(title="untitled").execute()


def test_a_context_that_was_only_read_does_not_block_save(Chat: Any) -> None:
    session = Chat.start_session("One")
    stale = Chat.get_by_id(session.id)
    assert stale.context["turn"]["status"] == session.context["turn"]["status"] == "completed"
    session.continue_session("Two")
    for number, record in enumerate((stale, session)):
        record.context["mine"] = 1
        del record.context["mine"]
        record.title = f"New {number}"
        assert record.save() == 1
    assert len(session.get_context().messages) == 4


def test_an_action_forgets_what_was_changed_in_place(Chat: Any) -> None:
    session = Chat.start_session("One")
    session.context["mine"] = 1
    session.continue_session("Two")
    session.title = "New"
    assert session.save() == 1
    assert "mine" not in session.context


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("document")
def test_an_unread_context_is_not_encoded(Chat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentsession._store import record as stored_record

    encoded: list[Any] = []
    encode = stored_record.digest
    monkeypatch.setattr(stored_record, "digest", lambda value: encoded.append(value) or encode(value))
    session = Chat.start_session("One")
    session.continue_session("Two")
    record = Chat.get_by_id(session.id)
    assert record.last_turn.status == "completed"
    assert record.save() == 1
    assert encoded == []
    assert record.context is record.context
    assert len(encoded) == 1


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("document")
def test_a_subclass_and_a_field_with_a_custom_accessor_are_guarded(database: Any) -> None:
    connection = database

    class Noting(pw.FieldAccessor):
        def __get__(self, instance: Any, instance_type: Any = None) -> Any:
            noted.append(self.name)
            return super().__get__(instance, instance_type)

    class Field(pw.JSONField):
        accessor_class = Noting

    @agent_session
    @agent(client="echo:", instruction="You help.")
    class Base(pw.Model):
        context = Field(null=True)

        class Meta:
            database = connection

    class Child(Base):
        pass

    noted: list[str] = []
    database.create_tables([Base, Child])
    for model in (Base, Child):
        record = model.start_session("One")  # type: ignore[attr-defined]
        noted.clear()
        record.context["mine"] = 1
        assert noted == ["context"]
        with pytest.raises(ManagedField, match="changed in place"):
            record.save()
    assert isinstance(Child.context, Field)
