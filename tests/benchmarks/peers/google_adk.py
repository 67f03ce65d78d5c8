"""Google's Agent Development Kit with its SqliteSessionService, which opens a connection for each access."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.events import Event
from google.adk.models import BaseLlm, LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

from tests.benchmarks.peers.peer import Looping

APP, USER, AGENT = "benchmark", "user", "agent"
USAGE = types.GenerateContentResponseUsageMetadata(prompt_token_count=0, candidates_token_count=0)


class Answers(BaseLlm):
    peer: Any

    async def generate_content_async(
        self, llm_request: Any, stream: bool = False
    ) -> AsyncIterator[LlmResponse]:
        reply = said("model", self.peer.answer(len(llm_request.contents)))
        yield LlmResponse(content=reply, usage_metadata=USAGE)


class Peer(Looping):
    name = "google-adk"

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.sessions = SqliteSessionService(file)
        agent = LlmAgent(name=AGENT, model=Answers(model="benchmark", peer=self), instruction="You help.")
        self.runner = Runner(app_name=APP, agent=agent, session_service=self.sessions)

    def seeded(self, length: int) -> str:
        return str(self.wait(self.stored(length)))

    async def stored(self, length: int) -> str:
        session = await self.sessions.create_session(app_name=APP, user_id=USER)
        for position in range(length):
            author, role = (AGENT, "model") if position % 2 else (USER, "user")
            invocation = self.texts.turn_id()
            event = Event(author=author, invocation_id=invocation, content=said(role, self.texts.fresh()))
            await self.sessions.append_event(session, event)
        return session.id

    def turn(self, key: str) -> None:
        self.wait(self.spoken(key))

    async def spoken(self, key: str) -> None:
        message = said("user", self.words())
        async for _ in self.runner.run_async(user_id=USER, session_id=key, new_message=message):
            pass


def said(role: str, text: str) -> types.Content:
    return types.Content(role=role, parts=[types.Part(text=text)])
