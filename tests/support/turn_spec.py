"""What must be stored and shown after each call on a session, as a small specification over `Said`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from agentsession import (
    IdempotencyMismatch,
    NoResult,
    NothingToResume,
    OutputInvalid,
    ProviderCallError,
    ProviderFailed,
    SessionBusy,
    TurnFailed,
)
from tests.support.models import Answer

KEY = "the request's key"
WAYS = ("plain", "async", "stream", "async_stream")


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
    """A turn as the specification sees it. `alive`: it is running, and its lease has not run out. `partial`:
    what had come of a reply that is not whole, `put_aside`: the same of earlier runs.
    """

    words: str
    status: str
    reply: str | None = None
    key: str | None = None
    alive: bool = False
    partial: str = ""
    put_aside: tuple[str, ...] = ()

    @property
    def texts(self) -> list[str]:
        """Its messages."""
        came = self.partial if self.status != "running" else ""
        return [self.words, *filter(None, [self.reply, came])]

    @property
    def is_shown(self) -> bool:
        """Is it shown to the model in later turns?"""
        return self.reply is not None or (self.status == "interrupted" and self.partial != "")

    def again(self) -> Said:
        """As it is when it is run again, without a reply yet."""
        put_aside = (*self.put_aside, *filter(None, [self.partial]))
        return Said(self.words, "pending", key=self.key, put_aside=put_aside)


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
    "is_down": Model((("half ", "said", ProviderCallError("down")),), "failed", ProviderFailed),
    "is_left": Model((("half ", "said", KeyboardInterrupt()),), "interrupted", KeyboardInterrupt),
    "is_not_asked": Model((), "pending"),
}


@dataclass(frozen=True)
class Case:
    """A call that is stopped, the turn that stands before it, what the model does, the model's options, and
    the way in which every call is made."""

    action: str
    run: bool
    before: str
    model: str
    keyed: bool
    status: bool
    way: str = "plain"

    def __str__(self) -> str:
        action = self.action if self.run else f"{self.action}_later"
        marks = ("keyed", "" if self.status else "without_status")[not self.keyed :]
        return "-".join(
            [action, f"after_{self.before}", f"model_{self.model}", *filter(None, marks), self.way]
        )

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

    @property
    def streams(self) -> bool:
        return "stream" in self.way


def after_effects(case: Case, turns: Turns, effects: list[str]) -> Turns:
    """The turns that are stored when the call has performed these effects."""
    if not {"Insert", "Claim"} & {*effects}:
        return turns
    model = MODELS[case.model]
    begun = turns[-1].again() if case.action == "resume" else Said(case.call.words, "pending", key=case.key)
    begun = replace(begun, key=case.key, status="running" if case.run else "pending", alive=case.run)
    if "Finish" in effects:
        reply = model.replies[-1] if model.status == "completed" else None
        came = "half said" if case.streams and model.error in (ProviderFailed, KeyboardInterrupt) else ""
        begun = replace(begun, status=model.status, reply=reply, alive=False, partial=came)
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
        return (*closed(turns), ended(call, Said(call.words, "pending"), reply))
    elif same.words != call.words:
        return IdempotencyMismatch
    elif same.reply is not None:
        return turns
    if same is not latest:
        return TurnFailed
    return SessionBusy if same.alive else (*turns[:-1], ended(call, same.again(), reply))


def ended(call: Call, turn: Said, reply: str) -> Said:
    turn = replace(turn, key=turn.key or call.key)
    return replace(turn, status="completed", reply=reply) if call.run else turn


def closed(turns: Turns) -> Turns:
    """The turns before a new one: one that was abandoned is interrupted."""
    if not turns or turns[-1].status != "running":
        return turns
    return (*turns[:-1], replace(turns[-1], status="interrupted", alive=False))


def shown(turns: Turns) -> list[tuple[str, str]]:
    """What the model is shown for the last of these turns: those that brought text, and its words."""
    before = [zip(("user", "assistant"), turn.texts, strict=True) for turn in turns[:-1] if turn.is_shown]
    return [("system", "You help."), *(each for turn in before for each in turn), ("user", turns[-1].words)]
