"""One process of the demo: opens the database, runs one action, says what happened as a line of JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any
from uuid import uuid4

import peewee

from agentsession import AgentSessionError, SessionActions, agent, agent_session, warm_up
from agentsession.provider import Reply, Request

LEASE = 2.0
"""Seconds: short, so that the demo need not wait long for a killed process."""

CLIENT = os.environ.get("AGENTSESSION_CLIENT", "echo:")
COMPANY = "Acme"


def declare(path: str, provider: Any = None) -> Any:
    """The demo's model, on the SQLite file of this path."""
    pragmas = {"journal_mode": "wal", "busy_timeout": 5000}
    connection = peewee.SqliteDatabase(path, pragmas=pragmas)

    @agent_session(status_attribute="status", lease=LEASE)
    @agent(
        client=CLIENT,
        instruction="You are the assistant of {{ company_name }}. Answer in one sentence.",
        provider=provider,
    )
    class DemoAgent(SessionActions, peewee.Model):
        id = peewee.UUIDField(primary_key=True, default=uuid4)
        context = peewee.JSONField(null=True)
        status = peewee.CharField(default="pending")

        class Meta:
            database = connection

    connection.create_tables([DemoAgent])
    connection.close()
    return DemoAgent


class NeverAnswers:
    """A model that never replies, so that the process is killed while it waits."""

    def ask(self, request: Request) -> Reply:
        say(asked=request.prompt[-1].content)
        time.sleep(60)
        return Reply("too late")


def run(path: str, action: str, session: str, words: str) -> None:
    model = declare(path, NeverAnswers() if action == "killed" else None)
    warm_up(model)
    began = time.perf_counter()
    if action == "start":
        record = model.start_session(words, instruction_args={"company_name": COMPANY})
    elif action == "resume":
        record = model.resume_session(session)
    else:
        record = model.continue_session(session, words)
    say(id=str(record.id), said=record.last_result.text, seconds=time.perf_counter() - began)


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    try:
        run(*sys.argv[1:])
    except AgentSessionError as error:
        say(error=str(error))
        sys.exit(1)
