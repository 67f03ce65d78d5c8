"""A pydantic schema and what a conversation needs of it: validate, store, show and read again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache, cached_property
from typing import Any

from pydantic import (
    AliasChoices,
    AliasPath,
    ConfigDict,
    PydanticUserError,
    TypeAdapter,
    create_model,
)

from agentsession._json_schema import ordered, resolve
from agentsession._json_values import (
    Json,
    JsonMap,
    compact,
    json_candidates,
    unstorable,
    with_portable_numbers,
)
from agentsession._validation import describe, kind_of
from agentsession.errors import words

CONTAINERS = (list, dict, set, frozenset, tuple, str)


class SchemaMismatch(ValueError):
    """A value does not fit its schema; the message names each place, never the value."""


class Schema:
    """Any type that pydantic understands: a model, dataclass, TypedDict, union or plain type.

    Whatever a validator or serializer raises, a bug in it included, is a `SchemaMismatch`.
    Validation is lax (`"12"` fits an `int`), and a field may be given by its name or its alias.
    Stored values use field names.
    """

    def __init__(self, type_: Any) -> None:
        self.type = type_
        self.adapter: TypeAdapter[Any] = TypeAdapter(type_)

    @property
    def name(self) -> str:
        return str(getattr(self.type, "__name__", None) or self.type)

    def load(self, value: Any) -> Any:
        """The typed value; raises `SchemaMismatch`."""
        try:
            return self.adapter.validate_python(value, by_alias=True, by_name=True)
        except Exception as error:
            raise SchemaMismatch(describe(error)) from error

    def load_json(self, text: str) -> Any:
        try:
            return self.adapter.validate_json(text, by_alias=True, by_name=True)
        except Exception as error:
            raise SchemaMismatch(describe(error)) from error

    def dump(self, value: Any, *, by_alias: bool = False) -> Json:
        """The value as JSON types, under field names; raises `SchemaMismatch`.

        Both forms are searched for what JSON cannot carry: pydantic's turns NaN into null in silence.
        """
        try:
            _refuse_unstorable(self.adapter.dump_python(value, by_alias=by_alias))
            dumped: Json = self.adapter.dump_python(value, mode="json", by_alias=by_alias)
            _refuse_unstorable(dumped)
            dumped = with_portable_numbers(dumped)
        except SchemaMismatch:
            raise
        except Exception as error:
            raise SchemaMismatch(f"it has no JSON form ({type(error).__name__})") from error
        return dumped

    @cached_property
    def stored_schema(self) -> JsonMap:
        """JSON schema of the stored form."""
        return self.adapter.json_schema(by_alias=False, mode="serialization")

    @cached_property
    def given_names(self) -> dict[str, str]:
        """What a field may be given as (its name or an alias) → its name; without computed fields."""
        names = {name: name for name in self._given.get("properties", {})}
        for name, field in getattr(self.type, "model_fields", {}).items():
            names |= dict.fromkeys(_aliases(field.alias, field.validation_alias), name)
        return names

    @cached_property
    def takes_more(self) -> bool:
        """May there be fields that the schema does not name?"""
        return bool(self._given.get("additionalProperties"))

    @cached_property
    def _given(self) -> JsonMap:
        """JSON schema of what may be given, under field names."""
        schema = self.adapter.json_schema(by_alias=False)
        return resolve(schema, schema)

    @property
    def fields(self) -> JsonMap | None:
        """Name → JSON schema of each field, or None where the value is no single object."""
        found = resolve(self.stored_schema, self.stored_schema).get("properties")
        return found if isinstance(found, dict) else None

    def in_field_order(self, value: Json) -> Json:
        """The value with its keys in the order of the schema, others after them by name.

        Databases reorder keys (PostgreSQL's jsonb does); a prompt cache wants the same bytes each time.
        """
        return ordered(value, self.stored_schema, self.stored_schema)


class InputSchema(Schema):
    """What a user's message looks like. `None` stands for `message: str`, stored as a plain string."""

    def __init__(self, type_: Any = None) -> None:
        super().__init__(_default_input() if type_ is None else type_)
        self.is_default = type_ is None

    @property
    def name(self) -> str:
        return "`message: str`" if self.is_default else super().name

    @cached_property
    def text_field(self) -> str | None:
        """The name of the field that a bare text fills: the only field, or the only one without a default, if
        it holds text."""
        fields, given = self.fields or {}, self._given.get("properties", {})
        needed = list(fields) if len(fields) == 1 else self._given.get("required", [])
        if len(needed) != 1 or (len(fields) > 1 and fields.keys() != given.keys()):
            return None
        return str(needed[0]) if fields[needed[0]].get("type") == "string" else None

    def accept(self, value: Any) -> str | JsonMap:
        """The content to store; raises `SchemaMismatch`."""
        dumped = self.dump(self._typed(dict(value) if isinstance(value, Mapping) else value))
        if self.is_default and isinstance(dumped, dict):
            return str(dumped["message"])
        if isinstance(dumped, (str, dict)):
            return dumped
        return compact(dumped)

    def show(self, content: str | JsonMap) -> str:
        """The text that the model is shown: the text field as it is, where all other fields are at their
        defaults; else compact JSON."""
        if isinstance(content, str):
            return content
        text = content.get(self.text_field) if self.text_field else None
        others = (item for item in content.items() if item[0] != self.text_field)
        if isinstance(text, str) and all(self._is_default(*item) for item in others):
            return text
        return compact(self.in_field_order(content))

    def _typed(self, value: Any) -> Any:
        """The typed value. A schema with several fields may read a text in its own way."""
        if self.is_default and not isinstance(value, (str, dict, self.type)):
            raise SchemaMismatch(f"expected a text, found {kind_of(value)}")
        if not isinstance(value, str) or self.text_field is None:
            return self.load(value)
        if len(self.fields or {}) > 1:
            with suppress(SchemaMismatch):
                return self.load(value)
        return self.load({self.text_field: value})

    def _is_default(self, name: str, value: Json) -> bool:
        """Return whether a stored value is the default of its field, or an empty container that is.

        Default factories of the application are not called, so the answer is the same in every process.
        """
        field = (self.fields or {}).get(name, {})
        if "default" in field:
            default = field["default"]
            return type(value) is type(default) and value == default
        return not value and _factory(self.type, name) in CONTAINERS


class OutputSchema(Schema):
    """What a reply must look like. `None` (or `str`) stands for text."""

    def __init__(self, type_: Any = None) -> None:
        super().__init__(str if type_ is None else type_)
        self.is_text = self.type is str

    @cached_property
    def json_schema(self) -> JsonMap:
        """What the model is asked for: always an object, as providers demand."""
        schema = self.adapter.json_schema()
        if not self.is_wrapped:
            return schema
        definitions = schema.pop("$defs", None)
        wrapper: JsonMap = {"type": "object", "properties": {"output": schema}, "required": ["output"]}
        return wrapper | ({"$defs": definitions} if definitions else {})

    @cached_property
    def is_wrapped(self) -> bool:
        """Is the root no object, so that it travels as `{"output": …}`?"""
        schema = self.adapter.json_schema()
        return resolve(schema, schema).get("type") != "object"

    @property
    def wire_name(self) -> str:
        return re.sub(r"[^A-Za-z0-9_-]+", "_", self.name).strip("_")[:64] or "output"

    def parse(self, text: str) -> Any:
        """The typed value of a reply; raises `SchemaMismatch`."""
        if self.is_text:
            if not text.strip():
                raise SchemaMismatch("the reply is empty")
            return text
        mismatch = None
        for candidate in json_candidates(text):
            try:
                return self.load_json(self._unwrapped(candidate))
            except SchemaMismatch as error:
                mismatch = mismatch or error
        raise mismatch or SchemaMismatch("the reply holds no whole JSON value")

    def encode(self, value: Any) -> str:
        """The text with which a model would say this value; raises `SchemaMismatch`."""
        dumped = self.dump(self.load(value), by_alias=True)
        if self.is_text:
            return str(dumped)
        return compact({"output": dumped} if self.is_wrapped else dumped)

    def _unwrapped(self, text: str) -> str:
        if not self.is_wrapped:
            return text
        value = json.loads(text)
        if isinstance(value, dict) and list(value) == ["output"]:
            return json.dumps(value["output"])
        return text


def _factory(type_: Any, name: str) -> Any:
    """The default factory of a field of a pydantic model or a dataclass."""
    fields = getattr(type_, "model_fields", None) or getattr(type_, "__dataclass_fields__", {})
    return getattr(fields.get(name), "default_factory", None)


@cache
def _default_input() -> Any:
    """The input of an agent that declares no `input_schema`. Pydantic takes its time to make a model."""
    return create_model("Input", __config__=ConfigDict(extra="forbid"), message=(str, ...))


def unusable(type_: Any, role: type[Schema]) -> str | None:
    """Why pydantic cannot work with this type, or None."""
    try:
        schema = role(type_)
        schema.adapter.json_schema()
        schema.fields  # noqa: B018
    except PydanticUserError as error:
        return str(error).split("\n", 1)[0]
    except Exception as error:
        return f"{type(error).__name__}: {words(error)}"
    return None


def _aliases(*given: Any) -> Iterator[str]:
    """The keys under which pydantic looks for a field."""
    for alias in given:
        if isinstance(alias, str):
            yield alias
        elif isinstance(alias, AliasChoices):
            yield from _aliases(*alias.choices)
        elif isinstance(alias, AliasPath):
            yield str(alias.path[0])


def _refuse_unstorable(value: Any) -> None:
    unfit = next(unstorable(value), None)
    if unfit is not None:
        raise SchemaMismatch(unfit)
