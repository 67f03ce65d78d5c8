"""A turn enters few functions of the library: what a turn costs beside the database and the model."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

import peewee as pw

import agentsession
from agentsession import SessionActions, agent, agent_session

PACKAGE = str(Path(agentsession.__file__).parent)
MAX_CALLS, MAX_FILES = 320, 40


def test_a_warm_turn_enters_at_most_40_files_and_320_functions(database: Any) -> None:
    connection = database

    @agent_session
    @agent(client="echo:", instruction="You help.")
    class Chat(SessionActions, pw.Model):
        id = pw.UUIDField(primary_key=True, default=uuid4)
        context = pw.JSONField(null=True)

        class Meta:
            database = connection

    connection.create_tables([Chat])
    session = Chat.start_session("Hello")
    for _ in range(3):
        session.continue_session("And then?")
    files: list[str] = []

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            files.append(frame.f_code.co_filename)

    sys.setprofile(count)
    try:
        session.continue_session("And then?")
    finally:
        sys.setprofile(None)
    assert len({*files}) <= MAX_FILES
    assert len(files) <= MAX_CALLS
