"""Tests of wrong declarations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agentsession.errors import DslError, Problem


@contextmanager
def dsl_errors() -> Iterator[list[Problem]]:
    """Expect a `DslError` in the block.

    Yields:
        A list. After the block it holds the error's problems.

    Raises:
        AssertionError: The block raised no `DslError`.

    Example:
        ```python
        with testing.dsl_errors() as problems:

            @agent(client="nonsense", instruction="Hi")
            class Broken: ...

        assert "client" in problems[0].where
        ```
    """
    problems: list[Problem] = []
    try:
        yield problems
    except DslError as error:
        problems += error.problems
    else:
        raise AssertionError("no DslError was raised")
