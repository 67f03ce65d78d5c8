"""What of the history the model is shown: the last so many turns, or what a function of the user's chooses.

A window moves in steps of a quarter of its length: what the model is shown stays the beginning of what it is
shown next, so that the provider's prompt cache keeps working in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from agentsession.context import Message

History: TypeAlias = "int | Callable[[tuple[Message, ...]], Any] | None"


def hidden_before(turns: int, history: int) -> int:
    """How many of so many turns stand before the window."""
    step = max(1, history // 4)
    surplus = max(0, turns - history)
    return -(-surplus // step) * step


def in_window(messages: Sequence[Message], turns: int, history: int) -> Sequence[Message]:
    """The last messages of a conversation of so many turns, from which the first ones may be missing."""
    openings = [position for position, message in enumerate(messages) if message.role == "user"]
    missing = turns - len(openings)
    surplus = hidden_before(turns, history) - missing
    return messages[openings[surplus] :] if 0 < surplus < len(openings) else messages


def chosen_messages(chosen: Any, opening: Message) -> Sequence[Message]:
    """What a function chose, and at last the words of the open turn; `TypeError` for no messages."""
    if not isinstance(chosen, Iterable):
        raise TypeError(f"history gave a {type(chosen).__name__}, not messages")
    messages = list(chosen)
    for message in messages:
        if not isinstance(message, Message):
            raise TypeError(f"history gave a {type(message).__name__} among its messages")
    words = next((message for message in messages if message.id == opening.id), opening)
    return [*(message for message in messages if message.id != opening.id), words]
