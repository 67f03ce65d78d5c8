"""A shop's assistant with three tools: one takes its time, one fails, one waits for a person. Runs offline.

    python examples/shop_assistant.py

Kill it at any moment and start it again: it goes on with what is stored in shop.db. A tool whose result is
stored never runs again. One that was running when the process died does, if it says that this is harmless:

    track_order    only looks
    check_stock    only looks, and its service is down: the model is told so
    refund         tells the bank which call it is, and the bank pays once for each

`Rehearsed` plays the model; AGENTSESSION_CLIENT=anthropic:claude-sonnet-4-20250514 (and its API key) asks a
real one. Delete shop.db to begin anew.
"""

import json
import os
import time
from collections.abc import Sequence
from uuid import uuid4

import peewee as pw

from agentsession import (
    ApprovalNeeded,
    Event,
    SessionActions,
    ToolContext,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    TurnFinished,
    TurnStream,
    agent,
    agent_session,
    tool,
)
from agentsession.provider import PromptMessage, Reply, Request, ToolCall

CUSTOMER = (
    "My kettle has not come, it is order 7. I want my money back if it is lost.",
    "Thank you. Is the green kettle in stock?",
)
LEASE = float(os.environ.get("SHOP_LEASE", "5"))  # seconds after which a killed process's turn is free

db = pw.SqliteDatabase(
    os.environ.get("SHOP_DB", "shop.db"), pragmas={"journal_mode": "wal", "busy_timeout": 5000}
)


class Payment(pw.Model):
    """The bank, for this example: the key is unique, so that what is sent twice is paid once."""

    key = pw.CharField(primary_key=True)
    order = pw.IntegerField()
    amount = pw.IntegerField()

    class Meta:
        database = db


@tool(idempotent=True, timeout=20)
def track_order(order: int, context: ToolContext) -> str:
    """Find out where the parcel of an order is."""
    for depot in ("Hamburg", "Leipzig", "Munich"):
        time.sleep(0.2)
        context.report(f"asking {depot}")
    return f"The parcel of order {order} is lost. The customer has paid 39 euros."


@tool(idempotent=True)
def check_stock(item: str) -> int:
    """How many of an item are in stock."""
    raise ConnectionError(f"no answer when asked for the {item}")


@tool(idempotent=True, needs_approval=lambda arguments: arguments["amount"] > 20)
def refund(order: int, amount: int, context: ToolContext) -> str:
    """Pay back so many euros for an order."""
    key = context.idempotency_key  # the same whenever this call is run
    Payment.insert(key=key, order=order, amount=amount).on_conflict_ignore().execute()
    return f"{amount} euros were paid back for order {order}."


class Rehearsed:
    """Plays the model: what it asks for next follows from what the customer said and the tools gave."""

    def ask(self, request: Request) -> Reply:
        words, known = latest_turn(request.prompt)
        if "in stock" in words:
            if "check_stock" not in known:
                return wish("check_stock", item="green kettle")
            return Reply("Our stock cannot be reached at the moment. I am sorry: please ask tomorrow.")
        if "track_order" not in known:
            return wish("track_order", order=7)
        if "refund" not in known:
            return wish("refund", order=7, amount=39)
        return Reply(f"Your parcel is lost. {known['refund']}")


def latest_turn(prompt: Sequence[PromptMessage]) -> tuple[str, dict[str, str]]:
    """What the customer said last, and what each tool has given since then."""
    words = ""
    known: dict[str, str] = {}
    names = {call.id: call.name for message in prompt for call in message.calls}
    for message in prompt:
        if message.role == "user":
            words, known = message.content, {}
        elif message.role == "tool":
            known[names[message.call]] = message.content
    return words, known


def wish(name: str, **arguments: object) -> Reply:
    return Reply("", calls=(ToolCall(name, json.dumps(arguments)),))


CLIENT = os.environ.get("AGENTSESSION_CLIENT", "rehearsed:kettles")


@agent_session(status_attribute="status", lease=LEASE, on_busy="wait")
@agent(
    client=CLIENT,
    provider=Rehearsed() if CLIENT.startswith("rehearsed:") else None,
    instruction="You help the customers of a shop. Refund what is lost. Answer in a sentence or two.",
    tools=[track_order, check_stock, refund],
)
class Chat(SessionActions, pw.Model):
    id = pw.UUIDField(primary_key=True, default=uuid4)
    context = pw.JSONField(null=True)
    status = pw.CharField(max_length=20, default="pending")

    class Meta:
        database = db


def show(event: Event) -> None:
    match event:
        case ToolStarted():
            tell(f"{event.tool} {json.dumps(event.arguments)}")
        case ToolProgress():
            tell(f"{event.tool}: {event.progress}")
        case ToolFinished():
            tell(f"{event.tool}: {event.error or event.outcome}")
        case ApprovalNeeded():
            tell(f"{event.tool} {json.dumps(event.arguments)} waits for Ann")
        case TurnFinished():
            tell(event.result.text, by="assistant")


def tell(what: str, by: str = "") -> None:
    print(f"{by:>9}  {what}", flush=True)


def follow(stream: TurnStream[Chat]) -> Chat:
    """Show a turn as it goes. Where a call waits for a person, Ann approves it, and the turn goes on."""
    with stream:
        for event in stream:
            show(event)
    chat = stream.session
    for approval in chat.approvals:
        approval.approve(by="Ann")
        tell(f"{approval.tool} is all right", by="Ann")
    return follow(chat.stream_resume_session()) if chat.status == "awaiting_approval" else chat


def talk() -> Chat:
    """The conversation. Its keys say which message is meant: one that is there already is not said again, and
    its turn goes on where an earlier process has left it."""
    first, second = CUSTOMER
    tell(first, by="customer")
    chat = follow(Chat.stream_start_session(first, idempotency_key="first"))
    tell(second, by="customer")
    return follow(chat.stream_continue_session(second, idempotency_key="second"))


if __name__ == "__main__":
    with db.connection_context():
        db.create_tables([Chat, Payment])
    talk()
