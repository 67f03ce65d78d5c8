"""I4, I6, I12: a session stays consistent wherever a turn is stopped and whatever is called next.

Each case makes one call, stops it after each of its effects in turn, and then makes every call that fits.
`tests/support/turn_spec.py` specifies what must then be stored and sent to the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import pytest

from tests.support.pairwise import pairwise
from tests.support.session_harness import OVER, World, a_world
from tests.support.turn_spec import MODELS, WAYS, Call, Case, Turns, after_effects

pytestmark = pytest.mark.matrix

CALLED_MODELS = [name for name in MODELS if name != "is_not_asked"]
ENDED = ["completed", "failed", "interrupted", "abandoned"]
TO_RESUME = ["pending", "failed", "interrupted", "abandoned"]
SHAPES = [
    *product(["start"], [True], ["nothing"], CALLED_MODELS),
    *product(["start"], [False], ["nothing"], ["is_not_asked"]),
    *product(["continue"], [True], ENDED, CALLED_MODELS),
    *product(["continue"], [False], ENDED, ["is_not_asked"]),
    *product(["resume"], [True], TO_RESUME, CALLED_MODELS),
]
OPTIONS = [*product([True, False], repeat=2)]


ALL = [Case(*shape, *options, way) for shape in SHAPES for options, way in product(OPTIONS, WAYS)]
ONE_OF_EACH_SHAPE = [
    Case(*shape, *OPTIONS[number % 4], WAYS[number // 4 % 4]) for number, shape in enumerate(SHAPES)
]
CASES = [ALL[number] for number in pairwise([*map(vars, ALL)], [*map(vars, ONE_OF_EACH_SHAPE)])]
"""Each shape once, and each pair of an action, a state before it, a model, an option and a way to call."""


def test_the_cases_contain_each_possible_pair() -> None:
    def pairs(cases: Iterable[Case]) -> set[Any]:
        return {pair for case in cases for pair in combinations(vars(case).items(), 2)}

    assert pairs(CASES) == pairs(ALL)
    assert {(case.action, case.run, case.before, case.model) for case in CASES} == {*SHAPES}


SELECTED_CASES = [
    Case("start", True, "nothing", "answers_at_last", keyed=True, status=True),
    Case("continue", True, "abandoned", "never_fits", keyed=True, status=True, way="stream"),
    Case("continue", True, "interrupted", "is_left", keyed=False, status=False, way="stream"),
    Case("continue", False, "abandoned", "is_not_asked", keyed=True, status=True),
    Case("resume", True, "abandoned", "is_down", keyed=True, status=True),
]


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("document")
@pytest.mark.parametrize("case", CASES[0::2], ids=str)
def test_a_session_stopped_after_any_effect_is_consistent_for_every_call(database: Any, case: Case) -> None:
    stop_after_each_effect(database, case)


@pytest.mark.backends("sqlite")
@pytest.mark.layouts("rows")
@pytest.mark.parametrize("case", CASES[1::2], ids=str)
def test_a_session_in_rows_stopped_after_any_effect_is_consistent(database: Any, case: Case) -> None:
    """The other half of the cases: `unit/test_stored_format.py` compares what the layouts store."""
    stop_after_each_effect(database, case)


@pytest.mark.backends("postgres", "mariadb")
@pytest.mark.parametrize("case", SELECTED_CASES, ids=str)
def test_a_session_on_a_server_stopped_after_any_effect_is_consistent(database: Any, case: Case) -> None:
    stop_after_each_effect(database, case)


def stop_after_each_effect(database: Any, case: Case) -> None:
    with a_world(database, case) as world:
        turns = world.begin()
        moment = world.moment()
        effects = world.stop(99)
        assert {"Insert", "Claim"} & {*effects}
        assert ("Finish" in effects) == case.run
        for step in range(1, len(effects) + 1):
            with annotated_errors(f"stopped after {', '.join(effects[:step])}"):
                world.go_back(moment)
                assert world.stop(step) == effects[:step]
                stopped = world.what_came(after_effects(case, turns, effects[:step]))
                world.check(stopped)
                if effects[step - 1] != "CallModel" or stopped[-1].partial:
                    make_every_call(world, stopped)


def make_every_call(world: World, stopped: Turns) -> None:
    """Make each call from the same moment, with a running or expired lease, and then calls that always work.

    The latter are made once for all calls that store nothing."""
    moment = world.moment()
    unchanged: list[Turns] = []
    waits = [0.0, OVER] if stopped and stopped[-1].alive else [0.0]
    for call, seconds in product(fitting_calls(world.case, stopped), waits):
        with annotated_errors(f"then {call} after {seconds} s"):
            world.go_back(moment)
            turns = world.make(call, world.wait(stopped, seconds))
            turns = world.wait(turns, OVER)
            if world.row == moment[0]:
                if turns in unchanged:
                    continue
                unchanged.append(turns)
            if turns[-1].status == "pending":
                turns = world.make(Call("resume"), turns)
            turns = world.make(Call("continue", "Last"), turns)
            if any(turn.key for turn in turns):
                world.make(world.case.again, turns)


def fitting_calls(case: Case, turns: Turns) -> list[Call]:
    calls = [Call("continue", "Next"), Call("continue", "Next", run=False), Call("resume")]
    if case.keyed:
        calls += [case.again, replace(case.again, run=True)]
    if any(turn.key for turn in turns):
        calls += [replace(case.again, words="Other")]
    return list(dict.fromkeys(calls))


@contextmanager
def annotated_errors(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(what)
        raise
