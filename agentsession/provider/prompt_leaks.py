"""Error messages of a model's server without the texts of the prompt, which many servers repeat.

Texts are compared by their letters and digits alone, because a server may have escaped them any number of
times. A run of `RUN` letters and digits of a sent text is hidden. A complete sent text that is shorter is
hidden in quotes, and between other words if it has `WORD` letters.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from agentsession._turn.model_io import PromptMessage

HIDDEN = "[hidden]"

RUN, WORD = 16, 6

_BLOCK = 8
"""A run of `RUN` contains one complete block of a text that is cut into blocks of this length."""

_TRIED = 8
"""Number of equal blocks of the sent texts that are compared."""

_ESCAPE = re.compile(
    r"(?<!\\)\\++(?:u(?P<four>[0-9a-fA-F]{4})|U(?P<eight>[0-9a-fA-F]{8})"
    r"|(?P<bytes>x[0-9a-fA-F]{2}(?:\\++x[0-9a-fA-F]{2})*)|[nrtbf])"
)
_NO_LETTERS = re.compile(r"[\W_]+")
_QUOTES = frozenset("\"'`\\")


@dataclass
class _Text:
    """A message of a server: its letters and digits, the place of each, and whether it is hidden."""

    text: str
    letters: str
    places: list[tuple[int, int]]
    hidden: bytearray


def without_prompt_text(texts: Collection[str], prompt: Iterable[PromptMessage]) -> dict[str, str]:
    """Return each text without what it repeats of the messages.

    It takes time in proportion to the texts and the messages: a message is read once for all texts.
    """
    known = [_read(text) for text in dict.fromkeys(texts)]
    blocks = _blocks_of(known)
    tried: dict[str, int] = defaultdict(int)
    short: set[str] = set()
    for sent in map(_letters_of, _sent(prompt)):
        if len(sent) < RUN:
            short.add(sent)
        else:
            _hide_runs(sent, blocks, tried)
    for each in known:
        _show_short_runs(each.hidden)
        _hide_words(each, short - {""})
    return {each.text: _visible_text(each) for each in known}


def _sent(prompt: Iterable[PromptMessage]) -> Iterator[str]:
    """Yield each text of the messages, and the texts in those that are JSON."""
    for message in prompt:
        for text in (message.content, *(call.arguments for call in message.calls)):
            yield text
            if text[:1] in ("{", "["):
                yield from _texts_in(text)


def _texts_in(text: str) -> Iterator[str]:
    try:
        waiting: list[Any] = [json.loads(text)]
    except (ValueError, RecursionError):
        return
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _letters_of(text: str) -> str:
    return _NO_LETTERS.sub("", _ESCAPE.sub(_unescaped, text) if "\\" in text else text)


def _unescaped(escape: re.Match[str]) -> str:
    if code := escape["four"] or escape["eight"]:
        return chr(int(code, 16)) if int(code, 16) <= 0x10FFFF else ""
    if not escape["bytes"]:
        return ""
    encoded = bytes.fromhex(re.sub(r"[\\x]+", "", escape["bytes"]))
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        return encoded.decode("latin-1")


def _read(text: str) -> _Text:
    """Return the text with the places of its letters. Those of an escape share one."""
    letters: list[str] = []
    places: list[tuple[int, int]] = []
    end = 0
    for escape in chain(_ESCAPE.finditer(text), [None]):
        start = len(text) if escape is None else escape.start()
        plain = [(text[at], (at, at + 1)) for at in range(end, start)]
        coded = [] if escape is None else [(letter, escape.span()) for letter in _unescaped(escape)]
        for letter, place in (*plain, *coded):
            if not _NO_LETTERS.match(letter):
                letters.append(letter)
                places.append(place)
        end = start if escape is None else escape.end()
    return _Text(text, "".join(letters), places, bytearray(len(letters)))


def _blocks_of(texts: list[_Text]) -> dict[str, list[tuple[_Text, int]]]:
    """Return each block of the texts, with the places where it stands."""
    blocks: dict[str, list[tuple[_Text, int]]] = defaultdict(list)
    for text in texts:
        for start in range(len(text.letters) - _BLOCK + 1):
            blocks[text.letters[start : start + _BLOCK]].append((text, start))
    return dict(blocks)


def _hide_runs(sent: str, blocks: dict[str, list[tuple[_Text, int]]], tried: dict[str, int]) -> None:
    for at in range(0, len(sent) - _BLOCK + 1, _BLOCK):
        found = blocks.get(sent[at : at + _BLOCK])
        if found is None or tried[sent[at : at + _BLOCK]] == _TRIED:
            continue
        tried[sent[at : at + _BLOCK]] += 1
        for text, start in found:
            if 0 in text.hidden[max(start - _BLOCK + 1, 0) : start + 2 * _BLOCK - 1]:
                first, end = _extended(sent, at, text.letters, start)
                text.hidden[first:end] = b"\1" * (end - first)


def _extended(sent: str, at: int, letters: str, start: int) -> tuple[int, int]:
    """Return where the run around a block begins and ends, up to the next blocks of the sent text."""
    before, after, most = 0, _BLOCK, 2 * _BLOCK - 1
    while before < min(_BLOCK - 1, at, start) and sent[at - before - 1] == letters[start - before - 1]:
        before += 1
    most = min(most, len(sent) - at, len(letters) - start)
    while after < most and sent[at + after] == letters[start + after]:
        after += 1
    return start - before, start + after


def _show_short_runs(hidden: bytearray) -> None:
    """Show runs again that are so short that any two texts may have them in common."""
    for start, end in _runs(hidden):
        if end - start < RUN:
            hidden[start:end] = bytes(end - start)


def _hide_words(text: _Text, short: set[str]) -> None:
    """Hide complete sent texts that are shorter than a run."""
    longest = max(map(len, short), default=0)
    for start in range(len(text.letters)):
        if start and text.places[start - 1][1] == text.places[start][0]:
            continue
        for end in range(min(start + longest, len(text.letters)), start, -1):
            if text.letters[start:end] in short and _stands_alone(text, start, end):
                text.hidden[start:end] = b"\1" * (end - start)
                break


def _stands_alone(text: _Text, start: int, end: int) -> bool:
    first, last = text.places[start][0], text.places[end - 1][1]
    if text.text[first - 1 : first] in _QUOTES and text.text[last : last + 1] in _QUOTES:
        return True
    goes_on = end < len(text.places) and text.places[end][0] == last
    return end - start >= WORD and not goes_on


def _runs(hidden: bytearray) -> Iterator[tuple[int, int]]:
    end = 0
    while (start := hidden.find(1, end)) >= 0:
        end = hidden.find(0, start)
        end = len(hidden) if end < 0 else end
        yield start, end


def _visible_text(text: _Text) -> str:
    visible, after = [], 0
    for start, end in _runs(text.hidden):
        visible += [text.text[after : text.places[start][0]], HIDDEN]
        after = text.places[end - 1][1]
    return "".join([*visible, text.text[after:]])
