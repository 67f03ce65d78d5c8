"""The demo: one conversation across four processes, one of which is killed while the model is asked."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentsession._cli import demo_process
from agentsession.context import Message

WIDTH = 88


class DemoFailed(Exception):
    """A process of the demo said that it could not go on."""


def demo() -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "chat.db")
        print(f"\nagentsession demo: one conversation in an SQLite file, with {demo_process.CLIENT}")
        if demo_process.CLIENT != "echo:":
            print("(each process imports litellm first, which takes some seconds)")
        try:
            session = _converse(path)
        except DemoFailed as error:
            print(f"\n{error}\n")
            return 1
        _print_transcript(path, session)
    return 0


def _converse(path: str) -> str:
    _headline(1, "A process starts a session, and ends.")
    session = str(_process(path, "start", "", "Hello! My name is Ada.")["id"])

    _headline(2, "Another process continues it, knowing only the id.")
    _process(path, "continue", session, "What can you do for me?")

    _headline(3, "A third is killed while the model thinks.")
    _kill_while_asked(path, session, "And what is my name?")

    _headline(4, "A fourth finds the open turn, waits for its lease to run out, and carries on.")
    time.sleep(demo_process.LEASE)
    _process(path, "resume", session, "And what is my name?")
    return session


def _process(path: str, action: str, session: str, words: str) -> dict[str, Any]:
    with _child(path, action, session, words) as child:
        answer = _listen(child)
    print(_line("you", words))
    print(_line("model", answer["said"]))
    print(f"      process {child.pid} has ended after {answer['seconds'] * 1000:.0f} ms in the turn")
    return answer


def _kill_while_asked(path: str, session: str, words: str) -> None:
    with _child(path, "killed", session, words) as child:
        _listen(child)
        child.kill()
    model = demo_process.declare(path)
    stored = model.get_context(session).messages[-1]
    print(_line("you", words))
    print(f"      process {child.pid} was killed: exit code {child.returncode}, no word from the model")
    print(f"      stored: status {model.get_by_id(session).status!r}, and your words: {stored.text!r}")


@contextmanager
def _child(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "agentsession._cli.demo_process", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as child:  # noqa: S603
        try:
            yield child
        except BaseException:
            child.kill()
            raise


def _listen(child: subprocess.Popen[str]) -> dict[str, Any]:
    line = child.stdout.readline() if child.stdout else ""
    output: dict[str, Any] = json.loads(line) if line else {"error": "the process ended without output"}
    if "error" in output:
        raise DemoFailed(output["error"])
    return output


def _print_transcript(path: str, session: str) -> None:
    model = demo_process.declare(path)
    context = model.get_context(session)
    print(
        f"\nThe transcript, read back from the table: {len(context.messages)} messages, "
        f"revision {context.revision}\n"
    )
    for message in context.messages:
        print(_line("you" if message.role == "user" else "model", message.text, _facts(message)))
    print()


def _facts(message: Message) -> str:
    usage = message.metadata.get("usage", {})
    return f"{usage['total_tokens']} tokens" if usage.get("total_tokens") else ""


def _headline(number: int, text: str) -> None:
    print(f"\n  {number}  {text}")


def _line(speaker: str, text: str, facts: str = "") -> str:
    head = f"      {speaker:>5} | "
    shown = f"{text}  ({facts})" if facts else text
    return textwrap.fill(shown, WIDTH, initial_indent=head, subsequent_indent=" " * 12 + "| ")
