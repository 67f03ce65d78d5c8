"""`@agent_session`: a Peewee model with `@agent` becomes a persistent conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, overload

from agentsession import _registry
from agentsession._dsl.declare import UNSET, apply, problems_of, raise_problems, refuse_unknown
from agentsession._dsl.inject import given
from agentsession._dsl.session_draft import SessionDraft
from agentsession._dsl.verifiers.session import SESSION_VERIFIERS
from agentsession._options import DOCUMENT, Layout, OnBusy, SessionOptions
from agentsession._store.forks import renew_in_children
from agentsession._store.record import watch
from agentsession._turn.prompt_messages import History
from agentsession.actions.mixins import GuardedSave, SessionActions

C = TypeVar("C", bound=type)

MEBIBYTE = 1024 * 1024


@overload
def agent_session(
    *,
    context_attribute: str = ...,
    messages: Layout = ...,
    status_attribute: str | None = ...,
    updated_attribute: str | None = ...,
    owner_attribute: str | None = ...,
    idempotency_attribute: str | None = ...,
    max_input_bytes: int = ...,
    max_context_bytes: int = ...,
    lease: float = ...,
    on_busy: OnBusy = ...,
    busy_timeout: float = ...,
    history: History = ...,
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
    messages: Any = DOCUMENT,
    status_attribute: Any = None,
    updated_attribute: Any = None,
    owner_attribute: Any = None,
    idempotency_attribute: Any = None,
    max_input_bytes: Any = 16 * MEBIBYTE,
    max_context_bytes: Any = 64 * MEBIBYTE,
    lease: Any = 30.0,
    on_busy: Any = "raise",
    busy_timeout: Any = 30.0,
    history: Any = None,
    pin_instruction: Any = False,
    inject: Any = True,
    **unknown: Any,
) -> Any:
    """Make a Peewee model with `@agent` a session: each row is a conversation that outlives the process.

    Stands above `@agent`. Generates `start_session`, `continue_session` and `resume_session`, each also as
    `a…` (to await), `stream_…` and `astream_…`; `cancel_session` and `get_context`, each also as `a…`;
    `last_result`, `last_turn` and `approvals`; and a `save` that leaves the managed attributes alone.

    - `context_attribute`: the name of the JSON field that stores the conversation.
    - `messages`: `"document"` keeps all messages in that field, for conversations of up to some hundred.
      `"rows"` keeps each in a row of the model with `@agent_message`: a turn then costs the same at message
      10 and at message 10 000.
    - `status_attribute`: a text field (17 characters or more) that follows the latest turn: `pending`,
      `running`, `awaiting_approval`, `completed`, `failed`, `interrupted`.
    - `updated_attribute`: a date-time field (UTC) that each stored step of a turn sets.
    - `owner_attribute`: the field that says whose session it is. Every action then takes `actor=` (a value
      of the field, or a record), and sees the sessions of that actor only.
    - `idempotency_attribute`: a unique text field (36 characters, `null=True`) for `start_session`'s
      `idempotency_key`; without it the key decides the primary key, where that is a UUID or text.
    - `max_input_bytes`, `max_context_bytes`: an input, or a conversation, that takes more is refused.
    - `lease`: seconds after which another process may take over a turn whose process has died. A living one
      extends it, however long the model takes.
    - `on_busy`: what an action does while a turn is open: `"raise"` `SessionBusy`, or `"wait"` for up to
      `busy_timeout` seconds first, holding no connection.
    - `history`: what the model is shown of the conversation, none of which is ever deleted. A number is the
      last so many turns, moved in steps of a quarter of it, so that prompt caches keep working; a function is
      given the messages and returns those to show (asynchronous ones work with the async actions). Without it
      the model is shown everything.
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
        "messages": messages,
        "status_attribute": status_attribute,
        "updated_attribute": updated_attribute,
        "owner_attribute": owner_attribute,
        "idempotency_attribute": idempotency_attribute,
        "max_input_bytes": max_input_bytes,
        "max_context_bytes": max_context_bytes,
        "lease": lease,
        "on_busy": on_busy,
        "busy_timeout": busy_timeout,
        "history": history,
        "pin_instruction": pin_instruction,
        "inject": inject,
    }
    return apply(partial(_declare, options, unknown), model)


def _declare(options: Mapping[str, Any], unknown: Mapping[str, Any], model: Any) -> Any:
    draft = SessionDraft(model, **options)
    surplus = refuse_unknown(model, "agent_session", unknown, options)
    raise_problems((*surplus, *problems_of(draft, SESSION_VERIFIERS)))
    with given(model, SessionActions if draft.inject else GuardedSave, "agent_session"):
        _registry.declare_session(model, _options(options))
        watch(model, draft.context_attribute)
        renew_in_children(model)
    return model


def _options(verified: Mapping[str, Any]) -> SessionOptions:
    seconds = {name: float(verified[name]) for name in ("lease", "busy_timeout")}
    return SessionOptions(**{**verified, **seconds})
