"""Can a function be called with so many values?"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Any


def other_parameters(function: Callable[..., Any], count: int) -> str | None:
    """What a function takes that cannot be called with so many values by position: `(first, *, second)`.
    None where it can, or where Python knows no signature."""
    try:
        found = signature(function)
    except (ValueError, TypeError):
        return None
    try:
        found.bind(*[None] * count)
    except TypeError:
        return _shown(found)
    return None


def _shown(found: Signature) -> str:
    """The names alone: a default may be a secret."""
    bare = [
        each.replace(annotation=Parameter.empty, default=Parameter.empty)
        for each in found.parameters.values()
    ]
    return str(Signature(bare))
