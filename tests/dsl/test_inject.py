"""What the decorators put on a class, where, and that nothing of it stays when they fail."""

from __future__ import annotations

import abc
import dataclasses
import enum
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import peewee as pw
import pytest
from playhouse import signals
from pydantic import BaseModel

from agentsession import AgentActions, DslError, SessionActions, actions, agent, agent_session, info, testing
from agentsession._dsl.declare import with_actions
from agentsession.actions.mixins import GivenActions, GuardedSave
from tests.dsl.test_session_verifiers import AGENT, chat, table
from tests.support.models import Answer, Ask

pytestmark = pytest.mark.layouts("document")  # what is declared, not what is stored

T = TypeVar("T")
CALLS = {"call", "acall", "stream", "astream"}
TURNS = ("start_session", "continue_session", "resume_session")
ACTIONS = {
    *CALLS,
    *(f"{way}{name}" for name in TURNS for way in ("", "a", "stream_", "astream_")),
    *(f"{way}{name}" for name in ("cancel_session", "get_context") for way in ("", "a")),
    "approvals",
    "last_result",
    "last_turn",
}


class Nothing:
    __slots__ = ()


def plain() -> Any:
    class Plain: ...

    return Plain


def slotted() -> Any:
    class Slotted:
        __slots__ = ("name",)

    return Slotted


def frozen() -> Any:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Frozen:
        name: str = ""

    return Frozen


def boxed() -> Any:
    class Box(Generic[T]): ...

    return Box


def shape() -> Any:
    class Shape(Protocol): ...

    return Shape


def pair() -> Any:
    class Pair(NamedTuple):
        left: int

    return Pair


def sub(*bases: type) -> Callable[[], Any]:
    return lambda: type("Sub", bases, {"__module__": __name__})


CLASSES = {
    "plain": plain,
    "with a base": lambda: sub(plain())(),
    "with slots": slotted,
    "on a base with slots": lambda: sub(slotted())(),
    "on a base with empty slots": sub(Nothing),
    "frozen dataclass": frozen,
    "exception": sub(ValueError),
    "dict": sub(dict),
    "enum": lambda: enum.Enum("Color", "RED"),
    "generic": boxed,
    "protocol": shape,
    "named tuple": pair,
    "pydantic": sub(BaseModel),
    "abstract": sub(abc.ABC),
    "typed": sub(AgentActions),
    "model": table,
}


@pytest.mark.parametrize("name", CLASSES)
def test_any_class_can_be_an_agent(name: str) -> None:
    target = CLASSES[name]()
    assert AGENT(target) is target
    assert target.call("Hello").text.startswith("You said: Hello")


@pytest.mark.parametrize("name", CLASSES)
def test_a_failure_after_the_injection_leaves_the_class_as_it_was(name: str) -> None:
    target = CLASSES[name]()
    before = (target.__bases__, target.__mro__, dict(vars(target)))
    with pytest.raises(KeyError), with_actions(target, GivenActions, "agent"):
        assert callable(target.call)
        raise KeyError
    assert (target.__bases__, target.__mro__, dict(vars(target))) == before


@pytest.mark.parametrize("name", CLASSES)
def test_a_refused_declaration_leaves_the_class_as_it_was(name: str) -> None:
    target = CLASSES[name]()
    before = (target.__bases__, dict(vars(target)))
    with testing.dsl_errors():
        agent(client="wrong", instruction="{{")(target)
    assert (target.__bases__, dict(vars(target))) == before
    assert not info.is_agent(target)


@pytest.mark.parametrize("options", [{"lease": 0}, {"lease": 0, "inject": False}])
def test_a_refused_session_leaves_the_model_an_agent_and_nothing_more(options: Any) -> None:
    model = chat()
    before = (model.__bases__, dict(vars(model)))
    with testing.dsl_errors():
        agent_session(**options)(model)
    assert (model.__bases__, dict(vars(model))) == before
    assert (info.is_agent(model), info.is_session(model)) == (True, False)


