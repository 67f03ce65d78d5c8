"""For your own tests: scripted replies, crashes after any step, transactions that roll back.

No model is asked and nothing is patched: what a `with` block changes is seen by its own thread (or task)
only, and is gone with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from agentsession import info
from agentsession.drive.perform import allow_transactions
from agentsession.drive.sync import after_effect
from agentsession.errors import DslError, Problem
from agentsession.provider.choose import scripted
from agentsession.provider.protocol import Request
from agentsession.schema import OutputSchema
from agentsession.turn.effects import Effect, Prepare, Reply, View

__all__ = ["Crash", "crash_after", "dsl_errors", "inside_transaction", "script"]


@contextmanager
def script(model: type[Any], replies: Sequence[Any]) -> Iterator[list[View]]:
    """Answer the model's next questions with these replies, in order; gives what the model was shown.

    A reply is a text, a value of the output schema, a `Reply`, or an exception, which then fails the call.
    A text is the reply as it comes, whether it fits the schema or not. An `AssertionError` says at the end of
    the block that replies were left over, or that one was missing.

    ```python
    with testing.script(ChatAgent, [Answer(content="hi"), ProviderError("down")]) as asked:
        session = ChatAgent.start_session("Hello!")
        with pytest.raises(ProviderFailed):
            session.continue_session("Are you there?")
    assert asked[0][-1].content == "Hello!"
    ```
    """
    agent = info.agent_options(model)
    provider = _Script(agent.output, replies)
    token = scripted.set({**(scripted.get() or {}), agent: provider})
    try:
        yield provider.asked
    except BaseException as error:
        if provider.missing:
            raise provider.complaint() from error
        raise
    finally:
        scripted.reset(token)
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
        reply = self.left.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        return replace(reply, model=reply.model or request.client.model)

    def complaint(self) -> AssertionError:
        if self.missing:
            asked = len(self.asked)
            return AssertionError(f"the model was asked {asked} times, {self.count} replies were given")
        return AssertionError(f"{len(self.left)} of {self.count} replies were not asked for")


def _scripted(output: OutputSchema, reply: Any) -> Reply | BaseException:
    if isinstance(reply, (Reply, BaseException)):
        return reply
    return Reply(reply if isinstance(reply, str) else output.encode(reply), finish_reason="stop")


class Crash(BaseException):
    """The process "died": no handler of the library runs, as after `kill -9`."""


@contextmanager
def crash_after(step: int) -> Iterator[list[Effect]]:
    """Die after the turn's effect number `step` (from 1): the block ends there, as if the process had.

    Gives the effects that were performed. Fewer than `step` effects: the block runs to its end.

    ```python
    with testing.crash_after(2):                    # the row is stored and the model has answered …
        ChatAgent.start_session("Hello!")           # … but the reply was never written
    ```
    """
    performed: list[Effect] = []

    def count(effect: Effect) -> None:
        if isinstance(effect, Prepare):
            return
        performed.append(effect)
        if len(performed) == step:
            raise Crash

    token = after_effect.set(count)
    try:
        yield performed
    except Crash:
        pass
    finally:
        after_effect.reset(token)


@contextmanager
def inside_transaction() -> Iterator[None]:
    """Allow every action inside an open transaction, for tests that roll back at their end."""
    token = allow_transactions.set(True)
    try:
        yield
    finally:
        allow_transactions.reset(token)


@contextmanager
def dsl_errors() -> Iterator[list[Problem]]:
    """Expect a `DslError` in the block, and give its problems.

    ```python
    with testing.dsl_errors() as problems:
        @agent(client="nonsense", instruction="Hi")
        class Broken: ...
    assert "client" in problems[0].where
    ```
    """
    problems: list[Problem] = []
    try:
        yield problems
    except DslError as error:
        problems += error.problems
    else:
        raise AssertionError("no DslError was raised")
