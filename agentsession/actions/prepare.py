"""What an action does before it reads the row: check the model, plan the turn, open the session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4
from weakref import WeakKeyDictionary

import peewee

from agentsession import _registry, info
from agentsession._json_values import unstorable
from agentsession._options import ROWS, SESSION_NAMES, AgentOptions, Client, SessionOptions
from agentsession._store.declared import Declared
from agentsession._store.layout import NO_MESSAGES, selection_for_turn
from agentsession._store.message_table import TURN_LENGTH as MAX_KEY
from agentsession._store.session_store import StoredSession, open_session
from agentsession._turn.plan import InputContent, Plan, refuse_large_input
from agentsession.errors import DslError, InputInvalid, Problem

M = TypeVar("M", bound=peewee.Model)

ClientChoice: TypeAlias = str | tuple[str, Mapping[str, Any]] | None
"""The model to ask: its id, or its id and its options. None: the one that the agent declares."""

Options: TypeAlias = Mapping[str, Any] | None
"""The options of a client."""

GUARD = frozenset({"save"})

_unaltered: WeakKeyDictionary[type, tuple[Any, ...]] = WeakKeyDictionary()
"""The fingerprint of each model that passed its last check."""

PUT_BY_PEEWEE = (peewee.BackrefAccessor, peewee.FieldAccessor, peewee.ObjectIdAccessor)


def checked_model(model: type[Any]) -> Declared:
    """Return the resolved options of the model. Raise `DslError` if it was altered after its declaration.

    A module that is imported later can do that, so only an action can check it: Peewee replaces an action by
    the backref of another model, or by a field of a subclass; a subclass replaces a managed field; or no
    model of the messages was declared.
    """
    declared = Declared.of(model)
    fingerprint = _fingerprint(declared)
    if _unaltered.get(model) == fingerprint:
        return declared
    names = SESSION_NAMES | GUARD if declared.options.inject else GUARD
    problems = (
        *_covered(model, names),
        *_replaced_fields(model, declared.options),
        *_without_messages(declared),
    )
    if problems:
        raise DslError(problems)
    _unaltered[model] = fingerprint
    return declared


def open_for_turn(declared: Declared, session: Any, actor: Any, turn: str | None = None) -> StoredSession:
    """Return the session, which loads the messages that a turn needs, and those of the turn `turn`."""
    return open_session(declared, session, actor, selection_for_turn(declared.options, turn))


def open_without_messages(model: type[Any], session: Any, actor: Any) -> StoredSession:
    """Return the session, which loads its latest turn and no messages."""
    return open_session(checked_model(model), session, actor, NO_MESSAGES)


def plan_turn(
    agent: AgentOptions,
    declared: Declared | None,
    content: InputContent,
    instruction_args: Any,
    client: ClientChoice,
    client_options: Options,
    run: bool = True,
    key: str | None = None,
) -> tuple[Plan, Options]:
    """Return the plan and the client's options, which are kept out of it because they are never stored.

    `declared` is None for an agent without sessions.
    """
    chosen = _client(agent, client)
    if client_options is not None and not isinstance(client_options, Mapping):
        raise _invalid(agent, f"client_options is a {type(client_options).__name__}")
    of_session = {} if declared is None else _of_session(declared, content)
    plan = Plan(
        agent=agent,
        turn_id=uuid4().hex if key is None else _accepted_key(agent, key),
        claim_id=uuid4().hex,
        keyed=key is not None,
        content=content,
        instruction_args=instruction_args,
        client=chosen.id if chosen else None,
        run=run,
        **of_session,
    )
    return plan, {**(chosen.options if chosen else {}), **(client_options or {})}


def _fingerprint(declared: Declared) -> tuple[Any, ...]:
    """Return a value that differs after each alteration that `checked_model` refuses.

    It refers neither to the model nor to a field.
    """
    model = declared.model
    kept = (model.save, *map(model._meta.fields.get, declared.options.attributes))
    return (declared.message_model is None, *map(len, map(vars, model.__mro__)), *map(id, kept))


def _covered(model: type[Any], names: frozenset[str]) -> Iterator[Problem]:
    for base in model.__mro__:
        for name in sorted(names & vars(base).keys()):
            found = vars(base)[name]
            if isinstance(found, PUT_BY_PEEWEE):
                free = "" if name in GUARD else f", or declare {model.__name__} with inject=False"
                yield Problem(
                    where=f"[{info.qualified_name(model)}] {name}",
                    found=_origin(base, name, found),
                    why="Peewee put it over the generated action of that name",
                    fix=f"give it another name{free}",
                )


def _origin(base: type[Any], name: str, found: Any) -> str:
    if isinstance(found, peewee.BackrefAccessor):
        return f"{found.field.model.__name__}.{found.field.name} has the backref {name!r}"
    if isinstance(found, peewee.ManyToManyFieldAccessor):
        return f"a ManyToManyField between it and {found.field.rel_model.__name__} is called {name!r}"
    return f"{base.__name__} has a field {name!r}"


def _replaced_fields(model: Any, options: SessionOptions) -> Iterator[Problem]:
    """Yield a problem for each managed field that a subclass does not just specialise."""
    declared = next(base for base in reversed(model.__mro__) if _registry.session_of(base) is options)
    for name in options.attributes:
        field, original = model._meta.fields.get(name), declared._meta.fields[name]
        if not isinstance(field, type(original)) or (original.unique and not field.unique):
            was = f"{name!r} is a {_described(original)} of {declared.__name__}"
            now = "no field" if field is None else f"a {_described(field)}"
            yield Problem(
                where=f"[{info.qualified_name(model)}] {name}",
                found=f"{was}, and {now} of {model.__name__}",
                why=f"{model.__name__} has the options of {declared.__name__}, which store the session in it",
                fix=f"leave {name!r} as it is, or decorate {model.__name__} with options of its own",
            )


def _without_messages(declared: Declared) -> Iterator[Problem]:
    model = declared.model
    if declared.options.messages == ROWS and declared.message_model is None:
        yield Problem(
            where=f"[{info.qualified_name(model)}] agent_session -> messages",
            found='messages="rows", and no model with @agent_message refers to it',
            why="its messages have no table",
            fix=f"@agent_message above class {model.__name__}Message(MessageFields): "
            f'session = peewee.ForeignKeyField({model.__name__}, backref="messages", …), '
            "in a module that is imported before the first action",
        )


def _described(field: Any) -> str:
    return ("unique " if field.unique else "") + type(field).__name__


def _of_session(declared: Declared, content: InputContent) -> dict[str, Any]:
    """Return what the session's options say of a turn."""
    options = declared.options
    refuse_large_input(declared.agent, content, options.max_input_bytes)
    # Inside a transaction it would wait for a turn that waits for the transaction.
    waits = options.on_busy == "wait" and not declared.in_caller_transaction
    return {
        "lease": options.lease,
        "patience": options.busy_timeout if waits else 0.0,
        "max_bytes": options.max_context_bytes,
        "pin_instruction": options.pin_instruction,
        "history_turns": options.history_turns,
        "history": options.history,
    }


def _accepted_key(agent: AgentOptions, key: Any) -> str:
    if not isinstance(key, str):
        found = f"idempotency_key is a {type(key).__name__}, not a str"
    elif not key.strip() or len(key) > MAX_KEY:
        found = f"idempotency_key has {len(key.strip())} characters, not 1 to {MAX_KEY}"
    elif any(unstorable(key)):
        found = f"idempotency_key {next(unstorable(key)).removeprefix('it ')}"
    else:
        return key
    raise InputInvalid(
        found,
        where=f"{agent.qualified_name} idempotency_key",
        why="it becomes the id of the turn, by which a repeated call is known; nothing was stored",
        fix="pass a text that is new for each message, such as the request's Idempotency-Key header",
    )


def _client(agent: AgentOptions, choice: ClientChoice) -> Client | None:
    if choice is None:
        return None
    try:
        return Client.parse(choice)
    except ValueError as error:
        raise _invalid(agent, str(error)) from None


def _invalid(agent: AgentOptions, found: str) -> InputInvalid:
    return InputInvalid(
        found,
        where=f"{agent.qualified_name} client",
        why="the client says which model to ask, and how",
        fix='pass client="anthropic:claude-sonnet-4-20250514", client_options={"temperature": 0}',
    )
