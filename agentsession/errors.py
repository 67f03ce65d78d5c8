"""Every exception of the package. All derive from `AgentSessionError`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

FailureKind: TypeAlias = Literal[
    "", "auth", "unknown_model", "unknown_provider", "rate_limit", "timeout", "overloaded"
]
"""Why a model call failed. The empty string stands for any other reason."""


class AgentSessionError(Exception):
    """The base class of every error of this package.

    Its text says where the error is, what was found, why it matters and how to fix it.

    Attributes:
        where (str): The model, the session or the option. An empty string if there is none.
        found (str): What is wrong, as a sentence.
        why (str): Why it matters.
        fix (str): What to do.
    """

    def __init__(self, found: str = "", *, where: str = "", why: str = "", fix: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.where = where
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        where = f"[{self.where}] " if self.where else ""
        lines = [f"{where}{self.found}"]
        lines += [f"  Why: {self.why}"] if self.why else []
        lines += [f"  Fix: {self.fix}"] if self.fix else []
        return "\n".join(lines)


@dataclass(frozen=True)
class Problem:
    """One mistake in a declaration, as a verifier found it.

    Attributes:
        where: The model, the decorator and the option.
        found: What is wrong, as a sentence.
        why: Why it matters.
        fix: What to write instead.
    """

    where: str
    found: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}\n    {self.found}\n    Why: {self.why}\n    Fix: {self.fix}"


class DslError(AgentSessionError):
    """A declaration is wrong.

    It is raised at import, with every problem of one decorator: nothing is registered, and the class is
    unchanged. It is raised at the first action for mistakes that only a later import can show.

    Attributes:
        problems (tuple[Problem, ...]): The mistakes, each with `where`, `found`, `why` and `fix`.
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
    """An argument does not fit: input, arguments of the instruction, attributes, client or actor.

    Nothing is stored, and the model is not called.
    """


class SessionNotFound(AgentSessionError):
    """No session has this id, or it belongs to another owner.

    It is also raised when the row is deleted while its turn runs.

    Attributes:
        result (Result | None): The reply, if the row was deleted while its turn ran.
        session (Model | None): The record of that turn.
    """

    result: Any = None
    session: Any = None


class SessionBusy(AgentSessionError):
    """A turn of the session is open: it is running, waits for an approval, or is stored to be run later.

    Nothing is stored. Try again later, call `resume_session`, or declare `on_busy="wait"`.

    Attributes:
        status (str | None): The status of the open turn.
        since (float | None): When it was claimed, in seconds since 1970 on the database's clock.
        until (float | None): When its lease ends, in the same unit. Both are None if the turn waits to run.
    """

    status: str | None = None
    since: float | None = None
    until: float | None = None


class IdempotencyMismatch(AgentSessionError):
    """The idempotency key was used before for another input. Nothing is stored."""


class TransactionOpen(AgentSessionError):
    """The action would call a model inside an open transaction, where the message is not yet durable.

    Nothing is stored. Call the action after the transaction, or pass `run=False`.
    """


class ManagedField(AgentSessionError):
    """`save()` would write a field that the library manages. Nothing is written."""


class ContextUnreadable(AgentSessionError):
    """This version cannot read the stored context. It is left as it is."""


class LayoutMismatch(AgentSessionError):
    """The session is stored in another layout than the model declares. Nothing is written.

    `python -m agentsession migrate` moves the sessions of a model.
    """


class NothingToResume(AgentSessionError):
    """The session has no open turn. Nothing is stored."""


class NothingToApprove(AgentSessionError):
    """The call does not wait for an approval: it was decided, its time is over, or it is unknown.

    Nothing is stored.
    """


class NoResult(AgentSessionError):
    """The session has no completed turn (`last_result`), or no turn (`last_turn`)."""


class TurnFailed(AgentSessionError):
    """The base class of errors that end a turn.

    The user's message is stored, and the turn has the status `failed`. The original error is the `__cause__`.
    `resume_session` runs the turn again, `continue_session` begins the next one.

    Attributes:
        session (Model | None): The record. None for `call`, which stores nothing.
    """

    session: Any = None
    remedy = "call resume_session to ask again"


class ProviderFailed(TurnFailed):
    """The model call failed.

    Attributes:
        kind (str): `auth`, `unknown_model`, `unknown_provider`, `rate_limit`, `timeout`, `overloaded`, or an
            empty string. `fix` follows from it.
    """

    kind: FailureKind = ""


class HookFailed(TurnFailed):
    """A hook, a `history` or a `needs_approval` function raised, or returned a value that does not fit."""

    remedy = "correct the function, then call resume_session"


class ToolFailed(TurnFailed):
    """A tool failed on an agent with `on_tool_error="halt"`. The results of the step are stored.

    `call`, which stores nothing, raises it for a tool that needs an approval.
    """

    remedy = "call resume_session: the model sees the error of the tool"


class MaxIterations(TurnFailed):
    """The model called tools in the last reply that `max_iterations` allows. Those calls did not run."""

    remedy = "call resume_session to let the model continue, or raise max_iterations"


class BudgetExceeded(TurnFailed):
    """The turn took more tokens than the `token_budget` of its agent."""

    remedy = "raise token_budget, then call resume_session"


class OutputInvalid(TurnFailed):
    """The reply does not fit the output schema.

    It is also raised when a stored reply is read that no longer fits the schema.

    Attributes:
        raw (str): The text of the reply.
    """

    raw: str = ""


class StorageFailed(AgentSessionError):
    """The database went away during a turn, and a new attempt failed: the end of the turn is not stored.

    The error of the database is the `__cause__`.

    Attributes:
        result (Result | None): The reply, if there is one.
        session (Model | None): The record as it was last stored.
    """

    result: Any = None
    session: Any = None


class TurnCancelled(AgentSessionError):
    """`cancel_session` ended the turn while it ran. The turn is stored as `interrupted`.

    Attributes:
        result (Result | None): The reply, if the model had finished. It is not stored.
        session (Model | None): The record.
    """

    result: Any = None
    session: Any = None


class LeaseLost(AgentSessionError):
    """Another process took the turn over while it ran. Nothing more is stored.

    Attributes:
        result (Result | None): The reply, if there is one. It is not stored.
        session (Model | None): The record.
    """

    result: Any = None
    session: Any = None


class ProviderCallError(Exception):
    """A provider raises it: one model call failed. The turn then fails with `ProviderFailed`.

    The message is stored with the turn, so it must hold no key. The error of a client library is its
    `__cause__`.

    Args:
        message: What went wrong.
        status: The HTTP status, if there is one.
        kind: Why the call failed. It becomes `ProviderFailed.kind`.
        fix: What the developer can do, as part of a sentence. It becomes `ProviderFailed.fix`.

    Example:
        ```python
        from agentsession import ProviderCallError

        error = ProviderCallError("the quota is used up", status=429, kind="rate_limit", fix="wait a minute")
        ```
    """

    def __init__(
        self, message: str, *, status: int | None = None, kind: FailureKind = "", fix: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind: FailureKind = kind
        self.fix = fix


class UnsafeDatabase(UserWarning):
    """A warning, once per database: its settings let concurrent turns block each other."""
