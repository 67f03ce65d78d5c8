"""What the adapters share. Each module of this folder but this one has a class `Peer`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tests.benchmarks.texts import Texts


class Keeping:
    """Another library's sessions in a SQLite file, in WAL mode. Has the methods of a `Keeper`.

    `shown`: how many messages its model was shown last. `kept`: were the user's words stored by then?
    """

    name: str

    def __init__(self, file: str) -> None:
        self.file = file
        self.texts = Texts(3)
        self.said = ""
        self.shown = 0
        self.kept = False
        self.is_watched = False

    def connect(self) -> None:
        """Most libraries open their connections themselves."""

    def disconnect(self) -> None:
        """And close them."""

    def seeded(self, length: int) -> str:
        """The key of a session with so many messages, stored by the library's own means."""
        raise NotImplementedError

    def turn(self, key: str) -> None:
        raise NotImplementedError

    def words(self) -> str:
        """What the user says next."""
        self.said = self.texts.fresh()
        return self.said

    def answer(self, shown: int) -> str:
        """What the model says, when it was shown so many messages."""
        self.shown = shown
        if self.is_watched:
            wal, said = Path(f"{self.file}-wal").read_bytes(), self.said.encode()
            self.kept = said[:100] in wal or said[-100:] in wal  # a page may end within the text
        return self.texts.fresh()


class Looping(Keeping):
    """A library of coroutines; its event loop lives as long as an application's."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.loop = asyncio.new_event_loop()

    def disconnect(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)
