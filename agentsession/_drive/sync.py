"""The sync driver: one effect after the other, on the caller's thread. A plain action drains it."""

from __future__ import annotations

import time
from collections.abc import Generator
from queue import Empty, SimpleQueue
from typing import Any, Self

from agentsession import _clock
from agentsession._drive.heartbeat import keep_alive
from agentsession._drive.model_call import ModelCall
from agentsession._drive.performer import Performer, at_once, pause
from agentsession._drive.reading import Limits, Piece, Reader, Silence, checked_piece, pieces_of
from agentsession._drive.stepper import MachineStepper
from agentsession._drive.tool_threads import SyncBatch
from agentsession._turn.effects import (
    CallModel,
    ClaimLost,
    Effect,
    Emit,
    Hook,
    Machine,
    Outcome,
    Prepare,
    RunTools,
    Wait,
)
from agentsession._turn.model_io import Delta, Reply
from agentsession.events import Event


def drive(machine: Machine, perform: SyncPerforming) -> Generator[Event | Outcome, None, None]:
    """Run the machine to its end: what it tells, and its outcome as the last."""
    steps = MachineStepper(machine, perform.log)
    for effect in steps:
        with steps:
            match effect:
                case Emit(event):
                    yield event
                case CallModel():
                    with perform.asked(effect) as answer:
                        while answer.reply is None:
                            yield from perform.pulse.events(answer.more())
                        steps.value = answer.reply
                case RunTools():
                    with perform.tools(effect) as batch:
                        steps.came = batch.came
                        while not batch.ended:
                            yield from perform.pulse.events(batch.more())
                        steps.value = batch.taken()
                case _:
                    steps.value = perform(effect)
    yield steps.outcome


class SyncPerforming(Performer):
    """Performs effects where it is called."""

    batch: SyncBatch | None = None

    def __call__(self, effect: Effect) -> Any:
        match effect:
            case Prepare(client):
                return self.prepare(client)
            case Wait():
                duration = pause(effect)
                _clock.sleep(duration)
                return duration
            case Hook():
                return at_once(self.call_hook(effect))
        return self.store(effect)

    def tools(self, effect: RunTools) -> SyncBatch:
        """The calls that run, with these."""
        if effect.calls or self.batch is None:
            self.batch = self.waiting_for(SyncBatch(self, effect))
        return self.batch

    def asked(self, effect: CallModel) -> ReplyReader:
        question = self.question(effect)
        return self.waiting_for(StreamReader(self, question) if self.streams else ReplyReader(self, question))


class ReplyReader:
    """The answer to a plain question: the whole reply at once. Its turn is kept alive in its `with` block."""

    def __init__(self, perform: Performer, question: ModelCall) -> None:
        self.perform = perform
        self.question = question

    def __enter__(self) -> Self:
        self.stop = keep_alive(self.perform.session, lambda: self.question.received.text, self.gone)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.leave()
        self.stop()
        self.question.told(error)

    @property
    def reply(self) -> Reply | None:
        return self.question.reply

    def more(self) -> list[Event]:
        """The events of the next piece. What has come before it is stored first, if that is due."""
        if self.question.is_due():
            with self.question.received.being_stored():
                self.perform.keep_partial(self.question)
        piece = self.next_piece()
        return [] if isinstance(piece, Silence) else self.question.take(piece)

    def next_piece(self) -> Delta | Reply | Silence:
        return self.question.provider.ask(self.question.request)

    def gone(self, gone: ClaimLost) -> None:
        """The claim is gone: a plain question is waited for all the same."""

    def interrupt(self) -> None:
        """A plain question cannot be interrupted."""

    def leave(self) -> None:
        """There is nothing more to come."""


class StreamReader(ReplyReader):
    """An answer in pieces, read in a thread of its own."""

    def __init__(self, perform: Performer, question: ModelCall) -> None:
        super().__init__(perform, question)
        provider, request = question.provider, question.request
        self.pieces: SimpleQueue[Piece] = SimpleQueue()
        self.limits = Limits(provider, request, ("stream",), time.monotonic())
        self.reader = Reader(lambda: pieces_of(provider, request), self.pieces.put, self.limits)

    def next_piece(self) -> Delta | Reply | Silence:
        left = self.limits.left(time.monotonic())
        try:
            piece = self.pieces.get(timeout=self.perform.pulse.within(left))
        except Empty:
            if self.limits.left(now := time.monotonic()) == 0:
                raise self.limits.passed(now) from None
            return Silence()
        self.limits.heard()
        return checked_piece(piece)

    def gone(self, gone: ClaimLost) -> None:
        self.pieces.put(gone)

    def interrupt(self) -> None:
        self.pieces.put(GeneratorExit())

    def leave(self) -> None:
        self.reader.leave()
