"""What the verifiers of several decorators share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from inspect import Parameter, Signature, signature
from typing import Any

import peewee

from agentsession._dsl.declare import where
from agentsession._dsl.drafts import Draft
from agentsession._option_rules import violations
from agentsession._store.dialects import DIALECTS
from agentsession._store.identity import overridden
from agentsession.actions.mixins import AgentActions, GivenActions, SessionActions
from agentsession.errors import Problem

_OF_THE_LIBRARY = frozenset((*SessionActions.__mro__, GivenActions, peewee.Model))

CONVERSIONS = ("db_value", "python_value")

DUMPS, LOADS = ("_dumps", "_json_dumps"), ("_loads", "_json_loads")
"""Where Peewee's fields keep their `dumps` and `loads`."""

EXAMPLE = {"text": "é", "list": [1, None, True]}

PAST_THE_FIELD = "the library reads and writes the column in SQL, without its field"


def values_that_break_rules(draft: Draft, options: type) -> Iterator[Problem]:
    """Yield a problem for each option whose value breaks its rule."""
    for option, found, why, fix in violations(options, draft):
        yield Problem(draft.where(option), f"{option} {found}", why, fix)


def second_declaration(model: Any, decorator: str, find: Callable[[Any], object]) -> Iterator[Problem]:
    """Yield a problem if the class itself has the decorator already. A subclass may have it again."""
    declared = find(model)
    if declared is None or any(find(base) is declared for base in model.__mro__[1:]):
        return
    yield Problem(
        where(model, decorator, "class"),
        f"{model.__name__} already has @{decorator}",
        "the options of one would silently replace those of the other",
        f"keep one @{decorator}(…); for other options declare another class",
    )


def names_in_use(model: Any, decorator: str, names: frozenset[str]) -> Iterator[Problem]:
    """Yield a problem for each name of a generated action that the class, or a base of it, already uses."""
    for base in getattr(model, "__mro__", ()):
        if base in _OF_THE_LIBRARY:
            continue
        for name in sorted(names & vars(base).keys()):
            if vars(base)[name] is vars(AgentActions).get(name):
                continue
            yield Problem(
                where(model, decorator, name),
                f"{base.__name__} already has {name!r}",
                "one of it and the generated action of that name would silently replace the other",
                f"rename {base.__name__}.{name}"
                + (", or pass inject=False" if decorator == "agent_session" else ""),
            )


def other_parameters(function: Callable[..., Any], count: int) -> str | None:
    """Return the parameters of a function that cannot be called with `count` positional values.

    None for a function that can, or whose signature Python does not know.
    """
    try:
        found = signature(function)
    except (ValueError, TypeError):
        return None
    try:
        found.bind(*[None] * count)
    except TypeError:
        return _names_only(found)
    return None


def _names_only(found: Signature) -> str:
    """Return a signature without annotations and defaults: a default may be a secret."""
    bare = [
        each.replace(annotation=Parameter.empty, default=Parameter.empty)
        for each in found.parameters.values()
    ]
    return str(Signature(bare))


def json_flaw(field: Any) -> str | None:
    """Return why SQL cannot read and change the values of a JSON field as the library does.

    "" for a JSON field without such a flaw, and None for a field of another type.
    """
    kinds = [(base.__module__, base.__name__) for base in type(field).__mro__]
    flaws = {kind: flaw for dialect in DIALECTS.values() for kind, flaw in dialect.json_fields.items()}
    flaw = next((flaws[kind] for kind in kinds if kind in flaws), None)
    return _conversion_flaw(field) if flaw == "" else flaw


def is_text(field: Any) -> bool:
    """Return whether a field stores text. A JSON field that is built on a text field does not."""
    return isinstance(field, (peewee.CharField, peewee.TextField)) and json_flaw(field) is None


def _conversion_flaw(field: Any) -> str:
    """Return how the field converts JSON in Python, as an encrypting field does.

    "" for a field that stores plain JSON.
    """
    method = overridden(field, *CONVERSIONS)
    if method is not None:
        return f"whose class overrides {method}: {PAST_THE_FIELD}"
    return "" if _is_plain(field) else f"whose dumps or loads are not those of plain JSON: {PAST_THE_FIELD}"


def _is_plain(field: Any) -> bool:
    """Return whether the `dumps` and `loads` of the field are those of JSON."""
    dumps, loads = ([getattr(field, name, None) for name in names] for names in (DUMPS, LOADS))
    try:
        written = [json.loads(function(EXAMPLE)) for function in dumps if function is not None]
        read = [function(json.dumps(EXAMPLE)) for function in loads if function is not None]
    except Exception:
        return False
    return all(value == EXAMPLE for value in (*written, *read))
