"""Replies that a test gives in the model's place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from agentsession import info
from agentsession._json_values import compact
from agentsession._schema import OutputSchema
from agentsession._turn.model_io import Delta, Prompt, Reply, ToolCall
from agentsession.provider.choose import scripted
from agentsession.provider.echo import words_in
from agentsession.provider.protocol import Request
from agentsession.testing.override import override

Replies: TypeAlias = "Sequence[Any] | Callable[[Prompt], Any]"


@contextmanager
def script(model: type[Any], replies: Replies) -> Iterator[list[Prompt]]:
    """Answer the model's next questions with these replies, in order; gives what the model was shown.

    A reply is a text, a value of the output schema, a `Reply`, or an exception, which then fails the call.
    A text is the reply as it comes, whether it fits the schema or not. An `AssertionError` says at the end of
    the block that replies were left over, or that one was missing.

    A `ToolCall`, as `tool_call` makes it, is a reply that asks for a tool. A tuple or list of them asks for
    several at once, and may have texts that are said first: `("Let me look. ", tool_call("find", order=3))`.
    What the tools gave is in what the model is shown next.

    A stream gets a reply word by word, its thinking first. A tuple or list that is no value of the output
    schema is the pieces of a reply: texts and `Delta` values, and at the end perhaps the whole `Reply`, or
    the exception that cuts it off, as in `("Hel", "lo", ProviderCallError("cut"))`. A plain question gets
    them joined, or the exception.

    Where the number of questions is not known, as in `every_crash`, `replies` is a function: it is given what
    the model is shown, and returns (or raises) one reply.

    ```python
    with testing.script(ChatAgent, [Answer(content="hi"), ProviderCallError("down")]) as asked:
        session = ChatAgent.start_session("Hello!")
        with pytest.raises(ProviderFailed):
            session.continue_session("Are you there?")
    assert asked[0][-1].content == "Hello!"

    with testing.script(ChatAgent, lambda prompt: Answer(content=prompt[-1].content.upper())):
        assert session.continue_session("Hello!").last_result.output.content == "HELLO!"
    ```
    """
    agent = info.agent_options(model)
    provider = _Function(agent.output, replies) if callable(replies) else _Script(agent.output, replies)
    with override(scripted, {**(scripted.get() or {}), agent: provider}):
        try:
            yield provider.prompts
        except BaseException as error:
            if provider.missing:
                raise provider.complaint() from error
            raise
    if provider.missing or provider.remaining:
        raise provider.complaint()


def tool_call(name: str, /, **arguments: Any) -> ToolCall:
    """A call of a tool with these arguments, as a reply of `script`."""
    return ToolCall(name, compact(arguments))


@dataclass(frozen=True, slots=True)
class _Scripted:
    """How a reply ends, and the pieces that come before (None: its words)."""

    end: Reply | BaseException
    pieces: tuple[Delta, ...] | None = None

    def deltas(self) -> Iterator[Delta]:
        if self.pieces is not None:
            yield from self.pieces
        elif isinstance(self.end, Reply):
            yield from (Delta(thinking=word) for word in words_in(self.end.thinking))
            yield from map(Delta, words_in(self.end.text))

    def reply(self, request: Request) -> Reply:
        if isinstance(self.end, BaseException):
            raise self.end
        return replace(self.end, model=self.end.model or request.client.model)


class _Script:
    def __init__(self, output: OutputSchema, replies: Sequence[Any]) -> None:
        self.remaining = [_scripted(output, reply) for reply in replies]
        self.count = len(replies)
        self.prompts: list[Prompt] = []
        self.missing = False

    def ask(self, request: Request) -> Reply:
        return self.next_reply(request).reply(request)

    async def aask(self, request: Request) -> Reply:
        return self.ask(request)

    def stream(self, request: Request) -> Iterator[Delta | Reply]:
        scripted_reply = self.next_reply(request)
        yield from scripted_reply.deltas()
        yield scripted_reply.reply(request)

    async def astream(self, request: Request) -> AsyncIterator[Delta | Reply]:
        for piece in self.stream(request):
            yield piece

    def next_reply(self, request: Request) -> _Scripted:
        self.prompts.append(request.prompt)
        if not self.remaining:
            self.missing = True
            raise self.complaint()
        return self.remaining.pop(0)

    def complaint(self) -> AssertionError:
        if self.missing:
            asked = len(self.prompts)
            return AssertionError(f"the model was asked {asked} times, {self.count} replies were given")
        return AssertionError(f"{len(self.remaining)} of {self.count} replies were not asked for")


class _Function(_Script):
    """As many replies as there are questions."""

    def __init__(self, output: OutputSchema, reply_to: Callable[[Prompt], Any]) -> None:
        super().__init__(output, ())
        self.output = output
        self.reply_to = reply_to

    def next_reply(self, request: Request) -> _Scripted:
        self.prompts.append(request.prompt)
        return _scripted(self.output, self.reply_to(request.prompt))


def _scripted(output: OutputSchema, reply: Any) -> _Scripted:
    if isinstance(reply, (Reply, BaseException)):
        return _Scripted(reply)
    if isinstance(reply, ToolCall):
        reply = (reply,)
    is_listed = isinstance(reply, (tuple, list))
    if is_listed and any(isinstance(piece, ToolCall) for piece in reply) and _are_pieces(reply):
        return _in_pieces(reply)
    try:
        text = reply if isinstance(reply, str) else output.encode(reply)
    except ValueError:
        if is_listed and _are_pieces(reply):
            return _in_pieces(reply)
        raise
    return _Scripted(Reply(text, finish_reason="stop"))


def _are_pieces(reply: Sequence[Any]) -> bool:
    *first, last = reply or [None]
    if isinstance(last, (Reply, BaseException)):  # a call comes with its whole reply
        return all(isinstance(piece, (str, Delta)) for piece in first)
    return all(isinstance(piece, (str, Delta, ToolCall)) for piece in first) and isinstance(
        last, (str, Delta, ToolCall)
    )


def _in_pieces(reply: Sequence[Any]) -> _Scripted:
    said = [Delta(piece) if isinstance(piece, str) else piece for piece in reply]
    deltas = tuple(piece for piece in said if isinstance(piece, Delta))
    if isinstance(said[-1], (Reply, BaseException)):
        return _Scripted(said[-1], deltas)
    calls = tuple(piece for piece in said if isinstance(piece, ToolCall))
    text, thinking = ("".join(getattr(piece, name) for piece in deltas) for name in ("text", "thinking"))
    whole = Reply(text, thinking, calls, finish_reason="tool_calls" if calls else "stop")
    return _Scripted(whole, deltas)
