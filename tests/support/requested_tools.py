"""Replies of a model, most of which ask for tools: well, badly, and for what is not there."""

from __future__ import annotations

from hypothesis import strategies as st

from agentsession._turn.model_io import Reply, ToolCall

NAMES = ["plain", "again", "ask", "ask_again", "ask_if_big", "gone", "", "né e?", "x" * 80]
ARGUMENTS = [
    '{"n":1}',
    '{"n":9}',
    ' { "n" : 1 } ',
    "",
    "{}",
    "[1]",
    '{"n":"x"}',
    '{"n":1,"m":2}',
    '{"n":1',
    '{"n":NaN}',
    '{"n":1e999}',
    '{"n":"\ud800\0"}',
    '{"n":' + "[" * 2000,
    "null",
]
CALLS = st.builds(
    ToolCall,
    st.sampled_from([*NAMES[:5] * 6, *NAMES[5:]]),
    st.sampled_from([*ARGUMENTS[:2] * 20, *ARGUMENTS[2:]]),
    st.sampled_from(["", "same"]),
)
TEXTS = st.sampled_from(["", " ", "Let me look.", "\0"])
STEPS = st.builds(
    Reply, TEXTS, TEXTS, st.lists(CALLS, min_size=1, max_size=4).map(tuple), st.sampled_from(["", '{"s":1}'])
)
REPLIES = st.one_of(STEPS, STEPS, STEPS, st.just(Reply("done")), st.just(Reply(" ")))
