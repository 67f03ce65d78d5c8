"""Start, continue, resume and read, in both forms, and what a record tells afterwards."""

from __future__ import annotations

import time
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID, uuid4

import peewee as pw
import pytest
from pydantic import BaseModel, field_validator

from agentsession import (
    DslError,
    InputInvalid,
    Message,
    NoResult,
    NothingToResume,
    OutputInvalid,
    ProviderCallError,
    ProviderFailed,
    SessionActions,
    SessionBusy,
    SessionNotFound,
    Usage,
    actions,
    agent,
    agent_session,
    build_context,
    instruction_message,
    testing,
    user_message,
)
from agentsession._store import declared
from agentsession._store.dialects.sqlite import SqliteDialect
from agentsession.provider import Delta, Reply
from tests.support.layouts import layout_of, with_messages
from tests.support.models import About, Answer, Ask, chat_model, roles, stored, texts
from tests.support.tool_sessions import WAYS, Way


def test_a_conversation_is_started_continued_and_read_back(Chat: Any) -> None:
    with testing.script(Chat, ["hi", "well"]) as asked:
        session = Chat.start_session("Hello!")
        assert session.last_result.text == session.last_result.output == "hi"
        again = session.continue_session("How are you?")
    assert again is session
    assert session.last_result.output == "well"
    assert [(shown.role, shown.content) for shown in asked[1]] == [
        ("system", "You help."),
        ("user", "Hello!"),
        ("assistant", "hi"),
        ("user", "How are you?"),
    ]
    assert texts(Chat, session.id) == ["Hello!", "hi", "How are you?", "well"]


def test_every_action_has_a_form_by_id_by_record_and_as_a_function(Chat: Any) -> None:
    session = actions.start_session(Chat, "one")
    by_id = Chat.continue_session(session.id, "two")
    by_text_id = Chat.continue_session(str(session.id), "three")
    by_record = Chat.continue_session(session, "four")
    function = actions.continue_session(Chat, session.id, "five")
    assert by_record is session
    assert {by_id.id, by_text_id.id, function.id} == {session.id}
    assert Chat.get_context(session) == session.get_context() == actions.get_context(Chat, session.id)
    assert len(session.get_context().messages) == 10


def test_generated_functions_can_be_imported_by_assignment(Chat: Any) -> None:
    start_session, continue_session, get_context = Chat.start_session, Chat.continue_session, Chat.get_context
    session = continue_session(start_session("one").id, "two")
    assert len(get_context(session.id).messages) == 4


def test_structured_input_and_output_are_typed_and_stored_as_json(database: Any) -> None:
    Chat = chat_model(database, input_schema=Ask, output_schema=Answer)
    with testing.script(Chat, [Answer(content="yes")]) as asked:
        session = Chat.start_session(Ask(message="May I?"))
    assert session.last_result.output == Answer(content="yes")
    assert asked[0][-1].content == "May I?"
    user, reply = Chat.get_context(session.id).messages
    assert user.content == {"message": "May I?"}
    assert reply.content == '{"content":"yes"}'
    assert user.parse(Ask) == Ask(message="May I?")
    assert reply.parse(Answer) == Answer(content="yes")


def test_each_turn_renders_the_instruction_from_the_stored_arguments(database: Any) -> None:
    options: Any = {"instruction_schema": About}
    Chat = chat_model(database, instruction="You work for {{ company_name }}.", **options)
    session = Chat.start_session("Hi", instruction_args={"company_name": "A & B <Co>"})
    Edited = chat_model(database, instruction="You serve {{ company_name }} well.", **options)
    with testing.script(Edited, ["ok", "ok"]) as asked:
        Edited.continue_session(session.id, "Again")
        Edited.continue_session(session.id, "And again", instruction_args=About(company_name="C"))
    assert asked[0][0].content == "You serve A & B <Co> well."
    assert asked[1][0].content == "You serve C well."
    assert stored(Edited.get_by_id(session.id))["instruction_args"] == {"company_name": "C"}


