"""The strict form of a schema: what providers accept, and nothing that the type would refuse."""

from __future__ import annotations

import decimal
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter

from agentsession._json_values import compact
from agentsession._schema import OutputSchema
from agentsession.provider.echo import shaped
from agentsession.provider.strict_schema import rooted, strict
from tests.unit.test_echo import Chain, Forest, Husband, types


class Address(BaseModel):
    street: str


class Person(BaseModel):
    name: str = Field("Ann", examples=["Ann"])
    home: Address = Field(description="Where they live")
    work: Address


class Friend(BaseModel):
    friends: list[Annotated[Friend, Field(description="A friend")]]


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Pet(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Words(BaseModel):
    """Fields with the names of keywords."""

    default: str
    oneOf: int
    items: list[str] = []
    required: bool


def strict_form(shape: Any, *, inline: bool = False) -> Any:
    return strict(OutputSchema(shape).json_schema, inline=inline)


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema and each part of it."""
    yield schema
    named = {**schema.get("properties", {}), **schema.get("$defs", {})}
    items = [schema["items"]] if "items" in schema else []
    for part in [*named.values(), *schema.get("anyOf", ()), *items]:
        yield from nodes(part)


def test_each_property_is_required_and_no_other_allowed() -> None:
    schema = strict_form(Person)
    assert schema["required"] == ["name", "home", "work"]
    assert all(
        node["additionalProperties"] is False for node in nodes(schema) if node.get("type") == "object"
    )


def test_defaults_and_examples_go() -> None:
    assert strict_form(Person)["properties"]["name"] == {"title": "Name", "type": "string"}


def test_a_reference_with_a_description_becomes_what_it_refers_to() -> None:
    fields = strict_form(Person)["properties"]
    assert fields["work"] == {"$ref": "#/$defs/Address"}
    assert fields["home"]["description"] == "Where they live"
    assert fields["home"]["required"] == ["street"]


def test_a_recursive_reference_with_a_description_is_followed_once() -> None:
    assert compact(strict_form(Friend)).count("A friend") == 1


def test_a_tagged_union_becomes_any_of() -> None:
    pet = strict_form(Pet)["properties"]["pet"]
    assert pet == {"title": "Pet", "anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}


def test_fields_with_the_names_of_keywords_stay() -> None:
    assert list(strict_form(Words)["properties"]) == ["default", "oneOf", "items", "required"]


@pytest.mark.parametrize("shape", [Chain, Forest, Husband])
def test_a_recursive_model_has_its_object_at_the_root(shape: Any) -> None:
    schema = strict_form(shape)
    assert schema["type"] == "object"
    assert shape.__name__ in schema["$defs"]
    assert rooted(OutputSchema(shape).json_schema)["type"] == "object"


@pytest.mark.parametrize(
    "shape", [dict[str, int], Open, list[Any], list[dict[str, str]], tuple[int, str], Literal["a", 1]]
)
def test_what_providers_cannot_enforce_has_no_strict_form(shape: Any) -> None:
    assert strict_form(shape) is None


def test_inlined_no_reference_is_left() -> None:
    assert "$" not in compact(strict_form(Person, inline=True))


@pytest.mark.parametrize("shape", [Chain, Forest, Husband])
def test_a_recursive_model_cannot_be_inlined(shape: Any) -> None:
    assert strict_form(shape, inline=True) is None


def test_constraints_that_no_provider_takes_are_left_out() -> None:
    assert strict_form(HttpUrl)["properties"]["output"]["type"] == "string"
    assert "format" not in strict_form(HttpUrl)["properties"]["output"]
    assert "uniqueItems" not in compact(strict_form(set[int]))
    assert "(?" not in compact(strict_form(decimal.Decimal))


def test_the_given_schema_is_not_written_to() -> None:
    schema = TypeAdapter(Person).json_schema()
    before = compact(schema)
    strict(schema)
    strict(schema, inline=True)
    assert compact(schema) == before


@settings(deadline=None)
@given(types)
def test_what_fits_the_strict_form_fits_the_type(shape: Any) -> None:
    output = OutputSchema(shape)
    for schema in (strict(output.json_schema), strict(output.json_schema, inline=True)):
        if schema is not None and not output.is_text:
            output.parse(compact(shaped(schema, "words")))


@settings(deadline=None)
@given(types)
def test_every_part_of_a_strict_form_is_of_a_known_kind(shape: Any) -> None:
    schema = strict_form(shape) or {"type": "null"}
    for node in nodes(schema):
        assert node.keys() == {"$ref"} or "type" in node or "anyOf" in node
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/$defs/") in schema["$defs"]
