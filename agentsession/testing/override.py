"""A context variable with another value for one block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def override(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Set a context variable for the block."""
    token = variable.set(value)
    try:
        yield
    finally:
        with suppress(ValueError):  # another task set it, and has ended
            variable.reset(token)
