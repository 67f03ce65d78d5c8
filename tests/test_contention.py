"""I2, I3, I6: whoever meets on one session, each turn is stored once or never; who waits holds nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentsession import SessionBusy
from agentsession.provider import Reply
from agentsession.provider.echo import Echo
from tests import servers
from tests.models import chat_model, texts

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

TURNS = 15
PATIENT = {"on_busy": "wait", "busy_timeout": 120}


class EchoOnceSomeoneIsRefused(Echo):
    """Its first answer comes when another turn was refused, so that at least one is."""

    refused = threading.Event()

    def ask(self, request: Any) -> Reply:
        if request.view[-1].content != "Hello":
            assert self.refused.wait(60)
        return super().ask(request)


def take_turns(Chat: Any, key: Any, name: str) -> tuple[list[str], list[str]]:
    """The words that were answered, and those that were refused."""
    done, refused = [], []
    for number in range(TURNS):
        words = f"{name} {number}"
        try:
            said = Chat.continue_session(key, words).last_result.text
        except SessionBusy:
            EchoOnceSomeoneIsRefused.refused.set()
            refused.append(words)
            continue
        assert said.startswith(f"You said: {words} (")
        done.append(words)
    return done, refused


def each_is_there_once_with_its_reply(Chat: Any, key: Any, done: list[str]) -> bool:
    """The echo counts what it was shown: each turn has seen all that came before it."""
    messages = Chat.get_context(key).messages[2:]
    assert [message.role for message in messages] == ["user", "assistant"] * len(done)
    assert sorted(message.text for message in messages[::2]) == sorted(done)
    for number, (asked, reply) in enumerate(zip(messages[::2], messages[1::2], strict=True), start=2):
        assert reply.text == f"You said: {asked.text} (message {number} of this conversation)"
        assert reply.turn == asked.turn
    return True


def by_threads(Chat: Any, key: Any) -> tuple[list[str], list[str]]:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: take_turns(Chat, key, f"thread {name}"), range(8)))
    done, refused = ([words for each in found for words in each[which]] for which in (0, 1))
    return done, refused


def test_threads_that_wait_are_all_served_once(database_url: str) -> None:
    Chat = chat_model(servers.open_database(database_url, pool=8), session=PATIENT)
    key = Chat.start_session("Hello").id
    done, refused = by_threads(Chat, key)
    assert (len(done), refused) == (8 * TURNS, [])
    assert each_is_there_once_with_its_reply(Chat, key, done)


def test_threads_that_do_not_wait_are_served_once_or_not_at_all(database_url: str) -> None:
    EchoOnceSomeoneIsRefused.refused.clear()
    Chat = chat_model(servers.open_database(database_url, pool=8), provider=EchoOnceSomeoneIsRefused())
    key = Chat.start_session("Hello").id
    done, refused = by_threads(Chat, key)
    assert done
    assert refused
    assert len(done) + len(refused) == 8 * TURNS
    assert each_is_there_once_with_its_reply(Chat, key, done)


FORKS = """
import os, random, sys
from agentsession import SessionBusy
from agentsession.provider.echo import Echo
from tests.models import chat_model
from tests.servers import open_database
from tests.test_contention import take_turns

names = sys.argv.pop().split()
for name in names:
    if not os.fork():
        break
else:
    sys.exit(any([os.wait()[1] for _ in names]))
random.seed(name)

def tell(*lines):
    os.write(1, "".join(f"{line}\\n" for line in lines).encode())  # at once, so that no lines mix
"""


def lines_of(code: str, *arguments: Any, names: list[str]) -> list[str]:
    """What is said by one process for each name; they begin at the same time, when all are ready."""
    command = [sys.executable, "-c", FORKS + code, *map(str, arguments), " ".join(names)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as forks:
        try:
            assert forks.stdout is not None
            assert [forks.stdout.readline() for _ in names] == ["ready\n"] * len(names)
            lines = forks.communicate(timeout=120)[0].splitlines()  # the end of its input lets them begin
        finally:
            if forks.returncode is None:
                os.killpg(forks.pid, signal.SIGKILL)
    assert forks.returncode == 0
    return lines


RACER = """
url, key, on_busy = sys.argv[1:]
session = {"on_busy": on_busy, "busy_timeout": 120}
Chat = chat_model(open_database(url, pool=1), session=session, create=False)
tell("ready")
sys.stdin.readline()
done, refused = take_turns(Chat, key, name)
tell(*[f"done {words}" for words in done], *[f"refused {words}" for words in refused])
"""


@needs_fork
@pytest.mark.parametrize("on_busy", ["wait", "raise"])
def test_processes_are_served_once_or_not_at_all(database: Any, on_busy: str) -> None:
    Chat = chat_model(database)
    key = Chat.start_session("Hello").id
    names = ["one", "two", "three", "four"]
    lines = lines_of(RACER, database.url, key, on_busy, names=names)
    done = [line.removeprefix("done ") for line in lines if line.startswith("done ")]
    assert len(done) == 4 * TURNS or on_busy == "raise"
    assert done
    refused = [line for line in lines if line.startswith("refused ")]
    assert len(lines) == len(done) + len(refused) == 4 * TURNS
    assert each_is_there_once_with_its_reply(Chat, key, done)


def test_turns_whose_models_are_slow_share_one_connection(database_url: str) -> None:
    database = servers.open_database(database_url, pool=1)
    held: list[int] = []
    together = threading.Barrier(20, action=lambda: held.append(len(database._in_use)))

    class Slow(Echo):
        def ask(self, request: Any) -> Reply:
            if request.view[-1].content == "slow":
                together.wait(60)
            return super().ask(request)

    Chat = chat_model(database, provider=Slow())
    keys = [Chat.start_session("Hello").id for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda key: Chat.continue_session(key, "slow").last_result.text, keys))
    assert len(done) == 20
    assert all(text.startswith("You said: slow (") for text in done)
    assert held == [0]
    assert len(database._in_use) == 0


KEYED = """
class Tells(Echo):
    def ask(self, request):
        tell("asked")
        return super().ask(request)

url, on_busy, key = sys.argv[1:]
session = {"on_busy": on_busy, "busy_timeout": 120}
Chat = chat_model(open_database(url), session=session, create=False, provider=Tells())
Chat.get_or_none()
tell("ready")
sys.stdin.readline()
try:
    if key == "-":
        record = Chat.start_session("Hello", idempotency_key="key")
    else:
        record = Chat.continue_session(key, "Hello", idempotency_key="key")
    tell(f"{record.id} {record.last_result.text}")
except SessionBusy:
    tell("busy")
"""


@needs_fork
@pytest.mark.parametrize("action", ["start", "continue"])
@pytest.mark.parametrize("on_busy", ["wait", "raise"])
def test_a_key_that_is_used_in_many_processes_is_one_turn(database: Any, on_busy: str, action: str) -> None:
    Chat = chat_model(database)
    key = Chat.start_session("Before").id if action == "continue" else "-"
    said = lines_of(KEYED, database.url, on_busy, key, names=["one", "two", "three"])
    (record,) = Chat.select()
    replies = {line for line in said if line not in ("asked", "busy")}
    assert said.count("asked") == 1
    assert replies == {f"{record.id} {record.last_result.text}"}
    assert said.count("busy") == 0 or on_busy == "raise"
    assert texts(Chat, record).count("Hello") == 1
