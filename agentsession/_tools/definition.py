"""A tool: a function that the model may ask for, and what may be done with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from agentsession._json_values import JsonMap
from agentsession._tools import result, signature
from agentsession._tools.parameters import Parameters, parameters_of
from agentsession._tools.signature import FromSignature, Signature, WholeValue, signature_of
from agentsession._tools.tool_context import ToolContext
from agentsession._tools.tool_options import Tokens, ToolOptions, cut


@dataclass(frozen=True, eq=False, kw_only=True)
class Tool(ToolOptions):
    """A function that the model may ask for. `@agent(tools=[…])` makes one of a plain function; one that is
    written out may have parameters that no signature can say.

    - `parameters`: a pydantic model, dataclass or TypedDict, whose fields become the function's arguments, or
      a JSON schema (a dict), which gives it plain values.
    - `function`: plain or asynchronous. A parameter of the type `ToolContext` is given the context.
    - All else as in `@tool`.

    ```python
    from agentsession import Tool

    Tool(
        name="find_orders",
        description="Find the orders of a customer.",
        parameters={"properties": {"customer": {"type": "string"}}, "required": ["customer"]},
        function=lambda customer: [],
    )
    ```
    """

    name: str
    description: str
    parameters: Any
    function: Callable[..., Any]

    @cached_property
    def schema(self) -> JsonMap:
        """JSON schema of the arguments, as the model is told: an object, without the context."""
        return self._parameters.schema

    @cached_property
    def is_async(self) -> bool:
        """Is the function a coroutine function?"""
        return signature.is_async(self.function)

    @property
    def source(self) -> signature.Source | None:
        """Where the function is defined. The function of a method that is found by its name is a wrapper."""
        if isinstance(self.parameters, FromSignature) and self.parameters.source is not None:
            return self.parameters.source
        return signature.source_of(self.function)

    @property
    def argument_names(self) -> frozenset[str]:
        """The names of the arguments that the function may be given, `**kwargs` and the context aside."""
        return self._parameters.names

    def accept(self, arguments: str) -> dict[str, Any]:
        """The arguments of a call as typed values, by parameter; raises `SchemaMismatch`, which names each
        place and never the value. No text stands for no arguments."""
        return self._parameters.accept(arguments)

    def plain(self, accepted: dict[str, Any]) -> JsonMap:
        """What `accept` has given as a plain JSON object, defaults included. Never raises: an argument that
        has no JSON form is the name of its type."""
        found = result.plain_values(accepted)
        whole = found.get("input") if isinstance(self.parameters, WholeValue) else None
        return whole if isinstance(whole, dict) else found

    def call(self, arguments: dict[str, Any], context: ToolContext) -> Any:
        """Call the function with what `accept` has given; what comes back may have to be awaited."""
        positional, keywords = self._signature.bind(arguments, context)
        return self.function(*positional, **keywords)

    rendered = staticmethod(result.rendered)

    def limited(self, value: Any, text: str) -> str:
        """What the model is shown of a result, of which `rendered` made the text: all of it, or as much as
        `result_limit` lets through, with a last line that says how much that is."""
        limit = self.result_limit
        if limit is None:
            return text
        if isinstance(limit, Tokens):
            return cut(text, limit.bytes)
        return cut(text, limit) if isinstance(limit, int) else self.rendered(limit(value))

    @cached_property
    def _signature(self) -> Signature:
        if isinstance(self.parameters, FromSignature):
            return self.parameters.signature
        try:
            return signature_of(self.function)
        except (ValueError, TypeError):
            return Signature()

    @cached_property
    def _parameters(self) -> Parameters:
        return parameters_of(self.parameters, self._signature)
