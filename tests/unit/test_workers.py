"""The threads of our own: bounded, with the caller's context, new in a forked child, no hindrance at exit."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from contextvars import ContextVar

import pytest

from agentsession._workers import BEATS, PREPARING, STATEMENTS, Workers

which: ContextVar[str] = ContextVar("which", default="none")


def test_no_more_threads_than_allowed_do_all_the_work() -> None:
    workers, lock = Workers("test-bounded", 3), threading.Lock()
    running, most, all_run = set[str](), list[int](), threading.Barrier(3)

    def work(number: int) -> int:
        with lock:
            running.add(str(threading.get_ident()))
            most.append(len(running))
        if number < 3:
            all_run.wait(20)
        with lock:
            running.discard(str(threading.get_ident()))
        return number

    futures = [workers.submit(lambda number=number: work(number)) for number in range(200)]  # type: ignore[misc]
    assert [future.result(20) for future in futures] == [*range(200)]
    assert max(most) == 3
    assert [each.name for each in threading.enumerate()].count("test-bounded") == 3
    assert all(each.daemon for each in threading.enumerate() if each.name == "test-bounded")


def test_work_sees_the_context_of_its_caller_and_raises_to_it() -> None:
    workers = Workers("test-context", 1)

    async def called(value: str) -> str:
        which.set(value)
        return await workers.run(which.get)

    async def both() -> list[str]:
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0)
        return await asyncio.gather(called("one"), called("two"))

    assert asyncio.run(both()) == ["one", "two"]
    assert which.get() == "none"


def test_work_that_no_thread_can_do_is_refused_and_never_done(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, done = Workers("test-refused", 2), list[str]()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            workers.submit(lambda: done.append("refused"))
    workers.submit(lambda: done.append("first")).result(20)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        futures = [workers.submit(lambda: done.append("more")) for _ in range(10)]
        for future in futures:
            future.result(20)
    assert done == ["first"] + ["more"] * 10


FORKS = """
import os, sys, threading
from agentsession._workers import STATEMENTS

blocked, at_work = threading.Event(), threading.Barrier(STATEMENTS.most + 1)
def work():
    at_work.wait()
    blocked.wait()
for _ in range(STATEMENTS.most):
    STATEMENTS.submit(work)
at_work.wait()
STATEMENTS.submit(lambda: os.write(1, b"work of the parent\\n"))
pid = os.fork()
if pid == 0:
    print("child", STATEMENTS.submit(lambda: 42).result(20), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
blocked.set()
os.write(1, b"parent %d\\n" % STATEMENTS.submit(lambda: 43).result(20))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_threads_of_its_own_and_none_of_its_parents_work() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == ["child 42", "parent 43", "work of the parent"]


NEVER_ENDS = """
import threading
from agentsession._workers import BEATS, PREPARING, STATEMENTS

at_work = threading.Barrier(4)
def work():
    at_work.wait()
    threading.Event().wait()
for workers in (BEATS, PREPARING, STATEMENTS):
    workers.submit(work)
at_work.wait()
"""


def test_work_that_never_ends_does_not_keep_the_process_from_ending() -> None:
    done = subprocess.run([sys.executable, "-c", NEVER_ENDS], stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_each_kind_of_work_has_threads_of_its_own() -> None:
    """Code of the user's that blocks while a provider is made ready takes no thread from the others."""
    blocked = threading.Event()
    stuck = [PREPARING.submit(blocked.wait) for _ in range(PREPARING.most + 1)]
    try:
        assert STATEMENTS.submit(lambda: "stored").result(20) == "stored"
        assert BEATS.submit(lambda: "extended").result(20) == "extended"
    finally:
        blocked.set()
    for future in stuck:
        future.result(20)
