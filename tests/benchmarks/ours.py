"""Our side of each measurement: the actions of a session model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.benchmarks.layouts import LAYOUTS
from tests.benchmarks.places import open_peewee
from tests.benchmarks.seeding import seed
from tests.benchmarks.texts import Texts


class Ours:
    """Has the methods of a `Side`, for any session model whose provider answers by itself."""

    name = "ours"

    def __init__(self, model: Any, texts: Texts) -> None:
        self.model = model
        self.texts = texts
        self.database = model._meta.database

    @property
    def connection(self) -> Any:
        return self.database.connection()

    def connect(self) -> None:
        self.database.connect(reuse_if_open=True)

    def disconnect(self) -> None:
        self.database.close()

    @contextmanager
    def connected(self) -> Iterator[None]:
        """With a connection open, which is closed again if there was none."""
        opened = self.database.connect(reuse_if_open=True)
        try:
            yield
        finally:
            if opened:
                self.database.close()

    def seeded(self, length: int) -> Any:
        with self.connected():
            return seed(self.model, length, self.texts)

    def start(self) -> None:
        self.model.start_session(self.texts.fresh())

    def turn(self, key: Any) -> None:
        self.model.continue_session(key, self.texts.fresh())

    def read(self, key: Any) -> Sequence[Any]:
        messages: Sequence[Any] = self.model.get_context(key).messages
        return messages


def open_ours(url: str, layout: str, seed: int = 1) -> Ours:
    texts = Texts(seed)
    return Ours(LAYOUTS[layout](open_peewee(url), texts), texts)
