"""The actions as methods of the class and of a record: inspected, copied, bound, pickled, typed."""

from __future__ import annotations

import copy
import inspect
import pickle
import pydoc
import re
import typing
from typing import Any
from uuid import uuid4

import peewee as pw
import pytest
from pydantic import BaseModel

from agentsession import SessionActions, actions, agent, agent_session, info
from agentsession._options import AGENT_NAMES, SESSION_NAMES
from agentsession.actions import cancel, continue_, one_call, resume, start
from tests.dsl.test_session_verifiers import DATABASE
from tests.support.models import Answer, Ask, open_database

pytestmark = pytest.mark.layouts("document")  # its model is declared in one layout

TWO_FORMS = ["continue_session", "resume_session", "get_context"]
BEFORE = ("", "a", "stream_", "astream_")
ON_CLASS = {"call", "acall", "stream", "astream", *(f"{way}start_session" for way in BEFORE)}
WAYS = SESSION_NAMES - ON_CLASS - {"last_result", "last_turn", "approvals"}
PREPARED: dict[str, Any] = {
    **dict.fromkeys(AGENT_NAMES, one_call._prepare),
    **{f"{way}start_session": start._prepare for way in BEFORE},
    **{f"{way}continue_session": continue_._prepare for way in BEFORE},
    **{f"{way}resume_session": resume._prepare for way in BEFORE},
    **{f"{way}cancel_session": cancel._prepare for way in ("", "a")},
}


@agent_session(status_attribute="status")
@agent(client="echo:", instruction="You help.", output_schema=Answer)
class Chat(pw.Model):
    """At module level, so that it can be pickled."""

    id = pw.UUIDField(primary_key=True, default=uuid4)
    context = pw.JSONField(null=True)
    status = pw.CharField(default="pending")

    class Meta:
        database = DATABASE


@pytest.fixture
def session(database: Any) -> Any:
    with database.bind_ctx([Chat]):
        database.create_tables([Chat])
        yield Chat.start_session("Hello")


def shape(function: Any) -> list[tuple[Any, ...]]:
    """The name, kind and default of each parameter."""
    parameters = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in parameters]


@pytest.mark.parametrize("name", sorted(WAYS))
def test_both_forms_are_methods_with_a_name_a_signature_and_docs(session: Any, name: str) -> None:
    parameters = shape(getattr(actions, name))
    of_class, of_record = getattr(Chat, name), getattr(session, name)
    assert inspect.ismethod(of_class)
    assert inspect.ismethod(of_record)
    assert shape(of_class) == parameters[1:]
    assert shape(of_record) == parameters[2:]
    for method in (of_class, of_record):
        assert method.__name__ == name
        assert "Args:" in method.__doc__


@pytest.mark.parametrize("name", sorted(ON_CLASS))
def test_a_class_method_has_the_arguments_of_its_function(name: str) -> None:
    method = getattr(Chat, name)
    assert shape(method) == shape(getattr(actions, name))[1:]
    assert inspect.iscoroutinefunction(method) == inspect.iscoroutinefunction(getattr(actions, name))
    assert "Args:" in method.__doc__


@pytest.mark.parametrize("owner", [Chat, actions])
@pytest.mark.parametrize("name", sorted(WAYS | ON_CLASS))
def test_a_docstring_describes_every_argument(owner: Any, name: str) -> None:
    function = getattr(owner, name)
    described = set(re.findall(r"^    (\w+): ", inspect.getdoc(function) or "", re.MULTILINE))
    # A method describes the session in a sentence, because a record has no such argument.
    of_record = {"session"} if owner is Chat else set()
    assert described >= set(inspect.signature(function).parameters) - of_record


@pytest.mark.parametrize("name", sorted(PREPARED))
def test_a_declaration_has_the_arguments_of_what_prepares_its_action(name: str) -> None:
    assert shape(getattr(actions, name)) == shape(PREPARED[name])


