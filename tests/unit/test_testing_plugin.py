"""The fixtures for users' own tests, in a pytest run of a user: they fail the test that they have to fail."""

from __future__ import annotations

from typing import Any

import pytest

pytest_plugins = ["pytester"]

SUPPORT = """
import peewee as pw
import pytest
from agentsession import SessionActions, agent, agent_session, testing
from agentsession._turn.effects import CallModel

db = pw.SqliteDatabase(":memory:")

@agent_session(status_attribute="status")
@agent(client="nobody:asks-this", instruction="You help.")
class Support(SessionActions, pw.Model):
    context = pw.JSONField(null=True)
    status = pw.CharField(default="pending")

    class Meta:
        database = db

@pytest.fixture(autouse=True)
def table():
    db.create_tables([Support])
    yield
    db.drop_tables([Support])
"""


@pytest.fixture
def run_tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run tests of a user who has switched the plugin on, and no other, strictly; gives what pytest said."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(tests: str, *arguments: str) -> pytest.RunResult:
        pytester.makeconftest('pytest_plugins = ["agentsession.testing.plugin"]')
        pytester.makepyfile(SUPPORT + tests)
        strictly = ("-W", "error", "--strict-markers", "--strict-config", "-p", "no:cacheprovider")
        return pytester.runpytest_subprocess(*strictly, *arguments)

    return run


def test_the_plugin_runs_the_examples_of_its_docstrings(run_tests: Any) -> None:
    run_tests("""
def test_a_lease_runs_out(agent_script, agent_clock):
    agent_script(Support, lambda prompt: "Hi!")
    with testing.crash_after(1):
        Support.start_session("Hello!")
    agent_clock.advance(31)
    assert Support.select().get().resume_session().last_result.text == "Hi!"

def test_the_model_is_shown_the_conversation(agent_script):
    asked = agent_script(Support, ["Hi!", "Yes."])
    Support.start_session("Hello!").continue_session("Are you open?")
    assert [message.content for message in asked[1]][1:] == ["Hello!", "Hi!", "Are you open?"]

def test_a_crash_loses_nothing(agent_crash, agent_script, agent_clock):
    agent_script(Support, lambda prompt: "Yes.")
    session = Support.start_session("Hello!")
    with agent_crash:
        session.continue_session("Are you open?", idempotency_key="request 1")
    agent_clock.advance(31)
    session.continue_session("Are you open?", idempotency_key="request 1")
    assert len(session.get_context().messages) == 4
    assert agent_crash.happened == (agent_crash.step <= 4)
""").assert_outcomes(passed=10)


def test_the_test_itself_fails_when_a_reply_is_missing_or_left_over(run_tests: Any) -> None:
    result = run_tests("""
def test_left_over(agent_script):
    agent_script(Support, ["one", "two"])
    Support.start_session("Hello!")

def test_missing(agent_script):
    agent_script(Support, ["one"])
    session = Support.start_session("Hello!")
    with pytest.raises(Exception):
        session.continue_session("More")

def test_its_own_failure_is_shown(agent_script):
    agent_script(Support, ["one", "two"])
    assert 1 == 2

@pytest.mark.xfail(strict=True)
def test_it_may_be_expected(agent_script):
    agent_script(Support, ["one", "two"])
""")
    result.assert_outcomes(failed=3, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "E *AssertionError: 1 of 2 replies were not used",
            "E *AssertionError: the model was called 2 times, and the script has 1 replies",
            "E *assert 1 == 2",
        ]
    )
    reported = [line for line in result.outlines if line.startswith("E ") and "not used" in line]
    assert len(reported) == 1


def test_what_the_fixtures_change_ends_with_the_test(run_tests: Any) -> None:
    run_tests("""
import time
from agentsession import _clock
from agentsession.provider.choose import scripted

class Other:
    pass

@pytest.fixture
def hello(agent_script, agent_clock):
    agent_clock.advance(-1e9)
    return agent_script(Support, ["Hi!"])

def test_a_fixture_of_the_user_may_script(hello):
    with testing.script(Support, ["inner"]):
        Support.start_session("Hello!")
    Support.start_session("Hello!")
    assert len(hello) == 1

def test_a_script_inside_another_block(agent_script):
    with testing.script(Support, ["outer"]):
        agent_script(Support, ["one"])
        assert Support.start_session("Hello!").last_result.text == "one"
        testing.script(Support, []).__enter__()
        agent_script(Support, ["outer"])
        Support.start_session("Hello!")
        with testing.script(Support, ["outer"]):
            Support.start_session("Hello!")
        pytest.xfail("it is left in disorder")

def test_nothing_is_left_of_it():
    assert not scripted.get()
    assert abs(_clock.seconds() - time.time()) < 1e6
""").assert_outcomes(passed=2, xfailed=1)


def test_a_test_that_does_not_run_is_not_blamed_for_its_script(run_tests: Any) -> None:
    run_tests("""
from agentsession.provider.choose import scripted

@pytest.fixture
def hello(agent_script):
    agent_script(Support, ["Hi!"])

@pytest.fixture
def server(hello):
    pytest.skip("there is no server")

def test_with_a_server(server):
    pass

def test_nothing_is_left_of_it(agent_script):
    assert not scripted.get()
""").assert_outcomes(skipped=1, passed=1)


def test_a_crash_that_is_not_used_or_has_more_steps_fails_the_test(run_tests: Any) -> None:
    result = run_tests("""
@pytest.mark.crash_steps(1)
def test_unused(agent_crash):
    pass

@pytest.mark.crash_steps(3)
def test_too_few(agent_crash, agent_script):
    agent_script(Support, lambda prompt: "Hi!")
    with agent_crash:
        Support.start_session("Hello!")

@pytest.mark.crash_steps(4)
def test_enough(agent_crash, agent_script):
    agent_script(Support, lambda prompt: "Hi!")
    with agent_crash:
        Support.start_session("Hello!")
    assert [type(step) for step in agent_crash.performed][1:2] in ([], [CallModel])
""")
    result.assert_outcomes(failed=2, passed=2 + 4)
    result.stdout.fnmatch_lines(
        [
            "E *AssertionError: the test requests agent_crash and did not enter `with agent_crash:`",
            "E *AssertionError: there may be more than these 3 steps: mark the test with *crash_steps(7)",
        ]
    )


@pytest.mark.parametrize(
    ("marker", "error"),
    [("(0)", "*it takes one step at least*"), ("", "*missing 1 required positional argument: 'count'")],
)
def test_a_marker_without_a_count_is_an_error(run_tests: Any, marker: str, error: str) -> None:
    result = run_tests(f"""
@pytest.mark.crash_steps{marker}
def test_it(agent_crash):
    pass
""")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([error])


def test_the_plugin_may_be_imported_before_it_is_switched_on(run_tests: Any, pytester: Any) -> None:
    pytester.makepyfile(early="from agentsession.testing.plugin import ScriptAgent")
    run_tests("def test_it(agent_clock): pass", "-p", "early").assert_outcomes(passed=1)
