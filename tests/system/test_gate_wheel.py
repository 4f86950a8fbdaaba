"""The regression check as a package of its own, ``edgecloud-gate``: without the rest, and beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system
ROOT = Path(__file__).resolve().parents[2]
MOST_OF_NUMPY = 2.5
"""CPU of a verdict over that of importing NumPy in the same process; it was 1.5."""
NEEDLESS = ("decoding", "hardware", "quality", "results.result", "settings", "contracts")
"""What a verdict on another project's files does not import: our own results, settings and metrics."""
BLOCKED = ("torch", "transformers", "librosa", "soundfile", "scipy", "edgecloud")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs, and nothing else."""
    folder = tmp_path_factory.mktemp("gate")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT / "gate", check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def run(installed: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` where the wheel and the libraries of this environment can be imported."""
    path = f"import sys; sys.path[:0] = [{str(installed)!r}]\n"
    command = [sys.executable, "-c", path + code, *arguments]
    return subprocess.run(command, cwd=installed, capture_output=True, text=True, check=False)


def side(path: Path, factor: float) -> str:
    """A pytest-benchmark file of ten rows of a stranger's suite."""
    rows: list[dict[str, Any]] = [
        {
            "fullname": f"benchmarks/test_speed.py::test_speed[{number}]",
            "group": None,
            "options": {},
            "extra_info": {},
            "stats": {"data": [factor * (1 + (7 * n % 11) / 1000) for n in range(60)]},
        }
        for number in range(10)
    ]
    content = {"machine_info": {"cpu": {}}, "benchmarks": rows, "datetime": "2026-01-02T03:04:05"}
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


GATE = f"""
import time
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
began = time.process_time()
import numpy
numpy_s = time.process_time() - began
from edgecloud_gate.__main__ import main
status = main([word for word in sys.argv[1:] if word != "little"])
print(f"cpu {{time.process_time() / numpy_s:.2f}}", file=sys.stderr)
if sys.argv[-1] == "little":
    loaded = [name for name in {NEEDLESS!r} if f"edgecloud_gate.{{name}}" in sys.modules]
    loaded += [name for name in ("numpy.ma", "yaml", "importlib.metadata") if name in sys.modules]
    assert not loaded, loaded
sys.exit(status)
"""


def test_ten_rows_are_judged_by_the_wheel_alone_in_a_few_imports_of_numpy(
    unpacked: Path, tmp_path: Path
) -> None:
    old, slow = side(tmp_path / "old.json", 1.0), side(tmp_path / "new.json", 1.2)
    same = run(unpacked, GATE, "gate", old, old)
    assert same.returncode == 0, same.stderr
    assert "passed, 10 rows compared" in same.stdout
    worse = [run(unpacked, GATE, "gate", old, slow, "little") for _ in range(3)]
    assert {found.returncode for found in worse} == {1}
    assert "FAILED for 10 reasons" in worse[0].stdout
    assert min(float(found.stderr.split("cpu ")[1]) for found in worse) < MOST_OF_NUMPY


def test_baselines_are_accepted_by_the_wheel_and_results_of_this_project_compared(
    unpacked: Path, tmp_path: Path
) -> None:
    old = side(tmp_path / "old.json", 1.0)
    kept = tmp_path / "baselines"
    done = run(unpacked, GATE, "baseline", "accept", old, "--to", str(kept), "--reason", "first")
    assert done.returncode == 0, done.stderr
    assert run(unpacked, GATE, "gate", str(kept), old).returncode == 0
    ours = str(ROOT / "bench" / "baselines")
    policy = str(ROOT / "bench" / "gate.toml")
    assert run(unpacked, GATE, "gate", ours, ours, "--policy", policy).returncode == 0


def test_both_packages_live_side_by_side_and_neither_is_the_other(unpacked: Path) -> None:
    code = f"""
sys.path.append({str(ROOT)!r})
import edgecloud.regression.verdict as one, edgecloud_gate.regression.verdict as other
assert one.judge is not other.judge
assert one.__file__.startswith({str(ROOT)!r}) and other.__file__.startswith({str(unpacked)!r})
assert not [n for n, m in sys.modules.items() if n.startswith("edgecloud_gate") and "edgecloud." in repr(getattr(m, "__spec__", ""))]
"""
    found = run(unpacked, code)
    assert found.returncode == 0, found.stderr


def test_nothing_of_edgecloud_needs_the_gate_and_the_gate_needs_nothing_heavy() -> None:
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    gate = tomllib.loads((ROOT / "gate" / "pyproject.toml").read_text("utf-8"))["project"]
    extras = whole["optional-dependencies"].values()
    everything = [*whole["dependencies"], *(name for extra in extras for name in extra)]
    assert not [name for name in everything if "gate" in name]
    names = {name.split(">")[0] for name in gate["dependencies"]}
    assert names == {"filelock", "numpy", "psutil", "pyyaml"}
    assert set(gate["dependencies"]) <= set(whole["dependencies"])
