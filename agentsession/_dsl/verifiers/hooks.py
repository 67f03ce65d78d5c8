"""The verifiers of an agent's hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

from agentsession._dsl.drafts import AgentDraft
from agentsession._dsl.verifiers.shared import other_parameters
from agentsession._options import HOOKS
from agentsession._tracebacks import error_message
from agentsession.errors import Problem

SIMILARITY = 0.85
"""From this ratio on, a method's name counts as a misspelt hook."""

CALLED_BY_NAME = "a turn calls the hooks by these names"


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


HOOK_VERIFIERS: tuple[Callable[[AgentDraft], Iterator[Problem]], ...] = (
    verify_hooks_can_be_made,
    verify_there_is_a_hook,
    verify_hooks_are_methods,
    verify_hooks_take_a_context_and_a_value,
    verify_hook_names_are_known,
)
