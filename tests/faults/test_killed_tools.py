"""I4: a process killed while a tool runs, or at any moment of a turn with tools, loses no result.

Only calls of idempotent tools run twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agentsession import NothingToResume, ToolContext, info, tool
from agentsession._turn.prompt_messages import UNKNOWN
from agentsession._turn.tool_messages import is_step, results_of
from agentsession.provider import Reply
from agentsession.testing import tool_call
from tests.faults.test_killed import ControlledProcess, print_line, running_process, stored_messages
from tests.support import servers
from tests.support.models import chat_model
from tests.support.valid_prompts import assert_can_be_asked
from tests.support.worker_processes import until

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL"),
]

KILLS = 6
WAITING = {"lease": 0.2, "on_busy": "wait", "busy_timeout": 120}
WAYS = ("sync", "async")
STEPS = {
    "a plain one after a finished one": (["quick"], ["write"]),
    "one that may run again": (["find"],),
    "one that was approved": (["pay"],),
    "one beside a finished one": (["quick", "write"],),
    "two at once": (["find", "write"],),
    "many": (["brief", "hint"], ["hint"], ["brief", "brief"]),
}
"""The calls of the model, step by step."""

KILLED_IN = {
    "a plain one after a finished one": ["write"],
    "one that may run again": ["find"],
    "one that was approved": ["pay"],
    "one beside a finished one": ["write"],
    "two at once": ["find", "write"],
}


class Model:
    """Requests the calls that the user's message names, and then repeats their results."""

    def __init__(self) -> None:
        self.prompts: list[Any] = []

    def ask(self, request: Any) -> Reply:
        self.prompts.append(request.prompt)
        words = max(place for place, message in enumerate(request.prompt) if message.role == "user")
        what, _, way = request.prompt[words].content.partition(": ")
        replies = request.prompt[words + 1 :]
        step = sum(bool(message.calls) for message in replies)
        if step < len(STEPS[what]):
            prefix = "a" if way.startswith("async") else ""
            calls = tuple(tool_call(prefix + name) for name in STEPS[what][step])
            return Reply("Let me see.", calls=calls)
        return Reply(" | ".join(message.content for message in replies if message.role == "tool"))


def tools_of(log: str, hangs: bool) -> list[Any]:
    """Return each tool as a function and as a coroutine. All log their begin and end.

    With `hangs` some never end."""

    def note(what: str, name: str, context: ToolContext) -> None:
        file = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        os.write(file, f"{what} {name} {context.call}\n".encode())
        os.close(file)

    def made(name: str, seconds: float, **options: Any) -> list[Any]:
        def run(context: ToolContext) -> str:
            note("begins", name, context)
            time.sleep(seconds)
            note("ends", name, context)
            return f"{name} is done"

        async def arun(context: ToolContext) -> str:
            note("begins", name, context)
            await asyncio.sleep(seconds)
            note("ends", name, context)
            return f"{name} is done"

        described = {"description": "Does something.", "repeat_limit": None, **options}
        return [tool(run, name=name, **described), tool(arun, name=f"a{name}", **described)]

    long = 60.0 if hangs else 0.0
    return [
        *made("quick", 0.0),
        *made("write", long),
        *made("find", long, idempotent=True),
        *made("pay", long, needs_approval=True),
        *made("brief", 0.004),
        *made("hint", 0.002, idempotent=True),
    ]


def model_of(url: str, log: str, *, hangs: bool = False, pool: int = 4) -> Any:
    """Return the model for use in another process."""
    database = servers.open_database(url, pool=pool)
    tools = tools_of(log, hangs)
    return chat_model(database, provider=Model(), session=WAITING, create=False, tools=tools)


