"""I2, I3, I6: concurrent calls store each turn once or not at all. A waiting call holds no connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentsession import SessionBusy
from agentsession.provider import Reply
from agentsession.provider.echo import Echo
from tests.support import servers
from tests.support.models import chat_model, texts

pytestmark = pytest.mark.matrix

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

TURNS = 10
PATIENT = {"on_busy": "wait", "busy_timeout": 120}


class EchoAfterARefusal(Echo):
    """Replies only after another turn was refused, so that at least one is refused."""

    refused = threading.Event()

    def ask(self, request: Any) -> Reply:
        if request.prompt[-1].content != "Hello":
            assert self.refused.wait(60)
        return super().ask(request)


def take_turns(Chat: Any, key: Any, name: str) -> tuple[list[str], list[str]]:
    """Return the messages that got a reply, and those that were refused."""
    done, refused = [], []
    for number in range(TURNS):
        words = f"{name} {number}"
        try:
            reply = Chat.continue_session(key, words).last_result.text
        except SessionBusy:
            EchoAfterARefusal.refused.set()
            refused.append(words)
            continue
        assert reply.startswith(f"You said: {words} (")
        done.append(words)
    return done, refused


def each_is_stored_once_with_its_reply(Chat: Any, key: Any, done: list[str]) -> bool:
    """The echo counts the messages of its prompt, so each turn has seen all earlier ones."""
    messages = Chat.get_context(key).messages[2:]
    assert [message.role for message in messages] == ["user", "assistant"] * len(done)
    assert sorted(message.text for message in messages[::2]) == sorted(done)
    for number, (asked, reply) in enumerate(zip(messages[::2], messages[1::2], strict=True), start=2):
        assert reply.text == f"You said: {asked.text} (message {number} of this conversation)"
        assert reply.turn == asked.turn
    return True


def take_turns_in_threads(Chat: Any, key: Any) -> tuple[list[str], list[str]]:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: take_turns(Chat, key, f"thread {name}"), range(8)))
    done, refused = ([words for each in found for words in each[which]] for which in (0, 1))
    return done, refused


def test_each_turn_of_waiting_threads_is_stored_once(database_url: str) -> None:
    Chat = chat_model(servers.open_database(database_url, pool=8), session=PATIENT)
    key = Chat.start_session("Hello").id
    done, refused = take_turns_in_threads(Chat, key)
    assert (len(done), refused) == (8 * TURNS, [])
    assert each_is_stored_once_with_its_reply(Chat, key, done)


def test_each_turn_of_threads_that_do_not_wait_is_stored_once_or_refused(database_url: str) -> None:
    EchoAfterARefusal.refused.clear()
    Chat = chat_model(servers.open_database(database_url, pool=8), provider=EchoAfterARefusal())
    key = Chat.start_session("Hello").id
    done, refused = take_turns_in_threads(Chat, key)
    assert done
    assert refused
    assert len(done) + len(refused) == 8 * TURNS
    assert each_is_stored_once_with_its_reply(Chat, key, done)


FORKS = """
import json, os, random, signal, sys, traceback
from agentsession import SessionBusy
from agentsession.provider.echo import Echo
from tests.support.models import chat_model
from tests.support.servers import open_database
from tests.concurrency.test_contention import take_turns

def print_lines(*lines):
    os.write(1, "".join(f"{line}\\n" for line in lines).encode())  # one system call, so that no lines mix

def run(code, arguments, name, beginning):
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(120)
    random.seed(name)
    try:
        exec(code, globals() | {"arguments": arguments, "name": name, "wait": lambda: beginning.read()})
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        print_lines("failed")
        os._exit(1)

for line in sys.stdin:
    code, arguments, names = json.loads(line)
    beginning, begin = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), "rw"))
    for name in names:
        if not os.fork():
            begin.close()
            run(code, arguments, name, beginning)
    sys.stdin.readline()
    begin.close()
    beginning.close()
    print_lines(f"ended {[os.wait()[1] for _ in names]}")
