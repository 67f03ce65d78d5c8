"""A chat whose tool waits for an approval, behind a web framework."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agentsession import ToolContext, testing, tool
from tests.support.web_clients import Answer, Web

CALL, DONE = testing.tool_call("refund", order=3), "It is done."


@tool(needs_approval=True)
def refund(order: int, context: ToolContext) -> str:
    """Give a customer the money back."""
    context.report({"order": order})
    if order < 0:
        raise ValueError("sk-secret")
    return f"order {order} is refunded"


class Shop:
    """`seen` is what the model was shown."""

    def __init__(self, model: Any, web: Web) -> None:
        self.model = model
        self.web = web
        self.seen: list[Any] = []

    @contextmanager
    def script(self, *replies: Any) -> Iterator[Any]:
        with testing.script(self.model, replies) as self.seen:
            yield self.seen

    def begin(self, *calls: Any) -> tuple[str, list[str]]:
        """A session that waits, and the keys of its calls."""
        with self.script([*(calls or (CALL,))]):
            answer = self.web("POST", "/", {"message": "My money!"})
        return answer.json["id"], [each["call"] for each in answer.json["turn"]["approvals"]]

    def decide(self, key: str, call: str, decision: str, **more: Any) -> Answer:
        return self.web("POST", f"/{key}/approvals", {"call": call, "decision": decision, **more})

    def waiting(self, key: str) -> list[Any]:
        found = self.web("GET", f"/{key}/approvals")
        assert found.status == 200, found.text
        approvals: list[Any] = found.json["approvals"]
        assert self.web("GET", f"/{key}").json["turn"]["approvals"] == approvals
        return approvals


def asked(call: str, order: int = 3) -> dict[str, Any]:
    return {"call": call, "tool": "refund", "arguments": {"order": order}}
