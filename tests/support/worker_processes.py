"""The processes of the worker example, which tests start and kill."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[2] / "examples" / "worker.py"

WORKER = """
import os, random, sys, time
sys.path.insert(0, "examples")
import worker
from agentsession import testing

def reply_to(prompt):
    words = prompt[-1].content
    with open(sys.argv[1], "a") as log:
        print(os.getpid(), words, file=log)
    time.sleep(random.random() * 0.05)
    while os.path.exists(sys.argv[1] + ".wait"):
        time.sleep(0.01)
    return f"answer to {words}"

with testing.script(worker.Chat, reply_to):
    worker.work()
"""

WEB = """
import json, sys
sys.path.insert(0, "examples")
import worker
from agentsession import SessionBusy

for line in sys.stdin:
    try:
        with worker.db.connection_context():
            print(json.dumps(str(worker.say(*json.loads(line)).id)), flush=True)
    except SessionBusy:
        print("null", flush=True)
"""


class Processes:
    """The processes of one test, on the database of their environment; all have ended at its end."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "asked"
        self.log.touch()
        self.wait = folder / "asked.wait"
        self.all: list[subprocess.Popen[str]] = []
        self.workers: dict[int, subprocess.Popen[str]] = {}

    def run(self, *command: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, *command], stdin=pipe, stdout=pipe, text=True, cwd=EXAMPLE.parent.parent
        )
        self.all.append(process)
        return process

    def work(self) -> subprocess.Popen[str]:
        process = self.run("-c", WORKER, str(self.log))
        self.workers[process.pid] = process
        return process

    def asked(self) -> list[tuple[int, str]]:
        """The worker and the words of each question, so far."""
        lines = [line.partition(" ") for line in self.log.read_text().splitlines()]
        return [(int(pid), words) for pid, _, words in lines]

    def kill(self, process: subprocess.Popen[str]) -> None:
        self.workers.pop(process.pid, None)
        process.kill()
        process.wait()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.all:
            process.kill()
            with process:
                pass


def until(happened: Callable[[], Any], limit: float = 120) -> None:
    end = time.monotonic() + limit
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


class Shop:
    """Says the sentences of each conversation in order, and kills what it talks to."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.killed: list[str] = []
        self.seen = 0
        self.web = processes.run("-c", WEB)

    def say(self, words: str, session: str | None, *, kill: bool) -> str | None:
        """The session, if the words are known to be stored."""
        assert self.web.stdin is not None
        assert self.web.stdout is not None
        print(json.dumps([words, words, session]), file=self.web.stdin, flush=True)
        if kill:
            time.sleep(random.random() * 0.01)
            self.processes.kill(self.web)
            self.web = self.processes.run("-c", WEB)
            return None
        stored: str | None = json.loads(self.web.stdout.readline())
        return stored

    def kill_a_worker(self) -> None:
        """Now and then, soon after it has asked, but not always for the same words."""
        asked = self.processes.asked()
        new, self.seen = asked[self.seen :], len(asked)
        pid, words = new[-1] if new else (0, "")
        process = self.processes.workers.get(pid)
        if process is None or len(self.killed) == 4 or self.killed.count(words) == 2 or random.random() < 0.5:
            return
        time.sleep(random.random() * 0.05)
        self.killed.append(words)
        self.processes.kill(process)
        self.processes.work()
