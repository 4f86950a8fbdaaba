"""The runs of tox -e edge, cloud and spec: which they are, and which status they end with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import series

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
    ]
    for name, command in zip(names, found, strict=True):
        assert f"--benchmark-json=reports/benchmarks/{name}.json" in command
        assert command[-1] == "-v"
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
    assert series.main(["edge"]) == status
    assert len(left) == len(statuses) - ran


def test_an_unknown_series_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert series.main(["fog"]) == 4
    assert "edge|cloud|spec" in capsys.readouterr().err
