"""No text of a user or a model makes a function of this package take quadratic time.

A function that reads a text belongs into `READERS`. A pattern that reads the same part again and again fails
here, and so does a loop that copies all that it has read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from agentsession import Context, Message
from agentsession._drive.model_call import PartialReply
from agentsession._json_values import json_candidates, storable_text, unstorable, with_portable_numbers
from agentsession._options import Client
from agentsession._prompt import Template
from agentsession._safe_errors import error_message
from agentsession._schema import InputSchema, OutputSchema, SchemaMismatch
from agentsession._store import format as stored_format
from agentsession._store.message_table import messages_of
from agentsession._tools.definition import Tool, read_docstring, tool_of
from agentsession._tools.json_parameters import read_arguments
from agentsession._tools.result import cut, plain_values, rendered
from agentsession._turn.prompt_messages import build_prompt, merge_roles
from agentsession._turn.tool_messages import StoredCall, as_object, prompt_call
from agentsession.context import Result
from agentsession.errors import TurnFailed
from agentsession.events import PartialOutput, StreamFailed, TextDelta
from agentsession.provider import Delta, PromptMessage, Reply, ToolCall
from agentsession.provider.echo import shaped, words_in
from agentsession.provider.litellm.stream import Thoughts
from agentsession.provider.litellm.tool_calls import Calls, message
from agentsession.provider.prompt_leaks import without_prompt_text
from agentsession.provider.protocol import RESERVED_TOOL
from agentsession.provider.redaction import redacted, scrub
from tests.support.time_growth import SHAPES, grows_too_fast

pytestmark = pytest.mark.filterwarnings("ignore")


class Answer(BaseModel):
    content: str


class Open(BaseModel, extra="allow"):
    content: Any = None


ANSWER, OPEN, LIST = OutputSchema(Answer), OutputSchema(Open), OutputSchema(list[int])
INSTRUCTION = Template("{{a}} {{#b}}{{.}}{{/b}}")
INPUT, STRUCTURED = InputSchema(), InputSchema(dict[str, Any])


def pieces_of(text: str, size: int = 8) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def fits(read: Callable[[str], object]) -> Callable[[str], None]:
    """A function that may refuse the text."""

    def run(text: str) -> None:
        with suppress(TurnFailed, ValueError, TypeError, RecursionError):
            read(text)

    return run


def follow(text: str, output: OutputSchema) -> None:
    """A streamed reply, with every event that it makes, and with the text that heartbeats store."""
    received = PartialReply(output)
    for piece in pieces_of(text, 100):
        for event in received.add(Delta(piece)):
            event.json() if isinstance(event, PartialOutput) else event.sse()
    [*received.complete(Reply(text))]


def stored(read: Callable[[str], object]) -> Callable[[str], object]:
    """A function of texts that have been made fit for a database."""
    return lambda text: read(storable_text(text))


def scrub_an_error(text: str) -> None:
    part = text[: len(text) // 4]
    error = ValueError(part, {"body": [part]})
    error.message = part  # type: ignore[attr-defined]
    error.__context__ = RuntimeError(part)
    scrub(error, {"api_key": "sk-0123456789", "extra_headers": {"x-token": "aaaaaaab"}})


def echo_messages(text: str) -> None:
    """A server repeats the beginning of long messages in an error."""
    prompt = [
        PromptMessage("user", text),
        PromptMessage("assistant", "", (ToolCall("order", text),)),
        PromptMessage("user", text[1:]),
    ]
    without_prompt_text([text[:2_000], "cannot read: " + text[7:999]], prompt)


def call_part(name: str | None, arguments: str) -> Any:
    call = SimpleNamespace(id=None, index=0, function=SimpleNamespace(name=name, arguments=arguments))
    return SimpleNamespace(tool_calls=[call])


def stream_a_call(text: str, name: str) -> None:
    calls = Calls()
    for nth, piece in enumerate(pieces_of(text)):
        calls.add(call_part(None if nth else name, piece))
    calls.opaque(SimpleNamespace(), "openai")
    assert calls.forced + "".join(call.arguments for call in calls.tool_calls) == text


def stream_thoughts(text: str) -> None:
    thoughts = Thoughts()
    for piece in pieces_of(text):
        thoughts.add(SimpleNamespace(thinking_blocks=[{"type": "thinking", "thinking": piece}]))
    thoughts.add(SimpleNamespace(thinking_blocks=[{"type": "thinking", "thinking": text, "signature": "s"}]))
    assert [block["thinking"] for block in thoughts.blocks] == [text]


def list_under_a_key(text: str) -> dict[str, Any]:
    """Half of the length is one key, the other half many values below it."""
    half = len(text) // 2
    return {text[:half]: [0] * (half // 8), "content": {text[half:]: [[]] * (half // 8)}}


def say_in_many_messages(text: str) -> None:
    pieces = pieces_of(text)
    shown = merge_roles([PromptMessage("user", piece) for piece in pieces])
    assert len(shown) == 1
    merge_roles(
        [PromptMessage(role, piece) for piece in pieces for role in ("user", "assistant", "assistant")]
    )


def show_a_conversation(text: str) -> None:
    messages = [Message(str(n), "t", "user", piece) for n, piece in enumerate(pieces_of(text, 100))]
    build_prompt(messages, text, INPUT)
    build_prompt([Message("0", "t", "user", {"text": text, text: "x"})], "", STRUCTURED)


def load_a_context(text: str) -> None:
    stored = {"v": 1, "revision": 1, "messages": [{"id": "0", "turn": "t", "role": "user", "content": text}]}
    encoded = json.dumps(stored)
    stored_format.decode_document(encoded)
    with suppress(Exception):
        stored_format.decode(text, "here")
    with suppress(Exception):
        messages_of([(0, "t", "user", json.dumps(text), "{}"), (1, "t", "user", text, text)], "here")


def order(customer: str, amount: int = 1, **more: Any) -> str:
    """Order something."""
    return customer


RULES = {"properties": {"customer": {"type": "string", "minLength": 2}, "amount": {"type": "integer"}}}
TOOLS = (tool_of(order), Tool(name="order", description="", parameters=RULES, function=order))


def take_arguments(text: str) -> None:
    for tool in TOOLS:
        for arguments in (text, json.dumps({"customer": text, text: text, "amount": text})):
            with suppress(SchemaMismatch):
                tool.plain(tool.accept(arguments))


READERS: dict[str, Callable[[str], object]] = {
    "redacted": lambda text: redacted(text, {"api_key": "sk-1", "headers": [{"x-token": "aaaaaaab"}]}),
    "scrub": scrub_an_error,
    "an echo of the messages": echo_messages,
    "message of an error": lambda text: error_message(ValueError(text)),
    "StreamFailed": lambda text: StreamFailed.of(TurnFailed(text)).sse(),
    "a streamed object": lambda text: follow(text, ANSWER),
    "a streamed open object": lambda text: follow(text, OPEN),
    "a streamed list": lambda text: follow('{"output": ' + text, LIST),
    "a streamed text": lambda text: follow(text, OutputSchema()),
    "a reply as an object": fits(ANSWER.parse),
    "a reply as a list": fits(LIST.parse),
    "a stored reply": stored(fits(lambda text: Result(text, schema=OPEN).output)),
    "the JSON in a reply": lambda text: [*json_candidates(text)],
    "the JSON behind prose": lambda text: [*json_candidates("It is: " + text)],
    "a value as a reply": fits(lambda text: OPEN.encode({"content": text, text: [text]})),
    "a storable text": storable_text,
    "with_portable_numbers": lambda text: with_portable_numbers(list_under_a_key(text)),
    "unstorable": lambda text: [*unstorable([text, {text: text}])],
    "unstorable below a long key": lambda text: [*unstorable(list_under_a_key(text))],
    "an input": fits(lambda text: INPUT.show(INPUT.accept(text))),
    "a structured input": fits(lambda text: STRUCTURED.show(STRUCTURED.accept(list_under_a_key(text)))),
    "arguments of a call": fits(read_arguments),
    "arguments below a long key": fits(lambda text: read_arguments(json.dumps(list_under_a_key(text)))),
    "arguments of tools": stored(take_arguments),
    "arguments as an object": stored(as_object),
    "a stored call": stored(
        lambda text: message(
            PromptMessage("assistant", text, (prompt_call(StoredCall("t:0:0", text, text)),), "", text)
        )
    ),
    "a call in one piece": lambda text: Calls.of(call_part(text, text)).tool_calls,
    "a reply to store": lambda text: Reply(text, text, (ToolCall(text, text),), text).storable(),
    "words": words_in,
    "an echo": lambda text: shaped(ANSWER.json_schema, text),
    "the model's prompt": stored(show_a_conversation),
    "a stored context": load_a_context,
    "an instruction's values": lambda text: INSTRUCTION.render({"a": text, "b": pieces_of(text)}),
    "a template": fits(lambda text: Template(text[:20_000])),
    "a docstring": fits(read_docstring),
    "a tool's result": lambda text: rendered([text, list_under_a_key(text), {*pieces_of(text, 100)}]),
    "a tool's values": lambda text: plain_values({"a": text, text: [text]}),
    "a result that is cut": stored(lambda text: cut(text, len(text) // 2)),
    "an event": stored(lambda text: TextDelta(text).sse()),
    "a client": fits(Client.parse),
    "a context": lambda text: Context(messages=(Message("0", "t", "user", text),)).messages[0].text,
}

READERS_OF_PIECES: dict[str, Callable[[str], object]] = {
    "a streamed call": lambda text: stream_a_call(text, "order"),
    "a streamed forced call": lambda text: stream_a_call(text, RESERVED_TOOL),
    "streamed thoughts": stream_thoughts,
    "many messages of one role": say_in_many_messages,
}
"""Join many pieces of a text without reading them: the number of pieces matters, the characters do not."""


@pytest.mark.parametrize("name", READERS)
def test_no_text_takes_quadratic_time(name: str) -> None:
    slow = {shape: grows_too_fast(READERS[name], text_of) for shape, text_of in SHAPES.items()}
    assert not {shape: found for shape, found in slow.items() if found}


@pytest.mark.parametrize("name", READERS_OF_PIECES)
def test_no_number_of_pieces_takes_quadratic_time(name: str) -> None:
    texts = {shape: SHAPES[shape] for shape in ("words", "backslashes", "surrogates")}
    slow = {
        shape: grows_too_fast(READERS_OF_PIECES[name], text_of, (20_000, 80_000, 320_000))
        for shape, text_of in texts.items()
    }
    assert not {shape: found for shape, found in slow.items() if found}


def test_the_measure_tells_quadratic_time_from_linear() -> None:
    def quadratic(text: str) -> None:
        for _ in range(0, len(text), 100):
            text.count("no")

    assert grows_too_fast(quadratic, SHAPES["words"])
    assert not grows_too_fast(str.split, SHAPES["words"])