def test_a_pinned_instruction_keeps_the_text_of_the_first_turn(database: Any) -> None:
    pinned: Any = {"session": {"pin_instruction": True}}
    Chat = chat_model(database, instruction="Old {{ x }}.", **pinned)
    session = Chat.start_session("Hi", instruction_args={"x": "one"})
    Edited = chat_model(database, instruction="New {{ x }}.", **pinned)
    with testing.script(Edited, ["ok"]) as asked:
        Edited.continue_session(session.id, "Again")
    assert asked[0][0].content == "Old one."
    with pytest.raises(InputInvalid, match="pinned"):
        Edited.continue_session(session.id, "Again", instruction_args={"x": "two"})
    Unpinned = chat_model(database, instruction="New {{ x }}.")
    with testing.script(Unpinned, ["ok"]) as asked:
        Unpinned.continue_session(session.id, "Again")
    assert [shown.content for shown in asked[0][:2]] == ["New one.", "Hi"]


def test_a_session_that_was_not_pinned_is_pinned_from_its_next_turn(database: Any) -> None:
    session = chat_model(database, instruction="First.").start_session("Hi")
    pinned: Any = {"session": {"pin_instruction": True}}
    chat_model(database, instruction="Second.", **pinned).continue_session(session.id, "b")
    Third = chat_model(database, instruction="Third.", **pinned)
    with testing.script(Third, ["ok"]) as asked:
        Third.continue_session(session.id, "c")
    assert asked[0][0].content == "Second."


def test_attributes_set_the_other_columns(Chat: Any) -> None:
    key = uuid4()
    session = Chat.start_session("Hi", attributes={"title": "Greeting", "id": key})
    assert Chat.get_by_id(key).title == session.title == "Greeting"


@pytest.mark.parametrize(
    ("attributes", "said"),
    [({"titel": "x"}, "did you mean 'title'"), ({"context": {}}, "belongs to the library")],
)
def test_attributes_that_do_not_fit_are_refused_before_anything_is_stored(
    Chat: Any, attributes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputInvalid, match=said):
        Chat.start_session("Hi", attributes=attributes)
    assert Chat.select().count() == 0


def test_status_and_updated_follow_the_turn(Chat: Any) -> None:
    session = Chat.start_session("Hi", run=False)
    assert (session.status, Chat.get_by_id(session.id).status) == ("pending", "pending")
    before = session.updated
    session.resume_session()
    again = Chat.get_by_id(session.id)
    assert (session.status, again.status) == ("completed", "completed")
    assert again.updated == session.updated >= before
    with testing.script(Chat, [ProviderCallError("down")]), pytest.raises(ProviderFailed):
        session.continue_session("More")
    assert session.status == Chat.get_by_id(session.id).status == "failed"


def test_a_pending_turn_is_run_by_another_process(Chat: Any) -> None:
    session = Chat.start_session("Hi", run=False)
    assert session.last_turn.status == "pending"
    with pytest.raises(NoResult, match="pending"):
        session.last_result
    with pytest.raises(SessionBusy, match="call resume_session"):
        session.continue_session("More")
    other = Chat.resume_session(session.id)
    assert other.last_result.text.startswith("You said: Hi")
    other.continue_session("More", run=False)
    assert Chat.resume_session(session.id).last_turn.status == "completed"
    assert texts(Chat, session.id)[2] == "More"


def test_a_completed_turn_cannot_be_resumed(Chat: Any) -> None:
    session = Chat.start_session("Hi")
    with pytest.raises(NothingToResume, match="completed"):
        session.resume_session()
    with Chat._meta.database.connection_context():
        blank = Chat.create()
    with pytest.raises(NothingToResume, match="no open turn"):
        blank.resume_session()


