"""Functions that convert an older stored map to the next version. A new version adds its function here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agentsession._json_values import JsonMap

OURS = {"revision", "layout", "instruction_args", "turn"}
"""Keys that only a map with a version can have."""


class Misfit(ValueError):
    """A map does not have the form of its version."""


def from_unversioned(map_: JsonMap) -> JsonMap:
    """Convert a map of the original package (`messages`, `metadata`, `input`), whose messages have no ids.

    They get ids and turns.
    """
    if not map_:
        return map_
    taken = OURS & map_.keys()
    if taken:
        raise Misfit(f"the stored context has no version but the key {min(taken)!r}")
    messages = map_.get("messages") or []
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise Misfit("the stored context's `messages` is not a list of objects")
    upgraded: list[JsonMap] = []
    turn = number = 0
    for message in messages:
        if message.get("role") == "user":
            turn, number = turn + 1, 0
        key = f"old-{turn}"
        content, metadata = message.get("content"), message.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise Misfit(f"the metadata of message {len(upgraded)} is not an object")
        upgraded.append(
            {
                **message,
                "id": f"{key}:{number}",
                "turn": key,
                "content": "" if content is None else content,
                "metadata": {**metadata, **_renamed(message)},
            }
        )
        number += 1
    return {**map_, "messages": upgraded, "metadata": map_.get("metadata") or {}}


def _renamed(message: JsonMap) -> JsonMap:
    return {f"old_{name}": message[name] for name in ("id", "turn") if name in message}


UPCASTERS: Mapping[int, Callable[[JsonMap], JsonMap]] = {0: from_unversioned}
"""The version of a map, and the function that converts it to the next one. Maps without a version have 0."""
