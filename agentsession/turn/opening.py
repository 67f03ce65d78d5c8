"""How a turn begins: accept what the caller gave, render the instruction, build the user's message."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentsession.context import Context, Message
from agentsession.errors import InputInvalid
from agentsession.json_values import JsonMap, compact
from agentsession.options import AgentOptions
from agentsession.prompt import VariableMissing
from agentsession.schema import SchemaMismatch

Content = str | JsonMap


@dataclass(frozen=True)
class Plan:
    """What is fixed before a turn touches the store: the options, the accepted input, and its ids."""

    agent: AgentOptions
    turn_id: str
    claim_id: str
    lease: float = 0.0
    pin_instruction: bool = False
    content: Content = ""
    instruction_args: JsonMap | None = None
    client: str | None = None
    run: bool = True


def accept_input(agent: AgentOptions, given: Any) -> Content:
    """The content to store; raises `InputInvalid`."""
    try:
        content = agent.input.accept(given)
    except SchemaMismatch as error:
        raise InputInvalid(
            f"the input does not fit {agent.input.name}: {error}",
            where=f"{agent.place} input",
            why="nothing was stored and the model was not asked",
            fix=_input_fix(agent),
        ) from error
    if not agent.input.show(content).strip():
        raise InputInvalid(
            "the input is empty",
            where=f"{agent.place} input",
            why="providers refuse a message without text",
            fix="pass a message with at least one word",
        )
    return content


def accept_args(agent: AgentOptions, given: Any) -> JsonMap:
    """The instruction's arguments as they are stored; raises `InputInvalid`."""
    schema = agent.instruction_schema
    try:
        args: Any = schema.dump(schema.load(dict(given) if isinstance(given, Mapping) else given))
        return dict(args)
    except SchemaMismatch as error:
        raise InputInvalid(
            f"instruction_args do not fit {schema.name}: {error}",
            where=f"{agent.place} instruction_args",
            why="the instruction is rendered from them",
            fix='pass instruction_args= with a value for each field, such as {"company_name": "Acme"}',
        ) from error


def render(agent: AgentOptions, args: JsonMap) -> str:
    """The system message; raises `InputInvalid` that names a variable without a value."""
    try:
        return agent.template.render(args)
    except VariableMissing as missing:
        raise InputInvalid(
            f"the instruction's variable {{{{ {missing.name} }}}} has no value",
            where=f"{agent.place} instruction",
            why="the model would be given an instruction with a hole in it",
            fix=f'pass instruction_args={{"{missing.name}": …}}',
        ) from None


def settle_args(plan: Plan, context: Context) -> tuple[JsonMap, JsonMap | None]:
    """The arguments of this turn, and those to store if they are new.

    Arguments given on a later turn are laid over the stored ones. Stored ones are read by today's schema,
    so that a field added since takes its default.
    """
    given = plan.instruction_args is not None or context.instruction_args
    if not given and not plan.agent.template.has_variables:
        return {}, None
    merged = {**context.instruction_args, **(plan.instruction_args or {})}
    args = accept_args(plan.agent, merged)
    return args, args if plan.instruction_args is not None else None


def system_message(plan: Plan, context: Context, args: JsonMap) -> tuple[str, bool]:
    """The system message, and whether this turn is the one that pins it."""
    pinned = next((m.text for m in context.messages if m.role == "system"), None)
    if not plan.pin_instruction or pinned is None:
        return render(plan.agent, args), plan.pin_instruction
    if plan.instruction_args is not None:
        raise InputInvalid(
            "instruction_args were given for a pinned instruction",
            where=f"{plan.agent.place} instruction_args",
            why="pin_instruction=True keeps the text of the session's first turn",
            fix="leave instruction_args out, or declare pin_instruction=False",
        )
    return pinned, False


def opening_messages(plan: Plan, pinned: str | None) -> tuple[Message, ...]:
    """The messages that begin a turn: the pinned instruction, if it is new, and the user's."""
    messages: tuple[Message, ...] = ()
    if pinned is not None:
        messages = (Message(f"{plan.turn_id}:0", plan.turn_id, "system", pinned),)
    metadata = {"input_hash": input_hash(plan.content)}
    number = len(messages)
    return (*messages, Message(f"{plan.turn_id}:{number}", plan.turn_id, "user", plan.content, metadata))


def input_hash(content: Content) -> str:
    """Tells whether two inputs are the same, whatever the order of their keys."""
    ordered = dict(sorted(content.items())) if isinstance(content, dict) else content
    return hashlib.sha256(compact(ordered).encode()).hexdigest()


def _input_fix(agent: AgentOptions) -> str:
    if agent.input.text_field is not None:
        return f'pass {{"{agent.input.text_field}": "…"}} or the bare text'
    return f"pass a value of {agent.input.name}, or a dict with its fields"
