"""I6: the same key and input are one turn, whose stored result comes back without asking the model again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import peewee as pw
import pytest
from pydantic import BaseModel

from agentsession import (
    DslError,
    IdempotencyMismatch,
    InputInvalid,
    OutputInvalid,
    ProviderError,
    ProviderFailed,
    SessionActions,
    SessionBusy,
    agent,
    agent_session,
    testing,
)
from agentsession.drive.sync import after_effect
from agentsession.provider import Reply
from agentsession.turn.effects import Ask, Claim, Effect, Finish, Insert, Load, Save, Wait
from tests.models import Answer, let_the_lease_run_out, open_database


def keyed_model(
    database: Any, key: Any = None, *, session: Any = None, name: str = "chat", **options: Any
) -> Any:
    """A session model with columns that a start gives values to; `key` is its primary key."""
    connection, primary_key = database, key or pw.UUIDField(primary_key=True, default=uuid4)

    @agent_session(**({"status_attribute": "status"} | (session or {})))
    @agent(**({"client": "echo:", "instruction": "You help."} | options))
    class Chat(SessionActions, pw.Model):
        id = primary_key
        context = pw.JSONField(null=True)
        status = pw.CharField(default="pending")
        title = pw.CharField(default="untitled")
        slug = pw.CharField(null=True, unique=True)
        start_key = pw.CharField(max_length=36, null=True, unique=True)
        owner = pw.CharField(default="")

        class Meta:
            table_name = name
            legacy_table_names = False
            database = connection

    database.create_tables([Chat])
    return Chat


BY_ATTRIBUTE: Any = {"idempotency_attribute": "start_key"}


@dataclass
class Speaker:
    """Says something with a key: begins a session with it, or continues one."""

    Chat: Any
    session: Any = None

    def __call__(self, words: Any = "Hello", key: Any = "k", **options: Any) -> Any:
        if self.session is None:
            return self.Chat.start_session(words, idempotency_key=key, **options)
        return self.Chat.continue_session(self.session, words, idempotency_key=key, **options)

    def rows(self) -> Any:
        return sorted(self.Chat.select().tuples(), key=str)

    def only(self) -> Any:
        (record,) = self.Chat.select()
        return record

    def said(self, words: str = "Hello") -> list[str]:
        """The roles of the messages of the turn that began with these words."""
        messages = self.only().get_context().messages
        turns = [message.turn for message in messages if message.role == "user" and message.text == words]
        return [message.role for message in messages if message.turn in turns]


Speaks = Callable[..., Speaker]


@pytest.fixture(params=["start", "continue"])
def speaker(request: Any, database: Any) -> Speaks:
    def make(**options: Any) -> Speaker:
        Chat = keyed_model(database, **options)
        if request.param == "start":
            return Speaker(Chat)
        with testing.script(Chat, [Answer(content="hi") if "output_schema" in options else "hi"]):
            return Speaker(Chat, Chat.start_session("Before").id)

    return make


def test_a_repeat_brings_the_stored_result_and_asks_nobody(speaker: Speaks) -> None:
    say = speaker()
    with testing.script(say.Chat, [Reply("hi", thinking="hm", cost=0.5, finish_reason="stop")]):
        first = say()
    before = say.rows()
    for _ in range(2):
        with testing.script(say.Chat, []):
            again = say()
        assert (again.id, again.last_turn.id, again.last_turn.status) == (first.id, "k", "completed")
        for name in ("text", "thinking", "usage", "cost", "model", "finish_reason", "duration"):
            assert getattr(again.last_result, name) == getattr(first.last_result, name)
    assert say.rows() == before


class Waits:
    """A model that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answer = threading.Event()

    def ask(self, request: Any) -> Reply:
        if request.view[-1].content == "Before":
            return Reply("hi")
        self.asked.set()
        assert self.answer.wait(30)
        return Reply("at last")


