"""Fields that convert values in Python: refused where SQL would go past them, used where it would not."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

import peewee as pw
import pytest

from agentsession import DslError, MessageFields, agent, agent_message, agent_session, testing
from tests.dsl.test_message_verifiers import message
from tests.dsl.test_session_verifiers import AGENT, DATABASE, MAP, chat

pytestmark = pytest.mark.matrix


def hidden(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def shown(text: str) -> Any:
    return json.loads(base64.b64decode(text))


class WritesHidden(pw.JSONField):
    def db_value(self, value: Any) -> Any:
        return super().db_value({"hidden": hidden(value)})


class ReadsHidden(pw.JSONField):
    def python_value(self, value: Any) -> Any:
        return shown(super().python_value(value)["hidden"])


class Mixin:
    def db_value(self, value: Any) -> Any:
        return hidden(value)


class Mixed(Mixin, pw.JSONField):
    pass


class OnlyItsName(pw.JSONField):
    """A subclass that converts nothing."""


PAST = "the library reads and writes the column in SQL, without its field"
CHANGED = "whose dumps or loads are not those of plain JSON"
CONVERTING = [
    (WritesHidden, f"a WritesHidden, whose class overrides db_value: {PAST}"),
    (ReadsHidden, f"a ReadsHidden, whose class overrides python_value: {PAST}"),
    (Mixed, f"a Mixed, whose class overrides db_value: {PAST}"),
    (lambda **given: pw.JSONField(dumps=lambda value: json.dumps(hidden(value)), **given),
     f"a JSONField, {CHANGED}: {PAST}"),
    (lambda **given: pw.JSONField(loads=lambda text: shown(json.loads(text)), **given),
     f"a JSONField, {CHANGED}: {PAST}"),
]  # fmt: skip
PLAIN = [
    lambda **given: pw.JSONField(dumps=lambda value: json.dumps(value, default=str, sort_keys=True), **given),
    lambda **given: pw.JSONField(loads=lambda text: json.loads(text, parse_float=str), **given),
    OnlyItsName,
]


@pytest.mark.parametrize(("field", "found"), CONVERTING)
def test_a_context_that_is_converted_in_python_is_refused(field: Any, found: str) -> None:
    with testing.dsl_errors() as problems:
        agent_session(chat(context=field(null=True)))
    assert [(problem.found, problem.fix) for problem in problems] == [(f"'context' is {found}", MAP)]


@pytest.mark.parametrize("name", ["content", "metadata"])
@pytest.mark.parametrize(("field", "found"), CONVERTING)
def test_a_message_s_json_that_is_converted_in_python_is_refused(field: Any, found: str, name: str) -> None:
    with testing.dsl_errors() as problems:
        agent_message(message(**{name: field()}))
    assert [(problem.found, problem.fix) for problem in problems] == [
        (f"{name!r} is {found}", f"{name} = peewee.JSONField()")
    ]


@pytest.mark.parametrize("module", ["sqlite_ext", "postgres_ext"])
def test_functions_given_to_a_field_of_playhouse_count_as_well(module: str) -> None:
    kind = pytest.importorskip(f"playhouse.{module}")
    if module == "sqlite_ext":
        field = kind.JSONField(json_dumps=lambda value: json.dumps(hidden(value)))
    else:
        field = kind.BinaryJSONField(dumps=lambda value: json.dumps(hidden(value)))
    with pytest.raises(DslError, match=CHANGED):
        agent_session(chat(context=field))


@pytest.mark.parametrize("field", PLAIN)
def test_a_field_that_writes_plain_json_passes(field: Any) -> None:
    model = chat(context=field(null=True))
    assert agent_session(model) is model
    rows = message(content=field(), metadata=field())
    assert agent_message(rows) is rows


@pytest.mark.parametrize("name", ["turn", "role"])
def test_a_message_s_text_that_is_converted_in_python_is_refused(name: str) -> None:
    class Upper(pw.CharField):
        def db_value(self, value: Any) -> Any:
            return str(value).upper()

    with testing.dsl_errors() as problems:
        agent_message(message(**{name: Upper(max_length=255)}))
    assert [problem.found for problem in problems] == [
        f"{name!r} is a Upper, whose class overrides db_value: {PAST}"
    ]


def test_status_and_updated_are_stored_as_their_fields_say_at_every_step() -> None:
    class Short(pw.CharField):
        def db_value(self, value: Any) -> Any:
            return None if value is None else f"<{value}>"

        def python_value(self, value: Any) -> Any:
            return None if value is None else value[1:-1]

    class Spelled(pw.DateTimeField):
        def db_value(self, value: Any) -> Any:
            return value if value is None else value.strftime("%Y/%m/%d %H:%M:%S")

        def python_value(self, value: Any) -> Any:
            return value and datetime.strptime(value, "%Y/%m/%d %H:%M:%S")

    @agent_session(status_attribute="status", updated_attribute="updated")
    @AGENT
    class Spelt(pw.Model):
        context = pw.JSONField(null=True)
        status = Short(max_length=40)
        updated = Spelled(null=True)

        class Meta:
            database = DATABASE

    with DATABASE.connection_context():
        DATABASE.create_tables([Spelt])
        pending = Spelt.start_session("Hello", run=False)
        completed = Spelt.start_session("Hello")
        stored = dict(DATABASE.execute_sql("select id, status from spelt").fetchall())
        times = [row[0] for row in DATABASE.execute_sql("select updated from spelt").fetchall()]
        found = [record.status for record in Spelt.select().order_by(Spelt.id)]
    assert stored == {pending.id: "<pending>", completed.id: "<completed>"}
    assert [completed.status, *found] == ["completed", "pending", "completed"]
    assert [time[4] for time in times] == ["/", "/"]


def test_message_fields_pass_as_they_are() -> None:
    @agent_session(messages="rows")
    @agent(client="echo:", instruction="x")
    class Plain(pw.Model):
        context = pw.JSONField(null=True)

        class Meta:
            database = DATABASE

    @agent_message
    class PlainMessage(MessageFields):
        session = pw.ForeignKeyField(Plain, backref="messages", index=False)

        class Meta:
            database = DATABASE

    assert PlainMessage._meta.fields["content"].name == "content"
