"""The state of a turn while its claim is held, and the form in which it stores results of tool calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from agentsession._json_values import JsonMap, storable_text
from agentsession._schema import SchemaMismatch
from agentsession._tools.tool_context import Halt
from agentsession._turn.effects import Change, ToolResult
from agentsession._turn.model_io import NO_DELTA, Delta, Reply, too_large
from agentsession._turn.plan import Plan
from agentsession._turn.tool_messages import is_step
from agentsession._turn_state import UNUSED, Turn, Usage
from agentsession.context import Attempt, Context, Message, ReplyFacts

FOR_RESULTS = 7 / 8
"""The part of `max_context_bytes` that results may fill. The rest is left for the replies to them."""


@dataclass
class ActiveTurn:
    """A turn that this process runs. `context` and `turn` change with each write.

    `opening` is the user's message. `args` are the arguments of the system message, None if it is pinned.
    `turns` counts the turns of the session, and `size` its bytes. `is_stored` is False for a `call`, which
    has no session. `not_yet_run` are the keys of calls that were approved and have certainly not run.
    `reply` is a reply that is not stored yet, and `received` the part of a reply whose call failed.
    `iteration` counts the model calls of this run.
    """

    plan: Plan
    context: Context
    turn: Turn
    opening: Message
    system: str
    args: JsonMap | None = None
    turns: int = 1
    is_stored: bool = True
    size: int = 0
    not_yet_run: frozenset[str] = frozenset()
    reply: Reply | None = None
    received: Delta = NO_DELTA
    iteration: int = 0
    attempts: tuple[Attempt, ...] = field(init=False)
    unrecorded_usage: Usage = field(init=False)
    """The usage of earlier runs of the turn for replies that are not stored."""

    def __post_init__(self) -> None:
        try:
            self.attempts = msgspec.convert(self.opening.metadata.get("attempts", ()), tuple[Attempt, ...])
        except msgspec.ValidationError:
            self.attempts = ()
        self.unrecorded_usage = UNUSED
        if self.turn.usage != UNUSED:
            self.unrecorded_usage = self.turn.usage - self.facts().usage

    @property
    def claim(self) -> str:
        return self.turn.claim or self.plan.claim_id

    @property
    def next_claim(self) -> str:
        """The claim after a write that adds messages: `abc`, `abc.1`, `abc.2`, …

        If a driver repeats the statement, or a network delivers it late, the old claim matches no row, and
        the messages are not added twice.
        """
        first, _, number = self.claim.partition(".")
        return f"{first}.{int(number or 0) + 1}"

    @property
    def client(self) -> str:
        """The id of the client that is called."""
        return self.plan.client or self.plan.agent.client.id

    @property
    def new_messages(self) -> tuple[Message, ...]:
        """The stored messages of the turn after its opening message."""
        messages = self.context.messages
        if messages[-1] is self.opening:
            return ()
        return messages[self.context.position(self.opening.id) + 1 :]

    @property
    def partial_reply(self) -> Delta:
        """The part of a reply that was received and is not stored."""
        return Delta(self.reply.text, self.reply.thinking) if self.reply is not None else self.received

    def has_changed(self, change: Change) -> None:
        """Apply a change that is stored."""
        self.context, self.turn = apply_change(self.context, change), change.turn
        self.size += len(msgspec.json.encode(change.append))

    def metadata(self) -> dict[str, JsonMap]:
        """Return the metadata of the user's message, with the replies that did not fit.

        Facts about the turn itself are metadata of its user's message; the metadata of its reply holds what
        the model calls have cost.
        """
        values = dict(self.opening.metadata)
        if self.attempts:
            values["attempts"] = msgspec.to_builtins(list(self.attempts))
        return {self.opening.id: values}

    def facts(self, reply: Reply | None = None) -> ReplyFacts:
        """Return what the turn has cost so far, including its earlier runs and a reply that is not stored.

        `reply` takes the place of the reply that is not stored.
        """
        reply = reply or self.reply
        is_only_reply = not (self.attempts or self.new_messages) and self.unrecorded_usage == UNUSED
        if reply is not None and is_only_reply:
            duration = round(reply.duration, 6)
            return ReplyFacts(reply.model, reply.usage, reply.cost, reply.finish_reason, duration)
        steps = [ReplyFacts.of(message) for message in self.new_messages if is_step(message)]
        replies: list[Attempt | ReplyFacts | Reply] = [*self.attempts, *steps, *([reply] if reply else [])]
        costs = [each.cost for each in replies if each.cost is not None]
        return ReplyFacts(
            model=reply.model if reply else "",
            usage=sum((each.usage for each in replies), start=self.unrecorded_usage),
            cost=sum(costs) if len(costs) == len(replies) else None,
            finish_reason=reply.finish_reason if reply else "",
            duration=round(sum(each.duration for each in replies), 6),
        )


def storable_results(active: ActiveTurn, results: Iterable[ToolResult]) -> Iterator[ToolResult]:
    """Yield each result as it is stored.

    One that does not fit into the session is an error of its tool, which has run: it must not make the
    session unusable.
    """
    size, limit = active.size, active.plan.max_bytes * FOR_RESULTS
    for result in results:
        taken = len(msgspec.json.encode((result.text, result.text_for_model)))
        if active.is_stored and size + taken > limit:
            yield _unusable(result, too_large(taken))
        else:
            size += taken
            yield result if result.halt is None else _with_output(active, result, result.halt)


def _with_output(active: ActiveTurn, result: ToolResult, halt: Halt) -> ToolResult:
    """Return a halting result with the agent's output as its text; a value that does not fit is an error."""
    output = active.plan.agent.output
    try:
        text = storable_text(output.encode(halt.value))
        output.parse(text)
    except SchemaMismatch as mismatch:
        return _unusable(result, f"The tool ended the turn with a value that does not fit: {mismatch}")
    return msgspec.structs.replace(result, text=text, text_for_model=None)


def _unusable(result: ToolResult, found: str) -> ToolResult:
    """Return the failed result of a tool that has run."""
    has_run = result.has_run or result.outcome != "failed"
    return msgspec.structs.replace(
        result, outcome="failed", text=found, text_for_model=None, halt=None, has_run=has_run
    )


def apply_change(context: Context, change: Change) -> Context:
    """Return the context as it is stored after the write."""
    messages = list(context.messages)
    if change.drop is not None:
        messages.pop()
    for id_, values in change.metadata.items():
        position = context.position(id_)
        messages[position] = msgspec.structs.replace(messages[position], metadata=values)
    count = context.count - (change.drop is not None) + len(change.append)
    return msgspec.structs.replace(context, messages=(*messages, *change.append), count=count)
