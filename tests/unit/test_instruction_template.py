"""The instruction's template: strict where mustache is silent, and no way from a value to code or files."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import chevron
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentsession import InputInvalid
from agentsession._prompt import Template, TemplateInvalid, VariableMissing
from tests.support.models import chat_model

ODD = [
    "<b>&\"'</b>",
    "{{ name }}",
    "{{{name}}}",
    "{{#name}}x{{/name}}",
    "{{> /etc/passwd}}",
    "{{=<% %>=}}",
    "{{",
]
TEXT = st.one_of(st.sampled_from(ODD), st.text(max_size=12))
NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.one_of(TEXT, st.integers(), st.booleans())


def render(source: str, **values: Any) -> str:
    return Template(source).render(values)


@given(TEXT, st.sampled_from(["{{x}}", "{{{x}}}", "{{&x}}", "{{ x }}", "{{#x}}{{.}}{{/x}}", "{{=| |=}}|x|"]))
def test_a_value_is_inserted_as_it_is(value: str, source: str) -> None:
    assert render(f"<{source}>", x=value) == f"<{value}>" or (not value and "#" in source)


@given(st.dictionaries(NAMES, TEXT, min_size=3))
def test_no_value_is_rendered_as_a_template(values: dict[str, str]) -> None:
    source = "{{a}}{{#b}}{{c}}{{/b}}{{^b}}{{a}}{{/b}}"
    middle = values["c"] if values["b"] else values["a"]
    assert render(source, **values) == values["a"] + middle


def literals() -> st.SearchStrategy[str]:
    return st.text(alphabet="xyz <&\n\t}{", max_size=8).filter(lambda text: "{{" not in f"{text}{{")


@st.composite
def templates(draw: st.DrawFn, depth: int = 0) -> str:
    """Templates on which chevron and we must agree: no list, no None, unescaped, every name there."""
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        name = draw(NAMES)
        parts.append(draw(literals()))
        kind = draw(st.sampled_from("vn!" if depth > 2 else "vn!#^"))
        inner = draw(templates(depth + 1)) if kind in "#^" else ""
        parts.append(
            {
                "v": f"{{{{& {name} }}}}",
                "n": f"{{{{{{{name}}}}}}}",
                "!": "{{! note }}",
                "#": f"{{{{#{name}}}}}{inner}{{{{/{name}}}}}",
                "^": f"{{{{^{name}}}}}{inner}{{{{/{name}}}}}",
            }[kind]
        )
    return "".join([*parts, draw(literals())])


@given(templates(), st.fixed_dictionaries(dict.fromkeys("abc", VALUES)))
def test_chevron_renders_the_same_where_nothing_is_missing_or_escaped(
    source: str, values: dict[str, Any]
) -> None:
    assert render(source, **values) == chevron.render(source, values, partials_path=None)


@given(st.text(alphabet="{}#^/!>& x|\n", max_size=14), st.sampled_from(["v", False, [{"x": "v"}]]))
def test_any_source_renders_without_a_tag_left_over_or_is_refused(source: str, value: Any) -> None:
    with contextlib.suppress(TemplateInvalid, VariableMissing):
        assert "{{" not in render(source, x=value)


@pytest.mark.parametrize(
    ("source", "values", "rendered"),
    [
        ("{{a.b.c}}", {"a": {"b": {"c": 1}}}, "1"),
        ("{{a.1}}", {"a": ["x", "y"]}, "y"),
        ("{{#a}}{{.}},{{/a}}", {"a": [0, "", 2, False]}, "0,,2,False,"),
        ("{{#a}}{{n}}{{x}} {{/a}}", {"a": [{"n": 1}, {"n": 2, "x": "!"}], "x": "?"}, "1? 2! "),
        ("{{#a}}{{#.}}{{.}}{{/.}};{{/a}}", {"a": [[1, 2], [3]]}, "12;3;"),
        ("{{#a}}{{b}}{{/a}}", {"a": {"b": 1}, "b": 2}, "1"),
        ("{{#a}}{{b}}{{/a}}", {"a": "yes", "b": 2}, "2"),
        ("{{#a}}yes{{/a}}{{^a}}no{{/a}}", {"a": []}, "no"),
        ("{{#a}}yes{{/a}}{{^a}}no{{/a}}", {"a": None}, "no"),
        ("{{#a}}yes{{/a}}{{^a}}no{{/a}}", {}, "no"),
        ("{{#a}}yes{{/a}}{{^a}}no{{/a}}", {"a": 0}, "no"),
        ("{{a}}", {"a": {"k": ["<", None]}}, '{"k":["<",null]}'),
        ("{{.}}", {"a": 1}, '{"a":1}'),
        ("{{a}} {{b}}", {"a": 0, "b": False}, "0 False"),
        ("a\n  {{#a}}\n  b\n  {{/a}}\nc\n", {"a": True}, "a\n  b\nc\n"),
        ("{{=<% %>=}}<%a%> {{a}} <%={{ }}=%>{{a}}", {"a": 1}, "1 {{a}} 1"),
        ("{{! not shown }}{{!}}x", {}, "x"),
        ("{ } }} { {", {}, "{ } }} { {"),
    ],
)
def test_rendering(source: str, values: dict[str, Any], rendered: str) -> None:
    assert Template(source).render(values) == rendered


@pytest.mark.parametrize(
    ("source", "values", "name"),
    [
        ("{{a}}", {}, "a"),
        ("{{a}}", {"a": None}, "a"),
        ("{{a.b}}", {"a": {}}, "a.b"),
        ("{{a.b}}", {"a": "text"}, "a.b"),
        ("{{a.2}}", {"a": [1]}, "a.2"),
        ("{{#a}}{{b}}{{/a}}", {"a": [{"b": 1}, {}]}, "b"),
        ("{{#a}}{{b.c}}{{/a}}", {"a": {"b": {}}, "b": {"c": 1}}, "b.c"),
        ("{{#a}}{{.}}{{/a}}", {"a": [None]}, "."),
        ("{{#a}}{{b}}{{/a}}", {"a": {"b": None}, "b": 1}, "b"),
    ],
)
def test_a_variable_without_a_value_is_an_error_that_names_it(
    source: str, values: dict[str, Any], name: str
) -> None:
    with pytest.raises(VariableMissing) as missing:
        Template(source).render(values)
    assert missing.value.name == name


@pytest.mark.parametrize("name", ["o.__class__", "o.real", "o.upper", "o.__class__.__mro__", "a.__len__"])
def test_a_template_does_not_reach_attributes(name: str) -> None:
    for values in ({"o": "text", "a": [1]}, {"o": 3, "a": {}}, {"o": object(), "a": ()}):
        with pytest.raises(VariableMissing):
            Template(f"{{{{{name}}}}}").render(values)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{}}", "a tag is empty: {{}}"),
        ("{{ }}", "'' is not a variable name"),
        ("{{ x y }}", "'x y' is not a variable name"),
        ("{{x.}}", "'x.' is not a variable name"),
        ("{{..}}", "'..' is not a variable name"),
        ("{{x.²}}", "'x.²' is not a variable name"),
        ("{{x|upper}}", "{{ x|upper }} has a filter, which mustache does not have"),
        ('{{"json": 1}}', "'\"json\": 1' is not a variable name"),
        ("{{#}}a{{/}}", "'' is not a variable name"),
        ("{{{x}}", "'{x' is not a variable name"),
        ("{{=<% %>=}}<%{x}%>", "'{x}' is not a variable name"),
        ("Hi {{x", "unclosed tag at line 1"),
        ("Hi {{x}", "unclosed tag at line 1"),
        ("Hi {{", "unclosed tag at line 1"),
        ("{{=<% %>=}}Hi\n<%", "unclosed tag at line 2"),
        ("{{#x}}a", 'Unexpected EOF, the tag "x" was never closed, was opened at line 1'),
        ("a{{/x}}", 'Trying to close tag "x", Looks like it was not opened'),
        ("{{#x}}a{{/y}}", 'Trying to close tag "y", last open tag is "x"'),
        ("{{#x}}{{#y}}{{/x}}{{/y}}", 'Trying to close tag "x", last open tag is "y"'),
        ("{{=<%=}}", "the delimiters '<%' are not two words with a space between"),
        ("{{==}}", "the delimiters '' are not two words with a space between"),
        ("{{=a b c=}}", "the delimiters 'a b c' are not two words with a space between"),
        ("{{=<%\t%>=}}", "the delimiters '<%\\t%>' are not two words with a space between"),
        ("{{=<% %>}}", "unclosed set delimiter tag, at line 1"),
        ("{{> header }}", "partials are not supported: {{> header}}"),
        ("{{#x}}{{>/etc/passwd}}{{/x}}", "partials are not supported: {{> /etc/passwd}}"),
        ("{{< parent}}", "'< parent' is not a variable name"),
    ],
)
def test_a_template_that_mustache_would_swallow_is_refused(source: str, reason: str) -> None:
    with pytest.raises(TemplateInvalid) as refused:
        Template(source)
    assert str(refused.value) == reason


def test_no_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "header.mustache").write_text("from a file")
    with pytest.raises(TemplateInvalid):
        Template("{{> header }}")
    assert render("{{x}}", x="{{> header }}") == "{{> header }}"


TYPES = {
    "flag": {"type": "boolean"},
    "name": {"type": "string"},
    "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    "items": {"type": "array"},
    "part": {"$ref": "#/$defs/Part"},
    "either": {"anyOf": [{"$ref": "#/$defs/Part"}, {"type": "null"}]},
}


@pytest.mark.parametrize(
    ("source", "unknown"),
    [
        ("{{name}}{{part.any}}{{items.0}}{{.}}", []),
        ("{{nam}} {{nam}} {{other}}", ["nam", "other"]),
        ("{{name.first}}", ["name.first"]),
        ("{{#flag}}{{x}}{{/flag}}", ["x"]),
        ("{{#name}}{{x}}{{/name}}", ["x"]),
        ("{{#maybe}}{{x}}{{/maybe}}", ["x"]),
        ("{{^items}}{{x}}{{/items}}", ["x"]),
        ("{{#items}}{{x}}{{/items}}", []),
        ("{{#part}}{{x}}{{/part}}", []),
        ("{{#either}}{{x}}{{/either}}", []),
        ("{{#x}}{{y}}{{/x}}", ["x"]),
        ("{{#flag}}{{#items}}{{x}}{{/items}}{{y}}{{/flag}}", ["y"]),
        ("{{=<% %>=}}<%x%>{{y}}", ["x"]),
    ],
)
def test_names_are_checked_in_their_scope(source: str, unknown: list[str]) -> None:
    assert Template(source).unknown_names(TYPES) == unknown


@pytest.mark.parametrize(
    ("source", "has"),
    [("", False), ("Hi", False), ("{{! x }}", False), ("{{x}}", True), ("{{^x}}{{/x}}", True)],
)
def test_a_template_knows_whether_it_has_variables(source: str, has: bool) -> None:
    assert Template(source).has_variables is has


def test_what_a_user_says_is_no_template(database: Any) -> None:
    Chat = chat_model(database, instruction="You work for {{ company_name }}.")
    session = Chat.start_session("{{ company_name }}", instruction_args={"company_name": "{{ secret }}"})
    assert session.last_result.text.startswith("You said: {{ company_name }}")
    with pytest.raises(InputInvalid, match=r"variable \{\{ company_name \}\} has no value"):
        Chat.start_session("Hello", instruction_args={"company_name": None})
