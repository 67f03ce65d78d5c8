"""`@code_interface`: the actions of a class as functions of its module."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from agentsession import actions, info
from agentsession._dsl.declare import apply, raise_problems, stands_on, where
from agentsession._option_rules import UNSET
from agentsession._options import AGENT_NAMES, SESSION_NAMES
from agentsession._safe_errors import take_all
from agentsession.errors import Problem

C = TypeVar("C", bound=type)

PROPERTIES = {"last_result", "last_turn"}
ACTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(actions, name) for name in actions.__all__ if name in SESSION_NAMES - PROPERTIES
}
SESSION_ARGUMENTS = ("session", "id")
"""The names that an argument list may have for the session."""


def code_interface(model: Any = UNSET, /, **functions: Sequence[str]) -> Callable[[C], C]:
    """Define actions as functions in the module of the class.

    The decorator stands above the other ones, on a class at module level. The functions are defined at
    import; a name that the module already has is refused. Type checkers do not see them: `start_session =
    ChatAgent.start_session` is the same in one typed line.

    Args:
        **functions: The name of an action, and a list of the function's positional arguments. Every other
            argument of the action is a keyword. The session is called `session` or `id`; without either in
            the list it is the first argument.

    Returns:
        A decorator, which returns the class itself.

    Raises:
        DslError: A name or an argument is wrong. The error has every problem, and nothing is defined.

    Example:
        ```python
        @code_interface(start_session=["input"], continue_session=["session", "input"], get_context=["id"])
        @agent_session
        @agent(client="echo:", instruction="You help.")
        class ChatAgent(peewee.Model):
            context = peewee.JSONField(null=True)

            class Meta:
                database = db

        callable(start_session)
        ```
    """

    def decorate(target: Any) -> Any:
        raise_problems(_problems(target, functions))
        namespace = vars(sys.modules[target.__module__])
        for name, arguments in functions.items():
            namespace[name] = _function(target, name, tuple(arguments))
        return target

    decorated: Callable[[C], C] = apply(decorate, model)
    return decorated


def _problems(model: Any, functions: dict[str, Sequence[str]]) -> Iterator[Problem]:
    if not functions or not isinstance(model, type):
        at, why = where(model, "code_interface", "class"), "each keyword defines a function"
        found = "no function is named" if not functions else stands_on(model)
        yield Problem(at, found, why, '@code_interface(start_session=["input"]) above the class')
        return
    yield from _module_problems(model)
    for name, arguments in functions.items():
        at = where(model, "code_interface", name)
        if name in ACTIONS:
            yield from _name_problems(at, model, name)
            yield from _argument_problems(at, name, arguments)
        else:
            fix = f"use one of: {', '.join(ACTIONS)}"
            yield Problem(at, f"{name!r} is not an action", "each function calls an action", fix)


def _module_problems(model: type) -> Iterator[Problem]:
    at, why = where(model, "code_interface", "class"), "the functions need a module"
    fix = f"start_session = {model.__name__}.start_session where you need it"
    if model.__qualname__ != model.__name__:
        yield Problem(at, "the class is not at module level", why, fix)
    elif model.__module__ not in sys.modules:
        yield Problem(at, f"the module {model.__module__!r} is not imported", why, fix)


def _name_problems(at: str, model: type, name: str) -> Iterator[Problem]:
    is_call = name in AGENT_NAMES
    if not (info.is_agent(model) if is_call else info.is_session(model)):
        needed = "agent" if is_call else "agent_session"
        found = f"the model has no @{needed} below @code_interface"
        yield Problem(at, found, "decorators run from the bottom up", f"put @{needed}(…) below it")
    namespace = getattr(sys.modules.get(model.__module__), "__dict__", {})
    if name in namespace and not _is_from_earlier_import(namespace[name], model, name):
        found = f"{model.__module__} already has the name {name!r}"
        yield Problem(at, found, "the function would silently replace it", f"rename it, or leave {name} out")


def _argument_problems(at: str, name: str, arguments: Any) -> Iterator[Problem]:
    known = _parameters(name)
    why, fix = "the list names the function's positional arguments", f"use: {', '.join(known)}"
    if not isinstance(arguments, (list, tuple)) or not all(isinstance(each, str) for each in arguments):
        yield Problem(at, f"{arguments!r} is not a list of names", why, fix)
        return
    positional = [_target(each, known) for each in arguments]
    unknown = [each for each in positional if each not in known]
    if unknown:
        yield Problem(at, f"{name} has no argument {unknown[0]!r}", why, fix)
    elif len(set(positional)) != len(positional):
        yield Problem(at, "an argument is named twice", "an argument can be passed only once", fix)


def _function(model: Any, name: str, arguments: tuple[str, ...]) -> Callable[..., Any]:
    action, known = ACTIONS[name], _parameters(name)
    targets = {alias: _target(alias, known) for alias in arguments}
    if "session" in known and "session" not in targets.values():
        targets = {"session": "session", **targets}
    positional = [
        known[target].replace(name=alias, kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for alias, target in targets.items()
    ]
    rest = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in known.values()
        if parameter.name not in targets.values()
    ]
    signature = inspect.Signature(_defaults_last(positional) + rest)

    def function(*args: Any, **keywords: Any) -> Any:
        try:
            bound = signature.bind(*args, **take_all(keywords)).arguments
        except TypeError as error:
            raise error.with_traceback(None)  # noqa: B904  frames of `inspect` hold the keywords
        return action(model, **{targets.get(alias, alias): bound.pop(alias) for alias in [*bound]})

    function.__name__ = function.__qualname__ = name
    function.__module__ = model.__module__
    # No editor sees a function that is made at run time. `help` and `inspect.signature` do, and they read
    # these attributes; the signature depends on the arguments of the decorator.
    function.__doc__ = action.__doc__
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__agentsession_model__ = model.__qualname__  # type: ignore[attr-defined]
    return function


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of an action without the model."""
    parameters = dict(inspect.signature(ACTIONS[name]).parameters)
    del parameters["model"]
    return parameters


def _target(alias: str, known: dict[str, inspect.Parameter]) -> str:
    """Return the action's name of an argument."""
    return "session" if alias in SESSION_ARGUMENTS and "session" in known else alias


def _defaults_last(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """Return the parameters; one before a required parameter becomes required, too."""
    required = [each.default is inspect.Parameter.empty for each in parameters]
    return [
        each.replace(default=inspect.Parameter.empty) if any(required[position:]) else each
        for position, each in enumerate(parameters)
    ]


def _is_from_earlier_import(found: Any, model: Any, name: str) -> bool:
    """Return whether an earlier import of the same module has defined the function."""
    origin = (getattr(found, "__agentsession_model__", None), getattr(found, "__name__", None))
    return origin == (model.__qualname__, name)
