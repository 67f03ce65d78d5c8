"""The rules of the code that no type checker knows: sizes, names, privacy, docstrings."""

from __future__ import annotations

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.examples import ROOT

PACKAGE = ROOT / "agentsession"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILES, MAX_LINES, MAX_FUNCTION = 153, 300, 40

# Each of these had four to nine meanings, so none of them says anything as a name.
VAGUE = frozenset(
    {"told", "given", "left", "asked", "answer", "changed", "came", "said", "shown", "place", "whole"}
)
PUBLIC = (
    "agentsession",
    "agentsession.actions",
    "agentsession.context",
    "agentsession.contrib.fastapi",
    "agentsession.contrib.flask",
    "agentsession.errors",
    "agentsession.events",
    "agentsession.info",
    "agentsession.provider",
    "agentsession.testing",
    "agentsession.testing.plugin",
)
# Packages whose `__init__` alone is public, and the entry of the command line.
UNLISTED = re.compile(
    r"agentsession\.(actions|provider|testing)\..*|agentsession\.__main__|agentsession\.contrib"
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def relative(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def functions(file: Path) -> Iterator[Function]:
    for node in ast.walk(tree(file)):
        if isinstance(node, Function):
            yield node


def length(function: Function) -> int:
    """Return the lines of a function without its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        text = function.body[0]
        lines -= (text.end_lineno or 0) - text.lineno + 1
    return lines


def test_there_are_few_files() -> None:
    assert len(FILES) <= MAX_FILES


def test_files_are_short() -> None:
    long = {
        relative(file): count for file in FILES if (count := len(file.read_text().splitlines())) > MAX_LINES
    }
    assert not long


def test_functions_are_short() -> None:
    long = [
        f"{relative(file)}: {function.name} has {length(function)} lines"
        for file in FILES
        for function in functions(file)
        if length(function) > MAX_FUNCTION
    ]
    assert not long


def vague_names(file: Path) -> Iterator[str]:
    for node in ast.walk(tree(file)):
        if isinstance(node, (*Function.__args__, ast.ClassDef)):
            name = node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.attr
        else:
            continue
        if name.strip("_") in VAGUE:
            yield f"{relative(file)}:{node.lineno}: {name}"


def test_no_function_or_attribute_has_a_vague_name() -> None:
    assert not [found for file in FILES for found in vague_names(file)]


def defined(file: Path) -> Iterator[str]:
    """Yield the public names that a module defines."""
    for node in tree(file).body:
        if isinstance(node, (*Function.__args__, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            if not (isinstance(node.value, ast.Call) and ast.unparse(node.value.func) in TYPE_VARIABLES):
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


TYPE_VARIABLES = frozenset({"TypeVar", "ParamSpec", "typing.TypeVar"})

# The dialects implement one protocol; the two frameworks and both drivers have the same shape on purpose.
SAME_ON_PURPOSE = re.compile(r"_store/dialects/.*")


def test_no_public_name_is_defined_in_two_modules() -> None:
    where = defaultdict(set)
    for file in FILES:
        if not SAME_ON_PURPOSE.fullmatch(relative(file)):
            for name in defined(file):
                if not name.startswith("_"):
                    where[name].add(relative(file))
    assert not {name: files for name, files in where.items() if len(files) > 1}


def test_each_module_is_private_or_in_the_reference() -> None:
    reference = "\n".join(file.read_text() for file in (ROOT / "docs" / "reference").glob("*.md"))
    public = [
        name
        for name in map(module_name, FILES)
        if not any(part.startswith("_") for part in name.split(".")) and not UNLISTED.fullmatch(name)
    ]
    assert not [name for name in public if not re.search(rf"\b{re.escape(name)}\b", reference)]
    assert set(public) <= set(PUBLIC)


def public_names(module: str) -> list[str]:
    found = importlib.import_module(module)
    names = getattr(found, "__all__", None)
    if names is None:
        names = [name for name in defined(Path(found.__file__ or "")) if not name.startswith("_")]
    return [name for name in names if not name.startswith("_")]


def definition(value: object) -> ast.AST | None:
    """Return the class or function that `value` is, in the source of this package."""
    module, path = getattr(value, "__module__", ""), getattr(value, "__qualname__", "")
    if not isinstance(module, str) or not module.startswith("agentsession") or not path:
        return None
    file = Path(importlib.import_module(module).__file__ or "")
    node: ast.AST = tree(file)
    for part in path.split("."):
        # The last definition counts: overloads come before it.
        found = [each for each in getattr(node, "body", ()) if getattr(each, "name", None) == part]
        if not found:
            return None
        node = found[-1]
    return node


def is_overload(function: Function) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in function.decorator_list)


def is_field(call: ast.Call) -> bool:
    return ast.unparse(call.func).endswith("Field")


def without_docstring(module: str, name: str) -> Iterator[str]:
    node = definition(getattr(importlib.import_module(module), name))
    if node is None:
        return
    if not isinstance(node, (*Function.__args__, ast.ClassDef)):
        yield f"{module}.{name}"
        return
    if not ast.get_docstring(node):
        yield f"{module}.{name}"
    for each in node.body if isinstance(node, ast.ClassDef) else ():
        is_public = isinstance(each, Function) and not each.name.startswith("_")
        if is_public and not any(
            isinstance(mark, ast.Name) and mark.id == "overload" for mark in each.decorator_list
        ):
            if not ast.get_docstring(each):
                yield f"{module}.{name}.{each.name}"
        elif isinstance(each, ast.Assign) and isinstance(each.value, ast.Call) and not is_field(each.value):
            # `continue_session = Continue(…)`: an editor shows no docstring of it.
            yield from (
                f"{module}.{name}.{target.id}"
                for target in each.targets
                if isinstance(target, ast.Name) and not target.id.startswith("_")
            )


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_callable_has_a_literal_docstring(module: str) -> None:
    """An editor shows what stands at the definition, never what is assigned at run time."""
    assert not [found for name in public_names(module) for found in without_docstring(module, name)]


# Functions that are made at run time, which no editor can show.
MADE_AT_RUN_TIME = {"_dsl/code_interface.py", "contrib/fastapi.py"}


def test_nothing_is_assigned_to_a_docstring_or_a_signature() -> None:
    found = [
        f"{relative(file)}:{node.lineno}"
        for file in FILES
        if relative(file) not in MADE_AT_RUN_TIME
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and node.attr in ("__doc__", "__signature__")
    ]
    assert not found
