"""The verifiers of how a turn with tools goes on and ends, and of its hooks; they run after the tools'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

from agentsession._dsl.verifiers.agent import AgentDraft
from agentsession._dsl.verifiers.rules import (
    COUNT,
    SECONDS,
    Rule,
    is_count,
    is_positive,
    or_none,
    other_parameters,
)
from agentsession._options import BUDGET_STRATEGIES, HOOKS, ON_TOOL_ERROR
from agentsession.errors import Problem, words

NEAR = 0.85
"""How much a method's name is like a hook's to be taken for a mistyped one."""

WHY_HOOKS = "a turn calls them by these names"


def verify_loop_numbers_fit(draft: AgentDraft) -> Iterator[Problem]:
    for rule in _NUMBERS:
        for found in rule.broken(draft):
            yield Problem(draft.where(rule.option), f"{rule.option} {found}", rule.why, rule.fix)


def verify_strategies_are_known(draft: AgentDraft) -> Iterator[Problem]:
    for option, known, why in (
        ("on_tool_error", ON_TOOL_ERROR, "it says what becomes of a turn whose tool fails"),
        ("on_budget", BUDGET_STRATEGIES, "it says what becomes of a turn that has used its tokens"),
    ):
        value = getattr(draft, option)
        if value not in known:
            fix = f"{option}= one of {', '.join(map(repr, known))}"
            yield Problem(draft.where(option), f"{option} is {value!r}", why, fix)


def verify_hooks_can_be_made(draft: AgentDraft) -> Iterator[Problem]:
    _, error = draft.hooks_or_error
    if error is not None:
        found = f"{draft.hooks.__name__}() raised {type(error).__name__}: {words(error)}"
        fix = "hooks=… with an object, where its class takes arguments"
        yield Problem(draft.where("hooks"), found, "a class is called for its object", fix)


def verify_there_is_a_hook(draft: AgentDraft) -> Iterator[Problem]:
    hooks = draft.made_hooks
    if hooks is not None and not list(_hooks(draft)) and not list(_typos(hooks)):
        found = f"hooks is of the type {type(hooks).__name__}, which has no hook"
        fix = f"a method by one of the names {', '.join(HOOKS)}"
        yield Problem(draft.where("hooks"), found, WHY_HOOKS, fix)


def verify_hooks_are_methods(draft: AgentDraft) -> Iterator[Problem]:
    for name, hook in _hooks(draft):
        if not callable(hook):
            found = f"{_kind(draft)}.{name} is of the type {type(hook).__name__}, not a method"
            fix = f"def {name}(self, context, value), or another name"
            yield Problem(draft.where("hooks"), found, WHY_HOOKS, fix)


def verify_hooks_take_a_context_and_a_value(draft: AgentDraft) -> Iterator[Problem]:
    for name, hook in _hooks(draft):
        other = other_parameters(hook, 2) if callable(hook) else None
        if other is not None:
            found = f"{_kind(draft)}.{name} takes {other}, not (context, value)"
            why = "a turn calls it with these two, by position"
            yield Problem(draft.where("hooks"), found, why, f"def {name}(self, context, value)")


def verify_hook_names_are_known(draft: AgentDraft) -> Iterator[Problem]:
    for name, near in _typos(draft.made_hooks):
        found = f"{_kind(draft)}.{name} is no hook"
        yield Problem(draft.where("hooks"), found, WHY_HOOKS, f"did you mean {near}?")


def _kind(draft: AgentDraft) -> str:
    return type(draft.made_hooks).__name__


def _hooks(draft: AgentDraft) -> Iterator[tuple[str, Any]]:
    hooks = draft.made_hooks
    yield from ((name, getattr(hooks, name)) for name in HOOKS if hasattr(hooks, name))


def _typos(hooks: Any) -> Iterator[tuple[str, str]]:
    for name in dir(hooks):
        near = get_close_matches(name, HOOKS, 1, NEAR)
        is_other = not name.startswith("_") and name not in HOOKS
        if near and is_other and callable(getattr(hooks, name, None)):
            yield name, near[0]


_NUMBERS = (
    Rule("tool_timeout", is_positive, SECONDS, "a tool that never ends holds its turn for ever", "30.0"),
    Rule("approval_timeout", or_none(is_positive), SECONDS, "a call waits so long for a person", "30.0"),
    Rule("max_iterations", is_count, COUNT, "a model may ask for tools for ever", "10"),
    Rule("token_budget", or_none(is_count), COUNT, "it says what a turn may use", "50_000"),
)

LOOP_VERIFIERS: tuple[Callable[[AgentDraft], Iterator[Problem]], ...] = (
    verify_loop_numbers_fit,
    verify_strategies_are_known,
    verify_hooks_can_be_made,
    verify_there_is_a_hook,
    verify_hooks_are_methods,
    verify_hooks_take_a_context_and_a_value,
    verify_hook_names_are_known,
)
