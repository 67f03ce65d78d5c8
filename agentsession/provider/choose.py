"""The provider of a client: the script of a test, the declared object, or a built-in one by its prefix.

To add a built-in provider, write a file in this folder and add its prefix to `BUILT_IN` and to
`OWN_PROVIDERS` in `_options.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache

from agentsession._options import AgentOptions, Client
from agentsession.provider.echo import Echo
from agentsession.provider.litellm.adapter import LiteLLM
from agentsession.provider.protocol import Provider

BUILT_IN: dict[str, type[Provider]] = {"echo": Echo}
"""Prefixes of clients, as in `echo:`. litellm answers for all others."""

scripted: ContextVar[Mapping[AgentOptions, Provider] | None] = ContextVar("scripted", default=None)


def provider_for(agent: AgentOptions, client: Client) -> Provider:
    """Return the provider that answers for this client of the agent."""
    script = (scripted.get() or {}).get(agent)
    if script is not None:
        return script
    if agent.provider is not None:
        declared: Provider = agent.provider
        return declared
    return _built_in(BUILT_IN.get(client.provider, LiteLLM))


@cache
def _built_in(kind: type[Provider]) -> Provider:
    return kind()
