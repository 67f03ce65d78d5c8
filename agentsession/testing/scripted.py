"""Replies of a test in place of a model."""

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
from agentsession.testing.blocks import override

Replies: TypeAlias = "Sequence[Any] | Callable[[Prompt], Any]"


@contextmanager
def script(model: type[Any], replies: Replies) -> Iterator[list[Prompt]]:
    """Replace the model in the block by a list of replies, or by a function.

    Args:
        model: The class with `@agent`.
        replies: One reply for each model call, in order; or a function that takes the prompt of a call and
            returns, or raises, one reply, for an unknown number of calls.

            A reply is a text, a value of the output schema, a `Reply`, or an exception, which fails the call.
            A text is sent as it is, whether it fits the schema or not. A `ToolCall`, as `tool_call` makes it,
            calls a tool. A tuple or list of them calls several, and may begin with texts:
            `("Let me look. ", tool_call("find", order=3))`.

            In a stream a reply arrives word by word, its thinking first. A tuple or list that is not a value
            of the output schema is the pieces of a reply: texts and `Delta` values, and at the end perhaps
            the whole `Reply`, or an exception, as in `("Hel", "lo", ProviderCallError("cut"))`. A plain call
            gets the pieces joined, or the exception.

    Yields:
        The prompts that the model was sent, one for each call so far.

    Raises:
        AssertionError: At the end of the block a reply is left over, or one was missing.

    Example:
        ```python
        with testing.script(ChatAgent, [Answer(content="hi"), ProviderCallError("down")]) as prompts:
            session = ChatAgent.start_session("Hello!")
            with pytest.raises(ProviderFailed):
                session.continue_session("Are you there?")
        assert prompts[0][-1].content == "Hello!"

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
    """Return a call of a tool, as a reply for `script`.

    Args:
        name: The name of the tool.
        **arguments: The arguments of the call.

    Example:
        ```python
        call = testing.tool_call("find_order", number=7)
        assert call.arguments == '{"number":7}'
        ```
    """
    return ToolCall(name, compact(arguments))


@dataclass(frozen=True, slots=True)
class _Scripted:
    """The end of a reply, and the pieces before it (None: its words)."""

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
            calls = len(self.prompts)
            return AssertionError(
                f"the model was called {calls} times, and the script has {self.count} replies"
            )
        return AssertionError(f"{len(self.remaining)} of {self.count} replies were not used")


class _Function(_Script):
    """One reply for each model call."""

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
    pieces = [Delta(piece) if isinstance(piece, str) else piece for piece in reply]
    deltas = tuple(piece for piece in pieces if isinstance(piece, Delta))
    if isinstance(pieces[-1], (Reply, BaseException)):
        return _Scripted(pieces[-1], deltas)
    calls = tuple(piece for piece in pieces if isinstance(piece, ToolCall))
    text, thinking = ("".join(getattr(piece, name) for piece in deltas) for name in ("text", "thinking"))
    whole = Reply(text, thinking, calls, finish_reason="tool_calls" if calls else "stop")
    return _Scripted(whole, deltas)
