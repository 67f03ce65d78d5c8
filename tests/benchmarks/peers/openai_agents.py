"""The OpenAI Agents SDK with its SQLiteSession, whose connection stays open between turns."""

from __future__ import annotations

from typing import Any

from agents import Agent, Model, ModelResponse, RunConfig, Runner, SQLiteSession, Usage
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from tests.benchmarks.peers.peer import Looping


class Answers(Model):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
        text = ResponseOutputText(text=self.peer.answer(len(input)), type="output_text", annotations=[])
        message = ResponseOutputMessage(
            id=self.peer.texts.turn_id(), content=[text], role="assistant", status="completed", type="message"
        )
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


class Peer(Looping):
    name = "openai-agents"

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.agent = Agent(name="benchmark", instructions="You help.", model=Answers(self))
        self.config = RunConfig(tracing_disabled=True)
        self.sessions: dict[str, SQLiteSession] = {}

    def disconnect(self) -> None:
        for session in self.sessions.values():
            session.close()
        super().disconnect()

    def seeded(self, length: int) -> str:
        key = self.texts.turn_id()
        session = self.sessions[key] = SQLiteSession(key, self.file)
        items: list[Any] = [
            {"role": "user", "content": self.texts.fresh()}
            if position % 2 == 0
            else self.reply(self.texts.fresh())
            for position in range(length)
        ]
        self.wait(session.add_items(items))
        return key

    def reply(self, text: str) -> dict[str, Any]:
        content = [{"annotations": [], "text": text, "type": "output_text", "logprobs": None}]
        facts = {"role": "assistant", "status": "completed", "type": "message"}
        return {"id": self.texts.turn_id(), "content": content, **facts}

    def turn(self, key: str) -> None:
        session = self.sessions[key]
        self.wait(Runner.run(self.agent, self.words(), session=session, run_config=self.config))
