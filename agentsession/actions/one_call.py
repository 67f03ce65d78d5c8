"""One call without a session, and the builders of its context."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from agentsession import info
from agentsession.actions.intact import refuse_altered
from agentsession.actions.plan import ClientChoice, Options, plan_turn
from agentsession.context import Context, Message, Result
from agentsession.drive.perform import Asking
from agentsession.drive.sync import drive
from agentsession.errors import AgentSessionError, InputInvalid
from agentsession.options import AgentOptions
from agentsession.turn import machine
from agentsession.turn.opening import Plan, accept_args, accept_input, render, settle_args


def call(
    model: type[Any],
    context_or_input: Any,
    *,
    instruction_args: Any = None,
    client: ClientChoice = None,
    client_options: Options = None,
) -> Result[Any]:
    """Ask once and store nothing: the input, or a `Context` from `build_context` that ends with the user.

    Works on every `@agent` model. A system message of the context is used as it is; without one the
    instruction is rendered from `instruction_args`. Other arguments are those of `start_session`.

    Raises `InputInvalid` before the model is asked, then `ProviderFailed` or `OutputInvalid`.

    ```python
    result = ChatAgent.call("What is the capital of France?")
    print(result.text, result.usage.total_tokens)
    ```
    """
    if info.is_session(model):
        refuse_altered(model)
    plan, options = plan_turn(model, "", instruction_args, client, client_options)
    given = context_or_input
    items = [given] if isinstance(given, Context) else [_user_message(plan.agent, given)]
    context = _ending_with_the_user(plan.agent, build_context(model, items))
    turn = machine.single(plan, context, _system(plan, context))
    try:
        outcome = drive(turn, Asking(plan.agent, options))
    except AgentSessionError as error:
        error.where = error.where or f"{plan.agent.place} call"
        error.fix = error.fix or "call again, or ask another model with client="
        raise
    if outcome.result is None:
        raise AssertionError("a call that ends without an error has a result")
    return outcome.result


def instruction_message(model: type[Any], **args: Any) -> Message:
    """The system message of a context for `call`: the instruction rendered with these arguments."""
    agent = info.agent_options(model)
    return Message("", "", "system", render(agent, accept_args(agent, args)))


def user_message(model: type[Any], **args: Any) -> Message:
    """A user's message of a context for `call`: these fields, validated by the agent's input schema."""
    return _user_message(info.agent_options(model), args)


def build_context(model: type[Any], items: Iterable[Message | Context]) -> Context:
    """A context for `call`, from messages and other contexts in order. Ids and turns are given anew.

    ```python
    context = build_context(ChatAgent, [
        instruction_message(ChatAgent, company_name="Acme"),
        earlier,                                    # a Context
        user_message(ChatAgent, message="And now?"),
    ])
    ChatAgent.call(context)
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
    return Context(messages=tuple(messages))


def warm_up(model: type[Any]) -> None:
    """Make the model's provider ready now, so that the first turn does not wait for it.

    litellm takes seconds to import; a server calls this when it starts. Idempotent, asks no model.
    """
    Asking(info.agent_options(model), None).prepare(None)


def _user_message(agent: AgentOptions, given: Any) -> Message:
    return Message("", "", "user", accept_input(agent, given))


def _ending_with_the_user(agent: AgentOptions, context: Context) -> Context:
    """The context, its last message to be answered whatever became of it before."""
    *before, last = context.messages or (None,)
    if last is None or last.role != "user":
        raise InputInvalid(
            "the context does not end with a user's message",
            where=f"{agent.place} call",
            why="the model would have nothing to answer",
            fix="end it with user_message(Model, …)",
        )
    return Context(messages=(*before, msgspec.structs.replace(last, metadata={})))


def _system(plan: Plan, context: Context) -> str:
    given = [message.text for message in context.messages if message.role == "system"]
    if not given:
        return render(plan.agent, settle_args(plan, Context())[0])
    if plan.instruction_args is not None:
        raise InputInvalid(
            "instruction_args were given with a context that has a system message",
            where=f"{plan.agent.place} call",
            why="only one of them can be the instruction",
            fix="leave instruction_args out, or the system message",
        )
    return "\n\n".join(given)


def _flat(agent: AgentOptions, items: Iterable[Message | Context]) -> Iterable[Message]:
    for item in items:
        if isinstance(item, Context):
            yield from item.messages
        elif isinstance(item, Message):
            yield item
        else:
            raise InputInvalid(
                f"a {type(item).__name__} is neither a Message nor a Context",
                where=f"{agent.place} build_context",
                why="a context is built of messages",
                fix="use user_message(Model, …) or instruction_message(Model, …)",
            )
