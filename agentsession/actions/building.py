"""The builders of a context for `call`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agentsession import info
from agentsession._options import AgentOptions
from agentsession._schema import SchemaMismatch
from agentsession._turn.plan import accept_args, accept_input, render
from agentsession.context import Context, Message, with_schema
from agentsession.errors import InputInvalid


def instruction_message(model: type[Any], **args: Any) -> Message:
    """The system message of a context for `call`: the instruction rendered with these arguments."""
    agent = info.agent_options(model)
    return Message("", "", "system", render(agent, accept_args(agent, args)))


def user_message(model: type[Any], **args: Any) -> Message:
    """A user's message of a context for `call`: these fields, validated by the agent's input schema."""
    return accepted_message(info.agent_options(model), args)


def assistant_message(model: type[Any], said: Any) -> Message:
    """A reply of the model in a context for `call`: its text, or a value of the agent's output schema."""
    agent = info.agent_options(model)
    try:
        text = said if isinstance(said, str) else agent.output.encode(said)
    except SchemaMismatch as error:
        raise InputInvalid(
            f"the reply does not fit {agent.output.name}: {error}",
            where=f"{agent.qualified_name} assistant_message",
            why="the model would read a reply that it could not have given",
            fix="pass the text of the reply, or a value of the output schema",
        ) from error
    return Message("", "", "assistant", text)


def build_context(model: type[Any], items: Iterable[Message | Context]) -> Context:
    """A context for `call`, from messages and other contexts in order. Ids and turns are given anew.

    ```python
    context = build_context(ChatAgent, [
        instruction_message(ChatAgent, company_name="Acme"),
        user_message(ChatAgent, message="Are you open?"),
        assistant_message(ChatAgent, "Until six."),
        user_message(ChatAgent, message="And on Sundays?"),
    ])
    result = ChatAgent.call(context)
    build_context(ChatAgent, [result.context, user_message(ChatAgent, message="Thanks!")])
    ```
    """
    agent = info.agent_options(model)
    messages: list[Message] = []
    turn = number = 0
    for message in _flat(agent, [items] if isinstance(items, (Message, Context)) else items):
        if message.role == "user":
            turn, number = turn + 1, 0
        messages.append(
            Message(f"{turn}:{number}", str(turn), message.role, message.content, message.metadata)
        )
        number += 1
    return Context(messages=with_schema(tuple(messages), agent.input), count=len(messages))


def accepted_message(agent: AgentOptions, given: Any) -> Message:
    (message,) = with_schema((Message("", "", "user", accept_input(agent, given)),), agent.input)
    return message


def _flat(agent: AgentOptions, items: Iterable[Message | Context]) -> Iterable[Message]:
    for item in items:
        if isinstance(item, Context):
            yield from item.messages
        elif isinstance(item, Message):
            yield item
        else:
            raise InputInvalid(
                f"a {type(item).__name__} is neither a Message nor a Context",
                where=f"{agent.qualified_name} build_context",
                why="a context is built of messages",
                fix="use instruction_message, user_message or assistant_message(Model, …)",
            )
