"""The async driver: performs the same effects on an event loop.

The plain async form of an action reads it to its end.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import closing, suppress
from functools import partial
from typing import Any, Self, TypeVar

from agentsession import _clock
from agentsession._drive.heartbeat import LoopBeats
from agentsession._drive.model_call import ModelCall
from agentsession._drive.performer import Performer, seconds_to_wait
from agentsession._drive.reply_pieces import (
    NoPiece,
    Piece,
    PieceThread,
    StreamLimits,
    checked_piece,
    pieces_of,
    reply_in_one_piece,
)
from agentsession._drive.stepper import MachineStepper, Performing, shielded
from agentsession._drive.tool_workers import AsyncToolBatch
from agentsession._store.declared import run_on_store
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
from agentsession._workers import PREPARING
from agentsession.errors import ProviderCallError
from agentsession.events import Event, PartialOutput

T = TypeVar("T")

MAX_EVENTS_AT_ONCE = 100
"""Events that are made before their reader takes them."""


async def adrive(machine: Machine, performer: AsyncPerformer) -> AsyncGenerator[Event | Outcome, None]:
    """Run the machine to its end. Yield its events, and last its outcome."""
    stepper = MachineStepper(machine, performer.log)
    with closing(performer):
        for effect in stepper:
            with Performing(stepper, effect) as performing:
                match effect:
                    case Emit(event):
                        yield event
                    case CallModel():
                        async with performer.call_model(effect) as reader:
                            while reader.call.reply is None:
                                for event in performer.pulse.events(await reader.next_events()):
                                    yield event
                            performing.result = reader.call.reply
                    case RunTools():
                        async with performer.run_tools(effect) as batch:
                            stepper.results_so_far = batch.results_so_far
                            while not batch.results:
                                for event in performer.pulse.events(await batch.next_events()):
                                    yield event
                            performing.result = batch.take_results()
                    case _:
                        performing.result = await performer.perform(effect, stepper.leave)
    yield stepper.outcome


class AsyncPerformer(Performer):
    """Performs effects without blocking the event loop."""

    batch: AsyncToolBatch | None = None

    def close(self) -> None:
        """Cancel the tools that still run. One in a thread cannot be stopped."""
        if self.batch is not None:
            self.batch.cancel(self.batch.tasks)

    async def perform(self, effect: PlainEffect, on_cancel: Callable[[BaseException], object]) -> Any:
        """Perform an effect that makes no events.

        `on_cancel` is called if the task is cancelled while the store is accessed, which goes on to its end.
        """
        match effect:
            case Prepare(client):
                return await PREPARING.run(partial(self.prepare, client))
            case Wait():
                duration = seconds_to_wait(effect)
                await _clock.asleep(duration)
                return duration
            case Hook():
                value = self.call_hook(effect)
                return await value if inspect.isawaitable(value) else value
        return await self.run_to_its_end(partial(self.access_store, effect), on_cancel)

    async def run_to_its_end(
        self, work: Callable[[], T], on_cancel: Callable[[BaseException], object] | None = None
    ) -> T:
        """Run the work on the store, and finish it even if the caller's task is cancelled.

        Inside the caller's transaction a cancellation breaks it off: the transaction belongs to the caller's
        task, so that no other task can do the work.
        """
        if self.session is None:
            return work()
        running = run_on_store(self.session, work)
        return await (running if self.session.in_caller_transaction else shielded(running, on_cancel))

    def run_tools(self, effect: RunTools) -> AsyncToolBatch:
        """Return a new batch of calls, or the one that runs if the effect has no calls."""
        if effect.calls or self.batch is None:
            self.batch = self.set_current(AsyncToolBatch(self, effect))
        return self.batch

    def call_model(self, effect: CallModel) -> AsyncReplyReader:
        return self.set_current(AsyncReplyReader(self, self.new_model_call(effect)))


class AsyncReplyReader:
    """Reads the pieces of a reply, or the reply in one piece. Inside its block the turn's lease is extended.

    A task puts the pieces into a queue, or a thread does if the provider has no coroutines.
    """

    def __init__(self, performer: AsyncPerformer, call: ModelCall) -> None:
        self.performer = performer
        self.call = call
        provider, request, streams = call.provider, call.request, call.streams
        self.pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self.last: list[Piece] = []
        """The piece that ends the reply: the `Reply`, or an error."""
        self.limits = StreamLimits(
            provider, request, ("stream", "astream") if streams else (), time.monotonic()
        )
        self.task: asyncio.Task[None] | None = None
        self.thread: PieceThread | None = None
        if hasattr(provider, "astream" if streams else "aask"):
            self.task = asyncio.create_task(self._read())
        else:
            self.loop, read = asyncio.get_running_loop(), pieces_of if streams else reply_in_one_piece
            self.thread = PieceThread(lambda: read(provider, request), self._put_from_thread, self.limits)

    async def __aenter__(self) -> Self:
        partial_reply = self.call.partial_reply
        self.beats = LoopBeats(self.performer.session, lambda: partial_reply.text, self.on_claim_lost)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Stop reading, which aborts the provider's request."""
        if self.thread is not None:
            self.thread.stop()
        if self.task is not None:
            self.task.cancel()
        try:
            await shielded(self._stop())
        except asyncio.CancelledError as cancelled:
            error = cancelled
        self.call.raise_failure(error)

    async def _stop(self) -> None:
        if self.task is not None:
            await asyncio.wait([self.task])
        await self.beats.stop()

    async def next_events(self) -> list[Event]:
        """Return the events of the next piece and of pieces that are already in the queue.

        The partial reply is stored first, if that is due. A `PartialOutput` ends the list, because it may be
        as large as the reply.
        """
        if self.call.is_store_due():
            with self.call.partial_reply.timing_store():
                store = partial(self.performer.store_partial_reply, self.call)
                await self.performer.run_to_its_end(store)
        first = await self.next_piece()
        if isinstance(first, NoPiece):
            return []
        events = self.call.accept(first)
        while not self.pieces.empty() and not self.last and len(events) < MAX_EVENTS_AT_ONCE:
            piece = self.pieces.get_nowait()
            if not isinstance(piece, Delta):
                self.last.append(piece)
            else:
                events += self.call.accept(checked_piece(piece))
                if events and isinstance(events[-1], PartialOutput):
                    break
        return events

    async def next_piece(self) -> Delta | Reply | NoPiece:
        if self.last:
            return checked_piece(self.last[0])
        remaining = self.limits.remaining(time.monotonic())
        try:
            async with asyncio.timeout(self.performer.pulse.within(remaining)):
                piece = await self.pieces.get()
        except TimeoutError:
            if self.limits.remaining(now := time.monotonic()) == 0:
                raise self.limits.timeout_error(now) from None
            return NoPiece()
        self.limits.note_piece()
        return checked_piece(piece)

    async def _read(self) -> None:
        provider: Any = self.call.provider
        request = self.call.request
        try:
            if not self.call.streams:
                self._put(await provider.aask(request))
                return
            async for piece in provider.astream(request):
                self.limits.check(time.monotonic())
                self._put(piece)
            self._put(ProviderCallError("the provider's stream ended without a Reply"))
        except BaseException as error:
            self._put(error)

    def _put(self, piece: Piece) -> None:
        self.pieces.put_nowait(piece)

    def _put_from_thread(self, piece: Piece) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            self.loop.call_soon_threadsafe(self._put, piece)

    def interrupt(self) -> None:
        self._put(GeneratorExit())

    def on_claim_lost(self, error: ClaimLost) -> None:
        """Interrupt a stream. A reply in one piece is read to its end, as in the sync driver."""
        if self.call.streams:
            self._put(error)
