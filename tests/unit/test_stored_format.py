"""I8: what is stored is read back equal; older maps load; what cannot be read is a typed error."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import Any

import peewee as pw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from agentsession import AgentSessionError, ContextUnreadable, InputInvalid, LayoutMismatch, info, testing
from agentsession._json_values import MAX_DEPTH, with_portable_numbers
from agentsession._store import format
from agentsession._store.declared import Declared
from agentsession._store.new_session import new_session
from agentsession._store.session_store import StoredSession
from agentsession._turn.active_turn import apply_change
from agentsession._turn.effects import Change
from agentsession._turn_state import Turn, Usage
from agentsession.context import VERSION, Context, Message
from tests.support.models import chat_model, kept, put_raw, raw_text, stored, texts

pytestmark = pytest.mark.matrix("full")

slow_fixture = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0")).filter(str.strip)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab.$\"'[]# \\é", max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


class Free(BaseModel):
    data: Any


@slow_fixture
@given(JSON, WORDS)
def test_every_input_and_reply_is_read_back_as_the_same_value(database: Any, value: Any, reply: str) -> None:
    Chat = chat_model(database, input_schema=Free)
    with testing.script(Chat, [reply, "next"]):
        session = Chat.start_session({"data": value})
        user, answer = Chat.get_context(session.id).messages
        assert user.content == {"data": value}
        assert user.parse(Free).data == value
        assert answer.content == reply
        Chat.continue_session(session.id, {"data": 1})
    assert Chat.get_context(session.id).messages[:2] == (user, answer)
    assert stored(session)["messages"][0]["content"] == {"data": value}


@pytest.mark.parametrize(
    "text",
    [
        "quote ' \" \\ ; -- drop table chat",
        "{{ x }} {{{y}}}",
        "\u2028\ufeff\U0001f600",
        "x" * 1_000_000,
    ],
    ids=["quotes", "template", "odd", "1MB"],
)
def test_odd_text_is_kept(Chat: Any, text: str) -> None:
    with testing.script(Chat, [text, "ok"]) as asked:
        session = Chat.start_session(text)
        Chat.continue_session(session.id, text)
    assert texts(Chat, session) == [text, text, text, "ok"]
    assert asked[1][1].content == text


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("half \ud800 pair", "Free: data holds a lone surrogate"),
        (["NUL \0 inside"], r"Free: data\[0\] holds a NUL character"),
        ({"k\0": 1}, "data: the key 'k.*x00' holds a NUL character"),
        ([1, math.nan], r"data\[1\] is nan"),
        ({"a.b": math.inf}, "data.a.b is inf"),
        ({"k\udfff": 1}, "data: the key .* holds a lone surrogate"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_named_before_anything_is_stored(
    database: Any, value: Any, place: str
) -> None:
    Chat = chat_model(database, input_schema=Free)
    session = Chat.start_session({"data": 1})
    before = stored(session)
    with testing.script(Chat, []) as asked:
        for action in (Chat.start_session, session.continue_session):
            with pytest.raises(InputInvalid, match=place):
                action({"data": value})
    assert asked == []
    assert stored(session) == before
    assert Chat.select().count() == 1


def test_huge_numbers_are_read_back_as_the_same_values(database: Any) -> None:
    """PostgreSQL gives 1e16 back without an exponent."""
    Chat = chat_model(database, input_schema=Free)
    numbers = [10**40, -(2**64), 2**53 + 1, 1e16, 1e23, 1.7976931348623157e308, -1e17, 5e-324, 0.1, 1.0]
    session = Chat.start_session({"data": numbers})
    message = Chat.get_context(session).messages[0]
    assert message.content == {"data": numbers}
    assert message.parse(Free).data == numbers


def test_nesting_beyond_what_every_database_takes_is_refused(database: Any) -> None:
    Chat = chat_model(database, input_schema=Free)
    deep: Any = 1
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    Chat.start_session({"data": deep})
    with pytest.raises(InputInvalid, match="nested deeper"):
        Chat.start_session({"data": [deep]})
    bottomless: Any = []
    bottomless.append(bottomless)
    with pytest.raises(InputInvalid):
        Chat.start_session({"data": bottomless})


def test_a_reply_with_half_a_surrogate_pair_or_nul_is_mended(Chat: Any) -> None:
    with testing.script(Chat, ["a\ud800b\ud83d\ude00\0c"]):
        session = Chat.start_session("Hi")
    assert session.last_result.text == texts(Chat, session)[1] == "a\ufffdb\U0001f600\ufffdc"


@pytest.mark.parametrize(
    ("old", "said"),
    [
        (None, []),
        ("null", []),
        ("{}", []),
        ('{"messages": null}', []),
        (
            '{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U", "x": 1},'
            ' {"role": "assistant", "content": null}], "metadata": {"m": 1},'
            ' "input": {"message": "U"}, "own": [1]}',
            ["S", "U", ""],
        ),
    ],
)
def test_maps_of_before_load_and_are_upgraded_at_the_next_turn(Chat: Any, old: Any, said: list[str]) -> None:
    """With messages they are documents, which a model of rows refuses."""
    with Chat._meta.database.connection_context():
        record = Chat.create()
        put_raw(Chat, old)
    if said and Chat._meta.database.layout == "rows":
        before = raw_text(Chat)
        for action in (Chat.get_context, lambda key: Chat.continue_session(key, "Next")):
            with testing.script(Chat, []), pytest.raises(LayoutMismatch):
                action(record.id)
        assert raw_text(Chat) == before
        return
    assert texts(Chat, record.id) == said
    before = Chat.get_context(record.id)
    with testing.script(Chat, ["ok"]) as asked:
        Chat.continue_session(record.id, "Next")
    assert texts(Chat, record.id) == [*said, "Next", "ok"]
    assert Chat.get_context(record.id).messages[: len(said)] == before.messages
    assert asked[0][-1].content == "Next"
    now = stored(record)
    assert (now["v"], now["revision"], now["layout"]) == (VERSION, 2, Chat._meta.database.layout)
    if old and "own" in old:
        assert (now["own"], now["input"], now["metadata"]) == ([1], {"message": "U"}, {"m": 1})
        assert now["messages"][1]["x"] == 1
        assert "S" not in [shown.content for shown in asked[0]]


def test_unknown_keys_survive_a_turn(Chat: Any) -> None:
    """A message that is a row has the columns of its table, and no others."""
    session = Chat.start_session("Hi")
    is_document = Chat._meta.database.layout == "document"
    with Chat._meta.database.connection_context():
        context = kept(session)
        context["mine"] = {"a": [1]}
        if is_document:
            context["messages"][0]["mine"] = 7
        Chat.update(context=context).execute()
    session.continue_session("More")
    assert kept(session)["mine"] == {"a": [1]}
    assert not is_document or kept(session)["messages"][0]["mine"] == 7
    assert session.context == kept(session)


NEWER = f"version {VERSION + 1}, this package reads versions up to {VERSION}"

UNREADABLE = [
    ("[]", "a JSON array, not an object"),
    ("5", "a JSON number, not an object"),
    ('"text"', "a JSON string, not an object"),
    ("true", "a JSON boolean, not an object"),
    ("{broken", "is not JSON"),
    (f'{{"v": {VERSION + 1}, "messages": []}}', NEWER),
    ('{"v": "1"}', "version '1'"),
    ('{"v": 1, "layout": "tree", "revision": 1}', "layout 'tree'"),
    ('{"v": 1, "layout": "rows", "revision": 1}', "no count of messages"),
    ('{"v": 1, "revision": "many", "messages": []}', "revision"),
    ('{"v": 1, "revision": 1, "messages": [{"id": "x"}]}', "messages"),
    ('{"v": 1, "revision": 1, "messages": 7}', "messages"),
    ('{"v": 1, "revision": 1, "messages": [], "turn": {"id": "x"}}', "turn"),
    ('{"v": 1, "revision": 1}', "no list of messages"),
    ('{"v": 1}', "no revision number"),
    ('{"v": 1, "revision": null, "messages": []}', "no revision number"),
    ('{"v": 1, "revision": -1, "messages": []}', "no revision number"),
    ('{"v": 1, "revision": 99999999999999999999, "messages": []}', "no revision number"),
    ('{"v": 1, "revision": 1, "messages": [], "metadata": "\\ud800"}', "lone surrogate"),
    ('{"messages": 7}', "is not a list of objects"),
    ('{"messages": [7]}', "is not a list of objects"),
    ('{"messages": [{"role": "user", "content": "a", "metadata": [1]}]}', "the metadata of message 0"),
    ('{"v": null, "messages": []}', "version None"),
    ('{"messages": [{"content": "no role"}]}', "role"),
    ('{"revision": 7}', "no version but the key 'revision'"),
]

SERVERS_REFUSE = ("is not JSON", "lone surrogate")


HEAD = '{"v": 1, "revision": 1, "layout": "rows", "count": 0, "turns": 0'

UNREADABLE_HEADS = [
    ("[]", "a JSON array, not an object"),
    (f'{{"v": {VERSION + 1}, "layout": "rows"}}', NEWER),
    ('{"v": 1, "layout": "rows", "revision": null}', "no revision number"),
    ('{"v": 1, "layout": "rows", "revision": 1}', "no count of messages"),
    ('{"v": 1, "layout": "rows", "revision": 1, "count": -1, "turns": 0}', "no count of messages"),
    (HEAD + ', "turn": {"id": "x"}}', "turn"),
    (HEAD + ', "metadata": [1]}', "metadata"),
    (HEAD + ', "instruction_args": 7}', "instruction_args"),
]


@pytest.mark.layouts("document")
@pytest.mark.parametrize(("text", "said"), UNREADABLE)
def test_an_unreadable_context_is_refused_and_left_unchanged(Chat: Any, text: str, said: str) -> None:
    if said in SERVERS_REFUSE and not isinstance(Chat._meta.database, pw.SqliteDatabase):
        pytest.skip("the server does not store it")
    refuse_and_leave(Chat, text, said)


@pytest.mark.layouts("rows")
@pytest.mark.parametrize(("text", "said"), UNREADABLE_HEADS)
def test_a_head_that_cannot_be_read_is_refused_and_left_as_it_is(Chat: Any, text: str, said: str) -> None:
    refuse_and_leave(Chat, text, said)


def refuse_and_leave(Chat: Any, text: str, said: str) -> None:
    database = Chat._meta.database
    with database.connection_context():
        record = Chat.create()
        put_raw(Chat, text)
        as_stored = raw_text(Chat)
    for action in (
        lambda: Chat.get_context(record.id),
        lambda: Chat.continue_session(record.id, "Hi"),
        lambda: Chat.resume_session(record.id),
    ):
        with pytest.raises(ContextUnreadable, match=said):
            action()
    assert raw_text(Chat) == as_stored


@settings(deadline=None)
@given(
    st.text()
    | JSON.map(json.dumps)
    | st.dictionaries(
        st.sampled_from(["v", "revision", "layout", "messages", "metadata", "instruction_args", "turn", "x"]),
        JSON | st.just(1) | st.just([]) | st.just({}),
    ).map(json.dumps)
)
def test_the_reader_gives_a_value_or_a_typed_error(text: str) -> None:
    try:
        map_ = format.decode(text, "test")
        context = format.convert(map_, Context, "test")
    except AgentSessionError:
        return
    assert isinstance(context, Context)


MESSAGES = st.builds(
    Message,
    id=WORDS,
    turn=WORDS,
    role=st.sampled_from(["user", "assistant"]),
    content=WORDS | st.dictionaries(WORDS, JSON.map(with_portable_numbers), max_size=2),
    metadata=st.dictionaries(WORDS, JSON.map(with_portable_numbers), max_size=2),
)
TURNS = st.builds(
    Turn,
    id=WORDS,
    status=WORDS,
    usage=st.builds(Usage, st.integers(0, 9)),
    claim=st.none() | WORDS,
    since=st.none() | st.floats(0, 9),
)


@slow_fixture
@given(
    st.lists(MESSAGES, min_size=1, max_size=3),
    st.lists(
        st.tuples(TURNS, st.lists(MESSAGES, max_size=2), JSON.map(with_portable_numbers), st.booleans()),
        max_size=3,
    ),
)
def test_the_change_in_sql_and_the_change_in_memory_are_the_same(
    database: Any, first: list[Message], changes: Any
) -> None:
    Chat = chat_model(database)
    new = new_session(Declared.of(Chat), {}, None, None)
    new.insert(Change(Turn("t", "running"), tuple(first), instruction_args={"a": 1}))
    session = StoredSession(Declared.of(Chat), new.key)
    for turn, more, args, drops in changes:
        before = session.load().context
        opening, last = before.messages[0].id, before.messages[-1].id
        new_args = None if args is None else {"args": args}
        set_ = {opening: {"set": args}}
        change = Change(turn, tuple(more), set_, new_args, last if drops and last != opening else None)
        assert session.claim(before.revision, change)
        assert kept(session.record) == session.map == session.record.context
        assert session.load().context.messages == apply_change(before, change).messages


def test_keys_without_a_value_are_absent_and_nothing_secret_is_stored(database: Any) -> None:
    Chat = chat_model(
        database, client=("echo:", {"api_key": "SECRET"}), instruction="The hidden instruction."
    )
    session = Chat.start_session("Hi")
    text = raw_text(Chat)
    assert "null" not in text
    assert "SECRET" not in text
    assert "hidden instruction" not in text
    own = {"document": {"messages"}, "rows": {"count", "turns", "size", "reply"}}[database.layout]
    assert set(kept(session)) == {"v", "revision", "layout", "metadata", "instruction_args", "turn"} | own
    assert set(stored(session)["messages"][0]) == {"id", "turn", "role", "content", "metadata"}
    assert "claim" not in stored(session)["turn"]


@pytest.mark.backends("sqlite")
def test_a_context_that_the_database_reads_in_another_way_never_loops(Chat: Any) -> None:
    """msgspec takes the last of two equal keys, SQLite the first."""
    own = {"document": '"messages":[]', "rows": '"count":0,"turns":0'}[layout := Chat._meta.database.layout]
    twice = f'{{"v":{VERSION},"revision":1,"revision":2,"layout":"{layout}",{own}}}'
    record = Chat.create()
    put_raw(Chat, twice)
    with pytest.raises(ContextUnreadable, match="a write was refused"):
        Chat.continue_session(record.id, "Hi")
    assert raw_text(Chat) == twice


@pytest.mark.layouts("document")
def test_an_upgrade_does_not_overwrite_what_was_written_meanwhile(Chat: Any) -> None:
    from agentsession._drive.stepper import after_effect
    from agentsession._turn.effects import Load

    def old(*words: str) -> str:
        return json.dumps({"messages": [{"role": "user", "content": each} for each in words]})

    def meanwhile(effect: Any) -> None:
        if isinstance(effect, Load):
            put_raw(Chat, old("one", "two"))

    record = Chat.create()
    put_raw(Chat, old("one"))
    token = after_effect.set(meanwhile)
    Chat.continue_session(record.id, "three")
    after_effect.reset(token)
    assert texts(Chat, record.id)[:3] == ["one", "two", "three"]


@pytest.mark.layouts("document")
def test_ids_of_old_messages_are_kept_in_their_metadata(Chat: Any) -> None:
    record = Chat.create()
    old = '{"messages": [{"id": "mine", "turn": 7, "role": "user", "content": "a"}]}'
    put_raw(Chat, old)
    (message,) = Chat.get_context(record).messages
    assert (message.id, message.metadata) == ("old-1:0", {"old_id": "mine", "old_turn": 7})


COLD = """
import os, sys, threading
import msgspec
from agentsession.context import Attempt, Context
sys.setswitchinterval(1e-6)
for _ in range(8):  # each has all imported, and no type used yet
    child = os.fork()
    if child == 0:
        break
    assert os.waitpid(child, 0)[1] == 0
