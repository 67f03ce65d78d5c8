"""Each verifier of `@agent_session`: a model that it refuses, word by word, and one that it lets pass."""

from __future__ import annotations

from collections.abc import Callable
from types import new_class
from typing import Any

import peewee as pw
import pytest
from playhouse.sqliteq import SqliteQueueDatabase

from agentsession import SessionActions, agent, agent_session, info, testing
from agentsession._dsl.drafts import SessionDraft
from agentsession._dsl.verifiers import session as verifiers
from agentsession._dsl.verifiers.session import SESSION_VERIFIERS
from agentsession._option_rules import keywords_of
from tests.dsl.test_agent_verifiers import Case, named

DEFAULTS = keywords_of(agent_session)
TURNS = "history_turns={0} for the last {0} turns, or history=lambda messages: messages[-10:]"
AGENT = agent(client="echo:", instruction="You help.")
DATABASE = pw.SqliteDatabase(":memory:")
QUEUED = SqliteQueueDatabase(":memory:", autostart=False)


def table(*bases: Any, meta: dict[str, Any] | None = None, **body: Any) -> Any:
    """An undecorated model `Chat` of this module."""
    named = {
        "__module__": __name__,
        "__qualname__": "Chat",
        "context": pw.JSONField(null=True),
        "status": pw.CharField(default="pending"),
        "updated": pw.DateTimeField(null=True),
        "Meta": type("Meta", (), {"database": DATABASE, **(meta or {})}),
        **body,
    }
    named = {name: value for name, value in named.items() if value is not None}
    return new_class("Chat", bases or (pw.Model,), exec_body=lambda namespace: namespace.update(named))


def chat(*bases: Any, **body: Any) -> Any:
    return AGENT(table(*bases, **body))


def with_(**body: Any) -> Callable[[], Any]:
    return lambda: chat(**body)


def bad(where: str, found: str, fix: str, under: Callable[[], Any] = chat, **options: Any) -> Case:
    return Case((where, found, fix), under, options)


def good(under: Callable[[], Any] = chat, **options: Any) -> Case:
    return Case(None, under, options)


class User(pw.Model):
    class Meta:
        database = DATABASE


class Measured(pw.Model):
    size = pw.FloatField(primary_key=True)

    class Meta:
        database = DATABASE


MAP = "context = peewee.JSONField(null=True)"
TEXT = "status = peewee.CharField(max_length=20, default='pending')"
TIME = "updated = peewee.DateTimeField(null=True)"
KEY = "id = peewee.UUIDField(primary_key=True, default=uuid.uuid4)"
OWNER = "user = peewee.ForeignKeyField(User)"
START = "key = peewee.CharField(max_length=36, null=True, unique=True)"
OWN = "{}=… with another field"
NO_MAP = "'context' is a {}, not a JSON field"
BELOW = "put @agent(client=…, instruction=…) below @agent_session, next to the class"
NO_DATABASE = (
    "database = peewee.SqliteDatabase(…) in class Meta, or a peewee.DatabaseProxy() that is initialized later"
)