def test_a_failed_turn_keeps_and_hides_the_users_message_and_can_be_resumed(Chat: Any) -> None:
    session = Chat.start_session("One")
    cause = RuntimeError("boom")
    error = ProviderCallError("no answer from upstream")
    error.__cause__ = cause
    with testing.script(Chat, [error]), pytest.raises(ProviderFailed) as failed:
        session.continue_session("Two")
    assert failed.value.session is session
    assert failed.value.__cause__ is cause
    assert session.last_turn.status == "failed"
    assert session.last_turn.error.type == "ProviderFailed"
    assert "no answer from upstream" in session.last_turn.error.message
    assert Chat.get_context(session).messages[-1].metadata["error"]["type"] == "ProviderFailed"
    with pytest.raises(NoResult):
        session.last_result

    with testing.script(Chat, ["three"]) as asked:
        Chat.continue_session(session.id, "Three")
    assert [shown.content for shown in asked[0][1:]] == ["One", texts(Chat, session)[1], "Three"]
    assert texts(Chat, session)[2:] == ["Two", "Three", "three"]

    with testing.script(Chat, [ProviderCallError("down")]), pytest.raises(ProviderFailed):
        session.continue_session("Four")
    with testing.script(Chat, ["four"]) as asked:
        session.resume_session()
    assert asked[0][-1].content == "Four"
    last = Chat.get_context(session).messages[-2]
    assert (last.text, list(last.metadata)) == ("Four", ["input_hash"])


def test_a_session_survives_a_failed_first_turn(Chat: Any) -> None:
    with (
        testing.script(Chat, [ValueError("odd")]),
        pytest.raises(ProviderFailed, match="ValueError: odd") as failed,
    ):
        Chat.start_session("Hello")
    assert isinstance(failed.value.__cause__, ValueError)
    assert failed.value.session.resume_session().last_result.text.startswith("You said: Hello")


def test_an_output_that_does_not_fit_is_asked_for_again_with_the_error(database: Any) -> None:
    Chat = chat_model(database, output_schema=Answer)
    with testing.script(Chat, ["no json", '{"content": 1}', Answer(content="ok")]) as asked:
        with pytest.raises(OutputInvalid) as failed:
            Chat.start_session("Hi")
        assert failed.value.raw == '{"content": 1}'
        session = failed.value.session
        assert session.last_turn.status == "failed"
        session.resume_session()
    assert session.last_result.output == Answer(content="ok")
    assert [shown.role for shown in asked[1]] == ["system", "user", "assistant", "user"]
    assert "the reply has no complete JSON value" in asked[1][-1].content
    assert roles(Chat, session) == ["user", "assistant"]


def test_attempts_are_stored_in_the_metadata_and_counted(database: Any) -> None:
    Chat = chat_model(database, output_schema=Answer)
    usage = Usage(input_tokens=10, output_tokens=5, total_tokens=15)
    replies = [Reply("bad", usage=usage, cost=0.5), Reply('{"content":"ok"}', usage=usage, cost=0.25)]
    with testing.script(Chat, replies):
        session = Chat.start_session("Hi")
    assert session.last_result.usage == session.last_turn.usage == usage + usage
    assert session.last_result.cost == 0.75
    user, reply = Chat.get_context(session).messages
    assert [attempt["text"] for attempt in user.metadata["attempts"]] == ["bad"]
    assert reply.metadata["usage"]["total_tokens"] == 30


def test_a_selected_record_has_the_latest_turn_and_completed_result_without_a_query(Chat: Any) -> None:
    session = Chat.start_session("One")
    with testing.script(Chat, [ProviderCallError("down")]), pytest.raises(ProviderFailed):
        session.continue_session("Two")
    database = Chat._meta.database
    selected = Chat.get_by_id(session.id)
    database.close()
    database.statements.clear()
    assert selected.last_turn.status == "failed"
    assert selected.last_result.text.startswith("You said: One")
    assert selected.last_result.raw is None
    assert database.statements == []
    without = Chat.select(Chat.id).where(Chat.id == session.id).get()
    database.close()
    database.statements.clear()
    assert without.last_turn.status == "failed"
    assert without.last_result.text.startswith("You said: One")
    assert len(database.statements) == 1


