"""The state of the latest turn, as it is stored: its status, its usage, its approvals."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import msgspec

from agentsession import _clock
from agentsession._json_values import JsonMap

AWAITING = "awaiting_approval"


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The tokens that a turn was billed for.

    Two values can be added and subtracted. A count that the provider does not report is 0.

    Attributes:
        input_tokens: The tokens of the prompts, cached ones included.
        output_tokens: The tokens of the replies, reasoning included.
        total_tokens: The sum that the provider reports.
        reasoning_tokens: The output tokens that were spent on reasoning.
        cached_tokens: The input tokens that were read from the provider's cache.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(mine + theirs for mine, theirs in zip(self._values(), other._values(), strict=True)))

    def __sub__(self, other: Usage) -> Usage:
        """Return the difference. A count does not fall below 0."""
        pairs = zip(self._values(), other._values(), strict=True)
        return Usage(*(max(mine - theirs, 0) for mine, theirs in pairs))

    def _values(self) -> tuple[int, ...]:
        return tuple(getattr(self, name) for name in self.__struct_fields__)


UNUSED = Usage()


class TurnError(msgspec.Struct, frozen=True):
    """The error with which a turn failed, without keys.

    Attributes:
        type: The name of its type.
        message: Its message.
    """

    type: str
    message: str


CallOutcome: TypeAlias = Literal["completed", "failed", "timed_out", "rejected", "unknown", "repeated"]
"""How a tool call ended. `unknown`: its process died, and the call may have been carried out. `repeated`:
it did not run, because equal calls of the turn have used up the `repeat_limit` of its tool."""


_object = msgspec.json.Decoder(JsonMap).decode


class ApprovalState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool call that needs an approval, and the decision about it, as they are stored in the turn.

    Attributes:
        call: The key of the call.
        tool: The name of the tool.
        arguments: The arguments that the tool would receive, its defaults included, as JSON text.
        status: `pending`, `approved` or `rejected`.
        by: The person who decided.
        reason: The reason of a rejection.
        edited: The arguments that replace the model's, as JSON text.
        own: The arguments of the model, as JSON text, where they differ from `arguments`.
        begun: Whether the turn was run again after the approval, so that the call may have been carried out.
    """

    call: str
    tool: str
    arguments: str
    status: str = "pending"
    by: str = ""
    reason: str = ""
    edited: str | None = None
    own: str | None = None
    begun: bool = False

    def __post_init__(self) -> None:
        """Raise `ValueError` for arguments that are not a JSON object. A decoder adds their path."""
        try:
            _object(self.arguments)
            _object(self.own or "{}")
        except (msgspec.DecodeError, RecursionError):
            raise ValueError("the arguments of a call are not a JSON object") from None

    @property
    def is_to_run(self) -> bool:
        """Whether the call was approved, and was certainly not carried out."""
        return self.status == "approved" and not self.begun

    @property
    def parsed_arguments(self) -> JsonMap:
        """The arguments as a dict."""
        return _object(self.arguments)

    def merge_edited(self, edited: JsonMap) -> JsonMap:
        """Return edited arguments in the model's own form.

        An argument that is equal to the one in `arguments` gets the model's value, or is left out if the
        model left it out.
        """
        displayed, own = self.parsed_arguments, _object(self.own or self.arguments)
        if not own.keys() <= displayed.keys():
            return edited
        changes = {name: value for name, value in edited.items() if displayed.get(name, self) != value}
        return {**{name: own[name] for name in edited if name in own}, **changes}

    def decision_summary(self) -> JsonMap:
        """Return the decision as the metadata of the call's result holds it."""
        values = {name: getattr(self, name) for name in ("status", "by", "reason", "edited")}
        return {name: value for name, value in values.items() if value}


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user's message and all that follows up to the final reply.

    Times are seconds since 1970 on the database's clock; on the host's, for the first turn of a session.

    Attributes:
        id: The id of the turn.
        status: `pending`, `running`, `awaiting_approval`, `completed`, `failed` or `interrupted`. A running
            turn whose lease is over is shown as `interrupted`.
        error: The error of a failed turn.
        usage: The tokens of the turn so far.
        partial: The text of a reply that is running, as far as it was received.
        client: The id of the client that was chosen for this turn. None: the one that the agent declares.
        claim: The id of the process's claim on the turn. None once an end of the turn is stored.
        since: The time at which the claim was taken.
        until: The time at which the lease ends, or the time for an approval.
        lease: The length of the lease, in seconds.
        approvals: The calls of the latest step that need an approval.
    """

    # The approvals are part of the turn, so that they are read without the messages and listed with one
    # SELECT of the session's row.

    id: str
    status: str
    error: TurnError | None = None
    usage: Usage = Usage()
    partial: str = ""
    client: str | None = None
    claim: str | None = None
    since: float | None = None
    until: float | None = None
    lease: float | None = None
    approvals: tuple[ApprovalState, ...] = ()

    @property
    def is_abandoned(self) -> bool:
        """Whether the lease ran out before an end of the turn was stored, because its process died."""
        return self.status == "interrupted" and self.claim is not None

    def as_of(self, now: float) -> Turn:
        """Return the turn as it is at a time: `interrupted` if it is running and its lease is over.

        Args:
            now: Seconds since 1970.
        """
        if self.status != "running" or self.is_held(now):
            return self
        return msgspec.structs.replace(self, status="interrupted")

    @property
    def is_open(self) -> bool:
        """Whether the turn has not ended."""
        return self.status not in ("completed", "failed", "interrupted")

    def approval_of(self, call: str) -> ApprovalState | None:
        """Return the approval of the call with this key, or None if it needs none."""
        return next((approval for approval in self.approvals if approval.call == call), None)

    def pending_approvals(self, now: float | None = None) -> tuple[ApprovalState, ...]:
        """Return the calls that wait for an approval: none once the time for it is over.

        Args:
            now: Seconds since 1970. The default is the time of the host.
        """
        if self.status != AWAITING or self.is_overdue(_clock.seconds() if now is None else now):
            return ()
        return tuple(approval for approval in self.approvals if approval.status == "pending")

    def is_overdue(self, now: float) -> bool:
        """Return whether the time for an approval is over."""
        return self.status == AWAITING and self.until is not None and now >= self.until

    def is_held(self, now: float) -> bool:
        """Return whether a process holds the turn.

        The lease decides, because a killed process leaves the status `running`. A lease that ends later than
        twice its length from now counts as over: a clock was wrong, and a takeover does less harm than a
        session that is busy for hours.
        """
        if self.status != "running" or self.until is None:
            return False
        return now < self.until <= now + 2 * (math.inf if self.lease is None else self.lease)

    def ended(self, status: str, **facts: Any) -> Turn:
        """Return the turn with another status and without its claim."""
        return msgspec.structs.replace(
            self, status=status, claim=None, since=None, until=None, lease=None, **facts
        )
