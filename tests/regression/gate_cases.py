"""Results to gate on, made by the real loop on scripted models, or by the real measuring of
synthetic records; and the ways in which the tests make them worse."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.contracts import Drafted, EdgeModel, Prompt, StopLimits, Trace
from edgecloud.decoding.local_edge import LocalEdge
from edgecloud.decoding.recorder import Recorder
from edgecloud.decoding.speculative import Speculation, speculative
from edgecloud.decoding.stopping import Stopping
from edgecloud.hardware.clock import ModelledClock, TimedCloud, TimedEdge
from edgecloud.hardware.profiles import PROFILES
from edgecloud.models.scripted import ScriptedModel, hashed
from edgecloud.regression.model import Report
from edgecloud.regression.reading import read
from edgecloud.regression.tolerances import Policy
from edgecloud.regression.verdict import judge
from edgecloud.results.result_file import build_result
from tests.results.synthetic import FakeOutcome, FakeScores

VOCAB, END = 12, 0
CPU = {"model": "processor A", "logical_cores": 2, "physical_cores": 2}

Result = dict[str, Any]


def environment(cpu: str = "processor A") -> Result:
    return {
        "versions": {"torch": "2.13.0"},
        "platform": {"machine": "x86_64", "system": "Linux"},
        "cpu": {**CPU, "model": cpu},
        "memory_total_gb": 16.1,
    }


def result(outcome: Any, *, shift: float = 0.0, cpu: str = "processor A") -> Result:
    """The result file's content, as ``bench`` would write it."""
    built = build_result(
        outcome,
        FakeScores(outcome, shift=shift),
        environment=environment(cpu),
        run_block={"run_id": "r", "commit": "c0ffee", "dirty": False},
    )
    return json.loads(json.dumps(built.to_json(), allow_nan=False))  # type: ignore[no-any-return]


class Wasteful:
    """An edge that runs one forward too many, once a caption: same tokens, more time."""

    def __init__(self, edge: EdgeModel) -> None:
        self._edge = edge
        self._length = self._steps = 0

    def prefill(self, prompt: Prompt) -> None:
        self._length, self._steps = prompt.length, 0
        self._edge.prefill(prompt)

    def extend(self, tokens: Sequence[int]) -> None:
        self._steps += 1
        if self._steps == 4:
            self._edge.extend(tokens)
            self._edge.rollback(self._length)
        self._edge.extend(tokens)
        self._length += len(tokens)

    def rollback(self, length: int) -> None:
        self._length = length
        self._edge.rollback(length)

    def choose(self, output: Sequence[int]) -> int:
        return self._edge.choose(output)

    def draft(self, output: Sequence[int]) -> Drafted:
        return self._edge.draft(output)


def modelled_outcome(n: int = 12, *, wasteful: bool = False) -> FakeOutcome:
    """Speculative decoding of ``n`` samples by scripted models in the paper's modelled time."""
    outcome = FakeOutcome("spec", n, clock="modelled", hardware_profile="paper")
    outcome.setup["hardware_profile"] = PROFILES["paper"].to_json()
    outcome.setup["models"] = {
        "edge": {"name": "e", "sha256": "11", "device": "cpu"},
        "cloud": {"name": "c", "sha256": "22", "device": "cpu"},
    }
    records = []
    for record in outcome.records:
        trace = _decode(record.index or 0, wasteful=wasteful)
        records.append(replace(record, trace=trace, input_tokens=3))
    outcome.records = tuple(records)
    return outcome


def _decode(seed: int, *, wasteful: bool) -> Trace:
    clock, hardware = ModelledClock(), PROFILES["paper"]
    script = hashed(seed + 1000, vocab_size=VOCAB, end_id=END)
    draft = hashed(seed, vocab_size=VOCAB, end_id=END, disagree_with=script, every=4)
    stopping = Stopping(StopLimits(40), frozenset({END}), frozenset({1}))
    local = LocalEdge(ScriptedModel(draft, vocab_size=VOCAB))
    edge: EdgeModel = TimedEdge(local, clock, hardware.edge)
    cloud = LocalCloud(ScriptedModel(script, vocab_size=VOCAB), stopping=stopping)
    recorder = Recorder(clock)
    commits = speculative(
        Prompt((7, 8, 9)),
        edge=Wasteful(edge) if wasteful else edge,
        cloud=TimedCloud(cloud, clock, hardware),
        settings=Speculation(),
        stopping=stopping,
        recorder=recorder,
    )
    list(commits)
    recorder.finish("end_of_text")
    return recorder.trace()


def slowed(outcome: FakeOutcome, factors: Sequence[float]) -> FakeOutcome:
    """The same records, every moment of sample ``i`` multiplied by ``factors[i]``."""
    changed = copy.copy(outcome)
    changed.records = tuple(
        replace(
            record,
            trace=Trace(
                tuple(
                    replace(event, start_s=event.start_s * factor, end_s=event.end_s * factor)
                    for event in record.trace.events
                )
            ),
        )
        for record, factor in zip(outcome.records, factors, strict=True)
    )
    return changed


def noise(rng: np.random.Generator, shape: tuple[int, ...] | int) -> Any:
    """Factors of a wall clock: 5% spread, and in 3% of the samples an outlier of 4×."""
    spread = np.exp(rng.normal(0.0, 0.05, shape))
    return np.where(rng.random(shape) < 0.03, 4.0 * spread, spread)


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def gate(folder: Path, old: Any, new: Any, policy: Policy | None = None) -> Report:
    """Write both sides and compare the files."""
    paths = (write(folder / "old.json", old), write(folder / "new.json", new))
    return judge(
        read(paths[0]), read(paths[1]), policy or Policy(), names=(str(paths[0]), str(paths[1]))
    )


def reasons(report: Report) -> list[tuple[str, str]]:
    """``(what, verdict)`` of every failure."""
    return [(check.what, check.verdict) for check in report.failures]


def changed(content: Result, change: Callable[[Result], Any]) -> Result:
    """A copy with something changed in it."""
    other = copy.deepcopy(content)
    change(other)
    return other


def plain_row(name: str, data: Sequence[float] | None, **stats: float) -> Result:
    """A row as pytest-benchmark writes it."""
    row: Result = {
        "name": name,
        "fullname": f"tests/test_x.py::{name}",
        "group": None,
        "params": None,
        "extra_info": {},
        "options": {"timer": "perf_counter"},
        "stats": dict(stats),
    }
    if data is not None:
        row["stats"].update(
            data=list(data), median=float(np.median(data)), iqr=0.0, rounds=len(data)
        )
    return row


def plain_file(*rows: Result, brand: str = "CPU A") -> Result:
    return {
        "machine_info": {
            "node": "host",
            "machine": "x86_64",
            "system": "Linux",
            "cpu": {"brand_raw": brand, "arch": "X86_64", "count": 2},
        },
        "commit_info": {"id": "c0ffee", "dirty": False},
        "benchmarks": list(rows),
        "datetime": "2026-01-01T00:00:00+00:00",
        "version": "5.3.1",
    }