else:
    sys.exit()
barrier = threading.Barrier(8)
def convert():
    barrier.wait()
    msgspec.convert({"messages": [{"id": "1", "turn": "1", "role": "user", "content": "a"}]}, Context)
    msgspec.convert([{"text": "a", "error": "b"}], tuple[Attempt, ...])
threads = [threading.Thread(target=convert) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_first_use_of_the_types_from_many_threads_at_once_does_not_crash() -> None:
    assert subprocess.run([sys.executable, "-c", COLD]).returncode == 0


@pytest.mark.matrix
def test_ten_thousand_messages_are_no_trouble(Chat: Any) -> None:
    """No time is asserted; work that grows with the square of this would not end."""
    many = [{"role": "user", "content": f"{number} " + "x" * 100} for number in range(10_000)]
    if Chat._meta.database.layout == "document":
        record = Chat.create(context={"messages": many})
    else:
        record = Chat.create()
        more = {"session": record, "metadata": {}}
        rows = [{"seq": seq, "turn": str(seq)} | more | each for seq, each in enumerate(many)]
        with Chat._meta.database.atomic():
            for batch in pw.chunked(rows, 1000):
                info.message_model(Chat).insert_many(batch).execute()
    with testing.script(Chat, ["ok"]) as asked:
        Chat.continue_session(record.id, "Now?")
    assert len(asked[0]) == 2
    assert asked[0][1].content.endswith("Now?")
    assert len(Chat.get_context(record).messages) == 10_002
