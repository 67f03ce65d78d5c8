"""A pydantic schema: validate a value, store it, show it to the model, and read a reply."""

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

from agentsession._json_values import (
    Json,
    JsonMap,
    compact,
    json_candidates,
    ordered,
    resolve,
    unstorable,
    with_portable_numbers,
)
from agentsession._safe_errors import describe_type, describe_validation, error_message

CONTAINERS = (list, dict, set, frozenset, tuple, str)


class SchemaMismatch(ValueError):
    """A value does not fit its schema. The message has the path of each error, never the value."""


class Schema:
    """Any type that pydantic understands: a model, dataclass, TypedDict, union or plain type.

    Every exception of a validator or serializer becomes `SchemaMismatch`. Validation is lax (`"12"` fits an
    `int`), and accepts the name and the alias of a field. Stored values have the names.
    """

    def __init__(self, type_: Any) -> None:
        self.type = type_
        self.adapter: TypeAdapter[Any] = TypeAdapter(type_)

    @property
    def name(self) -> str:
        return str(getattr(self.type, "__name__", None) or self.type)

    def load(self, value: Any) -> Any:
        """Return the typed value; raises `SchemaMismatch`."""
        try:
            return self.adapter.validate_python(value, by_alias=True, by_name=True)
        except Exception as error:
            raise SchemaMismatch(describe_validation(error)) from error

    def load_json(self, text: str) -> Any:
        try:
            return self.adapter.validate_json(text, by_alias=True, by_name=True)
        except Exception as error:
            raise SchemaMismatch(describe_validation(error)) from error

    def dump(self, value: Any, *, by_alias: bool = False) -> Json:
        """Return the value as JSON types, under field names; raises `SchemaMismatch`.

        The Python form is searched for NaN, too, because pydantic's JSON form has null in its place.
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
        """The JSON schema of the stored form."""
        return self.adapter.json_schema(by_alias=False, mode="serialization")

    @cached_property
    def input_names(self) -> dict[str, str]:
        """The names and aliases that an input may use for a field, each with the name of the field."""
        names = {name: name for name in self._input_shape.get("properties", {})}
        for name, field in getattr(self.type, "model_fields", {}).items():
            names |= dict.fromkeys(_aliases(field.alias, field.validation_alias), name)
        return names

    @cached_property
    def takes_more(self) -> bool:
        """Whether the schema allows unknown fields."""
        return bool(self._input_shape.get("additionalProperties"))

    @cached_property
    def _input_shape(self) -> JsonMap:
        """The JSON schema of an input, under field names."""
        schema = self.adapter.json_schema(by_alias=False)
        return resolve(schema, schema)

    @cached_property
    def fields(self) -> JsonMap | None:
        """The JSON schema of each field by name, or None if the value is not an object."""
        found = resolve(self.stored_schema, self.stored_schema).get("properties")
        return found if isinstance(found, dict) else None

    def in_field_order(self, value: Json) -> Json:
        """Return the value with its keys in the order of the schema. Unknown keys follow by name.

        PostgreSQL's `jsonb` reorders keys, and a prompt cache needs the same bytes each time.
        """
        return ordered(value, self.stored_schema, self.stored_schema)


class InputSchema(Schema):
    """The schema of a user's message. `None` is `message: str`, which is stored as plain text."""

    def __init__(self, type_: Any = None) -> None:
        super().__init__(_default_input() if type_ is None else type_)
        self.is_default = type_ is None

    @property
    def name(self) -> str:
        return "`message: str`" if self.is_default else super().name

    @cached_property
    def text_field(self) -> str | None:
        """The name of the field that a plain text fills, or None.

        It is a text field, and the only field or the only one without a default.
        """
        fields, inputs = self.fields or {}, self._input_shape.get("properties", {})
        required = list(fields) if len(fields) == 1 else self._input_shape.get("required", [])
        if len(required) != 1 or (len(fields) > 1 and fields.keys() != inputs.keys()):
            return None
        return str(required[0]) if fields[required[0]].get("type") == "string" else None

    def accept(self, value: Any) -> str | JsonMap:
        """Return the content to store; raises `SchemaMismatch`."""
        if self.is_default and type(value) is str and next(unstorable(value), None) is None:
            return value  # as pydantic would return it
        dumped = self.dump(self._typed(dict(value) if isinstance(value, Mapping) else value))
        if self.is_default and isinstance(dumped, dict):
            return str(dumped["message"])
        if isinstance(dumped, (str, dict)):
            return dumped
        return compact(dumped)

    def show(self, content: str | JsonMap) -> str:
        """Return the text for the model.

        It is the text field if all other fields have their defaults, else compact JSON.
        """
        if isinstance(content, str):
            return content
        text = content.get(self.text_field) if self.text_field else None
        others = (item for item in content.items() if item[0] != self.text_field)
        if isinstance(text, str) and all(self._is_default(*item) for item in others):
            return text
        return compact(self.in_field_order(content))

    def _typed(self, value: Any) -> Any:
        """Return the typed value. The validators of a schema with several fields get a text first."""
        if self.is_default and not isinstance(value, (str, dict, self.type)):
            raise SchemaMismatch(f"expected a text, found {describe_type(value)}")
        if not isinstance(value, str) or self.text_field is None:
            return self.load(value)
        if len(self.fields or {}) > 1:
            with suppress(SchemaMismatch):
                return self.load(value)
        return self.load({self.text_field: value})

    def _is_default(self, name: str, value: Json) -> bool:
        """Return whether a stored value is the default of its field, or an empty container that is one.

        Default factories of the application are not called, so the answer is the same in every process.
        """
        field = (self.fields or {}).get(name, {})
        if "default" in field:
            default = field["default"]
            return type(value) is type(default) and value == default
        return not value and _factory(self.type, name) in CONTAINERS


