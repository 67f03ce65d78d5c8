"""A forked child shares no connection, no lock and no half-done import with its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from tests.support.question_server import answer_to, question_server

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

START = """
import asyncio, os, signal, sys, threading, time
from collections import Counter
from agentsession import agent, warm_up
from tests.support.question_server import answer_to

url = sys.argv[1]

def model_for(client, base):
    client = (client, {"api_base": base, "api_key": "key-123456"})
    @agent(client=client, instruction="x", retries=0, timeout=20)
    class Asking: ...
    return Asking

MODELS = (model_for("openai:gpt-4o", url + "/v1"), model_for("anthropic:claude-sonnet-4-5", url))

def streamed(model, question):
    with model.stream(question) as stream:
        for _ in stream:
            pass
    return stream.result.text

async def astreamed(model, question):
    async with model.astream(question) as stream:
        async for _ in stream:
            pass
    return stream.result.text

WAYS = (
    lambda model, question: model.call(question).text,
    streamed,
    lambda model, question: asyncio.run(model.acall(question)).text,
    lambda model, question: asyncio.run(astreamed(model, question)),
)

def ask(way, model, question):
    try:
        got = WAYS[way](model, question)
    except Exception as error:
        return type(error).__name__
    return "right" if got == answer_to(question) else "wrong"

def in_children(count, work):
    results = []
    for number in range(count):
        reading, writing = os.pipe()
        if os.fork() == 0:
            signal.alarm(100)
            os.write(writing, " ".join(work(number)).encode())
            os._exit(0)
        os.close(writing)
        results.append(reading)
    outcomes = Counter()
    for reading in results:
        with open(reading) as pipe:
            outcomes.update(pipe.read().split())
    return dict(outcomes)
"""

FORK_DURING_AN_IMPORT = """
def import_litellm():
    IMPORT

importing = threading.Thread(target=import_litellm)
importing.start()
while "litellm.main" not in sys.modules and importing.is_alive():
    time.sleep(0.001)
print(in_children(1, lambda number: [ask(0, MODELS[0], "q")]))
importing.join()
"""

QUESTIONS = """
def questions(number):
    return [ask(nth % 4, MODELS[nth // 4 % 2], f"question {nth} of child {number}") for nth in range(16)]

for way in range(4):
    for model in MODELS:
        assert ask(way, model, "question of the parent") == "right"
print(in_children(4, questions))
"""

HELD_LOCKS = """
from concurrent.futures import ThreadPoolExecutor
import litellm

modules = [module for name, module in sys.modules.items() if name.startswith("litellm")]
found = {id(value): value for module in modules for value in vars(module).values()}.values()
kinds = (type(threading.Lock()), type(threading.RLock()))
locks = [value for value in found if isinstance(value, kinds)]
locks += [value._shutdown_lock for value in found if isinstance(value, ThreadPoolExecutor)]
locks.append(litellm.in_memory_llm_clients_cache.evicted_client_closer._queue_lock)
ready, done = threading.Event(), threading.Event()

def hold():
    for lock in locks:
        lock.acquire()
    ready.set()
    done.wait()
    for lock in locks:
        lock.release()

holder = threading.Thread(target=hold)
holder.start()
ready.wait()
pairs = [(way, model) for way in range(4) for model in MODELS]
print(len(locks) > 2, in_children(1, lambda number: [ask(way, model, "q") for way, model in pairs]))
done.set()
holder.join()
"""

NO_IMPORT = """
print(in_children(1, lambda number: [str("litellm" in sys.modules)]), "litellm" in sys.modules)
"""

EXIT = """
sys.stdout.flush()
os._exit(0)  # litellm's own clean-up at exit takes a second
"""


def printed_by(program: str) -> list[str]:
    """Run a program in a new process and return the lines that it prints."""
    with question_server() as url:
        ran = subprocess.run(
            [sys.executable, "-c", START + program + EXIT, url],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert ran.returncode == 0, ran.stderr
    assert "Exception" not in ran.stderr, ran.stderr
    return ran.stdout.splitlines()


def test_children_receive_the_replies_to_their_own_questions() -> None:
    """One process imports litellm, which takes seconds, for three cases.

    It forks while another thread imports litellm, after its clients have open connections, and while another
    thread holds the locks of litellm."""
    during_the_import, after_questions, locked = printed_by(
        FORK_DURING_AN_IMPORT.replace("IMPORT", "warm_up(MODELS[0])", 1) + QUESTIONS + HELD_LOCKS
    )
    assert during_the_import == "{'right': 1}"
    assert after_questions == "{'right': 64}"
    assert locked == "True {'right': 8}"


def test_a_child_forked_while_the_application_imports_litellm_can_ask() -> None:
    assert printed_by(FORK_DURING_AN_IMPORT.replace("IMPORT", "import litellm", 1)) == ["{'right': 1}"]


def test_a_fork_does_not_import_litellm() -> None:
    assert printed_by(NO_IMPORT) == ["{'False': 1} False"]


@contextmanager
def preloaded(url: str, database: Path) -> Iterator[int]:
    """Yield the port of a gunicorn whose master asked the model before it forked two workers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = ["gunicorn", "--preload", "--workers", "2", "--bind", f"fd://{listening.fileno()}"]
        master = subprocess.Popen(
            [sys.executable, "-m", *command, "--log-level", "critical", "tests.support.preloaded_app:app"],
            env=ENVIRONMENT | {"MODEL_URL": url, "DATABASE": str(database)},
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )
        try:
            yield listening.getsockname()[1]
        finally:
            os.killpg(master.pid, signal.SIGKILL)  # a process that has imported litellm takes seconds to exit
            master.wait(30)


def test_workers_of_a_preloaded_gunicorn_store_each_reply_with_its_question(tmp_path: Path) -> None:
    def check(question: int) -> str:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", f"/question{question}")
        text = connection.getresponse().read().decode()
        connection.close()
        return "right" if text == answer_to(f"question{question}") else text

    with question_server() as url, preloaded(url, tmp_path / "chats.db") as port:
        with ThreadPoolExecutor(6) as users:
            assert Counter(users.map(check, range(24))) == {"right": 24}
