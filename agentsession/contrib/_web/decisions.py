"""The body of a decision about a call that waits for an approval."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, RootModel, ValidationError

from agentsession.contrib._web.problems import Refused, invalid, mismatch
from agentsession.contrib._web.response_body import Named


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
