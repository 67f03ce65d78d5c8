"""Many model servers repeat the input in their errors: it is in no error, no stored turn and no log."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import peewee as pw
import pytest
from hypothesis import given as generated
from hypothesis import strategies as st

from agentsession import ProviderFailed, testing
from agentsession.errors import ProviderCallError
from agentsession.provider import PromptMessage, Reply, ToolCall
from agentsession.provider.prompt_leaks import RUN, without_prompt_text
from agentsession.provider.redaction import MAX_LENGTH, redacted
from tests.support.key_canaries import SESSION_WAYS, WAYS, captured, links_of, model_of
from tests.support.llm_server import Fails, LlmServer
from tests.support.models import stored

SECRET = 'My "PIN" is 4711,\nand I have asthma: größte Sorge \\ ende.'
FORMS = {
    "plain": SECRET,
    "a part of it": SECRET[9:-9],
    "JSON": json.dumps(SECRET),
    "JSON with its own letters": json.dumps(SECRET, ensure_ascii=False),
    "JSON in JSON": json.dumps(json.dumps(SECRET)),
    "Python": repr([{"type": "string_type", "input": {"role": "user", "content": SECRET}}]),
    "bytes": repr(json.dumps(SECRET, ensure_ascii=False).encode()),
}
PARTS = ("4711", "asthma", "Sorge", "PIN")
BEFORE = "invalid_request_error: cannot read the input "
AFTER = " (at most 3 requests, context_window of 8192 tokens)"


def echo(text: str, status: int = 400) -> Fails:
    return Fails(status, json.dumps({"error": {"message": BEFORE + text + AFTER, "type": "bad"}}))


def shows_nothing(text: str) -> bool:
    return not any(part in text for part in PARTS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("client", ["openai:gpt-4o", "anthropic:claude-sonnet-4-5"])
def test_what_was_sent_is_in_no_link_of_the_error(
    way: str, form: str, client: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    name, run = WAYS[way]
    with LlmServer(echo(FORMS[form], 422)) as server, pytest.raises(ProviderFailed) as caught:
        base = server.openai if client.startswith("openai") else server.url
        run(getattr(model_of(client, more={"api_base": base}, retries=0), name), SECRET)
    error = caught.value
    assert BEFORE.strip() in error.found
    assert AFTER.strip() in error.found
    assert shows_nothing(str(error) + caplog.text)
    assert len(links_of(error)) > 1
    assert all(shows_nothing(captured(link)) for link in links_of(error)[1:])


@pytest.mark.parametrize("way", SESSION_WAYS)
def test_what_was_sent_is_stored_in_the_message_alone(way: str, tmp_path: Any) -> None:
    database = pw.SqliteDatabase(tmp_path / "echo.db", pragmas={"journal_mode": "wal", "busy_timeout": 5000})
    prefix, run = SESSION_WAYS[way]
    with LlmServer(echo(FORMS["Python"])) as server:
        model = model_of(more={"api_base": server.openai}, database=database)
        with testing.script(model, ["Noted: asthma, 4711. Sorge am ende."]):
            session = model.start_session(SECRET)
        with pytest.raises(ProviderFailed):
            run(getattr(session, f"{prefix}continue_session"), "What did I say?")
    turn = model.get_context(session.id).turn
    assert turn.error.type == "ProviderFailed"
    assert BEFORE.strip() in turn.error.message
    assert shows_nothing(turn.error.message)
    *before, last = stored(model.select().get())["messages"]
    assert [message["role"] for message in before] == ["user", "assistant"]
    assert shows_nothing(json.dumps(last))
    database.close()


def everything_sent() -> tuple[PromptMessage, ...]:
    arguments = json.dumps({"customer": "Ann Lee", "notes": [{"text": "asthma since 2019, severe"}]})
    return (
        PromptMessage("system", "You are the nurse of ward seven."),
        PromptMessage("user", "Please find the customer Ann Lee"),
        PromptMessage("assistant", "Let me have a look at it.", (ToolCall("find", arguments, "abc"),)),
        PromptMessage("tool", '{"name": "Ann Lee", "room": "B 17, second floor"}', call="abc"),
        PromptMessage("user", "ok go"),
    )


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("bad: You are the nurse of ward seven.", "bad: [hidden]."),
        ("bad: Please find the customer Ann", "bad: [hidden]"),
        ("bad: asthma since 2019, severe!", "bad: [hidden]!"),
        ("bad: B 17, second floor.", "bad: [hidden]."),
        ("bad: Ann Lee (x)", "bad: [hidden] (x)"),
        ("bad input 'ok go', sorry", "bad input '[hidden]', sorry"),
        ("are you ok going on?", "are you ok going on?"),
        ("rate limit exceeded for model find", "rate limit exceeded for model find"),
        ("model not found", "model not found"),
        ("context length exceeded: 8192 tokens", "context length exceeded: 8192 tokens"),
        ("", ""),
    ],
)
def test_each_text_that_was_sent_is_hidden_and_other_words_stay(said: str, shown: str) -> None:
    assert redacted(said, {}, everything_sent()) == shown


class Repeats:
    """A provider of the application that repeats the input in an error of its own."""

    def __init__(self, kind: type[Exception]) -> None:
        self.kind = kind

    def ask(self, request: Any) -> Reply:
        raise self.kind(f"cannot read {request.prompt[-1].content!r}")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [ValueError, ProviderCallError, KeyError])
def test_a_provider_of_the_application_repeats_nothing(way: str, kind: type[Exception]) -> None:
    name, run = WAYS[way]
    with pytest.raises(ProviderFailed) as caught:
        run(getattr(model_of(provider=Repeats(kind)), name), SECRET)
    assert "[hidden]" in caught.value.found
    assert "cannot read" in caught.value.found
    assert shows_nothing(str(caught.value))
    assert all(shows_nothing(captured(link)) for link in links_of(caught.value)[1:])


def test_a_long_message_is_cut_and_shows_no_beginning_of_what_was_sent() -> None:
    sent = "0123456789 " * 10
    for length in range(MAX_LENGTH - 40, MAX_LENGTH + 10, 3):
        shown = redacted("x" * length + sent + "y" * 100, {}, (PromptMessage("user", sent),))
        assert len(shown) <= MAX_LENGTH + 10
        assert "0" not in shown
        assert shown.endswith("… (cut)")


def letters_in(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum())


def unescaped(text: str) -> str:
    return re.sub(r"\\+u00e4", "ä", re.sub(r"\\+n", " ", text))


@generated(st.lists(st.text("ab cä\"\\\n'1", min_size=1, max_size=60), min_size=1, max_size=4), st.data())
def test_no_run_of_what_was_sent_is_left(sent: list[str], data: st.DataObject) -> None:
    pieces = []
    for text in sent:
        first = data.draw(st.integers(0, len(text)))
        pieces.append(text[first : data.draw(st.integers(first, len(text)))])
    said = data.draw(st.text("xyz :", max_size=20)).join(pieces)
    for _ in range(data.draw(st.integers(0, 2))):
        said = json.dumps(said)
    shown = without_prompt_text([said], [PromptMessage("user", text) for text in sent])[said]
    for text in map(letters_in, map(unescaped, sent)):
        runs = {text[at : at + RUN] for at in range(len(text) - RUN + 1)}
        assert not any(run in letters_in(unescaped(part)) for run in runs for part in shown.split("[hidden]"))
