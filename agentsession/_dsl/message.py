"""`@agent_message` and `MessageFields`: the model whose rows are the messages of a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, overload

import peewee

from agentsession import _registry
from agentsession._dsl.declare import apply, problems_of, raise_problems, unknown_options
from agentsession._dsl.drafts import MessageDraft
from agentsession._dsl.verifiers.message import MESSAGE_VERIFIERS
from agentsession._option_rules import UNSET
from agentsession._store.message_table import ROLE_LENGTH, TURN_LENGTH

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


class MessageModel(peewee.ModelBase):
    """The metaclass of `MessageFields`, which may stand before or behind another base class.

    Peewee takes each option of `Meta`, and the primary key, from the first base, even if that base does not
    set it. As the first base `MessageFields` would hide the database; as a later one it would lose its
    indexes. This class gives Peewee the message bases without a database last, and the indexes of all bases.
    """

    def __new__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any], **options: Any) -> Any:
        ordered = _without_a_database_last(bases)
        meta = attributes.get("Meta", object)
        if "indexes" not in vars(meta):
            own = {key: value for key, value in vars(meta).items() if not key.startswith("_")}
            attributes = {**attributes, "Meta": type("Meta", (meta,), {**own, "indexes": _indexes(ordered)})}
        make: Any = super().__new__
        made = make(cls, name, ordered, attributes, **options)
        if made.__bases__ != bases:
            made.__bases__ = bases
        return made


def _indexes(bases: tuple[type, ...]) -> list[Any]:
    """Return the indexes of all bases, each once."""
    found: list[Any] = []
    for base in bases:
        found += [index for index in _meta(base, "indexes") or () if index not in found]
    return found


def _without_a_database_last(bases: tuple[type, ...]) -> tuple[type, ...]:
    """Return the bases, with the message bases without a database behind the other models."""
    last = [base for base in bases if isinstance(base, MessageModel) and _meta(base, "database") is None]
    ordered = [base for base in bases if base not in last]
    behind = max((number for number, base in enumerate(ordered, 1) if hasattr(base, "_meta")), default=0)
    return (*ordered[:behind], *last, *ordered[behind:])


def _meta(base: type, option: str) -> Any:
    return getattr(getattr(base, "_meta", None), option, None)


class MessageFields(peewee.Model, metaclass=MessageModel):
    """The columns of a message: the base class of a model with `@agent_message`.

    Your model adds the foreign key to the session, called `session`, and the database, in `Meta` or by
    another base (in either order). `create_tables` then creates the two indexes with the table. The library
    inserts the rows, so a column of your own needs a default or `null=True`.

    Attributes:
        seq: Position in the conversation, from 0. Order by it, never by a time.
        turn: Id of the turn. A message of the transcript has the id `turn:seq`.
        role: `user`, `assistant`, `tool`, or `system` for a pinned instruction.
        content: Text, a list of parts, or a dict for structured input, like `Message.content`.
        metadata: The dict of `Message.metadata`.

    Example:
        ```python
        @agent_message
        class ChatMessage(MessageFields):
            session = peewee.ForeignKeyField(ChatAgent, backref="messages", on_delete="CASCADE", index=False)

            class Meta:
                database = db
        ```
    """

    seq = peewee.IntegerField()
    turn = peewee.CharField(max_length=TURN_LENGTH)
    role = peewee.CharField(max_length=ROLE_LENGTH)
    content = peewee.JSONField()
    metadata = peewee.JSONField()

    class Meta:
        indexes = ((("session", "seq"), True), (("session", "turn"), False))
