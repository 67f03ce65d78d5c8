"""A turn under its claim: what is known of it while it is answered."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from agentsession._json_values import JsonMap
from agentsession._turn.effects import Change, apply_change
from agentsession._turn.model_io import NO_DELTA, Delta, Reply
from agentsession._turn.plan import Plan
from agentsession._turn.tool_messages import is_step
from agentsession._turn_state import UNUSED, Turn, Usage
from agentsession.context import Attempt, Attempts, Context, Message, ReplyFacts


@dataclass
class ActiveTurn:
    """The plan; the context and the turn, which change with each write; the turn's opening message; the
    system message and the arguments that it is made of (None: it is pinned); how many turns there are.

    `is_stored`: it is one of a session, which takes `size` bytes. `not_yet_run` are the keys of calls that
    were approved, and that have certainly never been run. `reply` is one that is not stored yet, `received`
    what had come of one that broke off. `iteration` counts the questions of this run.
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
    attempts: Attempts = field(init=False)
    lost: Usage = field(init=False)
    """What earlier runs of the turn have taken for replies that are not stored."""

    def __post_init__(self) -> None:
        try:
            self.attempts = msgspec.convert(self.opening.metadata.get("attempts", ()), Attempts)
        except msgspec.ValidationError:
            self.attempts = ()
        self.lost = UNUSED
        if self.turn.usage != UNUSED:
            self.lost = self.turn.usage - self.facts().usage

    @property
    def claim(self) -> str:
        return self.turn.claim or self.plan.claim_id

    @property
    def next_claim(self) -> str:
        """Once messages are added under a claim it is another one: the same write finds no row a second time,
        should a driver repeat it, or a network have kept it back."""
        first, _, number = self.claim.partition(".")
        return f"{first}.{int(number or 0) + 1}"

    @property
    def client(self) -> str:
        """The id of the client that is asked."""
        return self.plan.client or self.plan.agent.client.id

    @property
    def said(self) -> tuple[Message, ...]:
        """What the turn has brought so far, behind its words."""
        messages = self.context.messages
        if messages[-1] is self.opening:
            return ()
        return messages[self.context.position(self.opening.id) + 1 :]

    @property
    def came(self) -> Delta:
        """What has come of a reply, and is not stored."""
        return Delta(self.reply.text, self.reply.thinking) if self.reply is not None else self.received

    def has_changed(self, change: Change) -> None:
        """A write is stored."""
        self.context, self.turn = apply_change(self.context, change), change.turn
        self.size += len(msgspec.json.encode(change.append))

    def metadata(self) -> dict[str, JsonMap]:
        """The user message's metadata with the replies that did not fit."""
        values = dict(self.opening.metadata)
        if self.attempts:
            values["attempts"] = msgspec.to_builtins(list(self.attempts))
        return {self.opening.id: values}

    def facts(self, reply: Reply | None = None) -> ReplyFacts:
        """What the turn has cost so far, its earlier runs included, with this reply, or the one that is not
        stored yet."""
        reply = reply or self.reply
        if reply is not None and not (self.attempts or self.said) and self.lost == UNUSED:
            duration = round(reply.duration, 6)
            return ReplyFacts(reply.model, reply.usage, reply.cost, reply.finish_reason, duration)
        steps = [ReplyFacts.of(message) for message in self.said if is_step(message)]
        asked: list[Attempt | ReplyFacts | Reply] = [*self.attempts, *steps, *([reply] if reply else [])]
        known = [each.cost for each in asked if each.cost is not None]
        return ReplyFacts(
            model=reply.model if reply else "",
            usage=sum((each.usage for each in asked), start=self.lost),
            cost=sum(known) if len(known) == len(asked) else None,
            finish_reason=reply.finish_reason if reply else "",
            duration=round(sum(each.duration for each in asked), 6),
        )
