"""Sizes are refused before anything is stored; what is stored already is never refused, and read as it is."""

from __future__ import annotations

import json
import re
from typing import Any

import peewee as pw
import pytest
from pydantic import BaseModel

from agentsession import ContextUnreadable, InputInvalid, OutputInvalid, StorageFailed, actions, testing
from agentsession._json_values import compact
from agentsession.context import VERSION
from tests.support.layouts import flat_rows
from tests.support.models import (
    About,
    Answer,
    chat_model,
    kept,
    let_the_lease_run_out,
    raw_text,
    stored,
    texts,
)

pytestmark = pytest.mark.matrix

MEGABYTE = 1_000_000


def limited(database: Any, **session: Any) -> Any:
    return chat_model(database, session=session)


def rows(Chat: Any) -> list[Any]:
    with Chat._meta.database.connection_context():
        return flat_rows(Chat)


@pytest.mark.parametrize(
    "words", ["a" * 98, "é" * 49, "日" * 32 + "ab", "🦊" * 24 + "ab", '"' * 49, "\\" * 49]
)
def test_one_byte_more_than_the_input_limit_is_refused(database: Any, words: str) -> None:
    """The limit counts the bytes of the JSON that is stored, quotes included."""
    assert len(json.dumps(words, ensure_ascii=False).encode()) == 100
    Chat = limited(database, max_input_bytes=100)
    session = Chat.start_session(words)
    session.continue_session(words)
    before = rows(Chat)
    with testing.script(Chat, []):
        for action in (Chat.start_session, session.continue_session):
            for run in (True, False):
                with pytest.raises(InputInvalid, match="takes 101 bytes, the limit is 100") as refused:
                    action(words + "x", run=run)
                assert "max_input_bytes" in str(refused.value)
    assert rows(Chat) == before


def test_a_structured_input_is_measured_as_it_is_stored(database: Any) -> None:
    Chat = chat_model(database, input_schema=About, session={"max_input_bytes": 100})
    fits = "x" * (100 - len('{"company_name":""}'))
    session = Chat.start_session(About(company_name=fits))
    with pytest.raises(InputInvalid, match="takes 101 bytes"):
        session.continue_session({"company_name": fits + "x"})
    assert len(session.get_context().messages) == 2


def would_take(refused: pytest.ExceptionInfo[InputInvalid]) -> int:
    found = re.search(r"would take ([\d,]+) bytes", str(refused.value))
    assert found is not None
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize("words", ["More", "日本語 🦊", '"\\' * 40])
def test_a_conversation_continues_up_to_the_limit(database: Any, words: str) -> None:
    session = limited(database).start_session("日本 " * 100)
    before = rows(type(session))
    Small = limited(database, max_context_bytes=10)
    with testing.script(Small, []), pytest.raises(InputInvalid, match="max_context_bytes") as refused:
        Small.continue_session(session.id, words)
    size = would_take(refused)
    said = stored(session)["messages"] if database.layout == "rows" else []
    held = len((raw_text(Small) or "").encode()) + len(compact(said).encode())
    added = len(json.dumps(words, ensure_ascii=False).encode())
    assert held + added < size < held + added + 300
    for run in (True, False):
        with pytest.raises(InputInvalid, match=f"the limit is {size - 1:,}"):
            limited(database, max_context_bytes=size - 1).continue_session(session.id, words, run=run)
    assert rows(Small) == before
    At = limited(database, max_context_bytes=size)
    assert At.continue_session(session.id, words).last_turn.status == "completed"


def test_a_first_turn_beyond_the_limit_is_refused(database: Any) -> None:
    options: Any = {"instruction": "{{ x }}"}
    arguments: Any = {"instruction_args": {"x": "y" * 500}}
    Small = chat_model(database, session={"max_context_bytes": 300}, **options)
    with testing.script(Small, []), pytest.raises(InputInvalid, match="max_context_bytes") as refused:
        Small.start_session("x", **arguments)
    size = would_take(refused)
    assert size > 500
    assert rows(Small) == []
    with pytest.raises(InputInvalid):
        chat_model(database, session={"max_context_bytes": size - 1}, **options).start_session(
            "x", **arguments
        )
    chat_model(database, session={"max_context_bytes": size}, **options).start_session("x", **arguments)
    assert Small.select().count() == 1


def test_a_stored_turn_is_resumed_under_lower_limits(database: Any) -> None:
    session = limited(database).start_session("x" * 1000, run=False)
    Small = limited(database, max_input_bytes=10, max_context_bytes=10)
    with pytest.raises(InputInvalid):
        Small.start_session("x" * 1000)
    assert Small.resume_session(session.id).last_turn.status == "completed"
    with testing.crash_after(2):
        limited(database).continue_session(session.id, "Left by its process")
    let_the_lease_run_out(Small, session.id)
    assert Small.resume_session(session.id).last_turn.status == "completed"
    assert len(Small.get_context(session.id).messages) == 4


