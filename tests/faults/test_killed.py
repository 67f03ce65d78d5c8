"""I4, I5: a process killed at any moment loses nothing. A suspended one without its claim writes nothing."""

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
"""Per layout. The tests kill 52 processes, each at another time."""

AT_ONCE = 3
WAITING = {"lease": 0.1, "on_busy": "wait", "busy_timeout": 120}


def model_of(url: str, provider: Any = None, **session: Any) -> Any:
    """Return the model for use in another process."""
    database = servers.open_database(url, pool=2)
    if servers.backend_of(url) == "sqlite":
        database.connect_params["check_same_thread"] = False
    return chat_model(database, provider=provider, session=WAITING | session, create=False)


def print_line(line: str) -> None:
    """Print with one system call, so that the lines of several processes do not mix."""
    os.write(1, f"{line}\n".encode())


class AnnouncingEcho(Echo):
    """Prints the message and then sleeps, so that it can be killed meanwhile. Some sleeps outlast a beat."""

    def ask(self, request: Any) -> Reply:
        print_line(f"asked {request.prompt[-1].content}")
        time.sleep(random.choice([0.001, 0.003, 0.05]))
        return super().ask(request)


def fork_children(url: str, key: str) -> None:
    """Fork a child, or wait for the end of one, for each line on the standard input.

    The children need no imports."""
    print_line("ready")
    for line in sys.stdin:
        if line == "child\n":
            if os.fork() == 0:
                take_turns(url, key)
                os._exit(0)
        else:
            os.waitpid(int(line), 0)
            print_line(f"ended {line.strip()}")


def take_turns(url: str, key: str) -> None:
    """Take turns until the process is killed or its parent has ended."""
    name, parent, number = os.getpid(), os.getppid(), 0
    random.seed(name)
    Chat = model_of(url, AnnouncingEcho())
    print_line(f"forked {name}")
    while os.getppid() == parent:
        number += 1
        message_text = f"{name}-{number}"
        try:
            Chat.continue_session(key, message_text)
            print_line(f"answered {message_text}")
        except LeaseLost:
            print_line(f"overtaken {message_text}")
        except Exception as error:
            print_line(f"broken {message_text} {type(error).__name__} {' '.join(str(error).split())}")


class ControlledProcess:
    """A process that reads commands, and the lines that it and its children print, by their first word."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.reports: dict[str, list[str]] = {}
        self.unread = b""

    def write(self, line: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def until(self, wanted: str, text: str = "") -> str:
        """Read up to a line that begins with `wanted` and `text`, and return that line without `wanted`."""
        while True:
            what, _, rest = self._line().partition(" ")
            self.reports.setdefault(what, []).append(rest)
            if what == wanted and rest.startswith(text):
                return rest

    def _line(self) -> str:
        assert self.process.stdout is not None
        while b"\n" not in self.unread:
            assert select.select([self.process.stdout], [], [], 60)[0], f"no line after {self.reports}"
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, f"the process ended after {self.reports}"
            self.unread += more
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode()

    def fork_child(self) -> int:
        self.write("child")
        return int(self.until("forked"))

    def kill(self, child: int) -> None:
        """Kill a child, wait for its end and read all that it printed."""
        os.kill(child, signal.SIGKILL)
        self.write(child)
        self.until("ended", str(child))


@contextmanager
def running_process(task: Callable[..., None], *arguments: Any) -> Iterator[ControlledProcess]:
    """Run a function of a test's module in another process."""
    code = f"import sys; from {task.__module__} import {task.__name__} as task; task(*sys.argv[1:])"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        child = ControlledProcess(process)
        try:
            yield child
        finally:
            for left in {*child.reports.get("forked", ())} - {*child.reports.get("ended", ())}:
                with suppress(ProcessLookupError):
                    os.kill(int(left), signal.SIGKILL)
            process.kill()


def stored_messages(Chat: Any, key: Any) -> list[tuple[str, str]]:
    return [(message.id, message.text) for message in Chat.get_context(key).messages]


