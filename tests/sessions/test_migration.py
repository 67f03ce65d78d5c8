"""Sessions that are moved from documents to rows and back: nothing is lost, and nobody writes beside it."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any
from uuid import uuid4

import pytest

from agentsession import (
    LayoutMismatch,
    LeaseLost,
    ProviderCallError,
    SessionBusy,
    TurnFailed,
    _clock,
    actions,
    info,
    testing,
)
from agentsession.context import VERSION
from agentsession.provider import Reply
from tests.support.layouts import messages_in_rows
from tests.support.models import Answer, chat_model, let_the_lease_run_out, stored

pytestmark = [pytest.mark.matrix, pytest.mark.layouts("rows")]


@pytest.fixture
def Rows(Chat: Any) -> Any:
    return Chat


@pytest.fixture
def Documents(Rows: Any) -> Any:
    """The same table, as a program sees it that declares documents."""
    return chat_model(Rows._meta.database, create=False, session={"messages": "document"})


def said(model: Any, key: Any) -> Any:
    """All of a session that a user sees, but for the layout."""
    context = model.get_context(key)
    return context.messages, context.turn, context.instruction_args, context.metadata, context.count


def some_sessions(Chat: Any) -> list[Any]:
    """One of each state in which a session can rest."""
    plain = Chat.start_session("One", instruction_args={"a": [1, {"b": None}]})
    plain.continue_session("Two")
    failed = Chat.start_session("Fine")
    with testing.script(Chat, [ProviderCallError("down")]), pytest.raises(TurnFailed):
        failed.continue_session("Fails")
    failed.continue_session("Goes on")
    with testing.script(Chat, [("half ", "said", KeyboardInterrupt())]), pytest.raises(KeyboardInterrupt):
        [*Chat.stream_continue_session(failed, "Left")]
    pending = Chat.start_session("Later", run=False)
    return [plain.id, failed.id, pending.id]


def test_a_session_moved_there_and_back_is_unchanged(Rows: Any, Documents: Any) -> None:
    keys = some_sessions(Documents)
    before = [said(Documents, key) for key in keys]
    maps = [stored(Documents.get_by_id(key)) for key in keys]
    moved = actions.migrate(Rows, to="rows", batch=2)
    assert (moved.moved, moved.messages, moved.is_complete) == (3, sum(len(each[0]) for each in before), True)
    assert [said(Rows, key) for key in keys] == before
    for key in keys:
        assert messages_in_rows(Rows, key) == [
            {name: each[name] for name in ("id", "turn", "role", "content", "metadata")}
            for each in stored(Rows.get_by_id(key))["messages"]
        ]
        with pytest.raises(LayoutMismatch):
            Documents.continue_session(key, "Lost?")
    assert actions.migrate(Rows, to="rows").moved == 0
    assert actions.migrate(Rows, to="document").moved == 3
    assert [said(Documents, key) for key in keys] == before
    assert info.message_model(Rows).select().count() == 0
    for key, before_ in zip(keys, maps, strict=True):
        now = stored(Documents.get_by_id(key))
        assert now.pop("revision") == before_.pop("revision") + 2
        assert now == before_


def test_a_moved_session_continues(Rows: Any, Documents: Any) -> None:
    keys = some_sessions(Documents)
    last = [Documents.get_by_id(key).last_result.text for key in keys[:2]]
    actions.migrate(Rows)
    assert [Rows.get_by_id(key).last_result.text for key in keys[:2]] == last
    Rows.continue_session(keys[0], "Three")
    assert [message.text for message in Rows.get_context(keys[0]).messages][::2] == ["One", "Two", "Three"]
    Rows.resume_session(keys[1])
    opening = Rows.get_context(keys[1]).messages[-2]
    assert (opening.text, opening.metadata["partials"]) == ("Left", ["half said"])
    Rows.resume_session(keys[2])
    actions.migrate(Rows, to="document")
    assert Documents.get_context(keys[2]).count == 2


ODD: dict[str, Any] = {
    "v": VERSION,
    "revision": 7,
    "layout": "document",
    "ours": {"kept": True},
    "messages": [
        {"id": "mine", "turn": "t", "role": "user", "content": {"message": "x"}, "metadata": {}, "stars": 5},
        {"id": "t:1", "turn": "t", "role": "assistant", "content": [{"type": "text", "text": "y"}],
         "metadata": {"agentsession": 1}},
    ],
    "metadata": {"m": 1},
    "instruction_args": {},
    "turn": {"id": "t", "status": "completed", "more": 1},
}  # fmt: skip
OLD = {
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello", "metadata": {"x": 1}},
        {"role": "assistant", "content": "Hi", "name": "bot"},
    ],
    "metadata": {},
    "input": {"message": "Hello"},
}


@pytest.mark.parametrize("map_", [ODD, OLD], ids=["odd", "old"])
def test_keys_of_the_user_are_moved_back(Rows: Any, Documents: Any, map_: Any) -> None:
    key = uuid4()
    Documents.create(id=key, context=map_)
    before = said(Documents, key)
    assert actions.migrate(Rows).moved == 1
    assert said(Rows, key) == before
    actions.migrate(Rows, to="document")
    assert said(Documents, key) == before
    now = Documents.get_by_id(key).context
    if map_ is ODD:
        assert now == {**ODD, "revision": 9}
    else:
        assert now["messages"][2]["name"] == "bot"
        assert now["input"] == {"message": "Hello"}


def test_a_running_turn_is_skipped_and_an_abandoned_one_is_closed(
    Rows: Any, Documents: Any, at: _clock.FakeClock
) -> None:
    key = Documents.start_session("Hello").id
    with testing.crash_after(2):
        Documents.continue_session(key, "Running")
    before = stored(Documents.get_by_id(key))
    moved = actions.migrate(Rows)
    assert (moved.moved, moved.busy, moved.is_complete) == (0, [key], False)
    assert stored(Documents.get_by_id(key)) == before
    at.advance(31)
    assert actions.migrate(Rows).moved == 1
    record = Rows.get_by_id(key)
    assert (record.status, record.last_turn.status) == ("interrupted", "interrupted")
    assert Rows.resume_session(key).last_result.text


def test_a_holder_whose_lease_ran_out_cannot_write_into_the_other_layout(Rows: Any) -> None:
    class Slow:
        def ask(self, request: Any) -> Reply:
            let_the_lease_run_out(Documents, key)
            assert actions.migrate(Rows).moved == 1
            return Reply("late")

    Documents = chat_model(
        Rows._meta.database, create=False, session={"messages": "document"}, provider=Slow()
    )
    key = Documents.start_session("Hello", run=False).id
    with pytest.raises(LeaseLost) as lost:
        Documents.resume_session(key)
    assert lost.value.result.text == "late"
    assert [message.text for message in Rows.get_context(key).messages] == ["Hello"]


def test_a_dry_run_writes_nothing(Rows: Any, Documents: Any) -> None:
    keys = some_sessions(Documents)
    before = [stored(Documents.get_by_id(key)) for key in keys]
    moved = actions.migrate(Rows, dry_run=True)
    assert (moved.moved, moved.is_complete) == (3, True)
    assert [stored(Documents.get_by_id(key)) for key in keys] == before
    assert info.message_model(Rows).select().count() == 0


def test_an_unreadable_session_is_reported_and_the_others_are_moved(Rows: Any, Documents: Any) -> None:
    keys = some_sessions(Documents)
    Documents.update(context={"v": 9}).where(Documents.id == keys[0]).execute()
    moved = actions.migrate(Rows)
    assert (moved.moved, list(moved.failed)) == (2, [keys[0]])
    assert "version 9" in moved.failed[keys[0]]
    assert Documents.get_by_id(keys[0]).context == {"v": 9}


def test_turns_beside_a_migration_store_each_message_once(Rows: Any, Documents: Any) -> None:
    keys = [Documents.start_session(f"{number}").id for number in range(12)]
    words: dict[Any, list[str]] = {key: [] for key in keys}
    done = threading.Event()

    def talk() -> None:
        for number in range(200):
            if done.is_set():
                return
            for key in keys[:4]:
                try:
                    Documents.continue_session(key, f"{number}")
                except (LayoutMismatch, SessionBusy):
                    continue
                words[key].append(f"{number}")

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        for _ in range(100):
            if actions.migrate(Rows).is_complete:
                break
    finally:
        done.set()
        talker.join()
    assert actions.migrate(Rows).is_complete
    for key, expected in words.items():
        said_now = [message.text for message in Rows.get_context(key).messages if message.role == "user"]
        assert said_now[1:] == expected


def test_invalid_arguments_of_migrate_are_explained(Rows: Any, Documents: Any) -> None:
    database = Rows._meta.database
    for call, found in (
        (lambda: actions.migrate(Documents), "the model has no @agent_message"),
        (lambda: actions.migrate(Rows, to="row"), "to is 'row'"),  # type: ignore[arg-type]
        (lambda: actions.migrate(Rows, batch=0), "batch is 0"),
    ):
        with pytest.raises(Exception, match=found):
            call()
    with database.connection_context(), database.atomic(), pytest.raises(Exception, match="transaction is"):
        actions.migrate(Rows)


PROGRAM = """
from tests.support.models import Answer, chat_model, open_database
Rows = chat_model(open_database({url!r}))
"""


@pytest.mark.backends("sqlite")
def test_the_migrate_command_moves_sessions(Rows: Any, Documents: Any, tmp_path: Any) -> None:
    keys = some_sessions(Documents)
    (tmp_path / "shop.py").write_text(PROGRAM.format(url=Rows._meta.database.url))

    def command(*arguments: str) -> tuple[int, str, str]:
        run = [sys.executable, "-m", "agentsession", "migrate", *arguments]
        ended = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, timeout=60)
        return ended.returncode, ended.stdout, ended.stderr

    assert command("shop:Rows", "--dry-run") == (0, "would move 3 sessions with 12 messages to rows\n", "")
    assert command("shop:Rows") == (0, "moved 3 sessions with 12 messages to rows\n", "")
    assert Rows.get_context(keys[0]).count == 4
    assert command("shop:Rows", "--to", "document", "--batch", "1")[1].startswith("moved 3 sessions")
    assert command("shop")[::2] == (2, "shop: write it as package.module:Model\n")
    assert command("./shop:Rows")[::2] == (2, "./shop:Rows: write it as package.module:Model\n")
    assert command("shop:Answer")[::2] == (2, "shop:Answer: the module shop has no Peewee model 'Answer'\n")
    assert command("nowhere:Chat")[::2] == (2, "nowhere:Chat: No module named 'nowhere'\n")


def test_replies_are_still_typed_after_a_move(database: Any) -> None:
    Rows = chat_model(database, output_schema=Answer)
    Documents = chat_model(database, create=False, output_schema=Answer, session={"messages": "document"})
    with testing.script(Documents, [Answer(content="yes")]):
        key = Documents.start_session("Hello").id
    actions.migrate(Rows)
    assert Rows.get_by_id(key).last_result.output == Answer(content="yes")
