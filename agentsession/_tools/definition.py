"""A function that the model may call: written out as a `Tool`, or made of a function as it is declared."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from agentsession._json_values import JsonMap
from agentsession._tools import result
from agentsession._tools.json_parameters import JsonParameters
from agentsession._tools.signature import (
    FromSignature,
    Signature,
    Source,
    WholeValue,
    is_async,
    plain_function,
    signature_of,
    source_of,
)
from agentsession._tools.tool_context import ToolContext
from agentsession._tools.tool_options import Mark, Tokens, ToolOptions, mark_of, options_of

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Parameters(Protocol):
    """The parameters of a tool."""

    @cached_property
    def schema(self) -> JsonMap:
        """The JSON schema of the arguments, an object; raises `TypeError` if there is none."""
        ...

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the arguments."""
        ...

    def accept(self, text: str) -> JsonMap:
        """Return the arguments of a call, by the function's parameters; raises `SchemaMismatch`."""
        ...


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
        return is_async(self.function)

    @property
    def source(self) -> Source | None:
        """Where the function is defined. A method that is found by its name is called by a wrapper."""
        if isinstance(self.parameters, FromSignature) and self.parameters.source is not None:
            return self.parameters.source
        return source_of(self.function)

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
            return result.cut(text, limit.bytes)
        return result.cut(text, limit) if isinstance(limit, int) else self.rendered(limit(value))

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


def parameters_of(declared: Any, signature: Signature) -> Parameters:
    """Return the parameters for a JSON schema, a type with fields, a `FromSignature` or a `WholeValue`."""
    if isinstance(declared, dict):
        return JsonParameters(declared, signature.more is not None)
    from agentsession._tools.typed_parameters import TypedParameters, type_of

    if isinstance(declared, FromSignature):
        return TypedParameters(type_of(declared), declared.signature)
    if isinstance(declared, WholeValue):
        return TypedParameters(declared.type, Signature(), is_whole=True)
    return TypedParameters(declared, signature)


def tool_of(function: Callable[..., Any]) -> Tool:
    """Return the tool of a function.

    Raises:
        ValueError, TypeError: Python does not know the signature of the function.
    """
    mark = mark_of(function) or Mark()
    plain = plain_function(function)
    name = _name(function, plain) if mark.name is None else mark.name
    description, described = read_docstring(_docstring(function, plain))
    return Tool(
        name=name,
        description=description if mark.description is None else mark.description,
        parameters=FromSignature(str(name), signature_of(function), described, source_of(function)),
        function=function,
        **options_of(mark),
    )


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return the description (summary, body, return value), and the description of each parameter."""
    if not text.strip():
        return "", {}
    import docstring_parser

    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return text.strip(), {}
    described = {each.arg_name: _line(each.description) for each in parsed.params if each.description}
    parts = [(parsed.description or "").strip()]
    if parts[0] and parsed.returns is not None and parsed.returns.description:
        parts.append(f"Returns: {_line(parsed.returns.description)}")
    return "\n\n".join(part for part in parts if part), described


def snake_case(name: str) -> str:
    """Return a name in snake case: `WebSearch` → `web_search`."""
    return _WORD.sub("_", name).lower()


def _docstring(function: Any, plain: Any) -> str:
    """Return the docstring; of an object, that of `__call__` or of its class."""
    if getattr(plain, "__name__", "") == "__call__":
        return inspect.cleandoc(plain.__doc__ or type(function).__doc__ or "")
    return inspect.getdoc(plain) or ""


def _name(function: Any, plain: Any) -> str:
    """Return the name; of an object, that of its class in snake case."""
    own = str(getattr(plain, "__name__", ""))
    return snake_case(type(function).__name__) if own == "__call__" else own


def _line(text: str) -> str:
    return " ".join(text.split())
