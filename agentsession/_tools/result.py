"""What a tool has returned, as the text that is stored; and the plain form of what it is given."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set, ValuesView
from itertools import chain
from typing import Any

import msgspec
import peewee
from pydantic_core import to_jsonable_python

from agentsession._json_values import Json, JsonMap, storable_text

_ROWS = (peewee.SelectBase, peewee.RawQuery, peewee.CursorWrapper)

MOST_BYTES = 16 * 1024 * 1024
"""Bytes that a result may take where no session says otherwise."""

MOST_VALUES = 1_000_000
"""Values that a result may hold: an endless one of short values would take long to fill the bytes."""


class ResultEnded(Exception):
    """The result is not turned to JSON any further."""


class ResultTooLarge(ResultEnded):
    """The message says which limit the result exceeds."""


class GivenUp(ResultEnded):
    """Nobody waits for the result any more."""


def rendered(
    value: Any, most_bytes: float = MOST_BYTES, is_given_up: Callable[[], bool] = lambda: False
) -> str:
    """A text as it is, all else as compact JSON. Raises `TypeError` that names the type without a JSON form,
    `ResultTooLarge` as soon as the value exceeds a limit, and `GivenUp` as soon as that is so.

    A record is its column values, a query its rows. What pydantic, dataclasses and msgspec can show is shown
    their way.
    """
    if isinstance(value, str):
        return storable_text(value)
    try:
        return storable_text(_dumped(_Conversion(most_bytes, is_given_up).plain(value)))
    except RecursionError:
        raise TypeError(f"the {type(value).__name__} holds itself, or is nested too deep for JSON") from None


def without_iterators(
    value: Any, most_bytes: float = MOST_BYTES, is_given_up: Callable[[], bool] = lambda: False
) -> Any:
    """The same value, with a list for each iterator in its dicts and lists. Raises as `rendered` does for an
    iterator that does not end."""
    return _Conversion(most_bytes, is_given_up).listed(value)


def plain_values(values: Mapping[str, Any]) -> JsonMap:
    """Each value as plain JSON: the name of its type where it has no JSON form, or where reading it would
    use it up or ask a database."""
    return {storable_text(name): _plain_or_named(value) for name, value in values.items()}


def _plain_or_named(value: Any) -> Json:
    if isinstance(value, (Iterator, *_ROWS)):
        return type(value).__name__
    try:
        plain = _Conversion(math.inf).plain
        return plain(json.loads(_dumped(plain(value))))
    except Exception:
        return type(value).__name__


def _dumped(plain: Json) -> str:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class _Conversion:
    """Turns one value to plain JSON. It counts the values, and the characters that the text takes at least:
    no value is read beyond the limits."""

    def __init__(self, most_bytes: float, is_given_up: Callable[[], bool] = lambda: False) -> None:
        self.most_bytes, self.is_given_up = most_bytes, is_given_up
        self.size = self.values = 0

    def count(self, size: int) -> None:
        """Count one value, whose text has at least `size` characters; raises `ResultEnded`."""
        self.size += size
        self.values += 1
        if self.size > self.most_bytes:
            raise ResultTooLarge(
                f"its result takes more than {self.most_bytes:,} bytes, the limit (max_input_bytes)"
            )
        if self.values > MOST_VALUES:
            raise ResultTooLarge(f"its result holds more than {MOST_VALUES:,} values, the limit")
        if self.is_given_up():
            raise GivenUp

    def plain(self, value: Any) -> Json:
        self.count(len(value) if isinstance(value, str) else 1)
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, str):
            return storable_text(value)
        if isinstance(value, float):
            return _finite(value)
        if isinstance(value, (list, tuple)):
            return [self.plain(item) for item in value]
        if isinstance(value, Mapping):
            return {self._key(key): self.plain(item) for key, item in value.items()}
        if isinstance(value, (set, frozenset)):
            return sorted(map(self.plain, value), key=_dumped)
        if isinstance(value, _ROWS) or _is_a_row_of_values(value):
            return [self.plain(item) for item in value]
        if isinstance(value, peewee.Model):
            return self.plain(value.__data__)
        return self._shown(value)

    def listed(self, value: Any) -> Any:
        self.count(1)
        if isinstance(value, Iterator):
            return [self.listed(item) for item in value]
        if type(value) in (list, tuple):
            return type(value)(map(self.listed, value))
        if type(value) is dict:
            return {key: self.listed(item) for key, item in value.items()}
        return value

    def _shown(self, value: Any) -> Json:
        """A value of a kind of its own: pydantic's, a dataclass, a date …"""
        if hasattr(value, "__pydantic_serializer__") and not isinstance(value, type):
            self._refuse_hidden(value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: self.plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        try:
            plain: Json = to_jsonable_python(value, fallback=self._otherwise)
        except (TypeError, RecursionError, ResultEnded):
            raise
        except Exception as error:
            raise _formless(value) from error
        self.size += _finite_size(plain)
        return plain

    def _otherwise(self, value: Any) -> Json:
        """What pydantic does not know."""
        if isinstance(value, (peewee.Model, Mapping, *_ROWS)) or _is_a_row_of_values(value):
            return self.plain(value)
        if isinstance(value, os.PathLike):
            return self.plain(os.fspath(value))
        if isinstance(value, msgspec.Struct):
            return self.plain(msgspec.to_builtins(value, enc_hook=self.plain))
        raise _formless(value)

    def _key(self, key: Any) -> str:
        if isinstance(key, str):
            self.size += len(key)
            return storable_text(key)
        (name,) = to_jsonable_python({key: None}, fallback=self._otherwise)
        return str(name)

    def _refuse_hidden(self, value: Any) -> None:
        """Refuse what pydantic would turn to JSON by itself, inside a value of its own: it makes null of NaN,
        and reads an iterator to its end."""
        self.count(0)
        if isinstance(value, float):
            _finite(value)
        elif isinstance(value, Iterator):
            raise TypeError(
                f"a {type(value).__name__} inside a pydantic value might not end, and has no JSON form: "
                "make a list of it"
            )
        elif isinstance(value, Mapping):
            for item in chain(value, value.values()):
                self._refuse_hidden(item)
        elif isinstance(value, (list, tuple, Set)):
            for item in value:
                self._refuse_hidden(item)
        elif hasattr(value, "__pydantic_serializer__") and not isinstance(value, type):
            self._refuse_hidden(getattr(value, "__dict__", {}))
            self._refuse_hidden(getattr(value, "__pydantic_extra__", None))


def _is_a_row_of_values(value: Any) -> bool:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return False
    return isinstance(value, (Sequence, Set, ValuesView, Iterator))


def _finite_size(plain: Json) -> int:
    """The characters of its text."""
    try:
        return len(_dumped(plain))
    except ValueError:
        raise _not_finite() from None


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise _not_finite()
    return value


def _not_finite() -> TypeError:
    return TypeError("a float that is not finite (NaN or infinite) has no JSON form")


def _formless(value: Any) -> TypeError:
    return TypeError(f"a value of the type {type(value).__name__} has no JSON form")
