"""`@agent`: a client, an instruction and schemas make a class an agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from agentsession import _registry, info
from agentsession._dsl.declare import UNSET, apply, problems_of, raise_problems, refuse_unknown
from agentsession._dsl.inject import given
from agentsession._dsl.verifiers.agent import AGENT_VERIFIERS, AgentDraft
from agentsession._dsl.verifiers.loop import LOOP_VERIFIERS
from agentsession._dsl.verifiers.tools import TOOL_VERIFIERS
from agentsession._options import AgentOptions, OnBudget, OnToolError, OutputMode
from agentsession._tracebacks import own_frames_emptied
from agentsession.actions.mixins import GivenActions

C = TypeVar("C", bound=type)

ALL_VERIFIERS = (*AGENT_VERIFIERS, *TOOL_VERIFIERS, *LOOP_VERIFIERS)


@overload
def agent(
    *,
    client: str | tuple[str, Mapping[str, Any]],
    instruction: str,
    instruction_schema: Any = ...,
    input_schema: Any = ...,
    output_schema: Any = ...,
    provider: Any = ...,
    output_mode: OutputMode = ...,
    timeout: float = ...,
    retries: int = ...,
    output_retries: int = ...,
    tools: Sequence[Any] = ...,
    max_iterations: int = ...,
    tool_timeout: float = ...,
    on_tool_error: OnToolError = ...,
    approval_timeout: float | None = ...,
    hooks: Any = ...,
    token_budget: int | None = ...,
    on_budget: OnBudget = ...,
) -> Callable[[C], C]: ...
@overload
def agent(model: C, /) -> C: ...
def agent(
    model: Any = UNSET,
    /,
    *,
    client: Any = UNSET,
    instruction: Any = UNSET,
    instruction_schema: Any = None,
    input_schema: Any = None,
    output_schema: Any = None,
    provider: Any = None,
    output_mode: Any = "auto",
    timeout: Any = 120.0,
    retries: Any = 2,
    output_retries: Any = 1,
    tools: Any = (),
    max_iterations: Any = 10,
    tool_timeout: Any = 30.0,
    on_tool_error: Any = "continue",
    approval_timeout: Any = None,
    hooks: Any = None,
    token_budget: Any = None,
    on_budget: Any = "warn",
    **unknown: Any,
) -> Any:
    """Make a class an agent: it gets `call` and `stream`, and `acall` and `astream` for an event
    loop, and under `@agent_session` the actions of a conversation.

    - `client`: `"provider:model"`, or `("provider:model", {…})` with options that go to the provider as they
      are and are never stored, logged or shown. `"echo:"` answers offline; all else is asked by litellm.
    - `instruction`: the mustache template of the system message. Nothing is escaped, no file is read, and a
      variable without a value is an error.
    - `instruction_schema`: what `instruction_args` must look like; without it any dict will do.
    - `input_schema`: what a user's message must look like; without it `message: str`, or the bare text.
    - `output_schema`: what the reply must look like; without it text. Each schema is a pydantic model,
      dataclass, TypedDict, union or plain type. Type arguments of the mixin serve as both.
    - `provider`: an object with `ask(request)`, and perhaps `stream`, `aask` and `astream`, instead of the
      one that the client's id chooses.
    - `output_mode`: `"schema"` or `"prompt"`, where litellm is wrong about what the model can do.
    - `timeout`: seconds for one question with its retries; at most 30 s between two pieces of a stream.
      `retries`: before the first piece of a reply, after connection errors and the
      statuses 408, 429 and 5xx.
    - `output_retries`: how often a reply that does not fit goes back to the model with the error.
    - `tools`: what the model may ask for: functions with type hints and a docstring, plain or asynchronous,
      bound methods and classmethods (`Order.find`), `Tool` values, and another agent's `call` or `acall`.
      Classmethods and staticmethods of the class that are marked with `@tool` are tools without being listed.
    - `max_iterations`: how often the model is asked in one run of a turn.
    - `tool_timeout`: seconds for one call of a tool that has no `timeout` of its own.
    - `on_tool_error`: `"continue"` shows the error to the model, `"halt"` fails the turn.
    - `approval_timeout`: seconds after which a call that waits for a person's approval counts as rejected;
      None waits for ever.
    - `hooks`: an object, or a class to make one of, with functions around the model's calls: `before_call`,
      `after_render`, `after_call`, `on_error`, `on_iteration_start`, `prepare_messages`,
      `prepare_tool_results`, `on_iteration_complete`. Each gets `(context, value)`, and may return what is
      used instead of the value.
    - `token_budget`: tokens that one turn may use, input and output of all its steps. What an agent that is
      asked as a tool uses is not counted.
      `on_budget="warn"` logs a warning at 80 % of them, `"halt"` fails the turn beyond them.

    Raises `DslError` with every problem at once; nothing is then registered and the class is unchanged.

    ```python
    @agent(client="echo:", instruction="You are terse.")
    class Terse:
        ...

    Terse.call("What is the capital of France?").text
    ```
    """
    options = {
        "client": client,
        "instruction": instruction,
        "instruction_schema": instruction_schema,
        "input_schema": input_schema,
        "output_schema": output_schema,
        "provider": provider,
        "output_mode": output_mode,
        "timeout": timeout,
        "retries": retries,
        "output_retries": output_retries,
        "tools": tools,
        "max_iterations": max_iterations,
        "tool_timeout": tool_timeout,
        "on_tool_error": on_tool_error,
        "approval_timeout": approval_timeout,
        "hooks": hooks,
        "token_budget": token_budget,
        "on_budget": on_budget,
    }
    declare = _Declare(options, unknown)
    del client, options, unknown  # the frame stays in the traceback of a DslError, and a key is among them
    return apply(declare, model)


class _Declare:
    """The decorator. It has no repr that shows the options."""

    def __init__(self, options: Mapping[str, Any], unknown: Mapping[str, Any]) -> None:
        self._options = options
        self._unknown = unknown

    def __call__(self, model: Any) -> Any:
        with own_frames_emptied:
            return _declare(self._options, self._unknown, model)


def _declare(options: Mapping[str, Any], unknown: Mapping[str, Any], model: Any) -> Any:
    draft = AgentDraft(model, **options)
    surplus = refuse_unknown(model, "agent", unknown, options)
    raise_problems((*surplus, *problems_of(draft, ALL_VERIFIERS)))
    with given(model, GivenActions, "agent"):
        _registry.declare_agent(model, _options(draft))
    return model


def _options(draft: AgentDraft) -> AgentOptions:
    return AgentOptions(
        place=info.place(draft.model),
        client=draft.parsed_client,
        template=draft.parsed_template,
        instruction_schema=draft.instruction_type,
        input=draft.input_type,
        output=draft.output_type,
        provider=draft.provider,
        output_mode=draft.output_mode,
        timeout=float(draft.timeout),
        retries=draft.retries,
        output_retries=draft.output_retries,
        tools=tuple(tool for _, tool in draft.made_tools),
        max_iterations=draft.max_iterations,
        tool_timeout=float(draft.tool_timeout),
        on_tool_error=draft.on_tool_error,
        approval_timeout=None if draft.approval_timeout is None else float(draft.approval_timeout),
        hooks=draft.made_hooks,
        token_budget=draft.token_budget,
        on_budget=draft.on_budget,
    )