def test_a_class_that_python_keeps_closed_is_refused_with_the_fix() -> None:
    with testing.dsl_errors() as problems:
        AGENT(dict)
    assert problems[0].where == "[builtins.dict] agent -> class"
    assert problems[0].fix == "class dict(AgentActions, …): add the base yourself, as the first one"
    assert not info.is_agent(dict)


def public(model: type) -> set[str]:
    return {name for name in dir(model) if not name.startswith("_")}


def test_exactly_the_actions_land_on_a_model() -> None:
    assert public(chat()) - public(table()) == CALLS
    assert public(agent_session(chat())) - public(table()) == ACTIONS


def test_without_injection_nothing_but_save_lands_on_a_model(database: Any) -> None:
    model = agent_session(inject=False)(chat(meta={"database": database}))
    assert public(model) == public(table())
    assert (model.save, model.__bases__) == (GuardedSave.save, (GuardedSave, pw.Model))
    database.create_tables([model])
    session = actions.start_session(model, "Hello")
    actions.continue_session(model, session, "More")
    assert len(actions.get_context(model, session.id).messages) == 4
    assert actions.last_result(session).text.startswith("You said: More")


def test_without_injection_a_mixin_that_the_user_wrote_stays() -> None:
    model = agent_session(inject=False)(chat(AgentActions[Ask, Answer], pw.Model))
    assert model.__bases__ == (AgentActions, GuardedSave, pw.Model)


def test_the_mixin_stands_right_before_the_model_and_behind_the_users_own() -> None:
    class Mine: ...

    assert agent_session(chat(Mine, Nothing, pw.Model)).__bases__ == (Mine, Nothing, SessionActions, pw.Model)
    assert agent_session(chat(Nothing, Generic[T], pw.Model)).__bases__[-2:] == (SessionActions, pw.Model)
    typed = agent_session(chat(AgentActions[Ask, Answer], pw.Model))
    assert typed.__bases__ == (SessionActions, AgentActions, pw.Model)
    inherited = agent_session(chat(SessionActions[Ask, Answer], pw.Model))
    assert inherited.__bases__ == (SessionActions, pw.Model)


def test_a_model_of_an_own_metaclass_can_be_a_session(database: Any) -> None:
    class Meta(pw.ModelBase, abc.ABCMeta): ...

    class Abstract(pw.Model, abc.ABC, metaclass=Meta): ...

    model = agent_session(chat(Abstract, meta={"database": database}, __slots__=("cache",)))
    database.create_tables([model])
    assert model.start_session("Hello").last_turn.status == "completed"


@pytest.mark.parametrize("only_save_dirty", [False, True])
@pytest.mark.parametrize("place", ["model", "mixin", "base"])
def test_a_save_of_the_users_own_runs_once_and_reaches_the_guard(
    database: Any, place: str, only_save_dirty: bool
) -> None:
    saved: list[str] = []

    def save(self: Any, force_insert: bool = False, only: Any = None, by: str = "nobody") -> Any:
        saved.append(by)
        self.editor = by
        return super(owner, self).save(force_insert=force_insert, only=only)

    options = {"database": database, "only_save_dirty": only_save_dirty}
    columns = {"meta": options, "editor": pw.CharField(default=""), "title": pw.CharField(default="")}
    if place == "model":
        model = owner = agent_session(chat(save=save, **columns))
    elif place == "mixin":
        owner = type("Signed", (), {"save": save})
        model = agent_session(chat(owner, pw.Model, **columns))
    else:
        owner = table(save=save, meta=options)
        model = agent_session(chat(owner, **columns))
    database.create_tables([model])
    session = model.start_session("One")
    stale = model.get_by_id(session.id)
    session.continue_session("Two")
    stale.title = "New"
    assert stale.save(by="Ada") == 1
    again = model.get_by_id(session.id)
    assert (again.title, again.editor, len(again.get_context().messages)) == ("New", "Ada", 4)
    model(title="Other").save(force_insert=True, by="Eve")
    assert saved == ["nobody", "Ada", "Eve"]


