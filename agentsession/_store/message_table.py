"""Messages in rows: the form of a row, and the statements that read and write the rows of a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from peewee import Node, fn

from agentsession import info
from agentsession._json_values import JsonMap, compact
from agentsession._store.declared import Declared, backend_of, problem_with_rows
from agentsession._store.format import unreadable
from agentsession._store.identity import column_value
from agentsession._store.statement import Table, placeholder
from agentsession.context import Message
from agentsession.errors import DslError, Problem

OWN = ("seq", "turn", "role", "content", "metadata")
"""The fields of a message row, without its foreign key."""

JSON = ("content", "metadata")

TURN_LENGTH = 255
"""Characters of an idempotency key, which is the id of its turn."""

ROLE_LENGTH = 20

OTHER = "agentsession_document"
"""The key in a row's metadata for what else its message had in a document: another id, other keys."""

MessageRow = Sequence[Any]
"""The values of `OWN`, with content and metadata as JSON text."""

_content = msgspec.json.Decoder(str | list[JsonMap] | JsonMap).decode
_metadata = msgspec.json.Decoder(JsonMap).decode


def columns_of(message: JsonMap, seq: int) -> dict[str, Any]:
    """Return the row of a message of a document. Its id is its turn and its position, and has no column."""
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


def as_document(row: MessageRow) -> JsonMap:
    """Return the message of a row as it is in a document."""
    message = _message_of(row, "")
    return {**msgspec.to_builtins(_restored(message)), **_other(message)}


def metadata_for_row(metadata: JsonMap, row: MessageRow | None) -> str:
    """Return new metadata for a row, as JSON text. It keeps what else the message had in a document."""
    known = {} if row is None or row[-2] is None else _metadata(row[-2])
    return compact({**metadata, OTHER: known[OTHER]} if OTHER in known else metadata)


def messages_of(rows: Sequence[MessageRow], where: str) -> tuple[Message, ...]:
    """Return the messages of rows. Raises `ContextUnreadable`, which names a row that cannot be read."""
    try:
        messages = [
            Message(f"{turn}:{seq}", turn, role, _content(content), _metadata(metadata))
            for seq, turn, role, content, metadata, *_ in rows
        ]
    except (TypeError, ValueError):
        messages = [_message_of(row, where) for row in rows]
    return tuple([_restored(each) if OTHER in each.metadata else each for each in messages])


def _message_of(row: MessageRow, where: str) -> Message:
    """Return the message of one row, which may have been written by hand, without metadata."""
    seq, turn, role, content, metadata, *_ = row
    try:
        return Message(f"{turn}:{seq}", turn, role, _content(content or '""'), _metadata(metadata or "{}"))
    except (TypeError, ValueError) as error:
        raise unreadable(f"{where} message {seq}", f"the row is not a message: {error}") from error


def _restored(message: Message) -> Message:
    """Return the message with the id that it had in a document."""
    metadata = {key: value for key, value in message.metadata.items() if key != OTHER}
    return msgspec.structs.replace(message, id=_other(message).get("id", message.id), metadata=metadata)


def _other(message: Message) -> JsonMap:
    other = message.metadata.get(OTHER, {})
    return other if isinstance(other, dict) else {}


