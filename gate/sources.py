"""The files of the wheel ``edgecloud-gate``: those of ``edgecloud/`` that the regression check imports, under the
name ``edgecloud_gate``.

Nothing is kept twice: what the check reaches is read from the syntax trees, beginning with its commands, and
imports are given the other name while the wheel is built.
"""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "edgecloud_gate"
COMMANDS = ("gate", "baseline")
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OURS = ROOT / "edgecloud"
_IMPORT = re.compile(r"^(\s*(?:from|import) )edgecloud\b", re.MULTILINE)


class Sources(BuildHookInterface[Any]):
    """Hatchling's hook: puts the files into the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the renamed files into a folder that lives until they are packed."""
        self._folder = tempfile.TemporaryDirectory()
        written = write(Path(self._folder.name))
        build_data["force_include"] |= {str(path): name for name, path in written.items()}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the folder."""
        self._folder.cleanup()


def write(folder: Path) -> dict[str, Path]:
    """The files of the wheel, by their place in it; those with imports are new in ``folder``."""
    found = {f"{NAME}/__main__.py": HERE / "main.py"}
    for module in sorted(reached()):
        path = path_of(module)
        text = path.read_text(encoding="utf-8")
        renamed = folder / f"{module}.py"
        renamed.write_text(_IMPORT.sub(rf"\1{NAME}", text), encoding="utf-8")
        found[f"{NAME}/{path.relative_to(OURS).as_posix()}"] = renamed
    rooms = {path_of(module).parent for module in reached() if path_of(module).stem != "__init__"}
    for path in (path for room in rooms for path in room.rglob("*.toml")):
        found[f"{NAME}/{path.relative_to(OURS).as_posix()}"] = path
    found[f"{NAME}/py.typed"] = OURS / "py.typed"
    return {name: path for name, path in found.items() if path.is_file()}


def reached() -> set[str]:
    """The modules that the check imports, at once or when it needs them."""
    found: set[str] = set()
    left = [f"edgecloud.cli.{name}" for name in COMMANDS]
    while left:
        parts = left.pop().split(".")
        for length in range(1, len(parts) + 1):
            module = ".".join(parts[:length])
            if module not in found:
                found.add(module)
                left += imports(module)
    return found


def imports(module: str) -> Iterator[str]:
    """The modules of ours that a module imports, but for its types; a room that is a registry imports all in it."""
    path = path_of(module)
    text = path.read_text(encoding="utf-8")
    if path.stem == "__init__" and "import_all(__name__" in text:
        yield from (f"{module}.{other.stem}" for other in path.parent.glob("[!_]*.py"))
    for node in _run(ast.parse(text)):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
        elif isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        yield from (name for name in names if name.startswith("edgecloud") and _is_module(name))


def path_of(module: str) -> Path:
    """The file of a module."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _is_module(name: str) -> bool:
    return path_of(name).is_file()


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one that are run: not what is for checkers of types."""
    for inner in ast.iter_child_nodes(node):
        if not (isinstance(inner, ast.If) and ast.unparse(inner.test) == "TYPE_CHECKING"):
            yield inner
            yield from _run(inner)
