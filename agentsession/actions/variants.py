"""The four ways to run an action: to its end, awaited, as a stream, as an async stream.

Each is a decorator of a declaration, which has the signature and the docstring of a public function and no
body. The function that it returns passes its arguments to `prepare`, and runs the action that this returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, TypeVar, cast

from agentsession._safe_errors import own_frames_emptied, take_all
from agentsession._store.declared import refuse_async
from agentsession._turn.effects import Outcome
from agentsession.actions.action import Action
from agentsession.actions.streams import AsyncTurnStream, TurnStream
from agentsession.errors import InputInvalid

M = TypeVar("M")
F = TypeVar("F", bound=Callable[..., Any])
_Prepare = Callable[..., Action[Any]]
_Returned = Callable[[Action[Any], Outcome], Any]


def _record(action: Action[Any], _: Outcome) -> Any:
    return action.record


def blocking(prepare: _Prepare, returned: _Returned = _record) -> Callable[[F], F]:
    """Return a decorator: the function runs the action to its end, on its caller's thread."""

    def decorate(declared: F) -> F:
        @wraps(declared)
        def act(*args: Any, **keywords: Any) -> Any:
            action = _on_a_thread(prepared(prepare, args, take_all(keywords)), declared.__name__)
            return returned(action, action.run())

        return cast("F", act)

    return decorate


def awaited(prepare: _Prepare, returned: _Returned = _record) -> Callable[[F], F]:
    """Return a decorator: the function is a coroutine that runs the action to its end."""

    def decorate(declared: F) -> F:
        @wraps(declared)
        async def act(*args: Any, **keywords: Any) -> Any:
            action = prepared(prepare, args, take_all(keywords))
            return returned(action, await action.arun())

        return cast("F", act)

    return decorate


def streamed(prepare: _Prepare) -> Callable[[F], F]:
    """Return a decorator: the function begins the turn and returns its `TurnStream`."""

    def decorate(declared: F) -> F:
        name = declared.__name__

        @wraps(declared)
        def act(*args: Any, **keywords: Any) -> TurnStream[Any]:
            action = prepared(prepare, args, _to_run_now(take_all(keywords), name))
            return TurnStream(_on_a_thread(action, name), name)

        return cast("F", act)

    return decorate


def astreamed(prepare: _Prepare) -> Callable[[F], F]:
    """Return a decorator: the function returns an `AsyncTurnStream`, which begins the turn later."""

    def decorate(declared: F) -> F:
        name = declared.__name__

        @wraps(declared)
        def act(*args: Any, **keywords: Any) -> AsyncTurnStream[Any]:
            begin = partial(prepared, prepare, args, _to_run_now(take_all(keywords), name))
            return AsyncTurnStream(begin, name)

        return cast("F", act)

    return decorate


def prepared(
    prepare: Callable[..., Action[M]], args: tuple[Any, ...], keywords: Mapping[str, Any]
) -> Action[M]:
    """Return the action. The traceback of an error shows none of its keywords."""
    with own_frames_emptied:
        return prepare(*args, **keywords)


def _to_run_now(keywords: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the keywords of a stream, or raise `InputInvalid` if they say that the turn runs later."""
    with own_frames_emptied:
        if keywords.get("run", True):
            return keywords
        raise InputInvalid(
            f"{name} was called with run=False",
            why="a stream shows a turn that runs now; nothing was stored",
            fix=f"{name.removeprefix('astream_').removeprefix('stream_')}(…, run=False)",
        )


def _on_a_thread(action: Action[M], name: str) -> Action[M]:
    """Return the action, or raise if its database works on an event loop only."""
    if action.session is not None:
        refuse_async(action.session.declared, name)
    return action
