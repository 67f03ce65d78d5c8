"""Checks of a model that are possible only after other modules are imported.

A later module can add a backref with the name of an action, or a subclass that changes a managed field.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import peewee

from agentsession import _registry, info
from agentsession._options import ROWS, SESSION_NAMES, SessionOptions
from agentsession._store.declared import Declared
from agentsession.errors import DslError, Problem

GUARD = frozenset({"save"})

_intact: WeakKeyDictionary[type, tuple[Any, ...]] = WeakKeyDictionary()
"""The fingerprint of each model in which nothing was wrong."""

PUT_BY_PEEWEE = (peewee.BackrefAccessor, peewee.FieldAccessor, peewee.ObjectIdAccessor)


def refuse_altered(declared: Declared) -> None:
    """Raise `DslError` if the model was altered after its declaration.

    Peewee replaces an action by the backref of another model, or by a field of a subclass; a subclass
    replaces a managed field; or no model of the messages was declared.
    """
    model, options = declared.model, declared.options
    fingerprint = _fingerprint(declared)
    if _intact.get(model) == fingerprint:
        return
    names = SESSION_NAMES | GUARD if options.inject else GUARD
    problems = (
        *_covered(model, names),
        *_replaced_fields(model, options),
        *_without_messages(declared),
    )
    if problems:
        raise DslError(problems)
    _intact[model] = fingerprint


def _fingerprint(declared: Declared) -> tuple[Any, ...]:
    """Return a value that differs after any such alteration, and holds no reference to the model."""
    model = declared.model
    kept = (model.save, *map(model._meta.fields.get, declared.options.attributes))
    return (declared.message_model is None, *map(len, map(vars, model.__mro__)), *map(id, kept))


def _covered(model: type[Any], names: frozenset[str]) -> Iterator[Problem]:
    for base in model.__mro__:
        for name in sorted(names & vars(base).keys()):
            found = vars(base)[name]
            if isinstance(found, PUT_BY_PEEWEE):
                free = "" if name in GUARD else f", or declare {model.__name__} with inject=False"
                yield Problem(
                    where=f"[{info.qualified_name(model)}] {name}",
                    found=_origin(base, name, found),
                    why="Peewee put it over the generated action of that name",
                    fix=f"give it another name{free}",
                )


def _origin(base: type[Any], name: str, found: Any) -> str:
    if isinstance(found, peewee.BackrefAccessor):
        return f"{found.field.model.__name__}.{found.field.name} has the backref {name!r}"
    if isinstance(found, peewee.ManyToManyFieldAccessor):
        return f"a ManyToManyField between it and {found.field.rel_model.__name__} is called {name!r}"
    return f"{base.__name__} has a field {name!r}"


def _replaced_fields(model: Any, options: SessionOptions) -> Iterator[Problem]:
    """Yield a problem for each managed field that a subclass does not just specialise."""
    declared = next(base for base in reversed(model.__mro__) if _registry.session_of(base) is options)
    for name in options.attributes:
        field, original = model._meta.fields.get(name), declared._meta.fields[name]
        if not isinstance(field, type(original)) or (original.unique and not field.unique):
            was = f"{name!r} is a {_described(original)} of {declared.__name__}"
            now = "no field" if field is None else f"a {_described(field)}"
            yield Problem(
                where=f"[{info.qualified_name(model)}] {name}",
                found=f"{was}, and {now} of {model.__name__}",
                why=f"{model.__name__} has the options of {declared.__name__}, which store the session in it",
                fix=f"leave {name!r} as it is, or decorate {model.__name__} with options of its own",
            )


def _without_messages(declared: Declared) -> Iterator[Problem]:
    model = declared.model
    if declared.options.messages == ROWS and declared.message_model is None:
        yield Problem(
            where=f"[{info.qualified_name(model)}] agent_session -> messages",
            found='messages="rows", and no model with @agent_message refers to it',
            why="its messages have no table",
            fix=f"@agent_message above class {model.__name__}Message(MessageFields): "
            f'session = peewee.ForeignKeyField({model.__name__}, backref="messages", …), '
            "in a module that is imported before the first action",
        )


def _described(field: Any) -> str:
    return ("unique " if field.unique else "") + type(field).__name__
