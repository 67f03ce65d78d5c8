"""The next version of the stored format: the sessions of this version go on in it, in both layouts."""

from __future__ import annotations

from typing import Any

import pytest

from agentsession import ContextUnreadable, LayoutMismatch
from agentsession._json_values import JsonMap
from agentsession._store import format
from agentsession.context import VERSION
from agentsession.info import message_model
from tests.support.models import chat_model, kept, texts

NEXT = VERSION + 1


def with_labels(map_: JsonMap) -> JsonMap:
    return {"labels": {}, **map_}


@pytest.fixture
def upgrade(monkeypatch: pytest.MonkeyPatch) -> Any:
    def upgrade() -> None:
        monkeypatch.setattr(format, "VERSION", NEXT)
        monkeypatch.setattr(format, "UPCASTERS", {**format.UPCASTERS, VERSION: with_labels})

    return upgrade


@pytest.mark.matrix
def test_a_session_of_this_version_is_upgraded_by_its_next_turn(Chat: Any, upgrade: Any) -> None:
    session = Chat.start_session("Hi")
    before = texts(Chat, session.id)
    upgrade()
    assert texts(Chat, session.id) == before
    again = Chat.continue_session(session.id, "More")
    assert texts(Chat, session.id)[:2] == before
    assert len(texts(Chat, session.id)) == 4
    upgraded = kept(again)
    assert (upgraded["v"], upgraded["labels"], upgraded["revision"]) == (NEXT, {}, 4)


@pytest.mark.parametrize("layouts", [("document", "rows"), ("rows", "document")])
def test_a_session_of_this_version_keeps_its_layout(
    database: Any, upgrade: Any, layouts: tuple[str, str]
) -> None:
    one, other = (chat_model(database, create=False, session={"messages": each}) for each in layouts)
    rows = one if layouts[0] == "rows" else other
    database.create_tables([rows, message_model(rows)])
    key = one.start_session("Hi").id
    upgrade()
    with pytest.raises(LayoutMismatch):
        other.continue_session(key, "More")


def test_a_damaged_session_of_this_version_is_refused(Chat: Any, upgrade: Any) -> None:
    session = Chat.start_session("Hi")
    damaged = {**kept(session), "revision": None}
    Chat.update(context=damaged).execute()
    upgrade()
    with pytest.raises(ContextUnreadable, match="no revision number"):
        Chat.get_context(session.id)
