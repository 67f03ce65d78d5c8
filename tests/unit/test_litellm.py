"""The litellm provider against a local HTTP server that speaks both formats. Nothing is patched."""

from __future__ import annotations

import copy
import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
import traceback
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from agentsession import OutputInvalid, ProviderFailed, agent, info
from agentsession.provider.litellm import wire
from agentsession.provider.litellm.adapter import _litellm
from agentsession.provider.redaction import scrub
from tests.support.llm_server import Behaviour, Cut, Fails, LlmServer, Says, Sends, Slow, Trickles
from tests.support.models import chat_model, stored

pytestmark = pytest.mark.layouts("document")  # what goes to the provider is the same

KEY = "sk-test-5f0c/not+a=key"
GPT, CLAUDE = "openai:gpt-4o", "anthropic:claude-sonnet-4-5"
CLAUDE_BY_TOOL = "anthropic:claude-sonnet-4-20250514"
LOCAL = "openai:my-local-model"
BOTH = pytest.mark.parametrize("client", [GPT, CLAUDE])


def client_for(server: LlmServer, client: str = GPT, **options: Any) -> tuple[str, dict[str, Any]]:
    base = server.openai if client.startswith("openai") else server.url
    return client, {"api_base": base, "api_key": KEY, **options}


def model_for(server: LlmServer, client: str = GPT, *, options: Any = None, **declared: Any) -> Any:
    @agent(client=client_for(server, client, **(options or {})), instruction="Be terse.", **declared)
    class Terse: ...

    return Terse


def ask(script: list[Behaviour], client: str = GPT, **declared: Any) -> tuple[Any, LlmServer]:
    """One call under this script: its result, and the server with the requests it got."""
    with LlmServer(*script) as server:
        return model_for(server, client, **declared).call("Hi"), server


def fail(script: list[Behaviour], client: str = GPT, **declared: Any) -> tuple[Any, LlmServer]:
    """One call that must fail: its error, and the server."""
    with LlmServer(*script) as server, pytest.raises(ProviderFailed) as caught:
        model_for(server, client, **declared).call("Hi")
    return caught.value, server


# What a reply tells


@BOTH
def test_a_result_holds_what_the_service_told(client: str) -> None:
    says = Says("Hello!", thinking="Hm.", input_tokens=100, output_tokens=50, cached_tokens=40)
    result, _ = ask([says], client)
    assert (result.text, result.output, result.thinking) == ("Hello!", "Hello!", "Hm.")
    usage = result.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (100, 50, 150)
    assert usage.cached_tokens == 40
    assert result.finish_reason == "stop"
    assert result.model == client.partition(":")[2]
    assert 0 < result.cost < 0.01
    assert result.raw is not None


def test_reasoning_tokens_are_told() -> None:
    result, _ = ask([Says("Hello!", reasoning_tokens=3)])
    assert result.usage.reasoning_tokens == 3


@BOTH
def test_a_reply_that_was_cut_short_says_so(client: str) -> None:
    assert ask([Says("Hel", finish_reason="length")], client)[0].finish_reason == "length"


@pytest.mark.parametrize("client", [LOCAL, "anthropic:claude-sonnet-4-20990101"])
def test_the_cost_of_a_model_without_a_known_price_is_none(client: str) -> None:
    assert ask([Says("Hello!")], client)[0].cost is None


@pytest.mark.parametrize(("price", "cost"), [(0.5, 0.5 * 17), (0.0, 0.0)])
def test_the_cost_follows_the_prices_of_the_client_options(price: float, cost: float) -> None:
    options = {"input_cost_per_token": price, "output_cost_per_token": price}
    result, _ = ask([Says("Hello!", input_tokens=12, output_tokens=5)], "openai:priced", options=options)
    assert result.cost == pytest.approx(cost)


def completion(**message: Any) -> Sends:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return Sends(json.dumps({"id": "1", "object": "chat.completion", "model": "gpt-4o", "choices": [choice]}))


