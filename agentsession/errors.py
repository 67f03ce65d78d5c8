"""Every exception of the package. All derive from `AgentSessionError`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

FailureKind: TypeAlias = Literal[
    "", "auth", "unknown_model", "unknown_provider", "rate_limit", "timeout", "overloaded"
]
"""Why a model could not be asked. The empty string: another reason."""


class AgentSessionError(Exception):
    """What went wrong, as a sentence, and beside it where, why it matters and the fix.

    `where`, `found`, `why` and `fix` are also attributes; what does not apply is an empty string.
    """

    def __init__(self, found: str = "", *, where: str = "", why: str = "", fix: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.where = where
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        place = f"[{self.where}] " if self.where else ""
        lines = [f"{place}{self.found}"]
        lines += [f"  Why: {self.why}"] if self.why else []
        lines += [f"  Fix: {self.fix}"] if self.fix else []
        return "\n".join(lines)


@dataclass(frozen=True)
class Problem:
    """One thing that a verifier found wrong with a declaration."""

    where: str
    found: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}\n    {self.found}\n    Why: {self.why}\n    Fix: {self.fix}"


class DslError(AgentSessionError):
    """A declaration is wrong. Raised at import with every problem of one decorator, or at the first
    action for what only a later import could show. Nothing is registered, the class is unchanged.

    `problems` holds the `Problem` values: `where`, `found`, `why`, `fix`.
    """

    def __init__(self, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__("; ".join(problem.found for problem in problems))
        self.problems = problems

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)

    def __str__(self) -> str:
        count = len(self.problems)
        head = "1 problem:" if count == 1 else f"{count} problems:"
        return "\n".join([head, *(f"  {problem}" for problem in self.problems)])


class InputInvalid(AgentSessionError):
    """What the caller passed does not fit. Nothing was stored, the model was not asked."""


class SessionNotFound(AgentSessionError):
    """No row has this id. `result` holds the reply when the row was deleted during its turn, `session` the
    record."""

    result: Any = None
    session: Any = None


class SessionBusy(AgentSessionError):
    """The session's turn is open: running under a live lease, or stored to be run later.

    Nothing was stored. `status` is the open turn's status, `since` and `until` are seconds since
    1970 on the database's clock (None for a turn that waits to be run).
    """

    status: str | None = None
    since: float | None = None
    until: float | None = None


class IdempotencyMismatch(AgentSessionError):
    """The idempotency key was used before, for another input. Nothing was stored."""


class TransactionOpen(AgentSessionError):
    """The action would ask a model inside an open transaction, where the message is not yet durable."""


class ManagedField(AgentSessionError):
    """A field that the library manages was assigned, or changed in place, and saved. Nothing was written."""


class ContextUnreadable(AgentSessionError):
    """The stored context is not one that this version can read. It was left as it is."""


class LayoutMismatch(AgentSessionError):
    """The session is stored in the other layout than the model declares. Nothing was written."""


class NothingToResume(AgentSessionError):
    """The session has no open turn. Nothing was stored."""


class NothingToApprove(AgentSessionError):
    """The call does not wait for an approval: it was decided, its time is over, or it is unknown. Nothing was
    changed."""


class NoResult(AgentSessionError):
    """There is no completed turn (`last_result`), or no turn at all (`last_turn`)."""


class TurnFailed(AgentSessionError):
    """The turn did not complete. The user's words are stored, the turn is `failed`, the original error
    is the `__cause__`, and `session` is the record (None for `call`, which stores nothing)."""

    session: Any = None
    remedy = "call resume_session to ask again"


class ProviderFailed(TurnFailed):
    """The model could not be asked, or answered with an error. `kind` says why, and `fix` follows from it."""

    kind: FailureKind = ""


class HookFailed(TurnFailed):
    """A function of yours that the turn called raised an error, or gave what does not fit."""

    remedy = "correct the function, then call resume_session"


class ToolFailed(TurnFailed):
    """A tool failed on an agent with `on_tool_error="halt"`, and the results of the step are stored; or
    `call`, which stores nothing, met a tool that needs an approval."""

    remedy = "call resume_session: the model is told of it"


class MaxIterations(TurnFailed):
    """The model still asked for tools in its last allowed reply of the turn. Those were not run."""

    remedy = "call resume_session to let it go on, or raise max_iterations"


class BudgetExceeded(TurnFailed):
    """The turn took more tokens than the `token_budget` of its agent."""

    remedy = "raise token_budget, then call resume_session"


class OutputInvalid(TurnFailed):
    """The reply does not fit the output schema; `raw` is its text.

    Also raised when a stored reply that no longer fits today's schema is read.
    """

    raw: str = ""


class StorageFailed(AgentSessionError):
    """The database went away in the middle of a turn and did not come back: how it ended is not stored.

    `result` holds the reply where there is one, `session` the record as it was last stored, and the
    database's error is the `__cause__`.
    """

    result: Any = None
    session: Any = None


class TurnCancelled(AgentSessionError):
    """`cancel_session` ended the turn while it ran: it is stored as interrupted, and nothing more was stored.

    `result` holds the reply where it came all the same, `session` the record.
    """

    result: Any = None
    session: Any = None


class LeaseLost(AgentSessionError):
    """The turn was taken over while the model answered: nothing more was stored. `result` holds the
    reply where there is one, `session` the record."""

    result: Any = None
    session: Any = None


class ProviderCallError(Exception):
    """For providers: one model call failed. The message goes into the stored turn, so it holds no key.

    The error that a client library raised is its `__cause__`. `status` is the HTTP status, if any. `kind` and
    `fix` become those of the `ProviderFailed`; `fix` says what the developer can do, as part of a sentence.
    """

    def __init__(
        self, message: str, *, status: int | None = None, kind: FailureKind = "", fix: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind: FailureKind = kind
        self.fix = fix


class UnsafeDatabase(UserWarning):
    """The database's settings let concurrent turns block each other. Shown once per database."""


def words(error: BaseException) -> str:
    """What an error says, whatever its author did."""
    try:
        return str(error).strip() or "it gave no message"
    except BaseException:
        return "it gave no message"
