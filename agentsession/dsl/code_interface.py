"""`@code_interface`: the generated functions, defined in the module of the class."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from agentsession import actions, info
from agentsession.dsl.declare import raise_problems, where
from agentsession.errors import Problem

C = TypeVar("C", bound=type)

ACTIONS: dict[str, Callable[..., Any]] = {
    "call": actions.call,
    "start_session": actions.start_session,
    "continue_session": actions.continue_session,
    "resume_session": actions.resume_session,
    "get_context": actions.get_context,
}
SESSION = ("session", "id")
"""What an argument list may call the session."""


def code_interface(**functions: Sequence[str]) -> Callable[[C], C]:
    """Define functions in the module of the class: `@code_interface(start_session=["input"])`.

    Each keyword is an action, its list the names of the function's positional arguments; every other
    argument of the action stays available by keyword. The session may be called `session` or `id`, and is
    the first argument where the list leaves it out.

    For a class at module level, and never over a name that the module has. Raises `DslError` otherwise;
    nothing is then defined. Type checkers cannot see these functions: `start_session =
    ChatAgent.start_session` is the same in one typed line.

    ```python
    @code_interface(start_session=["input"], continue_session=["session", "input"], get_context=["id"])
    @agent_session
    @agent(client="echo:", instruction="You help.")
    class ChatAgent(peewee.Model):
        context = peewee.JSONField(null=True)

        class Meta:
            database = db
    ```
    """

    def decorate(model: Any) -> Any:
        module = sys.modules.get(model.__module__)
        namespace = vars(module) if module is not None else {}
        raise_problems(_problems(model, functions, namespace))
        for name, arguments in functions.items():
            namespace[name] = _function(model, name, tuple(arguments))
        return model

    return decorate


def _problems(
    model: Any, functions: dict[str, Sequence[str]], namespace: dict[str, Any]
) -> Iterator[Problem]:
    if model.__qualname__ != model.__name__:
        yield Problem(
            where(model, "code_interface", "class"),
            "the class is not at module level",
            "its functions would have no module to stand in",
            f"start_session = {model.__name__}.start_session, where you need it",
        )
    for name, arguments in functions.items():
        at = where(model, "code_interface", name)
        if name not in ACTIONS:
            fix = f"use one of: {', '.join(ACTIONS)}"
            yield Problem(at, f"there is no action {name!r}", "a function needs an action to call", fix)
            continue
        if not (info.is_agent(model) if name == "call" else info.is_session(model)):
            needed = "agent" if name == "call" else "agent_session"
            found = f"the model has no @{needed} below @code_interface"
            yield Problem(at, found, "decorators run from the bottom up", f"put @{needed}(…) below it")
        if name in namespace and not _is_our_own(namespace[name], model, name):
            found = f"{model.__module__} already has the name {name!r}"
            yield Problem(at, found, "it would be replaced in silence", f"rename it, or leave {name} out")
        yield from _argument_problems(at, name, arguments)


def _argument_problems(at: str, name: str, arguments: Sequence[str]) -> Iterator[Problem]:
    known = tuple(inspect.signature(ACTIONS[name]).parameters)[1:]
    positional = ["session" if each in SESSION and "session" in known else each for each in arguments]
    unknown = [each for each in positional if each not in known]
    wanted = ", ".join(known)
    if isinstance(arguments, str) or unknown:
        found = f"{name} has no argument {unknown[0]!r}" if unknown else f"{arguments!r} is no list"
        yield Problem(at, found, "the list names the function's positional arguments", f"use: {wanted}")
    elif len(set(positional)) != len(positional):
        yield Problem(at, "an argument is named twice", "each can be passed once", f"use: {wanted}")


def _function(model: Any, name: str, arguments: tuple[str, ...]) -> Callable[..., Any]:
    action = ACTIONS[name]
    known = list(inspect.signature(action).parameters.values())[1:]
    by_name = {parameter.name: parameter for parameter in known}
    targets = ["session" if each in SESSION and "session" in by_name else each for each in arguments]
    shown = list(arguments)
    if "session" in by_name and "session" not in targets:
        targets, shown = ["session", *targets], ["session", *shown]
    positional = [
        by_name[target].replace(name=alias, kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for target, alias in zip(targets, shown, strict=True)
    ]
    rest = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in known if each.name not in targets]
    signature = inspect.Signature(_defaults_last(positional) + rest)

    def function(*args: Any, **keywords: Any) -> Any:
        bound = signature.bind(*args, **keywords).arguments
        named = dict(zip(shown, targets, strict=True))
        return action(model, **{named.get(key, key): value for key, value in bound.items()})

    function.__name__ = function.__qualname__ = name
    function.__module__ = model.__module__
    function.__doc__ = action.__doc__
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__agentsession_model__ = model.__qualname__  # type: ignore[attr-defined]
    return function


def _defaults_last(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """A required argument after an optional one makes that one required, too."""
    required = [each.default is inspect.Parameter.empty for each in parameters]
    return [
        each.replace(default=inspect.Parameter.empty) if any(required[position:]) else each
        for position, each in enumerate(parameters)
    ]


def _is_our_own(found: Any, model: Any, name: str) -> bool:
    """A module that is loaded again finds the functions of its earlier self."""
    ours = (getattr(found, "__agentsession_model__", None), getattr(found, "__name__", None))
    return ours == (model.__qualname__, name)
