"""Both layouts in one test table: a database says in which one the models of a test are."""

from __future__ import annotations

from typing import Any

import peewee as pw

from agentsession import MessageFields, agent_message, info

LAYOUTS = ("document", "rows")

Tables = list[list[dict[str, Any]]]


def layout_of(database: Any) -> dict[str, str]:
    """The option of `@agent_session`, for a model on this database."""
    return {"messages": getattr(database, "layout", "document")}


def with_messages(model: Any, *, create: bool = True) -> Any:
    """The session model with a table for its messages, if it is one of rows."""
    connection = model._meta.database
    name = getattr(connection, "message_table", f"{model._meta.table_name}_message")
    models = [model]
    if info.session_options(model).messages == "rows":

        @agent_message
        class ChatMessage(MessageFields):
            session = pw.ForeignKeyField(model, backref="said", on_delete="CASCADE", index=False)

            class Meta:
                table_name = name
                database = connection

        models.append(ChatMessage)
    if create:
        with connection.connection_context():
            connection.create_tables(models)
    return model


def messages_in_rows(model: Any, key: Any) -> list[dict[str, Any]]:
    """The messages of a session, read by Peewee alone, in the form that they have in a document."""
    rows: Any = info.message_model(model)
    found = rows.select().where(rows.session == key).order_by(rows.seq).dicts()
    return [
        {
            "id": f"{row['turn']}:{row['seq']}",
            **{name: row[name] for name in ("turn", "role", "content", "metadata")},
        }
        for row in found
    ]


def tables_of(model: Any) -> list[Any]:
    """The model, and that of its messages if they are rows of their own."""
    is_rows = info.session_options(model).messages == "rows"
    return [model, info.message_model(model)] if is_rows else [model]


def all_rows(model: Any) -> Tables:
    """All that is stored in the tables of a model."""
    return [sorted(table.select().dicts(), key=str) for table in tables_of(model)]


def flat_rows(model: Any) -> list[dict[str, Any]]:
    """The same as one list."""
    return [row for rows in all_rows(model) for row in rows]


def put_rows(model: Any, stored: Tables) -> None:
    """Store these rows, instead of what is there."""
    for table in reversed(tables_of(model)):
        table.delete().execute()
    for table, rows in zip(tables_of(model), stored, strict=False):
        if rows:
            table.insert_many(rows).execute()
