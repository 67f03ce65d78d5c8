"""Errors say where, what, why and the fix, and survive a process boundary."""

from __future__ import annotations

import pickle

import pytest

from agentsession import AgentSessionError, DslError, Problem, ProviderCallError, errors

ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, AgentSessionError) and value is not DslError
]


@pytest.mark.parametrize("kind", ALL)
def test_an_error_shows_all_it_knows_and_can_be_pickled(kind: type[AgentSessionError]) -> None:
    error = kind("something is wrong", where="app.Chat 7", why="because", fix="do this")
    assert str(error) == "[app.Chat 7] something is wrong\n  Why: because\n  Fix: do this"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (kind, str(error), vars(error))
    assert str(kind("bare")) == "bare"


def test_a_dsl_error_lists_its_problems_and_can_be_pickled() -> None:
    problems = (Problem("[app.Chat] agent -> client", "found", "why", "fix"), Problem("b", "c", "d", "e"))
    again = pickle.loads(pickle.dumps(DslError(problems)))
    assert again.problems == problems
    assert str(again).startswith(
        "2 problems:\n  [app.Chat] agent -> client\n    found\n    Why: why\n    Fix: fix"
    )


def test_a_provider_error_can_be_pickled() -> None:
    again = pickle.loads(pickle.dumps(ProviderCallError("down", status=503)))
    assert (str(again), again.status) == ("down", 503)