def test_help_shows_every_action() -> None:
    text = pydoc.render_doc(Chat, renderer=pydoc.plaintext)
    for name in ("call", "start_session", *TWO_FORMS):
        assert f"\n |  {name}(" in text
    for name in ("last_result", "last_turn"):
        assert f"\n |  {name}\n" in text
    assert "Store the user's next message" in text


def test_annotations_can_be_resolved() -> None:
    for name in ("call", "start_session", *TWO_FORMS):
        assert "return" in typing.get_type_hints(getattr(Chat, name))


def test_both_forms_act_on_the_same_session(session: Any) -> None:
    assert session.continue_session("More") is session
    again = Chat.continue_session(session.id, "And more")
    assert again == session
    assert len(session.get_context().messages) == len(Chat.get_context(session).messages) == 6


def test_a_record_of_an_action_can_be_copied_and_pickled(session: Any) -> None:
    copies = [copy.copy(session), copy.deepcopy(session), pickle.loads(pickle.dumps(session))]
    for number, other in enumerate(copies, 2):
        assert other == session
        assert other.last_result.output == session.last_result.output
        assert other.last_turn == session.last_turn
        assert len(other.continue_session("More").get_context().messages) == 2 * number


def test_bound_actions_and_what_they_return_can_be_pickled(session: Any) -> None:
    get_context = pickle.loads(pickle.dumps(Chat.get_context))
    of_record = pickle.loads(pickle.dumps(session.get_context))
    assert get_context(session.id) == of_record() == pickle.loads(pickle.dumps(session.get_context()))


def test_an_alias_queries_and_acts_for_its_model(session: Any) -> None:
    Other = Chat.alias("other")
    found = Other.select().where(Other.status == "completed").get()
    assert found == session
    assert type(Other.start_session("Hi")) is Chat
    assert Chat.select().count() == 2


def test_a_model_acts_on_the_database_that_it_is_bound_to(session: Any, tmp_path: Any) -> None:
    second = open_database(tmp_path / "second.db")
    with second.bind_ctx([Chat]):
        second.create_tables([Chat])
        Chat.start_session("Hi")
        assert Chat.select().count() == 1
        Chat.get_context(Chat.get().id)
    assert Chat.select().count() == 1
    assert Chat.get_context(session.id).messages[0].text == "Hello"
    second.close()


def test_an_action_can_be_stored_under_its_own_name(session: Any) -> None:
    start_session, continue_session = Chat.start_session, Chat.continue_session
    assert continue_session(start_session("Hi"), "More").last_turn.status == "completed"


class Other(BaseModel):
    n: int


In = typing.TypeVar("In")
Out = typing.TypeVar("Out")


class Shared(SessionActions[In, Answer], typing.Generic[In]): ...


class Swapped(SessionActions[In, Out], typing.Generic[Out, In]): ...


@pytest.mark.parametrize(
    ("mixin", "schemas"),
    [
        (SessionActions, (None, str)),
        (SessionActions[Ask, Answer], (Ask, Answer)),
        (SessionActions[Ask], (Ask, str)),
        (SessionActions[str, Answer], (None, Answer)),
        (SessionActions[typing.Any, typing.Any], (None, str)),
        (SessionActions[str, str], (None, str)),
        (SessionActions[Ask, list[int]], (Ask, list[int])),
        (SessionActions[Ask | Other, Answer | None], (Ask | Other, Answer | None)),
        (Shared, (None, Answer)),
        (Shared[Ask], (Ask, Answer)),
        (Swapped[Answer, Ask], (Ask, Answer)),
    ],
)
def test_type_arguments_of_the_mixin_are_the_schemas(mixin: Any, schemas: tuple[Any, Any]) -> None:
    class Base(mixin, pw.Model): ...

    class Chat(Base):
        context = pw.JSONField(null=True)

        class Meta:
            database = DATABASE

    agent_session(agent(client="echo:", instruction="You help.")(Chat))
    options = info.agent_options(Chat)
    assert (None if options.input.is_default else options.input.type, options.output.type) == schemas
