"""Each verifier of an agent's tools and their loop: a declaration that it refuses, and one that passes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import peewee as pw
import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from agentsession import AgentActions, Tokens, Tool, ToolContext, agent, info, testing, tool
from agentsession._dsl.drafts import AgentDraft
from agentsession._dsl.verifiers import agent as agent_verifiers
from agentsession._dsl.verifiers import tools as verifiers
from agentsession._dsl.verifiers.agent import HOOK_VERIFIERS
from agentsession._dsl.verifiers.tools import TOOL_VERIFIERS
from agentsession._options import HOOKS
from tests.dsl.test_agent_verifiers import DEFAULTS, WANTED, Case, bad, good, named, support
from tests.support.models import About

if TYPE_CHECKING:
    from decimal import Decimal


def find(text: str) -> str:
    """Find."""
    return text


async def afind(where: ToolContext, text: str = "") -> str:
    """Find."""
    return text


def silent(text: str) -> str:
    return text


def untyped(text, *, limit=5):  # type: ignore[no-untyped-def]
    """Find."""


def unresolved(price: Decimal, text: str) -> None:
    """Find."""


def foreign(session: pw.Database) -> None:
    """Find."""


def takes_all(**more: str) -> None:
    """Find."""


def with_context(context, text: str) -> None:  # type: ignore[no-untyped-def]
    """Find."""


def lost_context(ctx: Missing.ToolContext) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Find."""


