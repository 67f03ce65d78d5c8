"""A model without the mixin: its methods are invisible to checkers, the functions are typed."""

from typing import Any, assert_type
from uuid import uuid4

import peewee as pw

from agentsession import AsyncTurnStream, Context, Message, Result, Turn, TurnStream, agent, agent_session
from agentsession.actions import (
    astream_resume_session,
    build_context,
    call,
    cancel_session,
    continue_session,
    get_context,
    last_result,
    last_turn,
    resume_session,
    start_session,
    stream_start_session,
    user_message,
)


@agent_session(
    status_attribute="status",
    updated_attribute=None,
    owner_attribute="owner",
    idempotency_attribute="start_key",
    max_input_bytes=2**20,
    max_context_bytes=2**24,
    lease=5,
    on_busy="wait",
    busy_timeout=0.5,
    inject=False,
)
@agent(client=("openai:gpt-5", {"temperature": 0}), instruction="You help.", timeout=5)
class Chat(pw.Model):
    id = pw.UUIDField(primary_key=True, default=uuid4)
    context = pw.JSONField(null=True)
    status = pw.CharField()


session = start_session(Chat, "Hello", run=False)
assert_type(session, Chat)
assert_type(continue_session(Chat, session.id, {"message": "More"}), Chat)
assert_type(resume_session(Chat, session), Chat)
assert_type(get_context(Chat, session), Context)
assert_type(start_session(Chat, "Hello", actor="ann", idempotency_key="k", attributes={"owner": 1}), Chat)
assert_type(continue_session(Chat, session, "More", actor=session, idempotency_key="k"), Chat)
assert_type(resume_session(Chat, session.id, actor=uuid4()), Chat)
assert_type(get_context(Chat, session.id, actor="ann"), Context)
assert_type(last_result(session), Result[Any])
assert_type(cancel_session(Chat, 1, actor=7), Chat)
assert_type(stream_start_session(Chat, "Hello"), TurnStream[Chat])
assert_type(astream_resume_session(Chat, 1), AsyncTurnStream[Chat])
assert_type(last_turn(session), Turn)
assert_type(user_message(Chat, message="Hi"), Message)
assert_type(call(Chat, build_context(Chat, [user_message(Chat, message="Hi")])), Result[Any])

Chat.start_session("Hello")  # error
start_session(int, "Hello")  # error
start_session(Chat)  # error
continue_session(Chat, "More")  # error
last_turn(1)  # error
start_session(Chat, "Hello", idempotency_key=uuid4())  # error
continue_session(Chat, session, "More", idempotency_key=1)  # error
resume_session(Chat, session, idempotency_key="k")  # error
get_context(Chat, session, "ann")  # error


@agent_session(on_busy="queue")  # error
@agent(client="echo:", instruction="You help.")
class NoSuchWay(pw.Model): ...


@agent_session(max_input_bytes="16 MB")  # error
@agent(client="echo:", instruction="You help.")
class NoSize(pw.Model): ...


@agent_session(context="context")  # error
@agent(client="echo:", instruction="You help.")
class Misspelled(pw.Model): ...


@agent(client="echo:")  # error
class NoInstruction: ...


@agent(client="echo:", instruction="You help.", output_mode="json")  # error
class NoSuchMode: ...