def fork_children(url: str, log: str) -> None:
    """Fork a child for each line on the standard input, which makes that call."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the children are not waited for
    print_line("ready")
    for line in sys.stdin:
        way, key, words = line.strip().split(" ", 2)
        if os.fork() == 0:
            print_line(f"forked {os.getpid()} {key}")
            repeat_action(model_of(url, log, hangs=words != "many"), way, key, words)
            os._exit(0)


def repeat_action(Chat: Any, way: str, key: str, words: str) -> None:
    parent = os.getppid()
    random.seed(os.getpid())
    while os.getppid() == parent:
        try:
            if words == "resume":
                act(Chat, way, "resume_session", key)
            else:
                act(Chat, way, "continue_session", key, f"{words}: {way} {os.getpid()} {random.random()}")
        except Exception as error:
            print_line(f"broken {key} {type(error).__name__} {' '.join(str(error).split())}")
        print_line(f"answered {key}")


def act(Chat: Any, way: str, name: str, *arguments: Any) -> Any:
    if way == "sync":
        return getattr(Chat, name)(*arguments)
    return asyncio.run(getattr(Chat, f"a{name}")(*arguments))


class Children:
    """The children of a forking process, and the log of their tools."""

    def __init__(self, forker: ControlledProcess, log: Path) -> None:
        self.forker, self.log = forker, log
        self.alive: dict[str, int] = {}

    def fork_child(self, way: str, key: Any, words: str) -> None:
        self.forker.write(f"{way} {key} {words}")
        pid = self.forker.until("forked", "").split()[0]
        self.forker.reports["forked"][-1] = pid
        self.alive[str(key)] = int(pid)

    def kill(self, key: Any) -> None:
        pid = self.alive.pop(str(key))
        os.kill(pid, signal.SIGKILL)
        until(lambda: has_ended(pid))
        self.forker.reports.setdefault("ended", []).append(str(pid))

    def lines(self) -> Counter[tuple[str, str]]:
        """Return how often each call has begun and ended."""
        reports = self.log.read_text().splitlines() if self.log.exists() else []
        return Counter((line.split()[0], line.split()[2]) for line in reports)

    def turn_has_begun(self, turn: str, calls: int) -> bool:
        return sum(what == "begins" and key.startswith(turn) for what, key in self.lines()) >= calls


def has_ended(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return False
    return True


def results(Chat: Any, key: Any) -> dict[str, tuple[str, str]]:
    """Return the stored results by call: the name of the tool, and the text."""
    found = results_of(Chat.get_context(key).messages)
    return {call: (each.parts("tool_result")[0]["tool"], each.text) for call, each in found.items()}


def test_a_call_interrupted_by_a_kill_runs_again_only_if_its_tool_is_idempotent(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    chat_model(servers.open_database(database_url))
    Chat = model_of(database_url, str(log))
    cases = {
        (way, what): Chat.start_session(f"{what}: {way}", run=False).id for way in WAYS for what in KILLED_IN
    }
    with running_process(fork_children, database_url, log) as process:
        process.until("ready")
        children = Children(process, log)
        for (way, what), key in cases.items():
            if what == "one that was approved":
                (approval,) = Chat.resume_session(key).approvals
                approval.approve(by="ann")
            children.fork_child(way, key, "resume")
        before = {}
        for (_, what), key in cases.items():
            turn = Chat.get_by_id(key).last_turn.id
            until(lambda turn=turn, what=what: children.turn_has_begun(turn, sum(map(len, STEPS[what]))))
            until(lambda key=key, what=what: len(results(Chat, key)) == finished_calls(what))
            children.kill(key)
            before[key] = stored_messages(Chat, key)
    for (way, what), key in cases.items():
        resumed = act(Chat, way, "resume_session", key)
        assert stored_messages(Chat, key)[: len(before[key])] == before[key]
        assert turn_was_resumed(Chat, resumed, what, children)
    assert "broken" not in process.reports


def finished_calls(what: str) -> int:
    return sum(map(len, STEPS[what])) - len(KILLED_IN[what])


def turn_was_resumed(Chat: Any, session: Any, what: str, children: Children) -> bool:
    """The turn was resumed with the same calls, and the model received a result for each of them."""
    texts = []
    lines = children.lines()
    step = next(message for message in reversed(session.get_context().messages) if is_step(message))
    keys = {each["call"]: each["tool"].removeprefix("a") for each in step.parts("tool_call")}
    for key, (called, text) in results(Chat, session.id).items():
        name = called.removeprefix("a")
        is_killed = name in KILLED_IN[what] and key in keys
        runs = {"begins": 1 + (is_killed and name == "find"), "ends": int(not is_killed or name == "find")}
        assert runs == {kind: lines[kind, key] for kind in runs}, (what, name)
        is_known = not is_killed or name == "find"
        assert text == (f"{name} is done" if is_known else UNKNOWN)
        texts.append(text)
    assert sorted(session.last_result.text.split(" | ")) == sorted(texts)
    assert len(texts) == sum(map(len, STEPS[what]))
    return True


def test_processes_killed_during_turns_with_tools_lose_no_result(database_url: str, tmp_path: Path) -> None:
    log, rng = tmp_path / "log", random.Random(1)
    chat_model(servers.open_database(database_url))
    Chat = model_of(database_url, str(log))
    sessions = {way: Chat.start_session(f"many: {way}").id for way in WAYS}
    with running_process(fork_children, database_url, log) as process:
        process.until("ready")
        children = Children(process, log)
        for number in range(KILLS):
            for way, key in sessions.items():
                children.fork_child(way, key, "many")
            before = {}
            for key in sessions.values():
                time.sleep(rng.uniform(0.01, 0.09))
                children.kill(key)
                before[key] = children.lines(), results(Chat, key), stored_messages(Chat, key)
            for way, key in sessions.items():
                finish_turn(Chat, way, key, number)
                assert nothing_was_lost(Chat, key, children, before[key])
    assert "broken" not in process.reports


def finish_turn(Chat: Any, way: str, key: Any, number: int) -> None:
    """Resume the turn, or close it with the next."""
    if number % 2:
        with suppress(NothingToResume):
            act(Chat, way, "resume_session", key)
    else:
        act(Chat, way, "continue_session", key, f"many: {way} after kill {number}")
    assert Chat.get_by_id(key).last_turn.status == "completed"


def nothing_was_lost(Chat: Any, key: Any, children: Children, before: Any) -> bool:
    """The messages and results from before a kill are still stored, and none of those calls has begun again.

    Only calls of an idempotent tool have begun twice."""
    ran, known, words = before
    lines, now = children.lines(), results(Chat, key)
    assert stored_messages(Chat, key)[: len(words)] == words
    assert known.items() <= now.items()
    assert all(lines["begins", call] == ran["begins", call] for call in known)
    for call, (name, text) in now.items():
        assert lines["begins", call] <= (2 if name.endswith("hint") else 1)
        assert text in (UNKNOWN, f"{name.removeprefix('a')} is done")
        assert text == UNKNOWN or lines["ends", call]
    model: Any = info.agent_options(Chat).provider
    for prompt in model.prompts:
        assert_can_be_asked(prompt)
    model.prompts.clear()
    return True
