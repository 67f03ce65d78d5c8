"""litellm: every hosted model through one library. The only file that imports it, and only when needed.

`anthropic:claude-x` is asked as `anthropic/claude-x`; the client's options go to litellm as they are.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Mapping
from typing import Any

from agentsession.context import Usage
from agentsession.errors import ProviderError
from agentsession.json_values import JsonMap, compact
from agentsession.provider.protocol import Request
from agentsession.provider.redact import redacted, scrub
from agentsession.provider.strict import strict
from agentsession.schema import OutputSchema
from agentsession.turn.effects import Reply

RETRIED_STATUS = (408, 429)
FIRST_PAUSE = 0.5
"""Seconds before the first retry; doubled for each further one, with jitter."""

_importing = threading.Lock()


class LiteLLM:
    def prepare(self) -> None:
        """Import litellm, which takes seconds, before a lease runs."""
        _litellm()

    def ask(self, request: Request) -> Reply:
        litellm = _litellm()
        arguments = _arguments(litellm, request)
        deadline = time.monotonic() + request.timeout
        for attempt in range(request.retries + 1):
            try:
                response = litellm.completion(**arguments, timeout=max(deadline - time.monotonic(), 0.001))
                return _reply(litellm, request, response)
            except Exception as error:
                pause = _pause(error, attempt)
                left = deadline - time.monotonic()
                if not _is_passing(error) or attempt == request.retries or left <= pause:
                    raise _provider_error(error, request) from scrub(error, request.client.options)
            time.sleep(pause)
        raise AssertionError("the loop above returns or raises")


def _litellm() -> Any:
    """The module. Its price list comes from the package, not from the network, unless the user said so."""
    with _importing:
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import litellm

        litellm.suppress_debug_info = True
    return litellm


def _arguments(litellm: Any, request: Request) -> dict[str, Any]:
    model = f"{request.client.provider}/{request.client.model}"
    messages = [{"role": message.role, "content": message.content} for message in request.view]
    arguments: dict[str, Any] = {
        **request.client.options,
        "model": model,
        "messages": messages,
        "num_retries": 0,
        "max_retries": 0,
    }
    if request.output.is_text:
        return arguments
    if _wants_schema(litellm, request, model):
        return arguments | {"response_format": _response_format(request.output)}
    return arguments | {"messages": _with_instructions(messages, request.output)}


def _wants_schema(litellm: Any, request: Request, model: str) -> bool:
    if request.output_mode == "auto":
        return bool(litellm.supports_response_schema(model=model))
    return request.output_mode == "schema"


def _response_format(output: OutputSchema) -> JsonMap:
    schema = strict(output.json_schema)
    body = {"name": output.wire_name, "schema": schema or output.json_schema, "strict": schema is not None}
    return {"type": "json_schema", "json_schema": body}


def _with_instructions(messages: list[dict[str, str]], output: OutputSchema) -> list[dict[str, str]]:
    """For a model that takes no schema: the schema in the system message."""
    ask = f"Answer with JSON only, no other text, that fits this JSON schema:\n{compact(output.json_schema)}"
    if messages[0]["role"] == "system":
        return [{"role": "system", "content": f"{messages[0]['content']}\n\n{ask}"}, *messages[1:]]
    return [{"role": "system", "content": ask}, *messages]


def _reply(litellm: Any, request: Request, response: Any) -> Reply:
    choice = response.choices[0]
    return Reply(
        text=choice.message.content or "",
        thinking=getattr(choice.message, "reasoning_content", None) or "",
        usage=_usage(getattr(response, "usage", None)),
        cost=_cost(litellm, response),
        model=response.model or request.client.model,
        finish_reason=choice.finish_reason or "",
        raw=response,
    )


def _usage(usage: Any) -> Usage:
    details = getattr(usage, "completion_tokens_details", None)
    prompt = getattr(usage, "prompt_tokens_details", None)
    return Usage(
        input_tokens=getattr(usage, "prompt_tokens", None) or 0,
        output_tokens=getattr(usage, "completion_tokens", None) or 0,
        total_tokens=getattr(usage, "total_tokens", None) or 0,
        reasoning_tokens=getattr(details, "reasoning_tokens", None) or 0,
        cached_tokens=getattr(prompt, "cached_tokens", None) or 0,
    )


def _cost(litellm: Any, response: Any) -> float | None:
    """litellm raises for a model that is not in its price list."""
    try:
        return float(litellm.completion_cost(response))
    except Exception:
        return None


def _is_passing(error: Exception) -> bool:
    status = getattr(error, "status_code", None)
    return isinstance(status, int) and (status in RETRIED_STATUS or status >= 500)


def _pause(error: Exception, attempt: int) -> float:
    headers: Mapping[str, str] = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return float(headers.get("retry-after", ""))
    except ValueError:
        doubled: float = FIRST_PAUSE * 2**attempt
        return doubled * random.uniform(0.5, 1.0)


def _provider_error(error: Exception, request: Request) -> ProviderError:
    text = redacted(str(getattr(error, "message", None) or error), request.client.options)
    return ProviderError(
        f"{request.client.id}: {type(error).__name__}: {text}", status=getattr(error, "status_code", None)
    )
