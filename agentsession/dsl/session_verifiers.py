"""The verifiers of `@agent_session`. Each is the claim that it checks; add yours to `SESSION_VERIFIERS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import peewee

from agentsession import info, names, registry
from agentsession.actions.mixins import GuardedSave, SessionActions
from agentsession.dsl.agent_verifiers import is_positive
from agentsession.dsl.declare import refuse_second, stands_on, where
from agentsession.dsl.taken import taken_names
from agentsession.errors import Problem

STATUS_LENGTH = 17
"""`awaiting_approval`, the longest status."""

JSON_FIELDS = {
    ("peewee", "JSONField"): "",
    ("playhouse.sqlite_ext", "JSONField"): "",
    ("playhouse.sqlite_ext", "JSONBField"): "whose binary form cannot be read with SELECT",
    ("playhouse.postgres_ext", "BinaryJSONField"): "",
    ("playhouse.postgres_ext", "JSONField"): "which is plain json there and cannot be changed in place",
}
"""The fields that hold JSON, which share no base, and what is wrong with some."""


@dataclass
class SessionDraft:
    """What `@agent_session` was given, not yet verified."""

    model: Any
    context_attribute: Any
    status_attribute: Any
    updated_attribute: Any
    lease: Any
    pin_instruction: Any
    inject: Any

    def where(self, option: str) -> str:
        return where(self.model, "agent_session", option)

    @property
    def is_model(self) -> bool:
        """Of the user's own: `peewee.Model` itself has no table."""
        is_class = isinstance(self.model, type)
        return is_class and issubclass(self.model, peewee.Model) and self.model is not peewee.Model

    @property
    def fields(self) -> dict[str, Any]:
        return self.model._meta.fields if self.is_model else {}


def verify_class_is_a_model(draft: SessionDraft) -> Iterator[Problem]:
    if draft.is_model:
        return
    if draft.model is peewee.Model:
        found, name = "it stands on peewee.Model itself", "ChatAgent"
    elif isinstance(draft.model, type):
        found, name = f"{draft.model.__name__} is no Peewee model", draft.model.__name__
    else:
        found, name = stands_on(draft.model), "ChatAgent"
    why = "a conversation is a row of the model's table"
    yield Problem(draft.where("class"), found, why, f"class {name}(peewee.Model): …")


def verify_session_is_declared_once(draft: SessionDraft) -> Iterator[Problem]:
    yield from refuse_second(draft.model, "agent_session", registry.session_of)


def verify_agent_is_declared(draft: SessionDraft) -> Iterator[Problem]:
    if not info.is_agent(draft.model):
        yield Problem(
            draft.where("agent"),
            "the model has no @agent, or @agent stands above @agent_session",
            "a session needs a client and an instruction, and decorators run from the bottom up",
            "put @agent(client=…, instruction=…) below @agent_session, next to the class",
        )


def verify_database_is_configured(draft: SessionDraft) -> Iterator[Problem]:
    if draft.fields and draft.model._meta.database is None:
        yield Problem(
            draft.where("Meta.database"),
            "the model has no database",
            "every action reads and writes the model's table",
            "database = peewee.SqliteDatabase(…) in class Meta, or a peewee.DatabaseProxy() that is "
            "initialized later",
        )


def verify_primary_key_is_one_field(draft: SessionDraft) -> Iterator[Problem]:
    if not draft.fields:
        return
    key = draft.model._meta.primary_key
    if key is False or isinstance(key, peewee.CompositeKey):
        yield Problem(
            draft.where("primary_key"),
            "the model has no primary key" if key is False else "the primary key is composite",
            "a session is found by one id",
            "id = peewee.UUIDField(primary_key=True, default=uuid.uuid4)",
        )


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


def verify_attributes_differ(draft: SessionDraft) -> Iterator[Problem]:
    options = ("context_attribute", "status_attribute", "updated_attribute")
    seen: dict[Any, str] = {}
    for option in options:
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


def verify_values_fit(draft: SessionDraft) -> Iterator[Problem]:
    if not is_positive(draft.lease):
        why = "it says when a turn whose process has died may be taken over"
        found = f"lease is {draft.lease!r}, not a positive number of seconds"
        yield Problem(draft.where("lease"), found, why, "lease=30.0")
    for option, default in (("pin_instruction", False), ("inject", True)):
        value = getattr(draft, option)
        if not isinstance(value, bool):
            found = f"{option} is {value!r}, not True or False"
            yield Problem(draft.where(option), found, "it is a switch", f"{option}={default}")


def verify_save_is_guarded(draft: SessionDraft) -> Iterator[Problem]:
    """The decorator adds the guard in the right place; a mixin that the user inherits may stand elsewhere."""
    if not draft.is_model:
        return
    mro = draft.model.__mro__
    if GuardedSave in mro and mro.index(GuardedSave) > mro.index(peewee.Model):
        found = "the mixin stands behind the model among the bases"
        why = "peewee's save() would never reach the one that leaves the managed attributes alone"
        fix = f"class {draft.model.__name__}(SessionActions, peewee.Model): …"
        yield Problem(draft.where("save"), found, why, fix)
    if not callable(draft.model.save):
        found = f"{draft.model.__name__}.save is a {type(draft.model.save).__name__}, not a method"
        yield Problem(draft.where("save"), found, "a session is stored by save()", "rename it")


def verify_mixin_agrees_with_inject(draft: SessionDraft) -> Iterator[Problem]:
    if draft.inject is False and draft.is_model and issubclass(draft.model, SessionActions):
        found = "inject=False, but the class inherits SessionActions"
        why = "inject=False promises that nothing but save lands on the model"
        yield Problem(
            draft.where("inject"), found, why, "remove the mixin from the bases, or leave inject out"
        )


def verify_names_are_free(draft: SessionDraft) -> Iterator[Problem]:
    if draft.inject is not False:
        yield from taken_names(draft.model, "agent_session", names.SESSION_NAMES)


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


SESSION_VERIFIERS: tuple[Callable[[SessionDraft], Iterator[Problem]], ...] = (
    verify_class_is_a_model,
    verify_session_is_declared_once,
    verify_agent_is_declared,
    verify_database_is_configured,
    verify_primary_key_is_one_field,
    verify_context_is_a_map,
    verify_status_is_a_text,
    verify_updated_is_a_time,
    verify_attributes_differ,
    verify_values_fit,
    verify_save_is_guarded,
    verify_mixin_agrees_with_inject,
    verify_names_are_free,
)
