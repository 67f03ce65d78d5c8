"""Turns with tools, played by hand: processes that die or are left after any effect, and what must be true.

Hypothesis chooses what the model asks for, what becomes of each call and in which order, where a process ends
and what the next one does. The store is one in memory; a tool "runs" by being counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from agentsession import AgentSessionError, Halt, ProviderCallError, TurnFailed
from agentsession._turn import machine
from agentsession._turn.approvals import store_decision
from agentsession._turn.effects import (
    CallModel,
    Emit,
    Hook,
    Interrupted,
    Machine,
    Outcome,
    Prepare,
    ProviderCallFailed,
    Ready,
    Run,
    RunTools,
    ToolResult,
)
from agentsession._turn.model_io import Delta, Prompt, Reply
from agentsession._turn.plan import Plan
from agentsession._turn.prompt_messages import build_prompt, select_visible
from agentsession._turn.tool_messages import as_object, calls_of, is_step, results_of
from agentsession._turn_state import AWAITING, ApprovalState
from agentsession.context import Context, Message
from agentsession.events import ApprovalNeeded, ToolFinished
from tests.support.requested_tools import REPLIES
from tests.support.valid_prompts import assert_can_be_asked, assert_valid

LEASE = 30.0
PROCESSES = 7
"""That may end early; those after them run to the end."""

OUTCOMES = ["completed", "completed", "limited", "empty", "failed", "timed_out", "halt", "halt_badly"]
DECISIONS = ["approved", "approved", "rejected", "edited", "left"]
ENDS = ["before", "after", "left", *[""] * 27]


class Play:
    """One session. `begun` counts how often each call was begun, `given` are its arguments. `wanted` are the
    decisions that somebody made, `decided` those that are stored."""

    def __init__(self, agent: Any, data: Any, store: Any) -> None:
        self.agent, self.store = agent, store
        self.draw = data.draw
        self.begun: Counter[str] = Counter()
        self.given: dict[str, Any] = {}
        self.wanted: list[ApprovalState] = []
        self.decided: dict[str, ApprovalState] = {}
        self.context = Context()
        self.number = 0

    @property
    def is_calm(self) -> bool:
        return self.number > PROCESSES

    def choose(self, among: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(among))

    def plan(self, words: str = "") -> Plan:
        return Plan(self.agent, f"t{self.number}", f"c{self.number}", lease=LEASE, content=words)

    def play(self) -> None:
        """One process after the other, until a turn is completed and none is to follow."""
        for self.number in range(1, PROCESSES + 8):
            turn = self.context.turn
            if turn is not None and turn.status == "completed" and (self.is_calm or self.choose([0, 0, 1])):
                break
            self.next_process()
        turn = self.context.turn
        assert turn is not None
        assert turn.status == "completed"
        self.every_prefix_can_be_shown()

    def next_process(self) -> None:
        turn, words = self.context.turn, f"words {self.number}"
        if turn is None:
            self.check_end(self.perform(machine.start(self.plan(words))))
            return
        if turn.status == AWAITING:
            self.decide()
            turn = self.context.turn
            assert turn is not None
            if turn.pending_approvals(self.store.now):  # somebody died who wanted to decide
                self.store.now += 0 if turn.until is None else 100
        elif turn.status == "running":
            self.store.now += LEASE + 1
        is_next = turn.status == "completed" or (not self.is_calm and self.choose([0, 0, 0, 1]))
        action = machine.continue_(self.plan(words)) if is_next else machine.resume(self.plan())
        self.check_end(self.perform(action))

    def decide(self) -> None:
        """Somebody decides about the calls that wait, or lets the time for one run out."""
        assert self.context.turn is not None
        for asked in self.context.turn.pending_approvals(self.store.now):
            how = self.choose(DECISIONS) if not self.is_calm else "approved"
            if how == "left" and self.context.turn.until is not None:
                continue
            changes = {
                "rejected": {"status": "rejected", "reason": "no"},
                "edited": {"status": "approved", "edited": '{"n":5}'},
            }.get(how, {"status": "approved"})
            after = msgspec.structs.replace(asked, **changes)
            self.wanted.append(after)
            ended = self.perform(store_decision(asked.call, lambda _, after=after: after))
            assert ended is None or self.decided[asked.call] == after

    def perform(self, machine: Machine) -> Outcome | BaseException | None:
        """The effects of one process: gives its outcome or error, None if it died."""
        running: dict[str, Run] = {}
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                effect = machine.send(value) if error is None else machine.throw(error)
            except StopIteration as ended:
                outcome: Outcome = ended.value
                return outcome
            except (Interrupted, AgentSessionError) as failed:
                self.what_came_is_stored(failed)
                return failed
            value = error = None
            end = "" if self.is_calm else self.choose(ENDS)
            if end == "before":
                machine.close()
                return None
            match effect:
                case Emit(event):
                    self.told(event)
                case Prepare():
                    value = Ready(self.store.now, 0.0)
                case Hook(function, given):
                    value = function(given)
                case CallModel(shown):
                    self.asked(shown)
                    value = Reply("done") if self.is_calm else self.draw(REPLIES)
                    if end == "left":
                        error = Interrupted("Left", Delta(self.choose(["", "half"])))
                    elif not self.is_calm and self.choose([False] * 15 + [True]):
                        error = ProviderCallFailed(Delta("hal"))
                        error.__cause__ = ProviderCallError("down")
                case RunTools(_, calls):
                    self.begin(calls, running)
                    value = self.ended(running)
                    if end == "left":
                        error = Interrupted("Left", ran=tuple(each for each in value if each.halt is None))
                case _:
                    value = self.store.perform(effect)
                    self.look()
            if end == "after":
                machine.close()
                return None

    def begin(self, calls: Sequence[Run], running: dict[str, Run]) -> None:
        """Only what may run does: it is stored, has no result, and was not begun, or may be again."""
        assert calls or running
        assert not (calls and running)
        known = {call.key: call for step in self.steps for call in calls_of(step)}
        results = results_of(self.context.messages)
        for run in calls:
            assert run.call in known, "its step is not stored"
            assert run.call not in results, "it has a result"
            assert run.call not in running
            assert run.tool.idempotent or not self.begun[run.call]
            given, decision = known[run.call].arguments, self.decided.get(run.call)
            needs = run.tool.needs_approval
            if needs(as_object(given)) if callable(needs) else needs:
                assert decision is not None
                assert decision.status == "approved"
            assert decision is not None or run.tool.idempotent or not self.ran_before(run)
            edited = decision.edited if decision is not None else None
            assert run.plain_arguments.items() >= json.loads(edited or given or "{}").items()
            self.begun[run.call] += 1
            self.given[run.call] = run.plain_arguments
            running[run.call] = run

    def ran_before(self, run: Run) -> bool:
        """Has a call with equal arguments run in this turn, or may it have run?"""
        results, turn = results_of(self.context.messages), run.call.partition(":")[0]
        for call in (call for step in self.steps if step.turn == turn for call in calls_of(step)):
            if call.key == run.call or call.tool != run.tool.name or call.key not in self.given:
                continue
            outcome = results[call.key].metadata["outcome"] if call.key in results else "running"
            if outcome != "failed" and self.given[call.key] == run.plain_arguments:
                return True
        return False

    def ended(self, running: dict[str, Run]) -> tuple[ToolResult, ...]:
        """Some of those that run, in any order."""
        order = self.draw(st.permutations(sorted(running)))
        some = order[: self.draw(st.integers(1, len(order)))]
        return tuple(self.outcome(running.pop(key)) for key in some)

    def outcome(self, run: Run) -> ToolResult:
        how = "completed" if self.is_calm else self.choose(OUTCOMES)
        halt = {"halt": Halt("bye"), "halt_badly": Halt(" ")}.get(how)
        text = {"empty": "", "halt": "", "halt_badly": ""}.get(how, f"{how} {run.call}")
        outcome = how if how in ("failed", "timed_out") else "completed"
        return ToolResult(
            run.call, run.tool.name, outcome, text, "less" if how == "limited" else None, 0.1, halt
        )

    @property
    def steps(self) -> list[Message]:
        return [message for message in self.context.messages if is_step(message)]

    def look(self) -> None:
        """What was stored is there still, in order; each call has one result at most, in its turn."""
        now, before = self.store.context, self.context
        if now is None or now == before:
            return
        self.context = now
        kept = list(before.messages)
        if now.messages[: len(kept)] != before.messages and len(now.messages) < len(kept):
            gone = kept.pop()
            assert gone.metadata["status"] in ("failed", "interrupted")
            assert gone.role == "assistant"
            assert not gone.text or now.opening(gone.turn).metadata["partials"][-1] == gone.text
        for old, new in zip(kept, now.messages, strict=False):
            assert (old.id, old.turn, old.role, old.content) == (new.id, new.turn, new.role, new.content)
            assert old.role == "user" or old.metadata == new.metadata
        assert len({message.id for message in now.messages}) == len(now.messages)
        calls = [call.key for step in self.steps for call in calls_of(step)]
        assert len(set(calls)) == len(calls)
        results = [message for message in now.messages if message.role == "tool"]
        keys = [part["call"] for message in results for part in message.parts("tool_result")]
        assert len(set(keys)) == len(keys) == len(results)
        assert {*keys} <= {*calls}
        for key, message in zip(keys, results, strict=True):
            assert key.startswith(f"{message.turn}:")
            self.is_true(key, message)
        for each in now.turn.approvals if now.turn is not None else ():
            asked = msgspec.structs.replace(each, begun=False)
            is_late = asked.status == "rejected" and asked.reason.startswith("nobody")
            assert asked.status == "pending" or asked in self.wanted or is_late
            assert asked == self.decided.get(asked.call, asked), "a decision has changed"
            self.decided |= {} if asked.status == "pending" else {asked.call: asked}
        assert_valid(self.shown(now.messages))

    def is_true(self, key: str, result: Message) -> None:
        outcome, decision = result.metadata["outcome"], self.decided.get(key)
        if decision is not None and decision.status == "rejected":
            assert outcome == "rejected"
            assert not self.begun[key]
            assert result.metadata["approval"]["status"] == "rejected"
        if outcome in ("completed", "timed_out"):
            assert self.begun[key]
        if outcome == "repeated":
            assert decision is None
            assert not self.begun[key]
        if decision is not None and decision.edited and outcome != "rejected":
            assert result.metadata["approval"]["edited"] == decision.edited

    def asked(self, shown: Prompt) -> None:
        """Every call of the turn is answered, by what is stored; the words are shown."""
        assert_can_be_asked(shown)
        turn: Any = self.context.turn
        assert turn.status == "running"
        steps = [step for step in self.steps if step.turn == turn.id]
        results = results_of(self.context.messages)
        answers = [results[call.key] for step in steps for call in calls_of(step)]
        told = [each.content for each in shown if each.role == "tool"][-len(answers) or len(shown) :]
        for result, each in zip(answers, told, strict=True):
            (part,) = result.parts("tool_result")
            edited = result.metadata.get("approval", {}).get("edited", "")
            assert edited in each, "the model is not told what was run"
            assert each.strip().endswith(
                part.get("shown", part["content"]).strip() or "(no text)" * (not edited)
            )
        assert any(self.context.opening(turn.id).text in each.content for each in shown)

    def told(self, event: Any) -> None:
        """What a stream tells is stored."""
        if isinstance(event, ToolFinished):
            result = results_of(self.context.messages)[event.call]
            assert result.metadata["outcome"] == event.outcome
        if isinstance(event, ApprovalNeeded):
            assert self.context.turn is not None
            assert event.call in {asked.call for asked in self.context.turn.approvals}

    def what_came_is_stored(self, error: BaseException) -> None:
        if not isinstance(error, Interrupted):
            return
        results = results_of(self.context.messages)
        for ran in error.ran:
            assert ran.text in results[ran.call].text
            assert results[ran.call].metadata["outcome"] == ran.outcome
        assert not error.received or self.context.messages[-1].text == error.received.text

    def check_end(self, ended: Outcome | BaseException | None) -> None:
        """What a caller is told is stored."""
        turn: Any = self.context.turn
        if isinstance(ended, Outcome):
            assert turn.status == ended.turn.status in ("completed", AWAITING)
            assert ended.result is None or self.context.messages[-1].text == ended.result.text
        elif isinstance(ended, TurnFailed):
            assert turn.status == "failed"
        if turn is not None and turn.status == "completed":
            calls = {call.key for step in self.steps if step.turn == turn.id for call in calls_of(step)}
            assert calls <= results_of(self.context.messages).keys()

    def every_prefix_can_be_shown(self) -> None:
        words = Message("new:0", "new", "user", "And now?")
        for length in range(len(self.context.messages) + 1):
            assert_can_be_asked(self.shown([*self.context.messages[:length], words]))

    def shown(self, messages: Sequence[Message]) -> Prompt:
        return build_prompt(select_visible(messages), "You help.", self.agent.input, "echo:")
