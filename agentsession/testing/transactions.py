"""Actions inside a transaction that a test rolls back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agentsession._drive.performer import allow_transactions
from agentsession.testing.override import override


@contextmanager
def inside_transaction() -> Iterator[None]:
    """Allow every action inside an open transaction, for tests that roll back at their end."""
    with override(allow_transactions, True):
        yield
