"""A store in memory, with the guards of the real one: one session, as the JSON text of its context.

Keys are kept in another order than they were written in, as PostgreSQL does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agentsession import SessionNotFound
from agentsession._turn.effects import Change, Claim, Finish, Insert, Load, Loaded, Save, Write
from agentsession._turn.guarded_write import contains
from agentsession.context import Context


class Memory:
    def __init__(self) -> None:
        self.text: bytes | None = None
        self.now = 1_700_000_000.0

    @property
    def context(self) -> Context | None:
        return None if self.text is None else msgspec.json.decode(self.text, type=Context)

    def perform(self, effect: Load | Write) -> Any:
        context = self.context
        match effect:
            case Load(change):
                return self.loaded(context, change)
            case Insert(change):
                return context is None and self.store(Context(), change)
            case Claim(seen, change):
                return context is not None and seen == context.revision and self.store(context, change)
            case Save(change, claim, lease):
                return self.is_held(context, claim) and self.store(context, change, self.now + lease)
            case Finish(change, claim):
                return self.is_held(context, claim) and self.store(context, change)
        raise AssertionError(effect)

    def is_held(self, context: Context | None, claim: str) -> bool:
        return context is not None and context.turn is not None and context.turn.claim == claim

    def loaded(self, context: Context | None, change: Change | None) -> Loaded:
        if context is None:
            raise SessionNotFound("there is no session")
        turns = sum(message.role == "user" for message in context.messages)
        is_stored = change is not None and contains(context, change)
        return Loaded(context, self.now, 0, turns, context.revision, is_stored)

    def store(self, context: Any, change: Change, until: float | None = None) -> bool:
        messages = list(context.messages)
        for id_, metadata in change.metadata.items():
            (place,) = (number for number, message in enumerate(messages) if message.id == id_)
            messages[place] = msgspec.structs.replace(messages[place], metadata=metadata)
        if change.drop is not None:
            assert messages.pop().id == change.drop
        messages += change.append
        turn = change.turn if until is None else msgspec.structs.replace(change.turn, until=until)
        args = change.instruction_args
        after = msgspec.structs.replace(
            context,
            revision=(context.revision or 0) + 1,
            messages=tuple(messages),
            count=len(messages),
            turn=turn,
            instruction_args=context.instruction_args if args is None else args,
        )
        self.text = msgspec.json.encode(after, order="sorted")
        return True