def test_the_cost_is_unknown_where_the_service_reports_no_usage() -> None:
    result, _ = ask([completion(content="Hello!")])
    assert (result.text, result.usage.total_tokens, result.cost) == ("Hello!", 0, None)


def test_a_refusal_is_the_reply() -> None:
    assert ask([completion(content=None, refusal="I will not.")])[0].text == "I will not."


def test_a_reply_without_a_word_does_not_pass_for_one() -> None:
    with LlmServer(completion(content=None)) as server, pytest.raises(OutputInvalid, match="empty"):
        model_for(server, output_retries=0).call("Hi")


def test_the_text_parts_of_a_listed_content_are_joined() -> None:
    parts = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hel"}, {"text": "lo!"}, "?"]
    assert wire.text_of(SimpleNamespace(content=parts)) == "Hello!"


def test_a_response_without_choices_is_a_failure_that_says_so() -> None:
    error, server = fail([Sends(json.dumps({"id": "1", "model": "gpt-4o", "choices": []}))], retries=0)
    assert "no choices" in error.found
    assert len(server.requests) == 1


# What goes over the wire


@BOTH
def test_the_service_is_shown_the_instruction_and_the_history(client: str, database: Any) -> None:
    with LlmServer(Says("One.", thinking="Hm."), Says("Two.")) as server:
        Chat = chat_model(database, client=client_for(server, client))
        session = Chat.start_session("First?")
        session.continue_session("Second?")
    start = [("system", "You help."), ("user", "First?")]
    assert [request.said for request in server.requests] == [
        start,
        [*start, ("assistant", "One."), ("user", "Second?")],
    ]
    assert session.last_result.text == "Two."


@BOTH
def test_the_key_goes_to_the_service_and_into_no_row(client: str, database: Any) -> None:
    with LlmServer(Says("One.")) as server:
        session = chat_model(database, client=client_for(server, client)).start_session("First?")
    headers = server.requests[0].headers
    assert KEY in headers.get("authorization", "") + headers.get("x-api-key", "")
    assert KEY not in json.dumps(stored(session))


@BOTH
def test_the_calls_of_an_agent_share_a_connection(client: str) -> None:
    with LlmServer(*[Says("Hello!")] * 3) as server:
        Model = model_for(server, client)
        for _ in range(3):
            Model.call("Hi")
    assert server.connected == 1


def test_client_options_go_to_the_service_as_they_are() -> None:
    options = {"temperature": 0.25, "extra_headers": {"X-Team": "blue"}}
    _, server = ask([Says("Hello!")], options=options)
    assert server.requests[0].body["temperature"] == 0.25
    assert server.requests[0].headers["x-team"] == "blue"


def test_client_options_are_not_written_to() -> None:
    options = {"metadata": {"team": "blue"}, "extra_headers": {"X-Team": "blue"}, "stop": ["END"]}
    given = copy.deepcopy(options)
    with LlmServer(Says("Hello!")) as server:
        Model = model_for(server, options=options)
        Model.call("Hi")
        kept = info.agent_options(Model).client.options
    assert options == given
    assert {name: kept[name] for name in given} == given


def test_an_option_that_asks_for_a_stream_does_not_break_a_plain_call() -> None:
    result, server = ask([Says("Hello!")], options={"stream": True})
    assert result.text == "Hello!"
    assert not server.requests[0].body.get("stream")


@BOTH
def test_tools_in_the_client_options_reach_the_service(client: str) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": parameters}}
    result, server = ask([Says("Sunny.")], client, options={"tools": [tool]})
    assert result.text == "Sunny."
    assert "get_weather" in json.dumps(server.requests[0].body["tools"])


# Structured output


class Street(BaseModel):
    name: str
    number: int = 1


class Person(BaseModel):
    name: str
    home: Street = Field(description="Where they live")
    friends: list[Street] = []


class Node(BaseModel):
    value: int
    next: Node | None = None


class Series(BaseModel):
    name: str
    values: list[int]


