"""The table of the messages: which rows of a session are read, and how one is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peewee import Node, fn

from agentsession import info, registry
from agentsession.errors import DslError, Problem
from agentsession.store.connection import database_of, refused_for_rows
from agentsession.store.message_rows import OWN, Row
from agentsession.store.statement import Table, given
from agentsession.store.values import column_value

JSON = ("content", "metadata")


class MessageTable:
    """Rows are read as the values of `OWN` and, last, the revision of the session at that moment, or the text
    of its head, as `of_head` says. `locked`: in a transaction that holds the lock of the session."""

    of_head = "revision"
    locked = False

    def __init__(self, model: Any, context_attribute: str) -> None:
        declared = registry.message_of(model)
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
                same = self.dialect.exactly(self.fields["turn"], given("turn"))
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
        return dialect.newest(found) if self.locked else found

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
        return self.dialect.exactly(self.session, given("session"))

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