CASES: dict[Any, list[Case]] = {
    verifiers.verify_session_is_a_model: [
        bad("class", "Chat is not a Peewee model", "class Chat(peewee.Model): …", lambda: chat(object)),
        good(),
        good(lambda: chat(table())),
    ],
    verifiers.verify_session_is_declared_once: [
        bad(
            "class",
            "Chat already has @agent_session",
            "keep one @agent_session(…); for other options declare another class",
            lambda: agent_session(chat()),
        ),
        good(lambda: table(agent_session(chat()))),
    ],
    verifiers.verify_agent_is_declared: [
        bad("agent", "the model has no @agent, or @agent stands above @agent_session", BELOW, table),
        good(),
        good(lambda: table(chat())),
    ],
    verifiers.verify_database_is_configured: [
        bad(
            "Meta.database",
            "the model has no database",
            NO_DATABASE,
            lambda: chat(meta={"database": None}),
        ),
        good(lambda: chat(meta={"database": pw.DatabaseProxy()})),
    ],
    verifiers.verify_rows_have_transactions: [
        bad(
            "Meta.database",
            "SqliteQueueDatabase has no transactions, and messages is 'rows'",
            "use peewee.SqliteDatabase or playhouse.pool.PooledSqliteDatabase, or leave messages='rows' out",
            lambda: chat(meta={"database": QUEUED}),
            messages="rows",
        ),
        good(lambda: chat(meta={"database": QUEUED})),
        good(lambda: chat(meta={"database": pw.DatabaseProxy()}), messages="rows"),
        good(messages="rows"),
    ],
    verifiers.verify_primary_key_is_one_field: [
        bad("primary_key", "the model has no primary key", KEY, lambda: chat(meta={"primary_key": False})),
        bad(
            "primary_key",
            "the primary key is composite",
            KEY,
            lambda: chat(
                a=pw.IntegerField(), b=pw.IntegerField(), meta={"primary_key": pw.CompositeKey("a", "b")}
            ),
        ),
        good(with_(key=pw.CharField(primary_key=True))),
        good(lambda: chat(user=pw.ForeignKeyField(User, primary_key=True, backref="+"))),
    ],
    verifiers.verify_context_is_a_json_field: [
        bad(
            "context_attribute",
            "the model has no field 'contxt'; did you mean 'context'?",
            "context_attribute='context', or contxt = peewee.JSONField(null=True)",
            context_attribute="contxt",
        ),
        bad("context_attribute", "the name of the attribute is None, not a str", MAP, context_attribute=None),
        bad("context_attribute", "the model has no field 'context'", MAP, with_(context=None)),
        bad("context_attribute", NO_MAP.format("TextField"), MAP, with_(context=pw.TextField())),
        good(),
        good(with_(context=None, talk=pw.JSONField(column_name="t")), context_attribute="talk"),
    ],
    verifiers.verify_status_is_a_text: [
        bad(
            "status_attribute",
            "the model has no field 'stat'; did you mean 'status'?",
            "status_attribute='status', or " + TEXT.replace("status", "stat"),
            status_attribute="stat",
        ),
        bad(
            "status_attribute",
            "'updated' is a DateTimeField, not a text field",
            TEXT.replace("status", "updated"),
            status_attribute="updated",
        ),
        bad(
            "status_attribute",
            "'status' holds 16 characters, the longest status has 17",
            TEXT,
            with_(status=pw.CharField(max_length=16)),
            status_attribute="status",
        ),
        good(with_(status=pw.CharField(max_length=17)), status_attribute="status"),
        good(with_(status=pw.TextField()), status_attribute="status"),
        good(with_(status=pw.CharField(max_length=None)), status_attribute="status"),
    ],
    verifiers.verify_updated_is_a_time: [
        bad(
            "updated_attribute",
            "the model has no field 'seen'",
            TIME.replace("updated", "seen"),
            updated_attribute="seen",
        ),
        bad(
            "updated_attribute",
            "'updated' is a DateField, not a date-time field",
            TIME,
            with_(updated=pw.DateField()),
            updated_attribute="updated",
        ),
        good(updated_attribute="updated"),
    ],
    verifiers.verify_owner_is_a_value: [
        bad("owner_attribute", "the model has no field 'user'", OWNER, owner_attribute="user"),
        bad(
            "owner_attribute",
            "the model has no field 'usr'; did you mean 'user'?",
            "owner_attribute='user', or " + OWNER.replace("user", "usr"),
            with_(user=pw.ForeignKeyField(User, backref="+")),
            owner_attribute="usr",
        ),
        bad("owner_attribute", "the name of the attribute is 7, not a str", OWNER, owner_attribute=7),
        *(
            bad(
                "owner_attribute",
                f"'user' is a {type(field).__name__}, which some database does not compare exactly",
                f"{OWNER}, or an integer, UUID or text field",
                with_(user=field),
                owner_attribute="user",
            )
            for field in (
                pw.JSONField(),
                pw.FloatField(),
                pw.DoubleField(),
                pw.BlobField(),
                pw.BooleanField(),
                pw.DecimalField(),
                pw.DateField(),
                pw.DateTimeField(),
                pw.FixedCharField(),
                pw.ForeignKeyField(Measured, backref="+"),
            )
        ),
        *(
            good(with_(user=field), owner_attribute="user")
            for field in (
                pw.ForeignKeyField(User, backref="+"),
                pw.IntegerField(),
                pw.BigIntegerField(null=True),
                pw.UUIDField(),
                pw.CharField(),
                pw.TextField(),
            )
        ),
    ],
    verifiers.verify_idempotency_is_unique: [
        bad("idempotency_attribute", "the model has no field 'key'", START, idempotency_attribute="key"),
        bad(
            "idempotency_attribute",
            "the name of the attribute is True, not a str",
            START.replace("key", "start_key"),
            idempotency_attribute=True,
        ),
        *(
            bad(
                "idempotency_attribute",
                f"'key' is a {type(field).__name__}, not a text field for 36 characters",
                START,
                with_(key=field),
                idempotency_attribute="key",
            )
            for field in (
                pw.IntegerField(null=True, unique=True),
                pw.UUIDField(null=True, unique=True),
                pw.CharField(max_length=35, null=True, unique=True),
            )
        ),
        *(
            bad(
                "idempotency_attribute",
                "'key' is not unique, or has a value for a session without a key",
                START,
                with_(key=field),
                idempotency_attribute="key",
            )
            for field in (
                pw.CharField(max_length=36, null=True),
                pw.CharField(max_length=36, unique=True),
                pw.CharField(max_length=36, null=True, unique=True, default=""),
                pw.CharField(max_length=36, null=True, unique=True, default=lambda: "x"),
            )
        ),
        good(with_(key=pw.CharField(max_length=36, null=True, unique=True)), idempotency_attribute="key"),
        good(with_(key=pw.CharField(null=True, unique=True)), idempotency_attribute="key"),
        good(with_(key=pw.TextField(null=True, unique=True)), idempotency_attribute="key"),
    ],
    verifiers.verify_attributes_differ: [
        bad(
            "owner_attribute",
            "owner_attribute and status_attribute are both 'status'",
            OWN.format("owner_attribute"),
            status_attribute="status",
            owner_attribute="status",
        ),
        bad(
            "idempotency_attribute",
            "idempotency_attribute and owner_attribute are both 'key'",
            OWN.format("idempotency_attribute"),
            with_(key=pw.CharField(null=True, unique=True)),
            owner_attribute="key",
            idempotency_attribute="key",
        ),
        bad(
            "owner_attribute",
            "owner_attribute is the primary key 'user'",
            OWN.format("owner_attribute"),
            with_(user=pw.CharField(primary_key=True)),
            owner_attribute="user",
        ),
        bad(
            "status_attribute",
            "status_attribute is the primary key 'status'",
            OWN.format("status_attribute"),
            with_(status=pw.CharField(primary_key=True)),
            status_attribute="status",
        ),
        good(status_attribute="status", updated_attribute="updated"),
    ],
    verifiers.verify_session_values_fit: [
        *(
            bad("lease", f"lease is {value!r}, not a positive number of seconds", "lease=30.0", lease=value)
            for value in (0, -1, float("inf"), "30", None)
        ),
        bad(
            "pin_instruction",
            "pin_instruction is 1, not True or False",
            "pin_instruction=False",
            pin_instruction=1,
        ),
        bad("inject", "inject is 'no', not True or False", "inject=True", inject="no"),
        *(
            bad(
                "messages",
                f"messages is {value!r}, not 'document' or 'rows'",
                "messages='document'",
                messages=value,
            )
            for value in ("row", None, True, ["rows"])
        ),
        good(messages="rows"),
        *(
            bad(
                "busy_timeout",
                f"busy_timeout is {value!r}, not a positive number of seconds",
                "busy_timeout=30.0",
                busy_timeout=value,
            )
            for value in (0, -0.5, float("nan"), float("inf"), "30", None, True)
        ),
        *(
            bad(
                option,
                f"{option} is {value!r}, not a whole number of bytes",
                f"{option}={default} * 1024 * 1024",
                **{option: value},
            )
            for option, default in (("max_input_bytes", 16), ("max_context_bytes", 64))
            for value in (0, -1, 1.5, "16", None, True)
        ),
        *(
            bad("on_busy", f"on_busy is {value!r}, not 'raise' or 'wait'", "on_busy='raise'", on_busy=value)
            for value in ("queue", "Wait", None, True, ["wait"])
        ),
        *(
            bad(
                "history_turns",
                f"history_turns is {value!r}, not a whole number from 1",
                "history_turns=40",
                history_turns=value,
            )
            for value in (0, -1, 1.5, True, "all", len)
        ),
        good(history_turns=40),
        good(lease=1, pin_instruction=True, inject=False),
        good(on_busy="wait", busy_timeout=0.5, max_input_bytes=1, max_context_bytes=2**40),
    ],
    verifiers.verify_history_is_a_function: [
        *(
            bad("history", f"history is {value!r}, not a function", TURNS.format(turns), history=value)
            for value, turns in [(8, 8), (0, 40), (-1, 40), (1.5, 40), (True, 40), ("all", 40), (list, 40)]
        ),
        *(good(history=value) for value in (None, len)),
    ],
    verifiers.verify_history_is_chosen_in_one_way: [
        bad(
            "history",
            "history_turns and history are both given",
            "keep one; messages[-10:] in the function of history leaves the last ten",
            history=len,
            history_turns=4,
        ),
        good(history=len),
        good(history_turns=1),
    ],
    verifiers.verify_save_is_guarded: [
        bad(
            "save",
            "the mixin stands behind the model among the bases",
            "class Chat(SessionActions, peewee.Model): …",
            lambda: chat(pw.Model, SessionActions),
        ),
        bad(
            "save",
            "Chat.save is a BooleanField, not a method",
            "rename it",
            with_(save=pw.BooleanField(default=False)),
        ),
        good(lambda: chat(SessionActions, pw.Model)),
        good(lambda: chat(save=lambda self, **options: super(type(self), self).save(**options))),
    ],
    verifiers.verify_mixin_agrees_with_inject: [
        bad(
            "inject",
            "inject=False, but the class inherits SessionActions",
            "remove the mixin from the bases, or leave inject out",
            lambda: chat(SessionActions, pw.Model),
            inject=False,
        ),
        good(lambda: chat(SessionActions, pw.Model)),
        good(inject=False),
    ],
    verifiers.verify_action_names_are_free: [
        *(
            bad(name, f"Chat already has {name!r}", f"rename Chat.{name}, or pass inject=False", under)
            for name, under in [
                ("last_result", lambda: chat(last_result=pw.TextField(null=True))),
                ("start_session", lambda: chat(start_session=classmethod(lambda cls: None))),
                ("last_turn", lambda: chat(SessionActions, pw.Model, last_turn=property(lambda self: 1))),
                ("astream_continue_session", lambda: chat(table(astream_continue_session=None.__class__))),
                (
                    "approvals",
                    lambda: chat(parent=pw.ForeignKeyField("self", null=True, backref="approvals")),
                ),
            ]
        ),
        good(lambda: chat(last_result=pw.TextField(null=True), start_session=1), inject=False),
        good(lambda: chat(messages=1, history=2, session=3)),
    ],
}


