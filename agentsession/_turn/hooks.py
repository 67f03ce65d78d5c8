"""Functions of the user's that are called between the steps of a turn, and what they may give."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from agentsession._json_values import storable_text
from agentsession._turn.active_turn import ActiveTurn
from agentsession._turn.effects import Effect, Hook, HookContext, ToolResult
from agentsession._turn.model_io import PromptMessage, Reply
from agentsession.errors import HookFailed, TurnFailed, words

T = TypeVar("T")


class Unfit(Exception):
    """What a function gave cannot be used; the message says what it is."""


def hooked(active: ActiveTurn, name: str, value: T, check: Callable[[Any], T]) -> Generator[Effect, Any, T]:
    """The value, or what the agent's hook of this name gives for it, checked; raises `HookFailed`."""
    hook = getattr(active.plan.agent.hooks, name, None)
    if hook is None:
        return value
    context = HookContext(active.turn.id, active.client, active.iteration)

    def used(given: Any) -> T:
        return value if given is None else check(given)

    return (yield from called(name, Hook(hook, value, context), used))


def called(name: str, hook: Hook, check: Callable[[Any], T]) -> Generator[Effect, Any, T]:
    """What a function gives, checked; raises `HookFailed`."""
    try:
        return check((yield hook))
    except Unfit as unfit:
        raise HookFailed(f"{name} {unfit}") from None
    except Exception as error:
        raise HookFailed(storable_text(f"{name} raised {type(error).__name__}: {words(error)}")) from error


def anything(given: Any) -> Any:
    return given


def a_map(given: Any) -> dict[str, Any]:
    return _of(dict, given)


def a_text(given: Any) -> str:
    return _of(str, given)


def true_or_false(given: Any) -> bool:
    return _of(bool, given)


def a_failure(given: Any) -> TurnFailed:
    failure = _of(TurnFailed, given)
    if not isinstance(getattr(failure, "found", None), str):
        raise Unfit("gave a TurnFailed without words")
    return failure


def messages(given: Any) -> tuple[PromptMessage, ...]:
    return tuple(_of(PromptMessage, each) for each in _listed(given))


def a_reply(given: Any) -> Reply:
    """A reply that can be stored."""
    reply = _of(Reply, given)
    for name in ("text", "thinking", "model", "finish_reason"):
        if not isinstance(getattr(reply, name), str):
            raise Unfit(f"gave a Reply whose {name} is no str")
    try:
        reply.facts()
    except (msgspec.ValidationError, TypeError) as error:
        raise Unfit(f"gave a Reply that cannot be stored: {error}") from None
    return replace(reply, calls=())


def results_like(known: tuple[ToolResult, ...]) -> Callable[[Any], tuple[ToolResult, ...]]:
    """The same results, with what is shown of each; their whole texts stay."""

    def check(given: Any) -> tuple[ToolResult, ...]:
        results = [_of(ToolResult, each) for each in _listed(given)]
        if [each.call for each in results] != [each.call for each in known]:
            raise Unfit("gave other results than it was given")
        shown = [None if each.shown is None else storable_text(_of(str, each.shown)) for each in results]
        return tuple(
            msgspec.structs.replace(each, shown=None if text == each.text else text)
            for each, text in zip(known, shown, strict=True)
        )

    return check


def _listed(given: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(given, (list, tuple)):
        raise Unfit(f"gave {type(given).__name__}, not a list")
    return given


def _of(type_: type[T], given: Any) -> T:
    if not isinstance(given, type_):
        raise Unfit(f"gave {type(given).__name__}, not {type_.__name__}")
    return given