def test_last_turn_and_last_result_raise_without_a_turn(Chat: Any) -> None:
    with Chat._meta.database.connection_context():
        blank = Chat.create()
    for attribute in ("last_result", "last_turn"):
        with pytest.raises(NoResult):
            getattr(blank, attribute)
    assert Chat.get_context(blank).messages == ()


def test_a_stored_output_that_no_longer_fits_is_an_error_with_its_text(database: Any) -> None:
    session = chat_model(database).start_session("Hi")
    Chat = chat_model(database, output_schema=Answer)
    with database.connection_context():
        selected = Chat.get_by_id(session.id)
    with pytest.raises(OutputInvalid) as invalid:
        selected.last_result.output
    assert invalid.value.raw == selected.last_result.text
    with testing.script(Chat, [Answer(content="ok")]):
        selected.continue_session("It goes on")


@pytest.mark.parametrize("unknown", [uuid4(), "no uuid", 7, "", None, 2**70])
def test_an_unknown_id_raises_session_not_found(Chat: Any, unknown: Any) -> None:
    for action in (
        lambda: Chat.get_context(unknown),
        lambda: Chat.continue_session(unknown, "Hi"),
        lambda: Chat.resume_session(unknown),
    ):
        with pytest.raises(SessionNotFound):
            action()


def test_a_record_of_another_model_is_refused(Chat: Any) -> None:
    class Other(pw.Model):
        pass

    with pytest.raises(InputInvalid, match="Other is not a session of Chat"):
        Chat.continue_session(Other(id=1), "Hi")


def test_the_client_of_a_turn_is_stored_and_its_options_are_not(database: Any) -> None:
    seen: list[Any] = []

    class Spy:
        def ask(self, request: Any) -> Any:
            seen.append((request.client.id, dict(request.client.options)))
            if len(seen) == 1:
                raise ProviderCallError("down")
            return Reply("ok")

    Chat = chat_model(database, provider=Spy(), client=("a:one", {"api_key": "SECRET-1"}))
    with pytest.raises(ProviderFailed) as failed:
        Chat.start_session("Hi", client="b:two", client_options={"api_key": "SECRET-2"})
    session = failed.value.session
    assert session.last_turn.client == "b:two"
    session.resume_session(client_options={"api_key": "SECRET-3"})
    session.continue_session("More", client_options={"x": 1})
    session.continue_session("More", client=("c:three", {"y": 2}))
    assert seen == [
        ("b:two", {"api_key": "SECRET-2"}),
        ("b:two", {"api_key": "SECRET-3"}),
        ("a:one", {"api_key": "SECRET-1", "x": 1}),
        ("c:three", {"y": 2}),
    ]
    with database.connection_context():
        assert "SECRET" not in str(list(Chat.select().tuples()))
    with pytest.raises(InputInvalid, match="provider:model"):
        session.continue_session("More", client="nonsense")


@pytest.mark.parametrize(
    ("field", "key"),
    [
        (pw.AutoField(), None),
        (pw.CharField(primary_key=True), "chat-é'1"),
        (pw.UUIDField(primary_key=True), uuid4()),
    ],
    ids=["integer", "text", "uuid"],
)
def test_keys_may_be_integers_texts_and_uuids(database: Any, field: Any, key: Any) -> None:
    connection = database

    @agent_session(**layout_of(database))
    @agent(client="echo:", instruction="You help.")
    class Keyed(SessionActions, pw.Model):
        name = field
        context = pw.JSONField(null=True)

        class Meta:
            database = connection

    with_messages(Keyed)
    session = Keyed.start_session("Hi", attributes={} if key is None else {"name": key})
    assert isinstance(session._pk, (int, str, UUID))
    assert len(Keyed.continue_session(session._pk, "More").get_context().messages) == 4


