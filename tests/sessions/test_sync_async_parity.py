"""I12: sync, async, stream and async stream are the same turn: one table of cases, and each way to run them,
the async ones also on the databases of `playhouse.pwasyncio`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest

from agentsession import (
    AgentSessionError,
    InputInvalid,
    NoResult,
    ProviderCallError,
    SessionBusy,
    TurnFinished,
    actions,
    testing,
)
from agentsession.provider import Delta, Reply
from tests.support import servers
from tests.support.layouts import put_rows
from tests.support.models import Answer, chat_model, stored

pytestmark = pytest.mark.matrix

NOW = 1_700_000_000.0
FITS, UNFIT = Answer(content="yes").model_dump_json(), "no JSON"


@dataclass(frozen=True)
class Seen:
    """What a call brought: the names of its events, its error, its result's text, and what is stored
    after."""

    events: list[str]
    error: tuple[str, ...] | None
    text: str | None
    stored: dict[str, Any]


Call: TypeAlias = "Callable[[Any, str, Any, dict[str, Any]], tuple[list[Any], Any]]"


def by_plain(model: Any, action: str, args: Any, options: Any) -> tuple[list[Any], Any]:
    return [], getattr(actions, action)(model, *args, **options)


def by_async(model: Any, action: str, args: Any, options: Any) -> tuple[list[Any], Any]:
    return [], on_a_loop(model, getattr(actions, f"a{action}")(model, *args, **options))


def on_a_loop(model: Any, work: Any) -> Any:
    async def run() -> Any:
        try:
            return await work
        finally:
            await getattr(model._meta.database, "close_pool", nothing)()

    return asyncio.run(run())


async def nothing() -> None:
    """A database without a pool is left as it is."""


def by_stream(model: Any, action: str, args: Any, options: Any) -> tuple[list[Any], Any]:
    events: list[Any] = []
    with getattr(actions, f"stream_{action}")(model, *args, **options) as stream:
        try:
            events += stream
        except AgentSessionError as error:
            error.events = events  # type: ignore[attr-defined]
            raise
    return events, stream.session


def by_async_stream(model: Any, action: str, args: Any, options: Any) -> tuple[list[Any], Any]:
    events: list[Any] = []

    async def follow() -> Any:
        async with getattr(actions, f"astream_{action}")(model, *args, **options) as stream:
            try:
                async for event in stream:
                    events.append(event)
            except AgentSessionError as error:
                error.events = events  # type: ignore[attr-defined]
                raise
        return stream.session

    return events, on_a_loop(model, follow())


PLAIN, STREAMS = (by_plain, by_async), (by_stream, by_async_stream)
WAYS: tuple[Call, ...] = (*PLAIN, *STREAMS)


@dataclass(frozen=True)
class Case:
    """A call, what was stored before it, and what the model says. `replies` of the call itself come last."""

    action: str
    args: tuple[Any, ...]
    before: Callable[[Any], Any] = lambda Chat: None
    replies: tuple[Any, ...] = ()
    structured: bool = False


def told(Chat: Any, **options: Any) -> Any:
    with testing.script(Chat, [FITS]):
        return Chat.start_session("Before", **options).id


def pending(Chat: Any) -> Any:
    return Chat.start_session("Before", run=False).id


def killed(Chat: Any) -> Any:
    """Its process died after the claim, long ago."""
    with testing.clock(NOW - 100), testing.crash_after(1):
        Chat.start_session("Before")
    return Chat.select().get().id


def busy(Chat: Any) -> Any:
    with testing.crash_after(1):
        Chat.start_session("Before")
    return Chat.select().get().id


def failed(Chat: Any) -> Any:
    with testing.script(Chat, [ProviderCallError("down")]), pytest.raises(AgentSessionError):
        Chat.start_session("Before", idempotency_key="key")
    return Chat.select().get().id


THINKS = Reply(FITS, thinking="Hm.", finish_reason="stop")
CUT = (Delta("half a "), Delta("reply"), ProviderCallError("cut"))
CASES = {
    "a start": Case("start_session", ("Hello",), replies=("Hi there",)),
    "a start with structured output": Case("start_session", ("Hello",), replies=(FITS,), structured=True),
    "a reply with thoughts": Case("start_session", ("Hello",), replies=(THINKS,)),
    "a next turn": Case("continue_session", ("More",), told, (FITS,)),
    "a turn after a dead one": Case("continue_session", ("More",), killed, (FITS,)),
    "a reply that fits at last": Case("continue_session", ("More",), told, (UNFIT, FITS), structured=True),
    "a reply that never fits": Case("continue_session", ("More",), told, (UNFIT, UNFIT), structured=True),
    "a provider that is down": Case("continue_session", ("More",), told, (ProviderCallError("down"),)),
    "a reply that is cut": Case("continue_session", ("More",), told, (CUT,)),
    "an empty reply": Case("continue_session", ("More",), told, ("", "")),
    "a pending turn that is run": Case("resume_session", (), pending, (FITS,)),
    "a dead turn that is run again": Case("resume_session", (), killed, (FITS,)),
    "a failed turn that is run again": Case("resume_session", (), failed, (FITS,)),
    "nothing to resume": Case("resume_session", (), told),
    "a busy session": Case("continue_session", ("More",), busy),
    "a pending turn in the way": Case("continue_session", ("More",), pending),
    "an input that does not fit": Case("continue_session", ({"massage": "More"},), told),
    "an unknown session": Case("continue_session", ("More",), lambda Chat: "none"),
    "a lone surrogate": Case("continue_session", ("\ud800",), told),
}
KEYED = {
    "a new key": Case("start_session", ("Hello",), replies=(FITS,)),
    "a key that was used": Case("start_session", ("Before",), lambda Chat: told(Chat, idempotency_key="key")),
    "a key for other input": Case("start_session", ("Else",), lambda Chat: told(Chat, idempotency_key="key")),
    "a key of a failed turn": Case("start_session", ("Before",), failed, (FITS,)),
}


def seen(Chat: Any, case: Case, way: Call, asked: Any = None, **options: Any) -> Seen:
    """`asked`: the same model on another database object, if the call is to be made there."""
    key, asked = case.before(Chat), asked or Chat
    args = case.args if case.action == "start_session" else (key, *case.args)
    error: tuple[str, ...] | None = None
    events: list[Any] = []
    text = None
    try:
        with testing.script(asked, list(case.replies)):
            events, record = way(asked, case.action, args, options)
    except AgentSessionError as failure:
        error = (type(failure).__name__, failure.found, failure.why, failure.fix, repr(failure.__cause__))
        events = getattr(failure, "events", [])
    else:
        text = record.last_result.text
        assert without_revision(record) == without_revision(Chat.get())
    assert all(event.session.id for event in events if isinstance(event, TurnFinished))
    return Seen([str(event) for event in events], error, text, {"row": _row(Chat)})


def _row(Chat: Any) -> Any:
    row = Chat.select().first()
    return None if row is None else (stored(row) | {"revision": None}, row.status)


def without_revision(row: Any) -> Any:
    """It counts the writes, of which a stream has more."""
    return {**row.context, "revision": None}, row.status


def alike(found: Seen) -> str:
    """Without what differs from run to run: ids and durations, and so the size of what is stored."""
    text = repr(found)
    text = re.sub(r"'?(duration|size)'?[:=] ?[\d.e-]+", r"'\1': 0", text)
    for number, id_ in enumerate(dict.fromkeys(re.findall(r"\b[0-9a-f]{32}\b", text))):
        text = text.replace(id_, f"id{number}")
    return re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "uuid", text)


@pytest.mark.parametrize("name", [*CASES, *KEYED])
def test_a_turn_is_the_same_in_each_way(database: Any, name: str) -> None:
    case, options = (CASES[name], {}) if name in CASES else (KEYED[name], {"idempotency_key": "key"})
    schema = {"output_schema": Answer} if case.structured else {}
    found = []
    for way in WAYS:
        Chat = chat_model(database, **schema)
        put_rows(Chat, [])
        with testing.clock(NOW):
            found.append(seen(Chat, case, way, **options))
        if way in (by_async, by_async_stream):
            put_rows(Chat, [])
            native = chat_model(servers.open_async_database(database.url), create=False, **schema)
            with testing.clock(NOW):
                found.append(seen(Chat, case, way, native, **options))
    plain, awaited, natively, streamed, astreamed, natively_streamed = (alike(each) for each in found)
    assert plain == awaited == natively
    assert streamed == astreamed == natively_streamed
    if name != "a reply that is cut":
        without_events = [alike(Seen([], each.error, each.text, each.stored)) for each in found]
        assert len(set(without_events)) == 1


def test_a_cut_reply_is_kept_if_it_was_streamed(database: Any) -> None:
    case = CASES["a reply that is cut"]
    for way in WAYS:
        Chat = chat_model(database)
        put_rows(Chat, [])
        found = seen(Chat, case, way)
        (context, status), error = found.stored["row"], found.error
        said = [message["content"] for message in context["messages"]]
        assert said == ["Before", FITS, "More", *(["half a reply"] if way in STREAMS else [])]
        assert status == "failed"
        assert error is not None
        assert error[0] == "ProviderFailed"
        assert [event.split("(")[0] for event in found.events] == (
            ["TurnStarted", "TextDelta", "TextDelta"] if way in STREAMS else []
        )


@pytest.mark.parametrize("way", STREAMS)
def test_a_stream_emits_an_event_for_each_step(database: Any, way: Call) -> None:
    Chat = chat_model(database, output_schema=Answer)
    replies = [(Delta(thinking="Hm."), Delta("no"), Delta(" JSON")), ('{"content": "y', 'es"}')]
    with testing.script(Chat, replies):
        events, record = way(Chat, "start_session", ("Hello",), {})
    turn = record.last_turn.id
    told = [event.json() for event in events]
    assert told[0] == {"type": "turn_started", "turn": turn, "session": str(record.id)}
    assert told[1:4] == [
        {"type": "thinking_delta", "text": "Hm."},
        {"type": "text_delta", "text": "no"},
        {"type": "text_delta", "text": " JSON"},
    ]
    assert told[4]["type"] == "output_retry"
    assert told[5:9] == [
        {"type": "text_delta", "text": '{"content": "y'},
        {"type": "partial_output", "value": {"content": "y"}},
        {"type": "text_delta", "text": 'es"}'},
        {"type": "partial_output", "value": {"content": "yes"}},
    ]
    assert told[9]["result"]["output"] == {"content": "yes"}
    assert (told[9]["type"], told[9]["turn"], told[9]["session"]) == ("turn_finished", turn, str(record.id))
    assert len(told) == 10
    for event in events:
        assert event.sse().startswith(f"event: {event.name}\ndata: {{")
        assert event.sse().endswith("}\n\n")


def test_a_stream_that_could_not_begin_can_be_awaited_again(database: Any) -> None:
    Chat = chat_model(database)
    session = Chat.start_session("Before", run=False)

    async def twice() -> list[str]:
        stream = Chat.astream_continue_session(session.id, "More")
        with pytest.raises(SessionBusy):
            await stream
        with pytest.raises(NoResult):
            _ = stream.session
        Chat.resume_session(session.id)
        return [event.name async for event in stream]

    assert asyncio.run(twice())[-1] == "turn_finished"


def test_events_for_a_client_end_with_the_error_without_the_providers_text(database: Any) -> None:
    Chat = chat_model(database, retries=0)
    busy(Chat)
    key = Chat.select().get().id

    async def told(stream: Any) -> list[str]:
        return [text async for text in stream.sse()]

    (refused,) = asyncio.run(told(Chat.astream_continue_session(key, "More")))
    assert refused.startswith('event: stream_failed\ndata: {"type":"stream_failed","error":"SessionBusy"')
    with testing.script(Chat, [("half ", ProviderCallError("secret host 10.0.0.7 is down"))]):
        *_, last = Chat.stream_start_session("Hello").sse()
    assert '"error":"ProviderFailed","message":"the model could not answer"' in last


@pytest.mark.parametrize("way", STREAMS)
def test_a_stream_refuses_run_false(database: Any, way: Call) -> None:
    Chat = chat_model(database)
    with pytest.raises(InputInvalid, match="run=False") as error:
        way(Chat, "start_session", ("Hello",), {"run": False})
    assert error.value.fix == "start_session(…, run=False)"
    assert not Chat.select().count()
