"""The beginning of a turn: its accepted input, the wait for a busy session, the instruction, the messages."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from agentsession._json_values import JsonMap
from agentsession._options import AgentOptions, History
from agentsession._prompt import VariableMissing
from agentsession._schema import SchemaMismatch
from agentsession._turn.effects import Effect, Load, Loaded, Wait
from agentsession._turn_state import AWAITING, Turn
from agentsession.context import Context, Message, with_schema
from agentsession.errors import InputInvalid, SessionBusy

InputContent = str | JsonMap

DECIDED = "the approvals of the latest turn are decided, and it waits to be run"

SWAPPED = "; an action of the class takes the session first, then the input"


@dataclass(frozen=True)
class Plan:
    """The part of a turn that is fixed before it reads the session: options, accepted input, and ids.

    `keyed` is set if the turn's id is the caller's idempotency key. `patience` is the number of seconds to
    wait for a busy session.
    """

    agent: AgentOptions
    turn_id: str
    claim_id: str
    keyed: bool = False
    lease: float = 0.0
    patience: float = 0.0
    max_bytes: float = math.inf
    pin_instruction: bool = False
    history_turns: int | None = None
    history: History = None
    content: InputContent = ""
    instruction_args: Any = None
    client: str | None = None
    run: bool = True


def accept_input(agent: AgentOptions, value: Any) -> InputContent:
    """Return the content to store; raises `InputInvalid`."""
    try:
        content = agent.input.accept(value)
    except SchemaMismatch as error:
        raise InputInvalid(
            f"the input does not fit {agent.input.name}: {error}",
            where=f"{agent.qualified_name} input",
            why="nothing was stored and the model was not asked",
            fix=_input_fix(agent) + (SWAPPED if _is_a_session(value) else ""),
        ) from error
    if not agent.input.show(content).strip():
        raise InputInvalid(
            "the input is empty",
            where=f"{agent.qualified_name} input",
            why="providers refuse a message without text",
            fix="pass a message with at least one word",
        )
    return content


def accept_args(agent: AgentOptions, value: Any) -> JsonMap:
    """Return the instruction's arguments as they are stored; raises `InputInvalid`."""
    schema = agent.instruction_schema
    try:
        args: Any = schema.dump(schema.load(dict(value) if isinstance(value, Mapping) else value))
    except SchemaMismatch as error:
        fields = dict.fromkeys(schema.input_names.values()) or {"name": None}
        example = ", ".join(f'"{name}": …' for name in fields)
        raise InputInvalid(
            f"instruction_args do not fit {schema.name}: {error}",
            where=f"{agent.qualified_name} instruction_args",
            why="the instruction is rendered from them; new ones are validated together with the stored ones",
            fix=f"pass instruction_args={{{example}}}",
        ) from error
    return dict(args)


def render(agent: AgentOptions, args: JsonMap) -> str:
    """Return the system message; raises `InputInvalid` for a variable without a value."""
    try:
        return agent.template.render(args)
    except VariableMissing as missing:
        raise InputInvalid(
            f"the instruction's variable {{{{ {missing.name} }}}} has no value",
            where=f"{agent.qualified_name} instruction",
            why="the model would receive an incomplete instruction",
            fix=f'pass instruction_args={{"{missing.name}": …}}',
        ) from None


def settle_args(plan: Plan, context: Context) -> tuple[JsonMap, JsonMap | None]:
    """Return the arguments of this turn, and those to store if they are new.

    Without new arguments the stored ones stay as they are. A mapping is merged over the stored ones, and the
    result is validated as a whole, so that derived fields stay right. A schema whose stored form differs from
    its input (because of a serializer) therefore needs all of its arguments again. A value of the schema
    replaces the stored arguments.
    """
    new, stored = plan.instruction_args, context.instruction_args
    if new is None:
        return _with_new_defaults(plan.agent, stored), None
    if isinstance(new, Mapping):
        new = {**_untouched(plan.agent, stored, new), **new}
    args = accept_args(plan.agent, new)
    return args, args


def _with_new_defaults(agent: AgentOptions, stored: JsonMap) -> JsonMap:
    """Return the stored arguments with the defaults of fields that were added to the schema later."""
    fields = agent.instruction_schema.fields
    if fields is None or fields.keys() <= stored.keys() or not (stored or agent.template.has_variables):
        return stored
    return {**accept_args(agent, _untouched(agent, stored, {})), **stored}


def _untouched(agent: AgentOptions, stored: JsonMap, new: Mapping[Any, Any]) -> JsonMap:
    """Return the stored arguments without a new value that are fields of the schema, or extra ones."""
    schema = agent.instruction_schema
    names = schema.input_names
    inputs = set(names.values())
    extra = set(stored) - set(schema.fields or ()) if schema.takes_more else set()
    touched = {names.get(name, name) for name in new}
    return {name: value for name, value in stored.items() if name in (inputs | extra) - touched}


