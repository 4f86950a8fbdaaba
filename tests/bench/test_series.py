"""The runs of tox -e edge, cloud, spec and gate: which they are, and which status they end with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from bench import series
from edgecloud.edge import nursery

INTERRUPTED, FAILED, PASSED = 2, 1, 0


def test_every_arm_runs_in_both_languages_under_a_name_of_its_own() -> None:
    found = [command for name in series.SERIES for command in series.commands(name, ["-v"])]
    names = [command[command.index("--output-name") + 1] for command in found]
    assert names == [
        "edge-chinese",
        "edge-english",
        "cloud-chinese",
        "cloud-english",
        *(f"spec-chinese-{end}" for end in ("rank", "exact", "frontier")),
        *(f"spec-english-{end}" for end in ("rank", "exact", "frontier")),
        "gate-chinese",
        "gate-english",
    ]
    assert [command[-1] for command in found] == ["-v"] * len(names)
    assert not any("--benchmark-json" in option for command in found[-2:] for option in command)
    assert found[-2][3:9] == [
        *("--output-name", "gate-chinese", "--clock", "modelled", "--hardware-profile", "paper")
    ]
    for name, command in zip(names[:-2], found[:-2], strict=True):
        assert f"--benchmark-json=reports/benchmarks/{name}.json" in command
    assert found[6][5:7] == ["--preset", "frontier"]


@pytest.mark.parametrize(
    "statuses, ran, status",
    [
        ((PASSED, PASSED), 2, PASSED),
        ((FAILED, PASSED), 2, FAILED),
        ((INTERRUPTED, PASSED), 1, INTERRUPTED),
    ],
)
def test_a_failure_is_told_and_an_interruption_ends_all(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    statuses: tuple[int, ...],
    ran: int,
    status: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    left: list[Any] = list(statuses)
    monkeypatch.setattr(pytest, "main", lambda _: left.pop(0))
    monkeypatch.setattr(nursery._Servers, "allowed", False)
    assert series.main(["edge"]) == status
    assert nursery.allowed() is (sys.platform == "linux")
    assert len(left) == len(statuses) - ran


def test_an_unknown_series_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert series.main(["fog"]) == 4
    assert "edge|cloud|spec|gate" in capsys.readouterr().err
