"""Options are found by the class itself, weakly and along its bases; what is asked of a model is answered."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import peewee as pw
import pytest

from agentsession import DslError, _registry, actions, agent, agent_session, info
from agentsession._dsl.drafts import AgentDraft
from agentsession.provider.protocol import Request
from tests.dsl.test_agent_verifiers import DEFAULTS, WANTED, support
from tests.dsl.test_session_verifiers import AGENT, chat, table
from tests.support.models import About, Answer, Ask, chat_model

pytestmark = pytest.mark.layouts("document")  # what is declared, not what is stored

MODULE = """
import peewee
from agentsession import agent, agent_session

@agent_session(lease={lease})
@agent(client="echo:", instruction="You help.")
class Chat(peewee.Model):
    context = peewee.JSONField(null=True)

    class Meta:
        database = peewee.SqliteDatabase({path!r}, pragmas={{"journal_mode": "wal"}})
"""


def registered() -> int:
    gc.collect()
    return len(_registry._agents) + len(_registry._sessions)


def test_info_answers_what_the_decorators_were_given(database: Any) -> None:
    Chat = chat_model(
        database,
        client=("openai:gpt-5", {"temperature": 0.7}),
        instruction="You work for {{ company_name }}.",
        instruction_schema=About,
        input_schema=Ask,
        output_schema=Answer,
    )
    assert (info.is_agent(Chat), info.is_session(Chat)) == (True, True)
    assert (info.client(Chat).id, info.client(Chat).options) == ("openai:gpt-5", {"temperature": 0.7})
    assert info.instruction(Chat) == "You work for {{ company_name }}."
    assert (info.input_schema(Chat), info.output_schema(Chat)) == (Ask, Answer)
    assert info.managed_attributes(Chat) == ("context", "status", "updated")
    assert info.qualified_name(Chat) == "tests.support.models.chat_model.<locals>.Chat"


def test_text_is_the_output_where_no_schema_is_given(Chat: Any) -> None:
    assert info.output_schema(Chat) is str
    assert "message" in info.input_schema(Chat).model_fields


@pytest.mark.parametrize("thing", [int, pw.Model, 3, None, "Chat", object()])
def test_what_was_never_declared_is_neither_agent_nor_session(thing: Any) -> None:
    assert (info.is_agent(thing), info.is_session(thing)) == (False, False)


def test_a_question_about_an_undeclared_model_names_the_decorator() -> None:
    model = table()
    with pytest.raises(DslError, match="the model has no @agent\n"):
        info.client(model)
    with pytest.raises(DslError, match="the model has no @agent_session\n"):
        info.managed_attributes(AGENT(model))


@pytest.mark.parametrize("model", [int, support(), AGENT(support()), table(), AGENT(table())])
def test_an_action_on_a_model_without_session_is_a_dsl_error(model: Any) -> None:
    for act in (
        lambda: actions.start_session(model, "Hi"),
        lambda: actions.continue_session(model, 1, "Hi"),
        lambda: actions.resume_session(model, 1),
    ):
        with pytest.raises(DslError, match="has no @agent_session"):
            act()


def test_a_subclass_keeps_the_options_and_acts_for_itself(database: Any) -> None:
    Base = agent_session(chat(meta={"database": database}))
    Sub = table(Base, meta={"table_name": "sub", "database": database}, title=pw.CharField(default=""))
    assert info.agent_options(Sub) is info.agent_options(Base)
    assert info.session_options(Sub) is info.session_options(Base)
    database.create_tables([Base, Sub])
    session = Sub.start_session("Hi", attributes={"title": "mine"})
    assert (type(session), session.title) == (Sub, "mine")
    assert (Base.select().count(), Sub.select().count()) == (0, 1)


def test_a_subclass_may_be_declared_anew(database: Any) -> None:
    Base = agent_session(chat(meta={"database": database}))
    Sub = agent(client="openai:gpt-5", instruction="You are brief.")(table(Base))
    assert (info.client(Base).id, info.client(Sub).id) == ("echo:", "openai:gpt-5")
    Own = agent_session(lease=5)(table(Base))
    assert (info.session_options(Base).lease, info.session_options(Own).lease) == (30.0, 5.0)


def test_a_decorated_abstract_base_serves_its_models(database: Any) -> None:
    Base = agent_session(chat(meta={"database": database}))
    models = [table(Base, meta={"table_name": name, "database": database}) for name in ("one", "two")]
    database.create_tables(models)
    assert [type(model.start_session("Hi")) for model in models] == models


def test_a_name_may_be_defined_again(database: Any) -> None:
    First, Second = chat_model(database), chat_model(database, create=False, client="openai:gpt-5")
    assert info.qualified_name(First) == info.qualified_name(Second)
    assert (info.client(First).id, info.client(Second).id) == ("echo:", "openai:gpt-5")
    assert Second.get_context(First.start_session("Hi").id).messages[0].text == "Hi"


def test_a_module_may_be_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    source, path = tmp_path / "reloaded_chat.py", str(tmp_path / "chat.db")
    source.write_text(MODULE.format(lease=10, path=path))
    module = importlib.import_module("reloaded_chat")
    Old = module.Chat
    Old.create_table()
    session = Old.start_session("Hi")
    source.write_text(MODULE.format(lease=20, path=path))
    New = importlib.reload(module).Chat
    assert New is not Old
    assert (info.session_options(Old).lease, info.session_options(New).lease) == (10.0, 20.0)
    assert New.continue_session(session.id, "More").last_turn.status == "completed"
    del sys.modules["reloaded_chat"]


def test_a_class_that_is_gone_leaves_nothing() -> None:
    before = registered()
    model = agent_session(chat())
    assert registered() == before + 2
    gone = weakref.ref(model)
    del model
    assert registered() == before
    assert gone() is None


def test_a_failed_import_registers_nothing() -> None:
    before, model = registered(), table()
    with pytest.raises(DslError):
        agent_session(agent(client="wrong", instruction="Hi")(model))
    with pytest.raises(DslError):
        agent_session(model)
    assert registered() == before
    assert (info.is_agent(model), info.is_session(model)) == (False, False)


def test_many_threads_may_declare_at_once() -> None:
    before, made, failed = registered(), [], []

    def declare(number: int) -> None:
        try:
            for _ in range(20):
                model = agent_session(lease=number + 1)(agent(**{**WANTED, "retries": number})(table()))
                made.append((number, model))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=declare, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert registered() == before + 2 * 160
    for number, model in made:
        assert (info.agent_options(model).retries, info.session_options(model).lease) == (number, number + 1)


def test_a_database_may_be_there_later(database: Any) -> None:
    proxy = pw.DatabaseProxy()
    model = agent_session(chat(meta={"database": proxy}))
    with pytest.raises(DslError, match=r"the model.s database is not there yet"):
        model.start_session("Hi")
    proxy.initialize(database)
    database.create_tables([model])
    assert model.start_session("Hi").last_turn.status == "completed"


SECRET = {"api_key": "sk-secret", "headers": {"Authorization": "Bearer secret"}}


def test_nothing_that_has_a_repr_shows_the_options_of_the_client(database: Any) -> None:
    Chat = chat_model(database, client=("openai:gpt-5", SECRET))
    options = info.agent_options(Chat)
    draft = AgentDraft(support(), **{**DEFAULTS, **WANTED, "client": ("openai:gpt-5", SECRET)})
    request = Request((), options.client, options.output, "auto", 1.0, 0)
    shown = [Chat, options, options.client, info.session_options(Chat), draft, draft.parsed_client, request]
    for each in shown:
        assert "secret" not in f"{each} {each!r}"
    assert "gpt-5" in repr(options)


@pytest.mark.parametrize(
    "client",
    [
        ("gpt", SECRET),
        ("openai:gpt-5", SECRET, "more"),
        ("openai:gpt-5", "sk-secret"),
        (3, SECRET),
        {"id": "openai:gpt-5", **SECRET},
        ["openai:gpt-5", SECRET],
    ],
)
def test_no_error_shows_the_options_of_a_malformed_client(client: Any) -> None:
    mistakes: dict[str, Any] = {"client": client, "api_key": "sk-secret", "timeout": 0}
    with pytest.raises(DslError) as refused:
        agent(**mistakes)(support())
    with pytest.raises(DslError) as misplaced:
        agent(client)
    with pytest.raises(DslError) as session:
        agent_session(client)
    for raised in (refused, misplaced, session):
        assert "secret" not in f"{raised.value} {raised.value!r} {raised.value.problems}"
