"""`@agent_session`: a Peewee model with `@agent` becomes a persistent conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, overload

from agentsession import _registry
from agentsession._dsl.declare import (
    apply,
    problems_of,
    raise_problems,
    unknown_options,
    with_actions,
    with_defaults,
)
from agentsession._dsl.drafts import SessionDraft
from agentsession._dsl.verifiers.session import SESSION_VERIFIERS
from agentsession._option_rules import UNSET, converted, keywords_of
from agentsession._options import History, Layout, OnBusy, SessionOptions
from agentsession._store.connection import renew_in_children
from agentsession._store.record import watch
from agentsession.actions.mixins import GuardedSave, SessionActions

C = TypeVar("C", bound=type)

MEBIBYTE = 1024 * 1024


@overload
def agent_session(
    *,
    context_attribute: str = "context",
    messages: Layout = "document",
    status_attribute: str | None = None,
    updated_attribute: str | None = None,
    owner_attribute: str | None = None,
    idempotency_attribute: str | None = None,
    max_input_bytes: int = 16 * MEBIBYTE,
    max_context_bytes: int = 64 * MEBIBYTE,
    lease: float = 30.0,
    on_busy: OnBusy = "raise",
    busy_timeout: float = 30.0,
    history_turns: int | None = None,
    history: History = None,
    pin_instruction: bool = False,
    inject: bool = True,
) -> Callable[[C], C]: ...
@overload
def agent_session(model: C, /) -> C: ...
def agent_session(model: Any = UNSET, /, **options: Any) -> Any:
    """Make a Peewee model with `@agent` a session: each row is a conversation.

    The decorator stands above `@agent`. At import it verifies the options and the fields, and adds the
    actions: `start_session`, `continue_session` and `resume_session`, each also as `a…` (to await),
    `stream_…` and `astream_…`; `cancel_session` and `get_context`, each also as `a…`; `last_result`,
    `last_turn` and `approvals`. `save` then leaves the managed attributes alone. No query runs at import; the
    table is yours to create.

    Each action of a turn stores the user's message before the model is called, and the reply when it is
    complete.

    Args:
        context_attribute: Name of the JSON field that stores the conversation. Default: `"context"`.
        messages: `"document"` stores all messages in that field, for conversations of up to some hundred
            messages. `"rows"` stores each in a row of the model with `@agent_message`: a turn then costs the
            same at message 10 and at message 10 000. Default: `"document"`.
        status_attribute: Name of a text field (17 characters or more) for the status of the latest turn:
            `pending`, `running`, `awaiting_approval`, `completed`, `failed` or `interrupted`. Default: None.
        updated_attribute: Name of a date-time field (UTC) that each stored step of a turn sets. Default:
            None.
        owner_attribute: Name of the field with the owner of the session. Every action then takes `actor=` (a
            value of the field, or a record), and finds the sessions of that actor only. Default: None.
        idempotency_attribute: Name of a unique text field (36 characters, `null=True`) for the
            `idempotency_key` of `start_session`. Default: None; the key then decides the primary key, if that
            is a UUID or text.
        max_input_bytes: Bytes of the largest input. Default: 16 MiB.
        max_context_bytes: Bytes of the largest conversation. Default: 64 MiB.
        lease: Seconds after which another process may take over a turn whose process has died. A living
            process extends the lease for as long as the model takes. Default: 30.
        on_busy: What an action does while a turn is open: `"raise"` raises `SessionBusy`, `"wait"` first
            waits for up to `busy_timeout`, without a database connection. Default: `"raise"`.
        busy_timeout: Seconds of the wait. Default: 30.
        history_turns: Number of the latest turns that the model is shown. The window moves in steps of a
            quarter of it, so that prompt caches keep working. All messages stay stored. Default: None, all
            turns.
        history: A function that takes the messages and returns those that the model is shown, instead of
            `history_turns`. An `async` function works with the async actions. Default: None.
        pin_instruction: `True` keeps the instruction of the first turn. `False` renders it for each turn from
            the stored arguments, so that an edit of the template reaches old sessions. Default: False.
        inject: `False` adds nothing but `save` to the model; use the functions of `agentsession.actions`. The
            names `call` and `stream` stay reserved, because `@agent` does not know this option. Default:
            True.

    Returns:
        The model itself, with the actions as a base class.

    Raises:
        DslError: The declaration is wrong. The error has every problem; nothing is registered, and the class
            is unchanged.

    Example:
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
    return apply(partial(_declare, options), model)


def _declare(options: Mapping[str, Any], model: Any) -> Any:
    known = keywords_of(agent_session)
    values = with_defaults(options, known)
    draft = SessionDraft(model, **values)
    unknown = unknown_options(model, "agent_session", options, known)
    raise_problems((*unknown, *problems_of(draft, SESSION_VERIFIERS)))
    with with_actions(model, SessionActions if draft.inject else GuardedSave, "agent_session"):
        verified = SessionOptions(**{**values, **converted(SessionOptions, draft)})
        _registry.declare_session(model, verified)
        watch(model, draft.context_attribute)
        renew_in_children(model)
    return model
