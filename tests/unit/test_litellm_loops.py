"""litellm's asynchronous clients live and end with the event loop that they belong to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache

START = """
import asyncio, gc, sys, threading
from tests.support.litellm_calls import CLAUDE, GPT, LITELLM, gathered, request_to
from tests.support.llm_server import LlmServer, Says, Streams

async def whole(request):
    return (await LITELLM.aask(request)).text

async def both(request):
    return [await whole(request), (await gathered(request))[-1].text]

async def left(request):
    pieces = LITELLM.astream(request)
    await anext(pieces)
    return pieces
"""

LOOPS = """
with LlmServer(*[Says("Hello!")] * 12) as server:
    for client in (GPT, CLAUDE):
        for ask in (whole, both, whole, both):
            print(asyncio.run(ask(request_to(server, client))))
"""

SAME_ID = """
ids = []

async def seen(request):
    ids.append(id(asyncio.get_running_loop()))
    return await whole(request)

gc.collect()
gc.freeze()  # a collection of litellm's modules takes 0.2 s

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

LEFT = """
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

ANOTHER = """
text = " ".join(map(str, range(40)))
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
    with LlmServer(Streams(text, pieces=40, pause=0.04)) as one, LlmServer(*[Says("Hello!")] * 4) as other:
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

UNPREPARED = """
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

STRICT = """
import os, warnings
os.environ["PYTHONASYNCIODEBUG"] = "1"
warnings.simplefilter("default")
warnings.simplefilter("error", ResourceWarning)
warnings.simplefilter("error", RuntimeWarning)
"""

PROGRAMS = [UNPREPARED, SAME_ID, ANOTHER, STRICT, LOOPS, LEFT]

RUN = """
import gc, json, sys, traceback

kept = []
for program in json.load(sys.stdin):
    kept.append({"__name__": "__main__"})
    try:
        exec(program, kept[-1])
    except BaseException:
        traceback.print_exc()
    gc.collect()
    for stream in (sys.stdout, sys.stderr):
        print("-- next", file=stream, flush=True)
"""


@cache
def outputs() -> tuple[list[str], list[str]]:
    """What each program prints and says on stderr, and at last what they say when all end: they share a
    process, since it takes litellm seconds to be imported."""
    ran = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps([START + program for program in PROGRAMS]),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    printed, said = ran.stdout.split("-- next\n"), ran.stderr.split("-- next\n")
    assert len(printed) == len(said) == len(PROGRAMS) + 1
    return printed, said


def python(program: str) -> tuple[str, str]:
    """What the program prints, and what it says on stderr of things that were not closed or not awaited."""
    printed, said = outputs()
    number = PROGRAMS.index(program)
    signs = ("unclosed", "never", "pending", "Traceback", "LiteLLM", "Exception")
    slow = ("Executing", "asyncio:Executing")  # when debugging, of a step that took long
    lines = [line for line in (said[number] + said[-1]).splitlines() if not line.startswith(slow)]
    return printed[number], "\n".join(line for line in lines if any(sign in line for sign in signs))


def test_nothing_is_left_open_when_a_loop_ends_and_the_next_loop_works() -> None:
    assert python(LOOPS) == ("Hello!\n['Hello!', 'Hello!']\n" * 4, "")


def test_a_loop_with_the_id_of_one_that_ended_finds_no_closed_client() -> None:
    assert python(SAME_ID)[0] == "answered\n"  # most of the ids were there before, which nobody promises


def test_nothing_is_left_open_of_streams_that_failed_or_were_left() -> None:
    assert python(LEFT) == ("", "")


def test_a_loop_that_ends_leaves_the_streams_of_another_alone() -> None:
    assert python(ANOTHER)[0] == "[True, True]\n"


def test_an_asynchronous_question_works_without_preparation_and_leaves_the_loop_free() -> None:
    assert python(UNPREPARED)[0] == "False Hello! True\n"
