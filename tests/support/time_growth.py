"""How processor time grows with the length of a text, whatever the speed of the machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

SIZES = (10_000, 40_000, 160_000)
FLOOR = 0.001
"""Seconds. A faster run counts as this long: below it the clock and the caches decide."""

MARGIN = 3.0
"""How much slower per character a longer text may be. With 16 times the text, quadratic time is 16 times
slower."""

ATTEMPTS = 3


def grows_too_fast(
    run: Callable[[str], object], text_of: Callable[[int], str], sizes: tuple[int, ...] = SIZES
) -> str:
    """Return what is wrong with the growth of `run`, or an empty text.

    The processor time of this thread is compared with that of the shortest text. The least of some attempts
    counts, so that other processes do not matter. A longer text is left out where even quadratic time would
    stay within the limit.
    """
    base = max(_seconds(run, text_of(sizes[0])), FLOOR)
    for size in sizes[1:]:
        times = size // sizes[0]
        text, costs = text_of(size), [math.inf]
        while costs[-1] > MARGIN * base * times and len(costs) <= ATTEMPTS:
            costs.append(_seconds(run, text))
        if min(costs) > MARGIN * base * times:
            return f"{times} times the text takes {min(costs) / base:.0f} times as long"
        if min(costs) * (sizes[-1] / size) ** 2 < MARGIN * base * sizes[-1] / sizes[0]:
            break
    return ""


def _seconds(run: Callable[[str], object], text: str) -> float:
    began = time.thread_time()
    run(text)
    return time.thread_time() - began


def repeated(unit: str, before: str = "", after: str = "") -> Callable[[int], str]:
    """A text of any length: `before`, n units, `after`."""

    def text_of(size: int) -> str:
        return before + unit * ((size - len(before) - len(after)) // len(unit)) + after

    return text_of


SHAPES: dict[str, Callable[[int], str]] = {
    "words": repeated("word "),
    "digits": repeated("1"),
    "numbers joined by points": repeated("1.", '{"content": "', '"}'),
    "numbers joined by minus signs": repeated("1-", '{"content": [', "1]}"),
    "exponents": repeated("1e+", '{"content": '),
    "beginnings of keys": repeated("sk-"),
    "one key without a digit": repeated("a", "sk-"),
    "short keys": repeated("sk-a1b2c/"),
    "bearer": repeated("bearer "),
    "spaces": repeated(" ", "bearer", "x"),
    "line ends": repeated("\n"),
    "fences": repeated("```json\n"),
    "a fence without an end": repeated("a", "```"),
    "backticks": repeated("`"),
    "quotes": repeated('"'),
    "backslashes": repeated("\\", '{"content": "'),
    "nested objects": repeated('{"content":'),
    "nested lists": repeated("[", '{"content": '),
    "empty lists": repeated("[] "),
    "objects in prose": repeated('{"a":1} '),
    "an object without an end": repeated('"a":1,', "{"),
    "escaped characters": repeated("\\u0041", '{"content": "', '"}'),
    "halves of surrogates": repeated("\\ud800", '{"content": "', '"}'),
    "surrogates": repeated("\ud800"),
    "NUL": repeated("\0"),
    "tags": repeated("{{a}}"),
    "a traceback": repeated("Traceback (most recent call last)\n"),
    "parameters": repeated(":param a: b\n", "Args:\n"),
}
"""Texts that a naive parser, or a pattern that goes back, reads again and again."""
