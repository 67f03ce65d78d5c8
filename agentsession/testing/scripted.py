"""Replies that a test gives in the model's place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

from agentsession import info
from agentsession.provider.choose import scripted
from agentsession.provider.protocol import Request
from agentsession.schema import OutputSchema
from agentsession.testing.local import changed
from agentsession.turn.effects import Reply, View

Replies: TypeAlias = "Sequence[Any] | Callable[[View], Any]"


@contextmanager
def script(model: type[Any], replies: Replies) -> Iterator[list[View]]:
    """Answer the model's next questions with these replies, in order; gives what the model was shown.

    A reply is a text, a value of the output schema, a `Reply`, or an exception, which then fails the call.
    A text is the reply as it comes, whether it fits the schema or not. An `AssertionError` says at the end of
    the block that replies were left over, or that one was missing.

    Where the number of questions is not known, as in `every_crash`, `replies` is a function: it is given what
    the model is shown, and returns (or raises) one reply.

    ```python
    with testing.script(ChatAgent, [Answer(content="hi"), ProviderError("down")]) as asked:
        session = ChatAgent.start_session("Hello!")
        with pytest.raises(ProviderFailed):
            session.continue_session("Are you there?")
    assert asked[0][-1].content == "Hello!"

    with testing.script(ChatAgent, lambda view: Answer(content=view[-1].content.upper())):
        assert session.continue_session("Hello!").last_result.output.content == "HELLO!"
    ```
    """
    agent = info.agent_options(model)
    provider = _Function(agent.output, replies) if callable(replies) else _Script(agent.output, replies)
    with changed(scripted, {**(scripted.get() or {}), agent: provider}):
        try:
            yield provider.asked
        except BaseException as error:
            if provider.missing:
                raise provider.complaint() from error
            raise
    if provider.missing or provider.left:
        raise provider.complaint()


class _Script:
    def __init__(self, output: OutputSchema, replies: Sequence[Any]) -> None:
        self.left = [_scripted(output, reply) for reply in replies]
        self.count = len(replies)
        self.asked: list[View] = []
        self.missing = False

    def ask(self, request: Request) -> Reply:
        self.asked.append(request.view)
        if not self.left:
            self.missing = True
            raise self.complaint()
        return _said(self.left.pop(0), request)

    def complaint(self) -> AssertionError:
        if self.missing:
            asked = len(self.asked)
            return AssertionError(f"the model was asked {asked} times, {self.count} replies were given")
        return AssertionError(f"{len(self.left)} of {self.count} replies were not asked for")


class _Function(_Script):
    """As many replies as there are questions."""

    def __init__(self, output: OutputSchema, reply_to: Callable[[View], Any]) -> None:
        super().__init__(output, ())
        self.output = output
        self.reply_to = reply_to

    def ask(self, request: Request) -> Reply:
        self.asked.append(request.view)
        return _said(_scripted(self.output, self.reply_to(request.view)), request)


def _scripted(output: OutputSchema, reply: Any) -> Reply | BaseException:
    if isinstance(reply, (Reply, BaseException)):
        return reply
    return Reply(reply if isinstance(reply, str) else output.encode(reply), finish_reason="stop")


def _said(reply: Reply | BaseException, request: Request) -> Reply:
    if isinstance(reply, BaseException):
        raise reply
    return replace(reply, model=reply.model or request.client.model)
