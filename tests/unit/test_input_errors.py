"""An input that does not fit says what is expected and what was found, never the value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import peewee as pw
import pytest
from pydantic import BaseModel

from agentsession import InputInvalid
from tests.support.models import Ask, chat_model

KEY = UUID(int=7)
SWAPPED = "an action of the class takes the session first, then the input"
TEXT = 'pass {"message": "…"} or the bare text'


def on_file(tmp_path: Path) -> pw.SqliteDatabase:
    return pw.SqliteDatabase(tmp_path / "chat.db", pragmas={"journal_mode": "wal", "busy_timeout": 1})


@pytest.fixture
def Chat(tmp_path: Path) -> Any:
    return chat_model(on_file(tmp_path))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, "None"),
        (5, "a value of the type int"),
        (KEY, "a value of the type UUID"),
        (["Hello"], "a value of the type list"),
        (b"Hello", "a value of the type bytes"),
    ],
)
def test_a_value_that_is_not_text_is_named_by_its_type(Chat: Any, given: Any, found: str) -> None:
    for action in (Chat.start_session, Chat.call):
        with pytest.raises(InputInvalid) as raised:
            action(given)
        assert raised.value.found == f"the input does not fit `message: str`: expected a text, found {found}"
        assert raised.value.fix.startswith(TEXT)
    assert Chat.select().count() == 0


@pytest.mark.parametrize("session", [KEY, 5, "record"])
def test_swapped_arguments_say_the_order(Chat: Any, session: Any) -> None:
    session = Chat(id=KEY) if session == "record" else session
    with pytest.raises(InputInvalid) as raised:
        Chat.continue_session("Hello", session)
    assert raised.value.fix == f"{TEXT}; {SWAPPED}"


def test_another_mistake_says_nothing_of_the_order(Chat: Any) -> None:
    for given in (None, {"mesage": "Hello"}, ["Hello"]):
        with pytest.raises(InputInvalid) as raised:
            Chat.start_session(given)
        assert raised.value.fix == TEXT
        assert "Input " not in raised.value.found.replace("Input should", "")


@dataclass
class Data:
    message: str


class Outer(BaseModel):
    ask: Ask
    other: int = 1


@pytest.mark.parametrize(
    ("schema", "given", "found"),
    [
        (Ask, None, "Ask: value: expected a dict or Ask, found None"),
        (Ask, 5, "Ask: value: expected a dict or Ask, found a value of the type int"),
        (Data, 5, "Data: value: expected a dict or Data, found a value of the type int"),
        (Outer, {"ask": ["SECRET"]}, "Outer: ask: expected a dict or Ask, found a value of the type list"),
    ],
)
def test_a_schema_of_the_user_s_is_named(schema: Any, given: Any, found: str, tmp_path: Path) -> None:
    Chat = chat_model(on_file(tmp_path), input_schema=schema)
    with pytest.raises(InputInvalid) as raised:
        Chat.start_session(given)
    assert raised.value.found == f"the input does not fit {found}"
