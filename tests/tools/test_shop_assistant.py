"""The example of a shop's assistant: killed wherever it may be, it goes on, and pays once."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentsession import testing
from agentsession._turn.effects import RunTools

EXAMPLE = Path(__file__).parents[2] / "examples" / "shop_assistant.py"

FIRST = "My kettle has not come, it is order 7. I want my money back if it is lost."
SECOND = "Thank you. Is the green kettle in stock?"
REFUNDED = "Your parcel is lost. 39 euros were paid back for order 7."
SORRY = "Our stock cannot be reached at the moment. I am sorry: please ask tomorrow."

LINES = [
    f" customer  {FIRST}",
    '           track_order {"order": 7}',
    "           track_order: asking Hamburg",
    "           track_order: asking Leipzig",
    "           track_order: asking Munich",
    "           track_order: completed",
    '           refund {"order": 7, "amount": 39} waits for Ann',
    "      Ann  refund is all right",
    '           refund {"order": 7, "amount": 39}',
    "           refund: completed",
    f"assistant  {REFUNDED}",
    f" customer  {SECOND}",
    '           check_stock {"item": "green kettle"}',
    "           check_stock: ConnectionError: no answer when asked for the green kettle",
    f"assistant  {SORRY}",
]

SAID = [
    ("user", FIRST, ""),
    ("assistant", "", "track_order"),
    ("tool", "The parcel of order 7 is lost. The customer has paid 39 euros.", "completed"),
    ("assistant", "", "refund"),
    ("tool", "39 euros were paid back for order 7.", "completed"),
    ("assistant", REFUNDED, ""),
    ("user", SECOND, ""),
    ("assistant", "", "check_stock"),
    ("tool", "ConnectionError: no answer when asked for the green kettle", "failed"),
    ("assistant", SORRY, ""),
]


def run(database: Path, lease: float = 5) -> subprocess.Popen[str]:
    environment = os.environ | {"SHOP_DB": str(database), "SHOP_LEASE": str(lease)}
    environment.pop("AGENTSESSION_CLIENT", None)
    return subprocess.Popen(
        [sys.executable, EXAMPLE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=EXAMPLE.parent.parent,
        env=environment,
    )


def whole_run(database: Path, lease: float = 5) -> list[str]:
    out, err = (process := run(database, lease)).communicate(timeout=60)
    log = "the tool check_stock failed: ConnectionError in check_stock, line "
    assert (process.returncode, [line for line in err.splitlines() if not line.startswith(log)]) == (0, [])
    return out.splitlines()


def told(message: dict[str, Any]) -> tuple[str, str, str]:
    """Who said what; of a step the tool that it asks for, of a result how its call ended."""
    content = message["content"]
    if isinstance(content, str):
        return message["role"], content, ""
    (part,) = content
    if part["type"] == "tool_call":
        return message["role"], "", part["tool"]
    return message["role"], part["content"], message["metadata"]["outcome"]


def all_is_there_once(database: Path) -> None:
    """The conversation, each call with its one result, and one payment."""
    with closing(sqlite3.connect(database)) as connection:
        payments = connection.execute('SELECT "order", amount FROM payment').fetchall()
        ((context, status),) = connection.execute("SELECT context, status FROM chat")
    messages = json.loads(context)["messages"]
    assert [*map(told, messages)] == SAID
    assert payments == [(7, 39)]
    assert status == "completed"
    parts = [part for message in messages for part in message["content"] if isinstance(part, dict)]
    asked = [part["call"] for part in parts if part["type"] == "tool_call"]
    assert asked == [part["call"] for part in parts if part["type"] == "tool_result"]
    assert asked == ["first:0:0", "first:1:0", "second:0:0"]
    assert messages[4]["metadata"]["approval"] == {"status": "approved", "by": "Ann"}
    assert len({message["id"] for message in messages}) == len(messages)


def test_what_it_prints_and_what_it_tells_when_it_is_run_again(tmp_path: Path) -> None:
    assert whole_run(tmp_path / "shop.db") == LINES
    all_is_there_once(tmp_path / "shop.db")
    assert whole_run(tmp_path / "shop.db") == [LINES[0], LINES[10], LINES[11], LINES[14]]
    all_is_there_once(tmp_path / "shop.db")


def killed_after_line(number: int, database: Path, sign: int) -> None:
    """Stop a run when it has printed so many lines, and another at any moment; then let it end."""
    chance = random.Random(number)
    with run(database, lease=0.5) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().rstrip("\n") for _ in range(number)]
        assert lines == LINES[:number]
        process.send_signal(sign)
    with run(database, lease=0.5) as process:
        timer = threading.Timer(chance.uniform(0.3, 1.2), process.send_signal, [sign])
        timer.start()
        process.communicate(timeout=60)
        timer.cancel()
    lines = whole_run(database, lease=0.5)
    assert [line for line in lines if line[:9].strip() in ("customer", "assistant")] == [
        LINES[0],
        LINES[10],
        LINES[11],
        LINES[14],
    ]
    all_is_there_once(database)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_at_any_moment_it_goes_on_and_pays_once(tmp_path: Path) -> None:
    # In a tool, while a call waits for approval, while it pays. The test below stops at every other step.
    stops = [(4, signal.SIGKILL), (7, signal.SIGKILL), (9, signal.SIGKILL), (9, signal.SIGINT)]
    with ThreadPoolExecutor(4) as pool:
        runs = [
            pool.submit(killed_after_line, number, tmp_path / f"{number} {sign.name}.db", sign)
            for number, sign in stops
        ]
        for each in runs:
            each.result()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The example as a module, whose carrier answers at once."""
    monkeypatch.setenv("SHOP_DB", str(tmp_path / "shop.db"))
    monkeypatch.delenv("AGENTSESSION_CLIENT", raising=False)
    spec = importlib.util.spec_from_file_location("shop_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda _: None))
    with module.db.connection_context():
        module.db.create_tables([module.Chat, module.Payment])
    yield module
    if not module.db.is_closed():
        module.db.close()


def test_after_every_step_it_goes_on_and_pays_once_even_if_the_bank_is_told_twice(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert, asked = shop.Payment.insert, []

    def counted(**values: Any) -> Any:
        asked.append(values)
        return insert(**values)

    monkeypatch.setattr(shop.Payment, "insert", counted)
    often = []
    for crash in testing.every_crash():
        asked.clear()
        shop.Chat.delete().execute()
        shop.Payment.delete().execute()
        with testing.clock() as clock:
            with crash:
                shop.talk()
            clock.advance(31)
            shop.talk()
        all_is_there_once(tmp_path / "shop.db")
        often.append(len(asked))
        was_running = crash.happened and isinstance(crash.performed[-1], RunTools)
        assert len(asked) == 1 or (was_running and len(asked) == 2), crash
    assert 2 in often


def test_one_customers_refund_does_not_stand_for_anothers(shop: Any) -> None:
    """Keys of messages are each session's own, and the keys of calls are made of them."""
    for other in ("one", "another"):
        chat = shop.Chat.start_session("Is it in stock?", idempotency_key=other)
        shop.follow(chat.stream_continue_session(FIRST, idempotency_key="first"))
    assert shop.Payment.select().count() == 2
