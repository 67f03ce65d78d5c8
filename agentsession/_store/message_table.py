"""The table of the messages: which rows of a session are read, and how one is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from peewee import Node, fn

from agentsession import _registry, info
from agentsession._json_values import JsonMap, compact
from agentsession._store.connection import database_of, refused_for_rows
from agentsession._store.format import unreadable
from agentsession._store.statement import Table, given
from agentsession._store.values import column_value
from agentsession.context import Message
from agentsession.errors import DslError, Problem

JSON = ("content", "metadata")


class MessageTable:
    """Rows are read as the values of `OWN` and, last, the revision of the session at that moment, or the text
    of its head, as `of_head` says. `locked`: in a transaction that holds the lock of the session."""

    of_head = "revision"
    locked = False

    def __init__(self, model: Any, context_attribute: str) -> None:
        declared = _registry.message_of(model)
        if declared is None:
            raise LookupError(f"{model.__name__} has no @agent_message")
        message, session_attribute = declared
        self.table = Table(message)
        if self.table.database is not database_of(model):
            raise _elsewhere(model, message)
        if problem := refused_for_rows(self.table.database, f"[{info.place(message)}] Meta -> database"):
            raise DslError((problem,))  # a proxy may be initialized after the declaration
        self.dialect = self.table.dialect
        self.session: Any = self.table.meta.fields[session_attribute]
        self.fields: dict[str, Any] = {name: self.table.meta.fields[name] for name in OWN}
        self.head = model
        self._known = self._value = None
        self.column = model._meta.fields[context_attribute]

    def all(self, key: Any) -> list[Row]:
        return self._rows("all", self._every, key)

    def page(self, key: Any, last: int | None, before: int | None) -> list[Row]:
        """The last so many, of those before a position."""
        seq = self.fields["seq"]

        def query() -> Any:
            rows = self._every() if before is None else self._every().where(seq < given("before"))
            return rows if last is None else rows.order_by(seq.desc()).limit(given("last"))

        shape = ("page", last is None, before is None)
        rows = self._rows(shape, query, key, last=last, before=before)
        return rows if last is None else rows[::-1]

    def latest(self, key: Any, turns: int, turn: str | None, system: int | None) -> list[Row]:
        """Those of the last so many turns; and, of the earlier ones, those of a turn, and the one at the
        position `system`."""
        seq = self.fields["seq"]

        def query() -> Any:
            start = self._start()
            rows = self._every().where(seq >= start)
            if turn is not None:
                same = self.dialect.equals_exactly(self.fields["turn"], given("turn"))
                rows = rows.union_all(self._some().where(same, seq < start))
            if system is not None:
                rows = rows.union_all(self._some().where(seq == given("system"), seq < start))
            return rows

        shape = ("latest", turn is None, system is None)
        rows = self._rows(shape, query, key, offset=turns - 1, turn=turn, system=system)
        return sorted(rows, key=lambda row: row[0])

    def insert(self, key: Any, messages: Sequence[Mapping[str, Any]]) -> None:
        """Store new rows; columns of the user's own get their defaults."""
        others = [field for field in self.table.meta.sorted_fields if field.default is not None]
        values = self._key(key)
        for number, message in enumerate(messages):
            values |= {f"{name}.{number}": value for name, value in message.items()}
            values |= {f"{field.name}.{number}": _default(field) for field in others}
        in_sql = {name: value for name, value in values.items() if isinstance(value, Node)}

        def query() -> Any:
            rows = [self._row(number, others, in_sql) for number in range(len(messages))]
            return self.table.model.insert_many(rows).returning()

        self.table.run(None if in_sql else ("insert", len(messages)), query, values)

    def update(self, key: Any, seq: int, metadata: str) -> None:
        def query() -> Any:
            value = {self.fields["metadata"]: self.dialect.document(given("metadata"))}
            return self.table.model.update(value).where(self._at())

        self.table.run("update", query, {**self._key(key), "seq": seq, "metadata": metadata})

    def delete(self, key: Any, seq: int) -> None:
        def query() -> Any:
            return self.table.model.delete().where(self._at())

        self.table.run("delete", query, {**self._key(key), "seq": seq})

    def clear(self, key: Any) -> None:
        """Delete all messages of a session."""

        def query() -> Any:
            return self.table.model.delete().where(self._of_session())

        self.table.run("clear", query, self._key(key))

    def _rows(self, shape: Any, query: Any, key: Any, **values: Any) -> list[Row]:
        kind = (shape, self.of_head, self.locked)
        return self.table.rows(kind, query, {**self._key(key), **values})

    def _every(self) -> Any:
        return self._some().order_by(self.fields["seq"])

    def _some(self) -> Any:
        raw = [self.dialect.raw(self.fields[name]) if name in JSON else self.fields[name] for name in OWN]
        same: Any = self.head._meta.primary_key == given("session")
        dialect, column = self.dialect, self.column
        of_head = dialect.raw(column) if self.of_head == "text" else dialect.number(column, "revision")
        moment = self.head.select(of_head).where(same)
        found = self.table.model.select(*raw, moment).where(self._of_session())
        return dialect.read_latest(found) if self.locked else found

    def _start(self) -> Any:
        """The position of the user's message with which the window begins."""
        seq, role = self.fields["seq"], self.fields["role"]
        openings = self.table.model.select(seq).where(self._of_session(), role == "user")
        return fn.COALESCE(openings.order_by(seq.desc()).limit(1).offset(given("offset")), 0)

    def _row(self, number: int, others: Sequence[Any], in_sql: Mapping[str, Any]) -> dict[Any, Any]:
        """`in_sql`: defaults that their fields write as SQL, as a JSON field does, for this time only."""
        names = {field: f"{field.name}.{number}" for field in (*others, *self.fields.values())}
        row = {field: in_sql.get(name, given(name)) for field, name in names.items()}
        row[self.session] = given("session")
        for name in JSON:
            row[self.fields[name]] = self.dialect.document(row[self.fields[name]])
        return row

    def _key(self, key: Any) -> dict[str, Any]:
        if key is not self._known:
            self._known, self._value = key, column_value(self.session, key)
        return {"session": self._value}

    def _of_session(self) -> Any:
        return self.dialect.equals_exactly(self.session, given("session"))

    def _at(self) -> Any:
        return self._of_session() & (self.fields["seq"] == given("seq"))


