"""What the arguments of a call must look like: for the model as JSON schema, for the function as values."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

from agentsession._json_values import JsonMap
from agentsession._tools.json_parameters import PlainParameters
from agentsession._tools.signature import FromSignature, Signature, WholeValue


class Parameters(Protocol):
    """What a call may give to a tool's function."""

    @cached_property
    def schema(self) -> JsonMap:
        """JSON schema of the arguments: an object; raises `TypeError` where there is none."""
        ...

    @cached_property
    def names(self) -> frozenset[str]:
        """The arguments that the function may be given."""
        ...

    def accept(self, text: str) -> JsonMap:
        """The arguments of a call by the function's parameters; raises `SchemaMismatch`."""
        ...


def parameters_of(given: Any, signature: Signature) -> Parameters:
    """For a JSON schema, a type with fields, or one of the two above."""
    if isinstance(given, dict):
        return PlainParameters(given, signature.more is not None)
    from agentsession._tools.typed_parameters import TypedParameters, type_of

    if isinstance(given, FromSignature):
        return TypedParameters(type_of(given), given.signature)
    if isinstance(given, WholeValue):
        return TypedParameters(given.type, Signature(), is_whole=True)
    return TypedParameters(given, signature)
