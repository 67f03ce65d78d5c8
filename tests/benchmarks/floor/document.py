"""The floor of the document layout: read and decode the whole document, write it whole, twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tests.benchmarks.conversation import conversation, messages_of_a_turn
from tests.benchmarks.floor.connected import Floor, Message


class Document(msgspec.Struct):
    """The same keys as our map."""

    v: int = 1
    revision: int = 0
    layout: str = "document"
    messages: list[Message] = []
    metadata: dict[str, Any] = {}
    instruction_args: dict[str, Any] = {}
    turn: dict[str, Any] = {}


DECODER = msgspec.json.Decoder(Document)
encode = msgspec.json.Encoder().encode


class DocumentFloor(Floor):
    tables = ("create table if not exists chat (id text primary key, document json, status text)",)

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(url, seed)
        self.insert = self.typed("insert into chat (id, document, status) values (?, ?, ?)")
        self.update = self.typed("update chat set document = ?, status = ? where id = ?")
        self.select = self.typed("select document::text from chat where id = ?")

    def seeded(self, length: int) -> str:
        key = self.texts.turn_id()
        document = Document(messages=msgspec.convert(conversation(length, self.texts), list[Message]))
        with self.connected():
            self.run(self.insert, (key, encode(document).decode(), "completed"))
        return key

    def start(self) -> None:
        key, document = self.texts.turn_id(), Document()
        user, reply = msgspec.convert(messages_of_a_turn(self.texts), list[Message])
        document.messages.append(user)
        with self.connected():
            self.run(self.insert, (key, encode(document).decode(), "running"))
        document.messages.append(reply)
        with self.connected():
            self.write(key, document, "completed")

    def turn(self, key: str) -> None:
        user, reply = msgspec.convert(messages_of_a_turn(self.texts), list[Message])
        with self.connected():
            document = self.document(key)
            document.messages.append(user)
            self.write(key, document, "running")
        document.messages.append(reply)
        with self.connected():
            self.write(key, document, "completed")

    def read(self, key: str) -> Sequence[Message]:
        return self.document(key).messages

    def document(self, key: str) -> Document:
        (text,) = self.run(self.select, (key,)).fetchone()
        return DECODER.decode(text)

    def write(self, key: str, document: Document, status: str) -> None:
        self.run(self.update, (encode(document).decode(), status, key))
