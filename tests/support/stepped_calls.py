"""A call in progress, whose machine is driven by hand, an effect at a time."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace

from agentsession import ProviderCallError
from agentsession._drive.sync import SyncPerformer
from agentsession._turn import machine
from agentsession._turn.effects import Claim, Effect, Finish, Insert, Load, Machine, ProviderCallFailed, Save
from agentsession._turn.model_io import NO_DELTA
from agentsession._turn.plan import Plan
from agentsession.provider import Delta

WRITES = (Insert, Claim, Save, Finish)
MACHINES = {
    "start": machine.start,
    "continue": machine.continue_,
    "resume": machine.resume,
    "cancel": lambda plan: machine.cancel(),
}


@dataclass(eq=False)
class Actor:
    """One call in progress. `effect` is what its machine waits for.

    `turn_id`: the turn that it is about, once that is known. `settled`: the reply that its key had already.
    `reads`: the revisions that it has read, and when. `won_at`: the revision of its claim. `came`: what has
    come of the reply, `answered`: the whole reply, if it fits. `is_told`: that its claim is gone. `lost`: the
    answers and reads that the database lost.
    """

    action: str
    plan: Plan
    words: str
    machine: Machine
    performer: SyncPerformer
    turn_id: str
    settled: str | None
    effect: Effect
    reads: list[tuple[int | None, float]] = field(default_factory=list)
    won_at: int = 0
    came: str = ""
    answered: str | None = None
    is_told: bool = False
    lost: tuple[int, int] = (0, 0)
    has_to_return: bool = False

    def is_at(self, *kinds: type) -> bool:
        return isinstance(self.effect, kinds)

    @property
    def is_looking_again(self) -> bool:
        """It reads to see what has become of its write, or of its claim."""
        return self.is_at(Load) and (self.lost[0] > 0 or self.is_told)


def broken(received: Delta = NO_DELTA) -> ProviderCallFailed:
    """What a driver makes of a provider's error."""
    error = ProviderCallFailed(received)
    error.__cause__ = ProviderCallError("down")
    return error


def on_its_way(actor: Actor) -> Actor:
    """The write as the network holds it, apart from what its caller does next."""
    performer = copy(actor.performer)
    performer.session = copy(actor.performer.session)
    performer.session.record = None
    return replace(actor, performer=performer)
