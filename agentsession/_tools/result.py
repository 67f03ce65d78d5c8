"""The result of a tool as the text that is stored, and its arguments as plain JSON.

The values are counted while they are converted: pydantic would read an iterator to its end in one call.
"""

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
"""Bytes of a result outside a session, which has `max_input_bytes`."""

MOST_VALUES = 1_000_000
"""Values in a result: an endless one of short values would take long to reach the limit in bytes."""


class ResultEnded(Exception):
    """The conversion of a result was ended."""


class ResultTooLarge(ResultEnded):
    """The message says which limit the result exceeds."""


class GivenUp(ResultEnded):
    """No caller waits for the result."""


def rendered(
    value: Any, most_bytes: float = MOST_BYTES, is_given_up: Callable[[], bool] = lambda: False
) -> str:
    """Return a text unchanged, another value as compact JSON.

    A record becomes its column values, a query its rows. Values of pydantic, dataclasses and msgspec have
    their own JSON form. The size that is counted is a lower bound, so that no result within the limit is
    refused.

    Raises:
        TypeError: A value has no JSON form. The message names its type.
        ResultTooLarge: The value exceeds a limit. It is not read any further.
        GivenUp: `is_given_up` returned true.
    """
    if isinstance(value, str):
        return storable_text(value)
    try:
        return storable_text(_dumped(_Conversion(most_bytes, is_given_up).plain(value)))
    except RecursionError:
        raise TypeError(f"the {type(value).__name__} holds itself, or is nested too deep for JSON") from None


def cut(text: str, limit: int) -> str:
    """Return the text if it has at most `limit` bytes, else its beginning and a line on the cut."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    kept = encoded[:limit].decode(errors="ignore")
    return f"{kept}\n… (cut: {len(kept.encode()):,} of {len(encoded):,} bytes)"


def without_iterators(
    value: Any, most_bytes: float = MOST_BYTES, is_given_up: Callable[[], bool] = lambda: False
) -> Any:
    """Return the value with a list in place of each iterator in its dicts and lists.

    It has the limits of `rendered`, and raises the same errors.
    """
    return _Conversion(most_bytes, is_given_up).listed(value)


def plain_values(values: Mapping[str, Any]) -> JsonMap:
    """Return each value as plain JSON, or as the name of its type.

    The name stands for a value without a JSON form, and for an iterator or a query, which is not read.
    """
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
    """Converts one value to plain JSON, and counts its values and a lower bound of its characters."""

    def __init__(self, most_bytes: float, is_given_up: Callable[[], bool] = lambda: False) -> None:
        self.most_bytes, self.is_given_up = most_bytes, is_given_up
        self.size = self.values = 0

    def count(self, size: int) -> None:
        """Count one value, whose text has at least `size` characters; raises `ResultEnded` beyond a limit."""
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
        return self._by_type(value)

    def listed(self, value: Any) -> Any:
        self.count(1)
        if isinstance(value, Iterator):
            return [self.listed(item) for item in value]
        if type(value) in (list, tuple):
            return type(value)(map(self.listed, value))
        if type(value) is dict:
            return {key: self.listed(item) for key, item in value.items()}
        return value

    def _by_type(self, value: Any) -> Json:
        """Return the JSON form of another type: of pydantic, a dataclass, a date …"""
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
        """Return the JSON form of a type that pydantic does not know."""
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
        """Raise `TypeError` for a value inside one of pydantic that pydantic would convert itself.

        Pydantic converts NaN to null, and reads an iterator to its end.
        """
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
    """Return the number of characters of its text."""
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
