"""Each verifier of `@agent`: a declaration that it refuses, word by word, and one that it lets pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import new_class
from typing import Any

import peewee as pw
import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from agentsession import AgentActions, SessionActions, agent, info, testing
from agentsession._dsl.drafts import AgentDraft
from agentsession._dsl.verifiers import agent as verifiers
from agentsession._dsl.verifiers.agent import AGENT_VERIFIERS
from agentsession._option_rules import UNSET, keywords_of
from agentsession.provider.echo import Echo
from tests.support.models import About, Answer, Ask

DEFAULTS = keywords_of(agent)
WANTED = {"client": "echo:", "instruction": "You help."}


def support(*bases: Any, **body: Any) -> Any:
    """An undecorated class `Support` of this module."""
    named = {"__module__": __name__, "__qualname__": "Support", **body}
    return new_class("Support", bases, exec_body=lambda namespace: namespace.update(named))


class Address(TypedDict):
    city: str


class Company(BaseModel):
    name: str
    nickname: str | None = None
    is_new: bool = False
    address: Address
    staff: list[Ask] = []


@dataclass
class Case:
    """A class under `@agent` with options, and the problem that comes of it: where, found, fix."""

    problem: tuple[str, str, str] | None
    under: Callable[[], Any]
    options: dict[str, Any]


def bad(where: str, found: str, fix: str, under: Callable[[], Any] = support, **options: Any) -> Case:
    return Case((where, found, fix), under, {**WANTED, **options})


def good(under: Callable[[], Any] = support, **options: Any) -> Case:
    return Case(None, under, {**WANTED, **options})


def declared() -> Any:
    return agent(**WANTED)(support())


CLIENT = 'client="anthropic:claude-sonnet-4-20250514"'
NO_ID = "{!r} is not of the form 'provider:model'"
INSTRUCTION = 'instruction="You help {{ company_name }}."'
ABOVE = "@agent(client=…, instruction=…) above your own class; all options are keywords"
ASKS = "provider=… with an object that has `def ask(self, request) -> Reply`"
FIELDS = "use one of: name, nickname, is_new, address, staff"
SCHEMA = "pydantic model, dataclass, TypedDict, union or plain type whose names are defined above the class"
UNDEFINED = (
    "pydantic cannot use 'Missing': `TypeAdapter[Missing]` is not fully defined; you should define `Missing` "
    "and all referenced types, then call `.rebuild()` on the instance."
)
SECONDS = "{} is {!r}, not a positive number of seconds"
COUNT = "{} is {!r}, not a whole number from 0"
COUNT_FROM_1 = "{} is {!r}, not a whole number from 1"

CASES: dict[Any, list[Case]] = {
    verifiers.verify_target_is_a_class: [
        bad("[peewee.Model] agent -> class", "it stands on peewee.Model itself", ABOVE, lambda: pw.Model),
        bad(
            "[<function>] agent -> class",
            "it stands on a value of type function, not on a class",
            ABOVE,
            lambda: support,
        ),
        good(),
        good(lambda: support(pw.Model)),
    ],
    verifiers.verify_agent_is_declared_once: [
        bad(
            "class",
            "Support already has @agent",
            "keep one @agent(…); for other options declare another class",
            declared,
        ),
        good(lambda: support(declared())),
    ],
    verifiers.verify_client_is_an_id: [
        bad("client", "client is missing", CLIENT, client=UNSET),
        bad("client", NO_ID.format("gpt-5"), CLIENT, client="gpt-5"),
        bad("client", NO_ID.format("openai:"), CLIENT, client="openai:"),
        bad("client", NO_ID.format("open ai:x"), CLIENT, client="open ai:x"),
        bad("client", "a list is not a client", CLIENT, client=["openai:gpt-5", {}]),
        bad("client", "a tuple is not a client", CLIENT, client=("openai:gpt-5", "sk-1")),
        good(client="ollama:llama3:8b"),
        good(client=("openai:gpt-5", {"temperature": 0.7})),
    ],
    verifiers.verify_instruction_parses: [
        bad("instruction", "instruction is missing", INSTRUCTION, instruction=UNSET),
        bad("instruction", "instruction is of the type bytes, not str", INSTRUCTION, instruction=b"Hi"),
        bad(
            "instruction",
            "the template does not parse: 'a b' is not a variable name",
            INSTRUCTION,
            instruction="Hi {{ a b }}",
        ),
        *(
            bad(
                "instruction",
                f"the template does not parse: {{% {tag} … %}} is a tag of Jinja or Liquid, which mustache "
                "does not have",
                "write {{#x}}…{{/x}} for a condition or a loop over x, and {{^x}}…{{/x}} for its opposite",
                instruction=source,
            )
            for tag, source in (
                ("if", "You help. {% if name %}Say {{ name }}.{% endif %}"),
                ("for", "{{ name }}{%- for x in items -%}{{ x }}{% endfor %}"),
                ("endif", "{{#name}}{%endif%}{{/name}}"),
            )
        ),
        bad(
            "instruction",
            "the template does not parse: {{ name | upcase }} has a filter, which mustache does not have",
            'write {{ name }}, and pass the value in its final form: instruction_args={"name": …}',
            instruction="Hi {{ name | upcase }}",
        ),
        good(instruction="Hi {{ anyone }}"),
        good(instruction="{{={% %}=}}Hi {% anyone %}"),
        good(instruction="Write 5 {%} or {% %}, a | b, and {%"),
    ],
    verifiers.verify_schemas_are_usable: [
        *(
            bad(option, UNDEFINED, f"{option}=… with a {SCHEMA}", **{option: "Missing"})
            for option in ("instruction_schema", "input_schema", "output_schema")
        ),
        good(instruction_schema=About, input_schema=Address, output_schema=int | list[Answer]),
    ],
    verifiers.verify_schemas_equal_the_type_arguments: [
        bad(
            "input_schema",
            "input_schema is Answer, the mixin says Ask",
            "input_schema=Ask, or change the type argument of the mixin",
            lambda: support(AgentActions[Ask, Answer]),
            input_schema=Answer,
        ),
        bad(
            "output_schema",
            "output_schema is str, the mixin says Answer",
            "output_schema=Answer, or change the type argument of the mixin",
            lambda: support(SessionActions[Ask, Answer], pw.Model),
            output_schema=str,
        ),
        good(lambda: support(AgentActions[Ask, Answer]), output_schema=Answer),
        good(lambda: support(AgentActions[str, Any]), input_schema=Ask),
    ],
    verifiers.verify_variables_are_fields: [
        bad(
            "instruction",
            "the variable {{ company }} is not a field of About",
            "add `company: str` to About, or use one of: company_name",
            instruction="{{ company }}",
            instruction_schema=About,
        ),
        bad(
            "instruction",
            "the variable {{ name.first }} is not a field of Company",
            FIELDS,
            instruction="{{ name.first }}",
            instruction_schema=Company,
        ),
        bad(
            "instruction",
            "the variable {{ nick }} is not a field of Company",
            f"add `nick: str` to Company, or {FIELDS}",
            instruction="{{#nickname}}{{ nick }}{{/nickname}}",
            instruction_schema=Company,
        ),
        bad(
            "instruction_schema",
            "int has no fields",
            "instruction_schema=… with a model that has a field for each variable",
            instruction_schema=int,
        ),
        good(
            instruction="{{ address.city }}{{#staff}}{{ message }}{{/staff}}{{^is_new}}{{ name }}{{/is_new}}",
            instruction_schema=Company,
        ),
    ],
    verifiers.verify_provider_can_ask: [
        bad("provider", "provider is of the type str, which has no method `ask`", ASKS, provider="echo"),
        bad("provider", "provider is the class Echo, not an object of it", ASKS, provider=Echo),
        good(provider=Echo()),
    ],
    verifiers.verify_agent_values_fit: [
        bad(
            "output_mode",
            "output_mode is 'json', not 'auto', 'schema' or 'prompt'",
            "output_mode='auto'",
            output_mode="json",
        ),
        good(output_mode="prompt"),
        *(
            bad(option, SECONDS.format(option, value), f"{option}=30.0", **{option: value})
            for option in ("tool_timeout", "approval_timeout")
            for value in (0, -1, "30", True, float("inf"))
        ),
        bad("tool_timeout", SECONDS.format("tool_timeout", None), "tool_timeout=30.0", tool_timeout=None),
        *(
            bad("max_iterations", COUNT_FROM_1.format("max_iterations", value), "max_iterations=10", **each)
            for value in (0, 1.0, True, None)
            for each in [{"max_iterations": value}]
        ),
        *(
            bad("token_budget", COUNT_FROM_1.format("token_budget", value), "token_budget=50_000", **each)
            for value in (0, "9", True)
            for each in [{"token_budget": value}]
        ),
        good(tool_timeout=1, approval_timeout=3600, max_iterations=1, token_budget=1),
        good(approval_timeout=None, token_budget=None),
        bad(
            "on_tool_error",
            "on_tool_error is 'raise', not 'continue' or 'halt'",
            "on_tool_error='continue'",
            on_tool_error="raise",
        ),
        bad(
            "on_budget",
            "on_budget is ['warn'], not 'warn' or 'halt'",
            "on_budget='warn'",
            on_budget=["warn"],
        ),
        good(on_tool_error="halt", on_budget="halt"),
        *(
            bad("timeout", SECONDS.format("timeout", value), "timeout=120.0", timeout=value)
            for value in (0, -1.0, float("nan"), float("inf"), 10**400, "120", True, None)
        ),
        *(
            bad("retries", COUNT.format("retries", value), "retries=2", retries=value)
            for value in (-1, 1.0, "2", True, None)
        ),
        bad("output_retries", COUNT.format("output_retries", -1), "output_retries=1", output_retries=-1),
        good(timeout=1, retries=0, output_retries=0),
    ],
    verifiers.verify_call_names_are_free: [
        *(
            bad(name, f"Support already has {name!r}", f"rename Support.{name}", under)
            for name, under in [
                ("call", lambda: support(call=lambda self: None)),
                ("acall", lambda: support(AgentActions, acall=property(lambda self: None))),
                ("stream", lambda: support(pw.Model, stream=pw.BooleanField(default=False))),
                ("astream", lambda: support(SessionActions, pw.Model, astream="on")),
                ("call", lambda: support(support(call=1))),
            ]
        ),
        good(lambda: support(recall=1)),
        good(lambda: support(declared())),
    ],
}


def named(cases: dict[Any, list[Case]], *, bad: bool) -> list[Any]:
    return [
        pytest.param(verifier, case, id=f"{verifier.__name__}-{position}")
        for verifier, each in cases.items()
        for position, case in enumerate(each)
        if (case.problem is not None) == bad
    ]


@pytest.mark.parametrize(("verifier", "case"), named(CASES, bad=True))
def test_a_bad_declaration_is_one_problem_of_its_verifier(verifier: Any, case: Case) -> None:
    assert case.problem is not None
    where, found, fix = case.problem
    path = where if where.startswith("[") else f"[{__name__}.Support] agent -> {where}"
    with testing.dsl_errors() as problems:
        agent(**case.options)(case.under())
    assert [(problem.where, problem.found, problem.fix) for problem in problems] == [(path, found, fix)]
    assert problems[0].why
    assert list(verifier(AgentDraft(case.under(), **{**DEFAULTS, **case.options}))) == problems


@pytest.mark.parametrize(("verifier", "case"), named(CASES, bad=False))
def test_a_good_declaration_passes(verifier: Any, case: Case) -> None:
    target = case.under()
    assert list(verifier(AgentDraft(target, **{**DEFAULTS, **case.options}))) == []
    assert agent(**case.options)(target) is target
    assert info.is_agent(target)


def test_every_verifier_has_a_bad_and_a_good_case() -> None:
    assert list(CASES) == list(AGENT_VERIFIERS)
    for cases in CASES.values():
        assert {case.problem is None for case in cases} == {True, False}


def test_all_problems_of_a_declaration_are_reported_together() -> None:
    mistakes: dict[str, Any] = {
        "client": "gpt",
        "instruction": "{{ a",
        "instruction_schema": About,
        "output_mode": "json",
        "timeout": 0,
        "retries": -1,
    }
    with testing.dsl_errors() as problems:
        agent(**mistakes)(support())
    assert [problem.where.split("-> ")[1] for problem in problems] == [
        "client",
        "instruction",
        "output_mode",
        "timeout",
        "retries",
    ]


@pytest.mark.parametrize(
    ("name", "found", "fix"),
    [
        ("retrys", "@agent has no option 'retrys'", "did you mean retries=…?"),
        ("xyz", "@agent has no option 'xyz'", f"use one of: {', '.join(DEFAULTS)}"),
        ("tool", "@agent has no option 'tool'", "did you mean tools=…?"),
    ],
)
def test_an_unknown_option_is_a_problem(name: str, found: str, fix: str) -> None:
    options: dict[str, Any] = {**WANTED, name: []}
    with testing.dsl_errors() as problems:
        agent(**options)(support())
    assert [(each.where, each.found, each.fix) for each in problems] == [
        (f"[{__name__}.Support] agent -> {name}", found, fix)
    ]


@pytest.mark.parametrize("option", ["instruction_schema", "input_schema", "output_schema"])
def test_a_falsy_schema_is_refused_and_not_taken_for_none(option: str) -> None:
    options: dict[str, Any] = {**WANTED, option: ()}
    with testing.dsl_errors() as problems:
        agent(**options)(support())
    assert [problem.where for problem in problems] == [f"[{__name__}.Support] agent -> {option}"]


def test_bare_agent_names_what_is_required() -> None:
    with testing.dsl_errors() as problems:
        agent(support())
    assert [problem.found for problem in problems] == ["client is missing", "instruction is missing"]
