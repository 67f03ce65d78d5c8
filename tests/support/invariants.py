"""Invariants of a session, checked after each effect while several calls run on it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import peewee as pw
import pytest

from agentsession import (
    LeaseLost,
    NoResult,
    NothingToResume,
    SessionBusy,
    SessionNotFound,
    StorageFailed,
    TurnCancelled,
    TurnFailed,
    _clock,
)
from agentsession._turn.effects import CallModel, Finish, Interrupted, Outcome, Save
from agentsession.context import Context, Message
from tests.support.layouts import Tables, all_rows
from tests.support.stepped_calls import Actor

LEASE = 30.0
CANCELLED = TurnCancelled.__name__


def as_stored(context: Context) -> Context:
    """The context with the stored status of its turn: one whose lease is over reads as interrupted."""
    turn = context.turn
    if turn is None or not turn.is_abandoned:
        return context
    return msgspec.structs.replace(context, turn=msgspec.structs.replace(turn, status="running"))


class Truths:
    """One session. `row`, `context` and `tables` are what is stored, as the last look found it."""

    Chat: Any
    id: Any
    time: _clock.FakeClock
    tables: Tables
    row: dict[str, Any] | None
    context: Context

    def look(self) -> None:
        """See whether what is stored has changed, and that a change loses nothing."""
        tables = all_rows(self.Chat)
        if tables == self.tables:
            return
        (row,), self.tables = tables[0], tables
        before, self.row, self.context = self.context, row, as_stored(self.Chat.get_context(self.id))
        assert self.context.revision == (before.revision or 0) + 1
        said = said_in(self.context)
        already = [each for each in said_in(before) if each in said or not self.was_put_aside(each, before)]
        assert said[: len(already)] == already
        assert all(len(set(column)) == len(said) for column in list(zip(*said, strict=True))[:2])
        self.keeps_what_had_come(before)
        assert self.context.turn is not None
        assert row["status"] == self.context.turn.status
        self.agrees_with_its_head(row["context"])
        for message in self.context.messages:
            if message.role == "user":
                self.agrees(message)

    def agrees_with_its_head(self, head: dict[str, Any]) -> None:
        """What the context attribute says of messages that are elsewhere."""
        if head["layout"] != "rows":
            return
        messages = self.context.messages
        roles = [message.role for message in messages]
        assert (head["count"], head["turns"]) == (len(messages), roles.count("user"))
        assert [message.id for message in messages] == [f"{m.turn}:{n}" for n, m in enumerate(messages)]
        replied = [each.text for each in messages if each.role == "assistant" and not is_partial(each)]
        assert head.get("reply", {}).get("content") == (replied[-1] if replied else None)

    def was_put_aside(self, said: tuple[str, ...], before: Context) -> bool:
        """Was it the partial reply of the turn that is run again now? Its text is kept with the words."""
        last, opening = before.messages[-1], self.context.opening(said[-1])
        assert said == said_in(before)[-1], "an earlier message is gone"
        assert is_partial(last), "a whole message is gone"
        return bool(opening.metadata["partials"][-1] == last.text)

    def keeps_what_had_come(self, before: Context) -> None:
        """The partial text of a running reply, unless that is whole now."""
        for earlier in before.messages:
            if earlier.role == "user":
                put_aside = self.context.opening(earlier.turn).metadata.get("partials", [])
                already = earlier.metadata.get("partials", [])
                assert put_aside[: len(already)] == already
        turn, now = before.turn, self.context.turn
        if turn is None or not turn.partial or reply_of(self.context, turn.id) is not None:
            return
        opening = self.context.opening(turn.id)
        if now is not None and now.claim == turn.claim:
            tried = before.opening(turn.id).metadata.get("attempts", [])
            is_tried = len(opening.metadata.get("attempts", [])) > len(tried)
            assert now.partial.startswith(turn.partial) or (is_tried and not now.partial)
            return
        left = [message.text for message in partials_of(self.context, turn.id)]
        assert any(text.startswith(turn.partial) for text in [*left, *opening.metadata.get("partials", [])])

    def agrees(self, opening: Any) -> None:
        """A turn is open only if it is the latest; a reply, the user message's mark and the status agree."""
        turn: Any = self.context.turn
        reply, partials = reply_of(self.context, opening.turn), partials_of(self.context, opening.turn)
        mark = opening.metadata.get("status")
        assert mark in (None, "failed", "interrupted")
        assert [partial.metadata["status"] for partial in partials] in ([], [mark])
        come = [*opening.metadata.get("partials", []), *(partial.text for partial in partials)]
        assert not any(later.startswith(one) for one, later in pairwise(come)), "it is kept twice"
        if opening.turn != turn.id:
            assert (reply is None) == (mark is not None)
            return
        assert mark == (turn.status if turn.status in ("failed", "interrupted") else None)
        assert (reply is not None) == (turn.status == "completed")
        assert (turn.claim is not None) == (turn.until is not None) == (turn.status == "running")
        assert not turn.partial or turn.status == "running"

    def is_held(self, context: Context, now: float) -> bool:
        turn = context.turn
        return turn is not None and turn.until is not None and now < turn.until <= now + 2 * LEASE

    def holds(self, actor: Actor) -> bool:
        return self.context.turn is not None and self.context.turn.claim == actor.plan.claim_id

    def has_a_new_lease(self) -> bool:
        turn = self.context.turn
        return turn is not None and turn.until == pytest.approx(self.time.seconds + LEASE, abs=0.01)

    def has_won(self, actor: Actor, before: Context) -> None:
        """The write of an outsider overtook nobody who was alive, unless it cancels; that of a holder was
        under its claim."""
        effect: Any = actor.effect
        assert self.context.turn is not None
        assert self.context.turn.status == effect.change.turn.status
        assert self.context.revision == (before.revision or 0) + 1
        actor.won_at = self.context.revision
        if isinstance(effect, (Save, Finish)):
            assert before.turn is not None
            assert before.turn.claim == effect.claim == actor.plan.claim_id
            assert isinstance(effect, Finish) or self.has_a_new_lease()
        elif actor.action == "cancel":
            assert before.turn is not None
            assert before.turn.is_open
            assert self.context.turn.status == "interrupted"
        else:
            reads = [at for revision, at in actor.reads if revision == before.revision]
            assert not reads or not all(self.is_held(before, at) for at in reads)
            pending = before.turn is not None and before.turn.status == "pending"
            assert not (pending and effect.change.append)

    def has_asked(self, actor: Actor, ask: CallModel) -> None:
        """The user's message is stored under its claim, the prompt is valid, and no settled key asks again.
        An actor that pauses before the call may have been overtaken."""
        assert actor.settled is None
        assert actor.words in ("", self.context.opening(actor.turn_id).text)
        prompt = [(message.role, message.content) for message in ask.prompt]
        if self.holds(actor):
            expected = shown(self.context)
            assert prompt[: len(expected)] == expected
        else:
            assert (self.context.revision or 0) > actor.won_at
        roles = [role for role, _ in prompt]
        assert roles == ["system", *["user", "assistant"] * (len(prompt) // 2 - 1), "user"]
        assert all(content.strip() for _, content in prompt)

    def has_returned(self, actor: Actor, outcome: Outcome) -> None:
        """What the caller is told is stored."""
        opening = self.context.opening(outcome.turn.id)
        if actor.action == "cancel":
            assert not outcome.turn.is_open
            mark = opening.metadata.get("status")
            assert outcome.turn.status == (mark or "completed")
            return
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
        turn, opening = self.context.turn, self.context.opening(actor.turn_id)
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
            case SessionNotFound() | NoResult():
                assert self.row is None
            case LeaseLost(result=result) | TurnCancelled(result=result):
                self.has_lost(actor, opening, error, result)
            case TurnFailed() | Interrupted():
                assert opening.metadata["status"] in ("failed", "interrupted")
                left = [partial.text for partial in partials_of(self.context, actor.turn_id)]
                assert not actor.won_at or left == ([actor.came] if actor.came else [])
            case pw.IntegrityError():
                assert self.row is not None
                assert opening is None
            case StorageFailed():
                assert away, "one lost answer is made good"
                assert actor.is_told or (error.result and error.result.text) == actor.answered
            case pw.OperationalError():
                assert away, "one lost answer is made good"
                assert actor.answered is None
                assert not actor.is_told, "the model was asked"
            case _:
                raise error

    def has_lost(self, actor: Actor, opening: Any, error: BaseException, result: Any) -> None:
        """Another has ended its claim: who cancelled it, or who took it over."""
        assert actor.plan.run, "the words are stored, and no more was asked for"
        assert not self.holds(actor)
        assert (result and result.text) == actor.answered
        assert result is None or result.text != reply_of(self.context, actor.turn_id)
        why = opening.metadata.get("error", {}).get("type")
        assert (why == CANCELLED) == isinstance(error, TurnCancelled)


def said_in(context: Context) -> list[tuple[str, str, str, str]]:
    return [(message.id, message.text, message.role, message.turn) for message in context.messages]


def is_partial(message: Message) -> bool:
    return message.role == "assistant" and "status" in message.metadata


def partials_of(context: Context, turn_id: str) -> list[Message]:
    return [message for message in context.messages if message.turn == turn_id and is_partial(message)]


def reply_of(context: Context, turn_id: str) -> str | None:
    """The whole reply, next to which there is no other."""
    replies = [each for each in context.messages if (each.turn, each.role) == (turn_id, "assistant")]
    assert len(replies) <= 1
    return replies[0].text if replies and not is_partial(replies[0]) else None


def shown(context: Context) -> list[tuple[str, str]]:
    """What the model has to be shown for the latest turn: those that have a reply, or were interrupted in the
    middle of one, and its words."""
    assert context.turn is not None
    spoken = [each for each in context.messages if each.role == "assistant"]
    visible = {each.turn for each in spoken if each.metadata.get("status") != "failed"} | {context.turn.id}
    said = [(each.role, each.text) for each in context.messages if each.turn in visible]
    return [("system", "You help."), *said]
