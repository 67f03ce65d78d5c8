"""The kind and the fix of a failed question follow from what happened; a client that cannot work is refused
before anything is stored."""

from __future__ import annotations

import os
from typing import Any

import pytest

from agentsession import NoResult, ProviderFailed, agent, testing, warm_up
from agentsession._options import Client
from agentsession._schema import OutputSchema
from agentsession.errors import FailureKind
from agentsession.provider import PromptMessage, Request
from agentsession.provider.litellm.adapter import _litellm
from agentsession.provider.litellm.failures import refuse_unusable
from agentsession.provider.litellm.retry import RetryBudget
from tests.support.litellm_calls import CLAUDE, GPT
from tests.support.llm_server import Fails, LlmServer, Slow
from tests.support.models import chat_model

pytestmark = [pytest.mark.backends("sqlite"), pytest.mark.layouts("document")]

KEYS = ("OPENAI_", "ANTHROPIC_", "LITELLM_PROXY")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    _litellm()
    for name in [name for name in os.environ if name.startswith(KEYS)]:
        monkeypatch.delenv(name)


def told(database: Any, client: Any, **options: Any) -> tuple[ProviderFailed, Any]:
    """The error of a session that could not start, and its model."""
    Chat = chat_model(database, client=client, **options)
    with pytest.raises(ProviderFailed) as failed:
        Chat.start_session("Hi")
    return failed.value, Chat


def client_for(server: LlmServer, client: str) -> Any:
    base = server.openai if client.startswith("openai") else server.url
    return client, {"api_base": base, "api_key": "key-123456"}


@pytest.mark.parametrize("client", [GPT, CLAUDE])
@pytest.mark.parametrize(
    ("status", "kind", "fix"),
    [
        (401, "auth", "_API_KEY, or api_key in client_options, then call resume_session"),
        (404, "unknown_model", "check the name of the model, '"),
        (429, "rate_limit", "raise the limit of your account"),
        (503, "overloaded", "wait until the service answers again, then call resume_session"),
        (400, "", "call resume_session to ask again"),
    ],
)
def test_the_fix_follows_from_the_status(
    database: Any, client: str, status: int, kind: FailureKind, fix: str
) -> None:
    with LlmServer(Fails(status)) as server:
        error, Chat = told(database, client_for(server, client), retries=0)
    assert (error.kind, fix in error.fix) == (kind, True), error.fix
    assert "words are kept" in error.why
    assert Chat.get().last_turn.status == "failed"


def test_a_call_has_the_same_fix_without_a_session() -> None:
    @agent(client=("openai:gpt-4o", {"api_key": "key-123456"}), instruction="x")
    class Asking: ...

    with LlmServer(Fails(404)) as server, pytest.raises(ProviderFailed) as failed:
        Asking.call("Hi", client_options={"api_base": server.openai})  # type: ignore[attr-defined]
    assert failed.value.fix == "check the name of the model, 'gpt-4o', and the api_base if you set one"


def test_a_question_that_took_too_long_says_how_to_give_it_more_time(database: Any) -> None:
    with LlmServer(Slow(5, Fails(500))) as server:
        error, _ = told(database, client_for(server, GPT), timeout=0.5)
    assert (error.kind, "raise timeout=" in error.fix) == ("timeout", True)


@pytest.mark.parametrize("client", ["openai:gpt-4o", "anthropic:claude-sonnet-4-5"])
def test_a_missing_key_is_told_before_anything_is_stored(database: Any, client: str, caplog: Any) -> None:
    error, Chat = told(database, client)
    name = client.partition(":")[0].upper() + "_API_KEY"
    assert (error.kind, error.why) == ("auth", "nothing was stored")
    assert error.fix == f"set {name}, or api_key in client_options"
    assert Chat.select().count() == 0
    warm_up(Chat)  # a key may come with the client_options of each turn
    assert f"set {name}, or api_key in client_options" in caplog.text


def test_an_unknown_provider_is_told_before_anything_is_stored(database: Any) -> None:
    error, Chat = told(database, "opanai:gpt-4o")
    assert (error.kind, error.why) == ("unknown_provider", "nothing was stored")
    assert error.fix.startswith("did you mean 'openai:gpt-4o'?")
    assert Chat.select().count() == 0
    with pytest.raises(ProviderFailed, match="did you mean 'openai:gpt-4o'") as failed:
        warm_up(Chat)
    assert (failed.value.where, failed.value.why) != ("", "")


def test_a_client_that_cannot_work_changes_nothing_of_a_session_that_goes_on(database: Any) -> None:
    Chat = chat_model(database)
    session = Chat.start_session("Hi", run=False)
    with testing.script(Chat, ["Hello!"]):
        session.resume_session()
    before = Chat.get_by_id(session.id).context
    with pytest.raises(ProviderFailed) as failed:
        session.continue_session("More", client="opanai:gpt-4o")
    assert failed.value.why == "nothing was stored"
    assert "resume_session" not in failed.value.fix
    assert Chat.get_by_id(session.id).context == before


@pytest.mark.parametrize(
    "options",
    [
        {"api_base": "http://127.0.0.1:9/v1"},
        {"api_key": "key-123456"},
        {"client": object()},
        {"extra_headers": {"Authorization": "x"}},
        {"mock_response": "Hi"},
        {"custom_llm_provider": "ollama"},
        {"litellm_credential_name": "mine"},
        {"an_option_of_tomorrow": 1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_client_that_may_work_is_not_refused(options: Any) -> None:
    refuse_unusable(_litellm(), Client.parse(("openai:gpt-4o", options)))


@pytest.mark.parametrize("client", ["ollama:llama3", "bedrock:anthropic.x", "hosted_vllm:x", "gemini:x"])
def test_a_provider_that_may_need_no_key_is_not_refused(client: str) -> None:
    refuse_unusable(_litellm(), Client.parse(client))


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_BASE_URL"])
def test_a_key_in_the_environment_is_not_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "x")
    refuse_unusable(_litellm(), Client.parse("openai:gpt-4o"))


@pytest.mark.parametrize("name", ["api_key", "openai_key", "api_base"])
def test_a_key_that_litellm_itself_was_given_is_not_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_litellm(), name, "x", raising=False)
    refuse_unusable(_litellm(), Client.parse("openai:gpt-4o"))


def test_a_provider_that_the_user_has_added_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = {"provider": "mine", "custom_handler": object()}
    monkeypatch.setattr(_litellm(), "custom_provider_map", [handler])
    refuse_unusable(_litellm(), Client.parse("mine:model"))


def test_a_missing_key_is_not_tried_again() -> None:
    """litellm raises it as a failure of the service, status 500."""
    litellm, prompt = _litellm(), (PromptMessage("user", "Hi"),)
    request = Request(prompt, Client.parse("openai:gpt-4o"), OutputSchema(None), retries=2)
    with pytest.raises(Exception, match=r"(?i)credentials|api_key") as raised:
        litellm.completion(model="openai/gpt-4o", messages=[{"role": "user", "content": "Hi"}], max_retries=0)
    attempts: Any = RetryBudget(litellm, request)
    with pytest.raises(Exception, match="gpt-4o") as failed:
        attempts.pause(raised.value)
    assert getattr(failed.value, "kind", "") == "auth"


def test_a_question_that_was_not_asked_leaves_no_turn(database: Any) -> None:
    _, Chat = told(database, "opanai:gpt-4o")
    session = Chat.start_session("Hi", run=False)
    with pytest.raises(ProviderFailed):
        session.resume_session()
    with pytest.raises(NoResult):
        _ = session.last_result
    assert Chat.get_by_id(session.id).last_turn.status == "pending"
