"""What a tool accepts, how it is called, and what is stored and shown of its result."""

from __future__ import annotations

import contextlib
import datetime
import enum
import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NotRequired
from uuid import UUID

import msgspec
import peewee as pw
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from typing_extensions import TypedDict

from agentsession import Halt, Tokens, Tool, ToolContext
from agentsession._schema import SchemaMismatch
from agentsession._tools.signature import WholeValue

CONTEXT = ToolContext(call="t:0:0", turn="t")
ORDERS = {
    "properties": {
        "customer": {"type": "string", "pattern": "^C-"},
        "limit": {"type": "integer", "maximum": 9},
        "kind": {"enum": ["open", "paid"]},
    },
    "required": ["customer"],
}


CHARACTERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    SCALARS | CHARACTERS, lambda parts: st.lists(parts) | st.dictionaries(CHARACTERS, parts), max_leaves=9
)
UNPARSED = "x: Input should be a valid integer, unable to parse string as an integer"


class Place(BaseModel):
    city: str
    zip_code: int = Field(default=0, alias="zip")


class Wanted(BaseModel):
    """What is wanted."""

    day: datetime.date
    place: Place | None = None


class Node(BaseModel):
    children: list[Node] = []


@dataclass
class Point:
    x: int
    y: Decimal = Decimal(1)


class Trip(TypedDict):
    start: str
    stops: NotRequired[list[int]]


def given_back(**arguments: Any) -> dict[str, Any]:
    return arguments


def takes(*names: str) -> Any:
    """A function with exactly these parameters, which gives them back."""
    parameters = ", ".join(f"{name}=None" for name in names)
    return eval(f"lambda {parameters}: dict({', '.join(f'{name}={name}' for name in names)})")


def tool_with(parameters: Any, function: Any, **options: Any) -> Tool:
    return Tool(name="it", description="It.", parameters=parameters, function=function, **options)


def mismatch(tool: Tool, arguments: str) -> str:
    with pytest.raises(SchemaMismatch) as raised:
        tool.accept(arguments)
    return str(raised.value)


@pytest.mark.parametrize(
    ("parameters", "text", "wanted"),
    [
        (Wanted, '{"day":"2024-02-03"}', {"day": datetime.date(2024, 2, 3), "place": None}),
        (Place, '{"city":"Rome","zip":"7"}', {"city": "Rome", "zip_code": 7}),
        (Place, '{"city":"Rome","zip_code":7}', {"city": "Rome", "zip_code": 7}),
        (Point, '{"x":"12","y":"1.5"}', {"x": 12, "y": Decimal("1.5")}),
        (Trip, '{"start":"Rome"}', {"start": "Rome"}),
        (Trip, '{"start":"Rome","stops":["1"]}', {"start": "Rome", "stops": [1]}),
        (ORDERS, '{"customer":"C-1","limit":3}', {"customer": "C-1", "limit": 3}),
        ({}, "", {}),
        ({}, " \n", {}),
        (Node, "{}", {"children": []}),
    ],
)
def test_arguments_become_typed_values_by_parameter(parameters: Any, text: str, wanted: Any) -> None:
    tool = tool_with(parameters, takes(*wanted))
    accepted = tool.accept(text)
    assert accepted == wanted
    assert tool.call(accepted, CONTEXT) == wanted


@pytest.mark.parametrize(
    ("parameters", "text", "found"),
    [
        (Point, '{"x":"s3cret"}', UNPARSED),
        (Point, "{}", "x: Field required"),
        (Point, '{"x":1,"z":2}', "z: unknown argument"),
        (Point, '{"z":2}', "z: unknown argument; x: Field required"),
        (Wanted, '{"day":"2024-02-03","place":{"city":[]}}', "place.city: Input should be a valid string"),
        (Point, "[1]", "value: Input should be an object"),
        (Point, "nonsense", "value: Invalid JSON: expected ident at line 1 column 2"),
        (Point, '{"x":NaN}', "value: Invalid JSON: expected value at line 1 column 6"),
        (ORDERS, "{}", "value: 'customer' is a required property"),
        (ORDERS, '{"customer":"s3cret"}', 'customer: does not fit pattern: "^C-"'),
        (
            ORDERS,
            '{"customer":"C-1","limit":"s3cret","kind":"s3cret"}',
            'kind: does not fit enum: ["open", "paid"]; limit: does not fit type: "integer"',
        ),
        (
            ORDERS,
            '{"customer":"C-1","other":"s3cret"}',
            "value: Additional properties are not allowed ('other' was unexpected)",
        ),
        ({"$ref": "#"}, "{}", "it could not be validated (RecursionError)"),
        (ORDERS, '{"customer":"C-1","limit":1e400}', "limit: Input should be a finite number"),
        (ORDERS, '{"other":{"deep":[1,-1e999]}}', "other.deep.1: Input should be a finite number"),
        (Point, '{"x":1e400}', "x: Input should be a finite number"),
    ],
)
def test_what_does_not_fit_is_told_by_its_place_and_never_by_its_value(
    parameters: Any, text: str, found: str
) -> None:
    assert mismatch(tool_with(parameters, takes()), text) == found


