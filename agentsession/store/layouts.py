"""Which layout a model has."""

from __future__ import annotations

from typing import Any

from agentsession.options import ROWS, SessionOptions
from agentsession.store.document import Document
from agentsession.store.layout import Layout, Wanted
from agentsession.store.rows import Rows


def layout_of(model: Any, options: SessionOptions, wanted: Wanted) -> Layout:
    """The layout of a model's sessions, for one action."""
    kind = Rows if options.messages == ROWS else Document
    return kind(model, options, wanted)
