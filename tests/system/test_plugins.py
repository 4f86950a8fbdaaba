"""A package of a stranger, made after CONTRIBUTING.md's recipes: a gate, a rule, a metric, a family and a
converter in a temporary folder. No file of the project is touched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edgecloud.embedded.pair import CLOUD_CHECKPOINT, EDGE_CHECKPOINT

ROOT = Path(__file__).resolve().parents[2]
RECIPES = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
AUDIO = sorted((ROOT / "edgecloud" / "embedded" / "corpus" / "audio").rglob("*.flac"))[0]
MODULES = {
    "surprise": "A gate",
    "near": "An acceptance rule",
    "overlap": "A metric",
    "listener": "A family",
    "beside": "A dataset",
}
"""Modules of the package, and the recipes that they are made after."""
FLAGS = tuple(f"--plugin=strangers.{name}" for name in MODULES)
POLICY = ("--gate-type=surprise", "--logprob-threshold=-0.2", "--acceptance=near")
POLICY += ("--clock=modelled", "--max-new-tokens=24")
LABELS = ("word overlap", "词重合率")

GRID = """
[where]
max_samples = 1
max_new_tokens = 24
edge_model = "{0}/edge"
cloud_model = "{0}/cloud"

[[policy]]
name = "theirs"
settings = {{gate_type = "surprise", logprob_threshold = -0.2, acceptance = "near"}}
"""


def recipe(heading: str, language: str = "python") -> str:
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
    for name, heading in MODULES.items():
        text = recipe(heading)
        if name == "overlap":
            assert "tolerance=0.02" in text
            text = text.replace("tolerance=0.02", "headline=5, paired=True, tolerance=0.02")
        (folder / "strangers" / f"{name}.py").write_text(text, encoding="utf-8")
    (folder / "test_laws.py").write_text(recipe("In a package of your own"))
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


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded pair as checkpoints of the stranger's family."""
    folder = tmp_path_factory.mktemp("pair")
    for side, checkpoint in (("edge", EDGE_CHECKPOINT), ("cloud", CLOUD_CHECKPOINT)):
        (folder / side).mkdir()
        for path in Path(checkpoint).iterdir():
            (folder / side / path.name).symlink_to(path)
        config = json.loads((Path(checkpoint) / "config.json").read_text())
        (folder / side / "config.json").unlink()
        (folder / side / "config.json").write_text(json.dumps({**config, "model_type": "listener"}))
    return folder


def models(pair: Path) -> tuple[str, str]:
    return (f"--edge-model={pair / 'edge'}", f"--cloud-model={pair / 'cloud'}")


def ran(
    folder: Path, *arguments: str | Path, cwd: Path | None = None, status: int = 0
) -> subprocess.CompletedProcess[str]:
    """``python -m`` with ``folder`` on the path."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        timeout=300,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def suites(package: Path, pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the three suites, run with modules given by flag."""
    folder = tmp_path_factory.mktemp("out")
    named = [f"bench/test_{suite}.py" for suite in ("edge", "cloud", "spec")]
    output = (f"--output-dir={folder}", f"--benchmark-storage={folder / 'benchmarks'}")
    quick = ("-q", "-p", "no:cacheprovider", "--max-samples=1", "--interleave")
    ran(package, "pytest", *named, *quick, *output, *FLAGS, *POLICY, *models(pair))
    return folder / "results"


