"""I4, I6: wherever a turn was stopped, and whatever is called next, the session is whole.

Each case runs one call, stops it after its first, its second, … effect, and from each of these moments makes
every call that fits. What must then be stored and shown is told by a small specification over `Said`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeAlias

import pytest

from agentsession import (
    IdempotencyMismatch,
    NoResult,
    NothingToResume,
    OutputInvalid,
    ProviderError,
    ProviderFailed,
    SessionBusy,
    TurnFailed,
    clock,
    testing,
)
from tests.models import Answer, chat_model

KEY = "the request's key"
LEASE = 30.0
OVER = LEASE + 1.0
NOW = 1_700_000_000.0


@dataclass(frozen=True)
class Call:
    """A call of the library. `str()` names it in a failure."""

    action: str
    words: str = ""
    run: bool = True
    key: str | None = None

    def __str__(self) -> str:
        later, keyed = "" if self.run else ", run=False", ", its key" if self.key else ""
        return f"{self.action}({self.words}{later}{keyed})"


@dataclass(frozen=True)
class Said:
    """A turn as the specification sees it. `alive`: it is running, and its lease has not run out."""

    words: str
    status: str
    reply: str | None = None
    key: str | None = None
    alive: bool = False


Turns: TypeAlias = tuple[Said, ...]
Refused: TypeAlias = type[BaseException]


@dataclass(frozen=True)
class Model:
    """What the model does in the stopped turn, how the turn then ends, and what its caller gets."""

    replies: tuple[Any, ...]
    status: str
    error: type[BaseException] = NoResult


def answer(words: str) -> str:
    return Answer(content=words).model_dump_json()


MODELS = {
    "answers": Model((answer("yes"),), "completed"),
    "answers_at_last": Model(("no JSON", answer("yes")), "completed"),
    "never_fits": Model(("no JSON", "no JSON"), "failed", OutputInvalid),
    "is_down": Model((ProviderError("down"),), "failed", ProviderFailed),
    "is_left": Model((KeyboardInterrupt(),), "interrupted", KeyboardInterrupt),
    "is_not_asked": Model((), "pending"),
}


@dataclass(frozen=True)
class Case:
    """A call that is stopped, the turn that stands before it, what the model does, the model's options."""

    action: str
    run: bool
    before: str
    model: str
    keyed: bool
    status: bool

    def __str__(self) -> str:
        action = self.action if self.run else f"{self.action}_later"
        marks = ("keyed", "" if self.status else "without_status")[not self.keyed :]
        return "-".join([action, f"after_{self.before}", f"model_{self.model}", *filter(None, marks)])

    @property
    def call(self) -> Call:
        return Call(self.action, "" if self.action == "resume" else "New", self.run, self.key)

    @property
    def again(self) -> Call:
        """The request that began the turn, once more."""
        return Call("continue", "Before", key=self.key) if self.action == "resume" else self.call

    @property
    def key(self) -> str | None:
        return KEY if self.keyed else None


ASKED = [name for name in MODELS if name != "is_not_asked"]
ENDED = ["completed", "failed", "interrupted", "abandoned"]
TO_RESUME = ["pending", "failed", "interrupted", "abandoned"]
SHAPES = [
    *product(["start"], [True], ["nothing"], ASKED),
    *product(["start"], [False], ["nothing"], ["is_not_asked"]),
    *product(["continue"], [True], ENDED, ASKED),
    *product(["continue"], [False], ENDED, ["is_not_asked"]),
    *product(["resume"], [True], TO_RESUME, ASKED),
]
CASES = [Case(*shape, *options) for shape, options in product(SHAPES, product([True, False], repeat=2))]
SELECTED = [
    Case("start", True, "nothing", "answers_at_last", keyed=True, status=True),
    Case("start", False, "nothing", "is_not_asked", keyed=True, status=True),
    Case("continue", True, "abandoned", "never_fits", keyed=True, status=True),
    Case("continue", True, "failed", "answers", keyed=False, status=False),
    Case("continue", False, "abandoned", "is_not_asked", keyed=True, status=True),
    Case("resume", True, "pending", "is_left", keyed=True, status=True),
    Case("resume", True, "abandoned", "is_down", keyed=True, status=True),
]


@pytest.mark.backends("sqlite")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_session_whose_turn_stopped_after_any_effect_is_whole_for_every_call(
    database: Any, case: Case
) -> None:
    stop_after_each_effect(database, case)


@pytest.mark.backends("postgres", "mariadb")
@pytest.mark.parametrize("case", SELECTED, ids=str)
def test_a_session_on_a_server_is_whole_as_well(database: Any, case: Case) -> None:
    stop_after_each_effect(database, case)


