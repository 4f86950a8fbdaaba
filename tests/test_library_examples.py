"""The scripts in docs/examples and the READMEs' lines on the library run as they stand."""

from __future__ import annotations

import re
import runpy
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import edgecloud
from edgecloud.decoding.gates import GATES
from edgecloud.quality import METRICS
from tests.test_library import in_this_process

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
SHOWN = {
    "own_gate": r"early +\d calls +\d+\.\d s  \w+",
    "own_metric": r"first_word 0\.500 \[1\.0, 0\.0\]",
    "comparison": r"time    × 0\.\d+ \(0\.\d+ … 0\.\d+\)",
    "own_sweep": r" 4 +3\.0 +\d+\.\d +0\.\d+ +\d of 4",
}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What a script registers is gone when it has ended."""
    with ExitStack() as stack:
        stack.enter_context(METRICS.replaced("cider", METRICS["cider"]))
        stack.enter_context(GATES.replaced("always", GATES["always"]))
        yield


@pytest.mark.parametrize("name", SHOWN)
def test_a_script_runs_and_shows_what_it_says(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="example")
    out, err = capfd.readouterr()
    assert re.search(SHOWN[name], out), out
    assert err == ""


def test_the_page_names_every_script_and_function() -> None:
    page = (ROOT / "docs" / "library.md").read_text("utf-8")
    assert set(re.findall(r"\(examples/(\w+)\.py\)", page)) == set(SHOWN)
    functions = {name for name in edgecloud.__all__ if name[0].islower()}
    assert functions - {"__version__"} <= set(re.findall(r"`(\w+)", page))


@pytest.mark.parametrize("guide", ["README.md", "README.zh.md"])
def test_the_ten_lines_of_the_guide_run(
    guide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(import edgecloud\n.*?)```", (ROOT / guide).read_text("utf-8"), re.DOTALL)  # fmt: skip
    assert len(code.strip().splitlines()) <= 12
    (sample,) = edgecloud.samples(language="english", max_samples=1)
    shutil.copy(str(sample.audio_path), tmp_path / "a.wav")
    monkeypatch.chdir(tmp_path)
    with edgecloud.load_pair() as pair:
        in_this_process(monkeypatch, pair)
        found: dict[str, Any] = {}
        exec(compile(code, guide, "exec"), found)
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith(found["out"].text)
    assert found["part"].text == lines[-2]
    assert (
        lines[-1] == f"{found['scores'].corpus['rouge_l']} {found['result'].metrics.value('cider')}"
    )
