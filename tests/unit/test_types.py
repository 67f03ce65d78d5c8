"""What type checkers see: `tests/types_/` is checked by mypy and pyright, which must report its marked lines.

`assert_type` says what a value is; a line that must be an error ends with `# error`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests" / "types_").glob("*.py"))
Lines = set[tuple[str, int]]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def mypy() -> Lines:
    # The project's own run has other options: in one cache they disturb each other.
    cache = ("--cache-dir", str(ROOT / ".mypy_cache" / "types"))
    done = run(
        "mypy", "--strict", "--no-error-summary", "--config-file", os.devnull, *cache, *map(str, FILES)
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(r"^(?:.*/)?(\w+\.py):(\d+): error", done.stdout, re.MULTILINE)
    return {(name, int(line)) for name, line in found}


def pyright() -> Lines:
    """Its package brings pyright, but node has to be there or be downloaded: else it cannot start."""
    done = run("pyright", "--outputjson", "--pythonpath", sys.executable, *map(str, FILES))
    try:
        report = json.loads(done.stdout)
    except ValueError:
        if os.environ.get("CI"):
            pytest.fail(f"pyright did not start: {done.stderr}")
        pytest.skip(f"pyright cannot start here: {done.stderr.splitlines()[-1:]}")
    assert report["summary"]["filesAnalyzed"] >= len(FILES)
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1)
        for each in report["generalDiagnostics"]
        if each["severity"] == "error"
    }


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_the_checker_reports_exactly_the_marked_lines(checker: Callable[[], Lines]) -> None:
    wanted = {
        (path.name, number)
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.endswith("# error")
    }
    assert len(wanted) > 20
    assert checker() == wanted