def test_a_database_proxy_is_initialised_later(database: Any) -> None:
    proxy = pw.DatabaseProxy()
    Chat = chat_model(proxy, create=False)
    with pytest.raises(DslError, match="initialize the DatabaseProxy"):
        Chat.start_session("Hi")
    proxy.initialize(database)
    with database.connection_context():
        database.create_tables([Chat])
    assert Chat.start_session("Hi").last_result.text


def test_an_in_memory_database_is_never_closed() -> None:
    memory = pw.SqliteDatabase(":memory:")
    memory.create_tables([Chat := chat_model(memory, create=False)])
    session = Chat.start_session("Hi")
    session.continue_session("More")
    assert not memory.is_closed()
    assert len(session.get_context().messages) == 4
    memory.close()


def test_a_connection_that_the_caller_opened_stays_open(Chat: Any) -> None:
    database = Chat._meta.database
    with database.connection_context():
        session = Chat.start_session("Hi")
        assert not database.is_closed()
        session.continue_session("More")
        assert not database.is_closed()
    assert database.is_closed()


def test_no_connection_is_held_during_a_model_call(database: Any) -> None:
    held: list[bool] = []

    class Looks:
        def ask(self, request: Any) -> Any:
            held.append(not database.is_closed())
            return Reply("ok")

    chat_model(database, provider=Looks()).start_session("Hi").continue_session("More")
    assert held == [False, False]


def test_with_inject_false_the_functions_still_work(database: Any) -> None:
    connection = database

    @agent_session(inject=False, **layout_of(database))
    @agent(client="echo:", instruction="You help.")
    class Plain(pw.Model):
        context = pw.JSONField(null=True)
        last_turn = pw.CharField(default="mine")

        class Meta:
            database = connection

    with_messages(Plain)
    assert not hasattr(Plain, "start_session")
    assert not hasattr(Plain, "call")
    session = actions.start_session(Plain, "Hi")
    actions.continue_session(Plain, session, "More")
    assert actions.last_result(session).text.startswith("You said: More")
    assert actions.last_turn(session).status == "completed"
    assert session.last_turn == "mine"
    assert actions.call(Plain, "Once").text.startswith("You said: Once")


def test_a_call_stores_nothing_and_takes_a_built_context(Chat: Any) -> None:
    session = Chat.start_session("Hello")
    statements = Chat._meta.database.statements
    context = build_context(
        Chat,
        [
            instruction_message(Chat),
            Chat.get_context(session),
            Message("", "", "assistant", "Welcome!"),
            user_message(Chat, message="And now?"),
        ],
    )
    statements.clear()
    with testing.script(Chat, ["so", "be it"]) as asked:
        result = Chat.call(context)
        assert Chat.call("Once").text == "be it"
    assert (result.text, result.output, statements) == ("so", "so", [])
    assert [shown.role for shown in asked[0]] == ["system", "user", "assistant", "user"]
    assert asked[0][2].content.endswith("\n\nWelcome!")
    with pytest.raises(InputInvalid, match="does not end with a user's message"):
        Chat.call(build_context(Chat, [Message("", "", "assistant", "Hi")]))
    with testing.script(Chat, [ProviderCallError("down")]), pytest.raises(ProviderFailed) as failed:
        Chat.call("Hi")
    assert failed.value.session is None