class OutputSchema(Schema):
    """The schema of a reply. `None` (or `str`) is text."""

    def __init__(self, type_: Any = None) -> None:
        super().__init__(str if type_ is None else type_)
        self.is_text = self.type is str

    @cached_property
    def json_schema(self) -> JsonMap:
        """The JSON schema for the provider: always an object, as providers require."""
        schema = self.adapter.json_schema()
        if not self.is_wrapped:
            return schema
        definitions = schema.pop("$defs", None)
        wrapper: JsonMap = {"type": "object", "properties": {"output": schema}, "required": ["output"]}
        return wrapper | ({"$defs": definitions} if definitions else {})

    @cached_property
    def is_wrapped(self) -> bool:
        """Whether the root is not an object, so that the reply is `{"output": …}`."""
        schema = self.adapter.json_schema()
        return resolve(schema, schema).get("type") != "object"

    @property
    def wire_name(self) -> str:
        return re.sub(r"[^A-Za-z0-9_-]+", "_", self.name).strip("_")[:64] or "output"

    def parse(self, text: str) -> Any:
        """Return the typed value of a reply; raises `SchemaMismatch`."""
        if self.is_text:
            # Providers refuse an empty message in the next turn.
            if not text.strip():
                raise SchemaMismatch("the reply is empty")
            return text
        mismatch = None
        for candidate in json_candidates(text):
            try:
                return self.load_json(self._unwrapped(candidate))
            except SchemaMismatch as error:
                mismatch = mismatch or error
        raise mismatch or SchemaMismatch("the reply has no complete JSON value")

    def encode(self, value: Any) -> str:
        """Return the reply of a model that means this value; raises `SchemaMismatch`."""
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
    """Return the default factory of a field of a pydantic model or a dataclass."""
    fields = getattr(type_, "model_fields", None) or getattr(type_, "__dataclass_fields__", {})
    return getattr(fields.get(name), "default_factory", None)


@cache
def _default_input() -> Any:
    """Return the input model of an agent without an `input_schema`. Made on first use."""
    return create_model("Input", __config__=ConfigDict(extra="forbid"), message=(str, ...))


def unusable(type_: Any, role: type[Schema]) -> str | None:
    """Return why pydantic cannot use this type, or None."""
    try:
        schema = role(type_)
        schema.adapter.json_schema()
        schema.fields  # noqa: B018
    except PydanticUserError as error:
        return str(error).split("\n", 1)[0]
    except Exception as error:
        return f"{type(error).__name__}: {error_message(error)}"
    return None


def _aliases(*aliases: Any) -> Iterator[str]:
    """Yield the keys under which pydantic looks for a field."""
    for alias in aliases:
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
