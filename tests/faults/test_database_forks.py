"""A forked child uses none of the database connections that its parent has open."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

START = """
import asyncio, os, signal, sys, threading
from collections import Counter
from agentsession.provider import Reply
from tests.support.models import chat_model, texts
from tests.support.servers import open_async_database, open_database

url, children = sys.argv[1], 4

class Answering:
    def ask(self, request):
        return Reply("answer to " + request.prompt[-1].content)

def in_children(count, work):
    readings = []
    for number in range(count):
        reading, writing = os.pipe()
        if os.fork() == 0:
            signal.alarm(60)
            try:
                outcome = work(number)
            except BaseException as error:
                outcome = [type(error).__name__]
            os.write(writing, " ".join(outcome).encode())
            os._exit(0)
        os.close(writing)
        readings.append(reading)
    outcomes = Counter()
    for reading in readings:
        with open(reading) as pipe:
            outcomes.update(pipe.read().split() or ["dead"])
    return dict(outcomes)

def outcome_of(Chat, question):
    session = Chat.start_session(question)
    session.continue_session(question + "!")
    wanted = [question, "answer to " + question, question + "!", "answer to " + question + "!"]
    return "right" if texts(Chat, session.id) == wanted else "wrong"
"""

POOL = """
db = open_database(url, pool=4)
Chat = chat_model(db, provider=Answering())
outcome_of(Chat, "the parent's")
print(in_children(children, lambda number: [outcome_of(Chat, f"{number}.{nth}") for nth in range(5)]))
print(outcome_of(Chat, "the parent's again"))
"""

OPEN = """
db = open_database(url)
Chat = chat_model(db, provider=Answering())
db.connect()
Chat.select().count()
print(in_children(children, lambda number: [outcome_of(Chat, f"{number}.{nth}") for nth in range(5)]))
print(outcome_of(Chat, "the parent's again"))
"""

LOCKED = """
db = open_database(url, pool=1)
Chat = chat_model(db, provider=Answering())
outcome_of(Chat, "the parent's")
ready, done = threading.Event(), threading.Event()

def hold():
    with db.connection_context(), db._lock, db._pool_lock:
        ready.set()
        done.wait()

holder = threading.Thread(target=hold)
holder.start()
ready.wait()
print(in_children(1, lambda number: [outcome_of(Chat, "the child's")]))
done.set()
holder.join()
print(outcome_of(Chat, "the parent's again"))
"""

IN_A_BLOCK = """
db = open_database(url)
Chat = chat_model(db, provider=Answering())

def outcomes(number):
    return [outcome_of(Chat, "the child's"), str(db.is_closed())]

with db.connection_context():
    Chat.select().count()
    print(in_children(1, outcomes))
    print(outcome_of(Chat, "the parent's again"))
print(db.is_closed())
"""

ASYNCHRONOUS = """
db = open_async_database(url)
chat_model(open_database(url), provider=Answering())._meta.database.close()
Chat = chat_model(db, create=False, provider=Answering())

async def aoutcome_of(question):
    session = await Chat.astart_session(question)
    context = await Chat.aget_context(session.id)
    got = [message.text for message in context.messages]
    return "right" if got == [question, "answer to " + question] else "wrong"

print(asyncio.run(aoutcome_of("the parent's")))
print(in_children(2, lambda number: [asyncio.run(aoutcome_of(str(number)))]))
os._exit(0)
"""

MEMORY = """
db = open_database("sqlite:///:memory:")
Chat = chat_model(db, create=False, provider=Answering())
db.connect()
db.create_tables([Chat])
session = Chat.start_session("the parent's")
print(in_children(1, lambda number: [texts(Chat, session.id)[0].replace(" ", "_")]))
"""


def printed_by(program: str, database_url: str) -> str:
    """Run a program in a new process and return what it prints."""
    ran = subprocess.run(
        [sys.executable, "-c", START + program, database_url],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.matrix
@pytest.mark.layouts("document")
def test_children_do_not_share_the_pool_of_their_parent(database_url: str) -> None:
    assert printed_by(POOL, database_url) == "{'right': 20}\nright\n"


@pytest.mark.matrix
@pytest.mark.layouts("document")
def test_children_do_not_share_the_open_connection_of_their_parent(database_url: str) -> None:
    assert printed_by(OPEN, database_url) == "{'right': 20}\nright\n"


@pytest.mark.matrix
@pytest.mark.layouts("document")
def test_a_child_does_not_wait_for_locks_of_its_parents_threads(database_url: str) -> None:
    assert printed_by(LOCKED, database_url) == "{'right': 1}\nright\n"


@pytest.mark.matrix
@pytest.mark.layouts("document")
def test_the_connection_of_the_parents_block_stays_open_in_the_parent(database_url: str) -> None:
    assert printed_by(IN_A_BLOCK, database_url) == "{'right': 1, 'True': 1}\nright\nTrue\n"


@pytest.mark.matrix
@pytest.mark.layouts("document")
def test_a_child_opens_a_pool_of_an_asynchronous_database_on_its_own_loop(database_url: str) -> None:
    assert printed_by(ASYNCHRONOUS, database_url) == "right\n{'right': 2}\n"


def test_a_child_has_a_copy_of_a_database_in_memory() -> None:
    assert printed_by(MEMORY, "") == '{"the_parent\'s": 1}\n'
