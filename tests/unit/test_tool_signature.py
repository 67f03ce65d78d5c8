"""What a tool takes from a function: its name, its docstring, its parameters, and its mark."""

from __future__ import annotations

import asyncio
import datetime
import functools
import gc
import inspect
import subprocess
import sys
import weakref
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional

import docstring_parser
import pytest
from pydantic import BaseModel, Field

from agentsession import AgentActions, Tokens, Tool, ToolContext, agent, info, tool
from agentsession._option_rules import keywords_of
from agentsession._schema import SchemaMismatch
from agentsession._tools.definition import snake_case, tool_of
from agentsession._tools.tool_options import Mark, mark_of
from tests.support.models import Answer, Ask

CONTEXT = ToolContext(call="t:0:0")
ECHO: Any = {"client": "echo:", "instruction": "You help."}


def tools_of(*tools: Any, model: type | None = None, **options: Any) -> dict[str, Tool]:
    declared = agent(**ECHO, tools=list(tools), **options)(model or type("Support", (AgentActions,), {}))
    return {each.name: each for each in info.agent_options(declared).tools}


def run(made: Tool, arguments: str = "{}") -> Any:
    return made.call(made.accept(arguments), CONTEXT)


class Address(BaseModel):
    """Where it goes."""

    city: str
    zip_code: str | None = None


def google(customer: str, limit: int = 5) -> list[str]:
    """Find the orders of a customer.

    Only those that are open.

    Args:
        customer: The number
            of the customer.
        limit (int, optional): How many at most.

    Returns:
        The orders' numbers.
    """
    return [customer] * limit


def numpy(customer: str, limit: int = 5) -> list[str]:
    """Find the orders of a customer.

    Only those that are open.

    Parameters
    ----------
    customer : str
        The number
        of the customer.
    limit : int, optional
        How many at most.

    Returns
    -------
    list of str
        The orders' numbers.
    """
    return [customer] * limit


def sphinx(customer: str, limit: int = 5) -> list[str]:
    """Find the orders of a customer.

    Only those that are open.

    :param customer: The number
        of the customer.
    :param int limit: How many at most.
    :returns: The orders' numbers.
    """
    return [customer] * limit


@pytest.mark.parametrize("function", [google, numpy, sphinx])
def test_a_docstring_describes_the_tool_and_its_parameters(function: Any) -> None:
    made = tool_of(function)
    assert made.name == function.__name__
    assert made.description == (
        "Find the orders of a customer.\n\nOnly those that are open.\n\nReturns: The orders' numbers."
    )
    assert made.schema == {
        "type": "object",
        "properties": {
            "customer": {"type": "string", "description": "The number of the customer."},
            "limit": {"type": "integer", "default": 5, "description": "How many at most."},
        },
        "required": ["customer"],
        "additionalProperties": False,
    }
    assert run(made, '{"customer":"C","limit":"2"}') == ["C", "C"]


def plain(text: str) -> str:
    """Note: this is no section of parameters.

    key: value
    """
    return text


def test_a_docstring_without_sections_is_the_description() -> None:
    assert tool_of(plain).description == "Note: this is no section of parameters.\n\nkey: value"