def lost_tool_context(ctx: ToolContexts) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Find."""


def wanting(*, key: str, secret: str) -> None: ...


def quiet(text: str) -> str:
    return text


def many(*texts: str) -> None:
    """Find."""


class Shop:
    def lookup(self, number: int) -> int:
        """Look it up."""
        return number

    def sell(self) -> None:
        """Sell."""

    @classmethod
    def open(cls) -> None:
        """Open."""

    def __call__(self) -> None:
        """Visit."""


class Opened:
    @classmethod
    def open(cls) -> None:
        """Open."""


def odd(text: str) -> None:
    """Find."""


odd.__signature__ = "none"  # type: ignore[attr-defined]


class Unsigned:
    """Python cannot know what it takes."""

    __signature__ = "none"

    def __call__(self) -> None: ...


class Text(BaseModel):
    text: str


class Trip(TypedDict):
    text: str


def made(parameters: Any = Text, function: Any = find, **options: Any) -> Tool:
    named = {"name": "it", "description": "It."} | options
    return Tool(parameters=parameters, function=function, **named)


def marked(**options: Any) -> Any:
    def it(text: str) -> str:
        """It."""
        return text

    return tool(**options)(it)


def with_method(wrap: Any = None) -> Any:
    def lookup(cls: Any, text: str) -> str:
        """Look."""
        return text

    kept = tool(lookup) if wrap is None else tool(wrap(lookup))
    return support(AgentActions, lookup=kept)


@agent(**WANTED)
class Researcher(AgentActions): ...


@agent(client="echo:", instruction="For {{ company_name }}.", instruction_schema=About)
class Bound(AgentActions): ...


class Anyone(BaseModel):
    company_name: str = "Acme"


@agent(client="echo:", instruction="For {{ company_name }}.", instruction_schema=Anyone)
class Unbound(AgentActions): ...


class Undeclared(AgentActions): ...


class Watcher:
    def before_call(self, context: Any, request: Any) -> Any:
        return request

    def log(self) -> None: ...


class Mistyped:
    def before_calls(self) -> None: ...
    def on_error(self, context: Any, error: Any) -> None: ...
    def on_iteration_started(self) -> None: ...


class Unmade:
    def __init__(self, key: str) -> None: ...
    async def on_error(self, *values: Any) -> None: ...


class Flat:
    on_error = True


class Narrow:
    def on_error(self, error: Any) -> None: ...


class Wide:
    def on_error(self, context: Any, error: Any, key: Any, *, more: str, secret: str = "s3cret") -> None: ...


class Native:
    on_error = staticmethod(min)


NAMES = "[a-zA-Z_][a-zA-Z0-9_-]{0,63}"
RENAMED = 'name="find_orders", in @tool(…) or Tool(…)'
NAMELESS = 'a function of its own, def find_orders(…), or Tool(name="find_orders", …)'
DIFFER = '@tool(name="…") above one of them, or Tool(name="…", …), or leave one out'
DESCRIBED = 'a docstring that says what it does, or description="…"'
CALLABLE = "a function, a bound method, a Tool, or another agent's call"
TYPED = "def {}(…, {}: str, …), or any type that pydantic can validate"
CONTEXT_TYPED = "def with_context(…, context: ToolContext, …), with `from agentsession import ToolContext`"
AT_THE_TOP = ", with names that are defined at the top of the module when the class is"
SHAPED = "parameters=… with a pydantic model, dataclass, TypedDict or JSON schema of an object"
WRITTEN = 'parameters={"properties": {"customer": {"type": "string"}}, "required": ["customer"]}, or a model'
SAME = "the same names in parameters= and in the function"
NO_SCHEMA = "there is no JSON schema of its parameters: {}"
SECONDS = "{} is {!r}, not a positive number of seconds"
COUNT = "{} is {!r}, not a whole number from 1"
LIMIT = "result_limit of it is {}, not a whole number of bytes from 1, Tokens(n) or a plain function"
PYDANTIC = (
    "the parameter session has a type that pydantic cannot use: Unable to generate pydantic-core schema for "
    "<class 'peewee.Database'>."
)

UNSIGNED = "write a function with type hints that calls it"

CASES: dict[Any, list[Case]] = {
    verifiers.verify_tools_are_a_list: [
        bad("tools", "tools is of the type function, not a list", "tools=[find_orders, …]", tools=find),
        bad("tools", "tools is of the type NoneType, not a list", "tools=[find_orders, …]", tools=None),
        good(tools=(find,)),
        good(tools=[]),
    ],
    verifiers.verify_tools_can_be_called: [
        bad("tools[1]", "it is of the type str, which cannot be called", CALLABLE, tools=[find, "find"]),
        *(
            bad("tools[0]", f"it is the class {kind.__name__}", fix, tools=[kind])
            for kind, fix in [
                (Shop, "tools=[Shop()]"),
                (Watcher, "tools=[Watcher().before_call]"),
                (Opened, "tools=[Opened.open]"),
                (Researcher, "tools=[Researcher.call]"),
                (Flat, "a function that makes one, or a method of one: tools=[Flat().method]"),
            ]
        ),
        bad("tools[0]", "it is the class Shop", "function=Shop()", tools=[made({}, Shop)]),
        bad("tools[0]", "it is of the type int, which cannot be called", CALLABLE, tools=[made(function=3)]),
        good(tools=[find, afind, Shop().lookup, Shop.open, Shop(), made(), Researcher.call]),
    ],
    verifiers.verify_tool_methods_are_bound: [
        bad(
            "lookup",
            "lookup is a method without its object",
            "@classmethod or @staticmethod above def lookup",
            with_method,
        ),
        bad(
            "tools[0]",
            "lookup is a method without its object",
            "pass a bound method: tools=[Shop().lookup]",
            tools=[Shop.lookup],
        ),
        good(lambda: with_method(classmethod)),
        good(tools=[Shop().lookup]),
    ],
    verifiers.verify_called_agents_need_only_an_input: [
        bad(
            "tools[0]",
            "Undeclared has no @agent",
            "put @agent(…) above Undeclared, and Undeclared above this class",
            tools=[Undeclared.call],
        ),
        bad(
            "tools[0]",
            "the instruction of Bound has variables without a value",
            "a function that returns Bound.call(…, instruction_args={…}).output",
            tools=[Bound.acall],
        ),
        good(tools=[Researcher.acall, Unbound.call]),
    ],
    verifiers.verify_tool_names_fit: [
        *(
            bad("tools[0]", f"the name {name!r} does not fit {NAMES}", RENAMED, tools=[made(name=name)])
            for name in ("", "find orders", "1st", "ä", "x" * 65, "find\n", 5)
        ),
        bad(
            "tools[0]",
            "the name 'json_tool_call' is reserved for structured output",
            "another name",
            tools=[marked(name="json_tool_call")],
        ),
        bad("tools[0]", "a lambda has no name", NAMELESS, tools=[tool(description="It.")(lambda: None)]),
        good(tools=[marked(name="find-orders_2"), marked(name="_")]),
    ],
    verifiers.verify_tool_names_differ: [
        bad("tools[1]", "'it' is also the name of tools[0]", DIFFER, tools=[marked(), made()]),
        bad(
            "lookup",
            "'lookup' is also the name of tools[0]",
            DIFFER,
            lambda: with_method(classmethod),
            tools=[Shop().lookup],
        ),
        good(tools=[find, find, made(), marked(name="other")]),
    ],
    verifiers.verify_tools_are_described: [
        bad("tools[0]", "silent has no description", DESCRIBED, tools=[silent]),
        bad("tools[0]", "it has no description", DESCRIBED, tools=[made(description=" ")]),
        bad("tools[0]", "it has no description", DESCRIBED, tools=[marked(description=3)]),
        good(tools=[tool(description="Find.")(quiet)]),
    ],
    verifiers.verify_tool_signatures_are_known: [
        bad("tools[0]", "it takes *texts", "make the parameter a list: texts: list[str]", tools=[many]),
        *(
            bad(
                "tools[0]",
                "Python does not know its signature",
                UNSIGNED,
                tools=[it],
            )
            for it in (Unsigned(), odd)
        ),
        good(tools=[find, Shop()]),
    ],
    verifiers.verify_tool_parameters_have_types: [
        bad(
            "tools[0]",
            "the parameter text has no type",
            TYPED.format("untyped", "text"),
            tools=[partial(untyped, limit=2)],
        ),
        bad(
            "tools[0]",
            "the parameter price has a type that cannot be resolved: NameError: name 'Decimal' is not",
            TYPED.format("unresolved", "price") + AT_THE_TOP,
            tools=[unresolved],
        ),
        bad("tools[0]", "the parameter context has no type", CONTEXT_TYPED, tools=[with_context]),
        bad(
            "tools[0]",
            "the parameter text has no type",
            TYPED.format("it", "text"),
            tools=[tool(name="it", description="It.")(lambda text: text)],
        ),
        bad(
            "tools[0]",
            "the parameter ctx has a type that cannot be resolved: NameError: name 'Missing' is not defined",
            TYPED.format("lost_context", "ctx") + AT_THE_TOP,
            tools=[lost_context],
        ),
        bad(
            "tools[0]",
            "the parameter ctx has a type that cannot be resolved: NameError: name 'ToolContexts' is not",
            CONTEXT_TYPED.replace("with_context", "lost_tool_context").replace(" context:", " ctx:"),
            tools=[lost_tool_context],
        ),
        bad("tools[0]", PYDANTIC, TYPED.format("foreign", "session"), tools=[foreign]),
        good(tools=[find, afind, partial(untyped, text="", limit=2)]),
    ],
    verifiers.verify_tool_parameters_are_an_object: [
        *(
            bad("tools[0]", NO_SCHEMA.format(reason), SHAPED, tools=[made(parameters)])
            for parameters, reason in [
                (list[int], "list is not an object with fields"),
                (int | None, "int | None is not an object with fields"),
            ]
        ),
        *(
            bad("tools[0]", NO_SCHEMA.format(reason), WRITTEN, tools=[made(parameters)])
            for parameters, reason in [
                ({"type": "array"}, "the schema is not one of an object with properties"),
                (
                    {"properties": {"text": {"type": "txt"}}},
                    "not a JSON schema: 'txt' is not valid under any of",
                ),
                ({"text": "str"}, "a dict with the key 'text' is not a JSON schema of an object"),
                ({"title": "It", 5: "str"}, "a dict with the key 5 is not a JSON schema of an object"),
                ({"$ref": "#/x"}, "its $ref '#/x' has no target in the schema"),
                (
                    {"properties": {"text": {"$ref": "#/$defs/T"}}},
                    "its $ref '#/$defs/T' has no target",
                ),
                (
                    {"properties": {"text": {"$ref": "http://127.0.0.1:9/x"}}},
                    "its $ref 'http://127.0.0.1:9/x'",
                ),
            ]
        ),
        *(
            good(tools=[made({"properties": {"text": {}}, **more})])
            for more in [
                {"x-more": 1},
                {"properties": {"text": {"$ref": "#/$defs/T"}}, "$defs": {"T": {"enum": [{"$ref": "#/x"}]}}},
                {"properties": {"text": {"$ref": "t"}}, "$id": "http://a/b", "$defs": {"T": {"$id": "t"}}},
            ]
        ),
        good(tools=[made({"title": "It"}, takes_all)]),
        good(tools=[made(), made(Trip, name="b"), made({"properties": {"text": {}}}, name="c")]),
    ],
    verifiers.verify_tool_functions_take_the_parameters: [
        bad(
            "tools[0]",
            "the function of it has no parameter 'name'",
            SAME,
            tools=[made({"properties": {"text": {}, "name": {}}})],
        ),
        bad(
            "tools[0]",
            "the function of it requires 'text', which is not a field of the parameters",
            SAME,
            tools=[made({})],
        ),
        bad(
            "tools[0]",
            "the function of it has no parameter 'where'",
            SAME,
            tools=[made({"properties": {"where": {}}}, afind)],
        ),
        good(tools=[made(), made({}, afind, name="b"), made({"properties": {"x": {}}}, takes_all, name="c")]),
    ],
    verifiers.verify_tool_options_fit: [
        *(
            bad(
                "tools[0]",
                SECONDS.format("timeout of it", value),
                "timeout=30.0",
                tools=[marked(timeout=value)],
            )
            for value in (0, "3", True)
        ),
        *(
            bad(
                "tools[0]",
                f"{name} of it is 1, not True or False",
                f"{name}=True",
                tools=[marked(**{name: 1})],
            )
            for name in ("idempotent", "sequential")
        ),
        bad(
            "tools[0]",
            "needs_approval of it is 'yes', not True, False or a function",
            "needs_approval=True",
            tools=[made(needs_approval="yes")],
        ),
        *(
            bad(
                "tools[0]",
                LIMIT.format(repr(value)),
                "result_limit=8_000",
                tools=[marked(result_limit=value)],
            )
            for value in (0, -1, 1.5, True, Tokens(0), Tokens("9"), afind, str)  # type: ignore[arg-type]
        ),
        *(
            bad(
                "tools[0]",
                f'repeat_limit of it is {value!r}, not a whole number from 1, None or "auto"',
                "repeat_limit=1",
                tools=[marked(repeat_limit=value)],
            )
            for value in (0, -1, 1.5, True, "none", find)
        ),
        good(tools=[marked(timeout=0.5, idempotent=True, sequential=True, needs_approval=afind)]),
        *(good(tools=[marked(repeat_limit=value)]) for value in (3, None, "auto")),
        good(tools=[marked(result_limit=1, needs_approval=True), made(result_limit=Tokens(9), name="b")]),
        good(tools=[marked(result_limit=find)]),
    ],
    verifiers.verify_tool_option_functions_take_one_value: [
        *(
            bad(
                "tools[0]",
                f"{name} of it takes {takes}, not ({value})",
                f"{name}=lambda {value}: …",
                tools=[made(**{name: function})],
            )
            for name, value in [("needs_approval", "arguments"), ("result_limit", "result")]
            for takes, function in [
                ("()", lambda: True),
                ("(a, b)", lambda a, b: True),
                ("(*, key, secret)", partial(wanting, secret="s3cret")),
            ]
        ),
        *(
            good(tools=[made(needs_approval=function, result_limit=function)])
            for function in (len, min, str.upper, lambda a, b=1: a, lambda *a: a, partial(untyped, limit=1))
        ),
    ],
    agent_verifiers.verify_hooks_can_be_made: [
        bad(
            "hooks",
            "Unmade() raised TypeError: Unmade.__init__() missing 1 required positional argument: 'key'",
            "hooks=… with an object, if its class takes arguments",
            hooks=Unmade,
        ),
        good(hooks=Watcher),
        good(hooks=Unmade("key")),
        good(hooks=None),
    ],
    agent_verifiers.verify_there_is_a_hook: [
        *(
            bad(
                "hooks",
                f"hooks is of the type {kind}, which has no hook",
                f"a method with one of the names {', '.join(HOOKS)}",
                hooks=it,
            )
            for kind, it in [("Shop", Shop()), ("Shop", Shop), ("dict", {"on_error": find}), ("int", 0)]
        ),
        good(hooks=Watcher()),
    ],
    agent_verifiers.verify_hooks_are_methods: [
        bad(
            "hooks",
            "Flat.on_error is of the type bool, not a method",
            "def on_error(self, context, value), or another name",
            hooks=Flat,
        ),
        good(hooks=type("Lent", (), {"on_error": Watcher().before_call})),
    ],
    agent_verifiers.verify_hooks_take_a_context_and_a_value: [
        *(
            bad(
                "hooks",
                f"{kind.__name__}.on_error takes {takes}, not (context, value)",
                "def on_error(self, context, value)",
                hooks=kind,
            )
            for kind, takes in [(Narrow, "(error)"), (Wide, "(context, error, key, *, more, secret)")]
        ),
        good(hooks=Native),
        good(hooks=type("Free", (), {"on_error": lambda *values: None, "after_call": partial(print, 1)})),
    ],
    agent_verifiers.verify_hook_names_are_known: [
        bad(
            "hooks",
            "Partly.on_eror is not a hook",
            "did you mean on_error?",
            hooks=type("Partly", (Watcher,), {"on_eror": find}),
        ),
        good(hooks=Watcher),
    ],
}


@pytest.mark.parametrize(("verifier", "case"), named(CASES, bad=True))
def test_a_bad_declaration_is_one_problem_of_its_verifier(verifier: Any, case: Case) -> None:
    assert case.problem is not None
    where, found, fix = case.problem
    with testing.dsl_errors() as problems:
        agent(**case.options)(case.under())
    assert [problem.fix for problem in problems] == [fix]
    assert problems[0].where.endswith(f"Support] agent -> {where}")
    assert problems[0].found.startswith(found)
    assert problems[0].why
    again = list(verifier(AgentDraft(case.under(), **{**DEFAULTS, **case.options})))
    assert again == problems


@pytest.mark.parametrize(("verifier", "case"), named(CASES, bad=False))
def test_a_good_declaration_passes(verifier: Any, case: Case) -> None:
    target = case.under()
    assert list(verifier(AgentDraft(target, **{**DEFAULTS, **case.options}))) == []
    assert agent(**case.options)(target) is target
    assert info.is_agent(target)


def test_every_verifier_has_a_bad_and_a_good_case() -> None:
    assert list(CASES) == [*TOOL_VERIFIERS, *HOOK_VERIFIERS]
    for cases in CASES.values():
        assert {case.problem is None for case in cases} == {True, False}


def test_all_problems_are_reported_together_and_nothing_is_registered() -> None:
    under = with_method()
    with testing.dsl_errors() as problems:
        agent(
            **WANTED,
            tools=[3, silent, untyped, many, Shop.sell, made({}, name="a b"), find, marked(name="find")],
            max_iterations=0,
            hooks=Mistyped,
        )(under)
    assert [(each.where.split("-> ")[1], each.found.split(":")[0]) for each in problems] == [
        ("max_iterations", "max_iterations is 0, not a whole number from 1"),
        ("tools[0]", "it is of the type int, which cannot be called"),
        ("tools[4]", "sell is a method without its object"),
        ("lookup", "lookup is a method without its object"),
        ("tools[5]", f"the name 'a b' does not fit {NAMES}"),
        ("tools[7]", "'find' is also the name of tools[6]"),
        ("tools[1]", "silent has no description"),
        ("tools[3]", "it takes *texts"),
        ("tools[2]", "the parameter text has no type"),
        ("tools[2]", "the parameter limit has no type"),
        ("tools[5]", "the function of a b requires 'text', which is not a field of the parameters"),
        ("hooks", "Mistyped.before_calls is not a hook"),
        ("hooks", "Mistyped.on_iteration_started is not a hook"),
    ]
    assert not info.is_agent(under)


def test_a_lambda_is_told_how_to_get_a_name() -> None:
    with testing.dsl_errors() as problems:
        agent(**WANTED, tools=[lambda text: text])(support())
    assert [problem.fix for problem in problems] == [
        NAMELESS,
        DESCRIBED,
        TYPED.format("find_orders", "text"),
    ]


def test_the_options_are_kept() -> None:
    declared = agent(
        **WANTED,
        tools=[find],
        max_iterations=3,
        tool_timeout=5,
        on_tool_error="halt",
        approval_timeout=60,
        hooks=Watcher,
        token_budget=100,
        on_budget="halt",
    )(support())
    options = info.agent_options(declared)
    assert [each.name for each in options.tools] == ["find"]
    assert (options.max_iterations, options.tool_timeout, options.on_tool_error) == (3, 5.0, "halt")
    assert (options.approval_timeout, options.token_budget, options.on_budget) == (60.0, 100, "halt")
    assert isinstance(options.hooks, Watcher)
    plain = info.agent_options(agent(**WANTED)(support()))
    assert (plain.tools, plain.hooks, plain.approval_timeout, plain.token_budget) == ((), None, None, None)
