"""What every provider demands of what the model is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from agentsession._turn.model_io import PromptMessage


def assert_valid(view: Sequence[PromptMessage]) -> None:
    """The system first, then roles in order; each call is answered once, right after it and in order."""
    body = view[1:] if view and view[0].role == "system" else view
    waiting: list[str] = []
    ids: list[str] = []
    before = "assistant"
    for shown in body:
        assert shown.role in ("user", "assistant", "tool")
        assert shown.content.strip() or shown.calls
        if shown.role == "tool":
            assert waiting, "a result without a call"
            assert shown.call == waiting.pop(0)
        else:
            assert not waiting, "a call without a result"
            assert not shown.call
            assert before in (("assistant",) if shown.role == "user" else ("user", "tool"))
        assert shown.role == "assistant" or not (shown.calls or shown.opaque)
        for call in shown.calls:
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", call.name)
            assert isinstance(json.loads(call.arguments, parse_constant=refuse), dict)
            waiting.append(call.id)
        ids += waiting if shown.calls else []
        before = shown.role
    assert not waiting, "a call without a result"
    assert all(re.fullmatch(r"[a-zA-Z0-9]{9}", id_) for id_ in ids)
    assert len(set(ids)) == len(ids)
    assert all(shown.content.strip() for shown in view if shown.role == "system")


def assert_can_be_asked(view: Sequence[PromptMessage]) -> None:
    """It is valid, and the model's turn to speak."""
    assert_valid(view)
    assert view[-1].role in ("user", "tool")


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
