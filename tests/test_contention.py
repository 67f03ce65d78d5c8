"""I2, I3, I6: whoever meets on one session, each turn is stored once or never; who waits holds nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from agentsession import SessionBusy
from agentsession.provider import Reply
from agentsession.provider.echo import Echo
from tests import servers
from tests.models import chat_model, texts

TURNS = 25
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


@contextmanager
def processes(code: str, *arguments: Any, names: Any) -> Iterator[list[subprocess.Popen[str]]]:
    """One process for each name; they begin at the same time, when all have been imported."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    children = [
        subprocess.Popen([*command, str(name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in names
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        yield children
    finally:
        for child in children:
            child.kill()
            child.communicate()


def lines_of(children: list[subprocess.Popen[str]]) -> list[list[str]]:
    outputs = [child.communicate(timeout=120)[0].splitlines() for child in children]
    assert [child.returncode for child in children] == [0] * len(children)
    return outputs


RACER = """
import sys
from tests.slow import HOUR, Waits, a_slow_turn, by_the_clock, off_by
from tests.models import chat_model
from tests.servers import open_database
from tests.test_contention import take_turns

url, key, on_busy, name = sys.argv[1:]
session = {"on_busy": on_busy, "busy_timeout": 120}
Chat = chat_model(open_database(url, pool=1), session=session, create=False)
print("ready", flush=True)
sys.stdin.readline()
done, refused = take_turns(Chat, key, name)
print(*done, "--", *refused, sep="\\n")
"""


@pytest.mark.parametrize("on_busy", ["wait", "raise"])
def test_processes_are_served_once_or_not_at_all(database: Any, on_busy: str) -> None:
    Chat = chat_model(database)
    key = Chat.start_session("Hello").id
    names = ["one", "two", "three", "four"]
    with processes(RACER, database.url, key, on_busy, names=names) as children:
        outputs = lines_of(children)
    done = [line for output in outputs for line in output[: output.index("--")]]
    assert len(done) == 4 * TURNS or on_busy == "raise"
    assert done
    assert sum(len(output) - 1 for output in outputs) == 4 * TURNS
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
import sys
from agentsession import SessionBusy
from agentsession.provider.echo import Echo
from tests.slow import HOUR, Waits, a_slow_turn, by_the_clock, off_by
from tests.models import chat_model, open_database

class Tells(Echo):
    def ask(self, request):
        print("asked", flush=True)
        return super().ask(request)

url, on_busy, key, name = sys.argv[1:]
session = {"on_busy": on_busy, "busy_timeout": 120}
Chat = chat_model(open_database(url), session=session, create=False, provider=Tells())
Chat.get_or_none()
print("ready", flush=True)
sys.stdin.readline()
try:
    if key == "-":
        record = Chat.start_session("Hello", idempotency_key="key")
    else:
        record = Chat.continue_session(key, "Hello", idempotency_key="key")
    print(record.id, record.last_result.text)
except SessionBusy:
    print("busy")
"""


@pytest.mark.parametrize("action", ["start", "continue"])
@pytest.mark.parametrize("on_busy", ["wait", "raise"])
def test_a_key_that_is_used_in_many_processes_is_one_turn(database: Any, on_busy: str, action: str) -> None:
    Chat = chat_model(database)
    key = Chat.start_session("Before").id if action == "continue" else "-"
    with processes(KEYED, database.url, on_busy, key, names=["one", "two", "three"]) as children:
        said = [line for output in lines_of(children) for line in output]
    (record,) = Chat.select()
    replies = {line for line in said if line not in ("asked", "busy")}
    assert said.count("asked") == 1
    assert replies == {f"{record.id} {record.last_result.text}"}
    assert said.count("busy") == 0 or on_busy == "raise"
    assert texts(Chat, record).count("Hello") == 1
