"""`@agent`: a client, an instruction and schemas make a class an agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from agentsession import _registry, info
from agentsession._dsl.declare import (
    apply,
    problems_of,
    raise_problems,
    unknown_options,
    with_actions,
    with_defaults,
)
from agentsession._dsl.drafts import AgentDraft
from agentsession._dsl.verifiers.agent import AGENT_VERIFIERS, HOOK_VERIFIERS
from agentsession._dsl.verifiers.tools import TOOL_VERIFIERS
from agentsession._option_rules import UNSET, converted, keywords_of
from agentsession._options import AgentOptions, OnBudget, OnToolError, OutputMode
from agentsession._safe_errors import own_frames_emptied, take_all
from agentsession.actions.mixins import GivenActions

C = TypeVar("C", bound=type)


@overload
def agent(
    *,
    client: str | tuple[str, Mapping[str, Any]],
    instruction: str,
    instruction_schema: Any = None,
    input_schema: Any = None,
    output_schema: Any = None,
    provider: Any = None,
    output_mode: OutputMode = "auto",
    timeout: float = 120.0,
    retries: int = 2,
    output_retries: int = 1,
    tools: Sequence[Any] = (),
    max_iterations: int = 10,
    tool_timeout: float = 30.0,
    on_tool_error: OnToolError = "continue",
    approval_timeout: float | None = None,
    hooks: Any = None,
    token_budget: int | None = None,
    on_budget: OnBudget = "warn",
) -> Callable[[C], C]: ...
@overload
def agent(model: C, /) -> C: ...
def agent(model: Any = UNSET, /, **options: Any) -> Any:
    """Make a class an agent, which answers single calls.

    At import the options are verified and the class gets `call` and `stream`, and for an event loop `acall`
    and `astream`. No model is called, and litellm is not imported. A call stores nothing. Below
    `@agent_session` the class is a Peewee model and its conversations are stored.

    A schema is a pydantic model, a dataclass, a TypedDict, a union or a plain type. Type arguments of the
    mixin (`AgentActions[Question, Answer]`) are the input and the output schema.

    Args:
        client: `"provider:model"`, or `("provider:model", {…})` with options. The options go to the provider
            unchanged and are never stored, logged or shown. `"echo:"` answers offline; litellm asks all
            others.
        instruction: The mustache template of the system message. Nothing is escaped and no file is read. A
            variable without a value is an error.
        instruction_schema: The schema of `instruction_args`. Default: any dict.
        input_schema: The schema of a user's message. Default: `message: str`, or the text itself.
        output_schema: The schema of the reply. Default: text.
        provider: An object with `ask(request)`, and optionally `stream`, `aask` and `astream`. Default: the
            provider that the client's id names.
        output_mode: How the model is asked for structured output: `"schema"` or `"prompt"`. Default:
            `"auto"`, what litellm knows about the model.
        timeout: Seconds for one model call with its retries. A stream may also not pause for more than 30
            seconds. Default: 120.
        retries: Number of retries after a connection error or one of the statuses 408, 429 and 5xx, before
            the first piece of a reply. Default: 2.
        output_retries: Number of times that a reply which does not fit the schema goes back to the model,
            with the error. Default: 1.
        tools: What the model may call: functions with type hints and a docstring, plain or asynchronous,
            bound methods and classmethods, `Tool` values, and the `call` or `acall` of another agent.
            Classmethods and staticmethods of the class that are marked with `@tool` are added. Default: none.
        max_iterations: Number of model calls in one run of a turn. Default: 10.
        tool_timeout: Seconds for one call of a tool that has no `timeout`. Default: 30.
        on_tool_error: `"continue"` shows the error of a tool to the model, `"halt"` fails the turn. Default:
            `"continue"`.
        approval_timeout: Seconds after which a call that waits for a person's approval counts as rejected.
            Default: None, no limit.
        hooks: An object, or a class to make one of, with functions around the model calls: `before_call`,
            `after_render`, `after_call`, `on_error`, `on_iteration_start`, `prepare_messages`,
            `prepare_tool_results`, `on_iteration_complete`. Each takes `(context, value)` and may return a
            replacement of the value. Default: None.
        token_budget: Tokens that one turn may use, input and output of all its model calls. The tokens of an
            agent that is called as a tool are not counted. Default: None, no limit.
        on_budget: `"warn"` logs a warning at 80 % of `token_budget`, `"halt"` fails the turn beyond it.
            Default: `"warn"`.

    Returns:
        The class itself, with the actions as a base class.

    Raises:
        DslError: The declaration is wrong. The error has every problem; nothing is registered, and the class
            is unchanged.

    Example:
        ```python
        @agent(client="echo:", instruction="You are terse.")
        class Terse:
            ...

        Terse.call("What is the capital of France?").text
        ```
    """
    return apply(_Decorator(take_all(options)), model)


class _Decorator:
    """`@agent(…)`. It has no repr that shows the options."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options

    def __call__(self, model: Any) -> Any:
        with own_frames_emptied:
            return _declare(self._options, model)


def _declare(options: Mapping[str, Any], model: Any) -> Any:
    known = keywords_of(agent)
    draft = AgentDraft(model, **with_defaults(options, known))
    unknown = unknown_options(model, "agent", options, known)
    verifiers = (*AGENT_VERIFIERS, *TOOL_VERIFIERS, *HOOK_VERIFIERS)
    raise_problems((*unknown, *problems_of(draft, verifiers)))
    with with_actions(model, GivenActions, "agent"):
        _registry.declare_agent(model, _verified(draft))
    return model


def _verified(draft: AgentDraft) -> AgentOptions:
    return AgentOptions(
        qualified_name=info.qualified_name(draft.model),
        client=draft.parsed_client,
        template=draft.parsed_template,
        instruction_schema=draft.instruction_type,
        input=draft.input_type,
        output=draft.output_type,
        provider=draft.provider,
        tools=tuple(tool for _, tool in draft.made_tools),
        hooks=draft.made_hooks,
        **converted(AgentOptions, draft),
    )
