"""A session belongs to its owner: whoever else asks for it is told what is told of an unknown id."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import peewee as pw
import pytest

from agentsession import (
    DslError,
    InputInvalid,
    SessionActions,
    SessionNotFound,
    agent,
    agent_session,
    testing,
)
from agentsession.provider import Reply
from tests.support.models import Answer, let_the_lease_run_out
from tests.support.owned_models import ACTIONS, Case, of_records, owned, rows

pytestmark = pytest.mark.matrix


def test_an_actor_uses_its_own_sessions(case: Case) -> None:
    Chat, ann = case.Chat, case.ann
    for actor in (ann, *case.same):
        session = Chat.start_session("One", actor=ann)
        Chat.continue_session(session.id, "Two", actor=actor)
        session.continue_session("Three", actor=actor, run=False)
        Chat.resume_session(session, actor=actor)
        assert len(session.get_context(actor=actor).messages) == 6
        assert Chat.get_by_id(session.id).last_result.text.startswith("You said: Three")
        again = Chat.start_session("One", actor=actor)
        again.continue_session("Two", actor=ann)
        owners = [Chat.get_by_id(each.id).__data__["owner"] for each in (session, again)]
        assert owners[0] == owners[1]


def test_another_actor_gets_the_error_of_an_unknown_id(case: Case) -> None:
    Chat, unknown = case.Chat, uuid4()
    session = Chat.start_session("One", actor=case.ann, run=False)
    before = rows(Chat)
    for action in ACTIONS.values():
        told = set()
        for key, record in ((session.id, Chat.get_by_id(session.id)), (unknown, Chat(id=unknown))):
            for target in (key, str(key), record):
                told.add(said(lambda: action(Chat, target, case.bob), key))  # noqa: B023
        assert len(told) == 1
    assert rows(Chat) == before
    with testing.script(Chat, ["ok"]):
        Chat.resume_session(session.id, actor=case.ann)


def said(act: Callable[[], Any], key: Any) -> str:
    """The error of an unknown session, without its id."""
    with pytest.raises(SessionNotFound) as error:
        act()
    shown = str(error.value)
    assert str(key) in shown
    return re.sub(rf"(UUID\()?'{key}'\)?", "<id>", shown)


@pytest.mark.parametrize("actor", [None, ""])
def test_a_missing_actor_is_refused_for_every_id(Texts: Any, actor: Any) -> None:
    session = Texts.start_session("One", actor="ann", run=False)
    before = rows(Texts)
    for target in (session.id, uuid4(), session, Texts(id=uuid4()), Texts.get_by_id(session.id)):
        for action in ACTIONS.values():
            with pytest.raises(InputInvalid, match="no actor was passed"):
                action(Texts, target, actor)
    with pytest.raises(InputInvalid, match="no actor was passed"):
        Texts.start_session("Two", actor=actor)
    assert rows(Texts) == before


def test_the_actor_is_a_required_keyword(Texts: Any) -> None:
    session = Texts.start_session("One", actor="ann", run=False)
    for action in (
        lambda: Texts.start_session("Two"),
        lambda: session.continue_session("Two"),
        lambda: Texts.continue_session(session.id, "Two"),
        session.resume_session,
        session.get_context,
        lambda: Texts.get_context(uuid4()),
    ):
        with pytest.raises(InputInvalid, match="no actor was passed"):
            action()
    assert Texts.select().count() == 1


def test_an_actor_for_a_model_without_owners_is_refused(Chat: Any) -> None:
    session = Chat.start_session("One", run=False)
    for action in ACTIONS.values():
        with pytest.raises(InputInvalid, match="no owner_attribute"):
            action(Chat, session.id, "ann")
    with pytest.raises(InputInvalid, match="no owner_attribute"):
        Chat.start_session("Two", actor="ann")
    assert Chat.select().count() == 1


class LosesItsWayAtFirst:
    """A model whose first reply of each turn does not fit; it waits until the heartbeat has beaten."""

    def __init__(self, database: Any) -> None:
        self.database = database

    def ask(self, request: Any) -> Reply:
        if "does not fit" in request.prompt[-1].content:
            return Reply('{"content":"ok"}')
        before, deadline = len(self.database.statements), time.monotonic() + 30
        while len(self.database.statements) == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(self.database.statements) > before, "the heartbeat never came"
        return Reply("not JSON")


def test_every_statement_of_every_action_names_the_owner(database: Any) -> None:
    field = pw.CharField(column_name="whose")
    options: Any = {"output_schema": Answer, "session": {"lease": 0.6}}
    Chat = owned(database, field, provider=LosesItsWayAtFirst(database), **options)
    database.statements.clear()
    session = Chat.start_session("One", actor="ann", idempotency_key="first")
    Chat.start_session("One", actor="ann", idempotency_key="first")
    session.continue_session("Two", actor="ann")
    Chat.continue_session(session.id, "Three", actor="ann", run=False)
    Chat.resume_session(session.id, actor="ann")
    with testing.script(Chat, [RuntimeError("down")]), pytest.raises(Exception, match="down"):
        session.continue_session("Four", actor="ann", idempotency_key="again")
    with testing.script(Chat, [Answer(content="ok")]):
        session.continue_session("Four", actor="ann", idempotency_key="again")
    with testing.crash_after(2):
        session.continue_session("Five", actor="ann")
    statements = list(database.statements)
    let_the_lease_run_out(Chat, session.id)
    database.statements.clear()
    session.continue_session("Six", actor="ann")
    session.get_context(actor="ann")
    statements += database.statements
    database.statements.clear()
    for action in ACTIONS.values():
        with pytest.raises(SessionNotFound):
            action(Chat, session.id, "bob")
    assert not any("owned_message" in sql for sql in database.statements), "bob comes to no message"
    statements += database.statements

    verbs = {sql.split()[0] for sql in statements}
    assert verbs == {"INSERT", "SELECT", "UPDATE"}
    for sql in statements:
        if not sql.startswith("INSERT"):
            condition = sql.partition(" WHERE ")[2]
            assert ("session_id" if "owned_message" in sql else "whose") in condition, sql


def test_a_lease_is_extended_for_the_owner_only(Texts: Any) -> None:
    from agentsession._store.declared import Declared
    from agentsession._store.session_store import open_session

    with testing.crash_after(1):
        Texts.start_session("One", actor="ann")
    before, record = rows(Texts), Texts.get()
    declared, claim = Declared.of(Texts), record.context["turn"]["claim"]
    assert not open_session(declared, record.id, "bob").extend(claim, 99.0)
    assert rows(Texts) == before
    assert open_session(declared, record.id, "ann").extend(claim, 99.0)
    until = Texts.get_by_id(record.id).context["turn"]["until"]
    assert until > record.context["turn"]["until"]


def test_only_actor_sets_the_owner(Texts: Any) -> None:
    for attributes in ({"owner": "bob"}, {"owner": "ann"}):
        with pytest.raises(InputInvalid, match="pass actor="):
            Texts.start_session("One", actor="ann", attributes=attributes)
    assert Texts.select().count() == 0


def test_the_owner_passed_by_its_column_name_is_refused(database: Any) -> None:
    case = of_records(database)
    with pytest.raises(InputInvalid, match="pass actor="):
        case.Chat.start_session("One", actor=case.ann, attributes={"owner_id": case.bob.id})
    assert case.Chat.select().count() == 0


def test_a_session_with_a_new_owner_belongs_to_that_owner(Texts: Any) -> None:
    session = Texts.start_session("One", actor="ann")
    Texts.update(owner="bob").execute()
    with pytest.raises(SessionNotFound):
        session.continue_session("Two", actor="ann")
    Texts.continue_session(session.id, "Two", actor="bob")
    assert len(Texts.get_context(session.id, actor="bob").messages) == 4


def test_a_turn_keeps_the_owner(case: Case) -> None:
    session = case.Chat.start_session("One", actor=case.ann)
    first = case.Chat.get_by_id(session.id).__data__["owner"]
    for actor in (case.ann, *case.same):
        case.Chat.continue_session(session.id, "Two", actor=actor)
    assert case.Chat.get_by_id(session.id).__data__["owner"] == first


@pytest.mark.parametrize("key", ["1abc", "1.0", "1 or 1=1"])
def test_a_text_that_begins_like_an_id_is_unknown(database: Any, key: str) -> None:
    """MariaDB takes '1abc' for 1."""
    connection = database

    @agent_session
    @agent(client="echo:", instruction="You help.")
    class Numbered(SessionActions, pw.Model):
        context = pw.JSONField(null=True)

        class Meta:
            database = connection

    database.create_tables([Numbered])
    assert Numbered.start_session("One").id == 1
    assert len(Numbered.get_context("1").messages) == 2
    for action in (Numbered.get_context, lambda key: Numbered.continue_session(key, "Two")):
        with pytest.raises(SessionNotFound):
            action(key)


def test_a_subclass_without_its_owner_is_refused_by_every_action(Texts: Any) -> None:
    class Nobodys(Texts):
        owner = None

    class Numbers(Texts):
        owner = pw.FloatField()

    key = Texts.start_session("One", actor="ann", run=False).id
    for model in (Nobodys, Numbers):
        for action in (*ACTIONS.values(), lambda model, key, actor: model.start_session("Two", actor=actor)):
            with pytest.raises(DslError, match="'owner'"):
                action(model, key, "ann")
    assert Texts.select().count() == 1
