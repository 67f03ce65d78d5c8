"""The verifiers of the fields that `@agent_session` names."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import peewee

from agentsession.dsl.session_draft import SessionDraft
from agentsession.errors import Problem
from agentsession.store.keys import UUID_LENGTH, holds_a_uuid
from agentsession.store.values import target_of

STATUS_LENGTH = 17
"""`awaiting_approval`, the longest status."""

ATTRIBUTES = (
    "context_attribute",
    "status_attribute",
    "updated_attribute",
    "owner_attribute",
    "idempotency_attribute",
)

JSON_FIELDS = {
    ("peewee", "JSONField"): "",
    ("playhouse.sqlite_ext", "JSONField"): "",
    ("playhouse.sqlite_ext", "JSONBField"): "whose binary form cannot be read with SELECT",
    ("playhouse.postgres_ext", "BinaryJSONField"): "",
    ("playhouse.postgres_ext", "JSONField"): "which is plain json there and cannot be changed in place",
}
"""The fields that hold JSON, which share no base, and what is wrong with some."""


LOOSE = (
    peewee.FloatField,
    peewee.DecimalField,
    peewee.BooleanField,
    peewee.DateField,
    peewee.DateTimeField,
    peewee.TimeField,
    peewee.FixedCharField,
    peewee.BlobField,
)
"""Fields that some database compares with rounding, padding, or the beginning of a text."""


def verify_context_is_a_map(draft: SessionDraft) -> Iterator[Problem]:
    name = draft.context_attribute
    at = draft.where("context_attribute")
    why = "the conversation is stored in it as JSON"
    if not draft.is_model:
        return
    field = draft.fields.get(name) if isinstance(name, str) else None
    if field is None:
        yield Problem(at, _no_field(draft, name), why, _add(name, "context", "peewee.JSONField(null=True)"))
        return
    flaw = _flaw_as_map(field)
    if flaw != "":
        found = f"{name!r} is a {type(field).__name__}, {flaw or 'which is not map-typed'}"
        yield Problem(at, found, why, f"{name} = peewee.JSONField(null=True)")


def verify_status_is_a_text(draft: SessionDraft) -> Iterator[Problem]:
    name = draft.status_attribute
    if name is None or not draft.is_model:
        return
    at, why = draft.where("status_attribute"), "it follows the latest turn"
    line = f"peewee.CharField(max_length={STATUS_LENGTH + 3}, default='pending')"
    field = draft.fields.get(name) if isinstance(name, str) else None
    if field is None:
        yield Problem(at, _no_field(draft, name), why, _add(name, "status", line))
    elif not isinstance(field, (peewee.CharField, peewee.TextField)) or _flaw_as_map(field) is not None:
        found = f"{name!r} is a {type(field).__name__}, not a text field"
        yield Problem(at, found, why, f"{name} = {line}")
    elif isinstance(field, peewee.CharField) and (field.max_length or STATUS_LENGTH) < STATUS_LENGTH:
        found = f"{name!r} holds {field.max_length} characters, the longest status has {STATUS_LENGTH}"
        yield Problem(at, found, why, f"{name} = {line}")


def verify_updated_is_a_time(draft: SessionDraft) -> Iterator[Problem]:
    name = draft.updated_attribute
    if name is None or not draft.is_model:
        return
    at, why = draft.where("updated_attribute"), "sessions are listed by their last activity"
    field = draft.fields.get(name) if isinstance(name, str) else None
    if field is None:
        yield Problem(
            at, _no_field(draft, name), why, _add(name, "updated", "peewee.DateTimeField(null=True)")
        )
    elif not isinstance(field, peewee.DateTimeField):
        found = f"{name!r} is a {type(field).__name__}, not a date-time field"
        yield Problem(at, found, why, f"{name} = peewee.DateTimeField(null=True)")


def verify_owner_is_a_value(draft: SessionDraft) -> Iterator[Problem]:
    name = draft.owner_attribute
    if name is None or not draft.is_model:
        return
    at, why = draft.where("owner_attribute"), "it says whose session it is"
    line = "peewee.ForeignKeyField(User)"
    field = draft.fields.get(name) if isinstance(name, str) else None
    if field is None:
        yield Problem(at, _no_field(draft, name), why, _add(name, "user", line))
    elif _flaw_as_map(target_of(field)) is not None or isinstance(target_of(field), LOOSE):
        found = f"{name!r} is a {type(field).__name__}, whose values cannot be told apart for sure"
        yield Problem(at, found, why, f"{name} = {line}, or an integer, UUID or text field")


def verify_idempotency_is_unique(draft: SessionDraft) -> Iterator[Problem]:
    name = draft.idempotency_attribute
    if name is None or not draft.is_model:
        return
    at = draft.where("idempotency_attribute")
    why = "it makes two calls with the same key, started at once, one session"
    line = f"peewee.CharField(max_length={UUID_LENGTH}, null=True, unique=True)"
    field = draft.fields.get(name) if isinstance(name, str) else None
    if field is None:
        yield Problem(at, _no_field(draft, name), why, _add(name, "start_key", line))
    elif not isinstance(field, (peewee.CharField, peewee.TextField)) or not holds_a_uuid(field):
        found = f"{name!r} is a {type(field).__name__}, not a text field for {UUID_LENGTH} characters"
        yield Problem(at, found, why, f"{name} = {line}")
    elif not (field.unique and field.null and field.default is None):
        found = f"{name!r} is not unique, or has a value where no key was given"
        yield Problem(at, found, why, f"{name} = {line}")


def verify_attributes_differ(draft: SessionDraft) -> Iterator[Problem]:
    seen: dict[Any, str] = {}
    for option in ATTRIBUTES:
        name = getattr(draft, option)
        if not isinstance(name, str):
            continue
        if name in seen:
            found = f"{option} and {seen[name]} are both {name!r}"
            why = "each keeps a value of its own"
            yield Problem(draft.where(option), found, why, f"{option}=… with a field of its own")
        elif name in draft.fields and draft.fields[name].primary_key:
            found = f"{option} is the primary key {name!r}"
            why = "the library writes it on every turn"
            yield Problem(draft.where(option), found, why, f"{option}=… with a field of its own")
        seen[name] = option


def _no_field(draft: SessionDraft, name: Any) -> str:
    if not isinstance(name, str):
        return f"the name of the attribute is {name!r}, not a str"
    near = get_close_matches(name, draft.fields, 1)
    return f"the model has no field {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _add(name: Any, default: str, field: str) -> str:
    return f"{name if isinstance(name, str) else default} = {field}"


def _flaw_as_map(field: Any) -> str | None:
    """None where it holds no JSON. By name, so that optional modules are not imported."""
    kinds = [(base.__module__, base.__name__) for base in type(field).__mro__]
    return next((JSON_FIELDS[kind] for kind in kinds if kind in JSON_FIELDS), None)
