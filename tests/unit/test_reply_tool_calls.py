"""Calls in a provider's reply, as they can be stored."""

from __future__ import annotations

from typing import Any

import pytest

from agentsession.errors import ProviderCallError
from agentsession.provider import Reply, ToolCall
from agentsession.provider.protocol import checked


class Word(str):
    pass


def test_the_calls_of_a_reply_are_made_plain() -> None:
    calls: Any = [ToolCall(Word("find"), Word('{"order": 3}'), id="theirs")]
    reply = checked(Reply("", calls=calls, opaque=Word("{}")), 0.5)
    assert reply.calls == (ToolCall("find", '{"order": 3}'),)
    assert {type(text) for text in (reply.calls[0].name, reply.calls[0].arguments, reply.opaque)} == {str}
    assert checked(Reply("Hello!"), 0.5).calls == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"calls": None},
        {"calls": "find"},
        {"calls": [{"name": "find"}]},
        {"calls": [ToolCall("find", {"order": 3})]},  # type: ignore[arg-type]
        {"calls": [ToolCall(None)]},  # type: ignore[arg-type]
        {"opaque": None},
        {"opaque": {}},
    ],
)
def test_calls_that_cannot_be_stored_are_the_providers_error(wrong: Any) -> None:
    with pytest.raises(ProviderCallError, match=r"cannot be stored: .*(call|opaque)"):
        checked(Reply("", **wrong), 0.5)