def test_many_mistakes_are_cut_short() -> None:
    many = {"properties": {f"p{number}": {"type": "string"} for number in range(99)}}
    text = "{" + ",".join(f'"p{number}":1' for number in range(99)) + "}"
    found = mismatch(tool_with(many, given_back), text)
    assert found.endswith("and 89 more")
    assert len(mismatch(tool_with(Point, takes("x", "y")), "{" + f'"{"z" * 9_000}":1' + "}")) <= 2_000


def test_the_schema_is_an_object_with_its_definitions() -> None:
    assert tool_with({}, takes()).schema == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }
    schema = tool_with(Wanted, takes("day", "place")).schema
    assert list(schema)[:2] == ["type", "properties"]
    assert schema["properties"]["day"] == {"format": "date", "type": "string"}
    assert schema["$defs"]["Place"]["properties"].keys() == {"city", "zip"}
    nested = tool_with(Node, takes("children")).schema
    assert nested["type"] == "object"
    assert nested["$defs"]["Node"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}
    assert "children" in nested["properties"]


def test_a_json_schema_is_taken_as_it_is_and_closed() -> None:
    tool = tool_with(ORDERS, takes("customer", "limit", "kind"))
    assert tool.schema == {"type": "object", **ORDERS, "additionalProperties": False}
    assert "type" not in ORDERS
    assert tool.schema["properties"] is not ORDERS["properties"]
    opened = {**ORDERS, "additionalProperties": {"type": "integer"}}
    assert tool_with(opened, given_back).schema == {"type": "object", **opened}
    assert tool_with(opened, given_back).accept('{"customer":"C-1","a":1}') == {"customer": "C-1", "a": 1}
    assert "additionalProperties" not in tool_with(ORDERS, given_back).schema
    joined = {"allOf": [ORDERS]}
    assert "additionalProperties" not in tool_with(joined, takes("customer")).schema


def test_a_function_with_keywords_takes_what_no_field_names() -> None:
    tool = tool_with(Point, given_back)
    assert tool.schema["additionalProperties"] is True
    assert tool.accept('{"x":1,"other":"2"}') == {"x": 1, "y": Decimal(1), "other": "2"}


def test_a_model_that_allows_more_gives_it_on() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        x: int

    assert tool_with(Open, given_back).accept('{"x":1,"z":2}') == {"x": 1, "z": 2}
    assert mismatch(tool_with(Open, takes("x")), '{"x":1,"z":2}') == "z: unknown argument"


def test_the_context_is_given_to_the_parameter_of_its_type() -> None:
    def keyed(customer: str, where: ToolContext | None = None) -> Any:
        return customer, where

    tool = tool_with({"properties": {"customer": {}}}, keyed)
    assert tool.call(tool.accept('{"customer":"C-1"}'), CONTEXT) == ("C-1", CONTEXT)
    assert mismatch(tool, '{"customer":"C-1","where":1}').startswith("value: Additional properties")


def test_a_context_reports_to_who_listens() -> None:
    heard: list[Any] = []
    assert CONTEXT.report({"done": 1}) is None  # type: ignore[func-returns-value]
    ToolContext(call="t:0:0", _report=heard.append).report({"done": 1})
    assert heard == [{"done": 1}]
    assert (CONTEXT.session_id, CONTEXT.actor, CONTEXT.call, CONTEXT.turn) == (None, None, "t:0:0", "t")
    assert "report" not in repr(CONTEXT)
    assert Halt("done") == Halt(value="done")


class Service:
    async def look(self) -> None: ...
    def see(self) -> None: ...
    async def __call__(self) -> None: ...
    @classmethod
    async def of(cls) -> None: ...


async def awaited() -> None: ...


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (awaited, True),
        (partial(partial(awaited)), True),
        (Service(), True),
        (partial(Service()), True),
        (Service().look, True),
        (Service.of, True),
        (Service().see, False),
        (given_back, False),
        (Service, False),
        (partial(given_back, a=1), False),
        (lambda: awaited(), False),
        (print, False),
    ],
)
def test_a_tool_knows_whether_it_has_to_be_awaited(function: Any, wanted: bool) -> None:
    assert tool_with({}, function).is_async is wanted


database = pw.SqliteDatabase(":memory:")


class Order(pw.Model):
    number = pw.IntegerField(primary_key=True)
    ordered = pw.DateField()
    before = pw.ForeignKeyField("self", null=True)

    class Meta:
        database = database


