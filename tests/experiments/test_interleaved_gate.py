"""Two arms in wall time, taking turns sample by sample, held against each other by the gate. The
machine is simulated: noise, rare outliers, and half as slow again from some request on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecloud.contracts import Sample
from edgecloud.edge.messages import Mode, Request, Response
from edgecloud.experiments import experiment
from edgecloud.experiments import run as arm
from edgecloud.experiments.reporting import result_of
from edgecloud.settings.config import Config
from tests.experiments.scripted import ScriptedSystem, config, manifest
from tests.regression.gate_cases import environment, gate, noise, reasons

SAMPLES = 30
WARM_UP = 4


class Machine:
    """What both arms run on."""

    slows_down_after = 0
    asked: list[str]
    factors: Any

    @classmethod
    def restart(cls, slows_down_after: int) -> None:
        cls.slows_down_after = slows_down_after
        cls.asked = []
        cls.factors = noise(np.random.default_rng(5), 4 * SAMPLES)

    @classmethod
    def time_s(cls, name: str) -> float:
        cls.asked.append(name)
        count = len(cls.asked)
        slow_machine = 1.5 if count > cls.slows_down_after else 1.0
        return float(cls.factors[count]) * slow_machine * (1.2 if name == "slow" else 1.0)


class TimedSystem(ScriptedSystem):
    def __init__(
        self, mode: Mode, config: Config, *, first_core: int = 0, samples: Sequence[Sample] = ()
    ) -> None:
        super().__init__(mode, config, first_core=first_core)
        self._name = config.output.name or ""

    def caption(self, request: Request, on_commit: Callable[[Any], None] | None = None) -> Response:
        time_s = Machine.time_s(self._name)
        commits = [
            {"kind": "commit", "start_s": at, "end_s": at, "tokens": [token], "origins": ["edge"]}
            for token, at in ((3, 0.5 * time_s), (4, time_s))
        ]
        finish = {"kind": "finish", "start_s": time_s, "end_s": time_s, "stop": "end_of_text"}
        return Response(
            audio_s=1.0,
            input_tokens=50,
            tokens=(3, 4),
            origins=("edge", "edge"),
            text="说话人有点开心。",
            stop="end_of_text",
            trace=[*commits, finish],
        )


Run = Callable[..., list[Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The results of two arms of these names, that took turns or went one after the other."""
    monkeypatch.setattr(arm, "System", TimedSystem)
    data = manifest(tmp_path / "data", SAMPLES)

    def run(*names: str, interleave: bool, slows_down_after: int) -> list[Any]:
        Machine.restart(slows_down_after)
        arms: list[tuple[Mode, Config]] = [
            ("edge", config(data, tmp_path, clock="wall", output_name=name)) for name in names
        ]
        outcomes = (
            experiment.run_interleaved(arms)
            if interleave
            else [experiment.run(mode, settings) for mode, settings in arms]
        )
        return [
            result_of(one, environment=environment(), run_block={}).to_json() for one in outcomes
        ]

    return run


@pytest.mark.parametrize("slows_down_after", [0, 33])
def test_a_slowdown_of_a_fifth_is_caught_whatever_befalls_the_machine(
    run: Run, tmp_path: Path, slows_down_after: int
) -> None:
    old, new = run("plain", "slow", interleave=True, slows_down_after=slows_down_after)
    found = reasons(gate(tmp_path, old, new))
    assert {("ttft", "regression"), ("total_time", "regression")} <= set(found)
    # After the warm-up every sample is there twice, and who is first rotates.
    assert Machine.asked[WARM_UP:] == ["plain", "slow", "slow", "plain"] * (SAMPLES // 2)


def test_a_machine_that_slows_down_is_no_regression_between_arms_that_take_turns(
    run: Run, tmp_path: Path
) -> None:
    half = WARM_UP + SAMPLES
    old, new = run("plain", "same", interleave=True, slows_down_after=half)
    assert reasons(gate(tmp_path, old, new)) == []
    # The report of each says that the machine changed.
    for side in (old, new):
        assert side["run"]["drift"]["second_half_over_first"] > 1.3
    # One after the other, the second arm alone would bear it.
    old, new = run("plain", "same", interleave=False, slows_down_after=half)
    assert ("total_time", "regression") in reasons(gate(tmp_path, old, new))