class Labels(BaseModel):
    labels: dict[str, Any]


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]
    barks: bool


SHAPES: list[tuple[Any, Any]] = [
    (Person, Person(name="Ann", home=Street(name="Elm", number=7))),
    (list[int], [1, 2, 3]),
    (int, 42),
    (Cat | Dog, Dog(kind="dog", barks=True)),
    (Node, Node(value=1, next=Node(value=2))),
    (Series, Series(name="a", values=[1, 2])),
    (Labels, Labels(labels={"a": 1})),
    (dict[str, int], {"a": 1}),
    (tuple[int, str], (1, "a")),
]


@pytest.mark.parametrize("client", [GPT, CLAUDE, CLAUDE_BY_TOOL, LOCAL])
@pytest.mark.parametrize(("shape", "value"), SHAPES, ids=lambda given: getattr(given, "__name__", None))
def test_a_value_of_any_shape_arrives_typed(client: str, shape: Any, value: Any) -> None:
    with LlmServer() as server:
        Model = model_for(server, client, output_schema=shape)
        server.script.append(Says(info.agent_options(Model).output.encode(value)))
        assert Model.call("Hi").output == value


def test_openai_is_sent_a_strict_schema() -> None:
    reply = Says('{"name": "Ann", "home": {"name": "Elm", "number": 7}, "friends": []}')
    _, server = ask([reply], output_schema=Person)
    sent = server.requests[0].body["response_format"]
    street = {
        "title": "Street",
        "type": "object",
        "properties": {
            "name": {"title": "Name", "type": "string"},
            "number": {"title": "Number", "type": "integer"},
        },
        "required": ["name", "number"],
        "additionalProperties": False,
    }
    friends = {"title": "Friends", "type": "array", "items": {"$ref": "#/$defs/Street"}}
    assert sent["type"] == "json_schema"
    assert sent["json_schema"] == {
        "name": "Person",
        "strict": True,
        "schema": {
            "title": "Person",
            "type": "object",
            "properties": {
                "name": {"title": "Name", "type": "string"},
                "home": {**street, "description": "Where they live"},
                "friends": friends,
            },
            "required": ["name", "home", "friends"],
            "additionalProperties": False,
            "$defs": {"Street": street},
        },
    }


@pytest.mark.parametrize(
    ("shape", "reply"),
    [(list[int], "[1]"), (int, "42"), (Cat | Dog, '{"kind": "cat"}'), (Node, '{"value": 1}')],
)
def test_the_root_of_a_sent_schema_is_an_object(shape: Any, reply: str) -> None:
    _, server = ask([Says(reply)], output_schema=shape)
    assert server.requests[0].schema is not None
    assert server.requests[0].schema["type"] == "object"


@pytest.mark.parametrize("client", [CLAUDE, CLAUDE_BY_TOOL])
def test_claude_is_sent_a_schema_without_references(client: str) -> None:
    reply = Says('{"name": "Ann", "home": {"name": "Elm", "number": 7}, "friends": []}')
    _, server = ask([reply], client, output_schema=Person)
    assert server.requests[0].schema is not None
    assert "$ref" not in json.dumps(server.requests[0].body)


PROMPTED = "Answer with JSON only"


@pytest.mark.parametrize(
    ("client", "mode", "shape", "reply"),
    [
        (GPT, "prompt", Street, '{"name": "Elm"}'),
        (LOCAL, "auto", Street, '{"name": "Elm"}'),
        (GPT, "auto", Labels, '{"labels": {"a": 1}}'),
        (CLAUDE, "auto", Labels, '{"labels": {"a": 1}}'),
        (CLAUDE, "auto", Node, '{"value": 1}'),
        (CLAUDE_BY_TOOL, "auto", Series, '{"name": "a", "values": [1]}'),
    ],
)
def test_where_no_schema_can_go_along_it_is_in_the_instruction(
    client: str, mode: str, shape: Any, reply: str
) -> None:
    result, server = ask([Says(reply)], client, output_schema=shape, output_mode=mode)
    role, text = server.requests[0].said[0]
    assert server.requests[0].schema is None
    assert role == "system"
    assert text.startswith(f"Be terse.\n\n{PROMPTED}")
    assert json.loads(text.partition("schema:\n")[2]) == info_schema(shape)
    assert isinstance(result.output, shape)


