"""`SessionActions` without type arguments: text goes in, and the output may be anything."""

from typing import Any, assert_type
from uuid import uuid4

import peewee as pw

from agentsession import Context, Result, SessionActions, Turn, agent, agent_session


@agent_session
@agent(client="echo:", instruction="You help.")
class Chat(SessionActions, pw.Model):
    id = pw.UUIDField(primary_key=True, default=uuid4)
    context = pw.JSONField(null=True)


session = Chat.start_session("Hello", instruction_args={"company": "Acme"}, attributes={"title": "x"})
assert_type(session, Chat)
assert_type(Chat.start_session({"message": "Hello"}, run=False), Chat)
assert_type(Chat.continue_session(session.id, "More"), Chat)
assert_type(session.continue_session({"message": "More"}, client=("openai:gpt-5", {"seed": 1})), Chat)
assert_type(Chat.resume_session(session, client_options={"seed": 1}), Chat)
assert_type(session.resume_session(), Chat)
assert_type(Chat.get_context(session.id), Context)
assert_type(Chat.get_context(session=session), Context)
assert_type(session.get_context(), Context)
assert_type(Chat.start_session("Hello", actor="ann", idempotency_key="k", attributes=None), Chat)
assert_type(Chat.continue_session(session.id, "More", actor=session, idempotency_key=None), Chat)
assert_type(session.continue_session("More", actor=7, idempotency_key="k", run=False), Chat)
assert_type(Chat.resume_session(session.id, actor=uuid4(), instruction_args={}), Chat)
assert_type(session.resume_session(actor=7, client="openai:gpt-5"), Chat)
assert_type(Chat.get_context(session.id, actor="ann"), Context)
assert_type(session.get_context(actor=None), Context)
assert_type(session.last_result, Result[Any])
assert_type(session.last_turn, Turn)
assert_type(Chat.call("Hello"), Result[Any])
assert_type(session.save(), Any)

Chat.start_session(3)  # error
Chat.start_session("Hello", "positional")  # error
Chat.start_session("Hello", runn=False)  # error
Chat.continue_session("More")  # error
session.continue_session("More", run="no")  # error
session.resume_session(1)  # error
Chat.start_session("Hello", idempotency_key=7)  # error
Chat.continue_session(session.id, "More", idempotency_key=b"k")  # error
session.continue_session("More", idempotency_key=uuid4())  # error
Chat.continue_session(session.id, "More", "ann")  # error
session.continue_session("More", actr="ann")  # error
Chat.resume_session(session.id, idempotency_key="k")  # error
session.resume_session(idempotency_key="k")  # error
session.resume_session(run=False)  # error
Chat.get_context(session.id, "ann")  # error
session.get_context(idempotency_key="k")  # error
Chat.call("Hello", actor="ann")  # error
session.get_context(1)  # error
Chat.get_context()  # error
session.last_result.outputs  # error
session.last_turn.state  # error
