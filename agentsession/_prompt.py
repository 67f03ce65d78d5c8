"""The instruction: a mustache template, tokenised once by chevron and rendered strictly.

Only the tokeniser of chevron is used. Its renderer escapes HTML, reads files for partials, follows attributes
of objects and renders a missing variable as an empty text. This one looks up names in dicts and lists only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chevron.tokenizer import ChevronError, tokenize

from agentsession._json_values import Json, JsonMap, compact


class TemplateInvalid(ValueError):
    """The template cannot be parsed. The message says what and where; `fix` says what to write, if known."""

    def __init__(self, found: str, fix: str = "") -> None:
        super().__init__(found)
        self.fix = fix


class VariableMissing(LookupError):
    """The variable `name` of the template has no value."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True)
class Literal:
    text: str


@dataclass(frozen=True)
class Variable:
    name: str


@dataclass(frozen=True)
class Section:
    name: str
    inverted: bool
    body: tuple[Node, ...]


Node = Literal | Variable | Section


class Template:
    """A parsed mustache template. Values are inserted unchanged: nothing is escaped or rendered again."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.nodes = _parse(source)

    def render(self, values: JsonMap) -> str:
        """Return the text; raises `VariableMissing` for a variable that is absent or None."""
        return "".join(_render(self.nodes, [values]))

    @property
    def has_variables(self) -> bool:
        return any(not isinstance(node, Literal) for node in self.nodes)

    def unknown_names(self, fields: JsonMap) -> list[str]:
        """Return the names that are not fields. `fields` has the JSON schema of each field.

        A name inside a section over a list or an object may be a part of it, and is not checked.
        """
        return list(dict.fromkeys(_unknown(self.nodes, fields)))


_MISCOUNTED = re.compile(r"\.?\nline \d+$")
"""The line number that chevron gives for a wrong end tag. It is one too high."""


def _parse(source: str) -> tuple[Node, ...]:
    try:
        tokens = list(tokenize(source))
        list(tokenize(source + "\n"))  # without the line end chevron drops a tag that opens at the end
    except ChevronError as error:
        raise TemplateInvalid(_MISCOUNTED.sub("", str(error)).replace("\n", ", ")) from error
    except IndexError as error:
        raise TemplateInvalid("a tag is empty: {{}}") from error
    return _nest(iter(tokens))


def _nest(tokens: Iterator[tuple[str, str]]) -> tuple[Node, ...]:
    nodes: list[Node] = []
    for kind, text in tokens:
        if kind == "literal":
            _refuse_jinja_tags(text)
            nodes.append(Literal(text))
        elif kind == "end":
            break
        elif kind == "partial":
            raise TemplateInvalid(f"partials are not supported: {{{{> {text}}}}}")
        elif kind == "set delimiter":
            _check_delimiters(text)
        elif kind in ("section", "inverted section"):
            nodes.append(Section(_name(text), kind == "inverted section", _nest(tokens)))
        else:
            opening = "{" if kind == "no escape?" else ""
            nodes.append(Variable(_name(opening + text)))
    return tuple(nodes)


_OTHER_TAG = re.compile(r"\{%[-+]?\s*(\w+)")
"""The beginning of a tag of Jinja or Liquid."""


def _refuse_jinja_tags(text: str) -> None:
    """Raise `TemplateInvalid` for a tag of Jinja or Liquid, which mustache would leave in the text."""
    tag = _OTHER_TAG.search(text)
    if tag is not None:
        raise TemplateInvalid(
            f"{{% {tag[1]} … %}} is a tag of Jinja or Liquid, which mustache does not have",
            "write {{#x}}…{{/x}} for a condition or a loop over x, and {{^x}}…{{/x}} for its opposite",
        )


def _name(text: str) -> str:
    if "|" in text:
        name = text.partition("|")[0].strip()
        raise TemplateInvalid(
            f"{{{{ {text} }}}} has a filter, which mustache does not have",
            f'write {{{{ {name} }}}}, and pass the value in its final form: instruction_args={{"{name}": …}}',
        )
    if text != "." and not all(part.isidentifier() or part.isdecimal() for part in text.split(".")):
        raise TemplateInvalid(f"{text!r} is not a variable name")
    return text


def _check_delimiters(text: str) -> None:
    """Raise `TemplateInvalid` for wrong delimiters. chevron accepts any text, and then finds no tag."""
    if not re.fullmatch(r"[^\s=]+ +[^\s=]+", text):
        raise TemplateInvalid(f"the delimiters {text!r} are not two words with a space between")


_MISSING: Any = object()


def _render(nodes: tuple[Node, ...], scopes: list[Json]) -> Iterator[str]:
    for node in nodes:
        match node:
            case Literal(text):
                yield text
            case Variable(name):
                value = _look_up(name, scopes)
                if value is _MISSING or value is None:
                    raise VariableMissing(name)
                yield compact(value) if isinstance(value, (dict, list)) else str(value)
            case Section(name, inverted, body):
                value = _look_up(name, scopes)
                present = value is not _MISSING and bool(value)
                if inverted and not present:
                    yield from _render(body, scopes)
                elif not inverted and present:
                    for item in value if isinstance(value, list) else [value]:
                        yield from _render(body, [*scopes, item])


def _look_up(name: str, scopes: list[Json]) -> Any:
    if name == ".":
        return scopes[-1]
    first, *rest = name.split(".")
    for scope in reversed(scopes):
        value = _part(scope, first)
        if value is not _MISSING:
            for part in rest:
                value = _part(value, part)
            return value
    return _MISSING


def _part(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return value.get(name, _MISSING)
    if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    return _MISSING


def _unknown(nodes: tuple[Node, ...], fields: JsonMap) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Literal) or node.name == ".":
            continue
        first, *rest = node.name.split(".")
        if first not in fields or (rest and _is_scalar(fields[first])):
            yield node.name
        if isinstance(node, Section) and (node.inverted or _is_scalar(fields.get(first))):
            yield from _unknown(node.body, fields)


def _is_scalar(schema: Any) -> bool:
    """Return whether a field has no parts, so that a section over it opens no scope of names."""
    if not isinstance(schema, dict):
        return False
    if "anyOf" in schema:
        return all(_is_scalar(branch) for branch in schema["anyOf"])
    return schema.get("type") in ("boolean", "string", "integer", "number", "null")
