"""A head that was restored from another moment than its message rows: each action works, and counts agree."""

from __future__ import annotations

from typing import Any

import pytest

from agentsession import info, testing
from tests.support.models import chat_model, kept

pytestmark = [pytest.mark.matrix, pytest.mark.layouts("rows")]

SAID = ["One", "one", "Two", "two", "Three", "three"]


def restored(Chat: Any, *, is_older: bool) -> Any:
    """A session of three turns whose head, or whose rows, are those of its first turn."""
    with testing.script(Chat, SAID[1::2]):
        session = Chat.start_session("One")
        head = kept(session)
        session.continue_session("Two")
        session.continue_session("Three")
    if is_older:
        Chat.update(context=head).where(Chat.id == session.id).execute()
    else:
        rows = info.message_model(Chat)
        rows.delete().where(rows.seq >= 2).execute()
    return session


@pytest.mark.parametrize("turns", [None, 1])
def test_a_session_with_an_older_head_continues_after_its_last_row(database: Any, turns: int | None) -> None:
    Chat = chat_model(database, session={"history_turns": turns})
    session = restored(Chat, is_older=True)
    context, page = Chat.get_context(session.id), Chat.get_context(session.id, last=2)
    assert [message.text for message in context.messages] == SAID
    assert (page.first, page.count, context.count) == (4, 6, 6)
    assert [message.text for message in page.messages] == SAID[4:]
    with testing.script(Chat, ["four"]):
        Chat.continue_session(session.id, "Four")
    context = Chat.get_context(session.id)
    assert [message.text for message in context.messages] == [*SAID, "Four", "four"]
    assert Chat.get_context(session.id, last=2).count == context.count == 8


def test_a_session_with_older_rows_continues_after_the_missing_ones(database: Any) -> None:
    Chat = chat_model(database)
    session = restored(Chat, is_older=False)
    with testing.script(Chat, ["four"]) as asked:
        Chat.continue_session(session.id, "Four")
    assert [message.content for message in asked[0][1:]] == ["One", "one", "Four"]
    rows = info.message_model(Chat)
    assert [row.seq for row in rows.select().order_by(rows.seq)] == [0, 1, 6, 7]
    assert Chat.get_context(session.id, last=2).count == Chat.get_context(session.id).count == 8
