"""How to test code that talks to an agent: scripted replies, failures and crashes. Run it with pytest.

No model is asked, nothing is patched, no test waits, and the database is a file of each test's own. With
`pytest_plugins = ["agentsession.testing.plugin"]` in a conftest.py there are fixtures for the same.
"""

from collections.abc import Iterator
from pathlib import Path

import peewee as pw
import pytest

from agentsession import (
    ProviderCallError,
    ProviderFailed,
    SessionActions,
    SessionBusy,
    agent,
    agent_session,
    testing,
)

db = pw.DatabaseProxy()


@agent_session(status_attribute="status", lease=30)
@agent(client="anthropic:claude-sonnet-4-20250514", instruction="You answer customers.")
class Support(SessionActions, pw.Model):
    context = pw.JSONField(null=True)
    status = pw.CharField(default="pending")

    class Meta:
        database = db


def answer_customer(session_id: int, request_id: str, words: str) -> str:
    """The code under test: what a web route would do. A request that is repeated keeps its id."""
    try:
        session = Support.continue_session(session_id, words, idempotency_key=request_id)
    except ProviderFailed:
        return "We will be back soon."
    return session.last_result.output


@pytest.fixture(autouse=True)
def database(tmp_path: Path) -> Iterator[None]:
    pragmas = {"journal_mode": "wal", "busy_timeout": 5000}
    db.initialize(pw.SqliteDatabase(tmp_path / "test.db", pragmas=pragmas))
    db.create_tables([Support])
    yield
    db.close()


def test_the_model_is_shown_the_conversation() -> None:
    with testing.script(Support, ["Hello!", "Yes, until 6 pm."]) as asked:
        session = Support.start_session("Hi")
        assert answer_customer(session.id, "request 1", "Are you open?") == "Yes, until 6 pm."
    assert [message.content for message in asked[1]] == [
        "You answer customers.",
        "Hi",
        "Hello!",
        "Are you open?",
    ]


def test_a_provider_that_is_down_keeps_the_customers_words() -> None:
    session = Support.start_session("Hi", run=False)
    with testing.script(Support, ["Hello!", ProviderCallError("overloaded")]):
        session.resume_session()
        assert answer_customer(session.id, "request 1", "Are you open?") == "We will be back soon."
    assert Support.get_by_id(session.id).status == "failed"
    with testing.script(Support, ["Yes."]):
        assert Support.resume_session(session.id).last_result.text == "Yes."


def test_a_crash_at_any_moment_loses_nothing_and_nothing_is_answered_twice() -> None:
    for crash in testing.every_crash():
        with testing.script(Support, lambda _: "Yes."), testing.clock() as clock:
            session = Support.start_session("Hi")
            with crash:
                answer_customer(session.id, "request 1", "Are you open?")
            if Support.get_by_id(session.id).status == "running":
                with pytest.raises(SessionBusy):  # nobody knows yet that the process is dead
                    answer_customer(session.id, "request 1", "Are you open?")
            clock.advance(31)  # its lease runs out, and the customer's browser sends the request again
            assert answer_customer(session.id, "request 1", "Are you open?") == "Yes.", crash
        said = [message.text for message in session.get_context().messages]
        assert said == ["Hi", "Yes.", "Are you open?", "Yes."], crash