def test_a_docstring_that_cannot_be_parsed_is_the_description(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(text: str) -> None:
        raise docstring_parser.ParseError

    monkeypatch.setattr(docstring_parser, "parse", refuse)
    assert tool_of(plain).description == inspect.getdoc(plain)


def typed(
    day: datetime.date,
    kind: Literal["open", "paid"],
    price: Annotated[Decimal, Field(gt=0, description="In euros.")],
    note: Annotated[str, "Whatever you like."],
    address: Address,
    size: int = Field(default=3, le=9),
    tags: list[str] = [],  # noqa: B006
    json: int | None = None,
    _copy: bool = False,
    from_: Annotated[str, Field(alias="from")] = "here",
    sentinel: Any = print,
) -> Any:
    """Take many types.

    Args:
        price: Not shown.
        address: To where.
        from_: From where.
    """
    tags.append("seen")
    return day, kind, price, note, address, size, tags, json, _copy, from_, sentinel


TYPED = '{"day":"2024-02-03","kind":"paid","price":"1.5","note":"x","address":{"city":"Rome"}}'


def test_values_come_typed_and_defaults_stay_what_they_are() -> None:
    made = tool_of(typed)
    day = datetime.date(2024, 2, 3)
    rome = Address(city="Rome")
    for _ in range(2):
        assert run(made, TYPED) == (
            *(day, "paid", Decimal("1.5"), "x", rome),
            *(3, ["seen"], None, False, "here", print),
        )
    assert run(made, TYPED[:-1] + ',"from":"there","json":"4","_copy":true}')[-4:-1] == (4, True, "there")


def test_the_schema_says_what_the_hints_say() -> None:
    schema = tool_of(typed).schema
    shown = schema["properties"]
    assert schema["required"] == ["day", "kind", "price", "note", "address"]
    assert shown["kind"] == {"enum": ["open", "paid"], "type": "string"}
    assert shown["price"]["description"] == "In euros."
    assert shown["note"] == {"description": "Whatever you like.", "type": "string"}
    assert shown["address"] == {"$ref": "#/$defs/Address", "description": "To where."}
    assert schema["$defs"]["Address"]["properties"]["city"] == {"type": "string"}
    assert shown["size"] == {"default": 3, "maximum": 9, "type": "integer"}
    assert shown["tags"]["default"] == []
    assert shown["from"]["description"] == "From where."
    assert shown["sentinel"] == {}
    assert list(shown)[-5:] == ["tags", "json", "_copy", "from", "sentinel"]


def test_a_wrong_argument_is_named_and_not_shown() -> None:
    with pytest.raises(SchemaMismatch) as raised:
        tool_of(typed).accept(TYPED.replace("Rome", "s3cret").replace('"city"', '"town"'))
    assert str(raised.value) == "address.city: Field required"


def asks(where: ToolContext, text: str) -> Any:
    """Ask."""
    return where, text


def maybe(text: str, *, where: ToolContext | None = None) -> Any:
    """Ask."""
    return where, text


def optional(text: str, where: Optional[Annotated[ToolContext, "it"]] = None) -> Any:  # noqa: UP045
    """Ask."""
    return where, text


def annotated(where: Annotated[ToolContext, "it"], /, text: str, **more: Any) -> Any:
    """Ask."""
    return where, text


@pytest.mark.parametrize("function", [asks, maybe, optional, annotated])
def test_the_context_is_given_and_hidden(function: Any) -> None:
    made = tool_of(function)
    assert made.schema["properties"] == {"text": {"type": "string"}}
    assert run(made, '{"text":"x"}') == (CONTEXT, "x")
    with pytest.raises(SchemaMismatch, match=r"^where: unknown argument$"):
        made.accept('{"text":"x","where":{"call":"other"}}')


def positional(first: int, second: int = 2, /, third: int = 3, *, fourth: int = 4, **more: int) -> Any:
    """Count."""
    return first, second, third, fourth, more


def test_every_kind_of_parameter_is_given() -> None:
    made = tool_of(positional)
    assert run(made, '{"first":1}') == (1, 2, 3, 4, {})
    assert run(made, '{"fourth":0,"second":"0","first":1,"fifth":"5"}') == (1, 0, 3, 0, {"fifth": 5})
    with pytest.raises(SchemaMismatch, match=r"^fifth: Input should be a valid integer"):
        made.accept('{"first":1,"fifth":"s3cret"}')


def keyed(text: str, key: str, **more: Any) -> str:
    """Find."""
    return text + key


def test_what_a_partial_has_bound_is_hidden_from_the_model() -> None:
    made = tool_of(functools.partial(keyed, key="s3cret"))
    assert made.name == "keyed"
    assert made.description == "Find."
    assert "s3cret" not in str(made.schema)
    assert run(made, '{"text":"a"}') == "as3cret"
    with pytest.raises(SchemaMismatch, match=r"^key: unknown argument$"):
        made.accept('{"text":"a","key":"mine"}')


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def around(*args: Any, **keywords: Any) -> Any:
        return "logged", function(*args, **keywords)

    return around


class WebSearch:
    """Search the web."""

    async def __call__(self, query: str) -> str:
        return query


class Shop:
    @tool(name="look_up", timeout=3, idempotent=True, result_limit=Tokens(9))
    def lookup(self, number: int) -> tuple[Shop, int]:
        """Look it up."""
        return self, number

    @tool
    @classmethod
    def above(cls, number: int) -> tuple[type, int]:
        """Above."""
        return cls, number

    @classmethod
    @tool(sequential=True)
    def below(cls, number: int) -> tuple[type, int]:
        """Below."""
        return cls, number

    @tool
    @staticmethod
    def still(number: int) -> int:
        """Still."""
        return number

    @staticmethod
    @tool
    async def quick(number: int, where: ToolContext) -> tuple[int, str]:
        """Quick."""
        return number, where.call

    @classmethod
    def unmarked(cls) -> None:
        """Not for the model."""


def test_methods_wrappers_and_objects_are_tools() -> None:
    shop = Shop()
    made = tools_of(shop.lookup, Shop.above, Shop.unmarked, logged(google), WebSearch())
    assert list(made) == ["look_up", "above", "unmarked", "google", "web_search"]
    assert run(made["look_up"], '{"number":1}') == (shop, 1)
    assert run(made["above"], '{"number":1}') == (Shop, 1)
    assert run(made["google"], '{"customer":"C","limit":1}') == ("logged", ["C"])
    assert made["web_search"].is_async
    assert made["web_search"].description == "Search the web."
    assert asyncio.run(run(made["web_search"], '{"query":"x"}')) == "x"


def test_a_wrapper_of_a_bound_method_has_its_object() -> None:
    shop = Shop()
    assert run(tools_of(logged(shop.lookup))["look_up"], '{"number":1}') == ("logged", (shop, 1))


def test_a_written_tool_without_its_first_argument_fails_as_python_says() -> None:
    made = Tool(name="it", description="It.", parameters={"properties": {"second": {}}}, function=positional)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        made.call({"second": 1}, CONTEXT)


def test_a_mark_says_what_the_function_does_not() -> None:
    async def approved(arguments: dict[str, Any]) -> bool:
        return True

    @tool(description="It finds.", needs_approval=approved, sequential=True)
    def find(text: str) -> str:
        """Not shown.

        Args:
            text: What to find.
        """
        return text

    assert find("a") == "a"
    assert mark_of(find) == Mark(description="It finds.", needs_approval=approved, sequential=True)
    made = tool_of(find)
    assert (made.name, made.description, made.needs_approval) == ("find", "It finds.", approved)
    assert (made.timeout, made.idempotent, made.sequential, made.result_limit) == (None, False, True, None)
    assert made.schema["properties"]["text"]["description"] == "What to find."
    marked = tool_of(Shop().lookup)
    assert (marked.timeout, marked.idempotent, marked.result_limit) == (3, True, Tokens(9))
    assert mark_of(functools.partial(find, text="b")) == mark_of(find)
    assert mark_of(google) is None
    assert keywords_of(tool) == {name: field.default for name, field in Mark.__dataclass_fields__.items()}


def test_what_cannot_hold_a_mark_is_refused() -> None:
    with pytest.raises(
        TypeError, match="of the type method cannot be marked: put @tool on the function where"
    ):
        tool(Shop().lookup)
    with pytest.raises(TypeError, match="@tool stands on a value of the type str, which cannot be called"):
        tool("name")
    with pytest.raises(TypeError, match="timeouts"):
        tool(timeouts=3)  # type: ignore[call-overload]


def test_marked_methods_of_an_agent_are_its_tools() -> None:
    class Support(AgentActions):
        @tool
        @classmethod
        def above(cls, number: int) -> tuple[type, int]:
            """Above."""
            return cls, number

        @classmethod
        @tool
        async def below(cls, where: ToolContext) -> tuple[type, str]:
            """Below."""
            return cls, where.call

        @staticmethod
        @tool
        def still(number: int) -> int:
            """Still."""
            return number

        def other(self) -> None: ...

    class Nearer(Support):
        above: Any = None

        @tool
        @staticmethod
        def still() -> int:  # type: ignore[override]
            """Nearer."""
            return 2

    made = tools_of(google, model=Support)
    assert list(made) == ["google", "above", "below", "still"]
    assert run(made["above"], '{"number":1}') == (Support, 1)
    assert made["below"].is_async
    assert asyncio.run(run(made["below"])) == (Support, "t:0:0")
    nearer = tools_of(Support.below, model=Nearer)
    assert list(nearer) == ["below", "still"]
    assert run(nearer["still"]) == 2


def test_a_tool_is_there_once() -> None:
    shop, written = Shop(), Tool(name="x", description="X.", parameters={}, function=print)
    made = tools_of(google, google, shop.lookup, shop.lookup, written, written, Shop.above, Shop.above)
    assert list(made) == ["google", "look_up", "x", "above"]
    assert made["x"] is written

    again = tools_of(Shop.above, Shop.below, Shop.still, model=AsTools)
    assert list(again) == ["above", "below", "still", "quick"]


class AsTools(Shop, AgentActions):
    lookup = None  # type: ignore[assignment]


def test_options_do_not_keep_their_class() -> None:
    class Gone(AgentActions):
        @tool
        @classmethod
        def name(cls) -> str:
            """Name."""
            return __class__.__name__  # type: ignore[name-defined,no-any-return]

    made = tools_of(model=Gone)["name"]
    assert run(made) == "Gone"
    weak = weakref.ref(Gone)
    del Gone
    gc.collect()
    assert weak() is None


@agent(**ECHO)
class Researcher:
    """Find out things."""


@agent(**ECHO, input_schema=Ask, output_schema=Answer)
class HTTPReader(AgentActions): ...


@agent(**ECHO, input_schema=list[int])
class Adder(AgentActions): ...


def test_another_agent_is_a_tool() -> None:
    made = tools_of(Researcher.call, HTTPReader.acall, Adder.call)  # type: ignore[attr-defined]
    assert list(made) == ["researcher", "http_reader", "adder"]
    assert [each.description for each in made.values()] == [
        "Find out things.",
        "Ask HTTPReader.",
        "Ask Adder.",
    ]
    assert made["researcher"].schema == {
        "type": "object",
        "properties": {"message": {"type": "string"}},
        "required": ["message"],
        "additionalProperties": False,
    }
    assert made["researcher"].schema == made["http_reader"].schema | {
        "properties": made["http_reader"].schema["properties"]
    }
    assert run(made["researcher"], '{"message":"Hi"}').startswith("You said: Hi")
    assert made["http_reader"].is_async
    assert isinstance(asyncio.run(run(made["http_reader"], '{"message":"Hi"}')), Answer)
    assert run(made["adder"], '{"input":["1"]}').startswith("You said: [1]")
    with pytest.raises(SchemaMismatch, match=r"^other: unknown argument$"):
        made["researcher"].accept('{"message":"Hi","other":1}')


@pytest.mark.parametrize(
    ("name", "wanted"), [("WebSearch", "web_search"), ("HTTPReader", "http_reader"), ("A", "a")]
)
def test_a_class_is_named_as_a_function_would_be(name: str, wanted: str) -> None:
    assert snake_case(name) == wanted


def test_nothing_is_loaded_before_it_is_needed() -> None:
    program = """
import sys
from agentsession import Tool, agent, tool
@agent(client="echo:", instruction="You help.")
class Plain: ...
loaded = {"jsonschema", "docstring_parser"}
print(sorted(loaded & set(sys.modules)))
def hello(name: str) -> str:
    "Say hello."
@agent(client="echo:", instruction="You help.", tools=[hello])
class WithTool: ...
print(sorted(loaded & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["[]", "['docstring_parser']", ""]
