"""Build the context of a `call`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agentsession import info
from agentsession._options import AgentOptions
from agentsession._schema import SchemaMismatch
from agentsession._turn.plan import accept_args, accept_input, render
from agentsession.context import Context, Message, with_schema
from agentsession.errors import InputInvalid


def instruction_message(model: type[Any], /, **args: Any) -> Message:
    """Return a system message for `build_context`: the instruction, rendered.

    Args:
        model: The class with `@agent`.
        args: The values of the instruction's variables.

    Returns:
        The message, without an id.

    Raises:
        InputInvalid: A variable has no value, or the values do not fit the `instruction_schema`.

    Example:
        ```python
        print(instruction_message(ChatAgent, company_name="Acme").text)
        ```
    """
    agent = info.agent_options(model)
    return Message("", "", "system", render(agent, accept_args(agent, args)))


def user_message(model: type[Any], /, **args: Any) -> Message:
    """Return a user's message for `build_context`.

    Args:
        model: The class with `@agent`.
        args: The fields of the input schema; without a schema, `message`.

    Returns:
        The message, without an id.

    Raises:
        InputInvalid: The fields do not fit the input schema.

    Example:
        ```python
        print(user_message(ChatAgent, message="Are you open?").text)
        ```
    """
    return accepted_message(info.agent_options(model), args)


def assistant_message(model: type[Any], reply: Any) -> Message:
    """Return a reply of the model for `build_context`.

    Args:
        model: The class with `@agent`.
        reply: The text of the reply, or a value of the output schema.

    Returns:
        The message, without an id.

    Raises:
        InputInvalid: The value does not fit the output schema.

    Example:
        ```python
        print(assistant_message(ChatAgent, "Until six.").text)
        ```
    """
    agent = info.agent_options(model)
    try:
        text = reply if isinstance(reply, str) else agent.output.encode(reply)
    except SchemaMismatch as error:
        raise InputInvalid(
            f"the reply does not fit {agent.output.name}: {error}",
            where=f"{agent.qualified_name} assistant_message",
            why="the model could not have written this reply",
            fix="pass the text of the reply, or a value of the output schema",
        ) from error
    return Message("", "", "assistant", text)


def build_context(model: type[Any], items: Iterable[Message | Context]) -> Context:
    """Return a context for `call`, made of messages and other contexts in their order.

    Every message gets a new id, and every user's message begins a new turn. Nothing is stored.

    Args:
        model: The class with `@agent`.
        items: The messages and contexts.

    Returns:
        The context.

    Raises:
        InputInvalid: An item is neither a message nor a context.

    Example:
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


def accepted_message(agent: AgentOptions, input: Any) -> Message:
    """Return the user's message of an input, which the agent's input schema validates."""
    (message,) = with_schema((Message("", "", "user", accept_input(agent, input)),), agent.input)
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
