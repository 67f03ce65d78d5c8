"""How to test code that talks to an agent: scripted replies, failures and crashes. Run it with pytest.

No model is asked, nothing is patched, and the database is a file of each test's own.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import peewee as pw
import pytest

from agentsession import ProviderError, ProviderFailed, SessionActions, agent, agent_session, testing

db = pw.DatabaseProxy()


@agent_session(status_attribute="status", lease=0.1)
@agent(client="anthropic:claude-sonnet-4-20250514", instruction="You answer customers.")
class Support(SessionActions, pw.Model):
    context = pw.JSONField(null=True)
    status = pw.CharField(default="pending")

    class Meta:
        database = db


def answer_customer(session_id: int, words: str) -> str:
    """The code under test: what a web route would do."""
    try:
        return Support.continue_session(session_id, words).last_result.output
    except ProviderFailed:
        return "We will be back soon."


@pytest.fixture(autouse=True)
def database(tmp_path: Path) -> Iterator[None]:
    db.initialize(pw.SqliteDatabase(tmp_path / "test.db", pragmas={"journal_mode": "wal"}))
    db.create_tables([Support])
    yield
    db.close()


def test_the_model_is_shown_the_conversation() -> None:
    with testing.script(Support, ["Hello!", "Yes, until 6 pm."]) as asked:
        session = Support.start_session("Hi")
        assert answer_customer(session.id, "Are you open?") == "Yes, until 6 pm."
    assert [message.content for message in asked[1]] == [
        "You answer customers.",
        "Hi",
        "Hello!",
        "Are you open?",
    ]


def test_a_provider_that_is_down_keeps_the_customers_words() -> None:
    session = Support.start_session("Hi", run=False)
    with testing.script(Support, ["Hello!", ProviderError("overloaded")]):
        session.resume_session()
        assert answer_customer(session.id, "Are you open?") == "We will be back soon."
    assert Support.get_by_id(session.id).status == "failed"
    with testing.script(Support, ["Yes."]):
        assert Support.resume_session(session.id).last_result.text == "Yes."


def test_a_crash_while_the_model_is_asked_loses_nothing() -> None:
    with testing.script(Support, ["Hello!"]):
        session = Support.start_session("Hi")
    with testing.script(Support, []), testing.crash_after(2):  # loaded, claimed, and "killed"
        answer_customer(session.id, "Are you open?")
    assert Support.get_by_id(session.id).status == "running"
    time.sleep(0.1)  # the lease runs out
    with testing.script(Support, ["Yes."]) as asked:
        Support.resume_session(session.id)
    assert asked[0][-1].content == "Are you open?"