"""


class ForkingProcess:
    """A process whose forked children run code without importing anything. After an error it is replaced."""

    process: subprocess.Popen[str] | None = None

    def lines_of(self, code: str, *arguments: Any, names: list[str]) -> list[str]:
        """Return the lines of one child for each name. The children start together when all are ready."""
        pipe = subprocess.PIPE
        if self.process is None:
            self.process = subprocess.Popen([sys.executable, "-c", FORKS], stdin=pipe, stdout=pipe, text=True)
        try:
            return self.talk(self.process, json.dumps([code, [*map(str, arguments)], names]), len(names))
        except BaseException:
            self.end()
            raise

    def talk(self, process: Any, request: str, count: int) -> list[str]:
        print(request, file=process.stdin, flush=True)
        assert [process.stdout.readline() for _ in range(count)] == ["ready\n"] * count
        print("go", file=process.stdin, flush=True)
        lines: list[str] = []
        while not (lines and lines[-1].startswith("ended ")):
            lines += [process.stdout.readline().removesuffix("\n")]
            assert lines[-1], "the process has ended"
        assert lines.pop() == f"ended {[0] * count}"
        return lines

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkingProcess]:
    forks = ForkingProcess()
    yield forks
    forks.end()


RACER = """
url, key, on_busy = arguments
session = {"on_busy": on_busy, "busy_timeout": 120}
Chat = chat_model(open_database(url, pool=1), session=session, create=False)
print_lines("ready")
wait()
done, refused = take_turns(Chat, key, name)
print_lines(*[f"done {words}" for words in done], *[f"refused {words}" for words in refused])
"""


@needs_fork
@pytest.mark.parametrize("on_busy", ["wait", "raise"])
def test_each_turn_of_concurrent_processes_is_stored_once_or_refused(
    database: Any, forks: ForkingProcess, on_busy: str
) -> None:
    Chat = chat_model(database)
    key = Chat.start_session("Hello").id
    names = ["one", "two", "three", "four"]
    lines = forks.lines_of(RACER, database.url, key, on_busy, names=names)
    done = [line.removeprefix("done ") for line in lines if line.startswith("done ")]
    assert len(done) == 4 * TURNS or on_busy == "raise"
    assert done
    refused = [line for line in lines if line.startswith("refused ")]
    assert len(lines) == len(done) + len(refused) == 4 * TURNS
    assert each_is_stored_once_with_its_reply(Chat, key, done)


def test_turns_whose_models_are_slow_share_one_connection(database_url: str) -> None:
    database = servers.open_database(database_url, pool=1)
    connections_in_use: list[int] = []
    together = threading.Barrier(20, action=lambda: connections_in_use.append(len(database._in_use)))

    class Slow(Echo):
        def ask(self, request: Any) -> Reply:
            if request.prompt[-1].content == "slow":
                together.wait(60)
            return super().ask(request)

    Chat = chat_model(database, provider=Slow())
    keys = [Chat.start_session("Hello").id for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda key: Chat.continue_session(key, "slow").last_result.text, keys))
    assert len(done) == 20
    assert all(text.startswith("You said: slow (") for text in done)
    assert connections_in_use == [0]
    assert len(database._in_use) == 0


KEYED = """
class AnnouncingEcho(Echo):
    def ask(self, request):
        print_lines("asked")
        return super().ask(request)

url, on_busy, key = arguments
session = {"on_busy": on_busy, "busy_timeout": 120}
Chat = chat_model(open_database(url), session=session, create=False, provider=AnnouncingEcho())
Chat.get_or_none()
print_lines("ready")
wait()
try:
    if key == "-":
        record = Chat.start_session("Hello", idempotency_key="key")
    else:
        record = Chat.continue_session(key, "Hello", idempotency_key="key")
    print_lines(f"{record.id} {record.last_result.text}")
except SessionBusy:
    print_lines("busy")
"""


@needs_fork
@pytest.mark.parametrize("action", ["start", "continue"])
@pytest.mark.parametrize("on_busy", ["wait", "raise"])
def test_a_key_used_in_many_processes_starts_one_turn(
    database: Any, forks: ForkingProcess, on_busy: str, action: str
) -> None:
    Chat = chat_model(database)
    key = Chat.start_session("Before").id if action == "continue" else "-"
    lines = forks.lines_of(KEYED, database.url, on_busy, key, names=["one", "two", "three"])
    (record,) = Chat.select()
    replies = {line for line in lines if line not in ("asked", "busy")}
    assert lines.count("asked") == 1
    assert replies == {f"{record.id} {record.last_result.text}"}
    assert lines.count("busy") == 0 or on_busy == "raise"
    assert texts(Chat, record).count("Hello") == 1
