"""`SessionActions[Ask, Answer]`: what goes in and what comes out is checked."""

from typing import Any, assert_type
from uuid import uuid4

import peewee as pw
from pydantic import BaseModel

from agentsession import (
    AgentActions,
    AsyncTurnStream,
    Context,
    Event,
    Result,
    SessionActions,
    TurnFinished,
    TurnStream,
    agent,
    agent_session,
)


class Ask(BaseModel):
    message: str


class Answer(BaseModel):
    content: str


@agent_session(context_attribute="context")
@agent(client="echo:", instruction="You help.", input_schema=Ask, output_schema=Answer)
class Chat(SessionActions[Ask, Answer], pw.Model):
    id = pw.UUIDField(primary_key=True, default=uuid4)
    context = pw.JSONField(null=True)


class Sub(Chat): ...


@agent(client="echo:", instruction="You are terse.")
class Terse(AgentActions[Ask, Answer]): ...


@agent(client="echo:", instruction="You are terse.")
class Text(AgentActions[str, str]): ...


session = Chat.start_session(Ask(message="Hello"))
assert_type(session, Chat)
assert_type(Chat.start_session("Hello"), Chat)
assert_type(session.last_result, Result[Answer])
assert_type(session.last_result.output, Answer)
assert_type(session.last_result.output.content, str)
assert_type(session.continue_session(Ask(message="More")).last_result.output, Answer)
assert_type(Chat.start_session(Ask(message="Hello"), actor=7, idempotency_key="k"), Chat)
assert_type(session.continue_session("More", actor=7, idempotency_key="k").last_result.output, Answer)
assert_type(Chat.continue_session(1, "More", actor=7, idempotency_key="k").last_result.output, Answer)
assert_type(session.resume_session(actor=7).last_result.output, Answer)
assert_type(Chat.get_context(session), Context)
assert_type(Chat.get_context(session, actor=7), Context)
assert_type(session.get_context().messages[0].parse(Answer), Answer)
assert_type(Sub.start_session("Hello"), Sub)
assert_type(Sub.start_session("Hello").continue_session("More"), Sub)
assert_type(Sub.resume_session(1).last_result.output, Answer)
assert_type(Terse.call(Ask(message="Hello")).output, Answer)
assert_type(Terse.call(session.get_context()).output, Answer)
assert_type(Text.call("Hello").output, str)


async def on_a_loop() -> None:
    session = await Chat.astart_session(Ask(message="Hello"), actor=7)
    assert_type(session, Chat)
    assert_type((await session.acontinue_session("More")).last_result.output, Answer)
    assert_type(await Chat.aresume_session(1), Chat)
    assert_type(await session.acancel_session(actor=7), Chat)
    assert_type(await Chat.aget_context(1), Context)
    assert_type((await Terse.acall("Hello")).output, Answer)
    assert_type(await Sub.astart_session("Hello"), Sub)
    async with session.astream_continue_session("More") as stream:
        assert_type(stream, AsyncTurnStream[Chat])
        async for event in stream:
            assert_type(event, Event)
    assert_type(await Sub.astream_start_session("Hello"), AsyncTurnStream[Sub])
    await Chat.astart_session(Answer(content="Hello"))  # error


assert_type(Chat.stream_start_session(Ask(message="Hello")), TurnStream[Chat])
assert_type(session.stream_continue_session("More").session.last_result.output, Answer)
assert_type(Chat.stream_resume_session(1).result, Result[Any])
assert_type(Sub.cancel_session(1), Sub)
for event in Sub.stream_continue_session(1, "More"):
    if isinstance(event, TurnFinished):
        assert_type(event.result, Result[Any])

Chat.start_session(Answer(content="Hello"))  # error
session.last_result.output.message  # error
Chat.start_session(Ask(message="Hello"), idempotency_key=7)  # error
session.continue_session("More", idempotency_key=7)  # error
Terse.call(3)  # error
Text.call(Ask(message="Hello"))  # error
Text.start_session("Hello")  # error
