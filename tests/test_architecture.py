"""The directions of imports and a few habits, read from the syntax trees.

Each room may import those named in :data:`MAY_IMPORT`; nothing points back, and no two rooms import
each other.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "edgecloud"

GROUND = {
    "contracts", "ending", "errors", "files", "jsontypes", "registry", "stages", "textfiles", "__init__"
}  # fmt: skip
"""What every room may know: the vocabulary, the errors, and what the standard library nearly has."""
MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(GROUND, GROUND),
    "decoding": GROUND,
    "quality": GROUND,
    "hardware": GROUND,
    # Settings know the names of the algorithm's rules, and the caps that a hardware profile carries.
    "settings": GROUND | {"decoding", "hardware"},
    # Results, reports and the regression gate read from their registrations which metrics there are.
    "results": GROUND | {"quality", "settings"},
    "regression": GROUND | {"quality", "settings", "results"},
    # What decodes never measures: readings and times are judged by experiments.
    "models": GROUND | {"decoding", "hardware", "settings"},
    "embedded": GROUND | {"models"},
    "datasets": GROUND | {"embedded", "quality", "settings"},
    "cloud": GROUND | {"decoding", "models"},
    "edge": GROUND
    | {"cloud", "datasets", "decoding", "embedded", "hardware", "models", "settings"},
    "profiling": GROUND | {"hardware", "models", "results"},
}
# What it gives comes from there when it is asked for: importing the package loads none of them.
MAY_IMPORT["__init__"] = GROUND | {"datasets", "decoding", "library", "models", "quality"}
BELOW = {*MAY_IMPORT}
MAY_IMPORT["testing"] = GROUND | {"datasets", "decoding", "models", "quality"}
MAY_IMPORT["experiments"] = BELOW - {"regression", "profiling"}
MAY_IMPORT["report"] = GROUND | {
    "datasets", "embedded", "experiments", "quality", "results", "settings"
}  # fmt: skip
MAY_IMPORT["library"] = BELOW - {"profiling", "regression"} | {"experiments"}
MAY_IMPORT["cli"] = BELOW | {"experiments", "library", "report"}
MAY_IMPORT["__main__"] = {"cli"}

MODULES = sorted(PACKAGE.rglob("*.py"))
BENCH = sorted((ROOT / "bench").rglob("*.py"))
RULES = sorted((PACKAGE / "decoding").glob("*/*.py"))
"""Gates and acceptance rules."""
CONFTEST = ROOT / "conftest.py"
BOUNDARY = "edgecloud/cloud/engine/boundary.py"
"""The place that may catch everything of a request: :func:`edgecloud.cloud.engine.boundary.contained`."""
PLUGINS = "edgecloud/registry.py"
"""And the one that runs other people's modules, whatever those raise."""
COMES_WITH = {"h11": "uvicorn", "llvmlite": "numba", "markupsafe": "jinja2", "soxr": "librosa"}
"""Modules that cannot be absent where a package of ours is."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from run_time_nodes(other)
            continue
        yield child
        yield from run_time_nodes(child)


def imports(path: Path) -> set[str]:
    """Full names of the modules that ``path`` imports at run time, inside functions too."""
    found: set[str] = set()
    for node in run_time_nodes(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            module = node.module or ""
            if module == "edgecloud" or module.startswith("edgecloud."):
                found |= {f"{module}.{alias.name}" for alias in node.names}
            found.add(module)
    return found


def part(path: Path) -> str:
    """The part of the package a file belongs to: ``decoding``, ``config``, …"""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def third_party(names: set[str]) -> set[str]:
    tops = {name.split(".")[0] for name in names}
    return {top for top in tops if top not in sys.stdlib_module_names and top != "edgecloud"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downwards(path: Path) -> None:
    allowed = MAY_IMPORT[part(path)] | {part(path)}
    rooms = {
        words[1]
        for words in (n.split(".") for n in imports(path))
        if words[0] == "edgecloud" and len(words) > 1
    }
    assert {
        room for room in rooms if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file()
    } <= allowed


def test_no_two_rooms_import_each_other() -> None:
    for room, below in MAY_IMPORT.items():
        if room not in GROUND:
            assert not {other for other in below - GROUND if room in MAY_IMPORT[other]}, room


def test_every_part_of_the_package_has_a_level() -> None:
    assert {part(path) for path in MODULES} <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", sorted((PACKAGE / "decoding").rglob("*.py")), ids=name_of)
def test_decoding_is_pure(path: Path) -> None:
    names = imports(path)
    assert third_party(names) <= {"torch"}
    assert not {name.split(".")[0] for name in names} & {
        "http", "io", "os", "pathlib", "socket", "subprocess", "urllib"
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        *(f"contracts/{name}.py" for name in ("samples", "tokens", "trace", "cloud", "model")),
        "contracts/sampling.py",
        "errors.py",
        "textfiles.py",
        "settings/options.py",
        "registry.py",
        *(f"decoding/{path.parent.name}/{path.name}" for path in RULES),
    ],
)
def test_the_vocabulary_and_the_rules_need_nothing_third_party(name: str) -> None:
    assert third_party(imports(PACKAGE / name)) == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "report").glob("**/*.py")), ids=name_of)
def test_reports_read_types_and_look_no_name_up_in_a_file(path: Path) -> None:
    """From file to page: what a result or a journal holds is an attribute there."""
    held = {"file_id", "trace", "tokens", "origins", "detailed_results", "experiment_config"}
    held |= {"metrics", "latency_metrics", "cost_metrics", "speculative_decoding_metrics", "run"}
    held |= {"models", "environment", "limits", "quality_floors", "status", "degraded", "notes"}
    for node in ast.walk(tree(path)):
        name = None
        if isinstance(node, ast.Subscript):
            name = node.slice
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".get") and node.args:
            name = node.args[0]
        if isinstance(name, ast.Constant):
            assert name.value not in held, f"{name_of(path)}:{name.lineno}: {name.value!r}"


def test_settings_import_no_torch() -> None:
    code = (
        "import sys; import edgecloud, edgecloud.settings.options, edgecloud.settings.config;"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_conducts_a_sweep_and_times_journals_anew_imports_no_torch() -> None:
    code = (
        "import sys; import edgecloud.experiments.frontier, edgecloud.experiments.retiming;"
        "import edgecloud.experiments.swept, edgecloud.experiments.sweep;"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_gate_reaches_exact_verdicts_where_there_is_no_numpy() -> None:
    """An image of a CI that only compares needs no scientific packages."""
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('numpy', 'scipy', 'torch', 'transformers'))\n"
        "from edgecloud.cli.main import main\n"
        "sys.exit(main(['gate', 'bench/baselines', 'bench/baselines', '--policy', 'bench/gate.toml']))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "passed" in found.stdout.splitlines()[-1]


def test_the_root_conftest_is_light() -> None:
    names = imports(CONFTEST)
    assert third_party(names) <= {"pytest", "pytest_benchmark"}
    ours = {name for name in names if name.split(".")[0] == "edgecloud"}
    light = ("edgecloud.settings.options", "edgecloud.registry", "edgecloud.errors")
    assert all(name.startswith(light) for name in ours)


def test_only_the_root_conftest_and_bench_know_pytest_benchmark() -> None:
    for path in MODULES:
        assert "pytest_benchmark" not in third_party(imports(path)), path


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {
        re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for part in listed for line in part
    }
    given_by = packages_distributions()
    for path in MODULES:
        for module in third_party(imports(path)):
            names = [COMES_WITH.get(module, module), *given_by.get(module, [])]
            assert {name.lower().replace("_", "-") for name in names} & declared, (
                f"{path}: {module}"
            )


def test_nothing_in_the_package_imports_bench_or_tests() -> None:
    for path in MODULES:
        assert not third_party(imports(path)) & {"bench", "tests", "conftest"}, path


@pytest.mark.parametrize("path", [*MODULES, *BENCH, CONFTEST], ids=name_of)
def test_no_handler_is_broad_unless_it_cleans_up_and_raises_again(path: Path) -> None:
    broad = 0
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        last = node.body[-1]
        if isinstance(last, ast.Raise) and last.exc is None:
            continue
        where = f"{name_of(path)}:{node.lineno}"
        assert node.type is not None, where
        caught = {ast.unparse(kind) for kind in getattr(node.type, "elts", [node.type])}
        assert "BaseException" not in caught, where
        broad += "Exception" in caught
    assert broad == (1 if name_of(path) in {BOUNDARY, PLUGINS} else 0)


def test_whoever_answers_many_on_one_thread_does_so_within_the_boundary() -> None:
    users = {
        path.name
        for path in MODULES
        if "edgecloud.cloud.engine.boundary.contained" in imports(path)
    }
    assert users == {"engine.py", "pipe_server.py", "session_registry.py", "thread_runner.py"}


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if part(path) not in {"cli", "report"}],
    ids=name_of,
)
def test_only_the_command_line_and_reports_print_to_standard_output(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            target = {word.arg: ast.unparse(word.value) for word in node.keywords}.get("file")
            assert target == "sys.stderr", f"{name_of(path)}:{node.lineno}"
