"""The example of web and worker processes: kills leave each message processed once and in order."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agentsession import ProviderCallError, SessionBusy, testing
from tests.support.servers import backend_of
from tests.support.worker_processes import EXAMPLE, Processes, Shop, until

pytestmark = [pytest.mark.matrix, pytest.mark.layouts("document")]  # the example uses the default

LONG_AGO = 1_000_000_000.0


@pytest.fixture
def url(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set the environment variable with the URL of the database in the form that the example expects."""
    location, _, schema = database_url.partition("?schema=")
    maria = "?mariadb=true&ssl_disabled=true"
    own = {"sqlite": "", "postgres": f"?options=-csearch_path%3D{schema}", "mariadb": maria}
    monkeypatch.setenv("DATABASE_URL", location + own[backend_of(database_url)])
    monkeypatch.delenv("AGENTSESSION_CLIENT", raising=False)
    return os.environ["DATABASE_URL"]


@pytest.fixture
def worker(url: str) -> Iterator[Any]:
    """Yield the example as a module, with its table created."""
    spec = importlib.util.spec_from_file_location("worker_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.db.connection_context():
        module.db.create_tables([module.Chat])
    yield module
    if not module.db.is_closed():
        module.db.close()


def texts(worker: Any, chat: Any) -> list[str]:
    return [message.text for message in worker.Chat.get_context(chat.id).messages]


def reload(worker: Any, chat: Any) -> Any:
    return worker.Chat.get_by_id(chat.id)


def take(worker: Any) -> Any:
    """Let a worker take a turn as if every pause were over."""
    with worker.db.connection_context():
        worker.Chat.update(due=datetime(2001, 1, 1)).execute()
        return worker.take()


def process_all(worker: Any) -> int:
    """Process turns until none is due, and return how many were taken."""
    taken = 0
    while (chat := take(worker)) is not None:
        worker.answer(chat)
        taken += 1
    return taken


def fail(prompt: Any) -> str:
    raise ProviderCallError("down")


def test_the_next_worker_processes_a_turn_that_a_worker_left_after_any_step(worker: Any) -> None:
    for crash in testing.every_crash():
        with testing.clock(LONG_AGO):
            chat = worker.say("Hello", "1")
            with crash:
                worker.answer(take(worker))
        process_all(worker)
        assert texts(worker, chat) == ["Hello", "You said: Hello (message 1 of this conversation)"], crash
        assert reload(worker, chat).status == "completed", crash
        chat.delete_instance()


@pytest.mark.parametrize("first", [True, False])
def test_a_repeated_request_is_stored_once_after_a_crash_at_any_step(worker: Any, first: bool) -> None:
    before = None
    for crash in testing.every_crash():
        if not first:
            before = worker.say("Before", "before").id
            process_all(worker)
        with crash:
            worker.say("Hello", "1", before)
        chat = worker.say("Hello", "1", before)
        assert worker.say("Hello", "1", before).id == chat.id
        assert texts(worker, chat).count("Hello") == 1, crash
        assert process_all(worker) == 1, crash
        assert reload(worker, worker.say("Hello", "1", before)).status == "completed"
        assert process_all(worker) == 0, crash
        assert texts(worker, chat)[-2] == "Hello"
        chat.delete_instance()


def pending(worker: Any) -> None:
    pass


def running(worker: Any) -> None:
    with testing.crash_after(2):
        worker.answer(take(worker))
        pytest.fail("the worker was not killed")


def abandoned(worker: Any, days: int = 0) -> None:
    with testing.clock(LONG_AGO + days * 86_400):
        running(worker)


def failed(worker: Any) -> None:
    with testing.script(worker.Chat, fail):
        worker.answer(take(worker))


@pytest.mark.parametrize("abandon_in_state", [pending, running, abandoned, failed])
def test_a_message_is_refused_while_an_earlier_one_waits_for_its_reply(
    worker: Any, abandon_in_state: Callable[[Any], None]
) -> None:
    chat = worker.say("One", "1")
    abandon_in_state(worker)
    before = reload(worker, chat)
    with pytest.raises(SessionBusy, match="has not been answered yet"):
        worker.say("Two", "2", chat.id)
    assert reload(worker, chat).__data__ == before.__data__
    assert worker.say("One", "1", chat.id).last_turn.id == "1"
    assert texts(worker, chat) == ["One"]


def test_a_failed_turn_is_retried_after_a_pause_and_finally_given_up(worker: Any) -> None:
    chat = worker.say("One", "1")
    failed(worker)
    assert reload(worker, chat).status == "failed"
    assert worker.take() is None
    with testing.script(worker.Chat, fail) as prompts:
        assert process_all(worker) == len(prompts) == worker.TRIES - 1
    worker.say("Two", "2", chat.id)
    with testing.script(worker.Chat, ["Yes."]) as prompts:
        assert process_all(worker) == 1
    assert texts(worker, chat) == ["One", "Two", "Yes."]
    assert [message.content for message in prompts[0]][1:] == ["Two"]


def test_a_turn_that_kills_its_workers_is_given_up(worker: Any) -> None:
    chat = worker.say("One", "1")
    for number in range(worker.TRIES):
        abandoned(worker, number)
    assert reload(worker, chat).status == "running"
    assert take(worker) is None
    worker.say("Two", "2", chat.id)
    assert process_all(worker) == 1
    assert texts(worker, chat)[:2] == ["One", "Two"]
    assert len(texts(worker, chat)) == 3


def test_the_next_worker_takes_a_turn_after_a_pause_if_a_worker_dies_before_it_begins(worker: Any) -> None:
    chat = worker.say("One", "1")
    assert worker.take().id == chat.id
    assert worker.take() is None
    assert process_all(worker) == 1
    assert reload(worker, chat).status == "completed"


def test_a_turn_whose_worker_is_alive_is_not_taken_and_counts_no_try(worker: Any) -> None:
    chat = worker.say("One", "1")
    running(worker)
    assert take(worker) is None
    assert reload(worker, chat).tries == 1


def test_one_of_several_simultaneous_messages_is_stored(worker: Any) -> None:
    chat = worker.say("Hello", "0")
    process_all(worker)
    together = threading.Barrier(4)

    def say(number: int) -> bool:
        together.wait()
        try:
            with worker.db.connection_context():
                worker.say(f"Word {number}", str(number), chat.id)
        except SessionBusy:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(say, range(1, 5)))
    assert sum(done) == 1
    assert texts(worker, chat)[2:] == [f"Word {done.index(True) + 1}"]


