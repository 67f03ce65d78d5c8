"""The actions as typed functions; the methods that the decorators inject are these, with the model bound.

```python
from agentsession.actions import continue_session, start_session

session = start_session(ChatAgent, "Hello!", instruction_args={"company_name": "Acme"})
continue_session(ChatAgent, session.id, "And how do you do?")
```
"""

from agentsession.actions.one_call import build_context, call, instruction_message, user_message, warm_up
from agentsession.actions.results import last_result, last_turn
from agentsession.actions.session import continue_session, get_context, resume_session, start_session

__all__ = [
    "build_context",
    "call",
    "continue_session",
    "get_context",
    "instruction_message",
    "last_result",
    "last_turn",
    "resume_session",
    "start_session",
    "user_message",
    "warm_up",
]
