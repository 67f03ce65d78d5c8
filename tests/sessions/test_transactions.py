"""An action that asks a model is refused inside a transaction; storing and reading are not."""

from __future__ import annotations

from typing import Any

import pytest

from agentsession import TransactionOpen, testing
from tests.support.models import stored, texts

pytestmark = pytest.mark.matrix


def test_a_model_call_inside_a_transaction_is_refused_before_anything_is_stored(Chat: Any) -> None:
    database = Chat._meta.database
    session = Chat.start_session("One")
    pending = Chat.start_session("Later", run=False)
    before = stored(session)
    for action in (
        lambda: Chat.start_session("Two"),
        lambda: session.continue_session("Two"),
        lambda: pending.resume_session(),
    ):
        with testing.script(Chat, []), database.atomic(), pytest.raises(TransactionOpen, match="run=False"):
            action()
    assert stored(session) == before
    assert Chat.select().count() == 2


def test_a_transaction_begun_by_hand_is_noticed(Chat: Any) -> None:
    database = Chat._meta.database
    session = Chat.start_session("One")
    with database.connection_context():
        database.execute_sql("begin")
        with pytest.raises(TransactionOpen):
            session.continue_session("Two")
        database.execute_sql("rollback")
        session.continue_session("Two")
        with database.manual_commit(), pytest.raises(TransactionOpen):
            session.continue_session("Three")


def test_storing_and_reading_inside_a_transaction_follow_its_commit(Chat: Any) -> None:
    database = Chat._meta.database
    session = Chat.start_session("One")
    with database.atomic():
        assert len(session.get_context().messages) == 2
        kept = Chat.start_session("Kept", run=False)
        session.continue_session("Also kept", run=False)
    assert Chat.resume_session(kept.id).last_result.text.startswith("You said: Kept")
    assert texts(Chat, session)[-1] == "Also kept"

    with database.atomic() as transaction:
        lost = Chat.start_session("Lost", run=False)
        transaction.rollback()
    assert Chat.get_or_none(Chat.id == lost.id) is None


def test_a_test_that_rolls_back_may_allow_all_actions(Chat: Any) -> None:
    database = Chat._meta.database
    with testing.inside_transaction(), database.atomic() as transaction:
        session = Chat.start_session("One")
        session.continue_session("Two")
        assert len(session.get_context().messages) == 4
        transaction.rollback()
    assert Chat.select().count() == 0
