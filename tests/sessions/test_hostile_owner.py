"""I10, I15: who is no owner, or almost one, or would be by SQL, sees nothing of others."""

from __future__ import annotations

from typing import Any

import peewee as pw
import pytest

from agentsession import InputInvalid, SessionNotFound
from tests.support.owned_models import (
    ACTIONS,
    Case,
    named,
    of_integers,
    of_names,
    of_records,
    of_text_keys,
    of_texts,
    of_uuids,
    owned,
    people,
    rows,
)

pytestmark = pytest.mark.matrix

NO_ACTORS = [True, False, 1.0, b"ann", ["ann"], {"id": 1}, object(), str, pw.SQL("1 or 1=1"), pw.fn.RANDOM()]


@pytest.mark.parametrize("make", [of_records, of_integers, of_uuids, of_texts, of_names], ids=named)
def test_a_value_that_cannot_own_a_session_is_not_an_actor(database: Any, make: Any) -> None:
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


def test_a_record_that_is_unsaved_or_of_another_model_is_not_an_actor(database: Any) -> None:
    case = of_records(database)
    Other = people(database, name="other")
    stranger = Other.create(id=case.ann.id)
    for actor in (stranger, type(case.ann)(), Other()):
        refused(case, actor, InputInvalid)


@pytest.mark.parametrize("actor", ["7abc", "7.5", "seven", "7 or 1=1"])
def test_a_text_owns_nothing_where_owners_are_numbers(database: Any, actor: str) -> None:
    """MariaDB takes '7abc' for 7."""
    refused(of_integers(database), actor, InputInvalid, SessionNotFound)


@pytest.mark.parametrize("actor", ["ann", "x" * 32])
def test_a_malformed_uuid_owns_nothing_where_owners_are_uuids(database: Any, actor: str) -> None:
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


def test_a_non_ascii_name_owns_its_sessions(Texts: Any) -> None:
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


def test_a_hostile_actor_sees_no_session_of_others(Texts: Any) -> None:
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


def test_a_hostile_actor_does_not_abort_the_callers_transaction(Texts: Any) -> None:
    database = Texts._meta.database
    session = Texts.start_session("One", actor="ann")
    for actor in HOSTILE.values():
        with database.atomic():
            Texts.update(status="pending").execute()
            with pytest.raises((SessionNotFound, InputInvalid)):
                Texts.get_context(session.id, actor=actor)
            Texts.update(status="marked").execute()
        assert Texts.get_by_id(session.id).status == "marked"