ODD_REPLIES: list[Any] = [
    "text",
    None,
    Reply(None),  # type: ignore[arg-type]
    Reply("ok", thinking=None),  # type: ignore[arg-type]
    Reply("ok", usage=None),  # type: ignore[arg-type]
    Reply("ok", usage={"input_tokens": "many"}),  # type: ignore[arg-type]
    Reply("ok", usage=Usage(input_tokens=None)),  # type: ignore[arg-type]
    Reply("ok", usage=Usage(input_tokens=1.5)),  # type: ignore[arg-type]
    Reply("ok", model=None),  # type: ignore[arg-type]
    Reply("ok", cost=float("nan")),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reply", ODD_REPLIES, ids=repr)
def test_a_value_that_is_not_a_reply_fails_the_turn(database: Any, reply: Any, way: Way) -> None:
    class Odd:
        def ask(self, request: Any) -> Any:
            return reply

        async def aask(self, request: Any) -> Any:
            return reply

        def stream(self, request: Any) -> Iterator[Any]:
            yield from (Delta("half"), reply)

        async def astream(self, request: Any) -> AsyncIterator[Any]:
            for piece in (Delta("half"), reply):
                yield piece

    with pytest.raises(ProviderFailed, match="the provider") as failed:
        way(chat_model(database, provider=Odd()), "start_session", "Hi")
    assert failed.value.session.status == "failed"


def test_a_bug_in_a_validator_fails_the_turn(database: Any) -> None:
    class Buggy(BaseModel):
        content: str

        @field_validator("content")
        @classmethod
        def look_up(cls, value: str) -> str:
            return {"fine": value}[value]

    Chat = chat_model(database, output_schema=Buggy, input_schema=Buggy)
    with pytest.raises(InputInvalid, match="KeyError"):
        Chat.start_session({"content": "odd"})
    with (
        testing.script(Chat, ['{"content":"odd"}'] * 2),
        pytest.raises(OutputInvalid, match="KeyError") as failed,
    ):
        Chat.start_session({"content": "fine"})
    assert failed.value.session.status == "failed"


def test_an_empty_input_is_refused_and_an_empty_reply_does_not_fit(Chat: Any) -> None:
    for empty in ("", " \n", {"message": ""}):
        with pytest.raises(InputInvalid, match="empty"):
            Chat.start_session(empty)
    with pytest.raises(InputInvalid, match="Extra inputs"):
        Chat.start_session({"message": "a", "mesage": "b"})
    with testing.script(Chat, ["", "better"]) as asked:
        assert Chat.start_session("Hi").last_result.text == "better"
    assert asked[1][2].content == "(no text)"


def test_a_primary_key_without_a_value_is_refused(database: Any) -> None:
    connection = database

    @agent_session
    @agent(client="echo:", instruction="You help.")
    class NoDefault(SessionActions, pw.Model):
        id = pw.UUIDField(primary_key=True)
        context = pw.JSONField(null=True)

        class Meta:
            database = connection

    database.create_tables([NoDefault])
    with pytest.raises(InputInvalid, match="has no value"):
        NoDefault.start_session("Hi")
    assert NoDefault.start_session("Hi", attributes={"id": uuid4()}).last_result.text


def test_lone_surrogates_in_replies_and_errors_are_replaced(Chat: Any) -> None:
    with testing.script(Chat, [Reply("ok", model="m\ud800", finish_reason="\udfff")]):
        session = Chat.start_session("Hi")
    assert (session.last_result.model, session.last_result.finish_reason) == ("m\ufffd", "\ufffd")
    with testing.script(Chat, [ValueError("bad \ud800")]), pytest.raises(ProviderFailed, match="bad \ufffd"):
        session.continue_session("More")


def test_an_error_without_a_text_still_ends_the_turn(Chat: Any) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    for error in (Mute(), ProviderCallError(""), TimeoutError()):
        with (
            testing.script(Chat, [error]),
            pytest.raises(ProviderFailed, match="it gave no message") as failed,
        ):
            Chat.start_session("Hi")
        assert failed.value.session.status == "failed"
        assert str(failed.value.session.id) in failed.value.where


def test_a_resumed_turn_counts_the_usage_of_its_earlier_attempts(database: Any) -> None:
    Chat = chat_model(database, output_schema=Answer)
    bad = Reply("bad", usage=Usage(output_tokens=10), cost=1.0)
    good = Reply('{"content":"ok"}', usage=Usage(output_tokens=1), cost=0.5)
    with testing.script(Chat, [bad, bad, bad, good]):
        with pytest.raises(OutputInvalid) as failed:
            Chat.start_session("Hi")
        session = failed.value.session
        assert session.last_turn.usage.output_tokens == 20
        session.resume_session()
    assert session.last_turn.usage.output_tokens == session.last_result.usage.output_tokens == 31
    assert session.last_result.cost == 3.5
    assert len(Chat.get_context(session).messages[0].metadata["attempts"]) == 3


def test_a_record_reports_the_turn_of_the_last_call_even_if_it_was_interrupted(Chat: Any) -> None:
    session = Chat.start_session("One")
    with testing.script(Chat, [KeyboardInterrupt()]), pytest.raises(KeyboardInterrupt):
        session.continue_session("Two")
    assert session.status == session.last_turn.status == "interrupted"
    with pytest.raises(NoResult):
        session.last_result


def test_the_lease_begins_after_the_provider_is_prepared(database: Any) -> None:
    class SlowToLoad:
        def prepare(self) -> None:
            time.sleep(0.4)
            self.ready = time.time()

        def ask(self, request: Any) -> Reply:
            (row,) = Chat.select()
            left.append(row.context["turn"]["until"] - self.ready)
            return Reply("ok")

    left: list[float] = []
    Chat = chat_model(database, provider=SlowToLoad(), session={"lease": 30})
    session = Chat.start_session("One")
    session.continue_session("Two")
    session.continue_session("Three", run=False)
    session.resume_session()
    assert len(left) == 3
    assert min(left) > 30 - 0.4


@pytest.mark.parametrize("odd", [{}, (1, 2), [1], True, 1.5, b"x", {"id": 1}], ids=repr)
def test_an_invalid_id_is_refused(Chat: Any, odd: Any) -> None:
    for action in (lambda: Chat.get_context(odd), lambda: Chat.continue_session(odd, "Hi")):
        with pytest.raises(InputInvalid, match="is not an id"):
            action()
    with pytest.raises(InputInvalid, match="is not an id"):
        Chat.get_context(Chat.id)


def test_a_record_of_a_subclass_with_its_own_table_is_refused(Chat: Any) -> None:
    class Sub(Chat):  # type: ignore[misc]
        class Meta:
            table_name = "sub"

    with_messages(Sub)
    session = Sub.start_session("Hi")
    assert session.continue_session("More").last_turn.status == "completed"
    with pytest.raises(InputInvalid, match="not a session of Chat"):
        Chat.continue_session(session, "Hi")


def test_a_bad_value_in_another_column_is_not_reported_as_an_unknown_id(Chat: Any) -> None:
    class Odd(pw.CharField):
        def python_value(self, value: Any) -> Any:
            raise ValueError("a column of the user's own")

    session = Chat.start_session("Hi")
    Chat._meta.fields["title"].python_value = Odd().python_value
    with pytest.raises(ValueError, match="the user's own"):
        Chat.continue_session(session.id, "More")


def test_a_context_whose_last_turn_failed_can_be_called(Chat: Any) -> None:
    session = Chat.start_session("One")
    with testing.script(Chat, [ProviderCallError("down")]), pytest.raises(ProviderFailed):
        session.continue_session("Two")
    with testing.script(Chat, ["ok"]) as asked:
        Chat.call(Chat.get_context(session))
    assert [shown.content for shown in asked[0]][-1] == "Two"
    with pytest.raises(InputInvalid, match="neither a Message nor a Context"):
        build_context(Chat, ["Hi"])  # type: ignore[list-item]
    with pytest.raises(InputInvalid, match="only one of them"):
        Chat.call(
            build_context(Chat, [instruction_message(Chat), user_message(Chat, message="a")]),
            instruction_args={},
        )


def test_a_database_that_is_not_initialised_is_named() -> None:
    for database in (pw.SqliteDatabase(None), pw.DatabaseProxy()):
        with pytest.raises(DslError, match="initialize the DatabaseProxy, or call"):
            chat_model(database, create=False).start_session("Hi")

    Chat = chat_model(pw.SqliteDatabase(":memory:"), create=False)
    Chat._meta.database = pw.Database("x")
    with pytest.raises(DslError, match="Database is not supported"):
        Chat.start_session("Hi")


def test_a_database_has_the_dialect_of_its_nearest_class(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(pw.SqliteDatabase): ...

    class OwnDialect(SqliteDialect):
        database_class = Own

    monkeypatch.setattr(declared, "DIALECTS", {**declared.DIALECTS, Own: OwnDialect()})
    databases = {Own: OwnDialect, type("Sub", (Own,), {}): OwnDialect, pw.SqliteDatabase: SqliteDialect}
    for class_, dialect in databases.items():
        backend = declared.backend_for(class_(":memory:"))
        assert backend is not None
        assert type(backend.dialect) is dialect


def test_subclasses_of_plain_types_in_a_reply_are_stored_as_plain_types(Chat: Any) -> None:
    class Text(str):
        pass

    odd = Reply(Text("hi"), model=Text("m"), usage={"input_tokens": 3})  # type: ignore[arg-type]
    with testing.script(Chat, [odd]):
        session = Chat.start_session("Hi")
    assert session.last_result.usage == Usage(input_tokens=3)
    assert Chat.get_by_id(session.id).last_result == session.last_result


def test_keys_are_removed_from_errors_of_custom_providers(database: Any) -> None:
    class Tells:
        def __init__(self, kind: type[Exception]) -> None:
            self.kind = kind

        def ask(self, request: Any) -> Reply:
            raise self.kind("bad key " + request.client.options["api_key"])

    for kind in (ValueError, ProviderCallError):
        Chat = chat_model(database, provider=Tells(kind), client=("x:y", {"api_key": "hunter2hunter2"}))
        with pytest.raises(ProviderFailed, match="bad key") as failed:
            Chat.start_session("Hi")
        assert "hunter2" not in "".join(traceback.format_exception(failed.value))
        assert "hunter2" not in str(stored(failed.value.session))


def test_a_provider_that_cannot_be_prepared_fails_before_anything_is_stored(database: Any) -> None:
    class Broken:
        def prepare(self) -> None:
            raise ImportError("no such library")

        def ask(self, request: Any) -> Reply:
            return Reply("never")

    Chat = chat_model(database, provider=Broken())
    for action in (Chat.start_session, Chat.call):
        with pytest.raises(ProviderFailed, match="ImportError: no such library") as failed:
            action("Hi")
        assert failed.value.why == "nothing was stored"
    assert Chat.select().count() == 0


def test_the_cost_is_unknown_if_that_of_one_attempt_is(database: Any) -> None:
    Chat = chat_model(database, output_schema=Answer)
    with testing.script(Chat, [Reply("bad"), Reply('{"content":"ok"}', cost=0.5)]):
        assert Chat.start_session("Hi").last_result.cost is None


def test_a_resume_that_loses_the_race_uses_the_client_of_the_turn_that_it_runs(Chat: Any) -> None:
    from agentsession._drive.stepper import after_effect
    from agentsession._turn.effects import CallModel, Load

    session = Chat.start_session("One", run=False, client="echo:old")
    asked: list[Any] = []

    def overtake(effect: Any) -> None:
        if isinstance(effect, Load) and not asked:
            asked.append(None)
            token = after_effect.set(None)
            Chat.resume_session(session.id)
            Chat.continue_session(session.id, "Two", run=False, client="echo:new")
            after_effect.reset(token)
        if isinstance(effect, CallModel):
            asked.append(effect.client)

    token = after_effect.set(overtake)
    session.resume_session()
    after_effect.reset(token)
    assert asked == [None, "echo:new"]
