"""What every provider demands of what the model is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from agentsession._turn.model_io import PromptMessage


def assert_valid(prompt: Sequence[PromptMessage]) -> None:
    """The system first, then roles in order; each call is answered once, right after it and in order."""
    body = prompt[1:] if prompt and prompt[0].role == "system" else prompt
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
    assert all(shown.content.strip() for shown in prompt if shown.role == "system")


def assert_can_be_asked(prompt: Sequence[PromptMessage]) -> None:
    """It is valid, and the model's turn to speak."""
    assert_valid(prompt)
    assert prompt[-1].role in ("user", "tool")


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
