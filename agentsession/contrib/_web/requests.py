"""The values of a request, and the forms of its body."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import peewee
from pydantic import AfterValidator, BaseModel, Field, RootModel, TypeAdapter, ValidationError, create_model

from agentsession import info
from agentsession.contrib._web.guard import has_json_type
from agentsession.contrib._web.problems import NO_JSON_TYPE, UNAUTHORIZED, Refused, invalid, mismatch
from agentsession.contrib._web.response_body import Named

WRAPPER = "input"
"""The key of an input that is not a JSON object itself."""

PAGE_SIZE, MAX_PAGE_SIZE = 20, 100
"""Sessions on one page of the list."""

NO_JSON = invalid("the body is not JSON")
NOT_WRAPPED = invalid(f'the body is not of the form {{"{WRAPPER}": …}}')
NO_LIMIT = invalid(f"limit is not a number from 1 to {MAX_PAGE_SIZE}")


@dataclass(frozen=True)
class SessionRequest:
    """The values that a route uses. A framework reads those that `Route.values` names."""

    id: str = ""
    actor: Any = None
    instruction_args: Any = None
    idempotency_key: str | None = None
    limit: int = PAGE_SIZE
    before: str | None = None
    body: Any = None


def is_wrapped(model: type[peewee.Model]) -> bool:
    """Return whether the input travels under a key, because it may be something else than an object."""
    schema = TypeAdapter(info.input_schema(model)).json_schema()
    return not _is_object(schema, schema.get("$defs", {}))


def input_model(model: type[peewee.Model]) -> Any:
    """Return the type that describes the body of a message."""
    schema = info.input_schema(model)
    if not is_wrapped(model):
        return schema
    fields: dict[str, Any] = {WRAPPER: (schema, ...)}
    return create_model(f"{model.__name__}Input", **fields)


def unwrapped(body: Any) -> Any:
    """Return the input in the body of a request."""
    if not isinstance(body, dict) or list(body) != [WRAPPER]:
        raise Refused(NOT_WRAPPED)
    return body[WRAPPER]


def parsed(content_type: str | None, read: Callable[[], bytes]) -> Any:
    """Return the JSON of a body. It is not read unless its content type says that it is JSON."""
    if not has_json_type(content_type):
        raise Refused(NO_JSON_TYPE)
    try:
        return json.loads(read())
    except (ValueError, RecursionError):
        raise Refused(NO_JSON) from None


def present(actor: Any) -> Any:
    """Return the actor, or raise the problem with the status 401 if there is none."""
    if actor is None or (isinstance(actor, str) and not actor):
        raise Refused(UNAUTHORIZED)
    return actor


def limit_of(text: str | None) -> int:
    """Return the number of sessions on a page."""
    if text is None:
        return PAGE_SIZE
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_PAGE_SIZE:
        raise Refused(NO_LIMIT)
    return int(text)


def _is_object(node: dict[str, Any], definitions: dict[str, Any]) -> bool:
    if "$ref" in node:
        return _is_object(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
    branches = node.get("anyOf") or node.get("oneOf")
    if branches:
        return all(_is_object(branch, definitions) for branch in branches)
    return bool(node.get("type") == "object")


def _storable(text: str) -> str:
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("databases refuse NUL characters and lone surrogates")
    return text


Text = Annotated[str, AfterValidator(_storable)]


class Approve(BaseModel, extra="forbid"):
    """Run the call as it is."""

    call: Text
    decision: Literal["approve"]


class Reject(BaseModel, extra="forbid"):
    """Do not run the call. The model sees that it was rejected, and the reason."""

    call: Text
    decision: Literal["reject"]
    reason: Text = ""


class Edit(BaseModel, extra="forbid"):
    """Run the call with these arguments instead. The model sees them."""

    call: Text
    decision: Literal["edit"]
    arguments: dict[str, Any]


AnyDecision = Annotated[Approve | Reject | Edit, Field(discriminator="decision")]


class DecisionBody(Named, RootModel[AnyDecision], component="Decision"):
    """The decision about a call. It is made by the actor of the request."""


def decision_of(body: Any) -> Approve | Reject | Edit:
    """Return the decision in the body of a request."""
    try:
        return DecisionBody.model_validate(body).root
    except ValidationError as error:
        found = mismatch(error.errors(include_url=False))
        detail = f"the decision (approve, reject or edit) does not fit: {found}"
        raise Refused(invalid(detail)) from None
