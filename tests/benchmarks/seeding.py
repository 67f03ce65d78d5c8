"""A session with many stored messages: one real turn, whose stored form the others get."""

from __future__ import annotations

from typing import Any

from agentsession import info
from agentsession._json_values import compact
from agentsession._store.declared import backend_of
from tests.benchmarks.conversation import conversation
from tests.benchmarks.texts import Texts


def seed(model: Any, length: int, texts: Texts) -> Any:
    """The key of a session with so many messages."""
    session = model.start_session(texts.fresh())
    head = model.get_by_id(session.id).context
    if head["layout"] == "rows":
        seed_rows(model, session.id, head, length, texts)
    else:
        head["messages"] = conversation(length, texts, head["messages"])
        put_head(model, session.id, head)
    return session.id


def seed_rows(model: Any, key: Any, head: Any, length: int, texts: Texts) -> None:
    """The only function that knows what a row and the head beside it look like."""
    (field,) = (each for each in model._meta.backrefs if each.model is not model)
    rows, document = field.model, backend_of(model).dialect.json_value
    stored = rows.select().where(field == key).order_by(rows.seq)
    like = [{"role": row.role, "metadata": row.metadata} for row in stored]
    with model._meta.database.atomic():
        rows.delete().where(field == key).execute()
        for seq, message in enumerate(conversation(length, texts, like)):
            json = {name: document(compact(message[name])) for name in ("content", "metadata")}
            row = {"seq": seq, "turn": message["turn"], "role": message["role"], **json}
            rows.insert({field: key, **row}).execute()
        put_head(model, key, {**head, "count": length})


def put_head(model: Any, key: Any, head: Any) -> None:
    """Written as the package writes it, without white space."""
    column = model._meta.fields[info.session_options(model).context_attribute]
    document = backend_of(model).dialect.json_value(compact(head))
    model.update({column: document}).where(model._meta.primary_key == key).execute()
