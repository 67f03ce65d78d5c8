"""The schemas of a class from its bases: `SessionActions[Ask, Answer]`."""

from __future__ import annotations

from typing import Any, TypeVar, get_args, get_origin

from agentsession.actions.mixins import AgentActions, SessionActions


def type_arguments(model: Any) -> tuple[Any, Any]:
    """Return the input and the output type of the mixin.

    None stands for a missing argument, `Any`, a type variable without a value, and an input of the type
    `str`.
    """
    first, second = _along_bases(model) if isinstance(model, type) else (None, None)
    return (None if first is str else _known(first)), _known(second)


def _along_bases(base: Any) -> tuple[Any, Any]:
    origin, arguments = get_origin(base) or base, get_args(base)
    if origin in (AgentActions, SessionActions):
        first, second, *_ = (*arguments, None, None)
        return first, second
    if not isinstance(origin, type):
        return None, None
    values = list(zip(getattr(origin, "__parameters__", ()), arguments, strict=False))
    for above in vars(origin).get("__orig_bases__", origin.__bases__):
        found = _along_bases(above)
        if found != (None, None):
            return _substituted(found[0], values), _substituted(found[1], values)
    return None, None


def _substituted(argument: Any, values: list[tuple[Any, Any]]) -> Any:
    return next((value for variable, value in values if variable is argument), argument)


def _known(argument: Any) -> Any:
    return None if argument is Any or isinstance(argument, TypeVar) else argument
