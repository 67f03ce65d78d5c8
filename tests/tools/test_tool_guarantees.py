"""The README's table of tools: how often a call runs, and what the model is told, wherever it dies."""

from __future__ import annotations

from typing import Any

import pytest

from agentsession import SessionBusy, ToolContext, testing, tool
from agentsession._turn.prompt_messages import NOT_RUN, UNKNOWN
from tests.support.models import chat_model

pytestmark = pytest.mark.matrix

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "idempotent": {"idempotent": True},
    "approved": {"needs_approval": True},
    "both": {"idempotent": True, "needs_approval": True},
}


def once(prompt: Any) -> Any:
    """A model that asks for the tool once in its turn."""
    return testing.tool_call("pay") if prompt[-1].content == "Pay" else "I see."


def run_on(session: Any) -> None:
    """Approve what waits, and run the turn to its end."""
    if session.status == "awaiting_approval":
        for approval in session.approvals:
            approval.approve()
        session.resume_session()


def told(session: Any) -> list[str]:
    """What the model is shown of results in the next turn."""
    with testing.script(type(session), ["Good."]) as asked:
        session.continue_session("And?")
    return [message.content for message in asked[0] if message.role == "tool"]


@pytest.mark.parametrize("then", ["resume", "continue"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_run_after_a_crash_at_any_step(database: Any, kind: str, then: str) -> None:
    ran: list[str] = []

    @tool(**KINDS[kind])
    def pay(context: ToolContext) -> str:
        """Pay."""
        ran.append(context.call)
        return "paid"

    Chat = chat_model(database, tools=[pay])
    repeats = then == "resume" and "idempotent" in KINDS[kind]
    for crash in testing.every_crash():
        ran.clear()
        with testing.script(Chat, once), testing.clock() as clock:
            session = Chat.start_session("Hello")
            with crash:
                session.continue_session("Pay")
                run_on(session)
            clock.advance(31)
            session = Chat.get_by_id(session.id)
            if session.status == "awaiting_approval":
                with pytest.raises(SessionBusy):
                    session.continue_session("And?")
                run_on(session)
            elif session.status == "running" and then == "resume":
                session.resume_session()
                run_on(session)
            seen = told(session)
        *_, last = steps = ["", *(type(effect).__name__ for effect in crash.performed)]
        assert len(set(ran)) <= 1, crash
        if last == "RunTools":  # killed while it runs, or before its result is stored
            assert (len(ran), seen) == ((2, ["paid"]) if repeats else (1, [UNKNOWN])), crash
        elif "RunTools" in steps or ran:
            assert (len(ran), seen) == (1, ["paid"]), crash
        elif "needs_approval" in KINDS[kind] and last == "Save":  # nobody had approved it yet
            assert seen == [NOT_RUN], crash
        else:  # of a call that was stored nobody knows that it was not run
            assert seen == ([UNKNOWN] if last in ("Save", "Claim") and "Save" in steps else []), crash
            assert not repeats or "Save" not in steps, crash
