"""The interface of a dialect, and the SQL expressions that dialects share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

from peewee import ForeignKeyField, Value

T = TypeVar("T")

Path: TypeAlias = tuple[str | int, ...]
"""Where a value is inside a JSON value: keys and positions."""

ErrorKind: TypeAlias = Literal["lost", "read_only", "unknown_statement", "no_table", "no_column"]
"""The connection is lost; the server refuses writes; the server does not know a statement that the driver has
prepared, or knows another one; a table, or a column, is missing."""

MAX_INTEGER = 2**63
"""No column holds a larger number."""

MAX_ARGUMENTS = 80
"""SQLite and PostgreSQL refuse a call of a function with more than 100 arguments."""

PEEWEE_JSON_FIELD = {("peewee", "JSONField"): ""}
"""A dialect adds its own JSON fields to this one, which works on every database."""


class Dialect(Protocol):
    """What differs between databases.

    Peewee's JSON mutators are not used: they cannot be chained, and store nothing where an array is missing.

    Attributes:
        database_class: The Peewee class of the databases that speak the dialect.
        prefers_full_rewrite: Whether it is faster to replace a JSON text than to change it in SQL.
        json_fields: The fields that hold JSON, by module and class name, with the reason why a field does not
            work ("" if it does). They share no base class, and their modules may not be installed.
    """

    database_class: ClassVar[type[Any]]
    prefers_full_rewrite: ClassVar[bool]
    json_fields: ClassVar[Mapping[tuple[str, str], str]]

    def now(self) -> Any:
        """Return the database's clock in seconds since 1970, with fractions."""
        ...

    def seconds(self, time: Any) -> Any:
        """Return a time in seconds since 1970 as an expression of the type of `now()`."""
        ...

    def text(self, column: Any, *path: str) -> Any:
        """Return the text at a path inside the JSON column; NULL if it is absent."""
        ...

    def number(self, column: Any, *path: str) -> Any:
        """Return the integer at a path inside the JSON column; NULL if it is absent."""
        ...

    def raw(self, column: Any) -> Any:
        """Return the JSON column as text, without the conversion of its field."""
        ...

    def is_json(self, column: Any, /) -> Any:
        """Return the condition that the stored text is JSON. JSON functions fail for any other text."""
        ...

    def text_equals(self, column: Any, json_text: str) -> Any:
        """Return the condition that the stored text is exactly `json_text`."""
        ...

    def patch(
        self, column: Any, sets: Mapping[Path, Any], appends: Iterable[Any], drop: int | None = None
    ) -> Any:
        """Return the JSON column after a change.

        Paths are set, messages are appended, the message at the position `drop` is removed, and the revision
        grows by one. No path contains another.
        """
        ...

    def set_numbers(self, value: Any, numbers: Mapping[Path, Any]) -> Any:
        """Return a JSON object with numbers that SQL computes."""
        ...

    def json_number(self, value: Any) -> Any:
        """Return a number of SQL as a JSON value."""
        ...

    def json_value(self, json_text: Any) -> Any:
        """Return JSON text as a JSON value."""
        ...

    def equals_exactly(self, field: Any, value: Any) -> Any:
        """Return the condition that the field has this value, without folding or rounding."""
        ...

    def to_datetime(self, time: datetime) -> datetime:
        """Return a time with the precision that a date-time column keeps."""
        ...

    def lock(self, model: Any, query: Any, /) -> Any:
        """Return a query that locks the rows that it reads, because a write follows in the transaction."""
        ...

    def read_latest(self, query: Any) -> Any:
        """Return a query that reads what is stored now, not what was stored when the transaction began."""
        ...

    def is_transaction_open(self, connection: Any) -> bool:
        """Return whether a transaction is open on a driver's connection, or the next statement opens one."""
        ...

    def is_closed(self, connection: Any, /) -> bool:
        """Return whether the server has ended the connection."""
        ...

    def error_kind(self, error: Exception, /) -> ErrorKind | None:
        """Return what an error of the driver says, where Peewee does not; None for another error."""
        ...

    def check_settings(self, database: Any, /) -> None:
        """Refuse, or warn about, settings of the database with which sessions do not work well."""
        ...

    def is_memory(self, database: Any, /) -> bool:
        """Return whether the data is lost with the connection."""
        ...


def driver_error(error: Exception) -> Any:
    """Return the error of the driver from which Peewee has made its own."""
    return getattr(error, "orig", error)


def target_of(field: Any) -> Any:
    """Return the field that a foreign key finally refers to, and any other field as it is."""
    while isinstance(field, ForeignKeyField):
        field = field.rel_field
    return field


def parameter(value: Any) -> Value:
    """Return a parameter of a statement that no field converts."""
    return Value(value, converter=False)


def json_path(path: Path) -> str:
    """Return a path as SQLite and MySQL write it: `$.messages[0].metadata`."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def in_groups(arguments: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the arguments in groups that one function call takes. Pairs stay together."""
    for first in range(0, len(arguments), MAX_ARGUMENTS):
        yield arguments[first : first + MAX_ARGUMENTS]
