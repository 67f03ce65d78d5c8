"""Several calls on one session, an effect at a time, in any order, and what must be true of them after each.

Each actor drives the machine of one call by hand, an effect at a time, on a real database. Hypothesis
interleaves and drops them, loses what the database answers, delays writes, moves the clock, lets models fail.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import peewee as pw
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from agentsession import _clock
from agentsession._drive.sync import SyncPerformer
from agentsession._store.declared import Declared
from agentsession._store.identity import key_value
from agentsession._store.new_session import new_session
from agentsession._store.session_store import open_session
from agentsession._turn.effects import CallModel, ClaimLost, Interrupted, Load, WriteUnconfirmed
from agentsession.actions.prepare import plan_turn
from agentsession.context import Context
from agentsession.provider import Delta, Reply
from tests.support.invariants import LEASE, reply_of
from tests.support.layouts import all_rows, put_rows
from tests.support.stepped_calls import MACHINES, WRITES, Actor, broken, on_its_way
from tests.support.stepping import Kinds, Stepping

OVER = LEASE + 1.0
START_KEY = "start"
THE_END: Kinds = ()


def an_actor(*kinds: type) -> Callable[[Any], Any]:
    """The rule needs an actor that waits for one of these effects."""
    return precondition(lambda self: any(actor.is_at(*kinds) for actor in self.actors))


room = precondition(lambda self: len(self.actors) < 3)
which = st.integers(0, 2)
upto = st.sampled_from([(object,), (*WRITES, CallModel), (CallModel,), THE_END])
wait = st.sampled_from([0.0, OVER])
mostly = st.sampled_from([True, True, True, False])
patience = st.sampled_from([0.0, 0.0, 2.0])


class Sessions(Stepping, RuleBasedStateMachine):
    """One session and its actors. `row` and `context` are what is stored, as the last look found it."""

    def __init__(self, Chat: Any, time: _clock.FakeClock) -> None:
        super().__init__()
        self.Chat, self.time, self.declared = Chat, time, Declared.of(Chat)
        put_rows(Chat, [])
        self.id = key_value(self.declared, Chat._meta.primary_key, None, START_KEY)
        time.seconds = 1_700_000_000.0
        self.actors: list[Actor] = []
        self.late: list[Actor] = []
        self.keys: dict[str, str] = {}
        self.row: dict[str, Any] | None = None
        self.tables = all_rows(Chat)
        self.context = Context()

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

    @room
    @precondition(lambda self: self.row or self.actors)
    @rule(upto=upto)
    def cancel(self, upto: Kinds) -> None:
        self.begin("cancel", "", None, True, 0.0, upto)

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
        lost = WriteUnconfirmed()
        lost.__cause__ = pw.OperationalError("server has gone away")
        self.tell(actor, lost)

    @precondition(lambda self: self.late)
    @rule(which=which)
    def a_write_arrives_late(self, which: int) -> None:
        self.performed(self.late.pop(which % len(self.late)))

    @an_actor(CallModel)
    @rule(which=which, trouble=st.sampled_from(["unfit", "unfit", "down", "left"]), midway=st.booleans())
    def the_model_does_not_answer(self, which: int, trouble: str, midway: bool = False) -> None:
        actor = self.pick(which, CallModel)
        if trouble == "unfit":
            self.send(actor, Reply(actor.came or "no JSON"))
            return
        actor.came += self.new("piece") + " " if midway else ""
        received = Delta(actor.came)
        self.tell(actor, broken(received) if trouble == "down" else Interrupted("Left", received))

    @an_actor(CallModel)
    @rule(which=which, comes=st.booleans())
    def the_heart_beats(self, which: int, comes: bool) -> None:
        actor, before = self.pick(which, CallModel), self.context
        actor.came += self.new("piece") + " " if comes else ""
        beats = actor.performer.session.extend(actor.plan.claim_id, LEASE, actor.came)
        self.look()
        assert beats == self.holds(actor)
        assert self.context.messages == before.messages
        assert not beats or self.has_a_new_lease()
        assert not beats or self.context.turn.partial == actor.came

    @precondition(lambda self: any(actor.is_at(CallModel) and not self.holds(actor) for actor in self.actors))
    @rule(which=which)
    def it_is_told_that_its_claim_is_gone(self, which: int) -> None:
        actors = [actor for actor in self.actors if actor.is_at(CallModel) and not self.holds(actor)]
        actor = actors[which % len(actors)]
        actor.is_told = True
        self.tell(actor, ClaimLost())

    @an_actor(CallModel, *WRITES)
    @rule(which=which)
    def its_process_dies(self, which: int) -> None:
        actor = self.pick(which, CallModel, *WRITES)
        self.actors.remove(actor)
        actor.machine.close()

    @precondition(lambda self: any(actor.is_looking_again for actor in self.actors))
    @rule(which=which)
    def a_read_fails_as_well(self, which: int) -> None:
        actors = [actor for actor in self.actors if actor.is_looking_again]
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
        declared = Declared.of(self.Chat)
        plan, _ = plan_turn(declared.agent, declared, words, None, None, None, run, key)
        plan = replace(plan, patience=patience)
        if action == "start":
            own = {"id": self.id} if key is None else None
            session: Any = new_session(declared, own, None, key)
        else:
            session = open_session(declared, self.id, None)
        settled = reply_of(self.context, key) if key is not None else None
        performer = SyncPerformer(plan.agent, None, session)
        actor = Actor(action, plan, words, MACHINES[action](plan), performer, plan.turn_id, settled, Load())
        actor.has_to_return = has_to_return
        self.actors.append(actor)
        self.send(actor, None)
        if not actor.is_at(*upto):
            self.run_on(actor, upto)

    def pick(self, which: int, *kinds: type) -> Actor:
        actors = [actor for actor in self.actors if actor.is_at(*(kinds or (object,)))]
        return actors[which % len(actors)]
