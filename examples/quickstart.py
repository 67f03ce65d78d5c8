"""A conversation in an SQLite file, with typed input and output. Runs offline: `echo:` asks no model.

Set AGENTSESSION_CLIENT=anthropic:claude-sonnet-4-20250514 (and its API key) to ask a real one.
"""

import os
from uuid import uuid4

import peewee as pw
from pydantic import BaseModel

from agentsession import SessionActions, agent, agent_session

db = pw.SqliteDatabase("chat.db", pragmas={"journal_mode": "wal", "busy_timeout": 5000})


class About(BaseModel):
    company_name: str


class Ask(BaseModel):
    message: str


class Answer(BaseModel):
    content: str


@agent_session(context_attribute="context", status_attribute="status")
@agent(
    client=os.environ.get("AGENTSESSION_CLIENT", "echo:"),
    instruction="You are a helpful assistant for {{ company_name }}.",
    instruction_schema=About,
    input_schema=Ask,
    output_schema=Answer,
)
class ChatAgent(SessionActions[Ask, Answer], pw.Model):
    id = pw.UUIDField(primary_key=True, default=uuid4)
    context = pw.JSONField(null=True)
    status = pw.CharField(default="pending")

    class Meta:
        database = db


if __name__ == "__main__":
    with db.connection_context():
        db.create_tables([ChatAgent])

    session = ChatAgent.start_session({"message": "Hello!"}, instruction_args={"company_name": "Acme"})
    print(session.last_result.output.content)

    session.continue_session({"message": "Follow up question"})
    print(session.last_result.output.content)

    for message in ChatAgent.get_context(session.id).messages:
        print(f"{message.role:>9}: {message.text}")
