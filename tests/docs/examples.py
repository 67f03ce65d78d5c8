"""Examples in Markdown and docstrings: how they are found and run."""

from __future__ import annotations

import ast
import asyncio
import re
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
NAMED_TEST = re.compile(r"`(?:[\w/]+\.py: )?(test_\w+)`")


def run(code: str, name: str, namespace: dict[str, Any]) -> None:
    """Run an example, which may await at its top level, as in a notebook."""
    compiled = compile(code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    outcome = eval(compiled, namespace)
    if outcome is not None:
        asyncio.run(outcome)


def blocks(text: str) -> list[str]:
    """Return the Python examples of a text."""
    return [textwrap.dedent(code) for _, code in BLOCK.findall(text)]


def named_tests(text: str) -> set[str]:
    """Return the names of the tests that a text names."""
    return set(NAMED_TEST.findall(text))


@cache
def defined_tests() -> frozenset[str]:
    """Return the names of all tests."""
    return frozenset(
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    )
