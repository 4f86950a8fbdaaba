"""Every public module, class, function and method says what it is; read from the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_PACKAGE = Path(__file__).parents[1] / "edgecloud"
_NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _undocumented(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    """Public names without a docstring; what is inside a private class or a function is private."""
    for node in body:
        if not isinstance(node, _NAMED) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node.body, f"{prefix}{node.name}.")


def test_everything_public_has_a_docstring() -> None:
    missing = []
    for path in sorted(_PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        name = path.relative_to(_PACKAGE).as_posix()
        if tree.body and ast.get_docstring(tree) is None:
            missing.append(name)
        missing += [f"{name}: {each}" for each in _undocumented(tree.body)]
    assert missing == []


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("def length(): return 1", ["length"]),
        ("async def length(): ...", ["length"]),
        ("class Model:\n    '''A model.'''\n    def length(self): ...", ["Model.length"]),
        ("class Model:\n    pass", ["Model"]),
        ("def length():\n    '''Tokens held.'''", []),
        ("def _length(): ...\nclass _Model:\n    def length(self): ...", []),
    ],
)
def test_a_public_name_without_a_docstring_is_found(source: str, missing: list[str]) -> None:
    assert list(_undocumented(ast.parse(source).body)) == missing
