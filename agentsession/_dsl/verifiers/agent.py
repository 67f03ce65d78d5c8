"""The verifiers of `@agent`, except those of its tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

import peewee

from agentsession import _registry
from agentsession._dsl.declare import stands_on
from agentsession._dsl.drafts import AgentDraft
from agentsession._dsl.verifiers.shared import (
    names_in_use,
    other_parameters,
    second_declaration,
    values_that_break_rules,
)
from agentsession._option_rules import UNSET
from agentsession._options import AGENT_NAMES, HOOKS, AgentOptions
from agentsession._prompt import TemplateInvalid
from agentsession._safe_errors import error_message
from agentsession._schema import InputSchema, OutputSchema, Schema, unusable
from agentsession.errors import Problem

OPTIONAL_METHODS = ("prepare", "stream", "aask", "astream")

SIMILARITY = 0.85
"""From this ratio on, a method's name counts as a misspelt hook."""

CALLED_BY_NAME = "a turn calls the hooks by these names"


def verify_target_is_a_class(draft: AgentDraft) -> Iterator[Problem]:
    if not isinstance(draft.model, type):
        found = stands_on(draft.model)
        why = "an agent is a class with options"
    elif draft.model is peewee.Model:
        found, why = "it stands on peewee.Model itself", "every model of the program would become an agent"
    else:
        return
    fix = "@agent(client=…, instruction=…) above your own class; all options are keywords"
    yield Problem(draft.where("class"), found, why, fix)


def verify_agent_is_declared_once(draft: AgentDraft) -> Iterator[Problem]:
    yield from second_declaration(draft.model, "agent", _registry.agent_of)


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
    declared = {
        "instruction_schema": (draft.instruction_schema, Schema),
        "input_schema": (draft.input_or_argument, InputSchema),
        "output_schema": (draft.output_or_argument, OutputSchema),
    }
    for option, (type_, role) in declared.items():
        reason = None if type_ is None else unusable(type_, role)
        if reason is not None:
            yield Problem(
                draft.where(option),
                f"pydantic cannot use {getattr(type_, '__name__', type_)!r}: {reason}",
                "every value is validated with it",
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
                "a type checker would infer another type than the validated one",
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
            "the fields are the variables of the template",
            "instruction_schema=… with a model that has a field for each variable",
        )
        return
    for name in template.unknown_names(fields):
        first = name.split(".")[0]
        add = "" if first in fields else f"add `{first}: str` to {schema.name}, or "
        yield Problem(
            draft.where("instruction"),
            f"the variable {{{{ {name} }}}} is not a field of {schema.name}",
            "it would have no value",
            f"{add}use one of: {', '.join(fields)}",
        )


def verify_provider_can_ask(draft: AgentDraft) -> Iterator[Problem]:
    provider = draft.provider
    if isinstance(provider, type):
        found = f"provider is the class {provider.__name__}, not an object of it"
    elif provider is not None and not callable(getattr(provider, "ask", None)):
        found = f"provider is of the type {type(provider).__name__}, which has no method `ask`"
    elif not_methods := [name for name in OPTIONAL_METHODS if not _is_method_or_absent(provider, name)]:
        kind = type(getattr(provider, not_methods[0])).__name__
        found = f"provider has an attribute `{not_methods[0]}` of the type {kind}, not a method"
    else:
        return
    fix = "provider=… with an object that has `def ask(self, request) -> Reply`"
    yield Problem(draft.where("provider"), found, "a turn calls the model through it", fix)


def verify_hooks_can_be_made(draft: AgentDraft) -> Iterator[Problem]:
    _, error = draft.hooks_or_error
    if error is not None:
        found = f"{draft.hooks.__name__}() raised {type(error).__name__}: {error_message(error)}"
        fix = "hooks=… with an object, if its class takes arguments"
        yield Problem(draft.where("hooks"), found, "a class is called without arguments for its object", fix)


def verify_there_is_a_hook(draft: AgentDraft) -> Iterator[Problem]:
    hooks = draft.made_hooks
    if hooks is not None and not list(_hooks(draft)) and not list(_misspelt(hooks)):
        found = f"hooks is of the type {type(hooks).__name__}, which has no hook"
        fix = f"a method with one of the names {', '.join(HOOKS)}"
        yield Problem(draft.where("hooks"), found, CALLED_BY_NAME, fix)


def verify_hooks_are_methods(draft: AgentDraft) -> Iterator[Problem]:
    for name, hook in _hooks(draft):
        if not callable(hook):
            found = f"{_class_name(draft)}.{name} is of the type {type(hook).__name__}, not a method"
            fix = f"def {name}(self, context, value), or another name"
            yield Problem(draft.where("hooks"), found, CALLED_BY_NAME, fix)


def verify_hooks_take_a_context_and_a_value(draft: AgentDraft) -> Iterator[Problem]:
    for name, hook in _hooks(draft):
        other = other_parameters(hook, 2) if callable(hook) else None
        if other is not None:
            found = f"{_class_name(draft)}.{name} takes {other}, not (context, value)"
            why = "a turn passes these two by position"
            yield Problem(draft.where("hooks"), found, why, f"def {name}(self, context, value)")


def verify_hook_names_are_known(draft: AgentDraft) -> Iterator[Problem]:
    for name, near in _misspelt(draft.made_hooks):
        found = f"{_class_name(draft)}.{name} is not a hook"
        yield Problem(draft.where("hooks"), found, CALLED_BY_NAME, f"did you mean {near}?")


def verify_agent_values_fit(draft: AgentDraft) -> Iterator[Problem]:
    yield from values_that_break_rules(draft, AgentOptions)


def verify_call_names_are_free(draft: AgentDraft) -> Iterator[Problem]:
    yield from names_in_use(draft.model, "agent", AGENT_NAMES)


def _is_method_or_absent(provider: Any, name: str) -> bool:
    return not hasattr(provider, name) or callable(getattr(provider, name))


def _class_name(draft: AgentDraft) -> str:
    return type(draft.made_hooks).__name__


def _hooks(draft: AgentDraft) -> Iterator[tuple[str, Any]]:
    hooks = draft.made_hooks
    yield from ((name, getattr(hooks, name)) for name in HOOKS if hasattr(hooks, name))


def _misspelt(hooks: Any) -> Iterator[tuple[str, str]]:
    """Yield each public method whose name resembles that of a hook, and the hook's name."""
    for name in dir(hooks):
        near = get_close_matches(name, HOOKS, 1, SIMILARITY)
        is_other = not name.startswith("_") and name not in HOOKS
        if near and is_other and callable(getattr(hooks, name, None)):
            yield name, near[0]


AGENT_VERIFIERS: tuple[Callable[[AgentDraft], Iterator[Problem]], ...] = (
    verify_target_is_a_class,
    verify_agent_is_declared_once,
    verify_client_is_an_id,
    verify_instruction_parses,
    verify_schemas_are_usable,
    verify_schemas_equal_the_type_arguments,
    verify_variables_are_fields,
    verify_provider_can_ask,
    verify_agent_values_fit,
    verify_call_names_are_free,
)

HOOK_VERIFIERS: tuple[Callable[[AgentDraft], Iterator[Problem]], ...] = (
    verify_hooks_can_be_made,
    verify_there_is_a_hook,
    verify_hooks_are_methods,
    verify_hooks_take_a_context_and_a_value,
    verify_hook_names_are_known,
)