@contextmanager
def in_progress(say: Speaker, model: Waits) -> Iterator[Future[Any]]:
    """The first call runs in another thread: its model was asked and has not answered yet."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(say)
        assert model.asked.wait(30)
        try:
            yield first
        finally:
            model.answer.set()


def test_a_repeat_while_the_first_call_runs_is_busy(speaker: Speaks) -> None:
    model = Waits()
    say = speaker(provider=model)
    with in_progress(say, model) as first, testing.script(say.Chat, []):
        before = say.rows()
        with pytest.raises(SessionBusy, match="a turn has been running"):
            say()
        assert say(run=False).last_turn.status == "running"
        assert say.rows() == before
        model.answer.set()
        assert first.result().last_result.text == "at last"
        assert say().last_result.text == "at last"


def test_a_repeat_that_waits_brings_the_result_of_the_first_call(speaker: Speaks) -> None:
    model = Waits()
    say = speaker(provider=model, session={"on_busy": "wait", "busy_timeout": 60})

    def answer_once_it_waits(effect: Effect) -> None:
        if isinstance(effect, Wait):
            model.answer.set()

    with in_progress(say, model) as first:
        token = after_effect.set(answer_once_it_waits)
        with testing.script(say.Chat, []):
            second = say()
        after_effect.reset(token)
        assert model.answer.is_set()
        assert second.last_result.text == first.result().last_result.text == "at last"
    assert say.said() == ["user", "assistant"]


def test_calls_with_one_key_that_start_at_once_are_one_turn(speaker: Speaks) -> None:
    asked: list[str] = []

    class Counts:
        def ask(self, request: Any) -> Reply:
            asked.append(request.view[-1].content)
            return Reply("ok")

    say = speaker(provider=Counts(), session={"on_busy": "wait", "busy_timeout": 60})
    asked.clear()
    together = threading.Barrier(6)

    def call(number: int) -> Any:
        ids = []
        for key in range(4):
            together.wait(30)
            ids.append(say(f"words {key}", f"key {key}").id)
        say.Chat._meta.database.close()
        return ids

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(call, range(6)))
    assert all(ids == found[0] for ids in found)
    assert asked == [f"words {key}" for key in range(4)]


def test_a_failed_turn_is_run_again_by_its_key(speaker: Speaks) -> None:
    say = speaker()
    with testing.script(say.Chat, [ProviderError("down")]), pytest.raises(ProviderFailed):
        say()
    assert say.only().last_turn.status == "failed"
    with testing.script(say.Chat, ["up again"]) as asked:
        again = say()
    assert asked[0][-1].content == "Hello"
    assert again.last_result.text == "up again"
    assert (again.last_turn.id, again.status, again.last_turn.error) == ("k", "completed", None)
    assert say.said() == ["user", "assistant"]


FAILURES: dict[str, tuple[list[Any], type[Exception], str]] = {
    "provider": ([ProviderError("down for long")], ProviderFailed, "down for long"),
    "output": (["no JSON", "nor this"], OutputInvalid, "does not fit Answer"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_turn_that_others_followed_raises_its_error_again(speaker: Speaks, failure: str) -> None:
    replies, kind, words = FAILURES[failure]
    say = speaker(output_schema=Answer)
    with testing.script(say.Chat, replies), pytest.raises(kind):
        say()
    with testing.script(say.Chat, [Answer(content="fine")]):
        say.Chat.continue_session(say.only().id, "Another")
    before = say.rows()
    with testing.script(say.Chat, []), pytest.raises(kind, match=words) as raised:
        say()
    assert type(raised.value) is kind
    assert raised.value.session.id == say.only().id  # type: ignore[attr-defined]
    assert "new key" in str(raised.value)
    assert say.rows() == before


def test_a_turn_that_was_left_and_followed_by_others_raises_that_it_was(speaker: Speaks) -> None:
    say = speaker()
    with testing.crash_after(1 if say.session is None else 2):
        say()
    let_the_lease_run_out(say.Chat, say.only().id)
    say.Chat.continue_session(say.only().id, "Another")
    with testing.script(say.Chat, []), pytest.raises(Exception, match="ended as interrupted") as raised:
        say()
    assert type(raised.value).__name__ == "TurnFailed"


def test_a_completed_turn_that_others_followed_still_brings_its_own_result(speaker: Speaks) -> None:
    say = speaker()
    with testing.script(say.Chat, [Reply("the first", cost=0.25), "the second"]):
        first = say()
        say.Chat.continue_session(first.id, "Another")
    before = say.rows()
    with testing.script(say.Chat, []):
        again = say()
    assert (again.last_result.text, again.last_result.cost) == ("the first", 0.25)
    assert (again.last_turn.id, again.last_turn.status) == ("k", "completed")
    assert say.only().last_result.text == "the second"
    assert again.context == say.only().context
    assert say.rows() == before


class WrongAtFirst:
    """A model whose first reply of each turn does not fit the schema."""

    def ask(self, request: Any) -> Reply:
        corrected = "does not fit" in request.view[-1].content
        return Reply('{"content":"ok"}' if corrected else "not JSON")


STEPS = {"start": [Insert, Ask, Save, Ask, Finish], "continue": [Load, Claim, Ask, Save, Ask, Finish]}


@pytest.mark.parametrize("step", range(1, 7))
def test_a_repeat_after_a_crash_at_any_step_is_the_same_turn(speaker: Speaks, step: int) -> None:
    say = speaker(output_schema=Answer, provider=WrongAtFirst())
    steps = STEPS["start" if say.session is None else "continue"]
    if step > len(steps):
        step = len(steps)
    with testing.crash_after(step) as performed:
        say()
        pytest.fail("the crash did not happen")
    assert [type(effect) for effect in performed] == steps[:step]
    done, began = steps[step - 1] is Finish, steps[step - 1] is not Load
    if began and not done:
        with testing.script(say.Chat, []), pytest.raises(SessionBusy, match="its lease ends in"):
            say()
        let_the_lease_run_out(say.Chat, say.only().id)
    with testing.script(say.Chat, [] if done else [Answer(content="after")]):
        again = say()
    assert again.last_result.output == Answer(content="ok" if done else "after")
    assert say.said() == ["user", "assistant"]
    with testing.script(say.Chat, []):
        assert say().last_result.output == again.last_result.output


def test_a_key_that_was_used_for_other_words_is_refused_and_nothing_is_stored(speaker: Speaks) -> None:
    say = speaker()
    say(run=False)

    def mismatch() -> None:
        before = say.rows()
        for run in (True, False):
            with testing.script(say.Chat, []), pytest.raises(IdempotencyMismatch, match="'k'"):
                say("Other words", run=run)
        assert say.rows() == before

    mismatch()
    say()
    mismatch()
    say.Chat.continue_session(say.only().id, "Another")
    mismatch()


def test_a_running_turn_refuses_other_words_under_its_key(speaker: Speaks) -> None:
    model = Waits()
    say = speaker(provider=model)
    with in_progress(say, model), pytest.raises(IdempotencyMismatch):
        say("Other words")


class Order(BaseModel):
    count: int
    dish: dict[str, Any]


def test_the_same_input_in_another_form_is_the_same_input(speaker: Speaks) -> None:
    say = speaker(input_schema=Order | str)
    first = say(Order(count=1, dish={"a": 1, "b": 2.5}))
    with testing.script(say.Chat, []):
        assert say({"dish": {"b": 2.5, "a": 1}, "count": "1"}).id == first.id
    with pytest.raises(IdempotencyMismatch):
        say({"dish": {"b": 2.5, "a": 1}, "count": 2})


def test_a_turn_that_was_stored_for_later_is_run_by_its_key(speaker: Speaks) -> None:
    say = speaker()
    for _ in range(2):
        with testing.script(say.Chat, []):
            stored = say(run=False)
        assert (stored.status, stored.last_turn.id, stored.last_turn.status) == ("pending", "k", "pending")
    assert say.said() == ["user"]
    assert say().last_result.text.startswith("You said: Hello")
    assert say.said() == ["user", "assistant"]
    with testing.script(say.Chat, []):
        assert say(run=False).last_result.text.startswith("You said: Hello")
    assert say.only().status == "completed"


def test_a_failed_turn_is_stored_for_later_by_its_key(speaker: Speaks) -> None:
    say = speaker()
    with testing.script(say.Chat, [ProviderError("down")]), pytest.raises(ProviderFailed):
        say()
    with testing.script(say.Chat, []):
        assert say(run=False).last_turn.status == "pending"
    assert say.said() == ["user"]
    assert say.Chat.resume_session(say.only().id).last_turn.id == "k"


@pytest.mark.parametrize("pinned", [False, True])
def test_a_repeated_start_may_give_its_arguments_again(database: Any, pinned: bool) -> None:
    options: Any = {"instruction": "Serve {{ name }}.", "session": {"pin_instruction": pinned}}
    say = Speaker(keyed_model(database, **options))
    given: Any = {"instruction_args": {"name": "Acme"}}
    with testing.script(say.Chat, [ProviderError("down")]), pytest.raises(ProviderFailed):
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
def test_a_start_is_repeated_with_any_kind_of_primary_key(
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


def test_sessions_without_a_key_have_none(database: Any) -> None:
    Chat = keyed_model(database, pw.AutoField(), session=BY_ATTRIBUTE)
    keys = [Chat.start_session("Hello").start_key for _ in range(3)]
    assert keys == [None, None, None]


def test_keys_that_look_alike_are_different_keys(speaker: Speaks) -> None:
    say = speaker()
    keys = ["k", "K", "k ", " k", "ķ", "k\u0301", "k\t", "ｋ", "' or 1=1 --", "%", "k" * 255, "'\"\\$.[0]"]
    for number, key in enumerate(keys):
        say(f"words {number}", key)
    for number, key in enumerate(keys):
        with testing.script(say.Chat, []):
            found = say(f"words {number}", key)
        assert found.last_turn.id == key
        assert f"words {number}" in found.last_result.text
    assert say.Chat.select().count() == (len(keys) if say.session is None else 1)


def test_keys_of_two_owners_never_meet(database: Any) -> None:
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
def test_keys_of_two_tables_never_meet(database: Any, options: Any) -> None:
    one = keyed_model(database, session=options).start_session("Hello", idempotency_key="k")
    Two = keyed_model(database, session=options, name="talk")
    two = Two.start_session("Other words", idempotency_key="k")
    assert (one.id, one.start_key) != (two.id, two.start_key)
    assert one.id != two.id
    assert Two.start_session("Other words", idempotency_key="k").id == two.id


def test_the_key_of_the_start_finds_its_turn_when_the_session_goes_on(database: Any) -> None:
    Chat = keyed_model(database)
    session = Chat.start_session("Hello", idempotency_key="k")
    session.continue_session("More")
    with testing.script(Chat, []):
        assert session.continue_session("Hello", idempotency_key="k").last_turn.id == "k"
    assert len(session.get_context().messages) == 4


BAD_KEYS: list[Any] = ["", "   ", "k" * 256, 7, b"k", uuid4(), ["k"], True, "k\0", "\ud800"]


def test_a_key_that_is_none_is_refused(speaker: Speaks) -> None:
    say = speaker()
    before = say.rows()
    for key in BAD_KEYS:
        with testing.script(say.Chat, []), pytest.raises(InputInvalid, match="idempotency_key"):
            say(key=key)
    assert say.rows() == before
    assert say(key="k" * 255).last_turn.id == "k" * 255


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
def test_a_repeat_inside_a_transaction_leaves_the_callers_work_alone(
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
def test_what_a_key_stored_inside_a_transaction_goes_with_its_rollback(
    speaker: Speaks, database: Any, begin: str
) -> None:
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
def test_a_key_that_came_after_the_snapshot_of_a_transaction_is_found(database: Any) -> None:
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
def test_another_unique_column_is_not_mistaken_for_the_key(database: Any, options: Any) -> None:
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


def test_a_record_in_hand_is_brought_to_what_is_stored_by_a_repeat(database: Any) -> None:
    Chat = keyed_model(database)
    session = Chat.start_session("Hello")
    stale = Chat.get_by_id(session.id)
    session.continue_session("More", idempotency_key="k")
    stale.title = "not saved yet"
    with testing.script(Chat, []):
        assert stale.continue_session("More", idempotency_key="k") is stale
    assert (stale.context, stale.status, stale.title) == (session.context, "completed", "not saved yet")


@pytest.mark.parametrize("key", [None, "k"])
def test_the_derived_column_is_no_attribute(database: Any, key: Any) -> None:
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
