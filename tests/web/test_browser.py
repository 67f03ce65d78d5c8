"""The page of the examples in a real Chromium, on a real server of each framework."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By

from agentsession import info
from agentsession.errors import ProviderCallError
from agentsession.provider import Reply
from tests.support.browser import EXAMPLES, Page
from tests.support.web_clients import Trickle
from tests.support.web_servers import on_uvicorn, on_werkzeug, recorded_asgi, recorded_wsgi, until

SERVERS = {"fastapi_chat": (on_uvicorn, recorded_asgi), "flask_chat": (on_werkzeug, recorded_wsgi)}


class Served:
    """An example that runs, and what its model says. `answered` are the methods and statuses of requests."""

    def __init__(self, module: Any, browser: Any, port: int, answered: list[tuple[str, int]]) -> None:
        self.answered = answered
        self.Chat = module.Chat
        self.browser = browser
        self.address = f"http://127.0.0.1:{port}/"

    def answers(self, provider: Any) -> Any:
        object.__setattr__(info.agent_options(self.Chat), "provider", provider)
        return provider

    def page(self) -> Page:
        return Page(self.browser, self.address)

    @property
    def turns(self) -> list[list[str]]:
        """What was said in each session."""
        return [[message["content"] for message in row.context["messages"]] for row in self.Chat.select()]


@pytest.fixture(params=SERVERS)
def example(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chromium: Any) -> Iterator[Served]:
    monkeypatch.setenv("CHAT_DB", str(tmp_path / "chat.db"))
    monkeypatch.delenv("AGENTSESSION_CLIENT", raising=False)
    spec: Any = importlib.util.spec_from_file_location(request.param, EXAMPLES / f"{request.param}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    serve, recorded = SERVERS[request.param]
    answered: list[tuple[str, int]] = []
    with serve(recorded(module.app, answered)) as port:
        yield Served(module, chromium, port, answered)
        chromium.get("about:blank")
    module.db.close()


def test_a_conversation_is_held_and_is_there_again_after_a_reload(example: Served) -> None:
    page = example.page()
    page.say("Hello")
    said = ["Hello", "You said: Hello (message 1 of this conversation)"]
    page.comes_to(*said)
    page.say("And now?")
    said += ["And now?", "You said: And now? (message 2 of this conversation)"]
    page.comes_to(*said)
    example.browser.refresh()
    page.comes_to(*said)
    assert len(page.browser.find_elements(By.CSS_SELECTOR, "#sessions button")) == 1


def test_a_reply_is_shown_word_by_word(example: Served) -> None:
    model = example.answers(Trickle("one ", "two "))
    page = example.page()
    page.say("Hello")
    for shown in ("", "one "):
        until(lambda shown=shown: page.messages == ["Hello", shown])
        assert page.is_shown("#stop")
        model.may.release()
    page.comes_to("Hello", "one two ")
    assert not page.is_shown("#stop")


def test_what_is_said_is_never_markup(example: Served) -> None:
    page = example.page()
    words = "<img src=x onerror='window.bad = 1'><script>window.bad = 1</script>"
    page.say(words)
    page.comes_to(words, f"You said: {words} (message 1 of this conversation)")
    assert page.browser.execute_script("return window.bad") is None
    assert page.browser.find_elements(By.TAG_NAME, "img") == []


def test_a_turn_is_stopped_and_asked_again(example: Served) -> None:
    model = example.answers(Trickle("one ", "two "))
    page = example.page()
    page.say("Hello")
    model.may.release()
    until(lambda: page.messages == ["Hello", "one "])
    page["#stop"].click()
    page.comes_to("Hello", "one ")
    assert example.Chat.get().status == "interrupted"
    model.may.release()  # what was stopped ends with its next piece
    until(model.is_closed.is_set)
    model.may.release(2)
    page["#again"].click()
    page.comes_to("Hello", "one two ")
    assert example.Chat.get().status == "completed"


def test_another_page_follows_a_turn_that_runs(example: Served) -> None:
    model = example.answers(Trickle("one ", "two "))
    page = example.page()
    page.say("Hello")
    model.may.release()
    until(lambda: page.messages == ["Hello", "one "])
    first, address = page.browser.current_window_handle, page.browser.current_url
    page.browser.switch_to.new_window("tab")
    other = Page(page.browser, address)
    until(lambda: other.messages == ["Hello", "one "])
    model.may.release()
    other.comes_to("Hello", "one two ")
    page.browser.close()
    page.browser.switch_to.window(first)
    page.comes_to("Hello", "one two ")


def test_a_page_that_is_reloaded_keeps_what_had_come(example: Served) -> None:
    model = example.answers(Trickle("one ", *["more "] * 100))
    page = example.page()
    page.say("Hello")
    model.may.release()
    until(lambda: page.messages == ["Hello", "one "])
    page.browser.refresh()
    until(lambda: model.may.release() or example.Chat.get().status == "interrupted")
    until(lambda: page.is_idle and page.is_shown("#again"))
    assert page.messages[0] == "Hello"
    assert page.messages[1].startswith("one ")


LOSES = """
const real = window.fetch, later = window.setTimeout;
window.setTimeout = (run, milliseconds) => later(run, milliseconds / 20);
let left = 2;
window.fetch = async (path, options) => {
  const response = await real(path, options);
  if (options.method !== "POST" || left-- <= 0) return response;
  await response.text();
  throw new TypeError("the network is gone");
};
"""


def test_a_message_whose_answer_is_lost_is_sent_again_and_said_once(example: Served) -> None:
    page = example.page()
    page.browser.execute_script(LOSES)
    page.say("Hello")
    page.comes_to("Hello", "You said: Hello (message 1 of this conversation)")
    page.say("More")
    page.comes_to(
        *("Hello", "You said: Hello (message 1 of this conversation)"),
        *("More", "You said: More (message 2 of this conversation)"),
    )
    assert len(example.turns) == 1


class Fails:
    """A model that is down at first."""

    asked = 0

    def ask(self, request: Any) -> Reply:
        self.asked += 1
        if self.asked == 1:
            raise ProviderCallError("sk-secret is not valid")
        return Reply("late")


def test_a_model_that_failed_is_asked_again(example: Served) -> None:
    example.answers(Fails())
    page = example.page()
    page.say("Hello")
    page.comes_to("Hello")
    assert page["#status"].text == "the model could not answer"
    page["#again"].click()
    page.comes_to("Hello", "late")


def test_conversations_are_listed_opened_and_deleted(example: Served) -> None:
    page = example.page()
    for words in ("First", "Second"):
        page["#new"].click()
        page.say(words)
        page.comes_to(words, f"You said: {words} (message 1 of this conversation)")
    page.browser.find_elements(By.CSS_SELECTOR, "#sessions button")[1].click()
    page.comes_to("First", "You said: First (message 1 of this conversation)")
    page["#delete"].click()
    until(lambda: page.messages == [])
    until(lambda: len(page.browser.find_elements(By.CSS_SELECTOR, "#sessions button")) == 1)
    assert [said[0] for said in example.turns] == ["Second"]


def test_the_console_shows_no_error(example: Served) -> None:
    page = example.page()
    page.say("Hello")
    page.comes_to("Hello", "You said: Hello (message 1 of this conversation)")
    told = [
        entry["message"] for entry in page.browser.get_log("browser") if "favicon" not in entry["message"]
    ]
    assert told == []


SENDS = """
const [addresses] = arguments;
const form = (address, enctype, name = "", value = "") => {
  const frame = document.body.appendChild(document.createElement("iframe"));
  const form = document.body.appendChild(document.createElement("form"));
  frame.name = form.target = "frame" + document.forms.length;
  Object.assign(form, { method: "POST", action: address, enctype });
  if (name) Object.assign(form.appendChild(document.createElement("input")), { name, value });
  form.submit();
};
const sent = { method: "POST", mode: "no-cors", credentials: "include" };
const script = (address, body) => fetch(address, { ...sent, body });
const json = '{"message": "from another site"}';
for (const address of addresses) {
  script(address);
  script(address, json);
  script(address, new Blob([json]));
  form(address, "text/plain", '{"message": "x', '"}');
  form(address, "text/plain");
  form(address, "application/x-www-form-urlencoded", "message", "x");
  form(address, "multipart/form-data", "message", "x");
}
"""


ACTIONS = ["messages", "messages/stream", "resume", "resume/stream", "cancel"]


def test_a_page_of_another_site_reaches_no_action(example: Served) -> None:
    session = example.Chat.start_session("Hello", run=False, actor="ann")
    page = Page(example.browser, example.address.replace("127.0.0.1", "localhost"))
    example.answered.clear()
    addresses = [
        f"{example.address}chats/",
        *(f"{example.address}chats/{session.id}/{path}" for path in ACTIONS),
    ]
    page.browser.execute_script(SENDS, addresses)
    until(lambda: [method for method, _ in example.answered].count("POST") == 7 * len(addresses))
    assert {status for method, status in example.answered if method == "POST"} == {415}
    turn = example.Chat.get_context(session.id, actor="ann").turn
    assert (turn.status, turn.id, len(example.turns)) == ("pending", session.last_turn.id, 1)
