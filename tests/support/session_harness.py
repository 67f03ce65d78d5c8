"""A real session on a real database, on which calls are stopped and made, and what is stored is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agentsession import NoResult, _clock, testing
from tests.support.layouts import Tables, all_rows, put_rows
from tests.support.models import Answer, chat_model
from tests.support.turn_spec import MODELS, Call, Case, Model, Said, Turns, answer, expected, shown

LEASE = 30.0
OVER = LEASE + 1.0
NOW = 1_700_000_000.0


@contextmanager
def a_world(database: Any, case: Case) -> Iterator[World]:
    time = _clock.FakeClock(NOW)
    token = _clock.fake.set(time)
    options = {"lease": LEASE, "status_attribute": "status" if case.status else None}
    try:
        with database.connection_context(), asyncio.Runner() as runner:
            yield World(chat_model(database, output_schema=Answer, session=options), case, time, runner)
    finally:
        _clock.fake.reset(token)


@dataclass
class World:
    """A table with at most one session, a clock that stands still, and calls whose effect is checked.

    `row` is what is stored, and `tables` with its messages, as the last look found them.
    """

    Chat: Any
    case: Case
    clock: _clock.FakeClock
    runner: asyncio.Runner
    row: dict[str, Any] | None = None
    tables: Tables = field(default_factory=list)
    made: int = 0

    def look(self) -> dict[str, Any]:
        self.tables = all_rows(self.Chat)
        (self.row,) = self.tables[0]
        assert self.row is not None
        return self.row

    def moment(self) -> tuple[Tables, float]:
        return self.tables, self.clock.seconds

    def go_back(self, moment: tuple[Tables, float]) -> None:
        self.tables, self.clock.seconds = moment
        (self.row,) = self.tables[0] if self.tables else (None,)
        put_rows(self.Chat, self.tables)

    def wait(self, turns: Turns, seconds: float) -> Turns:
        self.clock.advance(seconds)
        return tuple(replace(turn, alive=turn.alive and seconds < OVER) for turn in turns)

    def say(self, call: Call) -> Any:
        key = self.row["id"] if self.row is not None else None
        first = (call.words,) if call.action == "start" else (key, call.words)
        if call.action == "resume":
            return self.act("resume_session", key)
        options = {"idempotency_key": call.key} | ({} if call.run else {"run": False})
        return self.act(f"{call.action}_session", *first, **options)

    def act(self, name: str, *arguments: Any, **options: Any) -> Any:
        """In the way of the case; what is run later there is nothing to stream of."""
        way = self.case.way
        if "async" in way:
            said = self.on_a_loop(name, *arguments, **options)
            return self.runner.run(said, context=copy_context())
        if way == "plain" or "run" in options:
            return getattr(self.Chat, name)(*arguments, **options)
        with getattr(self.Chat, f"stream_{name}")(*arguments, **options) as stream:
            for _ in stream:
                pass
            return stream.session

    async def on_a_loop(self, name: str, *arguments: Any, **options: Any) -> Any:
        if self.case.way == "async" or "run" in options:
            return await getattr(self.Chat, f"a{name}")(*arguments, **options)
        async with getattr(self.Chat, f"astream_{name}")(*arguments, **options) as stream:
            async for _ in stream:
                pass
            return stream.session

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
        came = "half said" if case.streams and case.before in ("failed", "interrupted") else ""
        turns = (*turns, Said("Before", status, key=key, partial=came))
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
        reply, before = answer(f"reply {self.made}"), self.tables
        after = expected(call, turns, reply)
        if isinstance(after, tuple):
            asks = any(turn.reply == reply for turn in after)
            with testing.script(self.Chat, [reply] if asks else []) as prompts:
                record = self.say(call)
            assert [[(message.role, message.content) for message in prompt] for prompt in prompts] == (
                [shown(after)] if asks else []
            )
            self.check(after)
            self.check_returned(record, call, after)
        else:
            with testing.script(self.Chat, []), pytest.raises(after):
                self.say(call)
            after = turns
            self.check(after)
        assert after != turns or self.tables == before
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
        assert record.context | {"revision": 0} == self.row["context"] | {"revision": 0}
        assert record.status == self.row["status"]

    def what_came(self, turns: Turns) -> Turns:
        """The turns with the partial text that is stored of the last: how much it is depends on the time."""
        turn = self.Chat.get_context(self.look()["id"]).turn
        text = turn.partial if turn is not None else ""
        replies = MODELS[self.case.model].replies
        assert not text or any(all_of(reply).startswith(text) for reply in replies)
        return (*turns[:-1], replace(turns[-1], partial=text)) if text else turns

    def check(self, turns: Turns) -> None:
        """These turns are stored, and the row agrees with itself."""
        row = self.look()
        context = self.Chat.get_context(row["id"])
        said = [text for turn in turns for text in turn.texts]
        assert [message.text for message in context.messages] == said
        assert len({message.id for message in context.messages}) == len(said)
        openings = [message for message in context.messages if message.role == "user"]
        assert len({opening.turn for opening in openings}) == len(turns)
        for opening, turn in zip(openings, turns, strict=True):
            hidden = turn.status if turn.status in ("failed", "interrupted") else None
            marks = [each.metadata.get("status") for each in context.messages if each.turn == opening.turn]
            assert marks == [hidden] * len(turn.texts)
            assert tuple(opening.metadata.get("partials", ())) == turn.put_aside
            assert ("error" in opening.metadata) == (hidden is not None)
        self.check_latest(row, context.turn, openings[-1], turns)

    def check_latest(self, row: dict[str, Any], turn: Any, opening: Any, turns: Turns) -> None:
        latest = turns[-1]
        is_abandoned = latest.status == "running" and not latest.alive
        shown = "interrupted" if is_abandoned else latest.status
        assert (turn.id, turn.status, turn.is_abandoned) == (opening.turn, shown, is_abandoned)
        assert row["status"] == (latest.status if self.case.status else "pending")
        held = latest.status == "running"
        assert turn.partial == (latest.partial if held else "")
        assert {turn.claim is not None, turn.since is not None, turn.until is not None} == {held}
        assert not held or (turn.until > self.clock.seconds) == latest.alive
        assert (turn.error is not None) == (latest.status in ("failed", "interrupted"))
        selected = self.Chat(**row)
        assert selected.last_turn == turn
        replies = [turn.reply for turn in turns if turn.reply is not None]
        if replies:
            assert selected.last_result.text == replies[-1]


def all_of(reply: Any) -> str:
    """The text of a reply, or of what comes of it."""
    return reply if isinstance(reply, str) else "".join(piece for piece in reply if isinstance(piece, str))