def test_a_reply_beyond_the_limit_is_stored(database: Any) -> None:
    Chat = limited(database, max_input_bytes=1000, max_context_bytes=1000)
    with testing.script(Chat, ["y" * 5000]):
        session = Chat.start_session("Hello")
    assert Chat.get_context(session.id).messages[-1].text == "y" * 5000
    with testing.script(Chat, []), pytest.raises(InputInvalid, match="begin a new session"):
        session.continue_session("More")
    assert len(texts(Chat, session)) == 2


AWKWARD = 'He said "no\\yes"\n\t\u2028日本🦊 {{ x }} $.a[0] %s \' ; -- '


def awkward(size: int) -> str:
    """Text of about so many bytes with some of what has to be escaped."""
    filler = "x" * 4000 + AWKWARD
    return filler * (size // len(filler.encode()))


def test_messages_of_ten_megabytes_are_stored_unchanged(database: Any) -> None:
    Chat = chat_model(database)
    words = awkward(10 * MEGABYTE)
    reply = words[::-1]
    with testing.script(Chat, ["ok", reply, "last"]) as asked:
        session = Chat.start_session(words)
        session.continue_session("More")
        session.continue_session("And more")
    assert asked[2][1].content == words
    assert asked[2][4].content == reply
    messages = Chat.get_context(session.id).messages
    assert [len(message.text) for message in messages[:4]] == [len(words), 2, 4, len(reply)]
    assert (messages[0].text, messages[3].text) == (words, reply)
    with database.connection_context():
        assert Chat.get_by_id(session.id).last_result.text == "last"


@pytest.mark.backends("sqlite", "postgres")
def test_ten_megabytes_of_quotes_and_backslashes_are_stored_unchanged(database: Any) -> None:
    Chat = limited(database, max_input_bytes=2**30)
    words = '"\\' * (5 * MEGABYTE)
    with testing.script(Chat, ["ok"]):
        session = Chat.start_session(words)
    assert Chat.get_context(session.id).messages[0].text == words


def packet(database: Any) -> int:
    """The largest statement that the server takes."""
    with database.connection_context():
        (size,) = database.execute_sql("select @@max_allowed_packet").fetchone()
    if size > 32 * 1024 * 1024:
        pytest.skip("the server takes statements that are too large for a test")
    return int(size)


@pytest.mark.backends("mariadb")
def test_a_statement_too_large_for_the_server_is_an_error_and_nothing_is_lost(database: Any) -> None:
    too_large = "x" * (packet(database) + 1)
    Chat = limited(database, max_input_bytes=2**30, max_context_bytes=2**30)
    with testing.script(Chat, []), pytest.raises(pw.PeeweeException):
        Chat.start_session(too_large)
    assert rows(Chat) == []
    session = Chat.start_session("One")
    before = rows(Chat)
    for run in (True, False):
        with testing.script(Chat, []), pytest.raises(pw.PeeweeException):
            session.continue_session(too_large, run=run)
    assert rows(Chat) == before
    assert session.continue_session("Two").last_turn.status == "completed"
    assert len(texts(Chat, session)) == 4


@pytest.mark.backends("mariadb")
def test_a_reply_too_large_for_the_server_is_in_the_error(database: Any) -> None:
    too_large = "x" * (packet(database) + 1)
    Chat = chat_model(database)
    session = Chat.start_session("One")
    with testing.script(Chat, [too_large]), pytest.raises(StorageFailed) as failed:
        session.continue_session("Two")
    assert failed.value.result.text == too_large
    assert failed.value.session is session
    assert isinstance(failed.value.__cause__, pw.PeeweeException)
    assert texts(Chat, session)[2:] == ["Two"]
    let_the_lease_run_out(Chat, session.id)
    with testing.script(Chat, ["shorter"]):
        assert session.resume_session().last_result.text == "shorter"
    assert texts(Chat, session)[2:] == ["Two", "shorter"]


@pytest.mark.backends("mariadb")
def test_a_conversation_larger_than_the_maximum_statement_continues(database: Any) -> None:
    Chat = chat_model(database)
    words = "x" * int(packet(database) * 0.51)
    session = Chat.start_session(words)
    with testing.script(Chat, ["one", "two"]):
        session.continue_session(words)
        session.continue_session("More")
    assert [len(text) for text in texts(Chat, session)[2:]] == [len(words), 3, 4, 3]


class Odd(BaseModel):
    values: dict[str, Any]


KEYS = [
    "a.b",
    "$.turn",
    "$",
    "[0]",
    'quo"te',
    "it's",
    "back\\slash",
    "",
    " ",
    "{{ x }}",
    "日本",
    "messages",
    "%s",
]


def test_unusual_keys_are_kept_in_a_structured_input(database: Any) -> None:
    Chat = chat_model(database, input_schema=Odd)
    values = {key: {key: [key, {key: number}]} for number, key in enumerate(KEYS)}
    session = Chat.start_session(Odd(values=values))
    session.continue_session({"values": values}, run=False)
    Chat.resume_session(session.id)
    messages = Chat.get_context(session.id).messages
    assert [message.content for message in messages[::2]] == [{"values": values}] * 2
    assert messages[2].parse(Odd) == Odd(values=values)
    assert set(kept(session)) == set(session.context)


def test_unusual_keys_are_kept_in_the_instructions_arguments(database: Any) -> None:
    options: Any = {"instruction": "You help.", "instruction_schema": Odd}
    Chat = chat_model(database, **options)
    values = dict.fromkeys(KEYS, "x")
    session = Chat.start_session("One", instruction_args={"values": values})
    session.continue_session("Two", instruction_args={"values": {**values, "new.$[0]": 'y"'}})
    session.continue_session("Three")
    context = Chat.get_context(session.id)
    assert context.instruction_args == {"values": {**values, "new.$[0]": 'y"'}}
    assert len(context.messages) == 6


class Rating(BaseModel):
    stars: int
    comment: str = ""


def test_an_old_message_that_no_longer_fits_does_not_block_new_turns(database: Any) -> None:
    class Old(BaseModel):
        what: dict[str, list[int]]
        note: str | None = None

    session = chat_model(database, input_schema=Old).start_session(Old(what={"a": [1, 2]}))
    waiting = chat_model(database, input_schema=Old).start_session({"what": {}}, run=False)
    for schema, words, field in [
        (Rating, {"stars": 5}, "comment"),
        (int, 3, None),
        (None, "plain text", None),
        (Old | Rating, {"stars": 1}, None),
    ]:
        Chat = chat_model(database, **({"input_schema": schema} if schema else {}))
        with testing.script(Chat, ["ok"]) as asked:
            Chat.continue_session(session.id, words)
        assert json.loads(asked[0][1].content) == {"what": {"a": [1, 2]}, "note": None}
        assert all(shown.content for shown in asked[0])
        old = Chat.get_context(session.id).messages[0]
        assert old.content == {"what": {"a": [1, 2]}, "note": None}
        with pytest.raises(OutputInvalid):
            old.parse(Rating)
        assert field is None or field in asked[0][-1].content
    with testing.script(Chat, ["ok"]):
        assert Chat.resume_session(waiting.id).last_result.text == "ok"


def test_a_reply_that_no_longer_fits_does_not_block_new_turns(database: Any) -> None:
    session = chat_model(database, output_schema=Answer).start_session("One")
    Chat = chat_model(database, output_schema=Rating)
    with testing.script(Chat, [Rating(stars=5)]):
        Chat.continue_session(session.id, "Two")
    assert [message.role for message in Chat.get_context(session.id).messages] == ["user", "assistant"] * 2


NEWER = {
    "v": VERSION + 1,
    "revision": 3,
    "layout": "document",
    "messages": [],
    "turn": None,
    "what": ["the future"],
}


def test_a_map_of_a_newer_version_is_refused_by_every_action_and_unchanged(database: Any) -> None:
    Chat = chat_model(database)
    key = Chat.start_session("One", idempotency_key="k").id
    with database.connection_context():
        Chat.update(context=NEWER).execute()
        record = Chat.get_by_id(key)
        slim = Chat.select(Chat.id).get()
    before = rows(Chat)
    for action in (
        lambda: Chat.continue_session(key, "Two"),
        lambda: Chat.continue_session(key, "Two", run=False),
        lambda: Chat.continue_session(key, "Two", idempotency_key="k"),
        lambda: record.continue_session("Two"),
        lambda: Chat.resume_session(key),
        lambda: record.resume_session(),
        lambda: Chat.start_session("One", idempotency_key="k"),
        lambda: Chat.get_context(key),
        lambda: record.get_context(),
        lambda: record.last_turn,
        lambda: record.last_result,
        lambda: slim.last_turn,
        lambda: actions.last_result(slim),
    ):
        with (
            testing.script(Chat, []),
            pytest.raises(ContextUnreadable, match=rf"version {VERSION + 1}, .* up to {VERSION}") as raised,
        ):
            action()
        assert "newer" in raised.value.fix
        assert rows(Chat) == before


@pytest.mark.parametrize("version", [99, 2.0, "1", None, True, -1, [1]])
def test_an_invalid_version_is_refused_with_its_value(database: Any, version: Any) -> None:
    Chat = chat_model(database)
    key = Chat.start_session("One").id
    with database.connection_context():
        Chat.update(context={**NEWER, "v": version}).execute()
    before = rows(Chat)
    with pytest.raises(ContextUnreadable, match=re.escape(f"version {version!r}")):
        Chat.continue_session(key, "Two")
    assert rows(Chat) == before
