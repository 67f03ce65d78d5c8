"""Actions inside a transaction of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agentsession._drive.performer import allow_transactions
from agentsession.testing.override import override


@contextmanager
def inside_transaction() -> Iterator[None]:
    """Allow every action inside an open transaction, for tests that roll back at their end.

    Example:
        ```python
        with db.atomic() as transaction, testing.inside_transaction():
            ChatAgent.start_session("Hello!")
            transaction.rollback()
        ```
    """
    with override(allow_transactions, True):
        yield