def test_a_record_built_with_an_id_writes_no_default_over_the_status(database: Any) -> None:
    meta = {"database": database, "only_save_dirty": True}
    body = {"meta": meta, "title": pw.CharField(default="")}
    model = agent_session(status_attribute="status")(chat(**body))
    database.create_tables([model])
    session = model.start_session("One")
    assert model(id=session.id, title="New").save() == 1
    again = model.get_by_id(session.id)
    assert (again.title, again.status, len(again.get_context().messages)) == ("New", "completed", 2)


def test_the_signals_of_playhouse_are_sent(database: Any) -> None:
    model = agent_session(chat(signals.Model, meta={"database": database}))
    database.create_tables([model])
    sent: list[bool] = []

    @signals.post_save(sender=model)
    def note(sender: Any, instance: Any, created: bool) -> None:
        sent.append(created)

    session = model.start_session("One")
    session.status = "mine"
    session.save()
    assert sent == [True, False]


def test_a_backref_that_lands_on_an_action_later_is_found_at_the_first_action(database: Any) -> None:
    model = agent_session(chat(meta={"database": database}))
    database.create_tables([model])
    table(session=pw.ForeignKeyField(model, backref="last_result"), meta={"database": database})
    for act in (lambda: model.start_session("Hi"), lambda: actions.resume_session(model, 1)):
        with pytest.raises(DslError, match=r"Chat.session has the backref 'last_result'"):
            act()
    assert model.select().count() == 0


def test_a_many_to_many_field_that_lands_on_an_action_later_is_found(database: Any) -> None:
    model = agent_session(chat(meta={"database": database}))

    class Tag(pw.Model):
        sessions = pw.ManyToManyField(model, backref="last_turn")

        class Meta:
            database = pw.SqliteDatabase(":memory:")

    with pytest.raises(DslError, match="a ManyToManyField between it and Tag is called 'last_turn'"):
        model.start_session("Hi")


def test_a_field_of_a_subclass_on_an_action_is_found() -> None:
    model = table(agent_session(chat()), last_turn=pw.TextField(null=True))
    with pytest.raises(DslError, match="Chat has a field 'last_turn'"):
        model.start_session("Hi")


def test_a_backref_on_save_is_found(database: Any) -> None:
    model = agent_session(chat(meta={"database": database}))
    table(session=pw.ForeignKeyField(model, backref="save"), meta={"database": database})
    with pytest.raises(DslError, match=r"Chat\.session has the backref 'save'"):
        model.start_session("Hi")


def test_without_injection_only_save_is_kept_free_of_backrefs(database: Any) -> None:
    model = agent_session(inject=False)(chat(meta={"database": database}))
    database.create_tables([model])
    table(session=pw.ForeignKeyField(model, backref="last_turn"), meta={"database": database})
    actions.start_session(model, "Hi")
    table(session=pw.ForeignKeyField(model, backref="save"), meta={"database": database})
    with pytest.raises(DslError, match=r"Chat\.session has the backref .save."):
        actions.start_session(model, "Hi")


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (pw.TextField(null=True), "'context' is a JSONField of Chat, and a TextField of Sub"),
        (None, "'context' is a JSONField of Chat, and no field of Sub"),
    ],
)
def test_a_subclass_that_changes_a_managed_field_is_found(field: Any, found: str) -> None:
    Sub = type("Sub", (agent_session(chat()),), {"__module__": __name__, "context": field})
    with pytest.raises(DslError, match=found):
        Sub.start_session("Hi")


def test_a_subclass_may_override_an_action(database: Any) -> None:
    class Loud(agent_session(chat(meta={"database": database}))):  # type: ignore[misc]
        def continue_session(self, input: str, **options: Any) -> Any:
            return super().continue_session(input.upper(), **options)

    database.create_tables([Loud])
    session = Loud.start_session("Hi")
    assert session.continue_session("more").last_result.text.startswith("You said: MORE")
