"""A key of a client is in no error, no traceback and no variable of a frame, however the turn fails."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import peewee as pw
import pytest
from loguru import logger
from pydantic import BaseModel

from agentsession import (
    AgentSessionError,
    DslError,
    HookFailed,
    InputInvalid,
    MaxIterations,
    OutputInvalid,
    ProviderFailed,
    SessionNotFound,
    StorageFailed,
    ToolFailed,
    actions,
    agent,
    testing,
)
from agentsession.errors import ProviderCallError
from agentsession.provider import Delta, Reply
from tests.support.key_canaries import (
    SESSION_WAYS,
    WAYS,
    captured,
    declared,
    given,
    key,
    keys_in,
    links_of,
    model_of,
    running,
)
from tests.support.llm_server import Behaviour, Cut, Fails, LlmServer, Says, Sends, Slow, Streams

WORDS = "USERTEXT my diagnosis"

EACH_WAY = pytest.mark.parametrize("way", WAYS)
EACH_SESSION_WAY = pytest.mark.parametrize("way", SESSION_WAYS)
BOTH = pytest.mark.parametrize("client", ["openai:gpt-4o", "anthropic:claude-sonnet-4-5"])


def refuse_keys(error: BaseException) -> None:
    """Fail if a tracker would see a key."""
    assert not keys_in(captured(error))
    shown = io.StringIO()
    handler = logger.add(shown)
    try:
        logger.opt(exception=error).error("it failed")
    finally:
        logger.remove(handler)
    assert type(error).__name__ in shown.getvalue()
    assert not keys_in(shown.getvalue())


def failing(way: str, model: Any, kind: type[BaseException] = ProviderFailed, words: str = WORDS) -> Any:
    name, run = WAYS[way]
    with pytest.raises(kind) as caught:
        run(getattr(model, name), words)
    refuse_keys(caught.value)
    return caught.value


def asked(server: LlmServer, client: str, **options: Any) -> Any:
    more = {"api_base": server.openai if client.startswith("openai") else server.url}
    return model_of(client, more=more, retries=0, **options)


BODY = '{"error": {"type": "auth", "message": "Incorrect key: %s"}}'
FAILURES: dict[str, Behaviour] = {
    "400": Fails(400),
    "401": Fails(401),
    "429": Fails(429),
    "500": Fails(500),
    "a connection that is cut": Cut(),
    "a reply that is no JSON": Sends("no JSON"),
    "a reply without choices": Sends('{"choices": []}'),
}


@pytest.mark.pairwise
@EACH_WAY
@BOTH
@pytest.mark.parametrize("failure", FAILURES)
def test_a_provider_that_fails_shows_no_key(way: str, client: str, failure: str) -> None:
    with LlmServer(FAILURES[failure]) as server:
        error = failing(way, asked(server, client))
    assert len(links_of(error)) > 1
    assert WORDS not in "".join(captured(link) for link in links_of(error)[1:])


@EACH_WAY
def test_a_key_that_the_provider_repeats_is_not_shown(way: str) -> None:
    with LlmServer(Fails(401, BODY % key("declared"))) as server:
        error = failing(way, asked(server, "openai:gpt-4o"))
    assert "Incorrect key: [hidden]" in error.found


@pytest.mark.pairwise
@pytest.mark.parametrize("way", ["stream", "astream"])
@BOTH
@pytest.mark.parametrize("ends", ["cut", "error"])
def test_a_stream_that_ends_early_shows_no_key(way: str, client: str, ends: Any) -> None:
    with LlmServer(Streams("Hello!", ends=ends, after=1)) as server:
        failing(way, asked(server, client))


@EACH_WAY
@BOTH
def test_a_timeout_shows_no_key(way: str, client: str) -> None:
    with LlmServer(Slow(30, Says("Hello!"))) as server:
        failing(way, asked(server, client, timeout=0.3))


@EACH_WAY
@BOTH
def test_a_refused_connection_shows_no_key(way: str, client: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{closed.getsockname()[1]}"
    failing(way, model_of(client, more={"api_base": base}, retries=0))


@EACH_WAY
def test_the_traceback_of_the_cause_keeps_files_and_lines(way: str) -> None:
    with LlmServer(Fails(400)) as server:
        error = failing(way, asked(server, "openai:gpt-4o"))
    shown = captured(error.__cause__)
    assert "BadRequestError" in shown
    assert shown.count("raise ") > 1
    assert "litellm/main.py" in shown


# Providers of the application


class Failing:
    """Fails with a key in its words, its attributes and its variables."""

    def __init__(self, kind: type[Exception]) -> None:
        self.kind = kind
        self.seen: list[str] = []

    def ask(self, request: Any) -> Reply:
        self.seen.append(running())
        options = dict(request.client.options)
        error = self.kind(f"refused: {options}")
        error.request = options  # type: ignore[attr-defined]
        raise error

    def stream(self, request: Any) -> Iterator[Delta | Reply]:
        yield Delta("So")
        yield self.ask(request)

    async def astream(self, request: Any) -> AsyncIterator[Delta | Reply]:
        yield Delta("So")
        yield self.ask(request)


class Unready(Failing):
    def prepare(self) -> None:
        error = self.kind("not ready: " + key("declared"))
        raise error


@EACH_WAY
@pytest.mark.parametrize("kind", [ValueError, ProviderCallError, KeyError])
def test_a_provider_of_the_application_shows_no_key(way: str, kind: type[Exception]) -> None:
    provider = Failing(kind)
    failing(way, model_of(provider=provider))
    assert provider.seen
    assert not keys_in("".join(provider.seen))


@EACH_WAY
@pytest.mark.parametrize("kind", [ValueError, ProviderCallError])
def test_a_provider_that_is_not_ready_shows_no_key(way: str, kind: type[Exception]) -> None:
    failing(way, model_of(provider=Unready(kind)))


def test_warm_up_shows_no_key() -> None:
    model = model_of(provider=Unready(ValueError))
    with pytest.raises(ProviderFailed) as caught:
        actions.warm_up(model)
    refuse_keys(caught.value)


@EACH_WAY
def test_a_suspended_generator_that_an_error_has_passed_is_not_closed(way: str) -> None:
    """An error that is raised again and again collects the frames of everyone who caught it."""
    shared = ValueError("the same object each time")

    def waits() -> Iterator[str]:
        try:
            raise shared
        except ValueError:
            yield "first"
        yield "second"

    class Shared:
        def ask(self, request: Any) -> Reply:
            raise shared

    waiting = waits()
    assert next(waiting) == "first"
    failing(way, model_of(provider=Shared()))
    assert [*waiting] == ["second"]


# Other failures


class Answer(BaseModel):
    content: str


class Hooks:
    """One hook raises, and `on_error` looks at what it is given."""

    def __init__(self, name: str) -> None:
        self.seen: list[str] = []
        setattr(self, name, self.fail)

    def fail(self, context: Any, value: Any) -> Any:
        self.seen.append(running())
        local = "a variable of the hook"
        raise ValueError(f"the hook: {len(local)}")

    def on_error(self, context: Any, failure: BaseException) -> None:
        self.seen.append(captured(failure) + running())


@EACH_WAY
@pytest.mark.parametrize("name", ["before_call", "after_call", "prepare_messages"])
def test_a_hook_that_raises_shows_no_key_and_keeps_its_own_variables(way: str, name: str) -> None:
    hooks = Hooks(name)
    error = failing(way, model_of("echo:", hooks=hooks), HookFailed)
    assert len(hooks.seen) == 2
    assert not keys_in("".join(hooks.seen))
    assert "local = 'a variable of the hook'" in captured(error)


@EACH_WAY
def test_an_error_shows_no_key_to_on_error(way: str) -> None:
    hooks = Hooks("on_iteration_complete")
    with LlmServer(Fails(401, BODY % key("declared"))) as server:
        failing(way, asked(server, "openai:gpt-4o", hooks=hooks))
    assert hooks.seen
    assert not keys_in("".join(hooks.seen))


@EACH_WAY
def test_a_tool_that_raises_shows_no_key(way: str) -> None:
    seen: list[str] = []

    def pay(amount: int) -> str:
        """Pay."""
        seen.append(running())
        raise ValueError("no money")

    model = model_of(tools=[pay], on_tool_error="halt", max_iterations=2)
    with testing.script(model, [testing.tool_call("pay", amount=1)]):
        failing(way, model, ToolFailed)
    with testing.script(model, [testing.tool_call("pay", amount="x"), testing.tool_call("pay", amount="x")]):
        failing(way, model, (ToolFailed, MaxIterations))  # type: ignore[arg-type]
    assert not keys_in("".join(seen))


@EACH_WAY
def test_a_reply_that_does_not_fit_shows_no_key(way: str) -> None:
    model = model_of(output_schema=Answer, output_retries=0)
    with testing.script(model, ["no JSON"]):
        failing(way, model, OutputInvalid)


def unfit() -> dict[str, Any]:
    return {**given(), "client": ("no id", {"api_key": key("chosen")})}


def no_mapping() -> dict[str, Any]:
    return {"client": ("openai:x", {"api_key": key("chosen")}), "client_options": [key("given")]}


@EACH_WAY
@pytest.mark.parametrize("options", [unfit, no_mapping])
def test_an_unfit_client_shows_no_key(way: str, options: Any) -> None:
    name, run = WAYS[way]
    model = model_of()

    def action(*args: Any, **keywords: Any) -> Any:
        del keywords
        return getattr(model, name)(*args, **options())

    with pytest.raises(InputInvalid) as caught:
        run(action, WORDS)
    refuse_keys(caught.value)


@EACH_WAY
@pytest.mark.parametrize("words", ["", {"other": 1}])
def test_an_unfit_input_shows_no_key(way: str, words: Any) -> None:
    failing(way, model_of(), InputInvalid, words)


@EACH_WAY
def test_an_unknown_argument_shows_no_key(way: str) -> None:
    name, run = WAYS[way]
    model = model_of()

    def action(*args: Any, **keywords: Any) -> Any:
        del keywords
        return getattr(model, name)(*args, unknown=1, **given())

    with pytest.raises(TypeError) as caught:
        run(action, WORDS)
    refuse_keys(caught.value)


# Sessions


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Any]:
    database = pw.SqliteDatabase(tmp_path / "keys.db", pragmas={"journal_mode": "wal", "busy_timeout": 5000})
    yield database
    database.close()


@contextmanager
def failing_session(kind: type[AgentSessionError]) -> Iterator[None]:
    with pytest.raises(kind) as caught:
        yield
    refuse_keys(caught.value)


@EACH_SESSION_WAY
def test_a_turn_of_a_session_that_fails_shows_no_key(way: str, file: Any) -> None:
    prefix, run = SESSION_WAYS[way]
    with LlmServer(*[Fails(500)] * 3) as server:
        model = asked(server, "openai:gpt-4o", database=file)
        with failing_session(ProviderFailed):
            run(getattr(model, f"{prefix}start_session"), WORDS)
        record = model.select().get()
        with failing_session(ProviderFailed):
            run(getattr(record, f"{prefix}resume_session"))
        with failing_session(ProviderFailed):
            run(getattr(model, f"{prefix}resume_session"), record.id)
    assert not keys_in(str([*file.execute_sql("SELECT * FROM keyed")]))


@EACH_SESSION_WAY
def test_an_unknown_session_shows_no_key(way: str, file: Any) -> None:
    prefix, run = SESSION_WAYS[way]
    model = model_of(database=file)
    with failing_session(SessionNotFound):
        run(getattr(model, f"{prefix}continue_session"), 7, WORDS)


@EACH_SESSION_WAY
def test_a_database_that_fails_shows_no_key_and_no_words(way: str, file: Any) -> None:
    prefix, run = SESSION_WAYS[way]

    class Dropping:
        def ask(self, request: Any) -> Reply:
            with file.connection_context():
                file.drop_tables([model])
            return Reply("Hello!")

    model = model_of(database=file, provider=Dropping())
    with pytest.raises(StorageFailed) as caught:
        run(getattr(model, f"{prefix}start_session"), WORDS)
    refuse_keys(caught.value)
    assert WORDS not in captured(caught.value.__cause__)


@pytest.mark.parametrize("name", ["stream_start_session", "astream_start_session"])
def test_a_stream_that_was_to_run_later_shows_no_key(name: str, file: Any) -> None:
    model = model_of(database=file)
    with failing_session(InputInvalid):
        getattr(model, name)(WORDS, run=False, **given())


def test_a_stream_whose_beginning_failed_begins_again_with_the_same_arguments(file: Any) -> None:
    model = model_of(database=file)

    async def begin_twice() -> None:
        stream = model.astream_continue_session(1, WORDS, **given())
        for _ in range(2):
            with failing_session(SessionNotFound):
                await stream
        with testing.script(model, ["Hello!", "Hello again!"]):
            await model.astart_session(WORDS)
            async for event in stream:
                last = event
        assert last.result.text == "Hello again!"

    asyncio.run(begin_twice())


# Declarations


def test_a_wrong_declaration_shows_no_key() -> None:
    with pytest.raises(DslError) as caught:
        agent(client=("no id", declared()), instruction="Hi", retries=-1, api_key=key("chosen"))(
            type("Wrong", (), {})
        )
    assert len(caught.value.problems) == 3
    refuse_keys(caught.value)


def test_a_wrong_declaration_of_a_class_that_is_passed_on_shows_no_key() -> None:
    with pytest.raises(DslError) as caught:
        agent(type("Wrong", (), {}), client=("no id", declared()), api_key=key("chosen"))
    refuse_keys(caught.value)


# Sentry

SENTRY = """
import json, os, sys
import sentry_sdk
from sentry_sdk.integrations.openai import OpenAIIntegration
from tests.support.key_canaries import WAYS, keys_in, model_of
from tests.support.litellm_calls import plain, request_to, streamed
from tests.support.llm_server import Cut, Fails, LlmServer, Says, Sends
from tests.support.pairwise import pairwise

