"""Calls of user functions (hooks, `history`, `needs_approval`), and checks of the values that they return."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from agentsession._json_values import storable_text
from agentsession._safe_errors import error_message
from agentsession._turn.active_turn import ActiveTurn
from agentsession._turn.effects import Effect, Hook, HookContext, ToolResult
from agentsession._turn.model_io import PromptMessage, Reply
from agentsession.errors import HookFailed, TurnFailed

T = TypeVar("T")


class Unfit(Exception):
    """The value that a user function returned cannot be used. The message says why."""


def run_hook(active: ActiveTurn, name: str, value: T, check: Callable[[Any], T]) -> Generator[Effect, Any, T]:
    """Return the checked value that the agent's hook of this name returns for the value.

    Without such a hook, or if it returns None, the value itself is returned. Raises `HookFailed`.
    """
    hook = getattr(active.plan.agent.hooks, name, None)
    if hook is None:
        return value
    context = HookContext(active.turn.id, active.client, active.iteration)

    def checked(returned: Any) -> T:
        return value if returned is None else check(returned)

    return (yield from call_function(name, Hook(hook, value, context), checked))


def call_function(name: str, hook: Hook, check: Callable[[Any], T]) -> Generator[Effect, Any, T]:
    """Return the checked value that a user function returns; raises `HookFailed`."""
    try:
        return check((yield hook))
    except Unfit as unfit:
        raise HookFailed(f"{name} {unfit}") from None
    except Exception as error:
        raise HookFailed(
            storable_text(f"{name} raised {type(error).__name__}: {error_message(error)}")
        ) from error


def any_value(value: Any) -> Any:
    return value


def dict_value(value: Any) -> dict[str, Any]:
    return _instance(dict, value)


def str_value(value: Any) -> str:
    return _instance(str, value)


def bool_value(value: Any) -> bool:
    return _instance(bool, value)


def failure_value(value: Any) -> TurnFailed:
    failure = _instance(TurnFailed, value)
    if not isinstance(getattr(failure, "found", None), str):
        raise Unfit("returned a TurnFailed without a message")
    return failure


def prompt_value(value: Any) -> tuple[PromptMessage, ...]:
    return tuple(_instance(PromptMessage, each) for each in _sequence(value))


def reply_value(value: Any) -> Reply:
    """Return the reply without calls, if it can be stored."""
    reply = _instance(Reply, value)
    for name in ("text", "thinking", "model", "finish_reason"):
        if not isinstance(getattr(reply, name), str):
            raise Unfit(f"returned a Reply whose {name} is not a str")
    try:
        reply.facts()
    except (msgspec.ValidationError, TypeError) as error:
        raise Unfit(f"returned a Reply that cannot be stored: {error}") from None
    return replace(reply, calls=())


def same_results(known: tuple[ToolResult, ...]) -> Callable[[Any], tuple[ToolResult, ...]]:
    """Return a check for the same results, of which only the text for the model may be replaced."""

    def check(value: Any) -> tuple[ToolResult, ...]:
        results = [_instance(ToolResult, each) for each in _sequence(value)]
        if [each.call for each in results] != [each.call for each in known]:
            raise Unfit("returned other results than it received")
        texts = [
            None if each.text_for_model is None else storable_text(_instance(str, each.text_for_model))
            for each in results
        ]
        return tuple(
            msgspec.structs.replace(each, text_for_model=None if text == each.text else text)
            for each, text in zip(known, texts, strict=True)
        )

    return check


def _sequence(value: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise Unfit(f"returned {type(value).__name__}, not a list")
    return value


def _instance(type_: type[T], value: Any) -> T:
    if not isinstance(value, type_):
        raise Unfit(f"returned {type(value).__name__}, not {type_.__name__}")
    return value
