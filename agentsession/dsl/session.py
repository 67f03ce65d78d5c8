"""`@agent_session`: a Peewee model with `@agent` becomes a persistent conversation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from agentsession import registry
from agentsession.actions.mixins import GuardedSave, SessionActions
from agentsession.dsl.declare import UNSET, apply, raise_problems, refuse_unknown
from agentsession.dsl.inject import given
from agentsession.dsl.session_verifiers import SESSION_VERIFIERS, SessionDraft
from agentsession.options import SessionOptions

C = TypeVar("C", bound=type)


@overload
def agent_session(
    *,
    context_attribute: str = ...,
    status_attribute: str | None = ...,
    updated_attribute: str | None = ...,
    lease: float = ...,
    pin_instruction: bool = ...,
    inject: bool = ...,
) -> Callable[[C], C]: ...
@overload
def agent_session(model: C, /) -> C: ...
def agent_session(
    model: Any = UNSET,
    /,
    *,
    context_attribute: Any = "context",
    status_attribute: Any = None,
    updated_attribute: Any = None,
    lease: Any = 30.0,
    pin_instruction: Any = False,
    inject: Any = True,
    **unknown: Any,
) -> Any:
    """Make a Peewee model with `@agent` a session: each row is a conversation that outlives the process.

    Stands above `@agent`. Generates `start_session`, `continue_session`, `resume_session`, `get_context`,
    `last_result` and `last_turn`, and a `save` that leaves the managed attributes alone.

    - `context_attribute`: the name of the JSON field that stores the conversation.
    - `status_attribute`: a text field (17 characters or more) that follows the latest turn: `pending`,
      `running`, `completed`, `failed`, `interrupted`.
    - `updated_attribute`: a date-time field (UTC) that each stored step of a turn sets.
    - `lease`: seconds that a turn may go without storing anything before another process may take it over;
      choose it longer than the slowest answer of the model.
    - `pin_instruction`: `True` keeps the instruction's text of the first turn. `False` renders it anew from
      the stored arguments, so that an edit reaches old sessions.
    - `inject`: `False` puts nothing but `save` on the model; use the functions of `agentsession.actions`.
      The names `call` and `stream` stay reserved, since `@agent` cannot know of it.

    Raises `DslError` with every problem at once; nothing is then registered and the class is unchanged.

    ```python
    @agent_session(context_attribute="context", status_attribute="status")
    @agent(client="echo:", instruction="You help {{ company_name }}.")
    class ChatAgent(peewee.Model):
        context = peewee.JSONField(null=True)
        status = peewee.CharField(default="pending")

        class Meta:
            database = db
    ```
    """
    options = {
        "context_attribute": context_attribute,
        "status_attribute": status_attribute,
        "updated_attribute": updated_attribute,
        "lease": lease,
        "pin_instruction": pin_instruction,
        "inject": inject,
    }

    def decorate(target: Any) -> Any:
        problems = [*refuse_unknown(target, "agent_session", unknown, options)]
        draft = SessionDraft(target, **options)
        problems += [problem for verifier in SESSION_VERIFIERS for problem in verifier(draft)]
        raise_problems(problems)
        with given(target, SessionActions if inject else GuardedSave, "agent_session"):
            registry.declare_session(target, SessionOptions(**{**options, "lease": float(lease)}))
        return target

    return apply(decorate, model)
