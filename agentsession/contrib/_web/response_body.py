"""A response before a framework writes it, and the base of the models that its JSON is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

JSON_TYPE = "application/json"

PING = 15.0
"""Seconds without an event after which a stream sends a comment. Proxies close a silent connection after a
minute."""

# Without these, a proxy collects the events of a stream.
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class HttpResponse:
    """A response that is not streamed."""

    status: int
    body: bytes = b""
    media_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Named:
    """A schema with a name of its own in OpenAPI.

    The Python names are longer, because `Turn`, `Message`, `Decision` and the like are other classes of the
    library.
    """

    def __init_subclass__(cls, component: str = "", **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if component:
            cls.__name__ = cls.__qualname__ = component


class ResponseBody(Named, BaseModel):
    """The JSON of a response, or a part of it."""

    def response(
        self, status: int, headers: Mapping[str, str] | None = None, media_type: str = JSON_TYPE
    ) -> HttpResponse:
        """Return the response with this body. Fields that were not set are left out."""
        text = self.model_dump_json(exclude_unset=True)
        return HttpResponse(status, text.encode(), media_type, headers or {})
