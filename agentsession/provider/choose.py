"""Which provider answers for a client: a scripted one in a test, the declared object, or by the id."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache

from agentsession._options import AgentOptions, Client
from agentsession.provider.echo import Echo
from agentsession.provider.litellm.adapter import LiteLLM
from agentsession.provider.protocol import Provider

scripted: ContextVar[Mapping[AgentOptions, Provider] | None] = ContextVar("scripted", default=None)


def provider_for(agent: AgentOptions, client: Client) -> Provider:
    script = (scripted.get() or {}).get(agent)
    if script is not None:
        return script
    if agent.provider is not None:
        declared: Provider = agent.provider
        return declared
    return _echo() if client.provider == "echo" else _litellm()


@cache
def _echo() -> Echo:
    return Echo()


@cache
def _litellm() -> LiteLLM:
    return LiteLLM()
