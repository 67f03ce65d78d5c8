"""The command of the README: four real processes, one really killed."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any


def demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agentsession", *arguments]
    clean = {key: value for key, value in os.environ.items() if key != "AGENTSESSION_CLIENT"}
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=clean | environment, timeout=60
    )


def test_the_demo_shows_a_session_that_outlives_its_processes(tmp_path: Any) -> None:
    run = demo("demo")
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    assert "was killed" in run.stdout
    assert "status 'running', and your words: 'And what is my name?'" in run.stdout
    _, transcript = run.stdout.split("The transcript, read back from the table: 6 messages")
    said = [line.split(" | ")[1] for line in transcript.splitlines() if line.strip().startswith("you |")]
    assert said == ["Hello! My name is Ada.", "What can you do for me?", "And what is my name?"]
    assert transcript.count("model | You said:") == 3


def test_the_demo_says_what_is_wrong_and_fails() -> None:
    run = demo("demo", AGENTSESSION_CLIENT="nonsense")
    assert run.returncode == 1
    assert "'nonsense' is not of the form 'provider:model'" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


def test_without_a_command_the_usage_is_shown() -> None:
    run = demo()
    assert run.returncode == 2
    assert "demo" in run.stderr
