"""`@code_interface`: functions in the module of the class, with the signature that was asked for."""

from __future__ import annotations

import importlib
import inspect
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import peewee as pw
import pytest

from agentsession import DslError, actions, agent, agent_session, code_interface, testing
from agentsession._dsl.code_interface import ACTIONS
from agentsession.errors import Problem
from tests.dsl.test_session_verifiers import DATABASE

SOURCE = """
import peewee
from agentsession import agent, agent_session, code_interface
{before}
@code_interface({functions})
@agent_session
@agent(client="echo:", instruction="You help {{{{ company }}}}.")
class Chat(peewee.Model):
    context = peewee.JSONField(null=True)

    class Meta:
        database = peewee.SqliteDatabase({path!r}, pragmas={{"journal_mode": "wal"}})
{after}
"""
DOCUMENTED = 'start_session=["input"], continue_session=["session", "input"], get_context=["id"]'
ARGS: dict[str, Any] = {"instruction_args": {"company": "Acme"}}
Loader = Callable[..., ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loader]:
    """Writes the module `interface` with these functions, and imports it (again)."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(functions: str = DOCUMENTED, *, before: str = "", after: str = "") -> ModuleType:
        path = str(tmp_path / "chat.db")
        text = SOURCE.format(functions=functions, path=path, before=before, after=after)
        (tmp_path / "interface.py").write_text(text)
        importlib.invalidate_caches()
        loaded = sys.modules.get("interface")
        module = importlib.reload(loaded) if loaded else importlib.import_module("interface")
        module.Chat.create_table()
        return module

    yield load
    sys.modules.pop("interface", None)


def test_the_documented_functions_hold_a_conversation(load: Loader) -> None:
    module = load()
    session = module.start_session("Hello", **ARGS)
    assert isinstance(session, module.Chat)
    again = module.continue_session(session.id, {"message": "More"})
    assert again.last_result.text.startswith("You said: More")
    assert [m.role for m in module.get_context(session.id).messages] == ["user", "assistant"] * 2


def test_every_action_can_be_a_function(load: Loader) -> None:
    module = load(", ".join(f"{name}=[]" for name in ACTIONS))
    session = module.start_session(input="Hello", run=False, **ARGS)
    assert module.resume_session(session).last_turn.status == "completed"
    assert module.continue_session(session, input="More").last_turn.status == "completed"
    assert len(module.get_context(session).messages) == 4
    assert module.call(context_or_input="Hi", **ARGS).text.startswith("You said: Hi")


def test_the_signature_is_the_list_and_all_else_by_keyword(load: Loader) -> None:
    module = load()
    start, known = inspect.signature(module.start_session), inspect.signature(actions.start_session)
    assert [parameter.name for parameter in start.parameters.values() if parameter.kind == 1] == ["input"]
    assert set(start.parameters) == set(known.parameters) - {"model"}
    assert start.parameters["run"].default is True
    assert list(inspect.signature(module.continue_session).parameters)[:2] == ["session", "input"]
    assert list(inspect.signature(module.get_context).parameters) == ["id", "last", "before", "actor"]


def test_every_keyword_of_the_action_stays_available(load: Loader) -> None:
    module = load()
    session = module.start_session("Hello", run=False, client="echo:other", **ARGS)
    assert (session.last_turn.status, session.last_turn.client) == ("pending", "echo:other")
    for act in (
        lambda: module.start_session("Hello", "Acme"),
        lambda: module.start_session(),
        lambda: module.start_session("Hello", unknown=1),
        lambda: module.start_session("Hello", model=int),
        lambda: module.get_context(session=session.id),
    ):
        with pytest.raises(TypeError):
            act()


def test_the_session_may_be_called_id(load: Loader) -> None:
    module = load('start_session=["input"], continue_session=["input", "id"], get_context=["id"]')
    session = module.start_session("Hello", **ARGS)
    module.continue_session("More", session.id)
    module.continue_session(id=session.id, input="And more")
    assert len(module.get_context(id=session.id).messages) == 6


def test_the_session_comes_first_where_the_list_leaves_it_out(load: Loader) -> None:
    module = load('start_session=["input"], continue_session=["input"], resume_session=[], get_context=[]')
    for name in ("continue_session", "resume_session", "get_context"):
        assert next(iter(inspect.signature(getattr(module, name)).parameters)) == "session"
    session = module.start_session("Hello", **ARGS)
    assert len(module.get_context(module.continue_session(session, "More")).messages) == 4


def test_a_required_argument_after_an_optional_one_makes_both_required(load: Loader) -> None:
    start = load('start_session=["instruction_args", "input"]').start_session
    assert start(ARGS["instruction_args"], "Hello").last_turn.status == "completed"
    with pytest.raises(TypeError, match="input"):
        start(None)
    empty = inspect.Parameter.empty
    parameters = inspect.signature(start).parameters
    assert [parameters[name].default is empty for name in ("instruction_args", "input", "run")] == [
        True,
        True,
        False,
    ]


def test_a_function_belongs_to_its_module(load: Loader) -> None:
    start = load().start_session
    assert (start.__module__, start.__name__, start.__qualname__) == (
        "interface",
        "start_session",
        "start_session",
    )
    assert start.__doc__ == actions.start_session.__doc__
    assert pickle.loads(pickle.dumps(start)) is start


def test_a_module_with_functions_may_be_loaded_again(load: Loader) -> None:
    first = load()
    old, session = first.start_session, first.start_session("Hello", **ARGS)
    again = load('start_session=["input"], continue_session=["input"]')
    assert again is first
    assert again.start_session is not old
    assert again.continue_session(session.id, "More").last_turn.status == "completed"


@pytest.mark.parametrize(
    "before",
    ["start_session = 1", "from agentsession.actions import start_session", "def start_session(): ..."],
)
def test_a_name_of_the_module_is_never_replaced(load: Loader, before: str) -> None:
    with testing.dsl_errors() as problems:
        load(before=before)
    assert [(each.where, each.found, each.fix) for each in problems] == [
        (
            "[interface.Chat] code_interface -> start_session",
            "interface already has the name 'start_session'",
            "rename it, or leave start_session out",
        )
    ]


def test_a_second_model_of_the_module_does_not_take_the_names_of_the_first(load: Loader) -> None:
    second = 'code_interface(start_session=["input"])(type("Other", (Chat,), {"__module__": __name__}))'
    with pytest.raises(DslError, match="interface already has the name 'start_session'"):
        load(after=second)


@pytest.fixture
def standing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A session model `Chat` at the level of a module `standing` that has no functions yet."""
    monkeypatch.setitem(sys.modules, "standing", ModuleType("standing"))
    body = {"__module__": "standing", "__qualname__": "Chat", "context": pw.JSONField(null=True)}
    model = type("Chat", (pw.Model,), {**body, "Meta": type("Meta", (), {"database": DATABASE})})
    return agent_session(agent(client="echo:", instruction="You help.")(model))