def continue_after_kill(
    Chat: Any, key: Any, forker: ControlledProcess, alive: list[int], number: int
) -> None:
    """Let the other children take turns or, if none is alive, take one in this process."""
    if alive:
        for _ in range(3):
            forker.until("answered")
    elif number % 2:
        with suppress(NothingToResume):
            Chat.resume_session(key)
        # The server may run a statement of a killed process after it has replied to this one.
        while Chat.get_by_id(key).last_turn.status != "completed":
            with suppress(NothingToResume):
                Chat.resume_session(key)
    else:
        message_text = f"after kill {number}"
        assert Chat.continue_session(key, message_text).last_result.text.startswith(
            f"You said: {message_text} ("
        )


def test_processes_killed_at_any_moment_lose_no_message_and_no_reply(database_url: str) -> None:
    chat_model(servers.open_database(database_url))
    backend, layout = servers.backend_of(database_url), database_url.partition("#")[2]
    Chat, rng = model_of(database_url), random.Random(backend + layout)
    key = Chat.start_session("Hello").id
    known, alive = stored_messages(Chat, key), list[int]()
    with running_process(fork_children, database_url, key) as children:
        children.until("ready")
        for number in range(KILLS[backend]):
            if not alive:
                alive = [children.fork_child() for _ in range(AT_ONCE)]
            report = rng.choice(["asked", "answered", None])
            if report:
                children.until(report)
            time.sleep(rng.uniform(0, 0.02))
            children.kill(alive.pop(rng.randrange(len(alive))))
            now = stored_messages(Chat, key)
            assert now[: len(known)] == known
            known = now
            continue_after_kill(Chat, key, children, alive, number)
        for child in alive:
            children.kill(child)
    Chat.continue_session(key, "The last message")
    assert "broken" not in children.reports
    assert reports_are_stored(Chat.get_context(key).messages, children.reports)
    assert prompt_alternates(Chat, key)


def reports_are_stored(messages: Any, reports: dict[str, list[str]]) -> bool:
    """Compare the stored messages with the lines that the processes have printed."""
    answers: dict[str, list[str]] = {}
    user_texts = {message.turn: message.text for message in messages if message.role == "user"}
    assert len(user_texts) == len(set(user_texts.values()))
    assert len({message.id for message in messages}) == len(messages)
    for before, message in zip([None, *messages], messages, strict=False):
        if message.role == "assistant":
            assert (before.role, before.turn) == ("user", message.turn)
            assert message.text.startswith(f"You said: {before.text} (")
            answers.setdefault(before.text, []).append(message.text)
    for message in messages:
        closed = message.metadata.get("status") == "interrupted"
        assert message.role == "assistant" or closed is (message.text not in answers)
    assert {*reports["asked"]} <= {*user_texts.values()}
    assert {*reports["answered"]} <= {*answers}
    assert not {*reports.get("overtaken", ())} - {*user_texts.values()}
    return True


def prompt_alternates(Chat: Any, key: Any) -> bool:
    with testing.script(Chat, ["seen"]) as asked:
        Chat.continue_session(key, "Look")
    shown = [message.role for message in asked[0]]
    return shown == ["system", *["user", "assistant"] * (len(shown) // 2 - 1), "user"]


class RepliesAfterALine:
    """Replies after a line on the standard input, once the heartbeat has stopped."""

    def ask(self, request: Any) -> Reply:
        print_line("asked")
        sys.stdin.readline()
        until = time.monotonic() + 60
        while heartbeat._heart.beats and time.monotonic() < until:
            time.sleep(0.01)
        print_line(f"beats {len(heartbeat._heart.beats)}")
        return Reply("too late")


def run_one_turn(url: str, key: str) -> None:
    try:
        model_of(url, RepliesAfterALine(), lease=0.5).continue_session(key, "slow")
        print_line("stored")
    except LeaseLost as lost:
        print_line(f"overtaken {lost.result.text} {lost.session.id}")


@pytest.mark.parametrize("action", ["continue", "resume"])
def test_a_suspended_process_that_loses_its_claim_writes_nothing(database: Any, action: str) -> None:
    Chat = chat_model(database, session=WAITING | {"lease": 0.5})
    session = Chat.start_session("Hello")
    with running_process(run_one_turn, database.url, session.id) as child:
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
