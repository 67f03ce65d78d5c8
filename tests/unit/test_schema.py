"""What fits a schema, what a reply is read as, and what is never changed in silence."""

from __future__ import annotations

import datetime
import pickle
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from agentsession import InputInvalid, OutputInvalid, build_context, testing, user_message
from agentsession._json_values import compact
from agentsession._schema import InputSchema, OutputSchema, SchemaMismatch
from agentsession.context import Message
from tests.support.models import Answer, Ask, chat_model, stored


class Report(BaseModel):
    title: str = ""
    items: list[dict[str, Any]] = []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"content":"a"}', "a"),
        (' \n{"content":"a"}\n', "a"),
        ('Here:\n```json\n{"content":"a"}\n```\nDone.', "a"),
        ('```\n{"content":"a"}\n```', "a"),
        ('Sure! {"content":"a {[}"} Anything else?', "a {[}"),
        ('As [1] says: {"content":"a"}', "a"),
        ('{"x": nonsense} but {"content":"a"}', "a"),
        ('{"content":"draft"} and then {"content":"a"}', "a"),
        ('{"content":"a"} unlike {"text":"b"}', "a"),
    ],
)
def test_the_value_of_a_reply_is_found(text: str, value: str) -> None:
    assert OutputSchema(Answer).parse(text) == Answer(content=value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        '{"content":"a',
        '{"title": "Report", "items": [{"a": 1}, {"b": 2',
        'Here: {"title": "Report", "items": [{"a": 1}, {"b"',
        '```json\n{"title": "R", "items": [{"a": 1}]',
        '{"title": "Q3", "items": [{"a": 1}],}',
        "{'title': 'Q3', 'items': [{\"a\": 1}]}",
        '{"title": "Q3", "items":[{"done": True}, {"a": 1}]}',
        '{"title": "Q3\nx", "items": [{"a": 1}]}',
        "```json" + "\n" * 200_000 + "{",
        '{"a": [' * 100_000,
        "[" * 20_000,
        "[" * 20_000 + "]" * 20_000,
        "[" * 2_000 + "]" * 2_000,
    ],
    ids=lambda text: text[:30],
)
@pytest.mark.parametrize("schema", [Answer, Report, list[int]], ids=str)
def test_half_a_reply_is_never_taken_for_a_whole_one(text: str, schema: Any) -> None:
    with pytest.raises(SchemaMismatch):
        OutputSchema(schema).parse(text)


class Typed(TypedDict):
    city: str


@dataclass
class Data:
    city: str
    at: datetime.date


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


@pytest.mark.parametrize(
    ("schema", "given", "content"),
    [
        (None, "Hi", "Hi"),
        (None, {"message": "Hi"}, "Hi"),
        (Ask, "Hi", {"message": "Hi"}),
        (Ask, Ask(message="Hi"), {"message": "Hi"}),
        (str, "Hi", "Hi"),
        (int, "5", "5"),
        (list[int], [1, "2"], "[1,2]"),
        (Typed, {"city": "Rome"}, {"city": "Rome"}),
        (Data, {"city": "Rome", "at": "2026-01-02"}, {"city": "Rome", "at": "2026-01-02"}),
        (Data, Data("Rome", datetime.date(2026, 1, 2)), {"city": "Rome", "at": "2026-01-02"}),
        (Cat | Dog, {"kind": "dog"}, {"kind": "dog"}),
        (Annotated[Cat | Dog, Field(discriminator="kind")], Dog(kind="dog"), {"kind": "dog"}),
        (Decimal, "1.10", "1.10"),
        (datetime.date, "2026-01-02", "2026-01-02"),
    ],
)
def test_every_kind_of_schema_is_stored_as_json_and_read_as_its_type(
    schema: Any, given: Any, content: Any
) -> None:
    accepted = InputSchema(schema).accept(given)
    assert accepted == content
    if schema is not None:
        typed = Message("1:0", "1", "user", accepted).parse(schema)
        assert InputSchema(schema).accept(typed) == content