with LlmServer(Says("Hello!"), Says("Hello!")) as server:
    plain(request_to(server)), streamed(request_to(server))  # both load modules
cases = [
    {"client": client, "way": way, "failure": failure}
    for client in ("openai:gpt-4o", "anthropic:claude-sonnet-4-5")
    for way in WAYS
    for failure in (Fails(400), Cut(), Sends("no JSON"))
]

def events_of(**options):
    events, found = [], []
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        before_send=lambda event, hint: events.append(json.dumps(event, default=str)),
        **options,
    )
    for number in pairwise(cases):
        client, (name, run) = cases[number]["client"], WAYS[cases[number]["way"]]
        with LlmServer(cases[number]["failure"]) as server:
            base = server.openai if client.startswith("openai") else server.url
            model = model_of(client, more={"api_base": base}, retries=0)
            events.clear()
            try:
                run(getattr(model, name), "USERTEXT my diagnosis")
            except Exception as error:
                sentry_sdk.capture_exception(error)
            *automatic, ours = events
            found.append([keys_in(ours), keys_in("".join(automatic)), len(automatic)])
    return found

for options in ({}, {"disabled_integrations": [OpenAIIntegration()]}):
    child = os.fork()  # Sentry patches modules of its process
    if child == 0:
        print("found", json.dumps(events_of(**options)), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@cache
def sentry_events() -> tuple[list[Any], list[Any]]:
    """Return for each failed call the keys in the event of its error, those in the events that Sentry sent by
    itself, and the number of these events: with Sentry's integration of OpenAI, and without it.

    Both run in forks of one process, since the import of litellm takes seconds.
    """
    ran = subprocess.run(
        [sys.executable, "-c", SENTRY],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
    )
    assert ran.returncode == 0, ran.stderr
    lines = [line.removeprefix("found") for line in ran.stdout.splitlines() if line.startswith("found")]
    with_openai, without_openai = map(json.loads, lines)
    assert len(with_openai) == len(without_openai) >= len(WAYS) * 3
    return with_openai, without_openai


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
def test_sentry_gets_no_key_in_our_errors_and_no_api_key_from_its_openai_integration() -> None:
    found, _ = sentry_events()
    assert not any(ours for ours, _, _ in found)
    assert not any("declared" in automatic for _, automatic, _ in found)


@needs_fork
def test_without_its_openai_integration_sentry_gets_no_key() -> None:
    _, found = sentry_events()
    assert found == [[[], [], 0]] * len(found)
