"""`Tool`: a function that the model may call, with its parameters and options."""

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
    """A function that the model may call.

    `@agent(tools=[…])` makes one of a plain function. Write one out for parameters that a signature cannot
    express. `@agent` verifies it. Beside the arguments below it takes the options of `@tool`.

    Args:
        name: The tool's name.
        description: What the model reads about the tool.
        parameters: A pydantic model, dataclass or TypedDict, whose fields become the arguments of the
            function, or a JSON schema of an object (a dict), whose values are passed as plain JSON.
        function: A plain or asynchronous function. Its parameter of the type `ToolContext` gets the context.

    Example:
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
        """The JSON schema of the arguments, for the model: an object, without the context."""
        return self._parameters.schema

    @cached_property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        return signature.is_async(self.function)

    @property
    def source(self) -> signature.Source | None:
        """Where the function is defined. A method that is found by its name is called by a wrapper."""
        if isinstance(self.parameters, FromSignature) and self.parameters.source is not None:
            return self.parameters.source
        return signature.source_of(self.function)

    @property
    def argument_names(self) -> frozenset[str]:
        """The names of the arguments, without `**kwargs` and the context."""
        return self._parameters.names

    def accept(self, arguments: str) -> dict[str, Any]:
        """Return the arguments of a call as typed values, by parameter. An empty text means no arguments.

        Raises:
            SchemaMismatch: The arguments do not fit. The message names each field, never the value.
        """
        return self._parameters.accept(arguments)

    def plain(self, accepted: dict[str, Any]) -> JsonMap:
        """Return the accepted arguments as a JSON object, with defaults.

        It never raises: an argument without a JSON form becomes the name of its type.
        """
        found = result.plain_values(accepted)
        value = found.get("input") if isinstance(self.parameters, WholeValue) else None
        return value if isinstance(value, dict) else found

    def call(self, arguments: dict[str, Any], context: ToolContext) -> Any:
        """Call the function with the accepted arguments. Return the result, or a coroutine."""
        positional, keywords = self._signature.bind(arguments, context)
        return self.function(*positional, **keywords)

    @staticmethod
    def rendered(
        value: Any, most_bytes: float = result.MOST_BYTES, is_given_up: Callable[[], bool] = lambda: False
    ) -> str:
        """Return a result as text: a text unchanged, another value as compact JSON.

        Args:
            value: The result.
            most_bytes: The size from which a result is refused.
            is_given_up: A function that returns whether no caller waits for the result.

        Raises:
            TypeError: The value has no JSON form. The message names its type.
            ResultTooLarge: The value exceeds a limit.
            GivenUp: `is_given_up` returned true.
        """
        return result.rendered(value, most_bytes, is_given_up)

    def limited(self, value: Any, text: str) -> str:
        """Return what the model is shown of a result, within `result_limit`.

        Args:
            value: The result.
            text: The result as `rendered` returned it.
        """
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