def info_schema(shape: type[BaseModel]) -> Any:
    return json.loads(json.dumps(shape.model_json_schema()))


def test_output_mode_schema_overrides_what_litellm_believes() -> None:
    _, server = ask([Says('{"name": "Elm"}')], LOCAL, output_schema=Street, output_mode="schema")
    assert server.requests[0].body["response_format"]["json_schema"]["strict"] is True
    assert server.requests[0].said[0] == ("system", "Be terse.")


def test_output_mode_schema_sends_free_keys_without_strict() -> None:
    _, server = ask([Says('{"labels": {"a": 1}}')], output_schema=Labels, output_mode="schema")
    sent = server.requests[0].body["response_format"]["json_schema"]
    assert sent == {"name": "Labels", "strict": False, "schema": info_schema(Labels)}


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"name": "Elm"}\n```',
        'Here it is:\n```\n{"name": "Elm"}\n```\nAnything else?',
        'The street is {"name": "Elm"}.',
    ],
)
def test_json_is_found_in_a_fence_and_in_prose(text: str) -> None:
    result, _ = ask([Says(text)], LOCAL, output_schema=Street)
    assert result.output == Street(name="Elm")
    assert result.text == text


@BOTH
def test_an_output_that_does_not_fit_goes_back_with_the_error(client: str) -> None:
    wrong, right = '{"name": "Elm", "number": "seven"}', '{"name": "Elm", "number": 7}'
    result, server = ask([Says(wrong), Says(right)], client, output_schema=Street)
    assert result.output == Street(name="Elm", number=7)
    first, second = (request.said for request in server.requests)
    assert second[: len(first)] == first
    assert second[len(first)] == ("assistant", wrong)
    role, text = second[len(first) + 1]
    assert role == "user"
    assert "number" in text
    assert result.usage.total_tokens == 2 * 17


def test_after_the_last_output_retry_the_error_holds_the_reply() -> None:
    replies: list[Behaviour] = [Says('{"name": 1}'), Says('{"name": 2}'), Says('{"name": []}')]
    with LlmServer(*replies) as server, pytest.raises(OutputInvalid) as caught:
        model_for(server, output_schema=Street, output_retries=2).call("Hi")
    assert caught.value.raw == '{"name": []}'
    assert len(server.requests) == 3


# Failures and retries


@BOTH
@pytest.mark.parametrize("status", [408, 429, 500, 503, 529])
def test_a_transient_failure_is_retried(client: str, status: int) -> None:
    result, server = ask([Fails(status, retry_after="0.01"), Says("Hello!")], client)
    assert result.text == "Hello!"
    first, second = server.requests
    assert first.body == second.body


@BOTH
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_permanent_failure_is_not_retried(client: str, status: int) -> None:
    error, server = fail([Fails(status)], client, retries=5)
    assert len(server.requests) == 1
    assert error.__cause__.status_code == status


@BOTH
@pytest.mark.parametrize("retries", [0, 2])
def test_retries_are_counted_once(client: str, retries: int) -> None:
    script: list[Behaviour] = [Fails(500, retry_after="0.01")] * (retries + 1)
    error, server = fail(script, client, retries=retries, options={"num_retries": 3, "max_retries": 3})
    assert len(server.requests) == retries + 1
    assert error.__cause__.status_code == 500


def test_without_a_retry_after_a_pause_is_made_all_the_same() -> None:
    result, server = ask([Fails(500), Says("Hello!")])
    assert result.text == "Hello!"
    assert server.requests[1].at - server.requests[0].at >= 0.25


@BOTH
def test_retry_after_is_waited_for(client: str) -> None:
    _, server = ask([Fails(429, retry_after="0.6"), Says("Hello!")], client)
    assert server.requests[1].at - server.requests[0].at >= 0.6


@BOTH
@pytest.mark.parametrize("retry_after", ["60", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_retry_after_beyond_the_timeout_ends_the_call(client: str, retry_after: str) -> None:
    began = time.monotonic()
    error, server = fail([Fails(429, retry_after=retry_after)], client, timeout=20.0)
    assert type(error.__cause__).__name__ == "RateLimitError"
    assert len(server.requests) == 1
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("retry_after", ["-1", "nan", "Sat, 01 Jan 2000 00:00:00 GMT"])
def test_a_retry_after_that_says_nothing_is_passed_over(retry_after: str) -> None:
    assert ask([Fails(429, retry_after=retry_after), Says("Hello!")])[0].text == "Hello!"


@BOTH
def test_the_timeout_covers_all_attempts(client: str) -> None:
    began = time.monotonic()
    error, server = fail([Slow(20, Says("late"))], client, timeout=0.4, retries=5)
    assert type(error.__cause__).__name__ == "Timeout"
    assert len(server.requests) == 1
    assert time.monotonic() - began < 10


@BOTH
def test_the_timeout_covers_a_reply_that_trickles_in(client: str) -> None:
    began = time.monotonic()
    error, _ = fail([Trickles(0.05)], client, timeout=0.4)
    assert "no complete reply within 0.4 s" in str(error)
    assert time.monotonic() - began < 10


def test_a_timeout_in_the_client_options_is_that_of_one_attempt() -> None:
    result, server = ask([Slow(20, Says("late")), Says("Hello!")], options={"timeout": 0.3}, timeout=20.0)
    assert result.text == "Hello!"
    assert len(server.requests) == 2


@BOTH
def test_a_call_whose_connection_breaks_off_is_retried(client: str) -> None:
    result, server = ask([Cut(), Says("Hello!")], client)
    assert result.text == "Hello!"
    assert len(server.requests) == 2


@BOTH
def test_a_refused_connection_is_a_failed_call(client: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        options = {"api_base": url, "api_key": KEY}
        Model = agent(client=(client, options), instruction="Be terse.", retries=1)(type("Model", (), {}))
        with pytest.raises(ProviderFailed, match=client) as caught:
            Model.call("Hi")
    assert isinstance(caught.value.__cause__, _litellm().InternalServerError)


@BOTH
@pytest.mark.parametrize("body", ["<html>busy</html>", "", "{}", "[]", "null"])
def test_a_body_that_is_not_a_reply_is_a_failed_call(client: str, body: str) -> None:
    error, server = fail([Sends(body)], client, retries=0)
    assert len(server.requests) == 1
    assert error.found.startswith(f"{client}: ")
    assert "Traceback" not in error.found


@BOTH
def test_the_cause_is_the_error_of_litellm(client: str) -> None:
    error, _ = fail([Fails(429)], client, retries=0)
    assert isinstance(error.__cause__, _litellm().RateLimitError)
    assert error.found.startswith(f"{client}: RateLimitError: ")
    assert error.found.count("RateLimitError") == 1


def test_a_failed_turn_of_a_session_can_be_resumed(database: Any) -> None:
    with LlmServer(Fails(400), Says("Hello!")) as server:
        Chat = chat_model(database, client=client_for(server))
        with pytest.raises(ProviderFailed) as caught:
            Chat.start_session("Hi")
        session = caught.value.session
        assert session.status == "failed"
        assert session.resume_session().last_result.text == "Hello!"
    assert server.requests[0].said == server.requests[1].said


# Secrets


def everything(error: BaseException) -> str:
    """Each text that a handler, a log or an error tracker would take from an error and its chain."""
    found = "".join(traceback.format_exception(error)) + str(error) + repr(error)
    links = [error.__cause__, error.__context__]
    return found + repr(vars(error)) + "".join(everything(link) for link in links if link is not None)


ECHOED = {
    "plain": KEY,
    "quoted": "sk-test-5f0c%2Fnot%2Ba%3Dkey",
    "masked": "sk-test-5********a=key",
    "google": "AIzaSyA-1234567890abcdefghijklmnopqrstu",
    "bearer": "Bearer abcdef.ghijkl",
}


@BOTH
@pytest.mark.parametrize("echoed", ECHOED.values(), ids=ECHOED)
def test_a_key_that_the_service_echoes_is_shown_nowhere(
    client: str, echoed: str, database: Any, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level(logging.INFO)
    body = json.dumps({"error": {"type": "auth", "message": f"Incorrect API key provided: {echoed}."}})
    with LlmServer(Fails(401, body)) as server:
        Chat = chat_model(database, client=client_for(server, client))
        with pytest.raises(ProviderFailed) as caught:
            Chat.start_session("Hi")
    shown = everything(caught.value) + json.dumps(stored(caught.value.session)) + "".join(capfd.readouterr())
    assert "Incorrect API key provided" in str(caught.value)
    assert echoed not in shown + caplog.text
    assert KEY not in shown + caplog.text


def test_a_secret_deep_in_the_options_is_shown_nowhere() -> None:
    options = {
        "extra_headers": {"X-Auth": "hunter2-hunter2"},
        "metadata": {"parts": [{"token": "swordfish"}]},
    }
    body = json.dumps({"error": {"message": "hunter2-hunter2 or swordfish?"}})
    error, _ = fail([Fails(400, body)], options=options)
    assert "[hidden] or [hidden]?" in error.found
    assert not re.search("hunter2|swordfish", everything(error))


def test_an_error_that_cannot_be_cleaned_is_left_out_of_the_chain() -> None:
    with pytest.raises(ValueError) as unclean:
        Street.model_validate({"name": [KEY]})
    error = RuntimeError(f"failed with {KEY}")
    error.__cause__ = unclean.value
    assert scrub(unclean.value, {"api_key": KEY}) is None
    assert scrub(error, {"api_key": KEY}) is error
    assert "failed with [hidden]" in everything(error)
    assert KEY not in everything(error)


def test_nothing_is_printed_when_a_call_fails(capfd: pytest.CaptureFixture[str]) -> None:
    _litellm()
    capfd.readouterr()
    fail([Fails(400)])
    assert capfd.readouterr() == ("", "")


# Imports


def python(program: str, **environment: str) -> str:
    unset = {name: value for name, value in os.environ.items() if not name.startswith("LITELLM_")}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=unset | environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_importing_and_decorating_load_no_optional_package() -> None:
    program = """
import sys, peewee
with_peewee = set(sys.modules)
from agentsession import agent, agent_session
@agent_session
@agent(client="anthropic:claude-sonnet-4-5", instruction="You help.", output_schema=list[int])
class Chat(peewee.Model):
    context = peewee.JSONField(null=True)
    class Meta:
        database = peewee.SqliteDatabase(":memory:")
optional = "litellm openai httpx playhouse.postgres_ext psycopg psycopg2 pymysql fastapi flask"
print([name for name in optional.split() if name in sys.modules and name not in with_peewee])
"""
    assert python(program).strip() == "[]"


def test_litellm_finds_its_own_lists_chosen_and_a_users_choice_kept() -> None:
    program = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "litellm":
            print(*[os.environ["LITELLM_LOCAL_" + it] for it in ("MODEL_COST_MAP", "ANTHROPIC_BETA_HEADERS")])
            sys.stdout.flush()
            os._exit(0)  # the import takes seconds
sys.meta_path.insert(0, Watch())
from agentsession import agent, warm_up
@agent(client="openai:gpt-4o", instruction="You help.")
class Model: ...
warm_up(Model)
"""
    assert python(program, LITELLM_LOCAL_MODEL_COST_MAP="true").strip() == "true True"
