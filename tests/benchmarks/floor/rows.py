"""The floor of the rows layout: read every row of the session, insert two, in two transactions."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tests.benchmarks.conversation import Stored, conversation, messages_of_a_turn
from tests.benchmarks.floor.connected import Floor, Message

CONTENT = msgspec.json.Decoder(str | list[dict] | dict)  # type: ignore[type-arg]
METADATA = msgspec.json.Decoder(dict)
encode = msgspec.json.Encoder().encode

SELECT = "select seq, turn, role, content::text, metadata::text from message where session = ? order by seq"
INSERT = "insert into message (session, seq, turn, role, content, metadata) values (?, ?, ?, ?, ?, ?)"


class RowsFloor(Floor):
    tables = (
        "create table if not exists chat (id text primary key, status text)",
        "create table if not exists message (id integer primary key, session text, seq integer, turn text,"
        " role text, content json, metadata json, unique (session, seq))",
    )

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(url, seed)
        self.begin = self.typed("begin immediate")
        self.open = self.typed("insert into chat (id, status) values (?, ?)")
        self.set_status = self.typed("update chat set status = ? where id = ?")
        self.insert = self.typed(INSERT)
        self.select = self.typed(SELECT)

    def seeded(self, length: int) -> str:
        key = self.texts.turn_id()
        with self.connected():
            self.run(self.begin)
            self.run(self.open, (key, "completed"))
            for seq, message in enumerate(conversation(length, self.texts)):
                self.run(self.insert, row(key, seq, message))
            self.run("commit")
        return key

    def start(self) -> None:
        key = self.texts.turn_id()
        user, reply = messages_of_a_turn(self.texts)
        with self.connected():
            self.commit(self.open, (key, "running"), row(key, 0, user))
        with self.connected():
            self.commit(self.set_status, ("completed", key), row(key, 1, reply))

    def turn(self, key: str) -> None:
        user, reply = messages_of_a_turn(self.texts)
        with self.connected():
            seq = len(self.read(key))
            self.commit(self.set_status, ("running", key), row(key, seq, user))
        with self.connected():
            self.commit(self.set_status, ("completed", key), row(key, seq + 1, reply))

    def read(self, key: str) -> Sequence[Message]:
        return [
            Message(f"{turn}:{seq}", turn, role, CONTENT.decode(content), METADATA.decode(metadata))
            for seq, turn, role, content, metadata in self.run(self.select, (key,))
        ]

    def commit(self, status: str, values: tuple[str, str], message: tuple[object, ...]) -> None:
        self.run(self.begin)
        self.run(status, values)
        self.run(self.insert, message)
        self.run("commit")


def row(key: str, seq: int, message: Stored) -> tuple[object, ...]:
    content, metadata = encode(message["content"]).decode(), encode(message["metadata"]).decode()
    return key, seq, message["turn"], message["role"], content, metadata
