"""Several calls on one session, an effect at a time, in any order, and what must be true of them after each.

Each actor drives the machine of one call by hand, an effect at a time, on a real database. Hypothesis
interleaves and drops them, loses what the database answers, delays writes, moves the clock, lets models fail.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import peewee as pw
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from agentsession import (
    LeaseLost,
    NothingToResume,
    ProviderError,
    SessionBusy,
    SessionNotFound,
    StorageFailed,
    TurnFailed,
    clock,
    info,
)
from agentsession.actions.plan import plan_turn
from agentsession.context import Context
from agentsession.drive.perform import Storing
from agentsession.provider import Reply
from agentsession.store.keys import derived_value
from agentsession.store.opened import new_session, open_session
from agentsession.turn import machine
from agentsession.turn.effects import (
    Ask,
    Claim,
    Effect,
    Finish,
    Insert,
    Load,
    Machine,
    Outcome,
    Save,
    Stopped,
    Unacknowledged,
    Wait,
)
from agentsession.turn.opening import Plan
from tests.models import Answer

LEASE = 30.0
OVER = LEASE + 1.0
START_KEY = "start"
WRITES = (Insert, Claim, Save, Finish)
MANY = 60
Kinds = tuple[type, ...]
THE_END: Kinds = ()
MACHINES = {"start": machine.start, "continue": machine.continue_, "resume": machine.resume}


@dataclass(eq=False)
class Actor:
    """One call in progress. `effect` is what its machine waits for.

    `turn_id`: the turn that it is about, once that is known. `settled`: the reply that its key had already.
    `read_at`: the time when it read the session last. `lost`: the answers and reads that the database lost.
    """

    plan: Plan
    words: str
    machine: Machine
    perform: Storing
    turn_id: str
    settled: str | None
    effect: Effect
    read_at: float = 0.0
    lost: tuple[int, int] = (0, 0)
    has_to_return: bool = False

    def is_at(self, *kinds: type) -> bool:
        return isinstance(self.effect, kinds)


def an_actor(*kinds: type) -> Callable[[Any], Any]:
    """The rule needs an actor that waits for one of these effects."""
    return precondition(lambda self: any(actor.is_at(*kinds) for actor in self.actors))


room = precondition(lambda self: len(self.actors) < 3)
which = st.integers(0, 2)
upto = st.sampled_from([(object,), (*WRITES, Ask), (Ask,), THE_END])
wait = st.sampled_from([0.0, OVER])
mostly = st.sampled_from([True, True, True, False])
patience = st.sampled_from([0.0, 0.0, 2.0])


class Sessions(RuleBasedStateMachine):
    """One session and its actors. `row` and `context` are what is stored, as the last look found it."""

    def __init__(self, Chat: Any, time: clock.FakeClock) -> None:
        super().__init__()
        self.Chat, self.time, self.options = Chat, time, info.session_options(Chat)
        Chat.delete().execute()
        self.id = derived_value(Chat, self.options, Chat._meta.primary_key, None, START_KEY)
        time.seconds = 1_700_000_000.0
        self.actors: list[Actor] = []
        self.late: list[Actor] = []
        self.keys: dict[str, str] = {}
        self.row: dict[str, Any] | None = None
        self.context = Context()
        self.counted = 0

    # Calls begin, perhaps long after what came before.

    @initialize(keyed=st.booleans(), run=mostly, upto=st.one_of(upto, st.just(THE_END)))
    def a_session_begins(self, keyed: bool, run: bool, upto: Kinds) -> None:
        self.keyed = keyed
        self.start(run=run, upto=upto)

    @room
    @precondition(lambda self: self.row is None)
    @rule(run=mostly, upto=upto)
    def start(self, run: bool, upto: Kinds) -> None:
        words, key = self.new_words(self.keyed, START_KEY)
        self.begin("start", words, key, run, upto=upto)

    @room
    @precondition(lambda self: self.row or self.actors)
    @rule(wait=wait, keyed=st.booleans(), run=mostly, patience=patience, upto=upto)
    def continue_(self, wait: float, keyed: bool, run: bool, patience: float, upto: Kinds) -> None:
        self.time.advance(wait)
        words, key = self.new_words(keyed, f"key {self.counted}")
        self.begin("continue", words, key, run, patience, upto)

    @room
    @precondition(lambda self: self.keys)
    @rule(wait=wait, key=st.integers(0, 9), run=mostly, patience=patience, upto=upto)
    def say_it_again(self, wait: float, key: int, run: bool, patience: float, upto: Kinds) -> None:
        self.time.advance(wait)
        name = list(self.keys)[-1 - key % len(self.keys)]
        self.begin("start" if name == START_KEY else "continue", self.keys[name], name, run, patience, upto)

    @room
    @precondition(lambda self: self.actors or (self.context.turn and self.context.turn.is_open))
    @rule(wait=wait, patience=patience, upto=upto)
    def resume(self, wait: float, patience: float, upto: Kinds) -> None:
        self.time.advance(wait)
        self.begin("resume", "", None, True, patience, upto)

    # They go on, meet with trouble, and are dropped.

    @an_actor(object)
    @rule(which=which, upto=upto)
    def go_on(self, which: int, upto: Kinds) -> None:
        self.run_on(self.pick(which), upto)

    @an_actor(*WRITES)
    @rule(which=which, becomes=st.sampled_from(["stored", "not stored", "late"]))
    def the_answer_is_lost(self, which: int, becomes: str) -> None:
        actor = self.pick(which, *WRITES)
        actor.lost = actor.lost[0] + 1, actor.lost[1]
        if becomes == "stored" and self.performed(actor) is None:
            return
        if becomes == "late":
            self.late.append(on_its_way(actor))
        lost = Unacknowledged()
        lost.__cause__ = pw.OperationalError("server has gone away")
        self.tell(actor, lost)

    @precondition(lambda self: self.late)
    @rule(which=which)
    def a_write_arrives_late(self, which: int) -> None:
        self.performed(self.late.pop(which % len(self.late)))

    @an_actor(Ask)
    @rule(which=which, trouble=st.sampled_from(["unfit", "unfit", "down", "left"]))
    def the_model_does_not_answer(self, which: int, trouble: str) -> None:
        actor = self.pick(which, Ask)
        if trouble == "unfit":
            self.send(actor, Reply("no JSON"))
        else:
            self.tell(actor, ProviderError("down") if trouble == "down" else Stopped())

    @an_actor(Ask)
    @rule(which=which)
    def the_heart_beats(self, which: int) -> None:
        actor, before = self.pick(which, Ask), self.context
        beats = actor.perform.session.extend(actor.plan.claim_id, LEASE)
        self.look()
        assert beats == self.holds(actor)
        assert self.context.messages == before.messages
        assert not beats or self.has_a_new_lease()

    @an_actor(Ask, *WRITES)
    @rule(which=which)
    def its_process_dies(self, which: int) -> None:
        actor = self.pick(which, Ask, *WRITES)
        self.actors.remove(actor)
        actor.machine.close()

    @precondition(lambda self: any(actor.lost[0] and actor.is_at(Load) for actor in self.actors))
    @rule(which=which)
    def a_read_fails_as_well(self, which: int) -> None:
        actors = [actor for actor in self.actors if actor.lost[0] and actor.is_at(Load)]
        actor = actors[which % len(actors)]
        actor.lost = actor.lost[0], actor.lost[1] + 1
        self.tell(actor, pw.OperationalError("server has gone away"))

    @rule(seconds=st.sampled_from([LEASE / 2, OVER, -3 * LEASE]))
    def time_passes(self, seconds: float) -> None:
        self.time.advance(seconds)

    def teardown(self) -> None:
        """When all have gone and the lease has run out, the next call works."""
        if sys.exc_info()[0] is not None:
            return
        self.actors.clear()
        turn = self.context.turn
        self.time.seconds = max(self.time.seconds, (turn and turn.until) or 0.0) + 1.0
        if turn is not None and turn.status == "pending":
            self.begin("resume", "", None, has_to_return=True)
        elif turn is None:
            self.begin("start", self.new("words"), None, has_to_return=True)
        self.begin("continue", self.new("words"), None, has_to_return=True)

    # How a call is performed.

    def new(self, what: str) -> str:
        self.counted += 1
        return f"{what} {self.counted}"

    def new_words(self, keyed: bool, key: str) -> tuple[str, str | None]:
        if not keyed:
            return self.new("words"), None
        return self.keys.setdefault(key, self.new("words")), key

    def begin(
        self,
        action: str,
        words: str,
        key: str | None,
        run: bool = True,
        patience: float = 0.0,
        upto: Kinds = THE_END,
        has_to_return: bool = False,
    ) -> None:
        plan, _ = plan_turn(self.Chat, words, None, None, None, run, key)
        plan = replace(plan, patience=patience)
        if action == "start":
            own = {"id": self.id} if key is None else None
            session: Any = new_session(self.Chat, self.options, own, None, key)
        else:
            session = open_session(self.Chat, self.options, self.id, None)
        settled = reply_of(self.context, key) if key is not None else None
        perform = Storing(plan.agent, None, session)
        actor = Actor(plan, words, MACHINES[action](plan), perform, plan.turn_id, settled, Load())
        actor.has_to_return = has_to_return
        self.actors.append(actor)
        self.send(actor, None)
        if not actor.is_at(*upto):
            self.run_on(actor, upto)

    def pick(self, which: int, *kinds: type) -> Actor:
        actors = [actor for actor in self.actors if actor.is_at(*(kinds or (object,)))]
        return actors[which % len(actors)]

    def run_on(self, actor: Actor, upto: Kinds) -> None:
        """Until it is about to do one of these, or has ended."""
        for _ in range(MANY):
            self.go_one_on(actor)
            if actor not in self.actors or actor.is_at(*upto):
                return
        raise AssertionError("it never ends")

    def go_one_on(self, actor: Actor) -> None:
        match actor.effect:
            case Ask():
                self.send(actor, Reply(Answer(content=self.new("reply")).model_dump_json()))
            case Wait(left=left):
                self.time.advance(1.0)
                self.send(actor, min(1.0, left))
            case _:
                value = self.performed(actor)
                if value is not None:
                    self.send(actor, value)

    def performed(self, actor: Actor) -> Any:
        """What the effect gives, performed on the database; None if its error ended the call."""
        before, effect = self.context, actor.effect
        try:
            value = actor.perform(effect)
        except Exception as error:
            value = None
            if actor in self.actors:
                self.tell(actor, error)
        self.look()
        if isinstance(effect, Load):
            actor.read_at = self.time.seconds
        if value is True:
            self.has_won(actor, before)
        else:
            assert self.context == before, "who lost has written, or a read has"
        return value

    def send(self, actor: Actor, value: Any) -> None:
        self.step(actor, lambda: actor.machine.send(value))

    def tell(self, actor: Actor, error: BaseException) -> None:
        self.step(actor, lambda: actor.machine.throw(error))

    def step(self, actor: Actor, step: Callable[[], Effect]) -> None:
        try:
            actor.effect = step()
        except StopIteration as ended:
            self.actors.remove(actor)
            self.has_returned(actor, ended.value)
        except (Stopped, Exception) as error:
            self.actors.remove(actor)
            self.has_raised(actor, error)
        else:
            if isinstance(actor.effect, (Insert, Claim)):
                actor.turn_id = actor.effect.change.turn.id
            if isinstance(actor.effect, Ask):
                self.has_asked(actor, actor.effect)

    # What has to be true.

    def look(self) -> None:
        """See whether the row has changed, and that a change loses nothing."""
        rows = list(self.Chat.select().dicts())
        row = rows[0] if rows else None
        if row == self.row:
            return
        assert len(rows) == 1
        before, self.row, self.context = self.context, row, self.Chat.get_context(self.id)
        assert self.context.revision == (before.revision or 0) + 1
        said, already = said_in(self.context), said_in(before)
        assert said[: len(already)] == already
        assert all(len(set(column)) == len(said) for column in list(zip(*said, strict=True))[:2])
        assert self.context.turn is not None
        assert row["status"] == self.context.turn.status
        for message in self.context.messages:
            if message.role == "user":
                self.agrees(message)

    def agrees(self, opening: Any) -> None:
        """A turn is open only if it is the latest; a reply, the user message's mark and the status agree."""
        turn: Any = self.context.turn
        reply = reply_of(self.context, opening.turn)
        mark = opening.metadata.get("status")
        assert mark in (None, "failed", "interrupted")
        if opening.turn != turn.id:
            assert (reply is None) == (mark is not None)
            return
        assert mark == (turn.status if turn.status in ("failed", "interrupted") else None)
        assert (reply is not None) == (turn.status == "completed")
        assert (turn.claim is not None) == (turn.until is not None) == (turn.status == "running")

    def is_held(self, context: Context, now: float) -> bool:
        turn = context.turn
        return turn is not None and turn.until is not None and now < turn.until <= now + 2 * LEASE

    def holds(self, actor: Actor) -> bool:
        return self.context.turn is not None and self.context.turn.claim == actor.plan.claim_id

    def has_a_new_lease(self) -> bool:
        turn = self.context.turn
        return turn is not None and turn.until == pytest.approx(self.time.seconds + LEASE, abs=0.01)

    def has_won(self, actor: Actor, before: Context) -> None:
        """The write of an outsider overtook nobody who was alive, that of a holder was under its claim."""
        effect: Any = actor.effect
        assert self.context.turn is not None
        assert self.context.turn.status == effect.change.turn.status
        assert self.context.revision == (before.revision or 0) + 1
        if isinstance(effect, (Save, Finish)):
            assert before.turn is not None
            assert before.turn.claim == effect.claim == actor.plan.claim_id
            assert isinstance(effect, Finish) or self.has_a_new_lease()
        else:
            assert not self.is_held(before, actor.read_at)
            pending = before.turn is not None and before.turn.status == "pending"
            assert not (pending and effect.change.append)

    def has_asked(self, actor: Actor, ask: Ask) -> None:
        """The words are stored under its claim, the view is valid, and no settled key asks again."""
        assert self.holds(actor)
        assert actor.settled is None
        assert actor.words in ("", opening_of(self.context, actor.turn_id).text)
        view = [(message.role, message.content) for message in ask.view]
        expected = shown(self.context)
        assert view[: len(expected)] == expected
        roles = [role for role, _ in view]
        assert roles == ["system", *["user", "assistant"] * (len(view) // 2 - 1), "user"]
        assert all(content.strip() for _, content in view)

    def has_returned(self, actor: Actor, outcome: Outcome) -> None:
        """What the caller is told is stored."""
        opening = opening_of(self.context, outcome.turn.id)
        assert actor.turn_id == outcome.turn.id
        assert actor.words in ("", opening.text)
        if outcome.result is None:
            assert outcome.turn.status == "pending" or (outcome.turn.status == "running" and actor.plan.keyed)
            assert (actor.plan.run, actor.settled) == (False, None)
        else:
            assert outcome.turn.status == "completed"
            assert reply_of(self.context, outcome.turn.id) == outcome.result.text
            assert actor.settled in (None, outcome.result.text)

    def has_raised(self, actor: Actor, error: BaseException) -> None:
        """What the caller is told is true."""
        turn, opening = self.context.turn, opening_of(self.context, actor.turn_id)
        answers, reads = actor.lost
        away = answers > 1 or reads > 0
        if actor.has_to_return or (actor.settled is not None and not away):
            raise error
        match error:
            case SessionBusy():
                pending = turn is not None and turn.status == "pending"
                assert pending or self.is_held(self.context, self.time.seconds)
                assert not self.holds(actor)
                assert actor.plan.keyed or not actor.words or opening is None, "it says: nothing was stored"
            case NothingToResume():
                assert turn is None or turn.status == "completed"
            case SessionNotFound():
                assert self.row is None
            case LeaseLost(result=result):
                assert actor.plan.run, "the words are stored, and no more was asked for"
                assert not self.holds(actor)
                assert result is None or result.text != reply_of(self.context, actor.turn_id)
            case TurnFailed() | Stopped():
                assert opening.metadata["status"] in ("failed", "interrupted")
            case pw.IntegrityError():
                assert self.row is not None
                assert opening is None
            case StorageFailed() | pw.OperationalError():
                assert away, "one lost answer is made good"
            case _:
                raise error


def said_in(context: Context) -> list[tuple[str, str, str, str]]:
    return [(message.id, message.text, message.role, message.turn) for message in context.messages]


def opening_of(context: Context, turn_id: str) -> Any:
    position = context.opening(turn_id)
    return None if position < 0 else context.messages[position]


def reply_of(context: Context, turn_id: str) -> str | None:
    replies = [each.text for each in context.messages if (each.turn, each.role) == (turn_id, "assistant")]
    assert len(replies) <= 1
    return replies[0] if replies else None


def shown(context: Context) -> list[tuple[str, str]]:
    """What the model has to be shown for the latest turn: those that have a reply, and its words."""
    assert context.turn is not None
    visible = {each.turn for each in context.messages if each.role == "assistant"} | {context.turn.id}
    said = [(each.role, each.text) for each in context.messages if each.turn in visible]
    return [("system", "You help."), *said]


def on_its_way(actor: Actor) -> Actor:
    """The write as the network holds it, apart from what its caller does next."""
    perform = copy(actor.perform)
    perform.session = copy(actor.perform.session)
    perform.session.record = None
    return replace(actor, perform=perform)
