"""A chat in the browser, with Flask. Runs offline: the default client repeats what you say.

    pip install 'agentsession[flask]'
    flask --app examples/flask_chat run

AGENTSESSION_CLIENT=anthropic:claude-sonnet-4-20250514 (and its API key) asks a real model. The page is
`chat.html`.
"""

import os
import re
from pathlib import Path
from uuid import uuid4

import peewee as pw
from flask import Flask, Response, request, send_file

from agentsession import SessionActions, agent, agent_session
from agentsession.contrib.flask import session_blueprint

PAGE = Path(__file__).parent / "chat.html"
YEAR = 365 * 24 * 3600

db = pw.SqliteDatabase(
    os.environ.get("CHAT_DB", "web_chat.db"), pragmas={"journal_mode": "wal", "busy_timeout": 5000}
)


@agent_session(status_attribute="status", updated_attribute="updated", owner_attribute="visitor")
@agent(client=os.environ.get("AGENTSESSION_CLIENT", "echo:"), instruction="Answer in a few sentences.")
class Chat(SessionActions, pw.Model):
    id = pw.UUIDField(primary_key=True, default=uuid4)
    visitor = pw.CharField(max_length=32)
    context = pw.JSONField(null=True)
    status = pw.CharField(max_length=20, default="pending")
    updated = pw.DateTimeField(null=True)

    class Meta:
        database = db
        indexes = ((("visitor", "updated"), False),)


with db.connection_context():
    db.create_tables([Chat])


def whose() -> str | None:
    """Who sits at this browser: the cookie is the only proof, so nobody can guess it. Use your own login."""
    visitor = request.cookies.get("visitor", "")
    return visitor if re.fullmatch("[0-9a-f]{32}", visitor) else None


app = Flask("chat")
app.register_blueprint(session_blueprint(Chat, actor=whose, url_prefix="/chats"))


@app.get("/")
def page() -> Response:
    answer = send_file(PAGE)
    answer.set_cookie("visitor", whose() or uuid4().hex, max_age=YEAR, httponly=True, samesite="Strict")
    return answer
