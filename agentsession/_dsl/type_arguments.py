"""What `SessionActions[Ask, Answer]` among the bases of a class says about its schemas."""

from __future__ import annotations

from typing import Any, TypeVar, get_args, get_origin

from agentsession.actions.mixins import AgentActions, SessionActions


def type_arguments(model: Any) -> tuple[Any, Any]:
    """Input and output, None where there is none: for `Any`, for an input that is plain text, and for a
    variable that nobody has filled."""
    first, second = _along_bases(model) if isinstance(model, type) else (None, None)
    return (None if first is str else _named(first)), _named(second)


def _along_bases(base: Any) -> tuple[Any, Any]:
    origin, given = get_origin(base) or base, get_args(base)
    if origin in (AgentActions, SessionActions):
        first, second, *_ = (*given, None, None)
        return first, second
    if not isinstance(origin, type):
        return None, None
    filled = list(zip(getattr(origin, "__parameters__", ()), given, strict=False))
    for above in vars(origin).get("__orig_bases__", origin.__bases__):
        found = _along_bases(above)
        if found != (None, None):
            return _filled(found[0], filled), _filled(found[1], filled)
    return None, None


def _filled(argument: Any, filled: list[tuple[Any, Any]]) -> Any:
    return next((given for variable, given in filled if variable is argument), argument)


def _named(argument: Any) -> Any:
    return None if argument is Any or isinstance(argument, TypeVar) else argument
