"""The stored state of the latest turn: its status, its usage, and the tool calls that need an approval."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import msgspec

from agentsession import _clock
from agentsession._json_values import JsonMap

AWAITING = "awaiting_approval"


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The tokens that a turn was billed for. A count that the provider does not report is 0."""

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
    """Why a turn failed: the name of the error's type, and its message without keys."""

    type: str
    message: str


CallOutcome: TypeAlias = Literal["completed", "failed", "timed_out", "rejected", "unknown", "repeated"]
"""How a tool call ended. `unknown`: its process died, and it is not known whether the call ran.
`repeated`: it did not run, because equal calls of the turn have used up the `repeat_limit` of its tool."""


_object = msgspec.json.Decoder(JsonMap).decode


class ApprovalState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool call that needs an approval, and the decision about it.

    `call` is the key of the call. `arguments` are its arguments as JSON text, in the form in which the tool
    takes them, with its defaults. `own` are the model's arguments where they differ. `status` is `pending`,
    `approved` or `rejected`. `edited` are the arguments that replace the model's, `by` is who decided, and
    `reason` why. `begun` is set once the turn has run again after the approval, so the call may have run.
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
        """Raise `ValueError` if the arguments are not a JSON object. A decoder adds their position."""
        try:
            _object(self.arguments)
            _object(self.own or "{}")
        except (msgspec.DecodeError, RecursionError):
            raise ValueError("the arguments of a call are not a JSON object") from None

    @property
    def is_to_run(self) -> bool:
        """Whether the call was approved and has certainly not run."""
        return self.status == "approved" and not self.begun

    @property
    def parsed_arguments(self) -> JsonMap:
        """The arguments as a dict."""
        return _object(self.arguments)

    def merge_edited(self, edited: JsonMap) -> JsonMap:
        """Return the edited arguments, with each unchanged one as the model gave it, or without it if the
        model did not give it."""
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
    """One user input up to its final reply.

    `status` is `pending`, `running`, `awaiting_approval`, `completed`, `failed` or `interrupted`. `since` is
    the time at which the claim was taken. `until` is the end of its lease of `lease` seconds, or of the time
    for an approval. Both are seconds since 1970 on the database's clock (on the host's for the first turn of
    a session). `claim` is set until the end of the turn is stored. A running turn whose lease has run out is
    read as `interrupted`, with its `claim` and `until`, before its end is stored. `partial` is the text of a
    running reply that was received so far. `approvals` are the calls of the latest step that need an
    approval.
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
        """Whether its process has died: the lease has run out, and no end of the turn is stored yet."""
        return self.status == "interrupted" and self.claim is not None

    def as_of(self, now: float) -> Turn:
        """Return the turn as a user sees it at this time: `interrupted` if it runs and its lease is over."""
        if self.status != "running" or self.is_held(now):
            return self
        return msgspec.structs.replace(self, status="interrupted")

    @property
    def is_open(self) -> bool:
        return self.status not in ("completed", "failed", "interrupted")

    def approval_of(self, call: str) -> ApprovalState | None:
        """Return the approval of the call with this key."""
        return next((approval for approval in self.approvals if approval.call == call), None)

    def pending_approvals(self, now: float | None = None) -> tuple[ApprovalState, ...]:
        """Return the calls that the turn waits for. There are none once all are decided, or the time for an
        approval is over.

        `now` are seconds since 1970. The default is the time of the host.
        """
        if self.status != AWAITING or self.is_overdue(_clock.seconds() if now is None else now):
            return ()
        return tuple(approval for approval in self.approvals if approval.status == "pending")

    def is_overdue(self, now: float) -> bool:
        """Return whether the time for an approval is over."""
        return self.status == AWAITING and self.until is not None and now >= self.until

    def is_held(self, now: float) -> bool:
        """Return whether a process holds the turn.

        The lease decides, because the status of a killed holder stays `running`. A lease that ends later than
        twice its length from now comes from a wrong clock, and counts as run out: a takeover does less harm
        than a session that is busy for hours.
        """
        if self.status != "running" or self.until is None:
            return False
        return now < self.until <= now + 2 * (math.inf if self.lease is None else self.lease)

    def ended(self, status: str, **facts: Any) -> Turn:
        """Return the turn with this status and without a claim."""
        return msgspec.structs.replace(
            self, status=status, claim=None, since=None, until=None, lease=None, **facts
        )
