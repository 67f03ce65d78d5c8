"""The actions as typed functions; the methods that the decorators inject are these, with the model bound.

```python
from agentsession.actions import continue_session, start_session

session = start_session(ChatAgent, "Hello!", instruction_args={"company_name": "Acme"})
continue_session(ChatAgent, session.id, "And how do you do?")
```
"""

from agentsession._store.connection import release_connection
from agentsession._store.declared import has_async_database
from agentsession.actions.approval import Approval
from agentsession.actions.approvals import aapprovals, afind_approval, approvals, find_approval
from agentsession.actions.cancel import acancel_session, cancel_session
from agentsession.actions.continue_ import (
    acontinue_session,
    astream_continue_session,
    continue_session,
    stream_continue_session,
)
from agentsession.actions.messages import assistant_message, build_context, instruction_message, user_message
from agentsession.actions.migration import MigrationReport, migrate
from agentsession.actions.one_call import acall, astream, call, stream, warm_up
from agentsession.actions.read import aget_context, get_context, last_result, last_turn
from agentsession.actions.resume import (
    aresume_session,
    astream_resume_session,
    resume_session,
    stream_resume_session,
)
from agentsession.actions.sessions import (
    ListedSession,
    SessionPage,
    adelete_session,
    alist_sessions,
    delete_session,
    list_sessions,
)
from agentsession.actions.start import (
    astart_session,
    astream_start_session,
    start_session,
    stream_start_session,
)

__all__ = [
    "Approval",
    "ListedSession",
    "MigrationReport",
    "SessionPage",
    "aapprovals",
    "acall",
    "acancel_session",
    "acontinue_session",
    "adelete_session",
    "afind_approval",
    "aget_context",
    "alist_sessions",
    "approvals",
    "aresume_session",
    "assistant_message",
    "astart_session",
    "astream",
    "astream_continue_session",
    "astream_resume_session",
    "astream_start_session",
    "build_context",
    "call",
    "cancel_session",
    "continue_session",
    "delete_session",
    "find_approval",
    "get_context",
    "has_async_database",
    "instruction_message",
    "last_result",
    "last_turn",
    "list_sessions",
    "migrate",
    "release_connection",
    "resume_session",
    "start_session",
    "stream",
    "stream_continue_session",
    "stream_resume_session",
    "stream_start_session",
    "user_message",
    "warm_up",
]
