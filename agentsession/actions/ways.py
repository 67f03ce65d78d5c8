"""The four ways to run an action: to its end, awaited, as a stream, as an async stream."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from inspect import signature
from typing import Any, ParamSpec, TypeVar

from agentsession.actions.action import Action
from agentsession.actions.streams import AsyncTurnStream, TurnStream
from agentsession.errors import InputInvalid
from agentsession.store.connection import refuse_async

P = ParamSpec("P")
M = TypeVar("M")
F = TypeVar("F", bound=Callable[..., Any])


def plain(prepare: Callable[P, Action[M]], name: str) -> Callable[P, M]:
    def action(*args: P.args, **keywords: P.kwargs) -> M:
        prepared = _on_a_thread(prepare(*args, **keywords), name)
        prepared.run()
        return prepared.record

    return like(prepare, action, name, "")


def awaited(prepare: Callable[P, Action[M]], name: str) -> Callable[P, Coroutine[Any, Any, M]]:
    async def action(*args: P.args, **keywords: P.kwargs) -> M:
        prepared = prepare(*args, **keywords)
        await prepared.arun()
        return prepared.record

    return like(prepare, action, name, ASYNC)


def streamed(prepare: Callable[P, Action[M]], name: str) -> Callable[P, TurnStream[M]]:
    def action(*args: P.args, **keywords: P.kwargs) -> TurnStream[M]:
        _refuse_to_run_later(keywords, name)
        return TurnStream(_on_a_thread(prepare(*args, **keywords), name), name)

    return like(prepare, action, name, STREAM)


def astreamed(prepare: Callable[P, Action[M]], name: str) -> Callable[P, AsyncTurnStream[M]]:
    def action(*args: P.args, **keywords: P.kwargs) -> AsyncTurnStream[M]:
        _refuse_to_run_later(keywords, name)
        return AsyncTurnStream(partial(prepare, *args, **keywords), name)

    return like(prepare, action, name, ASTREAM)


ASYNC = "On an event loop: `await` it. Who is cancelled leaves the turn as `interrupted`.\n\n    "
STREAM = "As a `TurnStream`, whose events tell what comes: the turn has begun when it is returned.\n\n    "
ASTREAM = "As an `AsyncTurnStream`, which begins with `await`, `async with` or `async for`.\n\n    "


def like(prepare: Callable[..., Any], action: F, name: str, first: str) -> F:
    """The action with the name, the arguments and the docstring that a user sees."""
    action.__name__ = action.__qualname__ = name
    action.__doc__ = first + (prepare.__doc__ or "")
    action.__signature__ = signature(prepare).replace(return_annotation=signature(prepare).empty)  # type: ignore[attr-defined]
    return action


def _refuse_to_run_later(keywords: Mapping[str, object], name: str) -> None:
    if not keywords.get("run", True):
        raise InputInvalid(
            f"{name} was called with run=False",
            why="a stream tells of a turn that runs; nothing was stored",
            fix=f"{name.removeprefix('astream_').removeprefix('stream_')}(…, run=False)",
        )


def _on_a_thread(prepared: Action[M], name: str) -> Action[M]:
    if prepared.session is not None:
        refuse_async(prepared.session.model, name)
    return prepared
