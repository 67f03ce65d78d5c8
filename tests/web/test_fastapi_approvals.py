"""Calls that wait for an approval, in FastAPI with asynchronous databases."""

from __future__ import annotations

from typing import Any

import httpx

from agentsession import testing
from tests.support.approval_shop import CALL, DONE, refund
from tests.support.async_databases import run
from tests.support.web_clients import ANN, fastapi_app, owned_chat


def test_calls_are_approved_on_an_asynchronous_database(database_url: str) -> None:
    async def scenario(db: Any) -> None:
        Chat = await db.run(lambda: owned_chat(db, tools=[refund]))
        app = fastapi_app(Chat)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://test/chats"
        ) as ask:
            ask.headers = ANN
            with testing.script(Chat, [CALL]):
                begun = await ask.post("/", json={"message": "My money!"})
            assert begun.status_code == 202
            path = f"/{begun.json()['id']}"
            (waiting,) = (await ask.get(f"{path}/approvals")).json()["approvals"]
            decision = {"call": waiting["call"], "decision": "edit", "arguments": {"order": 4}}
            decided = await ask.post(f"{path}/approvals", json=decision)
            assert (decided.status_code, decided.json()["turn"]["approvals"]) == (200, [])
            with testing.script(Chat, [DONE]):
                assert (await ask.post(f"{path}/resume")).json()["result"]["text"] == DONE
            assert (await ask.get(path)).json()["messages"][2]["text"] == "order 4 is refunded"

    run(database_url, scenario)
