"""The four ways to run an action: to its end, awaited, as a stream, as an async stream."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from inspect import signature
from typing import Any, ParamSpec, TypeVar

from agentsession._store.connection import refuse_async
from agentsession._tracebacks import own_frames_emptied, take_all
from agentsession.actions.action import Action
from agentsession.actions.streams import AsyncTurnStream, TurnStream
from agentsession.errors import InputInvalid

P = ParamSpec("P")
M = TypeVar("M")
F = TypeVar("F", bound=Callable[..., Any])


def plain(prepare: Callable[P, Action[M]], name: str) -> Callable[P, M]:
    def act(*args: P.args, **keywords: P.kwargs) -> M:
        action = _on_a_thread(prepared(prepare, args, take_all(keywords)), name)
        action.run()
        return action.record

    return like(prepare, act, name, "")


def awaited(prepare: Callable[P, Action[M]], name: str) -> Callable[P, Coroutine[Any, Any, M]]:
    async def act(*args: P.args, **keywords: P.kwargs) -> M:
        action = prepared(prepare, args, take_all(keywords))
        await action.arun()
        return action.record

    return like(prepare, act, name, ASYNC)


def streamed(prepare: Callable[P, Action[M]], name: str) -> Callable[P, TurnStream[M]]:
    def act(*args: P.args, **keywords: P.kwargs) -> TurnStream[M]:
        action = prepared(prepare, args, _to_run_now(take_all(keywords), name))
        return TurnStream(_on_a_thread(action, name), name)

    return like(prepare, act, name, STREAM)


def astreamed(prepare: Callable[P, Action[M]], name: str) -> Callable[P, AsyncTurnStream[M]]:
    def act(*args: P.args, **keywords: P.kwargs) -> AsyncTurnStream[M]:
        return AsyncTurnStream(partial(prepared, prepare, args, _to_run_now(take_all(keywords), name)), name)

    return like(prepare, act, name, ASTREAM)


def prepared(
    prepare: Callable[..., Action[M]], args: tuple[Any, ...], keywords: Mapping[str, Any]
) -> Action[M]:
    """Return the action. An error shows none of its keywords."""
    with own_frames_emptied:
        return prepare(*args, **keywords)


ASYNC = "On an event loop: `await` it. Who is cancelled leaves the turn as `interrupted`.\n\n    "
STREAM = "As a `TurnStream`, whose events tell what comes: the turn has begun when it is returned.\n\n    "
ASTREAM = "As an `AsyncTurnStream`, which begins with `await`, `async with` or `async for`.\n\n    "


def like(prepare: Callable[..., Any], action: F, name: str, first: str) -> F:
    """The action with the name, the arguments and the docstring that a user sees."""
    action.__name__ = action.__qualname__ = name
    action.__doc__ = first + (prepare.__doc__ or "")
    action.__signature__ = signature(prepare).replace(return_annotation=signature(prepare).empty)  # type: ignore[attr-defined]
    return action


def _to_run_now(keywords: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the keywords of a stream, or raise `InputInvalid` if they say that the turn runs later."""
    with own_frames_emptied:
        if keywords.get("run", True):
            return keywords
        raise InputInvalid(
            f"{name} was called with run=False",
            why="a stream tells of a turn that runs; nothing was stored",
            fix=f"{name.removeprefix('astream_').removeprefix('stream_')}(…, run=False)",
        )


def _on_a_thread(prepared: Action[M], name: str) -> Action[M]:
    if prepared.session is not None:
        refuse_async(prepared.session.declared, name)
    return prepared
