"""A model server's compressed response is read up to a limit, in each way to ask and in both formats."""

from __future__ import annotations

import gzip
import resource
import sys
from collections.abc import Callable
from typing import Any

import pytest

from agentsession.errors import ProviderCallError
from agentsession.provider.litellm import decompression
from tests.support.litellm_calls import CLAUDE, GPT, PLAIN, STREAMS, request_to
from tests.support.llm_server import Bomb, LlmServer

CLIENTS = pytest.mark.parametrize("client", [GPT, CLAUDE])


def peak() -> int:
    """The most memory that this process has ever used, in bytes."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


@CLIENTS
@pytest.mark.parametrize("ask", [*PLAIN, *STREAMS])
def test_a_response_that_decompresses_to_gigabytes_fails_at_the_limit(
    ask: Callable[[Any], Any], client: str
) -> None:
    with LlmServer(Bomb(0)) as server, pytest.raises(ProviderCallError):
        ask(request_to(server, client, retries=0))  # the first call loads modules, which also take memory
    before = peak()
    with LlmServer(Bomb(2_000)) as server:
        with pytest.raises(ProviderCallError) as failed:
            ask(request_to(server, client))
        assert len(server.requests) == 1
    assert decompression.TOO_LARGE in str(failed.value)
    assert peak() - before < 8 * decompression.MAX_BYTES


def test_others_who_use_httpx_are_not_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    monkeypatch.setattr(decompression, "MAX_BYTES", 1_000)
    decompression.install()
    body = gzip.compress(b" " * 100_000)
    response = httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=body)
    assert response.text == " " * 100_000
