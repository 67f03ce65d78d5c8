"""A chat in the browser, with FastAPI. Runs offline: the default client repeats what you say.

    pip install 'agentsession[fastapi]' uvicorn
    uvicorn --app-dir examples fastapi_chat:app

AGENTSESSION_CLIENT=anthropic:claude-sonnet-4-20250514 (and its API key) asks a real model. The page is
`chat.html`; /docs describes the routes that it uses.
"""

import os
import re
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import peewee as pw
from fastapi import Cookie, Depends, FastAPI
from fastapi.responses import FileResponse

from agentsession import SessionActions, agent, agent_session
from agentsession.contrib.fastapi import session_router

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


def whose(visitor: Annotated[str | None, Cookie()] = None) -> str | None:
    """Who sits at this browser: the cookie is the only proof, so nobody can guess it. Use your own login."""
    return visitor if visitor and re.fullmatch("[0-9a-f]{32}", visitor) else None


app = FastAPI(title="Chat")
app.include_router(session_router(Chat, actor=whose), prefix="/chats")


@app.get("/", include_in_schema=False)
def page(visitor: Annotated[str | None, Depends(whose)]) -> FileResponse:
    answer = FileResponse(PAGE)
    answer.set_cookie("visitor", visitor or uuid4().hex, max_age=YEAR, httponly=True, samesite="strict")
    return answer
