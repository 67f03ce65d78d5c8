"""LangGraph with its SqliteSaver, each checkpoint on disk before the next step begins."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph

from tests.benchmarks.peers.peer import Keeping
from tests.benchmarks.places import PRAGMAS


class Peer(Keeping):
    name = "langgraph"

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.connection = sqlite3.connect(file, check_same_thread=False)
        for name, value in PRAGMAS.items():
            self.connection.execute(f"pragma {name} = {value}")
        self.asked = 0
        self.model = GenericFakeChatModel(messages=self.replies())
        graph = StateGraph(MessagesState)
        graph.add_node("answer", self.ask)
        graph.add_edge(START, "answer")
        graph.add_edge("answer", END)
        self.graph: Any = graph.compile(checkpointer=SqliteSaver(self.connection))

    def replies(self) -> Iterator[BaseMessage]:
        while True:
            yield AIMessage(self.answer(self.asked))

    def ask(self, state: MessagesState) -> dict[str, Any]:
        self.asked = len(state["messages"])
        return {"messages": [self.model.invoke(state["messages"])]}

    def disconnect(self) -> None:
        self.connection.close()

    def seeded(self, length: int) -> str:
        key = self.texts.turn_id()
        kinds = (HumanMessage, AIMessage)
        messages = [
            kinds[position % 2](self.texts.fresh(), id=self.texts.turn_id()) for position in range(length)
        ]
        self.graph.update_state(thread(key), {"messages": messages}, as_node="answer")
        return key

    def turn(self, key: str) -> None:
        said = {"messages": [HumanMessage(self.words())]}
        self.graph.invoke(said, thread(key), durability="sync")


def thread(key: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": key}}
