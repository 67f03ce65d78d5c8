"""The verifiers of the fields that `@agent_session` names. They are part of `SESSION_VERIFIERS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

import peewee

from agentsession._dsl.drafts import SessionDraft
from agentsession._dsl.verifiers.shared import is_text, json_flaw
from agentsession._store.dialects.base import target_of
from agentsession._store.identity import UUID_LENGTH, holds_a_uuid
from agentsession.errors import Problem

STATUS_LENGTH = 17
"""`awaiting_approval`, the longest status."""

ATTRIBUTES = (
    "context_attribute",
    "status_attribute",
    "updated_attribute",
    "owner_attribute",
    "idempotency_attribute",
)

COMPARED_LOOSELY = (
    peewee.FloatField,
    peewee.DecimalField,
    peewee.BooleanField,
    peewee.DateField,
    peewee.DateTimeField,
    peewee.TimeField,
    peewee.FixedCharField,
    peewee.BlobField,
)
"""Fields that some database compares with rounding or padding, or by the beginning of a text."""


def verify_context_is_a_json_field(draft: SessionDraft) -> Iterator[Problem]:
    why = "the conversation is stored in it as JSON"
    return _verify_field(
        draft, "context_attribute", "context", _flaw_of_context, why, "peewee.JSONField(null=True)"
    )


def verify_status_is_a_text(draft: SessionDraft) -> Iterator[Problem]:
    line = f"peewee.CharField(max_length={STATUS_LENGTH + 3}, default='pending')"
    return _verify_field(
        draft, "status_attribute", "status", _flaw_of_status, "it follows the latest turn", line
    )


def verify_updated_is_a_time(draft: SessionDraft) -> Iterator[Problem]:
    why, line = "sessions are listed by their last activity", "peewee.DateTimeField(null=True)"
    return _verify_field(draft, "updated_attribute", "updated", _flaw_of_time, why, line)


def verify_owner_is_a_value(draft: SessionDraft) -> Iterator[Problem]:
    why, line = "it says whose session it is", "peewee.ForeignKeyField(User)"
    others = ", or an integer, UUID or text field"
    return _verify_field(draft, "owner_attribute", "user", _flaw_of_owner, why, line, others)


def verify_idempotency_is_unique(draft: SessionDraft) -> Iterator[Problem]:
    why = "it makes two calls with the same key, started at once, one session"
    line = f"peewee.CharField(max_length={UUID_LENGTH}, null=True, unique=True)"
    return _verify_field(draft, "idempotency_attribute", "start_key", _flaw_of_key, why, line)


def verify_attributes_differ(draft: SessionDraft) -> Iterator[Problem]:
    seen: dict[Any, str] = {}
    for option in ATTRIBUTES:
        name = getattr(draft, option)
        if not isinstance(name, str):
            continue
        if name in seen:
            found = f"{option} and {seen[name]} are both {name!r}"
            why = "each stores another value"
            yield Problem(draft.where(option), found, why, f"{option}=… with another field")
        elif name in draft.fields and draft.fields[name].primary_key:
            found = f"{option} is the primary key {name!r}"
            why = "the library writes it on every turn"
            yield Problem(draft.where(option), found, why, f"{option}=… with another field")
        seen[name] = option


def _verify_field(
    draft: SessionDraft,
    option: str,
    example: str,
    flaw_of: Callable[[Any], str | None],
    why: str,
    line: str,
    others: str = "",
) -> Iterator[Problem]:
    """Verify that the option names a field of the model, and that the field has no flaw.

    Only `context_attribute` is required.
    """
    name = getattr(draft, option)
    if not draft.is_model or (name is None and option != "context_attribute"):
        return
    field = draft.fields.get(name) if isinstance(name, str) else None
    if field is None:
        near = get_close_matches(name, draft.fields, 1) if isinstance(name, str) else []
        new_field = f"{name if isinstance(name, str) else example} = {line}"
        fix = f"{option}={near[0]!r}, or {new_field}" if near else new_field
        yield Problem(draft.where(option), _no_field(name, near), why, fix)
        return
    flaw = flaw_of(field)
    if flaw is not None:
        yield Problem(draft.where(option), f"{name!r} {flaw}", why, f"{name} = {line}{others}")


def _flaw_of_context(field: Any) -> str | None:
    flaw = json_flaw(field)
    return None if flaw == "" else f"is a {type(field).__name__}, {flaw or 'not a JSON field'}"


def _flaw_of_status(field: Any) -> str | None:
    if not is_text(field):
        return f"is a {type(field).__name__}, not a text field"
    if isinstance(field, peewee.CharField) and (field.max_length or STATUS_LENGTH) < STATUS_LENGTH:
        return f"holds {field.max_length} characters, the longest status has {STATUS_LENGTH}"
    return None


def _flaw_of_time(field: Any) -> str | None:
    is_time = isinstance(field, peewee.DateTimeField)
    return None if is_time else f"is a {type(field).__name__}, not a date-time field"


def _flaw_of_owner(field: Any) -> str | None:
    if json_flaw(target_of(field)) is None and not isinstance(target_of(field), COMPARED_LOOSELY):
        return None
    return f"is a {type(field).__name__}, which some database does not compare exactly"


def _flaw_of_key(field: Any) -> str | None:
    if not is_text(field) or not holds_a_uuid(field):
        return f"is a {type(field).__name__}, not a text field for {UUID_LENGTH} characters"
    if not (field.unique and field.null and field.default is None):
        return "is not unique, or has a value for a session without a key"
    return None


def _no_field(name: Any, near: list[str]) -> str:
    if not isinstance(name, str):
        return f"the name of the attribute is {name!r}, not a str"
    return f"the model has no field {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
