"""What do streams cost? `python -m tests.benchmarks.streams`; PostgreSQL where a server answers.

1. The overhead of one chunk: a reply of many chunks that come without a pause, against reading the same
   provider's generator by hand.
2. 200 streams at once on one event loop, from a model that sends a chunk every 20 ms: how long the loop was
   held up at most, beside the same 200 generators without sessions, and how much memory a stream takes.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentsession.provider import Delta, Reply, Request
from tests.support import servers
from tests.support.models import chat_model

CHUNKS = 2_000
ROUNDS = 5
STREAMS = 200
PIECES = 50
EVERY = 0.02


class Talks:
    """A model that says so many words, one after each pause."""

    def __init__(self, words: int, pause: float = 0.0) -> None:
        self.words = ["word "] * words
        self.pause = pause

    def ask(self, request: Request) -> Reply:
        return Reply("".join(self.words))

    def stream(self, request: Request) -> Iterator[Delta | Reply]:
        yield from map(Delta, self.words)
        yield self.ask(request)

    async def astream(self, request: Any = None) -> AsyncIterator[Delta | Reply]:
        for word in self.words:
            await asyncio.sleep(self.pause)
            yield Delta(word)
        yield Reply("".join(self.words))


def best(run: Callable[[], None]) -> float:
    """Seconds: the median of some rounds."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def overheads(database: Any) -> Iterator[tuple[str, float]]:
    """Microseconds per chunk."""
    model = Talks(CHUNKS)
    Chat = chat_model(database, provider=model)

    async def drained(stream: Any) -> None:
        async for _ in stream:
            pass

    yield "the generator alone", best(lambda: list(model.stream(None)) and None)  # type: ignore[arg-type, func-returns-value]
    yield "stream: no session", best(lambda: list(Chat.stream("Hello")) and None)
    yield "stream_start_session", best(lambda: list(Chat.stream_start_session("Hello")) and None)
    yield "the async generator alone", best(lambda: asyncio.run(drained(model.astream())))
    yield "astream: no session", best(lambda: asyncio.run(drained(Chat.astream("Hello"))))
    yield "astream_start_session", best(lambda: asyncio.run(drained(Chat.astream_start_session("Hello"))))


async def longest_stall(stalls: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        stalls.append(time.perf_counter() - began - 0.001)


async def follow(make: Callable[[], Any]) -> int:
    return sum([1 async for _ in make()])


async def at_once(make: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the longest stall, and in all."""
    stalls: list[float] = []
    ticker = asyncio.create_task(longest_stall(stalls))
    began = time.perf_counter()
    counts = await asyncio.gather(*(follow(make) for _ in range(STREAMS)))
    took = time.perf_counter() - began
    ticker.cancel()
    with suppress(asyncio.CancelledError):
        await ticker
    assert min(counts) >= PIECES, counts
    return max(stalls), took


async def memory(make: Callable[[], Any]) -> float:
    """Bytes per stream at their peak, in a run of its own: to trace them takes time."""
    gc.collect()
    tracemalloc.start()
    await asyncio.gather(*(follow(make) for _ in range(STREAMS)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / STREAMS


def crowd(name: str, make: Callable[[], Any], close: Callable[[], Any] | None = None) -> None:
    async def run() -> tuple[tuple[float, float], float]:
        try:
            return await at_once(make), await memory(make)
        finally:
            if close is not None:
                await close()

    (stall, took), peak = asyncio.run(run())
    print(f"{name:<44} {stall * 1e3:>8.0f} ms {took:>8.2f} s {peak / 1024:>9.0f} kB")


def databases(folder: Path) -> Iterator[tuple[str, Any, Callable[[], Any] | None]]:
    for backend in ("sqlite", "postgres"):
        if backend != "sqlite" and servers.unreachable(backend):
            print(f"(no {backend} server answers)")
            continue
        url = servers.place_of(backend, folder)
        yield f"{backend}, worker threads", servers.open_database(url), None
        database = servers.open_async_database(url, pool_size=10)
        yield f"{backend}, playhouse.pwasyncio", database, database.close_pool
        servers.remove(url)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(f"\n{'overhead of a chunk':<44} {'µs':>8}")
        for name, seconds in overheads(servers.open_database(Path(folder) / "chunks.db")):
            print(f"{name:<44} {seconds / CHUNKS * 1e6:>8.1f}")
        head = f"{STREAMS} streams at once, {PIECES} chunks"
        print(f"\n{head:<44} {'stall':>11} {'in all':>10} {'a stream':>12}")
        model = Talks(PIECES, EVERY)
        crowd("the async generators alone", model.astream)
        for name, database, close in databases(Path(folder)):
            Chat = chat_model(database, create=False, provider=model)
            if close is None:
                database.create_tables([Chat])
                database.close()
            crowd(name, lambda Chat=Chat: Chat.astream_start_session("Hello"), close)  # type: ignore[misc]


if __name__ == "__main__":
    sys.exit(main())
