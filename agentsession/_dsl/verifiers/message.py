"""The verifiers of `@agent_message`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import peewee

from agentsession import _registry
from agentsession._dsl.declare import stands_on
from agentsession._dsl.drafts import MessageDraft
from agentsession._dsl.verifiers.shared import CONVERSIONS, PAST_THE_FIELD, is_text, json_flaw
from agentsession._options import ROWS
from agentsession._store.identity import overridden
from agentsession._store.message_table import JSON, OWN, ROLE_LENGTH, TURN_LENGTH
from agentsession.errors import Problem

LINES = {
    "seq": "seq = peewee.IntegerField()",
    "turn": f"turn = peewee.CharField(max_length={TURN_LENGTH})",
    "role": f"role = peewee.CharField(max_length={ROLE_LENGTH})",
    "content": "content = peewee.JSONField()",
    "metadata": "metadata = peewee.JSONField()",
}
TOO_SMALL = (peewee.SmallIntegerField, peewee.AutoField)
LENGTHS = {"turn": TURN_LENGTH, "role": ROLE_LENGTH}
KEY = 'session = peewee.ForeignKeyField(ChatAgent, backref="messages", on_delete="CASCADE", index=False)'


def verify_messages_are_a_model(draft: MessageDraft) -> Iterator[Problem]:
    if draft.is_model:
        return
    is_class = isinstance(draft.model, type)
    found = (
        f"{draft.model.__name__} is not a Peewee model with a table" if is_class else stands_on(draft.model)
    )
    why = "each message is a row of the model's table"
    yield Problem(draft.where("class"), found, why, "class ChatMessage(MessageFields): …")


def verify_session_has_its_messages_in_rows(draft: MessageDraft) -> Iterator[Problem]:
    if not draft.is_model:
        return
    if draft.key is None:
        found = "the model has no foreign key to a session model"
        yield Problem(draft.where("session"), found, "a message belongs to a session", KEY)
        return
    session = draft.key.rel_model
    options: Any = _registry.session_of(session)
    if options.messages != ROWS:
        found = f"{session.__name__} is declared with messages={options.messages!r}"
        why = "its messages are stored in its context attribute, not in this table"
        yield Problem(draft.where(draft.key.name), found, why, '@agent_session(messages="rows", …)')
    if draft.key.unique:
        found = f"{draft.key.name!r} is unique: a session could have only one message"
        yield Problem(draft.where(draft.key.name), found, "a session has many messages", KEY)
    if draft.key.rel_field is not session._meta.primary_key:
        found = f"{draft.key.name!r} refers to {session.__name__}.{draft.key.rel_field.name}"
        why = "a session is found by its primary key"
        yield Problem(draft.where(draft.key.name), found, why, f"leave field=… out of {draft.key.name}")


def verify_session_has_one_message_model(draft: MessageDraft) -> Iterator[Problem]:
    """A second model of the same table is the class defined again, as in a notebook."""
    if draft.key is None:
        return
    session: Any = draft.key.rel_model
    declared = _registry.message_of(session)
    if declared is None or declared[0]._meta.table_name == draft.model._meta.table_name:
        return
    found = f"{session.__name__} already has its messages in {declared[0].__name__}"
    why = "the messages in that table would no longer be read"
    yield Problem(draft.where("class"), found, why, "keep one @agent_message for each session model")


def verify_fields_fit(draft: MessageDraft) -> Iterator[Problem]:
    why = "each message is stored in these columns, which MessageFields has"
    for name in OWN if draft.is_model else ():
        field = draft.fields.get(name)
        flaw = f"the model has no field {name!r}" if field is None else _flaw(name, field)
        if flaw is not None:
            yield Problem(draft.where(name), flaw, why, LINES[name])


def verify_positions_are_unique(draft: MessageDraft) -> Iterator[Problem]:
    if draft.key is None or "seq" not in draft.fields or {draft.key.name, "seq"} in draft.unique:
        return
    name = draft.key.name
    yield Problem(
        draft.where("Meta.indexes"),
        f"the model has no unique index on {name!r} and 'seq'",
        "it finds the messages in their order, and allows one message for each position",
        f"indexes = ((({name!r}, 'seq'), True), (({name!r}, 'turn'), False)) in class Meta",
    )


def verify_indexes_name_fields(draft: MessageDraft) -> Iterator[Problem]:
    """The indexes of `MessageFields` name the foreign key `session`."""
    for index in draft.model._meta.indexes if draft.is_model else ():
        names = index[0] if isinstance(index, (list, tuple)) and len(index) == 2 else ()
        missing = [name for name in names if name not in draft.model._meta.combined]
        if missing and draft.key is not None:
            own = draft.key.name
            yield Problem(
                draft.where("Meta.indexes"),
                f"an index names {missing[0]!r}, which is not a field",
                "the table could not be created",
                f"call the foreign key 'session', or indexes = ((({own!r}, 'seq'), True), "
                f"(({own!r}, 'turn'), False)) in class Meta",
            )
            return


def verify_other_fields_need_no_value(draft: MessageDraft) -> Iterator[Problem]:
    for field in draft.fields.values() if draft.key is not None else ():
        is_ours = field.name in OWN or field is draft.key
        is_optional = field.null or field.default is not None or isinstance(field, peewee.AutoField)
        if not (is_ours or is_optional or _has_default_in_sql(field)):
            found = f"{field.name!r} has neither a default nor null=True"
            why = "the library inserts the rows, and has no value for it"
            argument = "default=uuid.uuid4" if field.primary_key else "null=True"
            yield Problem(draft.where(field.name), found, why, f"{field.name} = …({argument})")


def verify_database_is_that_of_the_session(draft: MessageDraft) -> Iterator[Problem]:
    if draft.key is None:
        return
    own, other = draft.model._meta.database, draft.key.rel_model._meta.database
    if own is not other:
        found = "the model has no database" if own is None else "its database is not that of the session"
        why = "a message and its session are written in one transaction"
        session = draft.key.rel_model.__name__
        fix = f"database = {session}._meta.database in class Meta, or in a base of both models"
        yield Problem(draft.where("Meta.database"), found, why, fix)


def _flaw(name: str, field: Any) -> str | None:
    kind = type(field).__name__
    if field.unique:
        return f"{name!r} is unique, but messages share its values"
    method = overridden(field, *CONVERSIONS)
    if name not in JSON and method is not None:
        return f"{name!r} is a {kind}, whose class overrides {method}: {PAST_THE_FIELD}"
    if name == "seq":
        is_fit = isinstance(field, peewee.IntegerField) and not isinstance(field, TOO_SMALL)
        return None if is_fit else f"'seq' is a {kind}, not an integer field"
    if name not in LENGTHS:
        flaw = json_flaw(field)
        return None if flaw == "" else f"{name!r} is a {kind}, {flaw or 'not a JSON field'}"
    if not is_text(field):
        return f"{name!r} is a {kind}, not a text field"
    length = getattr(field, "max_length", None) or LENGTHS[name]
    return None if length >= LENGTHS[name] else f"{name!r} holds {length} characters, not {LENGTHS[name]}"


def _has_default_in_sql(field: Any) -> bool:
    return any("DEFAULT" in str(getattr(each, "sql", "")).upper() for each in field.constraints or ())


MESSAGE_VERIFIERS: tuple[Callable[[MessageDraft], Iterator[Problem]], ...] = (
    verify_messages_are_a_model,
    verify_session_has_its_messages_in_rows,
    verify_session_has_one_message_model,
    verify_fields_fit,
    verify_positions_are_unique,
    verify_indexes_name_fields,
    verify_other_fields_need_no_value,
    verify_database_is_that_of_the_session,
)
