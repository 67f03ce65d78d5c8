"""`@agent_message`: the model whose rows are the messages of a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, overload

from agentsession import _registry
from agentsession._dsl.declare import UNSET, apply, problems_of, raise_problems, refuse_unknown
from agentsession._dsl.verifiers.message import MESSAGE_VERIFIERS, MessageDraft

C = TypeVar("C", bound=type)


@overload
def agent_message() -> Callable[[C], C]: ...
@overload
def agent_message(model: C, /) -> C: ...
def agent_message(model: Any = UNSET, /, **unknown: Any) -> Any:
    """Make a Peewee model the messages of a session: each message is a row that you can query, join, page
    through and delete.

    The model has a foreign key to a session model that is declared with `messages="rows"`; `MessageFields` as
    a base brings the other columns. What was said is then inserted here, and `context_attribute` keeps the
    head only: the latest turn, the latest reply, the instruction's arguments. Nothing is put on the model.

    Raises `DslError` with every problem at once and a line to paste for each; nothing is then registered.

    ```python
    @agent_message
    class ChatMessage(MessageFields):
        session = peewee.ForeignKeyField(ChatAgent, backref="messages", on_delete="CASCADE", index=False)

        class Meta:
            database = db

    ChatMessage.select().where(ChatMessage.role == "user").order_by(ChatMessage.seq)
    ```
    """
    return apply(partial(_declare, unknown), model)


def _declare(unknown: dict[str, Any], model: Any) -> Any:
    draft = MessageDraft(model)
    surplus = refuse_unknown(model, "agent_message", unknown, {})
    raise_problems((*surplus, *problems_of(draft, MESSAGE_VERIFIERS)))
    _registry.declare_message(draft.key.rel_model, model, draft.key.name)
    return model
