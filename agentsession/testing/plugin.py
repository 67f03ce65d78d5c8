"""Fixtures for pytest. Switch them on in the conftest.py of your tests' root directory:

```python
pytest_plugins = ["agentsession.testing.plugin"]
```

`agent_script(Model, replies)` replaces the model, `agent_clock` is a clock that stands still, `agent_crash`
ends its block after a step: its test runs once for each of 8 steps, or of `@pytest.mark.crash_steps(12)`.

PYTEST_DONT_REWRITE: this module has no assertion that pytest could explain.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeAlias

import pytest

from agentsession._turn.model_io import Prompt
from agentsession.provider.choose import scripted
from agentsession.testing.blocks import FakeClock, clock, override
from agentsession.testing.crashes import CrashPoint
from agentsession.testing.scripted import Replies, script

ScriptAgent: TypeAlias = "Callable[[type[Any], Replies], list[Prompt]]"

STEPS = 8
CHECKS = pytest.StashKey[ExitStack]()


class _NotRun(Exception):
    pass


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker `crash_steps`."""
    line = f"crash_steps(count): how many steps agent_crash tries (default: {STEPS}), one more than there are"
    config.addinivalue_line("markers", line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with `agent_crash` once for each step."""
    if "agent_crash" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("crash_steps")
        count = _count(*marker.args, **marker.kwargs) if marker else STEPS
        steps = [pytest.param((step, count), id=f"step{step}") for step in range(1, count + 1)]
        metafunc.parametrize("agent_crash", steps, indirect=True)


def _count(count: int) -> int:
    if count < 1:
        raise pytest.UsageError(f"crash_steps({count}): it takes one step at least")
    return count


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run the final checks of the fixtures in the test, so that the test fails and not its teardown."""
    with item.stash.get(CHECKS, ExitStack()):
        return (yield)


@pytest.fixture
def _agent_checks(request: pytest.FixtureRequest) -> Iterator[ExitStack]:
    checks = request.node.stash[CHECKS] = ExitStack()
    yield checks
    with suppress(_NotRun), checks:
        raise _NotRun  # checks are left only if the test itself did not run


@pytest.fixture
def agent_clock() -> Iterator[FakeClock]:
    """A clock that stands still until the test advances it: `agentsession.testing.clock`.

    An async test requests it before its async fixtures: their task would not use it otherwise.

    ```python
    def test_a_lease_runs_out(agent_clock):
        with testing.crash_after(1):
            ChatAgent.start_session("Hello!")
        agent_clock.advance(31)
        ChatAgent.select().get().resume_session()
    ```
    """
    with clock() as fake:
        yield fake


@pytest.fixture
def agent_script(_agent_checks: ExitStack) -> Iterator[ScriptAgent]:
    """A function that replaces a model until the end of the test: `agentsession.testing.script`.

    It returns the list of prompts. The test fails if a reply is missing or left over.

    ```python
    def test_the_prompt_holds_the_conversation(agent_script):
        prompts = agent_script(ChatAgent, ["Hi!", "Yes."])
        ChatAgent.start_session("Hello!").continue_session("Are you open?")
        assert [message.content for message in prompts[1]][1:] == ["Hello!", "Hi!", "Are you open?"]
    ```
    """

    def use_script(model: type[Any], replies: Replies) -> list[Prompt]:
        return _agent_checks.enter_context(script(model, replies))

    with override(scripted, scripted.get()):
        yield use_script


@pytest.fixture
def agent_crash(request: pytest.FixtureRequest, _agent_checks: ExitStack) -> CrashPoint:
    """A block that ends after one step: `agentsession.testing.every_crash`. The test runs once for each step.

    If the turn has fewer steps, the block runs to its end. If the block dies even after the last step that
    was tried, the test fails: there may be more steps, and `@pytest.mark.crash_steps(…)` tries them.

    ```python
    def test_a_crash_loses_nothing(agent_crash, agent_clock):
        session = ChatAgent.start_session("Hello!")
        with agent_crash:
            session.continue_session("Are you open?", idempotency_key="request 1")
        agent_clock.advance(31)
        session.continue_session("Are you open?", idempotency_key="request 1")
        assert len(session.get_context().messages) == 4
    ```
    """
    step, count = request.param
    return _agent_checks.enter_context(_tried(CrashPoint(step), count))


@contextmanager
def _tried(crash: CrashPoint, count: int) -> Iterator[CrashPoint]:
    yield crash
    if not crash.entered:
        raise AssertionError("the test requests agent_crash and did not enter `with agent_crash:`")
    if crash.happened and crash.step == count:
        raise AssertionError(
            f"there may be more than these {count} steps: mark the test with "
            f"@pytest.mark.crash_steps({count + STEPS // 2})"
        )
