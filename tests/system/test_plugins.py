"""A package of a stranger, made after CONTRIBUTING.md's recipes: no file of the project is touched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPES = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
AUDIO = sorted((ROOT / "edgecloud" / "embedded" / "corpus" / "audio").rglob("*.flac"))[0]
POLICY = ("--gate-type", "surprise", "--logprob-threshold=-0.2")
POLICY += ("--acceptance", "near", "--clock", "modelled")
FLAGS = ("--plugin", "strangers.surprise", "--plugin", "strangers.near")

GRID = """
[where]
max_samples = 2

[[policy]]
name = "theirs"
settings = {gate_type = "surprise", logprob_threshold = -0.2, acceptance = "near"}
"""


def recipe(heading: str, language: str) -> str:
    """The block of code of a recipe."""
    section = RECIPES.split(f"### {heading}\n")[1].split("\n### ")[0]
    found = re.search(rf"^( *)```{language}\n(.*?)^ *```", section, re.DOTALL | re.MULTILINE)
    assert found is not None
    return "".join(line.removeprefix(found[1]) for line in found[2].splitlines(keepends=True))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package ``strangers``, which is not installed."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "strangers").mkdir()
    (folder / "strangers" / "__init__.py").write_text('__version__ = "4.2"\n')
    (folder / "strangers" / "surprise.py").write_text(recipe("A gate", "python"))
    (folder / "strangers" / "near.py").write_text(recipe("An acceptance rule", "python"))
    (folder / "test_laws.py").write_text(recipe("In a package of your own", "python"))
    return folder


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that says that it is installed, beside one that cannot be loaded."""
    folder = tmp_path_factory.mktemp("installed")
    info = folder / "strangers-4.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 4.2\n")
    groups = tomllib.loads(recipe("In a package of your own", "toml"))["project"]["entry-points"]
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {at}\n" for name, at in entries.items())
            for group, entries in groups.items()
        )
    )
    (folder / "strangers").symlink_to(package / "strangers")
    wreck = folder / "wreck-0.1.dist-info"
    wreck.mkdir()
    (wreck / "METADATA").write_text("Metadata-Version: 2.1\nName: wreck\nVersion: 0.1\n")
    (wreck / "entry_points.txt").write_text("[edgecloud.gates]\nwrecked = no_such_module\n")
    return folder


def ran(
    folder: Path, arguments: Sequence[str | Path], *, cwd: Path | None = None, status: int = 0
) -> subprocess.CompletedProcess[str]:
    """``python -m`` with ``folder`` on the path."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        timeout=120,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def test_the_suite_runs_with_a_module_given_by_flag_and_the_result_and_the_report_name_it(
    package: Path, tmp_path: Path
) -> None:
    ran(
        package,
        (
            "pytest",
            "bench/test_spec.py",
            "-q",
            "-p",
            "no:cacheprovider",
            *FLAGS,
            *POLICY,
            "--max-samples",
            "2",
            "--output-dir",
            str(tmp_path),
            "--output-name",
            "theirs",
            "--benchmark-storage",
            str(tmp_path / "benchmarks"),
        ),
    )
    path = tmp_path / "results" / "theirs.json"
    result = json.loads(path.read_text())
    assert result["metrics"]["num_completed"] == 2
    assert result["metrics"]["num_degraded"] == 0
    origins = {origin for row in result["detailed_results"] for origin in row["origins"]}
    assert origins & {"verified", "corrected", "bonus"}  # the rule was asked
    gate, rule = result["plugins"]
    assert (gate["kind"], gate["name"]) == ("gate", "surprise")
    assert (rule["kind"], rule["name"]) == ("acceptance rule", "near")
    assert gate["origin"] == "--plugin strangers.surprise"
    assert gate["version"] == rule["version"] == "4.2"
    assert len(gate["sha256"]) == 64
    (journal,) = (tmp_path / "journals").glob("*.jsonl")
    with journal.open() as lines:
        assert json.loads(next(lines))["identity"]["plugins"] == [gate, rule]
    page = tmp_path / "page.html"
    ran(package, ("edgecloud", "report", path, "-o", page))
    assert "near" in page.read_text(encoding="utf-8")


def test_commands_find_what_is_installed_and_say_in_a_line_what_is_broken(
    installed: Path, tmp_path: Path
) -> None:
    done = ran(installed, ("edgecloud", "caption", *POLICY, AUDIO))
    assert "cloud calls" in done.stdout
    wreck = (
        "plug-in 'wrecked' (gates) of wreck 0.1 cannot be loaded: ModuleNotFoundError: No module named "
        "'no_such_module'"
    )
    assert f"edgecloud: warning: {wreck}\n" in done.stderr
    (tmp_path / "grid.toml").write_text(GRID)
    ran(installed, ("edgecloud", "sweep", tmp_path / "grid.toml", "-o", tmp_path / "frontier"))
    (place,) = json.loads((tmp_path / "frontier" / "frontier.json").read_text())["places"]
    assert [row["name"] for row in place["rows"]] == ["theirs"]
    listed = ran(installed, ("edgecloud", "plugins"), status=1).stdout.splitlines()
    assert re.fullmatch(r"gate +surprise +strangers 4\.2 +Ask when .*average\.", listed[6])
    assert any(re.match(r"acceptance rule +near +strangers 4\.2 ", line) for line in listed)
    assert listed[-1] == wreck
    asked = ran(installed, ("edgecloud", "caption", "--gate-type", "wrecked", AUDIO), status=2)
    assert asked.stderr.splitlines()[-1].endswith(f"surprise; {wreck}")


def test_a_service_has_the_rules_that_it_was_started_with(package: Path) -> None:
    caption = (sys.executable, "-m", "edgecloud", "caption", "--cloud-url", "{url}")
    done = ran(
        package,
        (
            "edgecloud",
            "serve",
            "--port",
            "0",
            "--plugin",
            "strangers.near",
            "--",
            *caption,
            "--plugin",
            "strangers.surprise",
            *POLICY,
            str(AUDIO),
        ),
    )
    assert "cloud calls" in done.stdout


def test_the_laws_hold_for_the_recipes(package: Path) -> None:
    ran(package, ("pytest", "-q", "-p", "no:cacheprovider", "test_laws.py"), cwd=package)


def test_a_file_in_the_folder_of_gates_or_rules_is_all_that_a_new_one_takes(tmp_path: Path) -> None:
    for room, name in (("gates", "surprise"), ("acceptance", "near")):
        (tmp_path / room).mkdir()
        heading = "A gate" if room == "gates" else "An acceptance rule"
        (tmp_path / room / f"{name}.py").write_text(recipe(heading, "python"))
    code = (
        "import importlib.machinery, pathlib, sys\n"
        "class Beside:\n"
        "    '''As if the files lay in the folders of the package.'''\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        found = importlib.machinery.PathFinder.find_spec(name, path, target)\n"
        "        room = name.removeprefix('edgecloud.decoding.')\n"
        "        if room in ('gates', 'acceptance'):\n"
        f"            found.submodule_search_locations.append(str(pathlib.Path({str(tmp_path)!r}) / room))\n"
        "        return found\n"
        "sys.meta_path.insert(0, Beside)\n"
        "from edgecloud.settings.config import resolve\n"
        "from edgecloud.settings.parts import PARTS, plugins_in_use\n"
        "config = resolve({'gate_type': 'surprise', 'acceptance': 'near'})\n"
        "assert plugins_in_use('spec', config.to_json()) == []\n"
        "print([registry.part(config.to_json()[name]).origin for name, registry in PARTS.items()])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout.strip() == "['built in', 'built in']", done.stderr