def stop_after_each_effect(database: Any, case: Case) -> None:
    with a_world(database, case) as world:
        turns = world.begin()
        moment = world.moment()
        effects = world.stop(99)
        assert {"Insert", "Claim"} & {*effects}
        assert ("Finish" in effects) == case.run
        for step in range(1, len(effects) + 1):
            with noted(f"stopped after {', '.join(effects[:step])}"):
                world.go_back(moment)
                assert world.stop(step) == effects[:step]
                stopped = after_effects(case, turns, effects[:step])
                world.check(stopped)
                if effects[step - 1] != "Ask":
                    make_every_call(world, stopped)


def make_every_call(world: World, stopped: Turns) -> None:
    """Each from the same moment, with the lease alive and run out, and after it what always has to work."""
    moment = world.moment()
    waits = [0.0, OVER] if stopped and stopped[-1].alive else [0.0]
    for call, seconds in product(fitting_calls(world.case, stopped), waits):
        with noted(f"then {call} after {seconds} s"):
            world.go_back(moment)
            turns = world.make(call, world.wait(stopped, seconds))
            turns = world.wait(turns, OVER)
            if turns[-1].status == "pending":
                turns = world.make(Call("resume"), turns)
            turns = world.make(Call("continue", "Last"), turns)
            if any(turn.key for turn in turns):
                world.make(world.case.again, turns)


def fitting_calls(case: Case, turns: Turns) -> list[Call]:
    calls = [Call("continue", "Next"), Call("continue", "Next", run=False), Call("resume")]
    if case.keyed:
        calls += [case.again, replace(case.again, run=True)]
    if any(turn.key for turn in turns):
        calls += [replace(case.again, words="Other")]
    return list(dict.fromkeys(calls))