def test_a_message_that_no_longer_fits_stays_readable() -> None:
    message = Message("1:0", "1", "user", {"message": {"a": 1}})
    with pytest.raises(OutputInvalid) as invalid:
        message.parse(Ask)
    assert invalid.value.raw == message.text == '{"message":{"a":1}}'
    assert InputSchema(Ask).show({"message": {"a": 1}}) == '{"message":{"a":1}}'
    assert InputSchema(Ask).show({"message": None}) == '{"message":null}'


def test_errors_name_the_place_and_not_the_value() -> None:
    with pytest.raises(SchemaMismatch, match="message: Input should be a valid string") as mismatch:
        InputSchema(Ask).accept({"message": ["SECRET"]})
    assert "SECRET" not in str(mismatch.value)
    with pytest.raises(SchemaMismatch, match="not one of the expected") as mismatch:
        InputSchema(Annotated[Cat | Dog, Field(discriminator="kind")]).accept({"kind": "SECRET"})
    assert "SECRET" not in str(mismatch.value)


def test_a_secret_is_refused_and_not_stored_as_asterisks(database: Any) -> None:
    class Login(BaseModel):
        message: SecretStr

    with pytest.raises(InputInvalid, match="message is a secret"):
        chat_model(database, input_schema=Login).start_session({"message": "hunter2"})
    Chat = chat_model(database, instruction="{{ message }}", instruction_schema=Login)
    with pytest.raises(InputInvalid, match="message is a secret"):
        Chat.start_session("Hi", instruction_args={"message": "hunter2"})


class Shouting(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_by_name=True, validate_by_alias=True)

    name: str = Field(alias="theName")

    @field_validator("name")
    @classmethod
    def shout(cls, name: str) -> str:
        return name + "!"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def upper(self) -> str:
        return self.name.upper()


def test_stored_arguments_stay_as_they_are_however_the_schema_computes_them(database: Any) -> None:
    Chat = chat_model(database, instruction="{{ name }} {{ upper }}", instruction_schema=Shouting)
    with testing.script(Chat, ["ok"] * 5) as asked:
        session = Chat.start_session("1", instruction_args={"theName": "Ada"})
        session.continue_session("2")
        session.continue_session("3", instruction_args={"theName": "Bob"})
        session.continue_session("4", instruction_args={"name": "Cy"})
        session.continue_session("5", instruction_args=Shouting(name="Di"))
    said = [prompt[0].content for prompt in asked]
    assert said == [
        "Ada! ADA!",
        "Ada! ADA!",
        "Bob! BOB!",
        "Cy! CY!",
        "Di! DI!",
    ]
    assert stored(session)["instruction_args"]["name"] == "Di!"


def test_a_field_whose_stored_form_is_not_its_input_is_rendered_as_stored(database: Any) -> None:
    class Dated(BaseModel):
        on: datetime.date

        @field_serializer("on")
        def in_words(self, on: datetime.date) -> str:
            return on.strftime("%d %B")

    Chat = chat_model(database, instruction="On {{ on }}.", instruction_schema=Dated)
    with testing.script(Chat, ["ok", "ok"]) as asked:
        Chat.start_session("1", instruction_args={"on": "2026-01-02"}).continue_session("2")
    assert [prompt[0].content for prompt in asked] == ["On 02 January."] * 2


