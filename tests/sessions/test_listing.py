"""The list of sessions: its order, its pages, whose they are, and what is refused."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import peewee as pw
import pytest

from agentsession import InputInvalid, SessionActions, agent, agent_session
from agentsession.actions import alist_sessions, list_sessions
from tests.support.async_databases import run
from tests.support.models import chat_model
from tests.support.owned_models import KINDS, owned

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.layouts("document"),
]  # a list reads the columns of sessions, and no message

BEGAN = datetime(2026, 1, 2, 3, 4, 5)
TIMES = [BEGAN, None, BEGAN + timedelta(days=1), BEGAN, None, BEGAN - timedelta(days=400), BEGAN]


def filled(Chat: Any, keys: Callable[[int], Any] = lambda _: uuid4()) -> list[Any]:
    """Rows with these times, some of them equal or missing; gives their keys in the order of a list."""
    made = [(time, keys(number)) for number, time in enumerate(TIMES)]
    for time, key in made:
        Chat.insert(id=key, updated=time, status="completed", context={"v": 1}).execute()
    order = sorted(made, key=lambda row: (row[0] or datetime.min, row[1]), reverse=True)
    return [key for _, key in order]


def all_of(pages: list[list[Any]]) -> list[Any]:
    return [key for page in pages for key in page]


def pages(Chat: Any, limit: int, **options: Any) -> list[list[Any]]:
    found, before = [], None
    while True:
        page = list_sessions(Chat, limit=limit, before=before, **options)
        found.append([listed.id for listed in page.sessions])
        before = page.next
        if before is None:
            return found


def keyed(database: Any, key: Any, **options: Any) -> Any:
    connection, field = database, key

    @agent_session(updated_attribute="updated", **options)
    @agent(client="echo:", instruction="You help.")
    class Keyed(SessionActions, pw.Model):
        id = field
        context = pw.JSONField(null=True)
        updated = pw.DateTimeField(null=True)
        status = pw.CharField(null=True)

        class Meta:
            database = connection

    database.create_tables([Keyed])
    return Keyed


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_all_sessions_are_listed_once_the_newest_first(Chat: Any, limit: int) -> None:
    expected = filled(Chat)
    found = pages(Chat, limit)
    assert all_of(found) == expected
    assert all(len(page) == limit for page in found[:-1])
    assert found[-1]


KEYS: list[Any] = [
    (pw.AutoField, lambda number: number + 1),
    (pw.BigIntegerField, lambda number: 2**62 + number),
    (pw.CharField, lambda number: "Zaäb0 %"[number]),
    (pw.TextField, lambda number: f"{number}' or 1=1"),
]


@pytest.mark.backends("sqlite", "postgres")
@pytest.mark.parametrize("kind", KEYS, ids=lambda kind: kind[0].__name__)
def test_keys_of_each_type_are_paged(database: Any, kind: Any) -> None:
    field, keys = kind
    Keyed = keyed(database, field() if field is pw.AutoField else field(primary_key=True))
    expected = filled(Keyed, keys)
    assert sorted(all_of(pages(Keyed, 2))) == sorted(expected)
    assert all_of(pages(Keyed, 2)) == pages(Keyed, 100)[0]


def test_a_list_has_id_status_and_time(Chat: Any) -> None:
    session = Chat.start_session("Hello")
    (listed,) = list_sessions(Chat).sessions
    assert (listed.id, listed.status) == (session.id, "completed")
    assert listed.updated == Chat.get_by_id(session.id).updated


def test_a_model_without_a_status_is_listed_without(database: Any) -> None:
    Keyed = keyed(database, pw.AutoField())
    Keyed.start_session("Hello")
    (listed,) = list_sessions(Keyed).sessions
    assert listed.status is None


def test_a_list_without_a_status_reads_no_context(database: Any) -> None:
    Keyed = keyed(database, pw.AutoField())
    database.statements.clear()
    list_sessions(Keyed)
    assert "context" not in "".join(database.statements)


@pytest.mark.backends("sqlite")
def test_only_the_contexts_of_running_turns_are_read(Chat: Any) -> None:
    filled(Chat)
    running = {"v": 1, "turn": {"id": "t", "status": "running", "until": 9e9, "lease": 9e9}}
    Chat.insert(id=uuid4(), updated=BEGAN, status="running", context=running).execute()
    read = []
    database = Chat._meta.database
    for name in ("json_valid", "json_extract"):
        database.connection().create_function(name, -1, lambda text, *path: read.append(text) or 1)
    assert len(list_sessions(Chat).sessions) == len(TIMES) + 1
    database.close()
    assert {json.loads(text)["turn"]["id"] for text in read} == {"t"}


def test_a_session_that_continues_between_two_pages_is_not_listed_twice(Chat: Any) -> None:
    expected = filled(Chat)
    first = list_sessions(Chat, limit=3)
    Chat.update(updated=BEGAN + timedelta(days=900)).where(Chat.id == expected[0]).execute()
    Chat.delete().where(Chat.id == expected[2]).execute()
    rest = list_sessions(Chat, limit=10, before=first.next)
    assert [listed.id for listed in rest.sessions] == expected[3:]
    assert rest.next is None


@pytest.mark.parametrize("kind", KINDS)
def test_an_actor_sees_only_their_own_sessions(database: Any, kind: Any) -> None:
    case = kind(database)
    Chat = listing_what_is_owned(case.Chat)
    mine = {Chat.start_session("Mine", actor=case.ann).id for _ in range(3)}
    theirs = Chat.start_session("Theirs", actor=case.bob).id
    for actor in (case.ann, *case.same):
        assert set(all_of(pages(Chat, 2, actor=actor))) == mine
    assert pages(Chat, 2, actor=case.bob) == [[theirs]]
    with pytest.raises(InputInvalid, match="no actor"):
        list_sessions(Chat)


def listing_what_is_owned(Owned: Any) -> Any:
    """The same table with a time; the options are those of a subclass."""
    field = pw.DateTimeField(null=True)

    @agent_session(status_attribute="status", owner_attribute="owner", updated_attribute="updated")
    class Timed(Owned):
        updated = field

        class Meta:
            table_name = "timed"

    Timed._meta.database.create_tables([Timed])
    return Timed


def test_the_owner_is_compared_exactly(database: Any) -> None:
    Chat = listing_what_is_owned(owned(database, pw.CharField()))
    Chat.start_session("Hello", actor="ann")
    for actor in ("Ann", "ann ", "a%", "' or 1=1 --"):
        assert list_sessions(Chat, actor=actor).sessions == ()


ODD = [
    "",
    "?",
    "é",
    "bm8",
    "bnVsbA",
    urlsafe_b64encode(b"[null,null]").decode(),
    urlsafe_b64encode(b'[null,{"a":1}]').decode(),
    urlsafe_b64encode(b'["2026-01-01T00:00:00Z",1]').decode(),
    urlsafe_b64encode(b'["2026-01-01T00:00:00","x"]').decode(),
    urlsafe_b64encode(b'["2026",1]').decode(),
    urlsafe_b64encode(b"[null," + b"9" * 80 + b"]").decode(),
    urlsafe_b64encode(b'[null,"\\u0000"]').decode(),
    "W" * 100_000,
]


@pytest.mark.parametrize("before", ODD, ids=lambda before: before[:30])
@pytest.mark.parametrize("field", [pw.AutoField, pw.UUIDField])
@pytest.mark.backends("sqlite", "postgres")
def test_an_invalid_cursor_of_a_page_is_refused(database: Any, field: Any, before: str) -> None:
    Keyed = keyed(database, field(primary_key=True))
    with pytest.raises(InputInvalid, match="before is not the `next` of a page"):
        list_sessions(Keyed, before=before)


def test_a_cursor_beyond_the_largest_integer_is_valid(database: Any) -> None:
    Keyed = keyed(database, pw.AutoField())
    filled(Keyed, lambda number: number + 1)
    for number in (2**31, 2**63, 10**39):
        beyond = urlsafe_b64encode(f"[null,{number}]".encode()).decode()
        assert len(list_sessions(Keyed, before=beyond).sessions) == TIMES.count(None)


@pytest.mark.parametrize("limit", [0, -1, 1001, True, "5", None, 2.0])
def test_an_invalid_limit_is_refused(Chat: Any, limit: Any) -> None:
    with pytest.raises(InputInvalid, match="limit is not a number from 1 to 1000"):
        list_sessions(Chat, limit=limit)


def test_a_model_without_a_time_says_what_to_declare(database: Any) -> None:
    Chat = owned(database, pw.CharField())
    with pytest.raises(InputInvalid) as raised:
        list_sessions(Chat, actor="ann")
    assert raised.value.fix == '@agent_session(updated_attribute="updated")'


def test_a_time_that_the_models_own_default_wrote_is_read(database: Any) -> None:
    Keyed = keyed(database, pw.AutoField())
    if isinstance(database, pw.SqliteDatabase):
        Keyed.insert(updated="2026-01-02 03:04:05+02:00").execute()
        assert list_sessions(Keyed).sessions[0].updated == datetime(2026, 1, 2, 1, 4, 5)


def test_a_list_is_read_inside_a_transaction(Chat: Any) -> None:
    with Chat._meta.database.atomic():
        filled(Chat)
        assert len(list_sessions(Chat).sessions) == len(TIMES)


def test_a_list_returns_its_connection(Chat: Any) -> None:
    database = Chat._meta.database
    filled(Chat)
    database.close()
    list_sessions(Chat)
    assert database.is_closed()


def test_a_list_is_read_on_an_event_loop(Chat: Any) -> None:
    expected = filled(Chat)

    async def scenario() -> list[UUID]:
        first = await alist_sessions(Chat, limit=4)
        rest = await alist_sessions(Chat, limit=4, before=first.next)
        return [listed.id for page in (first, rest) for listed in page.sessions]

    assert asyncio.run(scenario()) == expected


def test_a_list_is_read_on_an_asynchronous_database(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        Chat = await db.run(chat_model, db)
        expected = await db.run(filled, Chat)
        first = await alist_sessions(Chat, limit=4)
        rest = await alist_sessions(Chat, limit=4, before=first.next)
        assert [listed.id for page in (first, rest) for listed in page.sessions] == expected
        beyond = urlsafe_b64encode(f'[null,"{UUID(int=0)}"]'.encode()).decode()
        assert (await alist_sessions(Chat, before=beyond)).sessions == ()
        with pytest.raises(InputInvalid, match="asynchronous database"):
            list_sessions(Chat)

    run(database_url, scenario)


def test_any_integer_is_a_valid_cursor_on_an_asynchronous_database(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        Keyed = await db.run(keyed, db, pw.AutoField())
        await db.run(filled, Keyed, lambda number: number + 1)
        for number in (2**31, 2**63, 10**39):
            beyond = urlsafe_b64encode(f"[null,{number}]".encode()).decode()
            assert len((await alist_sessions(Keyed, before=beyond)).sessions) == TIMES.count(None)

    run(database_url, scenario)