@contextmanager
def noted(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(what)
        raise


# What must happen: the specification.


def after_effects(case: Case, turns: Turns, effects: list[str]) -> Turns:
    """The turns that are stored when the call has performed these effects."""
    if not {"Insert", "Claim"} & {*effects}:
        return turns
    words = turns[-1].words if case.action == "resume" else case.call.words
    model = MODELS[case.model]
    begun = Said(words, "running" if case.run else "pending", key=case.key, alive=case.run)
    if "Finish" in effects:
        reply = model.replies[-1] if model.status == "completed" else None
        begun = Said(words, model.status, reply, case.key)
    return (*(turns[:-1] if case.action == "resume" else closed(turns)), begun)


def expected(call: Call, turns: Turns, reply: str) -> Turns | Refused:
    """The turns after a call that runs to its end, or the error with which it changes nothing."""
    latest = turns[-1] if turns else None
    same = next((turn for turn in turns if call.key is not None and turn.key == call.key), None)
    if call.action == "resume":
        same = latest
        if latest is None or latest.status == "completed":
            return NothingToResume
    elif same is None:
        if latest is not None and (latest.alive or latest.status == "pending"):
            return SessionBusy
        return (*closed(turns), ended(call, call.words, reply))
    elif same.words != call.words:
        return IdempotencyMismatch
    elif same.reply is not None:
        return turns
    if same is not latest:
        return TurnFailed
    return SessionBusy if same.alive else (*turns[:-1], ended(call, same.words, reply, same.key))


def ended(call: Call, words: str, reply: str, key: str | None = None) -> Said:
    key = key or call.key
    return Said(words, "completed", reply, key) if call.run else Said(words, "pending", key=key)


def closed(turns: Turns) -> Turns:
    """The turns before a new one: one that was abandoned is interrupted."""
    if not turns or turns[-1].status != "running":
        return turns
    return (*turns[:-1], replace(turns[-1], status="interrupted", alive=False))


def shown(turns: Turns) -> list[tuple[str, str]]:
    """What the model is shown for the last of these turns: those that have a reply, and its words."""
    answered = [turn for turn in turns[:-1] if turn.reply is not None]
    before = [each for turn in answered for each in (("user", turn.words), ("assistant", turn.reply or ""))]
    return [("system", "You help."), *before, ("user", turns[-1].words)]


# What does happen: the library, on a real database.


@contextmanager
def a_world(database: Any, case: Case) -> Iterator[World]:
    time = clock.FakeClock(NOW)
    token = clock.fake.set(time)
    options = {"lease": LEASE, "status_attribute": "status" if case.status else None}
    try:
        with database.connection_context():
            yield World(chat_model(database, output_schema=Answer, session=options), case, time)
    finally:
        clock.fake.reset(token)


@dataclass
class World:
    """A table with at most one session, a clock that stands still, and calls whose effect is checked.

    `row` is what is stored, as the last look at the table found it.
    """

    Chat: Any
    case: Case
    clock: clock.FakeClock
    row: dict[str, Any] | None = None
    made: int = 0

    def look(self) -> dict[str, Any]:
        (self.row,) = self.Chat.select().dicts()
        assert self.row is not None
        return self.row

    def moment(self) -> tuple[dict[str, Any] | None, float]:
        return self.row, self.clock.seconds

    def go_back(self, moment: tuple[dict[str, Any] | None, float]) -> None:
        self.row, self.clock.seconds = moment
        self.Chat.delete().execute()
        if self.row is not None:
            self.Chat.insert(**self.row).execute()

    def wait(self, turns: Turns, seconds: float) -> Turns:
        self.clock.advance(seconds)
        return tuple(replace(turn, alive=turn.alive and seconds < OVER) for turn in turns)

    def say(self, call: Call) -> Any:
        key = self.row["id"] if self.row is not None else None
        if call.action == "resume":
            return self.Chat.resume_session(key)
        options = {"run": call.run, "idempotency_key": call.key}
        if call.action == "start":
            return self.Chat.start_session(call.words, **options)
        return self.Chat.continue_session(key, call.words, **options)

    def begin(self) -> Turns:
        """Store what stands before the call of the case."""
        case = self.case
        if case.before == "nothing":
            return ()
        turns = self.make(Call("start", "First"), ())
        if case.before == "completed":
            return turns
        key = case.key if case.action == "resume" else None
        model = {"failed": "is_down", "interrupted": "is_left"}.get(case.before, "is_not_asked")
        call = Call("continue", "Before", run=case.before != "pending", key=key)
        self.stop(2 if case.before == "abandoned" else 99, call, MODELS[model])
        self.clock.advance(OVER)
        status = "running" if case.before == "abandoned" else case.before
        turns = (*turns, Said("Before", status, key=key))
        self.check(turns)
        return turns

    def stop(self, step: int, call: Call | None = None, model: Model | None = None) -> list[str]:
        """Make the call, by default that of the case, and stop after so many effects. Gives their names."""
        model = model or MODELS[self.case.model]
        with testing.crash_after(step) as effects, testing.script(self.Chat, model.replies):
            with suppress(model.error):
                self.say(call or self.case.call)
        return [type(effect).__name__ for effect in effects]

    def make(self, call: Call, turns: Turns) -> Turns:
        """Make a call on these turns, see that it does what is expected, and give the turns after it."""
        self.made += 1
        reply, before = answer(f"reply {self.made}"), self.row
        after = expected(call, turns, reply)
        if isinstance(after, tuple):
            asks = any(turn.reply == reply for turn in after)
            with testing.script(self.Chat, [reply] if asks else []) as views:
                record = self.say(call)
            assert [[(message.role, message.content) for message in view] for view in views] == (
                [shown(after)] if asks else []
            )
            self.check(after)
            self.check_returned(record, call, after)
        else:
            with testing.script(self.Chat, []), pytest.raises(after):
                self.say(call)
            after = turns
            self.check(after)
        assert after != turns or self.row == before
        return after

    def check_returned(self, record: Any, call: Call, turns: Turns) -> None:
        """The record that a call returns tells of the turn that the call was about."""
        turn = next((turn for turn in turns if turn.key and turn.key == call.key), turns[-1])
        assert record.last_turn.status == turn.status
        if turn.reply is None:
            with pytest.raises(NoResult):
                record.last_result
        else:
            assert record.last_result.text == turn.reply
        assert self.row is not None
        assert record.context == self.row["context"]
        assert record.status == self.row["status"]

    def check(self, turns: Turns) -> None:
        """These turns are stored, and the row agrees with itself."""
        row = self.look()
        context = self.Chat.get_context(row["id"])
        said = [text for turn in turns for text in (turn.words, turn.reply) if text is not None]
        assert [message.text for message in context.messages] == said
        assert len({message.id for message in context.messages}) == len(said)
        openings = [message for message in context.messages if message.role == "user"]
        assert len({opening.turn for opening in openings}) == len(turns)
        for opening, turn in zip(openings, turns, strict=True):
            hidden = turn.status if turn.status in ("failed", "interrupted") else None
            assert opening.metadata.get("status") == hidden
            assert ("error" in opening.metadata) == (hidden is not None)
        self.check_latest(row, context.turn, openings[-1], turns)

    def check_latest(self, row: dict[str, Any], turn: Any, opening: Any, turns: Turns) -> None:
        latest = turns[-1]
        assert (turn.id, turn.status) == (opening.turn, latest.status)
        assert row["status"] == (latest.status if self.case.status else "pending")
        held = latest.status == "running"
        assert {turn.claim is not None, turn.since is not None, turn.until is not None} == {held}
        assert not held or (turn.until > self.clock.seconds) == latest.alive
        assert (turn.error is not None) == (latest.status in ("failed", "interrupted"))
        selected = self.Chat(**row)
        assert selected.last_turn == turn
        replies = [turn.reply for turn in turns if turn.reply is not None]
        if replies:
            assert selected.last_result.text == replies[-1]