def test_a_schema_that_grew_or_shrank_reaches_old_sessions(database: Any) -> None:
    class Before(BaseModel):
        name: str
        gone: str = "x"

    class Later(BaseModel):
        model_config = ConfigDict(extra="forbid")
        name: str
        tone: str = "kind"

    class Demanding(BaseModel):
        name: str
        needed: int

    Chat = chat_model(database, instruction="{{ name }}", instruction_schema=Before)
    session = Chat.start_session("1", instruction_args={"name": "Ada"})
    Chat = chat_model(database, instruction="{{ name }} {{ tone }}", instruction_schema=Later)
    with testing.script(Chat, ["ok"]) as asked:
        Chat.continue_session(session.id, "2")
    assert asked[0][0].content == "Ada kind"
    Chat = chat_model(database, instruction="{{ name }} {{ needed }}", instruction_schema=Demanding)
    with pytest.raises(InputInvalid, match="needed: Field required") as invalid:
        Chat.continue_session(session.id, "3")
    assert '"needed": …' in invalid.value.fix
    with testing.script(Chat, ["ok", "ok"]) as asked:
        Chat.continue_session(session.id, "3", instruction_args={"needed": 7})
        Chat.continue_session(session.id, "4")
    assert [prompt[0].content for prompt in asked] == ["Ada 7", "Ada 7"]


def test_a_pinned_session_needs_no_arguments_of_a_schema_that_grew(database: Any) -> None:
    pinned: Any = {"session": {"pin_instruction": True}}
    session = chat_model(database, instruction="Old.", **pinned).start_session("1")

    class Demanding(BaseModel):
        needed: int

    Chat = chat_model(database, instruction="{{ needed }}", instruction_schema=Demanding, **pinned)
    with testing.script(Chat, ["ok"]) as asked:
        Chat.continue_session(session.id, "2")
    assert asked[0][0].content == "Old."


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"output": [3,4]}', [3, 4]),
        ("[3, 4]", [3, 4]),
        ('As noted [1], the result is {"output": [3,4]}', [3, 4]),
        ("Steps [] follow: [3,4]", [3, 4]),
    ],
)
def test_a_root_that_is_not_an_object_is_found_wrapped_or_bare(text: str, value: list[int]) -> None:
    assert OutputSchema(list[int]).parse(text) == value


def test_a_mismatch_has_a_bounded_text() -> None:
    with pytest.raises(SchemaMismatch, match="and 4990 more") as mismatch:
        OutputSchema(list[int]).parse('{"output": [' + ",".join(['"s"'] * 5_000) + "]}")
    assert len(str(mismatch.value)) < 2_100


def test_an_argument_is_known_by_each_of_its_aliases(database: Any) -> None:
    class Company(BaseModel):
        company: str = Field(validation_alias=AliasChoices("companyName", "co"))
        year: int = Field(1, validation_alias=AliasPath("deep", "year"))

    Chat = chat_model(database, instruction="{{ company }} {{ year }}", instruction_schema=Company)
    with testing.script(Chat, ["ok"] * 4) as asked:
        session = Chat.start_session("1", instruction_args={"co": "A", "deep": {"year": 3}})
        session.continue_session("2", instruction_args={"companyName": "B"})
        session.continue_session("3", instruction_args={"deep": {"year": 9}})
        session.continue_session("4", instruction_args={"company": "C"})
    assert [prompt[0].content for prompt in asked] == ["A 3", "B 3", "B 9", "C 9"]


def test_extra_arguments_stay_where_the_schema_takes_them_and_derived_ones_follow(database: Any) -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        who: str

        @computed_field  # type: ignore[prop-decorator]
        @property
        def loud(self) -> str:
            return self.who.upper()

    Chat = chat_model(
        database, instruction="{{ who }} {{ loud }} {{#more}}{{ more }}{{/more}}", instruction_schema=Open
    )
    with testing.script(Chat, ["ok"] * 2) as asked:
        session = Chat.start_session("1", instruction_args={"who": "a", "more": 1})
        session.continue_session("2", instruction_args={"who": "b"})
    assert [prompt[0].content for prompt in asked] == ["a A 1", "b B 1"]


def test_a_computed_field_that_was_added_since_is_computed(database: Any) -> None:
    class Now(BaseModel):
        who: str

        @computed_field  # type: ignore[prop-decorator]
        @property
        def loud(self) -> str:
            return self.who.upper()

    session = chat_model(database, instruction="{{ who }}").start_session("1", instruction_args={"who": "a"})
    Chat = chat_model(database, instruction="{{ loud }}", instruction_schema=Now)
    with testing.script(Chat, ["ok"]) as asked:
        Chat.continue_session(session.id, "2")
    assert asked[0][0].content == "A"


