"""What a tool has returned, as the text that is stored; and the plain form of what it is given."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence, Set, ValuesView
from itertools import chain
from types import GeneratorType
from typing import Any

import msgspec
import peewee
from pydantic_core import to_jsonable_python

from agentsession.json_values import Json, JsonMap, storable_text

_ROWS = (peewee.SelectBase, peewee.RawQuery, peewee.CursorWrapper)


def rendered(value: Any) -> str:
    """A text as it is, all else as compact JSON; raises `TypeError` that names the type without a JSON form.

    A record is its column values, a query its rows. What pydantic, dataclasses and msgspec can show is shown
    their way.
    """
    if isinstance(value, str):
        return storable_text(value)
    try:
        plain = _plain(value)
    except RecursionError:
        raise TypeError(f"the {type(value).__name__} holds itself, or is nested too deep for JSON") from None
    return storable_text(_dumped(plain))


def plain_values(values: Mapping[str, Any]) -> JsonMap:
    """Each value as plain JSON: the name of its type where it has no JSON form, or where reading it would
    use it up or ask a database."""
    return {storable_text(name): _plain_or_named(value) for name, value in values.items()}


def _plain_or_named(value: Any) -> Json:
    if isinstance(value, (Iterator, *_ROWS)):
        return type(value).__name__
    try:
        return _plain(json.loads(_dumped(_plain(value))))
    except Exception:
        return type(value).__name__


def _dumped(plain: Json) -> str:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Json:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, Mapping):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(_plain, value), key=_dumped)
    if isinstance(value, _ROWS) or _is_a_row_of_values(value):
        return [_plain(item) for item in value]
    if isinstance(value, peewee.Model):
        return _plain(value.__data__)
    return _shown(value)


def _is_a_row_of_values(value: Any) -> bool:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return False
    return isinstance(value, (Sequence, Set, ValuesView, GeneratorType))


def _shown(value: Any) -> Json:
    """A value of a kind of its own: pydantic's, a dataclass, a date …"""
    if hasattr(value, "__pydantic_serializer__") and not isinstance(value, type):
        _refuse_hidden_nan(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    try:
        return _with_finite_numbers(to_jsonable_python(value, fallback=_otherwise))
    except (TypeError, RecursionError):
        raise
    except Exception as error:
        raise _formless(value) from error


def _otherwise(value: Any) -> Json:
    """What pydantic does not know."""
    if isinstance(value, (peewee.Model, Mapping, *_ROWS)) or _is_a_row_of_values(value):
        return _plain(value)
    if isinstance(value, os.PathLike):
        return _plain(os.fspath(value))
    if isinstance(value, msgspec.Struct):
        return _plain(msgspec.to_builtins(value, enc_hook=_plain))
    raise _formless(value)


def _with_finite_numbers(plain: Json) -> Json:
    try:
        _dumped(plain)
    except ValueError:
        raise _not_finite() from None
    return plain


def _refuse_hidden_nan(value: Any) -> None:
    """Pydantic turns NaN into null in silence."""
    if isinstance(value, float):
        _finite(value)
    elif isinstance(value, Mapping):
        for item in chain(value, value.values()):
            _refuse_hidden_nan(item)
    elif isinstance(value, (list, tuple, Set)):
        for item in value:
            _refuse_hidden_nan(item)
    elif hasattr(value, "__pydantic_serializer__") and not isinstance(value, type):
        _refuse_hidden_nan(getattr(value, "__dict__", {}))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise _not_finite()
    return value


def _key(key: Any) -> str:
    if isinstance(key, str):
        return storable_text(key)
    (name,) = to_jsonable_python({key: None}, fallback=_otherwise)
    return str(name)


def _not_finite() -> TypeError:
    return TypeError("a float that is not finite (NaN or infinite) has no JSON form")


def _formless(value: Any) -> TypeError:
    return TypeError(f"a value of the type {type(value).__name__} has no JSON form")