def _elsewhere(model: Any, message: Any) -> DslError:
    found = f"{message.__name__} is bound to another database than {model.__name__}"
    why = "a message and its session are written in one transaction"
    where = f"[{info.place(message)}] Meta -> database"
    return DslError((Problem(where, found, why, "bind both models to the same database"),))


def _default(field: Any) -> Any:
    value = field.default() if callable(field.default) else field.default
    return field.db_value(value)


OWN = ("seq", "turn", "role", "content", "metadata")
"""The fields of a message row, but for the one that says whose it is."""

TURN_LENGTH = 255
"""Characters of an idempotency key, which is the id of its turn."""

ROLE_LENGTH = 20

OTHER = "agentsession_document"
"""The key of a row's metadata for what a message of a document had beside."""

Content = str | list[JsonMap] | JsonMap

_content = msgspec.json.Decoder(Content).decode
_metadata = msgspec.json.Decoder(JsonMap).decode

Row = Sequence[Any]
"""The values of `OWN`, content and metadata as JSON text."""


def columns_of(message: JsonMap, seq: int) -> dict[str, Any]:
    """The row of a message that stands in a document in this form."""
    metadata = message.get("metadata") or {}
    other = {name: value for name, value in message.items() if name not in OWN and name != "id"}
    if message["id"] != f"{message['turn']}:{seq}":
        other["id"] = message["id"]
    if other:
        metadata = {**metadata, OTHER: other}
    content = compact(message["content"])
    return {
        "seq": seq,
        "turn": message["turn"],
        "role": message["role"],
        "content": content,
        "metadata": compact(metadata),
    }


def as_document(row: Row) -> JsonMap:
    """The same, back from its row."""
    message = _message_of(row, "")
    return {**msgspec.to_builtins(_restored(message)), **_other(message)}


def rewritten(metadata: JsonMap, row: Row | None) -> str:
    """New metadata for a row, which keeps what its message had in a document."""
    known = {} if row is None or row[-2] is None else _metadata(row[-2])
    return compact({**metadata, OTHER: known[OTHER]} if OTHER in known else metadata)


def messages_of(rows: Sequence[Row], place: str) -> tuple[Message, ...]:
    """The messages of these rows; raises `ContextUnreadable` that names a row that is none."""
    try:
        messages = [
            Message(f"{turn}:{seq}", turn, role, _content(content), _metadata(metadata))
            for seq, turn, role, content, metadata, *_ in rows
        ]
    except (TypeError, ValueError):
        messages = [_message_of(row, place) for row in rows]
    return tuple([_restored(each) if OTHER in each.metadata else each for each in messages])


def _message_of(row: Row, place: str) -> Message:
    """One that may have been written by hand, without metadata; or one that cannot be read."""
    seq, turn, role, content, metadata, *_ = row
    try:
        return Message(f"{turn}:{seq}", turn, role, _content(content or '""'), _metadata(metadata or "{}"))
    except (TypeError, ValueError) as error:
        raise unreadable(f"{place} message {seq}", f"the row is no message: {error}") from error


def _restored(message: Message) -> Message:
    """With the id that it had in a document."""
    metadata = {key: value for key, value in message.metadata.items() if key != OTHER}
    return msgspec.structs.replace(message, id=_other(message).get("id", message.id), metadata=metadata)


def _other(message: Message) -> JsonMap:
    other = message.metadata.get(OTHER, {})
    return other if isinstance(other, dict) else {}
