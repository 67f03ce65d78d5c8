"""What is stored of the latest turn: its state, what it has cost, the calls that it was asked to approve."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import msgspec

from agentsession._json_values import JsonMap

AWAITING = "awaiting_approval"


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens that a turn was billed for; what the provider does not tell is 0."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(mine + theirs for mine, theirs in zip(self._values(), other._values(), strict=True)))

    def __sub__(self, other: Usage) -> Usage:
        """What is left; a count cannot fall below 0."""
        pairs = zip(self._values(), other._values(), strict=True)
        return Usage(*(max(mine - theirs, 0) for mine, theirs in pairs))

    def _values(self) -> tuple[int, ...]:
        return tuple(getattr(self, name) for name in self.__struct_fields__)


UNUSED = Usage()


class TurnError(msgspec.Struct, frozen=True):
    """Why a turn failed: the type's name and the message of the error, without keys."""

    type: str
    message: str


CallOutcome: TypeAlias = Literal["completed", "failed", "timed_out", "rejected", "unknown", "repeated"]
"""How a call of a tool ended. `unknown`: its process died, and nobody knows whether it was carried out.
`repeated`: it did not run, because equal calls of the turn have used up the `repeat_limit` of its tool."""


_object = msgspec.json.Decoder(JsonMap).decode


class ApprovalState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call that somebody has to approve: its key, its arguments as JSON text, and what was decided.

    The arguments are those that the tool would be given, with its defaults; `own` are the model's, where they
    differ. `status` is one of `pending`, `approved`, `rejected`; `edited` are the arguments that were put in
    the place of the model's, `by` and `reason` what those who decided said. `begun`: once it was approved,
    the turn was run on, so that the call may have been carried out.
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
        """Raise `ValueError` for arguments that are not a JSON object; a decoder adds where they stand."""
        try:
            _object(self.arguments)
            _object(self.own or "{}")
        except (msgspec.DecodeError, RecursionError):
            raise ValueError("the arguments of a call are not a JSON object") from None

    @property
    def is_to_run(self) -> bool:
        """Was it approved, and certainly not carried out?"""
        return self.status == "approved" and not self.begun

    @property
    def given(self) -> JsonMap:
        """The arguments."""
        return _object(self.arguments)

    def merge_edited(self, edited: JsonMap) -> JsonMap:
        """Edited arguments, in which what was left as it was shown is as the model gave it, or left out."""
        shown, own = self.given, _object(self.own or self.arguments)
        if not own.keys() <= shown.keys():
            return edited
        changed = {name: value for name, value in edited.items() if shown.get(name, self) != value}
        return {**{name: own[name] for name in edited if name in own}, **changed}

    def told(self) -> JsonMap:
        """What was decided, as the result of the call tells it."""
        values = {name: getattr(self, name) for name in ("status", "by", "reason", "edited")}
        return {name: value for name, value in values.items() if value}


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One user input up to its final reply.

    `status` is one of `pending`, `running`, `awaiting_approval`, `completed`, `failed`, `interrupted`.
    `since` and `until` are seconds since 1970 on the database's clock (the host's, for the first turn of a
    session): when the claim was taken, and when its lease of `lease` seconds ends, or the time for an
    approval. `claim` is there until an end of the turn is stored. A running turn whose lease is over is shown
    as `interrupted`, with its `claim` and `until`, before anybody has stored that it ended. `partial` is the
    text received so far of a running reply. `approvals` are the calls of its latest step that somebody was
    asked about.
    """

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
        """Whether its process left it: its lease ran out, and nobody has stored an end of it yet."""
        return self.status == "interrupted" and self.claim is not None

    def as_of(self, now: float) -> Turn:
        """The turn as a user sees it at this time: `interrupted` once the lease of a running one is over."""
        if self.status != "running" or self.is_held(now):
            return self
        return msgspec.structs.replace(self, status="interrupted")

    @property
    def is_open(self) -> bool:
        return self.status not in ("completed", "failed", "interrupted")

    def approval_of(self, call: str) -> ApprovalState | None:
        """What was asked and decided about the call with this key."""
        return next((asked for asked in self.approvals if asked.call == call), None)

    def awaited(self, now: float) -> tuple[ApprovalState, ...]:
        """The calls that the turn waits for: none once all are decided, or the time for it is over."""
        if self.status != AWAITING or self.is_overdue(now):
            return ()
        return tuple(asked for asked in self.approvals if asked.status == "pending")

    def is_overdue(self, now: float) -> bool:
        """Is the time over in which somebody could approve?"""
        return self.status == AWAITING and self.until is not None and now >= self.until

    def is_held(self, now: float) -> bool:
        """Does a holder live? The lease decides, not the status: a killed holder leaves `running`.

        A lease with much more than its length left says that a clock was wrong, and counts for nothing: a
        takeover is the lesser harm than a session that is busy for hours.
        """
        if self.status != "running" or self.until is None:
            return False
        return now < self.until <= now + 2 * (math.inf if self.lease is None else self.lease)

    def ended(self, status: str, **facts: Any) -> Turn:
        """The turn once its claim has ended."""
        return msgspec.structs.replace(
            self, status=status, claim=None, since=None, until=None, lease=None, **facts
        )
