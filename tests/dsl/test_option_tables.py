"""The signature, the docstring and the table of rules of each decorator name the same options."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest

from agentsession import agent, agent_session, tool
from agentsession._option_rules import UNSET, keywords_of, rules_of, violations
from agentsession._options import HOOKS, AgentOptions, SessionOptions
from agentsession._tools.tool_options import Mark, ToolOptions
from tests.docs.examples import ROOT

TABLES = [(agent, AgentOptions), (agent_session, SessionOptions), (tool, ToolOptions)]


@pytest.mark.parametrize(("decorator", "table"), TABLES)
def test_each_option_is_in_the_docstring_and_each_rule_has_a_keyword(decorator: Any, table: type) -> None:
    keywords = keywords_of(decorator)
    assert [name for name in keywords if f"\n        {name}: " not in decorator.__doc__] == []
    assert rules_of(table).keys() <= keywords.keys()
    assert UNSET not in [keywords[name] for name in rules_of(table)]


@pytest.mark.parametrize(("decorator", "table"), TABLES)
def test_each_default_satisfies_its_rule(decorator: Any, table: type) -> None:
    assert list(violations(table, SimpleNamespace(**keywords_of(decorator)))) == []


def test_each_hook_is_in_the_docstring_and_in_the_page_about_hooks() -> None:
    page = (ROOT / "docs" / "how-to" / "hooks.md").read_text()
    assert [name for name in HOOKS if f"`{name}`" not in str(agent.__doc__)] == []
    assert [name for name in HOOKS if f"| `{name}(context, " not in page] == []


def test_the_fields_of_the_tables_are_the_keywords() -> None:
    assert {field.name for field in fields(SessionOptions)} == set(keywords_of(agent_session))
    assert {field.name: field.default for field in fields(Mark)} == keywords_of(tool)
