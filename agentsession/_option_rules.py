"""The table of a decorator's options: the keywords, and the rule for the value of each.

An option stands in two places. The first overload of the decorator has its name, type and default: an editor
shows that signature. A field of the class of verified options has its rule, as `Annotated` metadata.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from inspect import Parameter, signature
from typing import Any, NamedTuple, get_overloads, get_type_hints

UNSET: Any = object()
"""The value of a required option that is missing."""


@dataclass(frozen=True)
class Rule:
    """What the value of an option must be, the reason, and a value that fits."""

    fits: Callable[[Any], bool]
    wanted: str
    why: str
    example: str
    convert: Callable[[Any], Any] = lambda value: value


class Violation(NamedTuple):
    """An option whose value breaks its rule."""

    option: str
    found: str
    why: str
    fix: str


@cache
def keywords_of(decorator: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the default of each keyword of a decorator, `UNSET` for a required one.

    The implementation takes `**options`; the first overload is the one that names them.
    """
    parameters = signature(get_overloads(decorator)[0]).parameters.values()
    return {each.name: UNSET if each.default is Parameter.empty else each.default for each in parameters}


@cache
def rules_of(options: type) -> Mapping[str, Rule]:
    """Return the rules of a class of options, by the names of its fields."""
    hints = get_type_hints(options, include_extras=True)
    found = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: rule for name, extras in found.items() for rule in extras if isinstance(rule, Rule)}


def violations(options: type, values: object) -> Iterator[Violation]:
    """Yield each option whose value, an attribute of `values`, breaks its rule."""
    for name, rule in rules_of(options).items():
        value = getattr(values, name)
        if not rule.fits(value):
            found = f"is {value!r}, not {rule.wanted}"
            yield Violation(name, found, rule.why, f"{name}={rule.example}")


def converted(options: type, values: object) -> dict[str, Any]:
    """Return the value of each option that has a rule, in the type that is stored."""
    return {name: rule.convert(getattr(values, name)) for name, rule in rules_of(options).items()}


def suggestion(name: str, known: Mapping[str, Any]) -> str:
    """Return what to write in place of an unknown option."""
    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]}=…?" if near else f"use one of: {', '.join(known) or 'none'}"


def duration(why: str, example: str = "30.0", *, optional: bool = False) -> Rule:
    """Return the rule of a duration, which is stored as a float."""
    return _maybe(Rule(is_positive, "a positive number of seconds", why, example, float), optional)


def count(why: str, example: str, *, optional: bool = False) -> Rule:
    """Return the rule of a whole number from 1."""
    return _maybe(Rule(is_count, "a whole number from 1", why, example), optional)


def count_from_0(why: str, example: str) -> Rule:
    """Return the rule of a whole number from 0."""
    return Rule(is_count_from_0, "a whole number from 0", why, example)


def size(why: str, example: str) -> Rule:
    """Return the rule of a whole number of bytes."""
    return Rule(is_count, "a whole number of bytes", why, example)


def choice(values: tuple[str, ...], why: str) -> Rule:
    """Return the rule of a text that is one of a few; the first is the example."""
    *others, last = map(repr, values)
    return Rule(lambda value: value in values, f"{', '.join(others)} or {last}", why, repr(values[0]))


def switch(why: str, example: str) -> Rule:
    """Return the rule of `True` or `False`."""
    return Rule(lambda value: isinstance(value, bool), "True or False", why, example)


def is_positive(value: Any) -> bool:
    """Return whether a value is a number above 0 that fits a float."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 < value <= sys.float_info.max


def is_count_from_0(value: Any) -> bool:
    """Return whether a value is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_count(value: Any) -> bool:
    """Return whether a value is a whole number from 1."""
    return is_count_from_0(value) and value > 0


def _maybe(rule: Rule, optional: bool) -> Rule:
    """Return the rule, or one that None fits, too."""
    if not optional:
        return rule
    return Rule(
        lambda value: value is None or rule.fits(value),
        rule.wanted,
        rule.why,
        rule.example,
        lambda value: None if value is None else rule.convert(value),
    )