ORDER = Order(number=1, ordered=datetime.date(2024, 2, 3), before=7)
ORDER_TEXT = '{"number":1,"ordered":"2024-02-03","before":7}'


class Color(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


class Odd(enum.Enum):
    NAN = float("nan")


class Struct(msgspec.Struct):
    at: datetime.datetime
    order: Any = None


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    order: Any


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is\n", "as it is\n"),
        ("a\0b\ud800c", "a\ufffdb\ufffdc"),
        (None, "null"),
        (True, "true"),
        (0.5, "0.5"),
        (10**30, "1" + "0" * 30),
        ({"ä": [1, "é"], 2: ()}, '{"ä":[1,"é"],"2":[]}'),
        ({"a": "\ud800"}, '{"a":"\ufffd"}'),
        ({"b", "a", "c"}, '["a","b","c"]'),
        (deque([1]), "[1]"),
        (range(2), "[0,1]"),
        (MappingProxyType({"a": 1}), '{"a":1}'),
        ({"a": 1}.keys(), '["a"]'),
        ({"a": 1}.values(), "[1]"),
        ((number for number in (1, 2)), "[1,2]"),
        (datetime.datetime(2024, 2, 3, 4, tzinfo=datetime.UTC), '"2024-02-03T04:00:00Z"'),
        (datetime.timedelta(minutes=1), '"PT1M"'),
        (Decimal("1.50"), '"1.50"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (PurePosixPath("/a"), '"/a"'),
        (b"text", '"text"'),
        ([Color.RED, Size.BIG], '["red",3]'),
        (Point(1), '{"x":1,"y":"1"}'),
        ({"place": Place(city="Rome", zip=1)}, '{"place":{"city":"Rome","zip":1}}'),
        (SecretStr("s3cret"), '"**********"'),
        (
            Struct(datetime.datetime(2024, 2, 3, tzinfo=datetime.UTC)),
            '{"at":"2024-02-03T00:00:00Z","order":null}',
        ),
        (
            Struct(datetime.datetime(2024, 2, 3, tzinfo=datetime.UTC), [ORDER]),
            f'{{"at":"2024-02-03T00:00:00Z","order":[{ORDER_TEXT}]}}',
        ),
        (ORDER, ORDER_TEXT),
        ([ORDER], f"[{ORDER_TEXT}]"),
        ({"order": Point(ORDER)}, f'{{"order":{{"x":{ORDER_TEXT},"y":"1"}}}}'),  # type: ignore[arg-type]
        (Holder(order=ORDER), f'{{"order":{ORDER_TEXT}}}'),
        (Holder(order=range(2)), '{"order":[0,1]}'),
    ],
    ids=lambda each: each if isinstance(each, str) and each.isascii() else "",
)
def test_a_result_is_text_or_compact_json(value: Any, text: str) -> None:
    assert tool_with({}, takes()).rendered(value) == text


def test_a_query_is_its_rows() -> None:
    with database.bind_ctx([Order]), database.connection_context():
        database.create_tables([Order])
        Order.insert(number=1, ordered=datetime.date(2024, 2, 3), before=7).execute()
        queries = [Order.select(), Order.select().dicts(), Order.raw("select * from 'order'")]
        for query in [*queries[:2], Order.select().execute()]:
            assert tool_with({}, takes()).rendered(query) == f"[{ORDER_TEXT}]"
        assert tool_with({}, takes()).rendered(Order.select(Order.number).tuples()) == "[[1]]"
        with pytest.raises(TypeError, match="a value of the type ModelDelete has no JSON form"):
            tool_with({}, takes()).rendered(Order.delete())
        assert Order.select().count() == 1


class Ratio(BaseModel):
    value: float


class Ratios(BaseModel):
    values: list[dict[str, Ratio]]


def cycle() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


NOT_FINITE = r"a float that is not finite \(NaN or infinite\) has no JSON form"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (object(), "a value of the type object has no JSON form"),
        ({"a": [object()]}, "a value of the type object has no JSON form"),
        (Point(object()), "a value of the type object has no JSON form"),  # type: ignore[arg-type]
        (b"\xff", "a value of the type bytes has no JSON form"),
        (Order, "a value of the type ModelBase has no JSON form"),
        (ValueError("s3cret"), "a value of the type ValueError has no JSON form"),
        (cycle(), "the list holds itself, or is nested too deep for JSON"),
        (float("nan"), NOT_FINITE),
        ([float("inf")], NOT_FINITE),
        (Point(float("nan")), NOT_FINITE),  # type: ignore[arg-type]
        (Ratio(value=float("nan")), NOT_FINITE),
        (Odd.NAN, NOT_FINITE),
        (Holder(order=Struct(ORDER, float("nan"))), NOT_FINITE),  # type: ignore[arg-type]
        (Ratios(values=[{"a": Ratio(value=float("-inf"))}]), NOT_FINITE),
    ],
)
def test_what_has_no_json_form_is_refused_by_its_type(value: Any, found: str) -> None:
    with pytest.raises(TypeError, match=f"^{found}$"):
        tool_with({}, takes()).rendered(value)


