"""The provider protocol: a provider answers one request with one reply. It is an object with `ask(request)`.

>>> from agentsession.provider import Reply, Request
>>> class Parrot:
...     def ask(self, request: Request) -> Reply:
...         return Reply(text=request.prompt[-1].content, model=request.client.model)

`@agent(provider=Parrot(), …)` then uses it for every turn. An exception that `ask` raises fails the turn; a
`ProviderCallError` sets the error's text, kind and fix. An optional `prepare()` and then an optional
`check_client(client)` are called before a turn is claimed. A reply that calls a tool has
`calls=(ToolCall("find", '{"order": 3}'),)`.
"""

from agentsession._turn.model_io import Delta, PromptMessage, Reply, ToolCall
from agentsession.errors import ProviderCallError
from agentsession.provider.protocol import Provider, Request

__all__ = ["Delta", "PromptMessage", "Provider", "ProviderCallError", "Reply", "Request", "ToolCall"]
