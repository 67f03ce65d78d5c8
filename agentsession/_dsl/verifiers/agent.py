"""The verifiers of `@agent`. Each is the claim that it checks; add yours to `AGENT_VERIFIERS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import peewee

from agentsession import _names, _registry
from agentsession._dsl.declare import UNSET, refuse_second, stands_on, where
from agentsession._dsl.declared_tools import DeclaredTool, declared_tools
from agentsession._dsl.taken import taken_names
from agentsession._dsl.type_arguments import type_arguments
from agentsession._dsl.verifiers.rules import SECONDS, Rule, is_positive, is_whole
from agentsession._options import OUTPUT_MODES, Client
from agentsession._prompt import Template, TemplateInvalid
from agentsession._schema import InputSchema, OutputSchema, Schema, unusable
from agentsession._tools.definition import Tool
from agentsession.errors import Problem

OPTIONAL_METHODS = ("prepare", "stream", "aask", "astream")


@dataclass(repr=False)
class AgentDraft:
    """What `@agent` was given, not yet verified; the parsed forms are made once. Has no repr: the client may
    come with its key."""

    model: Any
    client: Any
    instruction: Any
    instruction_schema: Any
    input_schema: Any
    output_schema: Any
    provider: Any
    output_mode: Any
    timeout: Any
    retries: Any
    output_retries: Any
    tools: Any
    max_iterations: Any
    tool_timeout: Any
    on_tool_error: Any
    approval_timeout: Any
    hooks: Any
    token_budget: Any
    on_budget: Any

    def where(self, option: str) -> str:
        return where(self.model, "agent", option)

    @cached_property
    def parsed_client(self) -> Client:
        return Client.parse(self.client)

    @cached_property
    def parsed_template(self) -> Template:
        return Template(self.instruction)

    @cached_property
    def instruction_type(self) -> Schema:
        return Schema(dict[str, Any] if self.instruction_schema is None else self.instruction_schema)

    @cached_property
    def input_type(self) -> InputSchema:
        return InputSchema(_either(self.input_schema, self.type_arguments[0]))

    @cached_property
    def output_type(self) -> OutputSchema:
        return OutputSchema(_either(self.output_schema, self.type_arguments[1]))

    @cached_property
    def declared_tools(self) -> tuple[DeclaredTool, ...]:
        return declared_tools(self.model, self.tools)

    @cached_property
    def made_tools(self) -> tuple[tuple[str, Tool], ...]:
        """Each tool that could be made, and where it was declared."""
        return tuple((each.option, each.tool) for each in self.declared_tools if each.tool is not None)

    @property
    def made_hooks(self) -> Any:
        """An object with the hooks; None where there is none."""
        return self.hooks_or_error[0]

    @cached_property
    def hooks_or_error(self) -> tuple[Any, Exception | None]:
        """A class is called once for its object, which may raise anything."""
        try:
            return (self.hooks() if isinstance(self.hooks, type) else self.hooks), None
        except Exception as error:
            return None, error

    @cached_property
    def type_arguments(self) -> tuple[Any, Any]:
        return type_arguments(self.model)


def verify_target_is_a_class(draft: AgentDraft) -> Iterator[Problem]:
    if not isinstance(draft.model, type):
        found = stands_on(draft.model)
        why = "an agent is a class with options"
    elif draft.model is peewee.Model:
        found, why = "it stands on peewee.Model itself", "every model of the program would become an agent"
    else:
        return
    fix = "@agent(client=…, instruction=…) above a class of your own; all options are keywords"
    yield Problem(draft.where("class"), found, why, fix)


def verify_agent_is_declared_once(draft: AgentDraft) -> Iterator[Problem]:
    yield from refuse_second(draft.model, "agent", _registry.agent_of)


def verify_client_is_an_id(draft: AgentDraft) -> Iterator[Problem]:
    if draft.client is UNSET:
        found = "client is missing"
    else:
        try:
            draft.parsed_client  # noqa: B018
        except ValueError as error:
            found = str(error)
        else:
            return
    why = "the id says which provider and which model to ask"
    yield Problem(draft.where("client"), found, why, 'client="anthropic:claude-sonnet-4-20250514"')


def verify_instruction_parses(draft: AgentDraft) -> Iterator[Problem]:
    fix = 'instruction="You help {{ company_name }}."'
    if draft.instruction is UNSET:
        found = "instruction is missing"
    elif not isinstance(draft.instruction, str):
        found = f"instruction is of the type {type(draft.instruction).__name__}, not str"
    else:
        try:
            draft.parsed_template  # noqa: B018
        except TemplateInvalid as error:
            found, fix = f"the template does not parse: {error}", error.fix or fix
        else:
            return
    why = "the system message of every turn is rendered from it"
    yield Problem(draft.where("instruction"), found, why, fix)


def verify_schemas_are_usable(draft: AgentDraft) -> Iterator[Problem]:
    first, second = draft.type_arguments
    given = {
        "instruction_schema": (draft.instruction_schema, Schema),
        "input_schema": (_either(draft.input_schema, first), InputSchema),
        "output_schema": (_either(draft.output_schema, second), OutputSchema),
    }
    for option, (type_, role) in given.items():
        reason = None if type_ is None else unusable(type_, role)
        if reason is not None:
            yield Problem(
                draft.where(option),
                f"pydantic cannot use {getattr(type_, '__name__', type_)!r}: {reason}",
                "every value is validated by it",
                f"{option}=… with a pydantic model, dataclass, TypedDict, union or plain type whose names "
                "are defined above the class",
            )


def verify_schemas_equal_the_type_arguments(draft: AgentDraft) -> Iterator[Problem]:
    pairs = zip(
        ("input_schema", "output_schema"),
        (draft.input_schema, draft.output_schema),
        draft.type_arguments,
        strict=True,
    )
    for option, declared, argument in pairs:
        if declared is not None and argument is not None and declared != argument:
            name = getattr(argument, "__name__", argument)
            yield Problem(
                draft.where(option),
                f"{option} is {getattr(declared, '__name__', declared)}, the mixin says {name}",
                "a type checker would promise another type than is validated",
                f"{option}={name}, or change the type argument of the mixin",
            )


def verify_variables_are_fields(draft: AgentDraft) -> Iterator[Problem]:
    if draft.instruction_schema is None or not isinstance(draft.instruction, str):
        return
    if unusable(draft.instruction_schema, Schema) is not None:
        return
    try:
        template = draft.parsed_template
    except TemplateInvalid:
        return
    schema = Schema(draft.instruction_schema)
    fields = schema.fields
    if schema.takes_more:
        return
    if fields is None:
        yield Problem(
            draft.where("instruction_schema"),
            f"{schema.name} has no fields",
            "the template takes its variables from them",
            "instruction_schema=… with a model that has a field for each variable",
        )
        return
    for name in template.unknown_names(fields):
        first = name.split(".")[0]
        add = "" if first in fields else f"add `{first}: str` to {schema.name}, or "
        yield Problem(
            draft.where("instruction"),
            f"the variable {{{{ {name} }}}} is no field of {schema.name}",
            "it would have no value",
            f"{add}use one of: {', '.join(fields)}",
        )


def verify_provider_can_ask(draft: AgentDraft) -> Iterator[Problem]:
    provider = draft.provider
    if isinstance(provider, type):
        found = f"provider is the class {provider.__name__}, not an object of it"
    elif provider is not None and not callable(getattr(provider, "ask", None)):
        found = f"provider is of the type {type(provider).__name__}, which has no method `ask`"
    elif unfit := [name for name in OPTIONAL_METHODS if not _is_fit(provider, name)]:
        kind = type(getattr(provider, unfit[0])).__name__
        found = f"provider has an attribute `{unfit[0]}` of the type {kind}, not a method"
    else:
        return
    fix = "provider=… with an object that has `def ask(self, request) -> Reply`"
    yield Problem(draft.where("provider"), found, "a turn asks the model through it", fix)


def verify_output_mode_is_known(draft: AgentDraft) -> Iterator[Problem]:
    if draft.output_mode not in OUTPUT_MODES:
        yield Problem(
            draft.where("output_mode"),
            f"output_mode is {draft.output_mode!r}",
            "it says how the model is asked for structured output",
            f"output_mode= one of {', '.join(map(repr, OUTPUT_MODES))}",
        )


def verify_numbers_fit(draft: AgentDraft) -> Iterator[Problem]:
    for rule in _NUMBERS:
        for found in rule.broken(draft):
            yield Problem(draft.where(rule.option), f"{rule.option} {found}", rule.why, rule.fix)


def verify_names_are_free(draft: AgentDraft) -> Iterator[Problem]:
    yield from taken_names(draft.model, "agent", _names.AGENT_NAMES)


def _is_fit(provider: Any, name: str) -> bool:
    return not hasattr(provider, name) or callable(getattr(provider, name))


def _either(declared: Any, argument: Any) -> Any:
    return argument if declared is None else declared


_NUMBERS = (
    Rule("timeout", is_positive, SECONDS, "a call that never ends holds its session for ever", "120.0"),
    Rule("retries", is_whole, "a whole number from 0", "it is a count", "2"),
    Rule("output_retries", is_whole, "a whole number from 0", "it is a count", "1"),
)

AGENT_VERIFIERS: tuple[Callable[[AgentDraft], Iterator[Problem]], ...] = (
    verify_target_is_a_class,
    verify_agent_is_declared_once,
    verify_client_is_an_id,
    verify_instruction_parses,
    verify_schemas_are_usable,
    verify_schemas_equal_the_type_arguments,
    verify_variables_are_fields,
    verify_provider_can_ask,
    verify_output_mode_is_known,
    verify_numbers_fit,
    verify_names_are_free,
)