@pytest.mark.parametrize(("verifier", "case"), named(CASES, bad=True))
def test_a_bad_declaration_is_one_problem_of_its_verifier(verifier: Any, case: Case) -> None:
    assert case.problem is not None
    where, found, fix = case.problem
    with testing.dsl_errors() as problems:
        agent_session(**case.options)(case.under())
    assert [(problem.where, problem.found, problem.fix) for problem in problems] == [
        (f"[{__name__}.Chat] agent_session -> {where}", found, fix)
    ]
    assert problems[0].why
    assert list(verifier(SessionDraft(case.under(), **{**DEFAULTS, **case.options}))) == problems


@pytest.mark.parametrize(("verifier", "case"), named(CASES, bad=False))
def test_a_good_declaration_passes(verifier: Any, case: Case) -> None:
    model = case.under()
    assert list(verifier(SessionDraft(model, **{**DEFAULTS, **case.options}))) == []
    assert agent_session(**case.options)(model) is model
    assert info.is_session(model)


def test_every_verifier_has_a_bad_and_a_good_case() -> None:
    assert list(CASES) == list(SESSION_VERIFIERS)
    for cases in CASES.values():
        assert {case.problem is None for case in cases} == {True, False}


@pytest.mark.parametrize(
    ("module", "field", "found"),
    [
        ("peewee", "JSONField", None),
        ("playhouse.mysql_ext", "JSONField", None),
        ("playhouse.mysql_ext", "MySQLJSONField", None),
        ("playhouse.sqlite_ext", "JSONField", None),
        ("playhouse.postgres_ext", "BinaryJSONField", None),
        ("playhouse.postgres_ext", "JSONField", "a JSONField, whose type `json` cannot be changed"),
        ("playhouse.sqlite_ext", "JSONBField", "a JSONBField, whose binary form a SELECT cannot read"),
        ("playhouse.postgres_ext", "HStoreField", "a HStoreField, not a JSON field"),
        ("playhouse.fields", "PickleField", "a PickleField, not a JSON field"),
        ("peewee", "BlobField", "a BlobField, not a JSON field"),
    ],
)
def test_a_map_is_a_field_that_holds_json_in_place(module: str, field: str, found: str | None) -> None:
    kind = getattr(pytest.importorskip(module), field)
    model = chat(context=kind(null=True))
    if found is None:
        assert agent_session(model) is model
        return
    with testing.dsl_errors() as problems:
        agent_session(model)
    assert [found in problem.found for problem in problems] == [True]
    assert problems[0].fix == MAP


