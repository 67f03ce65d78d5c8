"""Every example of the README and of the docstrings runs."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import peewee
import pytest
from pydantic import BaseModel

import agentsession
from agentsession import testing
from tests.docs.examples import ROOT, blocks, run
from tests.support.models import Answer, chat_model

pytestmark = pytest.mark.layouts("document")  # the README shows the default


def test_the_readme_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "readme"}
    found = blocks((ROOT / "README.md").read_text())
    assert len(found) >= 5
    for code in found:
        run(code, "README.md", namespace)
    namespace["db"].close()


def test_the_readme_has_exactly_the_two_commands() -> None:
    commands = re.findall(
        r"^```console\n(.*?)\n```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert commands == [
        "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/python -m agentsession demo",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
    ]
    assert all(shlex.split(command) for command in commands)


def documented() -> list[Any]:
    """(name, docstring) of everything public, once."""
    found: dict[str, str] = {}
    for module_info in pkgutil.walk_packages(agentsession.__path__, "agentsession."):
        if module_info.name.endswith("__main__"):
            continue
        module = importlib.import_module(module_info.name)
        for name, value in [(module.__name__, module), *vars(module).items()]:
            if getattr(value, "__module__", module.__name__) != module.__name__:
                continue
            for part, each in [("", value), *(vars(value).items() if inspect.isclass(value) else ())]:
                if isinstance(each, (str, int)) or not isinstance(getattr(each, "__doc__", None), str):
                    continue
                for number, code in enumerate(blocks(inspect.cleandoc(each.__doc__))):
                    found.setdefault(code, f"{module.__name__}.{name}.{part}[{number}]")
    return [pytest.param(code, id=name) for code, name in found.items()]


class About(BaseModel):
    company_name: str = "Acme"


@pytest.fixture
def namespace(database: Any) -> Iterator[dict[str, Any]]:
    """A module in which a docstring's example can stand. An example that declares the messages declares them
    again."""
    database.message_table = "chatmessage"
    Chat = chat_model(
        database,
        instruction="You work for {{ company_name }}.",
        instruction_schema=About,
        output_schema=Answer,
    )
    session = Chat.start_session("Hello")
    module = ModuleType("an_example")
    vars(module).update(vars(agentsession))
    vars(module).update(
        __name__="an_example",
        Answer=Answer,
        ChatAgent=Chat,
        db=database,
        earlier=Chat.get_context(session),
        peewee=peewee,
        pytest=pytest,
        session=session,
        testing=testing,
    )
    sys.modules["an_example"] = module
    yield vars(module)
    del sys.modules["an_example"]


@pytest.mark.layouts("rows")
@pytest.mark.parametrize("code", documented())
def test_the_examples_of_docstrings_run(namespace: dict[str, Any], code: str) -> None:
    run(code, "docstring", namespace)


def test_the_docstrings_have_examples() -> None:
    assert len(documented()) >= 10


@pytest.mark.parametrize("module", ["agentsession.info", "agentsession.events", "agentsession.provider"])
def test_the_doctests_pass(module: str) -> None:
    import doctest

    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed


def test_the_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AGENTSESSION_CLIENT", raising=False)
    for _ in range(2):
        runpy.run_path(str(ROOT / "examples" / "quickstart.py"), run_name="__main__")
    assert "message 2 of this conversation" in capsys.readouterr().out


def test_the_example_of_testing_passes() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=--strict-markers --strict-config",
        str(ROOT / "examples/testing_your_agent.py"),
    ]
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=alone)
    assert run.returncode == 0, run.stdout
    assert "3 passed" in run.stdout


def test_the_readme_shows_the_error_that_a_wrong_declaration_raises() -> None:
    (shown,) = re.findall(r"^```text\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)

    @agentsession.agent(client="echo:", instruction="You help.")
    class ChatAgent(peewee.Model):
        context = peewee.TextField()
        status = peewee.CharField()

        class Meta:
            database = peewee.SqliteDatabase(":memory:")

    ChatAgent.__module__, ChatAgent.__qualname__ = "shop", "ChatAgent"
    with pytest.raises(agentsession.DslError) as raised:
        agentsession.agent_session(status_attribute="state")(ChatAgent)
    assert shown.strip() == f"agentsession.errors.DslError: {raised.value}"
