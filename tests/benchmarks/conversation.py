"""Messages in their stored form, without running the turns that would have brought them."""

from __future__ import annotations

from typing import Any, TypeAlias

from tests.benchmarks.texts import Texts

Stored: TypeAlias = dict[str, Any]

TURN: list[Stored] = [
    {"role": "user", "metadata": {"input_hash": "b49177e05868b7af8e82a644c1ce20e5" * 2}},
    {"role": "assistant", "metadata": {"usage": {}, "duration": 0.001302}},
]
"""The two messages of a turn, but for what is each message's own."""


def messages_of_a_turn(texts: Texts, like: list[Stored] = TURN) -> list[Stored]:
    turn = texts.turn_id()
    return [
        {**message, "id": f"{turn}:{position}", "turn": turn, "content": texts.fresh()}
        for position, message in enumerate(like)
    ]


def conversation(length: int, texts: Texts, like: list[Stored] = TURN) -> list[Stored]:
    """So many messages, an even number."""
    return [message for _ in range(length // 2) for message in messages_of_a_turn(texts, like)]
