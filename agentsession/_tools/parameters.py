"""The parameters of a tool: a JSON schema for the model, values for the function."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

from agentsession._json_values import JsonMap
from agentsession._tools.json_parameters import JsonParameters
from agentsession._tools.signature import FromSignature, Signature, WholeValue


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
