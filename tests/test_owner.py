"""A session belongs to its owner: whoever else asks for it is told what is told of an unknown id."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

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
from tests.models import Answer, let_the_lease_run_out


def owned(database: Any, owner: Any, session: Any = None, **options: Any) -> Any:
    """A session model whose sessions have an owner."""
    connection, field = database, owner
    declared = {"status_attribute": "status", "owner_attribute": "owner"} | (session or {})

    @agent_session(**declared)
    @agent(**({"client": "echo:", "instruction": "You help."} | options))
    class Owned(SessionActions, pw.Model):
        id = pw.UUIDField(primary_key=True, default=uuid4)
        owner = field
        context = pw.JSONField(null=True)
        status = pw.CharField(default="pending")

        class Meta:
            table_name = "owned"
            database = connection

    database.create_tables([Owned])
    return Owned


def people(database: Any, key: Any = None, name: str = "person") -> Any:
    """A table of owners."""
    connection, field, table = database, key or pw.AutoField(), name

    class Person(pw.Model):
        id = field

        class Meta:
            table_name = table
            database = connection

    database.create_tables([Person])
    return Person


@dataclass
class Case:
    """A model with an owner, and two actors; `same` are other forms of the first."""

    Chat: Any
    ann: Any
    bob: Any
    same: tuple[Any, ...] = ()


def of_records(database: Any) -> Case:
    Person = people(database)
    ann, bob = Person.create(), Person.create()
    field = pw.ForeignKeyField(Person, backref="+")
    return Case(owned(database, field), ann, bob, (ann.id, str(ann.id)))


def of_text_keys(database: Any) -> Case:
    Person = people(database, pw.CharField(max_length=40, primary_key=True))
    ann, bob = (Person.create(id=name) for name in ("ann", "bob"))
    return Case(owned(database, pw.ForeignKeyField(Person, backref="+")), ann, bob, ("ann",))


def of_profiles(database: Any) -> Case:
    """The owner's own key refers to another table."""
    Person = people(database)
    Profile = people(database, pw.ForeignKeyField(Person, primary_key=True, backref="+"), "profile")
    ann, bob = (Profile.create(id=Person.create()) for _ in range(2))
    return Case(owned(database, pw.ForeignKeyField(Profile, backref="+")), ann, bob, (ann._pk,))


def of_integers(database: Any) -> Case:
    return Case(owned(database, pw.IntegerField()), 7, 8, ("7",))


def of_uuids(database: Any) -> Case:
    ann, bob = UUID(int=10**30), UUID(int=11**30)
    return Case(owned(database, pw.UUIDField()), ann, bob, (str(ann), ann.hex, ann.hex.upper()))


def of_texts(database: Any) -> Case:
    return Case(owned(database, pw.CharField()), "ann", "bob")


class Name(pw.CharField):
    """A field of the user's own that converts nothing."""


def of_names(database: Any) -> Case:
    return Case(owned(database, Name()), "ann", "bob")


KINDS = [of_records, of_text_keys, of_profiles, of_integers, of_uuids, of_texts]


def named(make: Any) -> str:
    return str(make.__name__)


@pytest.fixture(params=KINDS, ids=named)
def case(request: Any, database: Any) -> Case:
    made: Case = request.param(database)
    return made


@pytest.fixture
def Texts(database: Any) -> Any:
    return owned(database, pw.CharField())


def rows(Chat: Any) -> Any:
    return sorted(Chat.select().tuples(), key=str)


Action = Callable[[Any, Any, Any], Any]

ACTIONS: dict[str, Action] = {
    "continue": lambda Chat, session, actor: Chat.continue_session(session, "More", actor=actor),
    "continue, later": lambda Chat, session, actor: Chat.continue_session(
        session, "More", actor=actor, run=False
    ),
    "continue, keyed": lambda Chat, session, actor: Chat.continue_session(
        session, "More", actor=actor, idempotency_key="k"
    ),
    "continue, on a record": lambda Chat, session, actor: as_record(Chat, session).continue_session(
        "More", actor=actor
    ),
    "resume": lambda Chat, session, actor: Chat.resume_session(session, actor=actor),
    "resume, on a record": lambda Chat, session, actor: as_record(Chat, session).resume_session(actor=actor),
    "context": lambda Chat, session, actor: Chat.get_context(session, actor=actor),
    "context, on a record": lambda Chat, session, actor: as_record(Chat, session).get_context(actor=actor),
}


def as_record(Chat: Any, session: Any) -> Any:
    return session if isinstance(session, Chat) else Chat(id=session)


def test_an_actor_works_on_sessions_of_its_own(case: Case) -> None:
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