def pinned_instruction(plan: Plan, context: Context) -> str | None:
    """Return the stored system message, if the instruction is pinned.

    Raises `InputInvalid` for new arguments.
    """
    if not plan.pin_instruction:
        return None
    pinned = next((message.text for message in context.messages if message.role == "system"), None)
    if pinned is not None and plan.instruction_args is not None:
        raise InputInvalid(
            "instruction_args were given for a pinned instruction",
            where=f"{plan.agent.qualified_name} instruction_args",
            why="pin_instruction=True keeps the text of the session's first turn",
            fix="leave instruction_args out, or declare pin_instruction=False",
        )
    return pinned


def opening_messages(plan: Plan, pinned: str | None, position: int = 0) -> tuple[Message, ...]:
    """Return the messages that begin a turn: the pinned instruction, if it is new, and the user's message.

    The id of a message is its turn and its position in the conversation, so that a page of rows knows the ids
    of its messages without a column for them.
    """
    turn, metadata = plan.turn_id, {"input_hash": input_hash(plan.content)}
    system = () if pinned is None else (Message(f"{turn}:{position}", turn, "system", pinned),)
    user = Message(f"{turn}:{position + len(system)}", turn, "user", plan.content, metadata)
    return with_schema((*system, user), plan.agent.input)


def refuse_large_input(agent: AgentOptions, content: InputContent, limit: int) -> None:
    """Raise `InputInvalid` if the input takes more bytes than the limit."""
    size = len(msgspec.json.encode(content))
    if size > limit:
        raise InputInvalid(
            f"the input takes {size:,} bytes, the limit is {limit:,}",
            where=f"{agent.qualified_name} input",
            why="nothing was stored and the model was not asked",
            fix="send less, or declare a larger max_input_bytes",
        )


def grown_size(plan: Plan, size: int, messages: tuple[Message, ...], args: JsonMap | None) -> int:
    """Return the size of the conversation with these messages; raises `InputInvalid` if it is too large."""
    size += len(msgspec.json.encode(messages)) + len(msgspec.json.encode(args or {}))
    if size > plan.max_bytes:
        raise InputInvalid(
            f"the conversation would take {size:,} bytes, the limit is {plan.max_bytes:,}",
            where=f"{plan.agent.qualified_name} input",
            why="each turn reads and writes all of it; nothing was stored and the model was not asked",
            fix="begin a new session, or declare a larger max_context_bytes",
        )
    return size


def input_hash(content: InputContent) -> str:
    """Return a hash of the input that does not depend on the order of its keys."""
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def _is_a_session(value: Any) -> bool:
    """Return whether the value could be a session: a record, or an id that is not a text."""
    return isinstance(value, (int, UUID)) or hasattr(value, "__data__")


def _input_fix(agent: AgentOptions) -> str:
    if agent.input.text_field is not None:
        return f'pass {{"{agent.input.text_field}": "…"}} or the bare text'
    return f"pass a value of {agent.input.name}, or a dict with its fields"


class BusyWait:
    """The seconds that one action may spend waiting for a busy session.

    It polls, at intervals in proportion to the age of the open turn: no connection is held, a crash leaves
    nothing to clean up, and every waiting process has the same chance.
    """

    def __init__(self, seconds: float) -> None:
        self.remaining = seconds
        self.spent = 0.0

    def wait(self, turn: Turn, now: float) -> Generator[Effect, Any, Loaded]:
        """Wait for a moment and read the session again; raises `SessionBusy` once the time is used up."""
        if self.remaining <= 0:
            raise busy(turn, now, self.spent)
        age = self.spent if turn.since is None else now - turn.since
        waited: float = yield Wait(age, self.remaining)
        self.remaining -= waited
        self.spent += waited
        loaded: Loaded = yield Load()
        return loaded


def busy(turn: Turn, now: float, waited: float) -> SessionBusy:
    """Return the error for an open turn: its status, and its times if it is running."""
    if turn.status == "running":
        age, remaining = now - (turn.since or now), (turn.until or now) - now
        found = f"a turn has been running for {age:.1f} s, its lease ends in {remaining:.1f} s"
        fix = "try again when it has ended, or once its lease has run out"
    elif turn.status == AWAITING:
        waits = [f"{each.tool} ({each.call})" for each in turn.approvals if each.status == "pending"]
        found = f"the latest turn waits for the approval of {', '.join(waits)}" if waits else DECIDED
        first = "approve or reject each of `session.approvals`, then " if waits else ""
        fix = f"{first}call resume_session"
    else:
        found = f"the latest turn is {turn.status}: it is stored and waits to be run"
        fix = "call resume_session to run it, then continue"
    if waited:
        found += f" (waited for {waited:.1f} s)"
    error = SessionBusy(found, why="a session runs one turn at a time; nothing was stored", fix=fix)
    error.status, error.since, error.until = turn.status, turn.since, turn.until
    return error
