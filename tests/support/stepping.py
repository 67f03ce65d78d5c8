"""How a call is taken on, an effect at a time, and looked at after each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentsession._turn.effects import CallModel, Claim, Effect, Emit, Insert, Interrupted, Load, Wait
from agentsession.provider import Reply
from tests.support.invariants import Truths
from tests.support.models import Answer
from tests.support.stepped_calls import Actor

MANY = 60
Kinds = tuple[type, ...]


class Stepping(Truths):
    """The calls in progress, on one session."""

    actors: list[Actor]
    counted: int = 0

    def new(self, what: str) -> str:
        self.counted += 1
        return f"{what} {self.counted}"

    def run_on(self, actor: Actor, upto: Kinds) -> None:
        """Until it is about to do one of these, or has ended."""
        for _ in range(MANY):
            self.go_one_on(actor)
            if actor not in self.actors or actor.is_at(*upto):
                return
        raise AssertionError("it never ends")

    def go_one_on(self, actor: Actor) -> None:
        match actor.effect:
            case CallModel():
                actor.answered = Answer(content=self.new("reply")).model_dump_json()
                self.send(actor, Reply(actor.answered))
            case Emit():
                self.send(actor, None)
            case Wait(remaining=remaining):
                self.time.advance(1.0)
                self.send(actor, min(1.0, remaining))
            case _:
                value = self.performed(actor)
                if value is not None:
                    self.send(actor, value)

    def performed(self, actor: Actor) -> Any:
        """What the effect gives, performed on the database; None if its error ended the call."""
        before, effect = self.context, actor.effect
        try:
            value = actor.performer.perform(effect)
        except Exception as error:
            value = None
            if actor in self.actors:
                self.tell(actor, error)
        self.look()
        if isinstance(effect, Load) and value is not None:
            actor.reads.append((self.context.revision, self.time.seconds))
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
        except (Interrupted, Exception) as error:
            self.actors.remove(actor)
            self.has_raised(actor, error)
        else:
            if actor.is_at(Insert, Claim):
                actor.turn_id = actor.effect.change.turn.id
            if isinstance(actor.effect, CallModel):
                actor.came = ""
                self.has_asked(actor, actor.effect)
