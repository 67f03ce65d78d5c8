"""The verifiers of `@agent_session`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import peewee

from agentsession import _registry, info
from agentsession._dsl.declare import stands_on
from agentsession._dsl.drafts import SessionDraft
from agentsession._dsl.verifiers.fields import (
    verify_attributes_differ,
    verify_context_is_a_json_field,
    verify_idempotency_is_unique,
    verify_owner_is_a_value,
    verify_status_is_a_text,
    verify_updated_is_a_time,
)
from agentsession._dsl.verifiers.shared import names_in_use, second_declaration, values_that_break_rules
from agentsession._option_rules import is_count
from agentsession._options import ROWS, SESSION_NAMES, SessionOptions
from agentsession._store.declared import problem_with_rows
from agentsession.actions.mixins import GuardedSave, SessionActions
from agentsession.errors import Problem


def verify_session_is_a_model(draft: SessionDraft) -> Iterator[Problem]:
    if draft.is_model:
        return
    if draft.model is peewee.Model:
        found, name = "it stands on peewee.Model itself", "ChatAgent"
    elif isinstance(draft.model, type):
        found, name = f"{draft.model.__name__} is not a Peewee model", draft.model.__name__
    else:
        found, name = stands_on(draft.model), "ChatAgent"
    why = "a conversation is a row of the model's table"
    yield Problem(draft.where("class"), found, why, f"class {name}(peewee.Model): …")


def verify_session_is_declared_once(draft: SessionDraft) -> Iterator[Problem]:
    yield from second_declaration(draft.model, "agent_session", _registry.session_of)


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
            "a session has one id",
            "id = peewee.UUIDField(primary_key=True, default=uuid.uuid4)",
        )


def verify_session_values_fit(draft: SessionDraft) -> Iterator[Problem]:
    yield from values_that_break_rules(draft, SessionOptions)


def verify_history_is_a_function(draft: SessionDraft) -> Iterator[Problem]:
    history = draft.history
    if history is None or (callable(history) and not isinstance(history, type)):
        return
    found = f"history is {history!r}, not a function"
    why = "it takes the messages and returns those that the model is shown"
    turns = history if is_count(history) else 40
    fix = f"history_turns={turns} for the last {turns} turns, or history=lambda messages: messages[-10:]"
    yield Problem(draft.where("history"), found, why, fix)


def verify_history_is_chosen_in_one_way(draft: SessionDraft) -> Iterator[Problem]:
    if draft.history is not None and draft.history_turns is not None:
        found = "history_turns and history are both given"
        why = "each of them says which messages the model is shown"
        fix = "keep one; messages[-10:] in the function of history leaves the last ten"
        yield Problem(draft.where("history"), found, why, fix)


def verify_save_is_guarded(draft: SessionDraft) -> Iterator[Problem]:
    """The decorator puts the guard before the model. A mixin that the user inherits may stand behind it."""
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
        yield Problem(draft.where("save"), found, "an action stores a session with save()", "rename it")


def verify_mixin_agrees_with_inject(draft: SessionDraft) -> Iterator[Problem]:
    if draft.inject is False and draft.is_model and issubclass(draft.model, SessionActions):
        found = "inject=False, but the class inherits SessionActions"
        why = "with inject=False the model gets no action, only save"
        yield Problem(
            draft.where("inject"), found, why, "remove the mixin from the bases, or leave inject out"
        )


def verify_action_names_are_free(draft: SessionDraft) -> Iterator[Problem]:
    if draft.inject is not False:
        yield from names_in_use(draft.model, "agent_session", SESSION_NAMES)


SESSION_VERIFIERS: tuple[Callable[[SessionDraft], Iterator[Problem]], ...] = (
    verify_session_is_a_model,
    verify_session_is_declared_once,
    verify_agent_is_declared,
    verify_database_is_configured,
    verify_rows_have_transactions,
    verify_primary_key_is_one_field,
    verify_context_is_a_json_field,
    verify_status_is_a_text,
    verify_updated_is_a_time,
    verify_owner_is_a_value,
    verify_idempotency_is_unique,
    verify_attributes_differ,
    verify_session_values_fit,
    verify_history_is_a_function,
    verify_history_is_chosen_in_one_way,
    verify_save_is_guarded,
    verify_mixin_agrees_with_inject,
    verify_action_names_are_free,
)
