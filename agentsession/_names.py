"""The names of the generated actions. A model that already uses one of them is refused at import."""

from __future__ import annotations


def _with_twins(*names: str) -> frozenset[str]:
    """Return the names with those of their async, stream and async stream forms."""
    streamed = {f"{prefix}{name}" for name in names for prefix in ("stream_", "astream_")}
    return frozenset(names) | {f"a{name}" for name in names} | streamed


AGENT_NAMES = frozenset({"call", "acall", "stream", "astream"})
SESSION_NAMES = (
    AGENT_NAMES
    | _with_twins("start_session", "continue_session", "resume_session")
    | {"cancel_session", "acancel_session", "get_context", "aget_context"}
    | {"last_result", "last_turn", "approvals"}
)
