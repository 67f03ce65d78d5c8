"""The offline provider: its reply fits whatever output schema there is, and shows what it was told."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import ipaddress
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import pytest
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    UUID7,
    Base64Str,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    Json,
    NegativeFloat,
    PositiveInt,
    RootModel,
    SecretStr,
    StringConstraints,
    create_model,
)
from typing_extensions import TypedDict

from agentsession import agent
from agentsession._json_values import compact
from agentsession._options import OWN_PROVIDERS, Client
from agentsession._schema import OutputSchema
from agentsession.provider import PromptMessage, Request, ToolCall
from agentsession.provider.choose import BUILT_IN
from agentsession.provider.echo import Echo, shaped, words_in
from agentsession.testing import dsl_errors
from tests.support.models import chat_model


class Colour(enum.Enum):
    red = "r"
    two = 2


class Leaf(BaseModel):
    name: str
    size: int = 1


class Tree(BaseModel):
    leaf: Leaf
    leaves: list[Leaf]
    by_name: dict[str, Leaf]
    spare: Leaf | None = None


class Chain(BaseModel):
    value: int
    next: Chain | None
    others: list[Chain] = []


class Forest(BaseModel):
    trees: list[Forest]


class Stop(BaseModel):
    """Its recursion ends in another branch than null."""

    next: Stop | int


class Husband(BaseModel):
    wife: Wife | None


class Wife(BaseModel):
    husband: Husband | None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


@dataclass
class Point:
    x: float
    tags: list[str] = field(default_factory=list)


class Row(TypedDict):
    id: int
    note: NotRequired[str]


class Pair(NamedTuple):
    left: int
    right: str


class Renamed(BaseModel):
    company: str = Field(alias="companyName")
    size: int = Field(validation_alias="head_count")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str


class Times(BaseModel):
    date: datetime.date
    moment: datetime.datetime
    time: datetime.time
    length: datetime.timedelta


class Texts(BaseModel):
    url: HttpUrl
    key: uuid.UUID
    newer: UUID7
    coded: Base64Str
    secret: SecretStr
    path: Path
    four: ipaddress.IPv4Address
    six: ipaddress.IPv6Address
    data: bytes
    inner: Json[list[int]]
    plate: str = Field(pattern=r"^[A-Z]{2}-\d+$", examples=["AB-1"])
    code: str = Field("x1", pattern=r"^x\d$")


SHAPES: dict[str, Any] = {
    "bool": bool,
    "int": int,
    "float": float,
    "none": None.__class__,
    "any": Any,
    "list": list[int],
    "bare list": list,
    "bare list of at least": Annotated[list, MinLen(2)],  # type: ignore[type-arg]
    "nested lists": list[list[list[list[list[list[list[list[list[list[int]]]]]]]]]],
    "list of at least": Annotated[list[str], MinLen(3)],
    "empty list": Annotated[list[int], MaxLen(0)],
    "set of at least": Annotated[set[int], MinLen(3)],
    "set of texts": Annotated[set[str], MinLen(2)],
    "set of choices": Annotated[set[Literal["a", "b"]], MinLen(2)],
    "frozenset": frozenset[bool],
    "tuple": tuple[int, str],
    "tuple of any length": tuple[int, ...],
    "empty tuple": tuple[()],
    "sequence": Sequence[Leaf],
    "dict": dict[str, int],
    "dict of at least": Annotated[dict[str, int], MinLen(2)],
    "dict by number": Annotated[dict[int, str], MinLen(2)],
    "dict by choice": Annotated[dict[Literal["a", "b"], int], MinLen(1)],
    "optional": int | None,
    "union": int | str,
    "union of models": Leaf | Cat,
    "tagged union": Annotated[Cat | Dog, Field(discriminator="kind")],
    "enum": Colour,
    "dict by enum": dict[Colour, int],
    "literal": Literal["a", 1, True, None],
    "model": Leaf,
    "nested": Tree,
    "recursive": Chain,
    "recursive list": Forest,
    "recursive union": Stop,
    "recursive pair": Husband,
    "dataclass": Point,
    "typed dict": Row,
    "named tuple": Pair,
    "root model": RootModel[list[Leaf]],
    "aliases": Renamed,
    "no more keys": Closed,
    "times": Times,
    "texts": Texts,
    "decimal": decimal.Decimal,
    "bounded decimal": Annotated[decimal.Decimal, Gt(0), Lt(1)],
    "positive": PositiveInt,
    "negative": NegativeFloat,
    "narrow": Annotated[int, Gt(5), Lt(7)],
    "narrow list": Annotated[list[Annotated[int, Ge(0), Le(1)]], MinLen(5)],
    "multiple": Annotated[int, MultipleOf(7), Gt(3)],
    "multiple within": Annotated[int, MultipleOf(10), Ge(35), Le(45)],
    "multiple below": Annotated[int, MultipleOf(3), Lt(-4)],
    "fraction": Annotated[float, MultipleOf(0.5), Gt(0.6)],
    "open interval": Annotated[float, Gt(0.1), Lt(0.2)],
    "long text": Annotated[str, MinLen(500)],
    "short text": Annotated[str, MaxLen(3)],
    "no text": Annotated[str, MaxLen(0)],
    "lower case": Annotated[str, StringConstraints(to_lower=True, strip_whitespace=True)],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_reply_fits_any_schema(shape: Any) -> None:
    @agent(client="echo:", instruction="You help.", output_schema=shape, output_retries=0)
    class Echo: ...

    result = Echo.call("Hello!")
    assert result.output == OutputSchema(shape).parse(result.text)


def bounded(low: int, room: int) -> Any:
    return Annotated[int, Ge(low), Lt(low + room)]


def between(low: float, room: float) -> Any:
    return Annotated[float, Gt(low), Le(low + room)]


def sized(least: int, room: int) -> Any:
    return Annotated[str, MinLen(least), MaxLen(least + room)]


def multiple(step: int, low: int) -> Any:
    return Annotated[int, MultipleOf(step), Gt(low)]


def literal(choices: list[Any]) -> Any:
    return Literal[tuple(choices)]


def model(fields: dict[str, Any]) -> Any:
    return create_model("Made", **{name: (kind, ...) for name, kind in fields.items()})


PLAIN = [
    int,
    float,
    bool,
    str,
    None,
    datetime.date,
    datetime.datetime,
    uuid.UUID,
    Colour,
    Leaf,
    Chain,
    Forest,
]
numbers = st.integers(-1000, 1000)
leaves = st.one_of(
    st.sampled_from(PLAIN),
    st.builds(bounded, numbers, st.integers(1, 9)),
    st.builds(between, st.floats(-1e6, 1e6), st.floats(0.5, 1e6)),
    st.builds(multiple, st.integers(1, 50), numbers),
    st.builds(sized, st.integers(0, 80), st.integers(0, 9)),
    st.builds(literal, st.lists(st.sampled_from(["a", "b", 1, 2]), min_size=1, unique=True)),
)
types = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(lambda kind: list[kind]),  # type: ignore[valid-type]
        inner.map(lambda kind: kind | None if kind is not None else None),
        inner.map(lambda kind: dict[str, kind]),  # type: ignore[valid-type]
        inner.map(lambda kind: Annotated[list[kind], MinLen(3)]),  # type: ignore[valid-type]
        inner.map(lambda kind: tuple[kind, int]),  # type: ignore[valid-type]
        st.dictionaries(st.sampled_from("abcd"), inner, max_size=3).map(model),
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(types, st.text(st.characters(exclude_categories=["Cs"])))
def test_a_made_up_value_fits_any_combination_of_types(shape: Any, words: str) -> None:
    output = OutputSchema(shape)
    output.parse(compact(shaped(output.json_schema, words)) if not output.is_text else "text")


def test_the_words_are_repeated_with_their_number(database: Any) -> None:
    session = chat_model(database).start_session("Hello!")
    assert session.last_result.text == "You said: Hello! (message 1 of this conversation)"
    session.continue_session("And now?")
    assert session.last_result.text == "You said: And now? (message 2 of this conversation)"


def test_the_words_are_in_the_free_text_of_a_structured_reply() -> None:
    @agent(client="echo:", instruction="You help.", output_schema=Tree)
    class Echo: ...

    output = Echo.call("Hello!").output
    assert "You said: Hello!" in output.leaf.name


def test_an_echo_tells_usage_cost_and_model() -> None:
    @agent(client="echo:parrot", instruction="You help.")
    class Echo: ...

    result = Echo.call("Hello!")
    assert (result.usage.input_tokens, result.usage.output_tokens, result.usage.total_tokens) == (3, 8, 11)
    assert (result.cost, result.model, result.finish_reason) == (0.0, "echo:parrot", "stop")


@pytest.mark.parametrize("output", [None, Leaf])
def test_a_stream_gives_the_reply_word_by_word(output: Any) -> None:
    said = "  Two  spaces,\n\ta tab and\u2003a wide one. "
    request = Request((PromptMessage("user", said),), Client.parse("echo:parrot"), OutputSchema(output))
    whole = Echo().ask(request)
    *deltas, reply = Echo().stream(request)
    assert reply == whole == asyncio.run(Echo().aask(request))
    assert [*deltas, reply] == asyncio.run(gathered(request))
    assert "".join(delta.text for delta in deltas) == whole.text
    assert len(deltas) > 5


async def gathered(request: Request) -> list[Any]:
    return [piece async for piece in Echo().astream(request)]


def test_an_echo_is_deaf_to_calls_and_their_results() -> None:
    call = ToolCall("find", '{"order":3}', "a00000001")
    prompt = (
        PromptMessage("user", "Hello!"),
        PromptMessage("assistant", "", (call,)),
        PromptMessage("tool", "Lost.", call=call.id),
    )
    reply = Echo().ask(Request(prompt, Client.parse("echo:parrot"), OutputSchema(None)))
    assert reply.text == "You said: Hello! (message 1 of this conversation)"
    assert (reply.calls, reply.usage.input_tokens) == ((), 2)


@given(st.text())
def test_the_words_of_a_text_are_the_text(text: str) -> None:
    assert "".join(words_in(text)) == text
    assert all(words_in(text))


def test_a_provider_whose_stream_is_not_a_method_is_refused() -> None:
    with dsl_errors() as problems:

        @agent(client="echo:parrot", instruction="You help.", provider=Wrong())
        class Model: ...

    assert [problem.found for problem in problems] == [
        "provider has an attribute `stream` of the type bool, not a method"
    ]


class Wrong(Echo):
    stream = True  # type: ignore[assignment]


def test_the_options_know_the_prefix_of_each_built_in_provider() -> None:
    assert set(BUILT_IN) == OWN_PROVIDERS
