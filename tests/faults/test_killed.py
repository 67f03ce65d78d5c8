"""I4, I5: a process killed at any moment loses nothing; one that was stopped and overtaken writes nothing."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from agentsession import LeaseLost, NothingToResume, testing
from agentsession._drive import heartbeat
from agentsession.provider import Reply
from agentsession.provider.echo import Echo
from tests.support import servers
from tests.support.models import chat_model, stored, texts

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, SIGKILL and SIGSTOP"),
]

KILLS = {"sqlite": 14, "postgres": 12, "mariadb": 12}
"""On each database and layout: 52 in all, each at another moment."""

AT_ONCE = 3
WAITING = {"lease": 0.1, "on_busy": "wait", "busy_timeout": 120}


def model_of(url: str, provider: Any = None, **session: Any) -> Any:
    """The model in a process of its own."""
    database = servers.open_database(url, pool=2)
    if servers.backend_of(url) == "sqlite":
        database.connect_params["check_same_thread"] = False
    return chat_model(database, provider=provider, session=WAITING | session, create=False)


def tell(line: str) -> None:
    """In one write, so that the lines of several processes do not mix."""
    os.write(1, f"{line}\n".encode())


class Tells(Echo):
    """Says what it is asked, and takes a moment in which it can be killed; some outlast a beat."""

    def ask(self, request: Any) -> Reply:
        tell(f"asked {request.prompt[-1].content}")
        time.sleep(random.choice([0.001, 0.003, 0.05]))
        return super().ask(request)


def nursery(url: str, key: str) -> None:
    """Has imported everything; a child is forked, or buried, for each line that it reads."""
    tell("ready")
    for line in sys.stdin:
        if line == "child\n":
            if os.fork() == 0:
                talk(url, key)
                os._exit(0)
        else:
            os.waitpid(int(line), 0)
            tell(f"ended {line.strip()}")


def talk(url: str, key: str) -> None:
    """One turn after the other, until the process is killed (or its test is gone)."""
    name, parent, number = os.getpid(), os.getppid(), 0
    random.seed(name)
    Chat = model_of(url, Tells())
    tell(f"born {name}")
    while os.getppid() == parent:
        number += 1
        words = f"{name}-{number}"
        try:
            Chat.continue_session(key, words)
            tell(f"answered {words}")
        except LeaseLost:
            tell(f"overtaken {words}")
        except Exception as error:
            tell(f"broken {words} {type(error).__name__} {' '.join(str(error).split())}")


class Child:
    """A process, what it and its own children have told, and what it is told."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.told: dict[str, list[str]] = {}
        self.unread = b""

    def write(self, line: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def until(self, wanted: str, text: str = "") -> str:
        """Read what is told up to such a line; the rest of that line."""
        while True:
            what, _, rest = self._line().partition(" ")
            self.told.setdefault(what, []).append(rest)
            if what == wanted and rest.startswith(text):
                return rest

    def _line(self) -> str:
        assert self.process.stdout is not None
        while b"\n" not in self.unread:
            assert select.select([self.process.stdout], [], [], 60)[0], f"nothing came after {self.told}"
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, f"the process ended after {self.told}"
            self.unread += more
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode()

    def bear(self) -> int:
        self.write("child")
        return int(self.until("born"))

    def kill(self, child: int) -> None:
        """When it returns, the child is gone and all that it told was read."""
        os.kill(child, signal.SIGKILL)
        self.write(child)
        self.until("ended", str(child))


@contextmanager
def a_process(task: Callable[..., None], *arguments: Any) -> Iterator[Child]:
    """A process that does a task of a test's module."""
    code = f"import sys; from {task.__module__} import {task.__name__} as task; task(*sys.argv[1:])"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        child = Child(process)
        try:
            yield child
        finally:
            for left in {*child.told.get("born", ())} - {*child.told.get("ended", ())}:
                with suppress(ProcessLookupError):
                    os.kill(int(left), signal.SIGKILL)
            process.kill()


def said(Chat: Any, key: Any) -> list[tuple[str, str]]:
    return [(message.id, message.text) for message in Chat.get_context(key).messages]


def go_on(Chat: Any, key: Any, nursery: Child, alive: list[int], number: int) -> None:
    """After a kill the others go on; after the last one, a process that was not there before does."""
    if alive:
        for _ in range(3):
            nursery.until("answered")
    elif number % 2:
        with suppress(NothingToResume):
            Chat.resume_session(key)
        # The server may run a statement that a killed process had sent after it has answered ours.
        while Chat.get_by_id(key).last_turn.status != "completed":
            with suppress(NothingToResume):
                Chat.resume_session(key)
    else:
        words = f"after kill {number}"
        assert Chat.continue_session(key, words).last_result.text.startswith(f"You said: {words} (")


def test_processes_killed_at_any_moment_lose_no_message_and_no_reply(database_url: str) -> None:
    chat_model(servers.open_database(database_url))
    backend, layout = servers.backend_of(database_url), database_url.partition("#")[2]
    Chat, chance = model_of(database_url), random.Random(backend + layout)
    key = Chat.start_session("Hello").id
    known, alive = said(Chat, key), list[int]()
    with a_process(nursery, database_url, key) as children:
        children.until("ready")
        for number in range(KILLS[backend]):
            if not alive:
                alive = [children.bear() for _ in range(AT_ONCE)]
            moment = chance.choice(["asked", "answered", None])
            if moment:
                children.until(moment)
            time.sleep(chance.uniform(0, 0.02))
            children.kill(alive.pop(chance.randrange(len(alive))))
            now = said(Chat, key)
            assert now[: len(known)] == known
            known = now
            go_on(Chat, key, children, alive, number)
        for child in alive:
            children.kill(child)
    Chat.continue_session(key, "The last word")
    assert "broken" not in children.told
    assert all_that_was_told_is_true(Chat.get_context(key).messages, children.told)
    assert a_model_can_be_shown_it(Chat, key)


def all_that_was_told_is_true(messages: Any, told: dict[str, list[str]]) -> bool:
    """Against what the processes themselves have seen of their turns."""
    answers: dict[str, list[str]] = {}
    words = {message.turn: message.text for message in messages if message.role == "user"}
    assert len(words) == len(set(words.values()))
    assert len({message.id for message in messages}) == len(messages)
    for before, message in zip([None, *messages], messages, strict=False):
        if message.role == "assistant":
            assert (before.role, before.turn) == ("user", message.turn)
            assert message.text.startswith(f"You said: {before.text} (")
            answers.setdefault(before.text, []).append(message.text)
    for message in messages:
        closed = message.metadata.get("status") == "interrupted"
        assert message.role == "assistant" or closed is (message.text not in answers)
    assert {*told["asked"]} <= {*words.values()}
    assert {*told["answered"]} <= {*answers}
    assert not {*told.get("overtaken", ())} - {*words.values()}
    return True


def a_model_can_be_shown_it(Chat: Any, key: Any) -> bool:
    with testing.script(Chat, ["seen"]) as asked:
        Chat.continue_session(key, "Look")
    shown = [message.role for message in asked[0]]
    return shown == ["system", *["user", "assistant"] * (len(shown) // 2 - 1), "user"]


class WaitsForALine:
    """Its answer comes when it may; by then no beat is left."""

    def ask(self, request: Any) -> Reply:
        tell("asked")
        sys.stdin.readline()
        until = time.monotonic() + 60
        while heartbeat._heart.beats and time.monotonic() < until:
            time.sleep(0.01)
        tell(f"beats {len(heartbeat._heart.beats)}")
        return Reply("too late")


def one_turn(url: str, key: str) -> None:
    try:
        model_of(url, WaitsForALine(), lease=0.5).continue_session(key, "slow")
        tell("stored")
    except LeaseLost as lost:
        tell(f"overtaken {lost.result.text} {lost.session.id}")


@pytest.mark.parametrize("action", ["continue", "resume"])
def test_a_suspended_process_that_loses_its_claim_writes_nothing(database: Any, action: str) -> None:
    Chat = chat_model(database, session=WAITING | {"lease": 0.5})
    session = Chat.start_session("Hello")
    with a_process(one_turn, database.url, session.id) as child:
        child.until("asked")
        child.process.send_signal(signal.SIGSTOP)
        _, how = os.waitpid(child.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(how)
        if action == "continue":
            session.continue_session("fast")
        else:
            session.resume_session()
        before = stored(session)
        child.process.send_signal(signal.SIGCONT)
        child.write("answer now")
        assert child.until("beats") == "0"
        assert child.until("overtaken") == f"too late {session.id}"
    assert stored(session) == before
    if action == "continue":
        assert texts(Chat, session)[2:4] == ["slow", "fast"]
        assert session.get_context().messages[2].metadata["status"] == "interrupted"
    else:
        assert texts(Chat, session)[2:] == ["slow", session.last_result.text]