def test_a_coroutine_that_nobody_awaited_is_refused() -> None:
    forgotten = awaited()
    with pytest.raises(TypeError, match="a value of the type coroutine has no JSON form"):
        tool_with({}, takes()).rendered(forgotten)
    forgotten.close()


def test_what_was_accepted_has_a_plain_form_with_its_defaults() -> None:
    tool = tool_with(Wanted, takes("day", "place"))
    plain = {"day": "2024-02-03", "place": {"city": "Rome", "zip": 7}}
    assert tool.plain(tool.accept('{"day":"2024-02-03","place":{"city":"Rome","zip":"7"}}')) == plain
    accepted = tool.accept(json.dumps(plain))
    assert tool.accept(json.dumps(tool.plain(accepted))) == accepted
    assert tool_with(Point, takes()).plain(Point(x=1).__dict__) == {"x": 1, "y": "1"}
    whole = tool_with(WholeValue(Wanted), takes("input"))
    accepted = whole.accept('{"day":"2024-02-03"}')
    assert whole.plain(accepted) == {"day": "2024-02-03", "place": None}
    assert isinstance(accepted["input"], Wanted)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("a\0b\ud800c", "a\ufffdb\ufffdc"),
        ([Color.RED, Size.BIG, {1: ()}], ["red", 3, {"1": []}]),
        (Place(city="a\0b"), {"city": "a\ufffdb", "zip": 0}),
        (float("nan"), "float"),
        ([object()], "list"),
        (print, "builtin_function_or_method"),
        (SecretStr("s3cret"), "**********"),
    ],
)
def test_an_argument_without_a_plain_form_is_the_name_of_its_type(value: Any, plain: Any) -> None:
    assert tool_with({}, given_back).plain({"a": 1, "value": value}) == {"a": 1, "value": plain}


def test_the_plain_form_uses_nothing_up() -> None:
    class Lazy(BaseModel):
        numbers: Iterable[int]

    tool = tool_with(Lazy, takes("numbers"))
    accepted = tool.accept('{"numbers":["1",2]}')
    assert tool.plain(accepted) == {"numbers": "ValidatorIterator"}
    assert tool.plain({"a": Order.select(), "b": cycle()}) == {"a": "ModelSelect", "b": "list"}
    assert list(accepted["numbers"]) == [1, 2]


def test_tools_with_equal_options_are_two() -> None:
    one, other = tool_with({}, takes()), tool_with({}, takes())
    assert one != other
    assert len({one, other}) == 2


@pytest.mark.parametrize(
    ("limit", "text", "shown"),
    [
        (None, "x" * 9, "x" * 9),
        (9, "x" * 9, "x" * 9),
        (3, "xxxx", "xxx\n… (cut: 3 of 4 bytes)"),
        (3, "ääää", "ä\n… (cut: 2 of 8 bytes)"),
        (Tokens(1), "xxxxx", "xxxx\n… (cut: 4 of 5 bytes)"),
        (8_000, "x" * 123_456, "x" * 8_000 + "\n… (cut: 8,000 of 123,456 bytes)"),
    ],
)
def test_the_model_is_shown_as_much_as_the_limit_lets_through(limit: Any, text: str, shown: str) -> None:
    assert tool_with({}, takes(), result_limit=limit).limited(text, text) == shown


def test_a_function_makes_of_the_value_what_the_model_sees() -> None:
    tool = tool_with({}, takes(), result_limit=lambda rows: {"rows": len(rows)})
    assert tool.limited([1, 2], "[1,2]") == '{"rows":2}'


@given(value=JSON)
def test_any_json_is_rendered_as_itself(value: Any) -> None:
    text = tool_with({}, takes()).rendered(value)
    assert (text if isinstance(value, str) else json.loads(text)) == value


@given(
    text=st.one_of(st.text(), JSON.map(json.dumps)), parameters=st.sampled_from([Wanted, Point, Trip, ORDERS])
)
def test_any_text_is_accepted_or_a_mismatch(text: str, parameters: Any) -> None:
    with contextlib.suppress(SchemaMismatch):
        assert isinstance(tool_with(parameters, takes()).accept(text), dict)


@given(text=st.text(), limit=st.integers(1, 40))
def test_a_limit_holds_for_any_text(text: str, limit: int) -> None:
    shown = tool_with({}, takes(), result_limit=limit).limited(text, text)
    if len(text.encode()) <= limit:
        assert shown == text
        return
    kept, _, note = shown.rpartition("\n")
    assert note.startswith("… (cut: ")
    assert text.startswith(kept)
    assert limit - 4 < len(kept.encode()) <= limit
