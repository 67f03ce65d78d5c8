"""`start_session = Chat.start_session`: the visible, typed line for a function of one model."""

from typing import assert_type
from uuid import uuid4

import peewee as pw

from agentsession import Context, SessionActions, agent, agent_session, code_interface


@code_interface(call=["context_or_input"])
@agent_session
@agent(client="echo:", instruction="You help.")
class Chat(SessionActions[str, str], pw.Model):
    id = pw.UUIDField(primary_key=True, default=uuid4)
    context = pw.JSONField(null=True)


start_session = Chat.start_session
continue_session = Chat.continue_session
resume_session = Chat.resume_session
get_context = Chat.get_context

session = start_session("Hello", run=False)
assert_type(session, Chat)
assert_type(continue_session(session.id, "More").last_result.output, str)
assert_type(resume_session(session.id), Chat)
assert_type(get_context(session.id), Context)
assert_type(start_session("Hello", actor="ann", idempotency_key="k"), Chat)
assert_type(continue_session(session, "More", actor="ann", idempotency_key="k"), Chat)
assert_type(resume_session(session, actor="ann"), Chat)
assert_type(get_context(session, actor="ann"), Context)

start_session()  # error
start_session("Hello", rum=True)  # error
continue_session("More")  # error
get_context(session, 1)  # error
start_session("Hello", idempotency_key=1)  # error
continue_session(session, "More", idempotency_keys="k")  # error
resume_session(session, idempotency_key="k")  # error
