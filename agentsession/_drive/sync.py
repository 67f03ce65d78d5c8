"""The sync driver: performs one effect after the other on the caller's thread.

The plain form of an action reads it to its end.

A driver is one generator, and everything else that lives between its events is a plain object without a
reference cycle. Python closes the generators of a collected cycle, or of an ending event loop, in any order:
a machine that is closed before its driver could not store the end of its turn.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from queue import Empty, SimpleQueue
from typing import Any, Self

from agentsession import _clock
from agentsession._drive.heartbeat import keep_alive
from agentsession._drive.model_call import ModelCall
from agentsession._drive.performer import Performer, refuse_awaitable, seconds_to_wait
from agentsession._drive.reply_pieces import (
    NoPiece,
    Piece,
    PieceThread,
    StreamLimits,
    checked_piece,
    pieces_of,
)
from agentsession._drive.stepper import MachineStepper, Performing
from agentsession._drive.tool_workers import SyncToolBatch
from agentsession._turn.effects import (
    CallModel,
    ClaimLost,
    Emit,
    Hook,
    Machine,
    Outcome,
    PlainEffect,
    Prepare,
    RunTools,
    Wait,
)
from agentsession._turn.model_io import Delta, Reply
from agentsession.events import Event


def drive(machine: Machine, performer: SyncPerformer) -> Generator[Event | Outcome, None, None]:
    """Run the machine to its end. Yield its events, and last its outcome."""
    stepper = MachineStepper(machine, performer.log)
    for effect in stepper:
        with Performing(stepper, effect) as performing:
            match effect:
                case Emit(event):
                    yield event
                case CallModel():
                    with performer.call_model(effect) as reader:
                        while reader.call.reply is None:
                            yield from performer.pulse.events(reader.next_events())
                        performing.result = reader.call.reply
                case RunTools():
                    with performer.run_tools(effect) as batch:
                        stepper.results_so_far = batch.results_so_far
                        while not batch.results:
                            yield from performer.pulse.events(batch.next_events())
                        performing.result = batch.take_results()
                case _:
                    performing.result = performer.perform(effect)
    yield stepper.outcome


class SyncPerformer(Performer):
    """Performs effects on the caller's thread."""

    batch: SyncToolBatch | None = None

    def perform(self, effect: PlainEffect) -> Any:
        """Perform an effect that makes no events."""
        match effect:
            case Prepare(client):
                return self.prepare(client)
            case Wait():
                duration = seconds_to_wait(effect)
                _clock.sleep(duration)
                return duration
            case Hook():
                return refuse_awaitable(self.call_hook(effect))
        return self.access_store(effect)

    def run_tools(self, effect: RunTools) -> SyncToolBatch:
        """Return a new batch of calls, or the one that runs if the effect has no calls."""
        if effect.calls or self.batch is None:
            self.batch = self.set_current(SyncToolBatch(self, effect))
        return self.batch

    def call_model(self, effect: CallModel) -> ReplyReader:
        call = self.new_model_call(effect)
        return self.set_current(StreamReader(self, call) if self.streams else ReplyReader(self, call))


class ReplyReader:
    """Reads the reply of a model call as one piece. Inside its `with` block the turn's lease is extended."""

    def __init__(self, performer: Performer, call: ModelCall) -> None:
        self.performer = performer
        self.call = call

    def __enter__(self) -> Self:
        partial_reply = self.call.partial_reply
        self.stop_beats = keep_alive(self.performer.session, lambda: partial_reply.text, self.on_claim_lost)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.stop_reading()
        self.stop_beats()
        self.call.raise_failure(error)

    def next_events(self) -> list[Event]:
        """Return the events of the next piece. The partial reply is stored first, if that is due."""
        if self.call.is_store_due():
            with self.call.partial_reply.timing_store():
                self.performer.store_partial_reply(self.call)
        piece = self.next_piece()
        return [] if isinstance(piece, NoPiece) else self.call.accept(piece)

    def next_piece(self) -> Delta | Reply | NoPiece:
        return self.call.provider.ask(self.call.request)

    def on_claim_lost(self, error: ClaimLost) -> None:
        """Do nothing: a reply in one piece cannot be interrupted."""

    def interrupt(self) -> None:
        """Do nothing: a reply in one piece cannot be interrupted."""

    def stop_reading(self) -> None:
        """Do nothing: the reply has been read, or has failed."""


class StreamReader(ReplyReader):
    """Reads the pieces of a reply, which a thread puts into a queue."""

    def __init__(self, performer: Performer, call: ModelCall) -> None:
        super().__init__(performer, call)
        provider, request = call.provider, call.request
        self.pieces: SimpleQueue[Piece] = SimpleQueue()
        self.limits = StreamLimits(provider, request, ("stream",), time.monotonic())
        self.thread = PieceThread(lambda: pieces_of(provider, request), self.pieces.put, self.limits)

    def next_piece(self) -> Delta | Reply | NoPiece:
        remaining = self.limits.remaining(time.monotonic())
        try:
            piece = self.pieces.get(timeout=self.performer.pulse.within(remaining))
        except Empty:
            if self.limits.remaining(now := time.monotonic()) == 0:
                raise self.limits.timeout_error(now) from None
            return NoPiece()
        self.limits.note_piece()
        return checked_piece(piece)

    def on_claim_lost(self, error: ClaimLost) -> None:
        self.pieces.put(error)

    def interrupt(self) -> None:
        self.pieces.put(GeneratorExit())

    def stop_reading(self) -> None:
        self.thread.stop()
