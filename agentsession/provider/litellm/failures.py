"""The kinds of failures of a model call, and what a person can do about each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from agentsession._options import OWN_PROVIDERS, Client
from agentsession.errors import FailureKind, ProviderCallError

PERMANENT: tuple[FailureKind, ...] = ("auth", "unknown_model", "unknown_provider")
"""Kinds of failures that another attempt cannot repair."""

RAISE_TIMEOUT = "raise timeout="

_NO_KEY = (
    "missing credentials",
    "api_key client option must be set",
    "no key is set",
    "missing anthropic api key",
    "missing gemini api key",
)
_NO_MODEL = ("model_not_found", "invalid model", "model not found")
_NO_PROVIDER = "llm provider not provided"
_LOOKED_AT = 2000
"""Characters of an error's text that decide its kind. Later ones may be the user's."""

_ONE_KEY = ("openai", "anthropic")
"""Providers to which litellm sends no request without a key."""

_PLAIN_OPTIONS = frozenset({
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "n", "user", "timeout",
    "presence_penalty", "frequency_penalty", "reasoning_effort", "thinking",
})  # fmt: skip
"""Options that have nothing to do with how the provider is reached."""


def failure_kind(error: Exception) -> FailureKind:
    """Return the kind of an error of litellm, which raises a missing key with the status 500."""
    status = getattr(error, "status_code", None)
    text = str(error)[:_LOOKED_AT].lower()
    if _NO_PROVIDER in text:
        return "unknown_provider"
    if status in (401, 403) or (_is_own(error) and any(words in text for words in _NO_KEY)):
        return "auth"
    if status == 404 or any(words in text for words in _NO_MODEL):
        return "unknown_model"
    if status == 429:
        return "rate_limit"
    if status == 408 or isinstance(error, TimeoutError):
        return "timeout"
    is_down = isinstance(error, ConnectionError) or (isinstance(status, int) and status >= 500)
    return "overloaded" if is_down else ""


def _is_own(error: Exception) -> bool:
    """Return whether litellm raised the error before its request, so that it has no headers of a response."""
    return not getattr(error, "litellm_response_headers", None)


def fix_for(kind: FailureKind, client: Client, litellm: Any) -> str:
    """Return what to do about a failure, for `ProviderCallError.fix`."""
    match kind:
        case "auth":
            keys = " or ".join(_missing_keys(litellm, client))
            return f"set {keys}, or api_key in client_options" if keys else "check the API key of the client"
        case "unknown_model":
            return f"check the name of the model, {client.model!r}, and the api_base if you set one"
        case "unknown_provider":
            return _another_provider(client, litellm)
        case "rate_limit":
            return "wait, or raise the limit of your account at the provider"
        case "timeout":
            return RAISE_TIMEOUT
        case "overloaded":
            return "wait until the service answers again"
    return ""


def _another_provider(client: Client, litellm: Any) -> str:
    close = get_close_matches(client.provider, sorted({*_providers(litellm), *OWN_PROVIDERS}), 1)
    meant = f"did you mean '{close[0]}:{client.model}'? " if close else ""
    return f"{meant}client is 'provider:model', with a provider of docs.litellm.ai/docs/providers"


def _providers(litellm: Any) -> set[str]:
    return {str(getattr(provider, "value", provider)) for provider in litellm.provider_list}


def _missing_keys(litellm: Any, client: Client) -> list[str]:
    """Return the environment variables from which litellm takes a key, if none of them is set."""
    if client.provider not in _providers(litellm):
        return []
    try:
        missing: list[str] = litellm.validate_environment(f"{client.provider}/{client.model}")["missing_keys"]
    except Exception:
        return []
    return [name for name in missing if name.endswith("_API_KEY")]


def refuse_unusable(litellm: Any, client: Client) -> None:
    """Raise `ProviderCallError` if the client's provider is unknown or its key is missing."""
    if _has_unknown_provider(litellm, client):
        raise _refused("unknown_provider", f"litellm knows no provider {client.provider!r}", client, litellm)
    if _lacks_its_key(litellm, client):
        raise _refused("auth", "there is no API key", client, litellm)


def _refused(kind: FailureKind, found: str, client: Client, litellm: Any) -> ProviderCallError:
    return ProviderCallError(f"{client.id}: {found}", kind=kind, fix=fix_for(kind, client, litellm))


def _has_unknown_provider(litellm: Any, client: Client) -> bool:
    """Return whether litellm does not know the provider.

    Providers and model names that the user has registered with litellm count as known.
    """
    if client.provider in _providers(litellm) or "custom_llm_provider" in client.options:
        return False
    if getattr(litellm, "custom_provider_map", None) or getattr(litellm, "model_alias_map", None):
        return False
    try:
        litellm.get_llm_provider(
            model=f"{client.provider}/{client.model}", api_base=client.options.get("api_base")
        )
    except Exception as error:
        return failure_kind(error) == "unknown_provider"
    return False


def _lacks_its_key(litellm: Any, client: Client) -> bool:
    """Return whether the key is missing, and nothing else can be the key or select another service."""
    if client.provider not in _ONE_KEY or client.options.keys() - _PLAIN_OPTIONS:
        return False
    if any(_settings_of_the_user(litellm, client.provider)):
        return False
    return bool(_missing_keys(litellm, client))


def _settings_of_the_user(litellm: Any, provider: str) -> Iterator[object]:
    """Yield what the user may have set in place of a key, in litellm or in the environment."""
    for name in (
        "api_key", "api_base", "headers", "client_session", "aclient_session", "secret_manager_client",
        "credential_list", f"{provider}_key", "use_litellm_proxy", "cache",
    ):  # fmt: skip
        yield getattr(litellm, name, None)
    yield from (name.startswith((f"{provider.upper()}_", "LITELLM_PROXY")) for name in os.environ)
    yield os.environ.get("USE_LITELLM_PROXY")
