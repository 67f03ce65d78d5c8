"""A limit for compressed responses: some kilobytes on the wire can be gigabytes in memory.

httpx decompresses each block that it receives as a whole, on the event loop where there is one, and litellm
gives no access to the response before it has read it. So the decoders of httpx get a limit, which holds in
the context of a question only: other users of httpx in the process are not limited. To be removed once httpx
can limit the size of a decoded response.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any

MAX_BYTES = 64 * 1024**2
"""Bytes of a decompressed response: as much as a session holds by default, and more than any model writes."""

TOO_LARGE = f"the response takes more than {MAX_BYTES:,} bytes once it is decompressed"

SLICE = 1024
"""Bytes that are decompressed at once. gzip makes at most about 1,032 times as many of them."""

_limit: ContextVar[int | None] = ContextVar("agentsession_decompressed", default=None)


def limit_responses() -> None:
    """Limit the responses that are read in this context from now on."""
    _limit.set(MAX_BYTES)


def was_too_large(error: BaseException | None) -> bool:
    """Return whether the limit is the cause of an error, which client libraries call a lost connection."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if TOO_LARGE in error.args:
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def install() -> None:
    """Give the decoders of httpx their limit. Has no effect before httpx is imported, or a second time."""
    decoders = getattr(sys.modules.get("httpx._decoders"), "SUPPORTED_DECODERS", {})
    for name, decoder in decoders.items():
        if not getattr(decoder, "is_limited", False):
            decoders[name] = _limited(decoder)


def _limited(decoder: type[Any]) -> type[Any]:
    class Limited(decoder):  # type: ignore[misc]
        is_limited = True

        def __init__(self) -> None:
            super().__init__()
            self.remaining = _limit.get()

        def decode(self, data: bytes) -> bytes:
            if self.remaining is None:
                return super().decode(data)  # type: ignore[no-any-return]
            pieces = []
            for start in range(0, len(data), SLICE):
                pieces.append(super().decode(data[start : start + SLICE]))
                self.remaining -= len(pieces[-1])
                if self.remaining < 0:
                    raise _too_large()
            return b"".join(pieces)

    return Limited


def _too_large() -> Exception:
    from httpx import DecodingError

    return DecodingError(TOO_LARGE)
