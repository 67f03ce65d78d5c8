"""`@agent_message`: the model whose rows are the messages of a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, overload

from agentsession import _registry
from agentsession._dsl.declare import apply, problems_of, raise_problems, unknown_options
from agentsession._dsl.drafts import MessageDraft
from agentsession._dsl.verifiers.message import MESSAGE_VERIFIERS
from agentsession._option_rules import UNSET

C = TypeVar("C", bound=type)


@overload
def agent_message() -> Callable[[C], C]: ...
@overload
def agent_message(model: C, /) -> C: ...
def agent_message(model: Any = UNSET, /, **options: Any) -> Any:
    """Make a Peewee model the messages of a session: each message is a row.

    The model has a foreign key to a session model with `messages="rows"`, and the columns of `MessageFields`.
    At import it is verified and registered; nothing is added to it. Each turn then inserts its messages here,
    and the `context_attribute` of the session stores only the latest turn, the latest reply and the
    instruction's arguments. The rows are yours to query, join, page through and delete.

    Returns:
        The model itself.

    Raises:
        DslError: The declaration is wrong. The error has every problem with a line to paste; nothing is
            registered.

    Example:
        ```python
        @agent_message
        class ChatMessage(MessageFields):
            session = peewee.ForeignKeyField(ChatAgent, backref="messages", on_delete="CASCADE", index=False)

            class Meta:
                database = db

        ChatMessage.select().where(ChatMessage.role == "user").order_by(ChatMessage.seq)
        ```
    """
    return apply(partial(_declare, options), model)


def _declare(options: Mapping[str, Any], model: Any) -> Any:
    draft = MessageDraft(model)
    unknown = unknown_options(model, "agent_message", options, {})
    raise_problems((*unknown, *problems_of(draft, MESSAGE_VERIFIERS)))
    _registry.declare_message(draft.key.rel_model, model, draft.key.name)
    return model