def result(suites: Path, mode: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((suites / f"{mode}_results.json").read_text("utf-8"))
    return found


def test_results_have_what_they_did_and_name_them(suites: Path, package: Path) -> None:
    used = {
        "edge": [("model family", "listener"), ("metric", "overlap")],
        "cloud": [("model family", "listener"), ("metric", "overlap")],
        "spec": [
            ("gate", "surprise"),
            ("acceptance rule", "near"),
            ("model family", "listener"),
            ("metric", "overlap"),
        ],
    }
    whole = sha256()
    for path in sorted((package / "strangers").glob("*.py")):
        whole.update(f"{path.name}\0{len(path.read_bytes())}\0".encode() + path.read_bytes())
    for mode, expected in used.items():
        found = result(suites, mode)
        assert found["metrics"]["num_completed"] == 1
        assert [(part["kind"], part["name"]) for part in found["plugins"]] == expected
        assert {part["version"] for part in found["plugins"]} == {"4.2"}
        assert {part["sha256"] for part in found["plugins"]} == {whole.hexdigest()}
        assert {side["family"] for side in found["models"].values() if side} == {"listener"}
    spec = result(suites, "spec")
    assert spec["plugins"][0]["origin"] == "--plugin strangers.surprise"
    assert spec["metrics"]["num_degraded"] == 0
    assert spec["metrics"]["speculative_decoding_metrics"]["cloud_calls"]  # the gate asked
    with (suites.parent / "journals" / "spec_results.jsonl").open() as lines:
        # The metric changes no record.
        assert json.loads(next(lines))["identity"]["plugins"] == spec["plugins"][:3]


def test_results_have_the_metrics_values_and_what_they_are(suites: Path) -> None:
    found = result(suites, "edge")
    assert found["metrics"]["overlap"] == found["metrics"]["zh.jieba.overlap"]
    assert 0 <= found["metrics"]["overlap"] <= 1
    (entry,) = found["detailed_results"]
    assert entry["overlap"] == entry["zh.jieba.overlap"]
    assert entry["zh.char.overlap"] is not None
    about = found["quality_info"]["zh.jieba.overlap"]
    assert about["range"] == "0..1"
    assert about["library"].startswith("--plugin strangers.overlap (")


def test_reports_show_them_in_both_languages(suites: Path, package: Path, tmp_path: Path) -> None:
    plugin = "--plugin=strangers.overlap"
    options = ("--format=markdown", "--language=zh", plugin)
    text = ran(package, "edgecloud", "report", suites, *options).stdout
    assert any(line.startswith(f"| {LABELS[1]}") for line in text.splitlines()), text
    page = tmp_path / "page.html"
    ran(package, "edgecloud", "report", suites, plugin, "-o", page)
    assert LABELS[0] in page.read_text("utf-8")
    assert "near" in page.read_text("utf-8")


def test_the_regression_gate_compares_the_metric(
    suites: Path, package: Path, tmp_path: Path
) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    found = result(suites, "edge")
    (entry,) = found["detailed_results"]
    for path, value in ((before, 0.5), (after, 0.45)):
        found["detailed_results"] = [{**entry, "overlap": value}]
        path.write_text(json.dumps(found), "utf-8")
    plugin = "--plugin=strangers.overlap"
    done = ran(package, "edgecloud", "gate", before, after, plugin, status=1)
    text = done.stdout + done.stderr
    assert "overlap" in text
    assert "tolerance 0.02" in text


def test_score_has_the_metric(package: Path, tmp_path: Path) -> None:
    row = {"id": "a", "reference": "语气平静", "hypothesis": "语气平静", "language": "zh"}
    (tmp_path / "pairs.json").write_text(json.dumps({"pairs": [row]}), "utf-8")
    options = ("-o-", "--plugin=strangers.overlap")
    done = ran(package, "edgecloud", "score", tmp_path / "pairs.json", *options)
    found = json.loads(done.stdout)
    assert found["corpus"]["zh.jieba.overlap"] == found["per_pair"]["a"]["zh.char.overlap"] == 1.0


def test_a_caption_is_made_with_what_is_installed(installed: Path, pair: Path) -> None:
    done = ran(installed, "edgecloud", "caption", *POLICY, *models(pair), AUDIO)
    assert "cloud calls" in done.stdout
    assert f"edgecloud: warning: {WRECK}\n" in done.stderr


def test_a_sweep_is_made_with_what_is_installed(
    installed: Path, pair: Path, tmp_path: Path
) -> None:
    (tmp_path / "grid.toml").write_text(GRID.format(pair))
    ran(installed, "edgecloud", "sweep", tmp_path / "grid.toml", "-o", tmp_path / "frontier")
    (place,) = json.loads((tmp_path / "frontier" / "frontier.json").read_text())["places"]
    assert [row["name"] for row in place["rows"]] == ["theirs"]


WRECK = (
    "plug-in 'wrecked' (gates) of wreck 0.1 cannot be loaded: ModuleNotFoundError: No module named "
    "'no_such_module'"
)


def test_what_is_installed_is_listed_and_is_a_choice(installed: Path) -> None:
    listed = ran(installed, "edgecloud", "plugins", status=1).stdout.splitlines()
    theirs = [line.split("  ")[0] for line in listed if "strangers 4.2" in line]
    assert theirs == ["gate", "acceptance rule", "metric", "model family", "converter"]
    assert any(
        re.fullmatch(r"gate +surprise +strangers 4\.2 +Ask .*average\.", line) for line in listed
    )
    assert listed[-1] == WRECK
    shown = ran(installed, "edgecloud", "caption", "--help").stdout
    assert "|surprise" in shown
    assert "|near" in shown
    assert "beside" in ran(installed, "edgecloud", "data", "--help").stdout
    asked = ran(installed, "edgecloud", "caption", "--gate-type=wrecked", AUDIO, status=2)
    assert asked.stderr.splitlines()[-1].endswith(f"surprise; {WRECK}")


def test_a_dataset_is_converted(package: Path, tmp_path: Path, tone: NDArray[np.float32]) -> None:
    (tmp_path / "src").mkdir()
    for name in "ab":
        soundfile.write(tmp_path / "src" / f"{name}.wav", tone, 16_000)
        (tmp_path / "src" / f"{name}.txt").write_text("A calm voice.\n")
    command = ("edgecloud", "data", "--plugin=strangers.beside", "beside", tmp_path / "src")
    ran(package, *command, tmp_path / "dest")
    entries = json.loads((tmp_path / "dest" / "manifest.json").read_text())
    assert [entry["english_caption"] for entry in entries] == ["A calm voice."] * 2
    (tmp_path / "src" / "a.txt").unlink()
    done = ran(package, *command, tmp_path / "dest", status=2)
    assert "a.wav: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_service_has_the_rules_that_it_was_started_with(package: Path) -> None:
    caption = (sys.executable, "-m", "edgecloud", "caption", "--cloud-url", "{url}")
    done = ran(
        package,
        *("edgecloud", "serve", "--port=0", "--plugin=strangers.near", "--"),
        *(*caption, "--plugin=strangers.surprise", "--plugin=strangers.near", *POLICY, AUDIO),
    )
    assert "cloud calls" in done.stdout


def test_a_gate_that_fails_in_a_way_that_nobody_foresaw_is_one_line_that_names_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    options = ("--plugin=faulty", "--clock=modelled", "--gate-type=broken")
    done = ran(tmp_path, "edgecloud", "caption", *options, AUDIO, status=2)
    assert done.stderr.splitlines()[-1] == (
        "edgecloud: error: gate 'broken' of --plugin faulty failed: ZeroDivisionError: division by zero"
    )
    assert "Traceback" not in done.stdout + done.stderr


FAULTY = """
import edgecloud

@edgecloud.gate("broken")
def gate(block, thresholds):
    return 1 / 0
"""


WITH_MINIATURES = """
from pathlib import Path
import numpy, soundfile
import strangers.listener
from edgecloud.testing import ConverterCase, check_converter, check_family
from strangers.beside import beside

def source(folder):
    folder.mkdir()
    for name in "abc":
        soundfile.write(folder / f"{name}.wav", numpy.full(16_000, 0.1), 16_000)
        (folder / f"{name}.txt").write_text("A calm voice.")
    return folder

def harm(folder):
    (folder / "a.txt").unlink()
    (folder / "b.wav").write_bytes(b"not audio")

def test_the_family_obeys_the_laws():
    check_family("listener", Path(__file__).with_name("miniature"))

def test_the_converter_obeys_the_laws():
    check_converter(
        ConverterCase(convert=beside, source=source, samples=3, harm=harm, language="english")
    )
"""


def test_the_laws_hold_for_the_recipes_that_need_a_miniature(
    package: Path, pair: Path, tmp_path: Path
) -> None:
    (tmp_path / "miniature").symlink_to(pair / "edge")
    (tmp_path / "test_laws.py").write_text(WITH_MINIATURES)
    ran(package, "pytest", "-q", "-p", "no:cacheprovider", "test_laws.py", cwd=tmp_path)


def test_the_laws_hold_for_the_recipes(package: Path) -> None:
    ran(package, "pytest", "-q", "-p", "no:cacheprovider", "test_laws.py", cwd=package)


def test_a_file_in_its_folder_is_all_that_a_new_part_takes(tmp_path: Path) -> None:
    rooms = {
        "decoding.gates": "surprise",
        "decoding.acceptance": "near",
        "quality.metrics": "overlap",
        "models.families": "listener",
        "datasets.converters": "beside",
    }
    for room, name in rooms.items():
        (tmp_path / room).mkdir()
        (tmp_path / room / f"{name}.py").write_text(recipe(MODULES[name]), encoding="utf-8")
    code = (
        "import importlib.machinery, pathlib, sys\n"
        "class Beside:\n"
        "    '''As if the files lay in the folders of the package.'''\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        found = importlib.machinery.PathFinder.find_spec(name, path, target)\n"
        "        room = name.removeprefix('edgecloud.')\n"
        f"        if room in {[*rooms]!r}:\n"
        f"            found.submodule_search_locations.append(str(pathlib.Path({str(tmp_path)!r}) / room))\n"
        "        return found\n"
        "sys.meta_path.insert(0, Beside)\n"
        "from edgecloud.registry import HOMES, registry_of\n"
        "print([part.name for group in HOMES for part in registry_of(group).parts()"
        f" if part.name in {[*MODULES]!r} and part.origin == 'built in'])\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout.splitlines() == [str([*MODULES]), "[]"], done.stderr
