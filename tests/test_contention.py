"""I2, I3, I6: whoever meets on one session, each turn is stored once or never; who waits holds nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

import pytest

from agentsession import LeaseLost, SessionBusy, clock, testing
from agentsession.provider import Reply
from agentsession.provider.echo import Echo
from tests import servers
from tests.models import chat_model, roles, stored, texts

TURNS = 25
HOUR = 3600.0
PATIENT = {"on_busy": "wait", "busy_timeout": 120}


class EchoOnceSomeoneIsRefused(Echo):
    """Its first answer comes when another turn was refused, so that at least one is."""

    refused = threading.Event()

    def ask(self, request: Any) -> Reply:
        if request.view[-1].content != "Hello":
            assert self.refused.wait(60)
        return super().ask(request)


def pooled(url: str, size: int) -> Any:
    """A pool whose connections may go from thread to thread."""
    database = servers.open_database(url, pool=size)
    if servers.backend_of(url) == "sqlite":
        database.connect_params["check_same_thread"] = False
    return database


def take_turns(Chat: Any, key: Any, name: str) -> tuple[list[str], list[str]]:
    """The words that were answered, and those that were refused."""
    done, refused = [], []
    for number in range(TURNS):
        words = f"{name} {number}"
        try:
            said = Chat.continue_session(key, words).last_result.text
        except SessionBusy:
            EchoOnceSomeoneIsRefused.refused.set()
            refused.append(words)
            continue
        assert said.startswith(f"You said: {words} (")
        done.append(words)
    return done, refused


def each_is_there_once_with_its_reply(Chat: Any, key: Any, done: list[str]) -> bool:
    """The echo counts what it was shown: each turn has seen all that came before it."""
    messages = Chat.get_context(key).messages[2:]
    assert [message.role for message in messages] == ["user", "assistant"] * len(done)
    assert sorted(message.text for message in messages[::2]) == sorted(done)
    for number, (asked, reply) in enumerate(zip(messages[::2], messages[1::2], strict=True), start=2):
        assert reply.text == f"You said: {asked.text} (message {number} of this conversation)"
        assert reply.turn == asked.turn
    return True


def by_threads(Chat: Any, key: Any) -> tuple[list[str], list[str]]:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: take_turns(Chat, key, f"thread {name}"), range(8)))
    done, refused = ([words for each in found for words in each[which]] for which in (0, 1))
    return done, refused


def test_threads_that_wait_are_all_served_once(database_url: str) -> None:
    Chat = chat_model(pooled(database_url, 8), session=PATIENT)
    key = Chat.start_session("Hello").id
    done, refused = by_threads(Chat, key)
    assert (len(done), refused) == (8 * TURNS, [])
    assert each_is_there_once_with_its_reply(Chat, key, done)


def test_threads_that_do_not_wait_are_served_once_or_not_at_all(database_url: str) -> None:
    EchoOnceSomeoneIsRefused.refused.clear()
    Chat = chat_model(pooled(database_url, 8), provider=EchoOnceSomeoneIsRefused())
    key = Chat.start_session("Hello").id
    done, refused = by_threads(Chat, key)
    assert done
    assert refused
    assert len(done) + len(refused) == 8 * TURNS
    assert each_is_there_once_with_its_reply(Chat, key, done)


@contextmanager
def processes(code: str, *arguments: Any, names: Any) -> Iterator[list[subprocess.Popen[str]]]:
    """One process for each name; they begin at the same time, when all have been imported."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    children = [
        subprocess.Popen([*command, str(name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in names
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        yield children
    finally:
        for child in children:
            child.kill()
            child.communicate()


def lines_of(children: list[subprocess.Popen[str]]) -> list[list[str]]:
    outputs = [child.communicate(timeout=120)[0].splitlines() for child in children]
    assert [child.returncode for child in children] == [0] * len(children)
    return outputs


RACER = """
import sys
from tests.models import chat_model
from tests.servers import open_database
from tests.test_contention import take_turns

url, key, on_busy, name = sys.argv[1:]
session = {"on_busy": on_busy, "busy_timeout": 120}
Chat = chat_model(open_database(url, pool=1), session=session, create=False)
print("ready", flush=True)
sys.stdin.readline()
done, refused = take_turns(Chat, key, name)
print(*done, "--", *refused, sep="\\n")
"""


@pytest.mark.parametrize("on_busy", ["wait", "raise"])
def test_processes_are_served_once_or_not_at_all(database: Any, on_busy: str) -> None:
    Chat = chat_model(database)
    key = Chat.start_session("Hello").id
    names = ["one", "two", "three", "four"]
    with processes(RACER, database.url, key, on_busy, names=names) as children:
        outputs = lines_of(children)
    done = [line for output in outputs for line in output[: output.index("--")]]
    assert len(done) == 4 * TURNS or on_busy == "raise"
    assert done
    assert sum(len(output) - 1 for output in outputs) == 4 * TURNS
    assert each_is_there_once_with_its_reply(Chat, key, done)


def test_turns_whose_models_are_slow_share_one_connection(database_url: str) -> None:
    database = pooled(database_url, 1)
    held: list[int] = []
    together = threading.Barrier(20, action=lambda: held.append(len(database._in_use)))

    class Slow(Echo):
        def ask(self, request: Any) -> Reply:
            if request.view[-1].content == "slow":
                together.wait(60)
            return super().ask(request)

    Chat = chat_model(database, provider=Slow())
    keys = [Chat.start_session("Hello").id for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda key: Chat.continue_session(key, "slow").last_result.text, keys))
    assert len(done) == 20
    assert all(text.startswith("You said: slow (") for text in done)
    assert held == [0]
    assert len(database._in_use) == 0


class Waits:
    """A model that answers, where it is told "slow", when it may."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answer = threading.Event()
        self.questions: list[str] = []

    def ask(self, request: Any) -> Reply:
        words = request.view[-1].content
        self.questions.append(words)
        if words == "slow":
            self.asked.set()
            assert self.answer.wait(300)
        return Reply(f"answer to {words}")


class Watch(clock.FakeClock):
    """A clock that tells when a turn waits, and how many connections were in use each time."""

    def __init__(self, database: Any, after: float = 0.0) -> None:
        super().__init__(time.time() + after)
        self.database = database
        self.waited = threading.Event()
        self.in_use: list[int] = []

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.in_use.append(len(self.database._in_use))
        self.waited.set()
        time.sleep(0.001)


def by_the_clock(time_: clock.FakeClock, act: Any, *arguments: Any, **options: Any) -> Any:
    """In a thread whose clock is this one."""
    clock.fake.set(time_)
    return act(*arguments, **options)


@contextmanager
def a_slow_turn(Chat: Any, key: Any, model: Waits, hours: float = 0.0) -> Iterator[Future[Any]]:
    """A turn in another thread, whose clock is wrong by some hours; its model does not answer yet."""
    at = clock.FakeClock(time.time() + hours * HOUR)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(by_the_clock, at, Chat.continue_session, key, "slow")
        try:
            assert model.asked.wait(60)
            yield slow
        finally:
            model.answer.set()


def test_who_waits_for_a_running_turn_holds_no_connection(database_url: str) -> None:
    database, model = pooled(database_url, 1), Waits()
    Chat = chat_model(database, provider=model, session=PATIENT | {"busy_timeout": 1e9, "lease": 1e9})
    key = Chat.start_session("Hello").id
    watch = Watch(database)
    with a_slow_turn(Chat, key, model), ThreadPoolExecutor(1) as other:
        waits = other.submit(by_the_clock, watch, Chat.continue_session, key, "next")
        assert watch.waited.wait(60)
        in_use = list(watch.in_use)
        model.answer.set()
        assert waits.result().last_result.text == "answer to next"
    assert set(in_use) == {0}
    assert texts(Chat, key)[2:] == ["slow", "answer to slow", "next", "answer to next"]


def test_who_waits_for_a_pending_turn_goes_on_when_a_worker_has_run_it(database_url: str) -> None:
    database, model = pooled(database_url, 2), Waits()
    Chat = chat_model(database, provider=model, session=PATIENT | {"busy_timeout": 1e9})
    session = Chat.start_session("First", run=False)
    watch = Watch(database)
    with ThreadPoolExecutor(1) as other:
        waits = other.submit(by_the_clock, watch, Chat.continue_session, session.id, "Second")
        assert watch.waited.wait(60)
        assert texts(Chat, session) == ["First"]
        Chat.resume_session(session.id)
        assert waits.result().last_result.text == "answer to Second"
    assert texts(Chat, session) == ["First", "answer to First", "Second", "answer to Second"]


@pytest.mark.parametrize("session", [{}, {"on_busy": "wait", "busy_timeout": 0.05}], ids=["raise", "wait"])
def test_who_is_refused_is_told_since_and_until_when(database: Any, session: Any) -> None:
    model = Waits()
    Chat = chat_model(database, provider=model, session={"lease": 1000.0} | session)
    key = Chat.start_session("Hello").id
    with a_slow_turn(Chat, key, model):
        before = stored(Chat.get_by_id(key))
        with pytest.raises(SessionBusy) as busy:
            Chat.continue_session(key, "next")
        assert stored(Chat.get_by_id(key)) == before
    assert busy.value.status == "running"
    assert (busy.value.since, busy.value.until) == (before["turn"]["since"], before["turn"]["until"])
    assert ("waited for 0." in str(busy.value)) is bool(session)
    assert roles(Chat, key) == ["user", "assistant"] * 2


def test_inside_a_transaction_nobody_waits_for_a_turn_that_could_then_not_end(database_url: str) -> None:
    """Its locked row, or its snapshot, would be the same until the transaction ends."""
    database, model = pooled(database_url, 3), Waits()
    Chat = chat_model(
        database, provider=model, session={"on_busy": "wait", "busy_timeout": 5, "lease": 1000.0}
    )
    key = Chat.start_session("Hello").id
    watch = Watch(database)

    def store() -> None:
        with database.atomic():
            Chat.continue_session(key, "later", run=False)

    with a_slow_turn(Chat, key, model) as slow, ThreadPoolExecutor(1) as other:
        with pytest.raises(SessionBusy):
            other.submit(by_the_clock, watch, store).result()
        model.answer.set()
        assert slow.result().last_result.text == "answer to slow"
    assert watch.in_use == []


def test_who_waits_takes_over_once_the_lease_of_a_dead_holder_has_run_out(database: Any) -> None:
    Chat = chat_model(database, session=PATIENT | {"lease": 30.0})
    session = Chat.start_session("Hello")
    with testing.crash_after(2):
        session.continue_session("left behind")
    until = stored(session)["turn"]["until"]
    at = clock.FakeClock(until - 3)
    with ThreadPoolExecutor(1) as other:
        other.submit(by_the_clock, at, Chat.continue_session, session.id, "next").result()
    assert until <= at.seconds < until + 1
    assert texts(Chat, session)[2:4] == ["left behind", "next"]


def test_a_key_that_starts_in_many_threads_is_one_record_and_one_question(database_url: str) -> None:
    model, together = Waits(), threading.Barrier(8)
    Chat = chat_model(pooled(database_url, 8), provider=model, session=PATIENT)
    model.answer.set()

    def start(_: int) -> Any:
        together.wait(60)
        return Chat.start_session("slow", idempotency_key="key")

    with ThreadPoolExecutor(8) as pool:
        started = list(pool.map(start, range(8)))
    assert len({record.id for record in started}) == Chat.select().count() == 1
    assert {record.last_result.text for record in started} == {"answer to slow"}
    assert model.questions == ["slow"]
    assert texts(Chat, started[0]) == ["slow", "answer to slow"]


@pytest.mark.parametrize("action", ["start_session", "continue_session"])
def test_a_key_whose_turn_runs_is_refused_and_afterwards_answered_without_a_question(
    database: Any, action: str
) -> None:
    model = Waits()
    Chat = chat_model(database, provider=model)
    arguments = ["slow"] if action == "start_session" else [Chat.start_session("Hello").id, "slow"]
    act = partial(getattr(Chat, action), *arguments, idempotency_key="key")
    with ThreadPoolExecutor(1) as other:
        first = other.submit(act)
        assert model.asked.wait(60)
        with pytest.raises(SessionBusy, match="a turn has been running"):
            act()
        model.answer.set()
        assert first.result().last_result.text == "answer to slow"
    again = act()
    assert (again.id, again.last_result.text) == (first.result().id, "answer to slow")
    assert model.questions.count("slow") == texts(Chat, again).count("slow") == Chat.select().count() == 1


KEYED = """
import sys
from agentsession import SessionBusy
from agentsession.provider.echo import Echo
from tests.models import chat_model, open_database

class Tells(Echo):
    def ask(self, request):
        print("asked", flush=True)
        return super().ask(request)

url, on_busy, key, name = sys.argv[1:]
session = {"on_busy": on_busy, "busy_timeout": 120}
Chat = chat_model(open_database(url), session=session, create=False, provider=Tells())
Chat.get_or_none()
print("ready", flush=True)
sys.stdin.readline()
try:
    if key == "-":
        record = Chat.start_session("Hello", idempotency_key="key")
    else:
        record = Chat.continue_session(key, "Hello", idempotency_key="key")
    print(record.id, record.last_result.text)
except SessionBusy:
    print("busy")
"""


@pytest.mark.parametrize("action", ["start", "continue"])
@pytest.mark.parametrize("on_busy", ["wait", "raise"])
def test_a_key_that_is_used_in_many_processes_is_one_turn(database: Any, on_busy: str, action: str) -> None:
    Chat = chat_model(database)
    key = Chat.start_session("Before").id if action == "continue" else "-"
    with processes(KEYED, database.url, on_busy, key, names=["one", "two", "three"]) as children:
        said = [line for output in lines_of(children) for line in output]
    (record,) = Chat.select()
    replies = {line for line in said if line not in ("asked", "busy")}
    assert said.count("asked") == 1
    assert replies == {f"{record.id} {record.last_result.text}"}
    assert said.count("busy") == 0 or on_busy == "raise"
    assert texts(Chat, record).count("Hello") == 1


@pytest.mark.parametrize("hours", [-5, 5])
@pytest.mark.parametrize("action", ["continue", "resume"])
def test_a_holder_whose_clock_is_wrong_loses_its_turn_but_no_words(
    database: Any, action: str, hours: int
) -> None:
    model = Waits()
    Chat = chat_model(database, provider=model)
    key = Chat.start_session("Hello").id
    with a_slow_turn(Chat, key, model, hours) as slow:
        if action == "continue":
            Chat.continue_session(key, "fast")
        else:
            with testing.script(Chat, ["by another"]):
                Chat.resume_session(key)
        before = stored(Chat.get_by_id(key))
        model.answer.set()
        with pytest.raises(LeaseLost) as lost:
            slow.result()
    assert lost.value.result.text == "answer to slow"
    assert lost.value.session.id == key
    assert stored(Chat.get_by_id(key)) == before
    later = ["fast", "answer to fast"] if action == "continue" else ["by another"]
    assert texts(Chat, key)[2:] == ["slow", *later]


@pytest.mark.parametrize("hours", [-5, 5])
@pytest.mark.parametrize("action", ["continue", "resume"])
def test_a_session_that_a_wrong_clock_began_and_left_is_free_for_others(
    database: Any, action: str, hours: int
) -> None:
    """The lease of a first turn counts from the clock of its host."""
    Chat = chat_model(database)
    token = clock.fake.set(clock.FakeClock(time.time() + hours * HOUR))
    with testing.crash_after(1):
        Chat.start_session("Hello")
    clock.fake.reset(token)
    (session,) = Chat.select()
    if action == "continue":
        session.continue_session("next")
    else:
        session.resume_session()
    assert texts(Chat, session)[:-1] == (["Hello", "next"] if action == "continue" else ["Hello"])
    assert session.last_turn.status == "completed"


def take_turns_at(hours: float, Chat: Any, key: Any) -> dict[str, str]:
    """What became of the words of an actor whose clock is wrong by some hours."""
    clock.fake.set(clock.FakeClock(time.time() + hours * HOUR))
    fates = {}
    for number in range(TURNS):
        words = f"{hours} {number}"
        try:
            assert Chat.continue_session(key, words).last_result.text.startswith(f"You said: {words} (")
            fates[words] = "done"
        except SessionBusy:
            fates[words] = "refused"
        except LeaseLost as lost:
            answered = lost.result.text.startswith(f"You said: {words} (")
            fates[words] = "lost" if answered else "lost without its reply"
    return fates


class EchoOnceTwoAsk(Echo):
    """The first two questions are asked at the same time, so that one turn is taken over."""

    def __init__(self) -> None:
        self.two = threading.Barrier(2)
        self.number = count()

    def ask(self, request: Any) -> Reply:
        if request.view[-1].content != "Hello" and next(self.number) < 2:
            self.two.wait(60)
        return super().ask(request)


def test_actors_whose_clocks_disagree_by_hours_lose_and_double_no_message(database_url: str) -> None:
    Chat = chat_model(pooled(database_url, 3), provider=EchoOnceTwoAsk())
    key = Chat.start_session("Hello").id
    with ThreadPoolExecutor(3) as pool:
        actors = [pool.submit(take_turns_at, hours, Chat, key) for hours in (-3, 0, 5)]
        fates = {words: fate for actor in actors for words, fate in actor.result().items()}
    messages = Chat.get_context(key).messages[2:]
    said = [message.text for message in messages if message.role == "user"]
    assert sorted(said) == sorted(words for words, fate in fates.items() if fate != "refused")
    for message in messages:
        if message.role == "user":
            replies = [each.text for each in messages if each.turn == message.turn and each is not message]
            assert len(replies) == (fates[message.text] == "done")
            assert all(reply.startswith(f"You said: {message.text} (") for reply in replies)
    assert {"done", "lost"} <= set(fates.values()) <= {"done", "lost", "refused"}


def test_a_turn_is_held_for_the_lease_of_its_holder_whatever_that_of_the_other(database: Any) -> None:
    """Two versions of a program run side by side during a deploy."""
    model = Waits()
    Old = chat_model(database, provider=model, session={"lease": 1000.0})
    New = chat_model(database, session={"lease": 30.0})
    key = Old.start_session("Hello").id
    with a_slow_turn(Old, key, model) as slow:
        with pytest.raises(SessionBusy):
            New.continue_session(key, "fast")
        model.answer.set()
        assert slow.result().last_result.text == "answer to slow"
