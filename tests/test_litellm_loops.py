"""litellm's asynchronous clients live and end with the event loop that they belong to."""

from __future__ import annotations

import os
import subprocess
import sys

START = """
import asyncio, gc, sys, threading
from tests.asked import CLAUDE, GPT, LITELLM, gathered, request_to
from tests.llm_server import LlmServer, Says, Streams

async def whole(request):
    return (await LITELLM.aask(request)).text

async def both(request):
    return [await whole(request), (await gathered(request))[-1].text]

async def left(request):
    pieces = LITELLM.astream(request)
    await anext(pieces)
    return pieces
"""


def python(program: str, *options: str) -> tuple[str, str]:
    """What the program prints, and what it says on stderr of things that were not closed or not awaited."""
    ran = subprocess.run(
        [sys.executable, *options, "-c", START + program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    signs = ("unclosed", "never", "pending", "Traceback", "LiteLLM", "Exception")
    slow = ("Executing", "asyncio:Executing")  # with -X dev, of a step that took long
    lines = [line for line in ran.stderr.splitlines() if not line.startswith(slow)]
    return ran.stdout, "\n".join(line for line in lines if any(sign in line for sign in signs))


STRICT = ("-X", "dev", "-W", "error::ResourceWarning", "-W", "error::RuntimeWarning")


def test_nothing_is_left_open_when_a_loop_ends_and_the_next_loop_works() -> None:
    program = """
with LlmServer(*[Says("Hello!")] * 12) as server:
    for client in (GPT, CLAUDE):
        for ask in (whole, both, whole, both):
            print(asyncio.run(ask(request_to(server, client))))
"""
    assert python(program, *STRICT) == ("Hello!\n['Hello!', 'Hello!']\n" * 4, "")


def test_a_loop_with_the_id_of_one_that_ended_finds_no_closed_client() -> None:
    program = """
ids = []

async def seen(request):
    ids.append(id(asyncio.get_running_loop()))
    return await whole(request)

def loop_with_an_id_that_was_there():
    gc.collect()
    loops = [asyncio.new_event_loop()]
    while id(loops[-1]) not in ids and len(loops) < 50:
        loops.append(asyncio.new_event_loop())
    for loop in loops[:-1]:
        loop.close()
    return loops[-1]

with LlmServer(*[Says("Hello!")] * 10) as server:
    for client in (GPT, CLAUDE) * 5:
        with asyncio.Runner(loop_factory=loop_with_an_id_that_was_there) as runner:
            assert runner.run(seen(request_to(server, client))) == "Hello!"
print("answered")
"""
    assert python(program)[0] == "answered\n"  # most of the ids were there before, which nobody promises


def test_nothing_is_left_open_of_streams_that_failed_or_were_left() -> None:
    program = """
endless = Streams(" ".join(map(str, range(3000))), pieces=3000, pause=0.02)

async def kept(request):
    global pieces
    pieces = await left(request)

async def closed(request):
    await (await left(request)).aclose()

async def cancelled(request):
    task = asyncio.create_task(gathered(request))
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

async def failed(request):
    await asyncio.gather(gathered(request), return_exceptions=True)

for client in (GPT, CLAUDE):
    for leave in (kept, closed, cancelled, failed):
        with LlmServer(Streams("a b", ends="cut") if leave is failed else endless) as server:
            asyncio.run(leave(request_to(server, client)))
"""
    assert python(program, *STRICT) == ("", "")


def test_a_loop_that_ends_leaves_the_streams_of_another_alone() -> None:
    program = """
text = " ".join(map(str, range(100)))
begun, ended = threading.Event(), threading.Event()
said = []

async def slow(request):
    async for piece in LITELLM.astream(request):
        begun.set()
        await asyncio.to_thread(ended.wait, 60)
    said.append(piece.text == text)

def together(client):
    begun.clear()
    ended.clear()
    with LlmServer(Streams(text, pieces=100, pause=0.05)) as one, LlmServer(*[Says("Hello!")] * 4) as other:
        thread = threading.Thread(target=lambda: asyncio.run(slow(request_to(one, client))))
        thread.start()
        begun.wait(60)
        for _ in range(2):
            asyncio.run(both(request_to(other, client)))
        ended.set()
        thread.join()

LITELLM.prepare()
for client in (GPT, CLAUDE):
    together(client)
print(said)
"""
    assert python(program)[0] == "[True, True]\n"


def test_an_asynchronous_question_works_without_preparation_and_leaves_the_loop_free() -> None:
    program = """
ticks = []

async def tick():
    while True:
        ticks.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.05)

async def main(request):
    ticking = asyncio.create_task(tick())
    reply = await LITELLM.aask(request)
    ticking.cancel()
    return reply.text

with LlmServer(Says("Hello!")) as server:
    print("litellm" in sys.modules, asyncio.run(main(request_to(server))), len(ticks) > 10)
"""
    assert python(program)[0] == "False Hello! True\n"
