"""What the decorators have in common: with or without parentheses, and one error for all problems."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from agentsession import info
from agentsession._option_rules import UNSET, suggestion
from agentsession.errors import DslError, Problem

T = TypeVar("T")


def apply(decorate: Callable[[Any], Any], model: Any) -> Any:
    """Decorate the model (`@agent_session`), or return the decorator (`@agent_session(…)`)."""
    return decorate if model is UNSET else decorate(model)


def where(model: Any, decorator: str, option: str) -> str:
    """Return the path of a problem."""
    return f"[{info.qualified_name(model)}] {decorator} -> {option}"


def stands_on(value: Any) -> str:
    """Return what stands below a decorator in place of a class. The value itself may be a secret."""
    return f"it stands on a value of type {type(value).__name__}, not on a class"


def with_defaults(given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of each known option: the given one, or the default."""
    return {name: given.get(name, default) for name, default in known.items()}


def unknown_options(
    model: Any, decorator: str, given: Mapping[str, Any], known: Mapping[str, Any]
) -> Iterator[Problem]:
    """Yield a problem for each option that the decorator does not have."""
    for name in given:
        if name not in known:
            found = f"@{decorator} has no option {name!r}"
            why = "an option without an effect would mislead its reader"
            yield Problem(where(model, decorator, name), found, why, suggestion(name, known))


def problems_of(draft: T, verifiers: Iterable[Callable[[T], Iterator[Problem]]]) -> Iterator[Problem]:
    """Yield the problems that the verifiers find."""
    for verifier in verifiers:
        yield from verifier(draft)


def raise_problems(problems: Iterable[Problem]) -> None:
    """Raise `DslError` with all problems, if there are any."""
    found = tuple(problems)
    if found:
        raise DslError(found)
