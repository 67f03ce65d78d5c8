"""One call without a session."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from agentsession import info
from agentsession._drive.performer import Performer
from agentsession._json_values import JsonMap
from agentsession._store.declared import Declared
from agentsession._tracebacks import take_all
from agentsession._turn import machine
from agentsession._turn.effects import Outcome
from agentsession._turn.plan import Plan, render, settle_args
from agentsession.actions.action import Action
from agentsession.actions.building import accepted_message, build_context
from agentsession.actions.late_checks import refuse_altered
from agentsession.actions.prepare import ClientChoice, Options, plan_turn
from agentsession.actions.variants import ASYNC, astreamed, like, prepared, streamed
from agentsession.context import Context, Message, Result, with_schema
from agentsession.errors import InputInvalid, ProviderFailed

_log = logging.getLogger("agentsession")


def calling(
    model: type[Any],
    context_or_input: Any,
    *,
    instruction_args: Any = None,
    client: ClientChoice = None,
    client_options: Options = None,
) -> Action[None]:
    """Ask once and store nothing: the input, or a `Context` from `build_context` that ends with the user.

    Works on every `@agent` model. A system message of the context is used as it is; without one the
    instruction is rendered from `instruction_args`. Other arguments are those of `start_session`. The
    result's `context` is the whole conversation, for the next call to go on from.

    Raises `InputInvalid` before the model is asked, then `ProviderFailed` or `OutputInvalid`.

    ```python
    result = ChatAgent.call("What is the capital of France?")
    print(result.text, result.usage.total_tokens)

    further = build_context(ChatAgent, [result.context, user_message(ChatAgent, message="And of Italy?")])
    ChatAgent.call(further)
    ```
    """
    declared = Declared.of(model) if info.is_session(model) else None
    if declared is not None:
        refuse_altered(declared)
    agent = info.agent_options(model) if declared is None else declared.agent
    plan, options = plan_turn(agent, declared, "", instruction_args, client, client_options)
    given = context_or_input
    items = [given] if isinstance(given, Context) else [accepted_message(plan.agent, given)]
    context = _ending_with_the_user(plan, build_context(model, items))
    return Action(plan.agent, machine.single(plan, context, *_system(plan, context)), options, None, model)


def _call(model: type[Any], context_or_input: Any, **options: Any) -> Result[Any]:
    return _result(prepared(calling, (model, context_or_input), take_all(options)).run())


async def _acall(model: type[Any], context_or_input: Any, **options: Any) -> Result[Any]:
    return _result(await prepared(calling, (model, context_or_input), take_all(options)).arun())


call = like(calling, _call, "call", "")
acall = like(calling, _acall, "acall", ASYNC)
stream = streamed(calling, "stream")
astream = astreamed(calling, "astream")


def warm_up(model: type[Any]) -> None:
    """Make the model's provider ready now, so that the first turn does not wait for it.

    litellm takes seconds to import; a server calls this when it starts. Idempotent, asks no model. A missing
    API key is logged as a warning, since a key may come with `client_options`.

    Raises `ProviderFailed` where the provider cannot be made ready, or litellm does not know it.
    """
    agent = info.agent_options(model)
    try:
        Performer(agent, None).prepare(None)
    except ProviderFailed as failed:
        failed.where, failed.why = agent.qualified_name, "the first turn would fail"
        if failed.kind != "auth":
            raise
        _log.warning("%s", failed)


def _result(outcome: Outcome) -> Result[Any]:
    if outcome.result is None:
        raise AssertionError("a call that ends without an error has a result")
    return outcome.result


def _ending_with_the_user(plan: Plan, context: Context) -> Context:
    """The context, its last message to be answered whatever became of it before. It begins the turn of this
    call, whose id no other call has, so that calls of tools keep their keys where contexts are joined."""
    *before, last = context.messages or (None,)
    if last is None or last.role != "user":
        raise InputInvalid(
            "the context does not end with a user's message",
            where=f"{plan.agent.qualified_name} call",
            why="the model would have nothing to answer",
            fix="end it with user_message(Model, …)",
        )
    opening = Message(f"{plan.turn_id}:{len(before)}", plan.turn_id, "user", last.content)
    return msgspec.structs.replace(context, messages=with_schema((*before, opening), plan.agent.input))


def _system(plan: Plan, context: Context) -> tuple[str, JsonMap | None]:
    """The system message, and what it was rendered from."""
    given = [message.text for message in context.messages if message.role == "system"]
    if not given:
        args, _ = settle_args(plan, Context())
        return render(plan.agent, args), args
    if plan.instruction_args is not None:
        raise InputInvalid(
            "instruction_args were given with a context that has a system message",
            where=f"{plan.agent.qualified_name} call",
            why="only one of them can be the instruction",
            fix="leave instruction_args out, or the system message",
        )
    return "\n\n".join(given), None
