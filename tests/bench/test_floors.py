"""Quality floors: asserted under the settings they were set for, and only there."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench import preflight
from edgecloud.experiments import floors, readiness
from edgecloud.results.aggregate import RunLatency, RunSpeculation
from edgecloud.results.result import Metrics
from edgecloud.settings.config import resolve

FILE: dict[str, Any] = {
    "settings": {"dataset_path": "", "prompt_type": "default"},
    "settings_spec": {"k": 3},
    "floors": {"chinese": {"edge": {"avg_cider": 1.0}, "spec-exact": {"avg_cider": 2.0}}},
}


def judged(mode: str = "edge", *, cider: float | None = 1.5, n: int = 10, **flags: Any) -> Any:
    failed = flags.pop("failed", 0)
    metrics = Metrics(
        scores={"avg_cider": cider},
        num_samples=n,
        num_completed=n - failed,
        num_failed=failed,
        latency_metrics=RunLatency(numbers={}),
        speculative_decoding_metrics=RunSpeculation(),
        cost_metrics={},
        notes={},
    )
    config = {"mode": mode, **resolve(flags).identity()}
    return floors.check_floors(FILE, mode=mode, config=config, metrics=metrics, corpus_size=10)


def test_quality_above_its_floor_passes() -> None:
    assert judged()["status"] == "passed"


@pytest.mark.parametrize("cider", [0.5, None])
def test_quality_below_its_floor_or_missing_fails(cider: float | None) -> None:
    found = judged(cider=cider)
    assert found["status"] == "failed"
    assert "the floor is 1" in found["missed"][0]


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"prompt_type": "concise"}, "prompt_type is 'concise'"),
        ({"dataset_path": "x.json"}, "dataset_path is 'x.json'"),
        ({"n": 3}, "3 of the corpus's 10 samples"),
        ({"failed": 1}, "1 samples failed"),
        ({"language": "english"}, "names none for english edge"),
    ],
)
def test_other_circumstances_are_not_asserted_and_say_why(
    changes: dict[str, Any], why: str
) -> None:
    found = judged(**changes)
    assert found["status"] == "not asserted"
    assert why in found["why"]


@pytest.mark.parametrize(
    "text, says",
    [
        ("[settings]\n[floors]", "settings_spec is not a table"),
        ("floors = 3\n[settings]\n[settings_spec]", "floors is not a table"),
        ("[settings]\n[settings_spec]\n[floors]\nchinese = 1", "floors.chinese is not a table"),
        (
            "[settings]\n[settings_spec]\n[floors.chinese.edge]\navg_cider = 'high'",
            "floors.chinese.edge.avg_cider is not a number",
        ),
        ("[settings]\nbeam = 3\n[settings_spec]\n[floors]", "beam is no setting"),
        ("[settings", "not TOML"),
    ],
)
def test_a_floors_file_that_cannot_be_judged_by_is_refused_before_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    path = tmp_path / "floors.toml"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(floors.load, "__defaults__", (path,))
    monkeypatch.setattr(readiness, "load_corpus", None)
    config = resolve({"output_dir": str(tmp_path)})
    with ExitStack() as holding, pytest.raises(pytest.UsageError, match=says):
        preflight.check_run({"edge": config}, holding=holding)


def test_the_settings_of_speculation_bind_speculation_alone() -> None:
    assert judged(k=5)["status"] == "passed"
    assert "k is 5" in judged("spec", acceptance="exact", k=5, cider=2.5)["why"]
    assert judged("spec", acceptance="exact", cider=2.5)["status"] == "passed"


def test_the_shipped_file_names_settings_that_exist_with_their_defaults() -> None:
    config = resolve({})
    shipped = floors.load()
    for name, value in {**shipped["settings"], **shipped["settings_spec"]}.items():
        assert config.to_json()[name] == (None if value == "" else value)
    assert set(shipped["floors"]) == {"chinese", "english"}
    for arms in shipped["floors"].values():
        assert set(arms) == {"edge", "cloud", "spec-rank", "spec-exact"}
