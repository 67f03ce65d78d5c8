"""A web process stores what its users say, workers answer it. Each may be killed at any moment.

    python examples/worker.py                             shows both, and kills a worker
    python examples/worker.py web "Hello!"                begins a conversation, and prints its id
    python examples/worker.py web "And on Sundays?" --session 7b4f…
    python examples/worker.py worker                      answers until it is told to stop; start several

DATABASE_URL is an SQLite file by default; postgresql://… and mysql://…?mariadb=true will do, too. The default
client echoes; AGENTSESSION_CLIENT=anthropic:claude-sonnet-4-20250514 (and its API key) asks a real model.

A worker that is killed leaves the session's status as one of these:

    pending      it had not begun: the next worker does
    running      it had begun: nobody extends its lease, which runs out, and the turn is free
    failed       the model had failed, and the error is stored: it is asked again, after a pause
    completed    the reply was stored in the same statement

The model may be asked twice, but no turn gets two replies: whose lease has run out cannot write.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import peewee as pw
from playhouse.db_url import connect

from agentsession import (
    AgentSessionError,
    LeaseLost,
    NothingToResume,
    SessionActions,
    SessionBusy,
    agent,
    agent_session,
    warm_up,
)

URL = os.environ.get("DATABASE_URL", "sqlite:///worker.db")
SQLITE: dict[str, Any] = {"pragmas": {"journal_mode": "wal", "busy_timeout": 5000}}
LEASE = float(os.environ.get("WORKER_LEASE", "30"))  # seconds after which a killed worker's turn is free
TRIES = 5  # after which a turn is given up: it may be what kills the workers

db = connect(URL, **SQLITE if URL.startswith("sqlite") else {})


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


@agent_session(status_attribute="status", lease=LEASE)
@agent(client=os.environ.get("AGENTSESSION_CLIENT", "echo:"), instruction="Answer in one sentence.")
class Chat(SessionActions, pw.Model):
    id = pw.UUIDField(primary_key=True, default=uuid4)
    context = pw.JSONField(null=True)
    status = pw.CharField(max_length=20, default="pending", index=True)
    tries = pw.IntegerField(default=0)  # of the latest turn
    due = pw.DateTimeField(default=now)  # when it may be tried next

    class Meta:
        database = db
        table_name = "worker_chat"


WAITING = Chat.status.in_(["pending", "running", "failed"]) & (Chat.tries < TRIES)


def say(words: str, key: str, session: Any = None) -> Chat:
    """Store a message, once for each key: a request that got no answer is repeated with the same.

    Raises `SessionBusy` while the message before it waits for its reply, even if the worker is dead:
    `continue_session` alone would close that turn, unanswered, and go on.
    """
    if session is None:
        return Chat.start_session(words, idempotency_key=key, run=False)
    if Chat.get_context(session).opening(key) is not None:
        return Chat.get_by_id(session)
    with db.atomic():  # begins with a write, which locks the row on every database
        new_turn = Chat.update(tries=0, due=now()).where(Chat.id == session, ~WAITING)
        if not new_turn.execute():
            raise SessionBusy("the message before this one has not been answered yet")
        return Chat.continue_session(session, words, idempotency_key=key, run=False)


def take() -> Chat | None:
    """The turn that has waited longest. The try is counted, and the next one put off, before it begins."""
    due = Chat.select().where(WAITING, Chat.due <= now()).order_by(Chat.due).limit(100)
    for chat in list(due):  # read to its end, since SQLite refuses a write in the middle
        if chat.last_turn.status == "running":
            continue  # its worker lives, and the model takes its time
        pause = timedelta(seconds=LEASE * 2**chat.tries)
        mine = Chat.update(tries=chat.tries + 1, due=now() + pause)
        if mine.where(Chat.id == chat.id, Chat.tries == chat.tries).execute():
            return chat
    return None


def answer(chat: Chat) -> None:
    try:
        chat.resume_session()
    except (SessionBusy, NothingToResume, LeaseLost):
        return  # another worker has it, or had it
    except AgentSessionError as error:
        print(f"{chat.id} not answered: {error}", flush=True)  # until the next try
    else:
        print(f"{chat.id} answered: {chat.last_result.text}", flush=True)


def work() -> None:
    """Answer until SIGTERM or Ctrl-C, after which the turn in hand is answered still."""
    stop = False

    def end(sign: int, _: Any) -> None:
        nonlocal stop
        stop = True
        signal.signal(sign, signal.SIG_DFL)  # the second one kills

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    warm_up(Chat)
    while not stop:
        with db.connection_context():
            chat = take()
        if chat is None:
            time.sleep(0.2)
        else:
            answer(chat)  # no connection is held while the model is asked


def show() -> None:
    """A conversation with two workers, one of which is killed."""
    workers = [subprocess.Popen([sys.executable, __file__, "worker"]) for _ in range(2)]
    try:
        session = None
        for words in ("Hello!", "Are you open?", "And on Sundays?"):
            session = say(words, uuid4().hex, session).id
            print(f"{session} said: {words}", flush=True)
            while workers[1].poll() is None and Chat.get_by_id(session).status in ("pending", "running"):
                time.sleep(0.05)
            workers[0].kill()
    finally:
        workers[1].terminate()
        for worker in workers:
            worker.wait()
    for message in Chat.get_context(session).messages:
        print(f"{message.role:>9}: {message.text}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command")
    web = commands.add_parser("web", help="store a message")
    web.add_argument("words")
    web.add_argument("--session", help="the conversation that it continues")
    web.add_argument("--key", default=uuid4().hex, help="the same for a request that is repeated")
    commands.add_parser("worker", help="answer what is stored")
    given = parser.parse_args()
    with db.connection_context():
        db.create_tables([Chat])
        if given.command == "web":
            try:
                print(say(given.words, given.key, given.session).id)
            except SessionBusy as busy:
                sys.exit(str(busy))
        elif given.command is None:
            show()
    if given.command == "worker":
        work()