def refused(model: Any, **functions: Any) -> list[Problem]:
    module = sys.modules.get(getattr(model, "__module__", ""), ModuleType("none"))
    before = dict(vars(module))
    with testing.dsl_errors() as problems:
        code_interface(**functions)(model)
    assert dict(vars(module)) == before
    assert all(problem.why and problem.fix for problem in problems)
    return problems


@pytest.mark.parametrize(
    ("functions", "found"),
    [
        ({}, "no function is named"),
        ({"start": ["input"]}, "'start' is not an action"),
        ({"start_session": "input"}, "'input' is not a list of names"),
        ({"start_session": None}, "None is not a list of names"),
        ({"start_session": [["input"]]}, "[['input']] is not a list of names"),
        ({"start_session": ["message"]}, "start_session has no argument 'message'"),
        ({"start_session": ["model", "input"]}, "start_session has no argument 'model'"),
        ({"start_session": ["id"]}, "start_session has no argument 'id'"),
        ({"continue_session": ["id", "session"]}, "an argument is named twice"),
        ({"continue_session": ["input", "input"]}, "an argument is named twice"),
    ],
)
def test_a_wrong_list_is_refused_and_nothing_is_defined(
    standing: Any, functions: dict[str, Any], found: str
) -> None:
    problems = refused(standing, **functions)
    assert [problem.found for problem in problems] == [found]
    option = next(iter(functions), "class")
    assert problems[0].where == f"[standing.Chat] code_interface -> {option}"


def test_all_problems_are_reported_together_and_nothing_is_defined(standing: Any) -> None:
    problems = refused(standing, get_context=["id"], start_session="input", start=[], call=["x"])
    assert [problem.where.split("-> ")[1] for problem in problems] == ["start_session", "start", "call"]


def test_a_class_inside_a_function_has_no_module_to_put_functions_in(Chat: Any) -> None:
    problems = refused(Chat, start_session=["input"])
    assert [problem.found for problem in problems] == ["the class is not at module level"]
    assert problems[0].fix == "start_session = Chat.start_session where you need it"


def test_a_module_that_nobody_can_import_is_refused(standing: Any) -> None:
    del sys.modules["standing"]
    problems = refused(standing, start_session=["input"])
    assert [problem.found for problem in problems] == ["the module 'standing' is not imported"]


def test_the_decorators_it_needs_stand_below_it(standing: Any) -> None:
    Plain = type("Plain", (), {"__module__": "standing", "__qualname__": "Plain"})
    problems = refused(Plain, call=[], start_session=["input"])
    assert [problem.found for problem in problems] == [
        "the model has no @agent below @code_interface",
        "the model has no @agent_session below @code_interface",
    ]
    code_interface(call=["context_or_input"])(agent(client="echo:", instruction="Hi")(Plain))
    assert sys.modules["standing"].call("Hello").text.startswith("You said: Hello")


@pytest.mark.parametrize("target", [3, "Chat", lambda: None, ("openai:gpt-5", {"api_key": "secret"})])
def test_a_value_that_is_not_a_class_is_refused(target: Any) -> None:
    problems = refused(target, start_session=["input"])
    assert "it stands on a value of type" in problems[0].found
    assert "secret" not in str(problems[0])


def test_bare_code_interface_is_refused(standing: Any) -> None:
    with pytest.raises(DslError, match="no function is named"):
        code_interface(standing)
