"""Agno with its SqliteDb, all of the session's runs in the model's context. It keeps the runs that it
has read in the memory of the process."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from agno.agent import Agent
from agno.db.sqlite import SqliteDb
from agno.models.base import Model
from agno.models.response import ModelResponse

from tests.benchmarks.peers.peer import Keeping

EVERY = 10**6


@dataclass
class Answers(Model):
    peer: Any = None

    def invoke(self, messages: Any, *_: Any, **__: Any) -> ModelResponse:
        shown = sum(message.role != "system" for message in messages)
        return ModelResponse(role="assistant", content=self.peer.answer(shown))

    async def ainvoke(self, *_: Any, **__: Any) -> ModelResponse:
        raise NotImplementedError

    def invoke_stream(self, *_: Any, **__: Any) -> Iterator[ModelResponse]:
        raise NotImplementedError

    def ainvoke_stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def _parse_provider_response(self, response: Any, **_: Any) -> ModelResponse:
        raise NotImplementedError

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        raise NotImplementedError


class Peer(Keeping):
    name = "agno"

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.database = SqliteDb(db_file=file)
        self.agent = Agent(
            model=Answers(id="benchmark", peer=self),
            db=self.database,
            instructions="You help.",
            add_history_to_context=True,
            num_history_runs=EVERY,
            telemetry=False,
        )

    def disconnect(self) -> None:
        self.database.db_engine.dispose()

    def seeded(self, length: int) -> str:
        """One real run, and others in its form."""
        key = self.texts.turn_id()
        run = self.agent.run(self.words(), session_id=key)
        for index in range(1, length // 2):
            self.database.upsert_run(self.another(run), session_id=key, run_index=index)
        return key

    def another(self, run: Any) -> Any:
        new = deepcopy(run)
        new.run_id = self.texts.turn_id()
        for message in new.messages:
            message.id = self.texts.turn_id()
            if message.role != "system":
                message.content = self.texts.fresh()
        new.input.input_content, new.content = new.messages[-2].content, new.messages[-1].content
        return new

    def turn(self, key: str) -> None:
        self.agent.run(self.words(), session_id=key)
