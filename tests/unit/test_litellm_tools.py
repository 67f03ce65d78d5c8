"""Tools through litellm against a local HTTP server that speaks both formats, and keeps to their rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydantic import BaseModel

from agentsession._json_values import JsonMap
from agentsession._options import Client
from agentsession._schema import OutputSchema
from agentsession._tools.definition import Tool
from agentsession.errors import ProviderCallError
from agentsession.provider import Delta, PromptMessage, Reply, Request, ToolCall
from agentsession.provider.litellm import retry, wire
from agentsession.provider.litellm.adapter import _litellm
from tests.support.litellm_calls import (
    CLAUDE,
    CLAUDE_BY_TOOL,
    GPT,
    LITELLM,
    STREAMS,
    in_a_thread,
    plain,
    plain_async,
    request_to,
    streamed,
    streamed_async,
    whole,
)
from tests.support.llm_formats import SIGNATURE, Calls, Says, Streams
from tests.support.llm_rules import broken
from tests.support.llm_server import LlmServer, Sends

pytestmark = pytest.mark.filterwarnings("ignore:Items? .* on TypedDict:UserWarning")

BOTH = pytest.mark.parametrize("client", [GPT, CLAUDE])
EACH_WAY = pytest.mark.parametrize(
    "ask",
    [
        plain,
        plain_async,
        lambda request: whole(streamed(request)),
        lambda request: whole(streamed_async(request)),
    ],
    ids=["plain", "async", "stream", "async stream"],
)
EITHER_STREAM = pytest.mark.parametrize("ask", STREAMS)

Ask = Callable[[Request], Reply]


@dataclass(frozen=True, eq=False, kw_only=True)
class Stub(Tool):
    @property
    def schema(self) -> JsonMap:
        return dict(self.parameters)


STREET = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
FIND = {
    "type": "object",
    "properties": {"order": {"type": "integer", "minimum": 1}, "street": {"$ref": "#/$defs/Street"}},
    "required": ["order"],
    "$defs": {"Street": STREET},
}
NOTHING = {"type": "object", "properties": {}}
TOOLS = (
    Stub(name="find", description="Find an order.", parameters=FIND, function=print),
    Stub(name="now", description="The time.", parameters=NOTHING, function=print),
)
TWO = (Calls("find", '{"order": 3, "name": "Zo\\u00eb"}'), Calls("find", '{"order": 4}'), Calls("now"))
ASKED = tuple(ToolCall(call.name, call.arguments) for call in TWO)

HISTORY = (
    PromptMessage("system", "Be terse."),
    PromptMessage("user", "Where are they?"),
    PromptMessage("assistant", "Let me look.", (ToolCall("find", '{"order":3}', "a00000001"),)),
    PromptMessage("tool", "On its way.", call="a00000001"),
    PromptMessage(
        "assistant",
        "",
        (ToolCall("find", '{"order":4}', "a00000002"), ToolCall("now", "{}", "a00000003")),
    ),
    PromptMessage("tool", "Lost.", call="a00000002"),
    PromptMessage("tool", "12:00", call="a00000003"),
)


def tooled(
    server: LlmServer, client: str = GPT, prompt: Any = None, tools: Any = TOOLS, **limits: Any
) -> Request:
    request = replace(request_to(server, client, **limits), tools=tools)
    return replace(request, prompt=prompt) if prompt else request


# A reply that asks for tools


@BOTH
@EACH_WAY
def test_parallel_calls_come_back_in_order(ask: Ask, client: str) -> None:
    with LlmServer(Says("Let me look.", "Hm.", TWO)) as server:
        reply = ask(tooled(server, client))
    assert (reply.text, reply.thinking, reply.finish_reason) == ("Let me look.", "Hm.", "tool_calls")
    assert reply.calls == ASKED
    assert reply.cost


@BOTH
@EACH_WAY
def test_calls_may_come_without_a_word(ask: Ask, client: str) -> None:
    with LlmServer(Streams(calls=TWO, pieces=9)) as server:
        reply = ask(tooled(server, client))
    assert (reply.text, reply.calls, reply.opaque) == ("", ASKED, "")


@BOTH
def test_tools_are_offered_in_the_services_own_form(client: str) -> None:
    with LlmServer(Says("Hello!")) as server:
        assert plain(tooled(server, client)).calls == ()
    sent = server.requests[0].body["tools"]
    if client == GPT:
        told = {"name": "find", "description": "Find an order.", "parameters": FIND}
        assert sent[0] == {"type": "function", "function": told}
    else:
        assert (sent[0]["name"], sent[0]["description"]) == ("find", "Find an order.")
        assert sent[0]["input_schema"]["properties"]["order"]["type"] == "integer"
        assert sent[0]["input_schema"]["$defs"] == {"Street": STREET}
    assert len(sent) == 2
    assert "tool_choice" not in server.requests[0].body
    assert TOOLS[0].schema is not FIND
    assert FIND["required"] == ["order"]


@BOTH
def test_options_about_tools_go_along_and_tools_of_the_options_come_last(client: str) -> None:
    told = {"name": "own", "description": "Mine.", "parameters": NOTHING}
    more = {"tool_choice": "required", "parallel_tool_calls": False}
    options = {"tools": [{"type": "function", "function": told}], **more}
    with LlmServer(Says("Hello!")) as server:
        plain(tooled(server, client, options=options))
    body = server.requests[0].body
    names = [tool.get("name") or tool["function"]["name"] for tool in body["tools"]]
    assert names == ["find", "now", "own"]
    if client == GPT:
        assert {name: body[name] for name in more} == more
    else:
        assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


# A conversation with calls in it


@BOTH
@EACH_WAY
def test_calls_and_their_results_are_shown(ask: Ask, client: str) -> None:
    with LlmServer(Says("Done.")) as server:
        assert ask(tooled(server, client, HISTORY)).text == "Done."
    messages = server.requests[0].body["messages"]
    if client == GPT:
        assert messages[2] == {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [called("a00000001", "find", '{"order":3}')],
        }
        assert messages[3] == {"role": "tool", "tool_call_id": "a00000001", "content": "On its way."}
        assert not messages[4].get("content")
        assert [call["id"] for call in messages[4]["tool_calls"]] == ["a00000002", "a00000003"]
    else:
        uses = [use("a00000002", "find", {"order": 4}), use("a00000003", "now", {})]
        assert messages[3]["content"] == uses
        assert [block["content"] for block in messages[4]["content"]] == ["Lost.", "12:00"]


def called(id: str, name: str, arguments: str) -> JsonMap:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def use(id: str, name: str, input: JsonMap) -> JsonMap:
    return {"type": "tool_use", "id": id, "name": name, "input": input}


@pytest.mark.parametrize("client", [GPT, CLAUDE, "openai:mistral-large-latest"])
@pytest.mark.parametrize("output", [None, int])
def test_calls_of_tools_that_are_gone_are_shown_with_stubs_of_them(client: str, output: Any) -> None:
    with LlmServer(Says('{"output": 1}')) as server:
        plain(tooled(server, client, HISTORY, (), output=output))
    body = server.requests[0].body
    names = [tool.get("name") or tool["function"]["name"] for tool in body["tools"]]
    assert names == ["find", "now"]
    assert body["tool_choice"] == ({"type": "none"} if client == CLAUDE else "none")


def test_where_the_tools_of_a_conversation_cannot_be_forbidden_or_told_they_are_not() -> None:
    def sent(client: str) -> JsonMap:
        request = Request(HISTORY, Client.parse(client), OutputSchema(None))
        return wire.arguments(_litellm(), request, 1.0)

    assert "tool_choice" not in sent("bedrock:anthropic.claude-3-5-sonnet-20240620-v1:0")
    assert sent("mistral:mistral-large-latest")["tool_choice"] == "none"
    assert "tools" not in sent("perplexity:sonar")


# What a provider wants to see again


def shown_again(reply: Reply, opaque: str | None = None) -> tuple[PromptMessage, ...]:
    """The conversation after a reply with calls, which have been answered."""
    calls = tuple(replaced(call, f"a0000000{nth}") for nth, call in enumerate(reply.calls))
    said = PromptMessage("assistant", reply.text, calls, opaque=reply.opaque if opaque is None else opaque)
    results = [PromptMessage("tool", "Found.", call=call.id) for call in calls]
    return (PromptMessage("user", "Where are they?"), said, *results)


def replaced(call: ToolCall, id: str) -> ToolCall:
    return ToolCall(call.name, call.arguments, id)


@EACH_WAY
def test_the_thinking_of_claude_goes_back_with_its_signature(ask: Ask) -> None:
    with LlmServer(Says("Let me look.", "Hm.", TWO, redacted="ZW5j"), Says("Done.")) as server:
        reply = ask(tooled(server, CLAUDE))
        ask(tooled(server, CLAUDE, shown_again(reply)))
    assert [block["type"] for block in server.requests[1].body["messages"][1]["content"]] == [
        "thinking", "redacted_thinking", "text", *["tool_use"] * 3,
    ]  # fmt: skip
    thinking, redacted, text, *_ = server.requests[1].body["messages"][1]["content"]
    assert (thinking["thinking"], thinking["signature"]) == ("Hm.", SIGNATURE)
    assert (redacted["data"], text["text"]) == ("ZW5j", "Let me look.")


def test_all_four_ways_of_asking_give_the_same_reply_with_calls() -> None:
    says = Says("Let me look.", "Hm.", TWO, redacted="ZW5j", input_tokens=100, output_tokens=50)
    with LlmServer(*[says] * 4) as server:
        request = tooled(server, CLAUDE)
        replies = [plain(request), plain_async(request), *(whole(ask(request)) for ask in STREAMS)]
    assert [replace(reply, raw=None) for reply in replies] == [replace(replies[0], raw=None)] * 4
    assert replies[0].opaque


@pytest.mark.parametrize("opaque", ["", "{", "[]", '{"message": 1}', '{"calls": [{}]}', '"\\ud800"'])
def test_without_what_a_provider_gave_the_calls_are_shown_all_the_same(opaque: str) -> None:
    with LlmServer(Says("Let me look.", "Hm.", TWO), Says("Done.")) as server:
        reply = plain(tooled(server, CLAUDE))
        plain(tooled(server, CLAUDE, shown_again(reply, opaque)))
    types = [block["type"] for block in server.requests[1].body["messages"][1]["content"]]
    assert types == ["text", *["tool_use"] * 3]


@pytest.mark.parametrize(("first", "second"), [(CLAUDE, GPT), (GPT, CLAUDE)])
@EACH_WAY
def test_another_provider_takes_the_conversation(ask: Ask, first: str, second: str) -> None:
    with LlmServer(Says("", "Hm.", TWO), Says("Done.")) as server:
        reply = ask(tooled(server, first))
        assert ask(tooled(server, second, shown_again(reply, opaque=""))).text == "Done."


SEARCH = {"type": "web_search_20250305", "name": "web_search"}


def searched(**block: Any) -> JsonMap:
    return {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [], **block}


@pytest.mark.parametrize("with_a_call", [True, False])
def test_a_search_that_claude_itself_has_made_is_no_call_but_goes_back(with_a_call: bool) -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": SIGNATURE}
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    blocks: list[JsonMap] = [thinking, search, searched(), use("toolu_1", "find", {"order": 3})]
    usage = {"input_tokens": 1, "output_tokens": 1}
    message: JsonMap = {"id": "1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5"}
    message |= {"content": blocks[: 3 + with_a_call], "stop_reason": "tool_use", "usage": usage}
    with LlmServer(Sends(json.dumps(message)), Says("Done.")) as server:
        reply = plain(tooled(server, CLAUDE, options={"tools": [SEARCH]}))
        if with_a_call:
            plain(tooled(server, CLAUDE, shown_again(reply)))
        else:
            server.script.clear()
    assert [call.name for call in reply.calls] == ["find"] * with_a_call
    if with_a_call:
        sent = server.requests[1].body["messages"][1]["content"]
        assert [block["type"] for block in sent] == [block["type"] for block in blocks]
    else:
        assert reply.opaque == ""


def test_the_thinking_of_deepseek_goes_back_as_it_was() -> None:
    with LlmServer(Says("", "Hm.", TWO), Says("Done.")) as server:
        base = {"api_base": server.openai, "api_key": "key"}
        request = replace(tooled(server), client=Client.parse(("deepseek:deepseek-chat", base)))
        reply = plain(request)
        plain(replace(request, prompt=shown_again(reply)))
    assert server.requests[1].body["messages"][1]["reasoning_content"] == "Hm."


SIGNED_PARTS: list[JsonMap] = [
    {"text": "Hm.", "thought": True},
    {"functionCall": {"name": "find", "args": {"order": 3}}, "thoughtSignature": "c2ln"},
    {"functionCall": {"name": "now", "args": {}}},
]


def gemini(*parts: JsonMap, streams: bool, missing: int = 0) -> Sends:
    content = {"role": "model", "parts": parts}
    candidate = {"content": content, "index": 0} | ({} if missing else {"finishReason": "STOP"})
    body = json.dumps({"candidates": [candidate], "usageMetadata": {"totalTokenCount": 3}})
    return Sends(f"data: {body}\r\n\r\n" if streams else body, missing)


def to_gemini(server: LlmServer) -> Request:
    options = {"api_base": f"{server.url}/gemini", "api_key": "key"}
    return replace(tooled(server), client=Client.parse(("gemini:gemini-3-pro-preview", options)))


@EACH_WAY
def test_the_signatures_of_gemini_go_back_with_their_calls(ask: Ask) -> None:
    with LlmServer() as server:
        request = to_gemini(server)
        streams = ask not in (plain, plain_async)
        server.script += [gemini(*parts, streams=streams) for parts in (SIGNED_PARTS, [{"text": "Done."}])]
        reply = ask(request)
        assert ask(replace(request, prompt=shown_again(reply))).text == "Done."
    assert (reply.thinking, reply.finish_reason) == ("Hm.", "tool_calls")
    assert reply.calls == (ToolCall("find", '{"order": 3}'), ToolCall("now", "{}"))
    first, second = server.requests[1].body["contents"][1]["parts"]
    assert (first["thoughtSignature"], first["function_call"]["args"]) == ("c2ln", {"order": 3})
    assert "thoughtSignature" not in second


@EITHER_STREAM
def test_a_stream_of_gemini_that_is_cut_is_an_error(ask: Any) -> None:
    with LlmServer(gemini({"text": "Hel"}, streams=True, missing=100)) as server:
        with pytest.raises(ProviderCallError):
            ask(replace(to_gemini(server), retries=0))


# Structured output and tools


class Person(BaseModel):
    name: str


PERSON = '{"name": "Ann"}'


@pytest.mark.parametrize(
    ("client", "mode", "by_schema"),
    [
        (GPT, "auto", True),
        (CLAUDE, "auto", True),
        (CLAUDE_BY_TOOL, "auto", False),
        (GPT, "prompt", False),
        (CLAUDE_BY_TOOL, "schema", True),
    ],
)
@EACH_WAY
def test_tools_can_be_called_where_the_output_has_a_schema(
    ask: Ask, client: str, mode: Any, by_schema: bool
) -> None:
    is_forced = client == CLAUDE_BY_TOOL and by_schema
    says = [Says(PERSON)] if is_forced else [Says("", calls=TWO), Says(PERSON)]
    with LlmServer(*says) as server:
        request = tooled(server, client, output=Person, output_mode=mode)
        if not is_forced:
            assert ask(request).calls == ASKED
        reply = ask(request)
    assert (reply.text, reply.calls, reply.finish_reason) == (PERSON, (), "stop")
    for asked in server.requests:
        assert (asked.schema is not None) == by_schema
        assert ("Once you need no tool any more, answer with JSON only" in asked.said[0][1]) != by_schema
        assert len(asked.body["tools"]) == 2 + is_forced


@pytest.mark.parametrize(
    "client",
    [
        "gemini:gemini-2.5-flash",
        "groq:llama-3.3-70b-versatile",
        "mistral:mistral-large-latest",
        "bedrock:anthropic.claude-3-5-sonnet-20240620-v1:0",
        "anthropic:claude-3-5-haiku-20241022",
    ],
)
def test_no_schema_is_sent_beside_tools_where_the_two_do_not_go_together(client: str) -> None:
    prompt = (PromptMessage("user", "Hi"),)
    request = Request(prompt, Client.parse(client), OutputSchema(Person), tools=TOOLS)
    sent = wire.arguments(_litellm(), request, 1.0)
    assert "response_format" not in sent
    assert sent["messages"][0]["role"] == "system"


THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048}
EFFORT = {"reasoning_effort": "low"}


@EACH_WAY
@pytest.mark.parametrize("options", [THINKING, EFFORT], ids=["thinking", "effort"])
def test_claude_continues_a_step_of_another_model_without_thinking(ask: Ask, options: JsonMap) -> None:
    with LlmServer(Says("They are lost."), Says("Hm.")) as server:
        ask(tooled(server, CLAUDE, HISTORY, options=options))
        ask(tooled(server, CLAUDE, HISTORY[:2], options=options))
    assert ["thinking" in request.body for request in server.requests] == [False, True]


def test_claude_continues_its_own_step_with_thinking() -> None:
    with LlmServer(Says("", thinking="Hm.", calls=TWO[:1]), Says("It is there.")) as server:
        begun = plain(tooled(server, CLAUDE, HISTORY[:2], options=THINKING))
        call = ToolCall(begun.calls[0].name, begun.calls[0].arguments, "a00000009")
        step = PromptMessage("assistant", "", (call,), opaque=begun.opaque)
        prompt = (*HISTORY[:2], step, PromptMessage("tool", "On its way.", call="a00000009"))
        plain(tooled(server, CLAUDE, prompt, options=THINKING))
    assert all("thinking" in request.body for request in server.requests)


def test_a_reasoning_model_of_openai_keeps_its_effort_in_a_step_of_another_model() -> None:
    with LlmServer(Says("They are lost.")) as server:
        plain(tooled(server, "openai:o4-mini", HISTORY, options=EFFORT))
    assert server.requests[0].body["reasoning_effort"] == "low"


@pytest.mark.parametrize(
    ("client", "is_claude"),
    [
        ("bedrock:anthropic.claude-sonnet-4-20250514-v1:0", True),
        ("vertex_ai:claude-sonnet-4-5", True),
        ("bedrock:openai.gpt-oss-120b-1:0", False),
        ("vertex_ai:gemini-2.5-pro", False),
    ],
)
def test_only_claude_continues_without_thinking_at_a_cloud_provider(client: str, is_claude: bool) -> None:
    request = Request(
        HISTORY, Client.parse((client, {**THINKING, **EFFORT})), OutputSchema(None), tools=TOOLS
    )
    sent = wire.arguments(_litellm(), request, 1.0)
    assert ("thinking" in sent, "reasoning_effort" in sent) == (not is_claude, not is_claude)


@EACH_WAY
def test_a_forced_tool_beside_others_is_the_text(ask: Ask) -> None:
    """A model that may think cannot be forced, and so may call both."""
    both = (Calls("json_tool_call", PERSON), Calls("find", '{"order": 3}'))
    with LlmServer(Says(calls=both)) as server:
        request = tooled(server, CLAUDE_BY_TOOL, output=Person, output_mode="schema", options=THINKING)
        reply = ask(request)
    assert (reply.text, reply.finish_reason) == (PERSON, "tool_calls")
    assert reply.calls == (ToolCall("find", '{"order": 3}'),)


# Streams


@BOTH
@EITHER_STREAM
def test_arguments_are_no_text(ask: Any, client: str) -> None:
    with LlmServer(Streams("Let me look.", calls=TWO, pieces=3)) as server:
        *deltas, reply = ask(tooled(server, client))
    assert deltas == [Delta("Let "), Delta("me l"), Delta("ook.")]
    assert reply.calls == ASKED


@BOTH
@EITHER_STREAM
@pytest.mark.parametrize("ends", ["cut", "early", "error"])
def test_a_stream_that_is_cut_in_a_call_is_an_error(ask: Any, client: str, ends: Any) -> None:
    with LlmServer(Streams("Look.", calls=TWO, ends=ends, after=6)) as server:
        came: list[Any] = []
        with pytest.raises(ProviderCallError):
            if ask is streamed:
                in_a_thread(lambda: came.extend(LITELLM.stream(tooled(server, client))))
            else:
                asyncio.run(into(came, LITELLM.astream(tooled(server, client))))
    assert all(isinstance(piece, Delta) for piece in came)
    assert "".join(piece.text for piece in came) == "Look."


async def into(came: list[Any], pieces: Any) -> None:
    async for piece in pieces:
        came.append(piece)


@BOTH
@EITHER_STREAM
def test_a_stream_that_is_cut_in_a_call_before_any_word_is_retried(
    ask: Any, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    with LlmServer(Streams(calls=TWO, ends="cut", after=5), Says(calls=TWO)) as server:
        assert whole(ask(tooled(server, client))).calls == ASKED


def part(index: int | None, arguments: str = "", **more: Any) -> JsonMap:
    name = {"name": more.pop("name")} if "name" in more else {}
    place = {} if index is None else {"index": index}
    return {**place, **more, "function": {**name, "arguments": arguments}}


ODD = {
    "interleaved": [
        [part(0, "", id="a", name="find"), part(1, "", id="b", name="now")],
        [part(1, "{"), part(0, '{"order"')],
        [part(0, ": 3}"), part(1, "}")],
    ],
    "without ids": [
        [part(0, "{", name="find")],
        [part(0, '"order": 3}')],
        [part(1, "{}", name="now")],
    ],
    "all at index 0": [
        [part(0, '{"order": 3}', id="a", name="find")],
        [part(0, "{}", id="b", name="now")],
    ],
    "without an index": [
        [part(None, '{"order": 3}', id="a", name="find")],
        [part(None, "{}", id="b", name="now")],
    ],
    "the name in each piece": [
        [part(0, '{"order"', id="a", name="find")],
        [part(0, ": 3}", id="a", name="find")],
        [part(1, "", id="b", name="now")],
    ],
    "a new id for each piece": [
        [part(0, '{"order"', id="a", name="find")],
        [part(0, ": 3}", id="x")],
        [part(1, "{}", id="b", name="now")],
        [part(2, "")],
    ],
}


@pytest.mark.parametrize("pieces", ODD.values(), ids=ODD)
@EITHER_STREAM
def test_calls_are_kept_apart_however_they_come(ask: Any, pieces: Any) -> None:
    with LlmServer(chunks(*[{"tool_calls": piece} for piece in pieces])) as server:
        reply = whole(ask(tooled(server)))
    assert reply.calls == (ToolCall("find", '{"order": 3}'), ToolCall("now", "{}"))
    assert reply.finish_reason == "tool_calls"


def chunks(*deltas: JsonMap) -> Sends:
    """An OpenAI stream with these deltas."""
    common = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    choices: list[JsonMap] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    lines = [f"data: {json.dumps(common | {'choices': [choice]})}\n\n" for choice in choices]
    return Sends("".join(lines) + "data: [DONE]\n\n")


SIGNED = {"extra_content": {"google": {"thought_signature": "c2ln"}}}


@EITHER_STREAM
def test_what_a_call_of_a_stream_brings_goes_back_with_it(ask: Any) -> None:
    pieces = [part(0, "{}", id="a", name="now", **SIGNED), part(1, "{}", id="b", name="now")]
    with LlmServer(chunks({"tool_calls": pieces}), Says("Done.")) as server:
        reply = whole(ask(tooled(server)))
        ask(tooled(server, GPT, shown_again(reply)))
    first, second = server.requests[1].body["messages"][1]["tool_calls"]
    assert first == called("a00000000", "now", "{}") | SIGNED
    assert second == called("a00000001", "now", "{}")


@EITHER_STREAM
def test_the_legacy_form_of_a_call_is_a_call(ask: Any) -> None:
    pieces = [{"function_call": {"name": "find", "arguments": '{"order"'}}]
    pieces += [{"function_call": {"arguments": ": 3}"}}]
    with LlmServer(chunks(*pieces)) as server:
        assert whole(ask(tooled(server))).calls == (ToolCall("find", '{"order": 3}'),)


def test_the_legacy_form_of_a_call_is_a_call_in_one_piece_too() -> None:
    message: JsonMap = {"role": "assistant", "content": None}
    message |= {"function_call": {"name": "find", "arguments": '{"order": 3}'}}
    choice: JsonMap = {"index": 0, "message": message, "finish_reason": "function_call"}
    body = {"id": "1", "object": "chat.completion", "model": "gpt-4o", "choices": [choice]}
    with LlmServer(Sends(json.dumps(body))) as server:
        assert plain(tooled(server)).calls == (ToolCall("find", '{"order": 3}'),)


# The rules that the services keep


def openai(*messages: Any, model: str = "gpt-4o", **more: Any) -> str | None:
    return broken("/v1/chat/completions", {"model": model, "messages": [*messages], **more})


USER = {"role": "user", "content": "Hi"}
CALL = called("a", "find", "{}")
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "Found."}


@pytest.mark.parametrize(
    "messages",
    [
        [USER, CALLS],
        [USER, CALLS, USER],
        [USER, CALLS, RESULT, RESULT],
        [USER, RESULT],
        [{"role": "user", "content": ""}],
        [USER, {"role": "assistant", "content": None}],
        [USER, {**CALLS, "tool_calls": []}],
        [USER, {**CALLS, "tool_calls": [CALL, CALL]}, RESULT],
        [USER, {**CALLS, "tool_calls": [called("a", "no name", "{}")]}, RESULT],
        [USER, {**CALLS, "tool_calls": [called("a", "find", "[")]}, RESULT],
    ],
)
def test_the_openai_service_of_these_tests_is_strict(messages: Any) -> None:
    assert openai(*messages) is not None
    assert openai(USER, CALLS, RESULT) is None
    assert openai(USER, CALLS, RESULT, model="mistral-small") is not None


def anthropic(*messages: Any, tools: Any = ({"name": "find", "input_schema": {"type": "object"}},)) -> Any:
    body = [{"role": role, "content": content} for role, content in messages]
    return broken("/v1/messages", {"messages": body, "tools": tools})


FOUND = {"type": "tool_result", "tool_use_id": "a", "content": "Found."}
USES = use("a", "find", {})


@pytest.mark.parametrize(
    "messages",
    [
        [("assistant", "Hi")],
        [("user", "Hi"), ("user", "Hi")],
        [("user", "Hi"), ("assistant", [USES])],
        [("user", "Hi"), ("assistant", [USES]), ("user", "Hi")],
        [("user", "Hi"), ("assistant", [USES]), ("user", [{"type": "text", "text": "Hi"}, FOUND])],
        [("user", "Hi"), ("assistant", [{"type": "text", "text": ""}, USES]), ("user", [FOUND])],
        [("user", "Hi"), ("assistant", [USES, {"type": "thinking", "signature": "x"}]), ("user", [FOUND])],
        [("user", "Hi"), ("assistant", [{"type": "thinking"}, USES]), ("user", [FOUND])],
        [("user", "Hi"), ("assistant", [USES, USES]), ("user", [FOUND, FOUND])],
    ],
)
def test_the_anthropic_service_of_these_tests_is_strict(messages: Any) -> None:
    good = [("user", "Hi"), ("assistant", [USES]), ("user", [FOUND])]
    assert anthropic(*messages) is not None
    assert anthropic(*good) is None
    assert anthropic(*good, tools=()) is not None
