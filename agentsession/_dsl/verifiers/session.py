"""The verifiers of `@agent_session`. Each is the claim that it checks; add yours to `SESSION_VERIFIERS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import peewee

from agentsession import _names, _registry, info
from agentsession._dsl.declare import refuse_second, stands_on
from agentsession._dsl.session_draft import SessionDraft
from agentsession._dsl.taken import taken_names
from agentsession._dsl.verifiers.fields import (
    verify_attributes_differ,
    verify_context_is_a_map,
    verify_idempotency_is_unique,
    verify_owner_is_a_value,
    verify_status_is_a_text,
    verify_updated_is_a_time,
)
from agentsession._dsl.verifiers.rules import is_positive
from agentsession._options import LAYOUTS, ON_BUSY, ROWS
from agentsession._store.backend import problem_with_rows
from agentsession.actions.mixins import GuardedSave, SessionActions
from agentsession.errors import Problem


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
    yield from refuse_second(draft.model, "agent_session", _registry.session_of)


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


def verify_rows_have_transactions(draft: SessionDraft) -> Iterator[Problem]:
    if draft.fields and draft.messages == ROWS:
        problem = problem_with_rows(draft.model._meta.database, draft.where("Meta.database"))
        yield from () if problem is None else (problem,)


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


def verify_values_fit(draft: SessionDraft) -> Iterator[Problem]:
    seconds = {
        "lease": "it says when a turn whose process has died may be taken over",
        "busy_timeout": "it says how long an action waits for a busy session",
    }
    for option, why in seconds.items():
        value = getattr(draft, option)
        if not is_positive(value):
            found = f"{option} is {value!r}, not a positive number of seconds"
            yield Problem(draft.where(option), found, why, f"{option}=30.0")
    for option, default in (("max_input_bytes", 16), ("max_context_bytes", 64)):
        value = getattr(draft, option)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            found = f"{option} is {value!r}, not a whole number of bytes"
            yield Problem(draft.where(option), found, "it is a size", f"{option}={default} * 1024 * 1024")
    if draft.on_busy not in ON_BUSY:
        found = f"on_busy is {draft.on_busy!r}"
        why = "it says what an action does while a turn is open"
        yield Problem(draft.where("on_busy"), found, why, f"on_busy= one of {', '.join(map(repr, ON_BUSY))}")
    if draft.messages not in LAYOUTS:
        found, why = f"messages is {draft.messages!r}", "it says where the messages are stored"
        fix = f"messages= one of {', '.join(map(repr, LAYOUTS))}"
        yield Problem(draft.where("messages"), found, why, fix)
    for option, default in (("pin_instruction", False), ("inject", True)):
        value = getattr(draft, option)
        if not isinstance(value, bool):
            found = f"{option} is {value!r}, not True or False"
            yield Problem(draft.where(option), found, "it is a switch", f"{option}={default}")


def verify_history_is_a_number_or_a_function(draft: SessionDraft) -> Iterator[Problem]:
    history = draft.history
    is_count = isinstance(history, int) and not isinstance(history, bool) and history > 0
    if history is None or is_count or (callable(history) and not isinstance(history, type)):
        return
    found = f"history is {history!r}, neither a number of turns nor a function"
    why = "it says what of the conversation the model is shown"
    fix = "history=40 for the last 40 turns, or history=lambda messages: messages[-10:]"
    yield Problem(draft.where("history"), found, why, fix)


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
        yield from taken_names(draft.model, "agent_session", _names.SESSION_NAMES)


SESSION_VERIFIERS: tuple[Callable[[SessionDraft], Iterator[Problem]], ...] = (
    verify_class_is_a_model,
    verify_session_is_declared_once,
    verify_agent_is_declared,
    verify_database_is_configured,
    verify_rows_have_transactions,
    verify_primary_key_is_one_field,
    verify_context_is_a_map,
    verify_status_is_a_text,
    verify_updated_is_a_time,
    verify_owner_is_a_value,
    verify_idempotency_is_unique,
    verify_attributes_differ,
    verify_values_fit,
    verify_history_is_a_number_or_a_function,
    verify_save_is_guarded,
    verify_mixin_agrees_with_inject,
    verify_names_are_free,
)