def test_another_actor_is_told_what_is_told_of_an_unknown_id(case: Case) -> None:
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
def test_no_actor_is_the_programs_mistake_whatever_the_id(Texts: Any, actor: Any) -> None:
    session = Texts.start_session("One", actor="ann", run=False)
    before = rows(Texts)
    for target in (session.id, uuid4(), session, Texts(id=uuid4()), Texts.get_by_id(session.id)):
        for action in ACTIONS.values():
            with pytest.raises(InputInvalid, match="no actor was given"):
                action(Texts, target, actor)
    with pytest.raises(InputInvalid, match="no actor was given"):
        Texts.start_session("Two", actor=actor)
    assert rows(Texts) == before


def test_the_actor_is_a_keyword_that_may_not_be_left_out(Texts: Any) -> None:
    session = Texts.start_session("One", actor="ann", run=False)
    for action in (
        lambda: Texts.start_session("Two"),
        lambda: session.continue_session("Two"),
        lambda: Texts.continue_session(session.id, "Two"),
        session.resume_session,
        session.get_context,
        lambda: Texts.get_context(uuid4()),
    ):
        with pytest.raises(InputInvalid, match="no actor was given"):
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


NO_ACTORS = [True, False, 1.0, b"ann", ["ann"], {"id": 1}, object(), str, pw.SQL("1 or 1=1"), pw.fn.RANDOM()]


@pytest.mark.parametrize("make", [of_records, of_integers, of_uuids, of_texts, of_names], ids=named)
def test_what_cannot_own_anything_is_no_actor(database: Any, make: Any) -> None:
    case = make(database)
    for actor in NO_ACTORS:
        refused(case, actor, InputInvalid)


def refused(case: Case, actor: Any, *errors: type[Exception]) -> None:
    """This actor can begin nothing, and sees nothing of the first one's: the errors that may say so."""
    session = case.Chat.start_session("One", actor=case.ann, run=False)
    before = rows(case.Chat)
    for action in ACTIONS.values():
        with pytest.raises(errors):
            action(case.Chat, session.id, actor)
    with pytest.raises(InputInvalid):
        case.Chat.start_session("Two", actor=actor)
    assert rows(case.Chat) == before


def test_a_record_of_another_model_or_one_that_is_not_saved_is_no_actor(database: Any) -> None:
    case = of_records(database)
    Other = people(database, name="other")
    stranger = Other.create(id=case.ann.id)
    for actor in (stranger, type(case.ann)(), Other()):
        refused(case, actor, InputInvalid)


@pytest.mark.parametrize("actor", ["7abc", "7.5", "seven", "7 or 1=1"])
def test_a_text_that_is_no_number_owns_nothing_where_owners_are_numbers(database: Any, actor: str) -> None:
    """MariaDB takes '7abc' for 7."""
    refused(of_integers(database), actor, InputInvalid, SessionNotFound)


@pytest.mark.parametrize("actor", ["ann", "x" * 32])
def test_a_text_that_is_no_uuid_owns_nothing_where_owners_are_uuids(database: Any, actor: str) -> None:
    refused(of_uuids(database), actor, InputInvalid, SessionNotFound)


LIKE_ANN = ["Ann", "ANN", "ann ", " ann", "ann\t", "ánn", "an", "ann%", "a_n", "%", "ａnn", "ann\u200b"]


@pytest.mark.parametrize("make", [of_texts, of_text_keys], ids=named)
def test_names_that_are_almost_the_same_are_other_owners(database: Any, make: Any) -> None:
    Chat = make(database).Chat
    session = Chat.start_session("One", actor="ann", run=False)
    before = rows(Chat)
    for actor in LIKE_ANN:
        for action in ACTIONS.values():
            with pytest.raises(SessionNotFound):
                action(Chat, session.id, actor)
    assert rows(Chat) == before
    assert len(Chat.get_context(session.id, actor="ann").messages) == 1


def test_a_name_beyond_ascii_owns_its_sessions(Texts: Any) -> None:
    for name in ("josé", "Ünal", "ß", "日本"):
        session = Texts.start_session("One", actor=name)
        session.continue_session("Two", actor=name)
        assert len(Texts.get_context(session.id, actor=name).messages) == 4


@pytest.mark.backends("mariadb")
def test_a_name_is_found_in_a_column_of_another_character_set(database: Any) -> None:
    Chat = owned(database, pw.CharField())
    database.execute_sql("alter table owned modify owner varchar(255) character set latin1 not null")
    session = Chat.start_session("One", actor="josé")
    session.continue_session("Two", actor="josé")
    for other in ("jose", "JOSÉ", "josé "):
        with pytest.raises(SessionNotFound):
            Chat.get_context(session.id, actor=other)


HOSTILE = {
    "quotes": "' or 1=1 --",
    "double quotes": '" or ""="',
    "percent": "%",
    "format": "%s %(x)s {0}",
    "backslash": "\\",
    "backslash and quote": "\\' or 1=1 -- ",
    "NUL": "ann\0",
    "lone surrogate": "ann\ud800",
    "very long": "ann" * 5_000,
    "at the length": "a" * 255,
    "number": 10**40,
}


