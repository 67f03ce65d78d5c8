"""The async driver: the same steps on an event loop. A plain async action drains it."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Self, TypeVar

from agentsession import _clock
from agentsession._drive.async_bridge import run_on_store, shielded
from agentsession._drive.heartbeat import LoopBeats
from agentsession._drive.model_call import ModelCall
from agentsession._drive.performer import Performer, pause
from agentsession._drive.reading import Limits, Piece, Reader, Silence, checked_piece, pieces_of, whole
from agentsession._drive.stepper import MachineStepper
from agentsession._drive.tool_tasks import AsyncBatch
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
from agentsession._workers import PREPARING
from agentsession.errors import ProviderCallError
from agentsession.events import Event, PartialOutput

T = TypeVar("T")

AT_ONCE = 100
"""Events that are made before their reader takes them."""


async def adrive(machine: Machine, perform: AsyncPerformer) -> AsyncGenerator[Event | Outcome, None]:
    """Run the machine to its end: what it tells, and its outcome as the last."""
    steps = MachineStepper(machine, perform.log)
    with perform:
        for effect in steps:
            with steps:
                match effect:
                    case Emit(event):
                        yield event
                    case CallModel():
                        async with perform.asked(effect) as answer:
                            while answer.reply is None:
                                for event in perform.pulse.events(await answer.more()):
                                    yield event
                            steps.value = answer.reply
                    case RunTools():
                        async with perform.tools(effect) as batch:
                            steps.came = batch.came
                            while not batch.ended:
                                for event in perform.pulse.events(await batch.more()):
                                    yield event
                            steps.value = batch.taken()
                    case Prepare() | Wait() | Hook():
                        steps.value = await perform.aside(effect)
                    case _:
                        steps.value = await perform(effect, steps)
    yield steps.outcome


class AsyncPerformer(Performer):
    """Performs effects without holding up the event loop."""

    batch: AsyncBatch | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """No tool of a turn that has ended runs on, where it can be stopped."""
        if self.batch is not None:
            self.batch.cancel(self.batch.tasks)

    async def __call__(self, effect: Effect, steps: MachineStepper) -> Any:
        """Read or write. Who is cancelled meanwhile leaves when it is done."""
        return await self.reach(partial(self.store, effect), steps.leave)

    async def reach(
        self, work: Callable[[], T], cancelled: Callable[[BaseException], object] | None = None
    ) -> T:
        """Do the work on the store to its end. The caller's transaction is one of their task."""
        if self.session is None:
            return work()
        crossing = run_on_store(self.session, work)
        return await (crossing if self.session.inside else shielded(crossing, cancelled))

    async def aside(self, effect: Prepare | Wait | Hook) -> Any:
        if isinstance(effect, Prepare):
            return await PREPARING.run(partial(self.prepare, effect.client))
        if isinstance(effect, Hook):
            value = self.call_hook(effect)
            return await value if inspect.isawaitable(value) else value
        duration = pause(effect)
        await _clock.asleep(duration)
        return duration

    def tools(self, effect: RunTools) -> AsyncBatch:
        """The calls that run, with these."""
        if effect.calls or self.batch is None:
            self.batch = self.waiting_for(AsyncBatch(self, effect))
        return self.batch

    def asked(self, effect: CallModel) -> AsyncReplyReader:
        return self.waiting_for(AsyncReplyReader(self, self.question(effect)))


class AsyncReplyReader:
    """An answer in pieces, or whole, read in a task of its own, or in a thread from a provider without
    coroutines. Its turn is kept alive in its `async with` block."""

    def __init__(self, perform: AsyncPerformer, question: ModelCall) -> None:
        self.perform = perform
        self.question = question
        provider, request, streams = question.provider, question.request, question.streams
        self.pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self.last: list[Piece] = []
        self.limits = Limits(provider, request, ("stream", "astream") if streams else (), time.monotonic())
        self.task: asyncio.Task[None] | None = None
        self.reader: Reader | None = None
        if hasattr(provider, "astream" if streams else "aask"):
            self.task = asyncio.create_task(self._read())
        else:
            self.loop, ask = asyncio.get_running_loop(), pieces_of if streams else whole
            self.reader = Reader(lambda: ask(provider, request), self._tell_from_its_thread, self.limits)

    async def __aenter__(self) -> Self:
        session, received = self.perform.session, self.question.received
        self.beats = LoopBeats(session, lambda: received.text, self.gone)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Stop reading, which tells the provider to stop."""
        if self.reader is not None:
            self.reader.leave()
        if self.task is not None:
            self.task.cancel()
        try:
            await shielded(self._stop())
        except asyncio.CancelledError as cancelled:
            error = cancelled
        self.question.told(error)

    async def _stop(self) -> None:
        if self.task is not None:
            await asyncio.wait([self.task])
        await self.beats.stop()

    @property
    def reply(self) -> Reply | None:
        return self.question.reply

    async def more(self) -> list[Event]:
        """Return the events of the next piece and of pieces that are already in the queue.

        The partial reply is stored first, if that is due. A `PartialOutput` ends the batch, because it may be
        as large as the reply.
        """
        if self.question.is_due():
            with self.question.received.being_stored():
                await self.perform.reach(partial(self.perform.keep_partial, self.question))
        first = await self.next_piece()
        if isinstance(first, Silence):
            return []
        events = self.question.take(first)
        while not self.pieces.empty() and not self.last and len(events) < AT_ONCE:
            piece = self.pieces.get_nowait()
            if not isinstance(piece, Delta):
                self.last.append(piece)
            else:
                events += self.question.take(checked_piece(piece))
                if events and isinstance(events[-1], PartialOutput):
                    break
        return events

    async def next_piece(self) -> Delta | Reply | Silence:
        if self.last:
            return checked_piece(self.last[0])
        left = self.limits.left(time.monotonic())
        try:
            async with asyncio.timeout(self.perform.pulse.within(left)):
                piece = await self.pieces.get()
        except TimeoutError:
            if self.limits.left(now := time.monotonic()) == 0:
                raise self.limits.passed(now) from None
            return Silence()
        self.limits.heard()
        return checked_piece(piece)

    async def _read(self) -> None:
        provider: Any = self.question.provider
        request = self.question.request
        try:
            if not self.question.streams:
                self.tell(await provider.aask(request))
                return
            async for piece in provider.astream(request):
                self.limits.check(time.monotonic())
                self.tell(piece)
            self.tell(ProviderCallError("the provider's stream ended without a Reply"))
        except BaseException as error:
            self.tell(error)

    def tell(self, piece: Piece) -> None:
        self.pieces.put_nowait(piece)

    def _tell_from_its_thread(self, piece: Piece) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self.loop.call_soon_threadsafe(self.tell, piece)

    def interrupt(self) -> None:
        self.tell(GeneratorExit())

    def gone(self, gone: ClaimLost) -> None:
        """The claim is gone: a plain question is waited for all the same."""
        if self.question.streams:
            self.tell(gone)