@pytest.mark.parametrize("kind", ["JSONField", "JSONBField"])
def test_a_json_field_is_no_status(kind: str) -> None:
    field = getattr(pytest.importorskip("playhouse.sqlite_ext"), kind)
    with testing.dsl_errors() as problems:
        agent_session(status_attribute="status")(chat(status=field(null=True)))
    assert [problem.found for problem in problems] == [f"'status' is a {kind}, not a text field"]


@pytest.mark.parametrize("target", [pw.Model, 3, lambda: None, int])
def test_a_value_that_is_not_a_model_is_two_problems(target: Any) -> None:
    with testing.dsl_errors() as problems:
        agent_session(target)
    assert [problem.where.split("-> ")[1] for problem in problems] == ["class", "agent"]


def test_all_problems_of_a_declaration_are_reported_together() -> None:
    model = table(last_turn=1, meta={"database": None, "primary_key": False}, context=pw.TextField())
    mistakes: dict[str, Any] = {"status_attribute": "context", "lease": 0, "on_bsy": "wait", "history": 5}
    with testing.dsl_errors() as problems:
        agent_session(**mistakes)(model)
    assert [problem.where.split("-> ")[1] for problem in problems] == [
        "on_bsy",
        "agent",
        "Meta.database",
        "primary_key",
        "context_attribute",
        "status_attribute",
        "lease",
        "history",
        "last_turn",
    ]
    assert problems[0].found == "@agent_session has no option 'on_bsy'"


def test_the_text_of_the_error_has_each_problem_with_its_place_reason_and_fix() -> None:
    with pytest.raises(Exception, match="2 problems") as raised:
        agent_session(context_attribute="x", lease=0)(chat())
    text = str(raised.value)
    for problem in raised.value.problems:  # type: ignore[attr-defined]
        assert all(part in text for part in (problem.where, problem.found, problem.why, problem.fix))


def test_decorators_in_the_wrong_order_name_both_causes() -> None:
    model = table()
    with testing.dsl_errors() as problems:
        AGENT(agent_session(model))
    assert [problem.found for problem in problems] == [
        "the model has no @agent, or @agent stands above @agent_session"
    ]
    assert (info.is_agent(model), info.is_session(model)) == (False, False)