def test_a_hostile_actor_sees_nothing_of_others(Texts: Any) -> None:
    session = Texts.start_session("One", actor="ann", run=False)
    before = rows(Texts)
    for actor in HOSTILE.values():
        for action in ACTIONS.values():
            with pytest.raises((SessionNotFound, InputInvalid)):
                action(Texts, session.id, actor)
    assert rows(Texts) == before


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_actor_owns_what_it_starts_or_starts_nothing(Texts: Any, hostile: str) -> None:
    actor = HOSTILE[hostile]
    Texts.start_session("One", actor="ann")
    try:
        session = Texts.start_session("Two", actor=actor)
    except (InputInvalid, pw.DataError):
        assert hostile in ("NUL", "lone surrogate", "very long")
        assert Texts.select().count() == 1
    else:
        assert len(session.continue_session("Three", actor=actor).get_context(actor=actor).messages) == 4
        assert Texts.get_by_id(session.id).owner == str(actor)
        with pytest.raises(SessionNotFound):
            Texts.get_context(session.id, actor="ann")


def test_a_hostile_actor_aborts_no_transaction_of_the_caller(Texts: Any) -> None:
    database = Texts._meta.database
    session = Texts.start_session("One", actor="ann")
    for actor in HOSTILE.values():
        with database.atomic():
            Texts.update(status="pending").execute()
            with pytest.raises((SessionNotFound, InputInvalid)):
                Texts.get_context(session.id, actor=actor)
            Texts.update(status="marked").execute()
        assert Texts.get_by_id(session.id).status == "marked"


class LosesItsWayAtFirst:
    """A model whose first reply of each turn does not fit; it waits until the heartbeat has beaten."""

    def __init__(self, database: Any) -> None:
        self.database = database

    def ask(self, request: Any) -> Reply:
        if "does not fit" in request.view[-1].content:
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
    for action in ACTIONS.values():
        with pytest.raises(SessionNotFound):
            action(Chat, session.id, "bob")
    statements += database.statements

    verbs = {sql.split()[0] for sql in statements}
    assert verbs == {"INSERT", "SELECT", "UPDATE"}
    for sql in statements:
        if not sql.startswith("INSERT"):
            condition = sql.partition(" WHERE ")[2]
            assert "whose" in condition, sql


def test_a_lease_is_extended_for_the_owner_only(Texts: Any) -> None:
    from agentsession import info
    from agentsession.store.opened import open_session

    with testing.crash_after(1):
        Texts.start_session("One", actor="ann")
    (row,) = rows(Texts)
    record = Texts.get_by_id(row[0])
    options, claim = info.session_options(Texts), record.context["turn"]["claim"]
    assert not open_session(Texts, options, record.id, "bob").extend(claim, 99.0)
    assert rows(Texts) == [row]
    assert open_session(Texts, options, record.id, "ann").extend(claim, 99.0)
    until = Texts.get_by_id(record.id).context["turn"]["until"]
    assert until > record.context["turn"]["until"]


def test_the_owner_is_stored_by_actor_and_by_nothing_else(Texts: Any) -> None:
    for attributes in ({"owner": "bob"}, {"owner": "ann"}):
        with pytest.raises(InputInvalid, match="pass actor="):
            Texts.start_session("One", actor="ann", attributes=attributes)
    assert Texts.select().count() == 0


def test_the_owner_given_by_its_column_is_refused_too(database: Any) -> None:
    case = of_records(database)
    with pytest.raises(InputInvalid, match="pass actor="):
        case.Chat.start_session("One", actor=case.ann, attributes={"owner_id": case.bob.id})
    assert case.Chat.select().count() == 0


def test_a_session_that_was_given_away_is_the_new_owners(Texts: Any) -> None:
    session = Texts.start_session("One", actor="ann")
    Texts.update(owner="bob").execute()
    with pytest.raises(SessionNotFound):
        session.continue_session("Two", actor="ann")
    Texts.continue_session(session.id, "Two", actor="bob")
    assert len(Texts.get_context(session.id, actor="bob").messages) == 4


def test_the_owner_stays_when_a_session_goes_on(case: Case) -> None:
    session = case.Chat.start_session("One", actor=case.ann)
    first = case.Chat.get_by_id(session.id).__data__["owner"]
    for actor in (case.ann, *case.same):
        case.Chat.continue_session(session.id, "Two", actor=actor)
    assert case.Chat.get_by_id(session.id).__data__["owner"] == first


@pytest.mark.parametrize("key", ["1abc", "1.0", "1 or 1=1"])
def test_a_text_that_only_begins_like_an_id_is_unknown(database: Any, key: str) -> None:
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
