"""The page of the examples in a real Chromium: tools, approvals, a turn whose process died, its layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import peewee as pw
import pytest
from fastapi.responses import FileResponse
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from agentsession import info, testing
from agentsession.provider import Reply
from tests.support.approval_shop import CALL, refund
from tests.support.browser import EXAMPLES, Page
from tests.support.web_clients import fastapi_app, owned_chat
from tests.support.web_servers import on_uvicorn, until

pytestmark = [pytest.mark.backends("sqlite"), pytest.mark.layouts("document")]


def lookup(order: int) -> str:
    """Look an order up."""
    return f"order {order} is on its way"


class Replies:
    """A model that gives these replies, one for each question: a text, or calls of tools."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)

    def ask(self, request: Any) -> Reply:
        reply = self.replies.pop(0)
        return Reply(reply) if isinstance(reply, str) else Reply("", calls=reply)


class PromptMessage(Page):
    """The page, and the model behind it."""

    def __init__(self, browser: Any, address: str, model: Any) -> None:
        self.model = model
        super().__init__(browser, address)

    def answers(self, *replies: Any) -> None:
        object.__setattr__(info.agent_options(self.model), "provider", Replies(*replies))

    def becomes(self, *messages: str, tools: Sequence[str] = (), cards: Sequence[str] = ()) -> None:
        """Wait until the page shows exactly these messages, calls and cards."""
        expected = [list(messages), list(tools), list(cards)]
        until(lambda: self.is_idle and [self.messages, self.texts(".tool"), self.texts(".card")] == expected)

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)"
        return list(self.browser.execute_script(script, selector))

    def size(self, selector: str) -> dict[str, Any]:
        script = """
            const each = document.querySelector(arguments[0]);
            const { top, bottom, right } = each.getBoundingClientRect();
            const { scrollHeight, clientHeight, scrollWidth, clientWidth } = each;
            return { top, bottom, right, scrollHeight, clientHeight, scrollWidth, clientWidth,
                     height: innerHeight, width: innerWidth };
        """
        return dict(self.browser.execute_script(script, selector))


@pytest.fixture
def page(database: pw.Database, chromium: Any) -> Iterator[PromptMessage]:
    Chat = owned_chat(database, tools=[refund, lookup])
    app = fastapi_app(Chat, actor=lambda: "ann")

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(EXAMPLES / "chat.html")

    with on_uvicorn(app) as port:
        yield PromptMessage(chromium, f"http://127.0.0.1:{port}/", Chat)
        chromium.get("about:blank")


CARDS = [f'May it do this? refund {{"order":{order}}}ApproveReject' for order in (3, 4)]


def test_calls_of_tools_are_lines_that_say_what_came_of_them(page: PromptMessage) -> None:
    page.answers([testing.tool_call("lookup", order=3)], "It is on its way.")
    page.say("Where is my order?")
    shown = ["Where is my order?", "It is on its way."]
    page.becomes(*shown, tools=['lookup {"order":3}: completed'])
    page.browser.refresh()
    page.becomes(*shown, tools=['lookup {"order":3}: completed'])


@pytest.mark.parametrize(("button", "outcome"), [("approve", "completed"), ("reject", "rejected")])
def test_a_call_that_needs_an_approval_is_a_card(page: PromptMessage, button: str, outcome: str) -> None:
    page.answers([CALL], "It is done.")
    page.say("My money!")
    page.becomes("My money!", cards=CARDS[:1])
    assert not page.is_shown("#again")
    page.browser.refresh()
    page.becomes("My money!", cards=CARDS[:1])
    assert page.size(f".card .{button}")["bottom"] <= page.size("#transcript")["bottom"]
    page[f".card .{button}"].click()
    page.becomes("My money!", "It is done.", tools=[f'refund {{"order":3}}: {outcome}'])


def test_calls_are_decided_one_by_one(page: PromptMessage) -> None:
    page.answers([CALL, testing.tool_call("refund", order=4)], "Both.")
    page.say("My money!")
    page.becomes("My money!", cards=CARDS)
    page[".card .approve"].click()
    page.becomes("My money!", tools=['refund {"order":3}'], cards=CARDS[1:])
    page[".card .reject"].click()
    page.becomes(
        "My money!", "Both.", tools=['refund {"order":3}: completed', 'refund {"order":4}: rejected']
    )


def test_words_that_could_not_be_said_stay_in_the_text_box(page: PromptMessage) -> None:
    page.answers([CALL])
    page.say("My money!")
    page.becomes("My money!", cards=CARDS[:1])
    page.say("Hello?")
    until(lambda: page["#words"].get_property("value") == "Hello?")
    page.becomes("My money!", cards=CARDS[:1])


def test_a_turn_that_waits_is_stopped(page: PromptMessage) -> None:
    page.answers([CALL])
    page.say("My money!")
    page.becomes("My money!", cards=CARDS[:1])
    until(lambda: page.is_shown("#stop"))
    page["#stop"].click()
    until(lambda: page.is_shown("#again"))
    assert page.texts(".card") == []


def test_a_turn_whose_process_died_can_be_asked_again(page: PromptMessage) -> None:
    page.answers("late")
    with testing.clock(at=1.5e9), testing.crash_after(1):
        page.model.start_session("Hello", actor="ann")
    session = page.model.get()
    assert session.status == "running"
    page.browser.get(page.browser.current_url + f"#{session.id}")
    page.browser.refresh()
    until(lambda: page.is_shown("#again"))
    assert page["#status"].text == "the reply was interrupted"
    assert not page.is_shown("#stop")
    page["#again"].click()
    page.comes_to("Hello", "late")


def test_enter_sends_and_shift_enter_begins_a_line(page: PromptMessage) -> None:
    page.answers("Yes.")
    page["#words"].send_keys("One", Keys.SHIFT, Keys.ENTER, Keys.NULL, "two")
    assert page["#words"].get_property("value") == "One\ntwo"
    assert page.messages == []
    page["#words"].send_keys(Keys.ENTER)
    page.comes_to("One\ntwo", "Yes.")
    assert page["#words"].get_property("value") == ""


@pytest.mark.parametrize("width", [400, 1200])
def test_the_text_box_stays_in_the_window(page: PromptMessage, width: int) -> None:
    long = "word " * 4000 + "w" * 3000
    page.browser.set_window_size(width, 700)
    page.answers([testing.tool_call("lookup", order=10**200)], long)
    page.browser.execute_script(
        "arguments[0].value = arguments[1]", page["#words"], "Hello" * 300
    )  # typing it takes seconds
    page["#send"].click()
    page.comes_to("Hello" * 300, long)
    box, root, transcript = (page.size(each) for each in ("#words", "html", "#transcript"))
    assert 0 < box["top"] < box["bottom"] <= box["height"]
    assert root["scrollHeight"] <= root["clientHeight"]
    assert transcript["scrollHeight"] > transcript["clientHeight"]
    for selector in ("html", "#transcript", ".user", ".assistant", ".tool"):
        size = page.size(selector)
        assert size["scrollWidth"] <= size["clientWidth"], selector


def test_what_a_tool_is_given_is_never_markup(page: PromptMessage) -> None:
    page.answers([testing.tool_call("refund", order="<img src=x onerror='window.bad = 1'>")], "No.")
    page.say("Hello")
    page.comes_to("Hello", "No.")
    assert page.browser.find_elements(By.TAG_NAME, "img") == []