class Attached(BaseModel):
    """An input that got fields with defaults after its first version."""

    message: str
    attachments: list[str] = []
    language: str = "en"
    tags: set[str] = Field(default_factory=set)
    reply_to: int | None = None


@dataclass
class AttachedData:
    message: str
    attachments: list[str] = field(default_factory=list)


class AttachedMap(TypedDict):
    message: str
    language: NotRequired[str]


FULL = {"message": "Hi", "attachments": [], "language": "en", "tags": [], "reply_to": None}


@pytest.mark.parametrize(
    ("schema", "content"),
    [
        (Attached, FULL),
        (AttachedData, {"message": "Hi", "attachments": []}),
        (AttachedMap, {"message": "Hi"}),
    ],
)
def test_a_bare_text_fills_the_only_field_without_a_default(schema: Any, content: Any) -> None:
    accepted = InputSchema(schema).accept("Hi")
    assert accepted == InputSchema(schema).accept({"message": "Hi"}) == content
    assert InputSchema(schema).show(accepted) == "Hi"


@pytest.mark.parametrize(
    "other",
    [
        {"attachments": ["a.pdf"]},
        {"language": "de"},
        {"tags": ["x"]},
        {"reply_to": 0},
        {"unknown": ""},
        {"language": ""},
    ],
)
def test_an_input_with_another_value_is_shown_whole(other: dict[str, Any]) -> None:
    content = FULL | other
    assert InputSchema(Attached).show(content) == compact(InputSchema(Attached).in_field_order(content))


def test_fields_that_were_added_since_are_at_their_defaults() -> None:
    assert InputSchema(Attached).show({"message": "Hi"}) == "Hi"


class TwoTexts(BaseModel):
    question: str
    place: str
    language: str = "en"


class Counted(BaseModel):
    message: str
    loud: bool = False

    @computed_field  # type: ignore[prop-decorator]
    @property
    def length(self) -> int:
        return len(self.message)


class Numbered(BaseModel):
    number: int
    note: str = ""


@pytest.mark.parametrize("schema", [TwoTexts, Counted, Numbered])
def test_a_bare_text_is_refused_where_it_could_mean_several_things(schema: Any) -> None:
    with pytest.raises(SchemaMismatch):
        InputSchema(schema).accept("Hi")
    assert InputSchema(schema).text_field is None


def test_a_schema_of_several_fields_that_reads_a_text_itself_does_so() -> None:
    class Route(BaseModel):
        start: str
        end: str = ""

        @model_validator(mode="before")
        @classmethod
        def from_text(cls, value: Any) -> Any:
            if isinstance(value, str):
                start, _, end = value.partition(" to ")
                return {"start": start, "end": end}
            return value

    assert InputSchema(Route).accept("Rome to Bari") == {"start": "Rome", "end": "Bari"}


def test_the_text_of_a_message_is_what_the_model_is_shown(database: Any) -> None:
    shown: list[list[str]] = []

    def everything(messages: Any) -> Any:
        shown.append([message.text for message in messages])
        return messages

    model = chat_model(database, input_schema=Attached, session={"history": everything})
    session = model.start_session("Hi", instruction_args={"company_name": "Acme"})
    session.continue_session({"message": "And this?", "language": "de"})
    session.continue_session("Hello again")
    texts = [message.text for message in session.get_context().messages if message.role == "user"]
    assert texts == ["Hi", compact(FULL | {"message": "And this?", "language": "de"}), "Hello again"]
    assert shown[-1][::2] == texts
    first = session.get_context().messages[0]
    assert (first.content, first.parse(Attached)) == (FULL, Attached(message="Hi"))
    assert user_message(model, message="Hi").text == "Hi"
    assert build_context(model, [session.get_context()]).messages[0].text == "Hi"
    assert pickle.loads(pickle.dumps(first)) == first