def test_one_of_several_simultaneous_workers_takes_the_turn(worker: Any) -> None:
    together = threading.Barrier(4)

    def look(_: int) -> Any:
        with worker.db.connection_context():
            together.wait()
            return worker.take()

    with ThreadPoolExecutor(4) as pool:
        for number in range(5):
            chat = worker.say("Hello", str(number))
            took = [each.id for each in pool.map(look, range(4)) if each is not None]
            assert took == [chat.id]
            assert reload(worker, chat).tries == 1
            chat.delete_instance()


needs_kill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
on_two = pytest.mark.backends("sqlite", "postgres")


@pytest.fixture
def processes(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    monkeypatch.setenv("WORKER_LEASE", "1")
    with Processes(tmp_path) as started:
        yield started


@needs_kill
@pytest.mark.backends("postgres")
def test_another_worker_processes_the_turn_of_a_worker_killed_during_a_model_call(
    processes: Processes, worker: Any
) -> None:
    chat = worker.say("Hello", "1")
    processes.wait.touch()
    hangs = processes.work()
    until(processes.asked)
    assert reload(worker, chat).status == "running"
    processes.kill(hangs)
    processes.wait.unlink()
    other = processes.work()
    until(lambda: reload(worker, chat).status == "completed")
    assert texts(worker, chat) == ["Hello", "answer to Hello"]
    assert processes.asked() == [(hangs.pid, "Hello"), (other.pid, "Hello")]


@needs_kill
@on_two
def test_killed_processes_leave_each_message_processed_once_and_in_order(
    processes: Processes, worker: Any
) -> None:
    messages_of = {name: [f"{name} {number}" for number in range(4)] for name in "abc"}
    sessions: dict[str, str | None] = dict.fromkeys(messages_of)
    unsent = {name: list(words) for name, words in messages_of.items()}
    shop = Shop(processes)
    for _ in range(2):
        processes.work()
    webs_to_kill = {"a 1", "b 2", "c 3"}

    def all_is_processed() -> bool:
        for name, words in unsent.items():
            if words:
                kill = words[0] in webs_to_kill
                webs_to_kill.discard(words[0])
                stored = shop.say(words[0], sessions[name], kill=kill)
                sessions[name] = sessions[name] or stored
                del words[: 1 if stored else 0]
        shop.kill_a_worker()
        done = worker.Chat.select().where(worker.Chat.status == "completed").count()
        return not any(unsent.values()) and done == len(messages_of)

    until(all_is_processed)
    assert shop.killed
    for name, words in messages_of.items():
        messages = worker.Chat.get_context(sessions[name]).messages
        assert [message.text for message in messages[::2]] == words
        assert [message.text for message in messages[1::2]] == [f"answer to {each}" for each in words]


@pytest.mark.backends("sqlite")
def test_the_example_prints_a_conversation(url: str, tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("assistant: You said: ") == 3
    assert run.stdout.count(" answered: ") in (2, 3)  # the killed worker may not print its line
    assert "assistant: You said: And on Sundays? (message 3 of this conversation)" in run.stdout


@pytest.mark.backends("sqlite")
def test_the_commands_of_the_example_work(processes: Processes, worker: Any) -> None:
    command = [sys.executable, EXAMPLE, "web", "Hello"]
    session = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    busy = subprocess.run([*command, "--session", session], capture_output=True, text=True)
    assert (busy.returncode, busy.stdout) == (1, "")
    assert busy.stderr == "the message before this one has not been answered yet\n"
    process = processes.run(str(EXAMPLE), "worker")
    assert process.stdout is not None
    reply = "You said: Hello (message 1 of this conversation)"
    assert process.stdout.readline() == f"{session} answered: {reply}\n"
    assert [message.text for message in worker.Chat.get_context(session).messages] == ["Hello", reply]


@pytest.mark.backends("sqlite")
def test_a_terminated_worker_finishes_its_turn_first(processes: Processes, worker: Any) -> None:
    chat, other = worker.say("Hello", "1"), worker.say("Other", "2")
    processes.wait.touch()
    process = processes.work()
    until(processes.asked)
    process.terminate()
    processes.wait.unlink()
    assert process.wait(60) == 0
    assert texts(worker, chat) == ["Hello", "answer to Hello"]
    assert reload(worker, other).status == "pending"
