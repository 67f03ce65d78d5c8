"""What both decorators share: with or without parentheses, unknown options, one error for all problems."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from agentsession import info
from agentsession.errors import DslError, Problem

T = TypeVar("T")

UNSET: Any = object()


def apply(decorate: Callable[[Any], Any], model: Any) -> Any:
    """Decorate now (`@agent_session`), or give the decorator back (`@agent_session(…)`)."""
    return decorate if model is UNSET else decorate(model)


def where(model: Any, decorator: str, option: str) -> str:
    """The path of a problem."""
    return f"[{info.place(model)}] {decorator} -> {option}"


def stands_on(value: Any) -> str:
    """What was found where a class should be; the value itself may be a secret."""
    return f"it stands on a value of type {type(value).__name__}, not on a class"


def problems_of(draft: T, verifiers: Iterable[Callable[[T], Iterator[Problem]]]) -> Iterator[Problem]:
    """What the verifiers find, all of it."""
    for verifier in verifiers:
        yield from verifier(draft)


def raise_problems(problems: Iterable[Problem]) -> None:
    found = tuple(problems)
    if found:
        raise DslError(found)


def refuse_second(model: Any, decorator: str, find: Callable[[Any], object]) -> Iterator[Problem]:
    """Is the decorator on the class itself already? Options that a base has may be declared anew."""
    declared = find(model)
    if declared is None or any(find(base) is declared for base in model.__mro__[1:]):
        return
    yield Problem(
        where(model, decorator, "class"),
        f"{model.__name__} already has @{decorator}",
        "the options of one would replace those of the other in silence",
        f"keep one @{decorator}(…); for other options declare another class",
    )


def refuse_unknown(
    model: Any, decorator: str, unknown: Mapping[str, Any], known: Mapping[str, Any]
) -> Iterator[Problem]:
    for name in unknown:
        near = get_close_matches(name, known, 1)
        found = f"@{decorator} has no option {name!r}"
        fix = f"did you mean {near[0]}=…?" if near else f"use one of: {', '.join(known) or 'none'}"
        yield Problem(where(model, decorator, name), found, "an option without effect would mislead", fix)