class MessageTable:
    """The table of the messages of a session model.

    Rows are read as the values of `OWN` and, last, a value of the session's row at the same moment.

    Attributes:
        head_column: What that value is: the `"revision"`, or the `"text"` of the context attribute.
        is_locked: Whether the rows are read in a transaction that holds the lock of the session.
    """

    head_column = "revision"
    is_locked = False

    def __init__(self, declared: Declared) -> None:
        model = declared.model
        if declared.message_model is None:
            raise LookupError(f"{model.__name__} has no @agent_message")
        message, session_attribute = declared.message_model
        backend = backend_of(message)
        if backend.database is not declared.backend.database:
            raise _elsewhere(model, message)
        if problem := problem_with_rows(
            backend.database, f"[{info.qualified_name(message)}] Meta -> database"
        ):
            raise DslError((problem,))  # a proxy may be initialized after the declaration
        self.table = Table(message, backend)
        self.dialect = backend.dialect
        self.session: Any = self.table.meta.fields[session_attribute]
        self.fields: dict[str, Any] = {name: self.table.meta.fields[name] for name in OWN}
        self.head_model = model
        self.head_field = declared.context_field
        self._known_key = self._key_value = None

    def all(self, key: Any) -> list[MessageRow]:
        return self._read("all", self._in_order, key)

    def page(self, key: Any, last: int | None, before: int | None) -> list[MessageRow]:
        """Read the `last` rows of those before a position."""
        seq = self.fields["seq"]

        def query() -> Any:
            rows = self._in_order()
            if before is not None:
                rows = rows.where(seq < placeholder("before"))
            return rows if last is None else rows.order_by(seq.desc()).limit(placeholder("last"))

        shape = ("page", last is None, before is None)
        rows = self._read(shape, query, key, last=last, before=before)
        return rows if last is None else rows[::-1]

    def latest(self, key: Any, turns: int, turn: str | None, system: int | None) -> list[MessageRow]:
        """Read the rows of the latest `turns`, those of one turn, and the one at the position `system`."""
        seq = self.fields["seq"]

        def query() -> Any:
            start = self._start_of_window()
            rows = self._in_order().where(seq >= start)
            if turn is not None:
                same = self.dialect.equals_exactly(self.fields["turn"], placeholder("turn"))
                rows = rows.union_all(self._rows().where(same, seq < start))
            if system is not None:
                rows = rows.union_all(self._rows().where(seq == placeholder("system"), seq < start))
            return rows

        shape = ("latest", turn is None, system is None)
        rows = self._read(shape, query, key, offset=turns - 1, turn=turn, system=system)
        return sorted(rows, key=lambda row: row[0])

    def insert(self, key: Any, messages: Sequence[Mapping[str, Any]]) -> None:
        """Store new rows. Columns that the user has added get their defaults."""
        others = [field for field in self.table.meta.sorted_fields if field.default is not None]
        values = self._values(key)
        for number, message in enumerate(messages):
            values |= {f"{name}.{number}": value for name, value in message.items()}
            values |= {f"{field.name}.{number}": _default(field) for field in others}
        in_sql = {name: value for name, value in values.items() if isinstance(value, Node)}

        def query() -> Any:
            rows = [self._new_row(number, others, in_sql) for number in range(len(messages))]
            return self.table.model.insert_many(rows).returning()

        self.table.run(None if in_sql else ("insert", len(messages)), query, values)

    def update(self, key: Any, seq: int, metadata: str) -> None:
        def query() -> Any:
            value = {self.fields["metadata"]: self.dialect.json_value(placeholder("metadata"))}
            return self.table.model.update(value).where(self._is_at_position())

        self.table.run("update", query, {**self._values(key), "seq": seq, "metadata": metadata})

    def delete(self, key: Any, seq: int) -> None:
        def query() -> Any:
            return self.table.model.delete().where(self._is_at_position())

        self.table.run("delete", query, {**self._values(key), "seq": seq})

    def clear(self, key: Any) -> None:
        """Delete all messages of a session."""

        def query() -> Any:
            return self.table.model.delete().where(self._is_of_session())

        self.table.run("clear", query, self._values(key))

    def _read(self, shape: Any, query: Any, key: Any, **values: Any) -> list[MessageRow]:
        full_shape = (shape, self.head_column, self.is_locked)
        return self.table.read(full_shape, query, {**self._values(key), **values})

    def _in_order(self) -> Any:
        return self._rows().order_by(self.fields["seq"])

    def _rows(self) -> Any:
        dialect = self.dialect
        columns = [dialect.raw(self.fields[name]) if name in JSON else self.fields[name] for name in OWN]
        is_head: Any = self.head_model._meta.primary_key == placeholder("session")
        is_text = self.head_column == "text"
        head = dialect.raw(self.head_field) if is_text else dialect.number(self.head_field, "revision")
        # The subquery is evaluated once for all rows.
        subquery = self.head_model.select(head).where(is_head)
        query = self.table.model.select(*columns, subquery).where(self._is_of_session())
        return dialect.read_latest(query) if self.is_locked else query

    def _start_of_window(self) -> Any:
        """Return the position of the user message that begins the turn at the placeholder `offset`."""
        seq, role = self.fields["seq"], self.fields["role"]
        openings = self.table.model.select(seq).where(self._is_of_session(), role == "user")
        return fn.COALESCE(openings.order_by(seq.desc()).limit(1).offset(placeholder("offset")), 0)

    def _new_row(self, number: int, others: Sequence[Any], in_sql: Mapping[str, Any]) -> dict[Any, Any]:
        """Return the placeholders of a new row.

        `in_sql` are defaults that their fields write as SQL, as a JSON field does. They are used only once.
        """
        names = {field: f"{field.name}.{number}" for field in (*others, *self.fields.values())}
        row = {field: in_sql.get(name, placeholder(name)) for field, name in names.items()}
        row[self.session] = placeholder("session")
        for name in JSON:
            row[self.fields[name]] = self.dialect.json_value(row[self.fields[name]])
        return row

    def _values(self, key: Any) -> dict[str, Any]:
        if key is not self._known_key:
            self._known_key, self._key_value = key, column_value(self.session, key)
        return {"session": self._key_value}

    def _is_of_session(self) -> Any:
        return self.dialect.equals_exactly(self.session, placeholder("session"))

    def _is_at_position(self) -> Any:
        return self._is_of_session() & (self.fields["seq"] == placeholder("seq"))


def _elsewhere(model: Any, message: Any) -> DslError:
    found = f"{message.__name__} is bound to another database than {model.__name__}"
    why = "a message and its session are written in one transaction"
    where = f"[{info.qualified_name(message)}] Meta -> database"
    return DslError((Problem(where, found, why, "bind both models to the same database"),))


def _default(field: Any) -> Any:
    value = field.default() if callable(field.default) else field.default
    return field.db_value(value)
