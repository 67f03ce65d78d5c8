"""The parameters of a tool with types: a model, dataclass or TypedDict, or the signature of a function.

The module is imported when the first such tool is made, because pydantic's JSON schema is slow to import.
"""

from __future__ import annotations

import json
from functools import cached_property
from inspect import Parameter
from types import GenericAlias
from typing import Annotated, Any, NotRequired

from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypedDict

from agentsession._json_values import JsonMap, resolve
from agentsession._safe_errors import MAX_DESCRIPTION
from agentsession._schema import Schema, SchemaMismatch
from agentsession._tools.json_parameters import read_arguments
from agentsession._tools.signature import UNTYPED, Argument, FromSignature, Signature


class TypedParameters:
    """Parameters that are the fields of a model, dataclass or TypedDict.

    `is_whole`: the function gets the value itself as its argument `input`.
    """

    def __init__(self, type_: Any, signature: Signature, *, is_whole: bool = False) -> None:
        self.typed = _Fields(type_)
        self.more = signature.more
        self.hidden = signature.hidden
        self.is_whole = is_whole

    @cached_property
    def schema(self) -> JsonMap:
        root = self.typed.adapter.json_schema(schema_generator=_Untitled)
        shape = {**resolve(root, root)}
        if shape.get("type") != "object":
            raise TypeError(f"{self.typed.name} is not an object with fields")
        shape.pop("title", None)
        shape = {"type": "object", "properties": {}, **shape, "additionalProperties": self._is_open}
        return shape | ({"$defs": root["$defs"]} if "$defs" in root else {})

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset({"input"} if self.is_whole else self.typed.names)

    def accept(self, text: str) -> JsonMap:
        arguments, text = read_arguments(text)
        surplus = {name: value for name, value in arguments.items() if name not in self._known}
        refused = self.hidden & surplus.keys() if self._is_open else surplus.keys()
        problems = [f"{name}: unknown argument" for name in surplus if name in refused]
        if problems:
            text = json.dumps({name: value for name, value in arguments.items() if name not in refused})
        loaded: Any = None
        try:
            loaded = self.typed.load_json(text)
            surplus = self._more(surplus)
        except SchemaMismatch as mismatch:
            problems.append(str(mismatch))
        if problems:
            raise SchemaMismatch("; ".join(problems)[:MAX_DESCRIPTION])
        return {"input": loaded} if self.is_whole else surplus | self._fields(loaded)

    @cached_property
    def _is_open(self) -> bool:
        """Whether arguments without a field are allowed: the function takes them, or the value does."""
        takes = self.typed.takes_more if self.is_whole else self.more is not None
        return takes and not self.typed.forbids_more

    @cached_property
    def _known(self) -> frozenset[str]:
        """Every name and alias of a field."""
        return frozenset({*self.typed.input_names, *self.schema["properties"]})

    def _fields(self, value: Any) -> JsonMap:
        """Return the fields of a typed value, without a conversion."""
        if isinstance(value, dict):
            return value
        found = {name: getattr(value, name) for name in self.typed.names}
        return found | (getattr(value, "model_extra", None) or {})

    def _more(self, surplus: JsonMap) -> JsonMap:
        """Return the arguments for `**kwargs`, validated with its type."""
        if self.more is None or self.more.hint is UNTYPED:
            return surplus
        typed: JsonMap = Schema(GenericAlias(dict, (str, self.more.hint))).load(surplus)
        return typed


class _Fields(Schema):
    """A type with fields."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self._input_shape.get("properties", ()))

    @property
    def forbids_more(self) -> bool:
        return self._input_shape.get("additionalProperties") is False

    @cached_property
    def _input_shape(self) -> JsonMap:
        schema = self.adapter.json_schema(by_alias=False, schema_generator=_Untitled)
        return resolve(schema, schema)


class _Untitled(GenerateJsonSchema):
    """A JSON schema without titles, which cost tokens, and without warnings about defaults."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def type_of(declared: FromSignature) -> Any:
    """Return the parameters of a function as a TypedDict, whose keys may have any name."""
    fields = {each.name: _field(each, declared.described) for each in declared.signature.arguments}
    make: Any = TypedDict
    return make(declared.name, fields)


def _field(argument: Argument, described: dict[str, str]) -> Any:
    """Return the type of a parameter as a field of a TypedDict."""
    hint: Any = Any if argument.hint is UNTYPED else argument.hint
    text = _annotated_text(hint) or described.get(argument.name)
    if isinstance(argument.default, FieldInfo):
        hint = Annotated[hint, argument.default]
    elif argument.default is not Parameter.empty:
        hint = Annotated[hint, Field(default=argument.default)]
    known = FieldInfo.from_annotation(hint)
    if known.description is None and text:
        hint = Annotated[hint, Field(description=text)]
    return hint if known.is_required() else NotRequired[hint]


def _annotated_text(hint: Any) -> str | None:
    """Return the description in `Annotated[str, "The customer's number."]`."""
    return next((each for each in getattr(hint, "__metadata__", ()) if isinstance(each, str)), None)
