from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models import RecordingDatabase, chat_model, open_database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[RecordingDatabase]:
    """An SQLite file of the test's own."""
    opened = open_database(tmp_path / "chat.db")
    yield opened
    if not opened.is_closed():
        opened.close()


@pytest.fixture
def Chat(database: RecordingDatabase) -> Any:
    return chat_model(database)
