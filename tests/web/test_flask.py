"""What Flask alone does: the app's own connection, its session, the end of a response."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import flask
import peewee as pw
import pytest

from agentsession import InputInvalid
from agentsession.actions import release_connection
from agentsession.contrib.flask import session_blueprint
from agentsession.provider import Reply
from tests.support import servers
from tests.support.async_databases import run
from tests.support.models import chat_model
from tests.support.web_clients import Trickle, flask_app, flask_user, flask_web, owned_chat, wsgi_web

pytestmark = pytest.mark.layouts("document")  # test_web.py calls the routes in both

sqlite = pytest.mark.backends("sqlite")


class Looks:
    """A model that sees whether the thread that asks it has a connection open."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.seen: list[Any] = []

    def ask(self, request: Any) -> Reply:
        self.seen.append(not self.database.is_closed())
        return Reply("yes")


def test_a_connection_that_the_app_opened_is_not_held_while_the_model_is_asked(database_url: str) -> None:
    """As Peewee's documentation has it for Flask: a connection for each request."""
    database = servers.open_database(database_url, pool=1)
    model = Looks(database)
    Chat = owned_chat(database, provider=model)
    app = flask_app(Chat)
    app.before_request(lambda: database.connect() and None)
    app.teardown_request(lambda _: database.is_closed() or database.close())
    web = wsgi_web(app)
    key = web.begin()
    assert web("POST", f"/{key}/messages", {"message": "More"}).status == 200
    assert web("POST", f"/{key}/messages/stream", {"message": "More"}).events[-1][0] == "turn_finished"
    assert model.seen[:2] == [False, False]
    assert database.is_closed()
    assert len(database._in_use) == 0
    database.close_all()


@sqlite
def test_a_connection_is_the_apps_again_inside_its_own_block(database: Any) -> None:
    Chat = owned_chat(database, provider=Looks(database))
    web = flask_web(Chat)
    with database.connection_context():
        key = web.begin()
        assert Chat.get_by_id(key).status == "completed"
    assert database.is_closed()


class Counts:
    """As a provider or as hooks: it uses the database."""

    def ask(self, request: Any) -> Reply:
        self.count()
        return Reply("yes")

    def before_call(self, *_: Any) -> None:
        self.count()


@sqlite
@pytest.mark.parametrize("part", ["provider", "hooks"])
def test_a_connection_is_the_apps_again_whatever_its_functions_open(database: Any, part: str) -> None:
    counts: Any = Counts()
    Chat = owned_chat(database, **{part: counts})
    counts.count = Chat.select().count
    web = flask_web(Chat)
    with database.connection_context():
        key = web.begin()
        assert Chat.get_by_id(key).status == "completed"
    assert database.is_closed()


@sqlite
def test_a_connection_that_cannot_be_opened_again_is_told(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Chat = owned_chat(database)
    with pytest.raises(pw.OperationalError, match="unable to open"):
        with database.connection_context(), release_connection(Chat):
            monkeypatch.setattr(database, "database", "/no/such/folder/chat.db")
    monkeypatch.undo()
    assert Chat.select().count() == 0


@sqlite
def test_a_transaction_around_a_request_is_refused_and_stays_whole(database: Any) -> None:
    web = flask_web(owned_chat(database))
    with database.atomic(), pytest.raises(Exception, match="transaction"):
        web.begin()
    assert web("GET", "/").json["sessions"] == []


@sqlite
def test_the_actor_is_in_flasks_session(database: Any) -> None:
    Chat = owned_chat(database)
    app = flask_app(Chat, actor=lambda: flask.session.get("user"))
    app.secret_key = "not one"
    app.add_url_rule(
        "/login/<user>", view_func=lambda user: flask.session.update(user=user) or "", endpoint="login"
    )
    client = app.test_client()
    assert client.post("/chats/", json={"message": "Hello"}).status_code == 401
    client.get("/login/ann")
    assert client.post("/chats/", json={"message": "Hello"}).status_code == 201
    assert Chat.get().owner == "ann"


@sqlite
def test_two_models_have_blueprints_in_one_app(database: Any) -> None:
    app = flask.Flask("chat")
    Chat = owned_chat(database)
    for name in ("one", "two"):
        app.register_blueprint(session_blueprint(Chat, actor=flask_user, name=name, url_prefix=f"/{name}"))
    assert wsgi_web(app, "/one").begin() != wsgi_web(app, "/two").begin()


@sqlite
def test_a_stream_that_is_never_read_ends_with_its_response(database: Any) -> None:
    Chat = owned_chat(database, provider=Trickle("one "))
    answer = (
        flask_app(Chat)
        .test_client()
        .post("/chats/stream", json={"message": "Hello"}, headers={"X-User": "ann"})
    )
    assert Chat.get().status == "running"
    answer.close()
    assert Chat.get().status == "interrupted"


def test_an_asynchronous_database_is_refused_in_words(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        Chat = await db.run(chat_model, db)
        web = flask_web(Chat, actor=None)
        for method, path, body in [
            ("POST", "/", {"message": "x"}),
            ("GET", "/", None),
            ("DELETE", "/x", None),
        ]:
            with pytest.raises(InputInvalid, match="asynchronous database"):
                web(method, path, body)

    run(database_url, scenario)


def test_without_the_extra_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['flask'] = None; import agentsession.contrib.flask"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        "ImportError: agentsession.contrib.flask needs Flask: pip install 'agentsession[flask]'"
        in found.stderr
    )
