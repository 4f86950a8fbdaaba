"""The chosen configurations of the frontier, in modelled time on the whole embedded corpus, and what
they are asked to reach. Heavier than the experiments: it runs when it is named.

    pytest bench/test_frontier.py --workers 2 --benchmark-json=frontier.json

Journals go to OUTPUT_DIR/frontier, where `edgecloud sweep` finds them too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.conftest import CONFIG, WARNED
from bench.recorder import OneLine
from bench.rows import GROUP, REPLAY, add_rows
from edgecloud.experiments.sweep import DEFAULT_GRID, Point, audio_notes_of, read_grid
from edgecloud.experiments.targets import Verdict, check_targets, read_targets

TARGETS = read_targets(DEFAULT_GRID)
NAMES = {target.policy for target in TARGETS}
POINTS = read_grid(DEFAULT_GRID)
CHOSEN = [point for point in POINTS if point.name in NAMES]
NEEDED = [
    point
    for point in POINTS
    if point.alone or point.name in NAMES | {chosen.against for chosen in CHOSEN}
]


@dataclass(frozen=True)
class Found:
    """What the sweep gave: a journal for each point, and the verdict on each target."""

    journals: dict[str, Path]
    blocks: list[dict[str, Any]]
    verdicts: list[Verdict]


def id_of(point: Point) -> str:
    name = point.name.replace(",", "").replace(" ", "_")
    return "-".join([name, *(str(value) for value in point.place.values())])


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> Found:
    """The sweep over what the targets are about; it goes on where an earlier one was stopped."""
    from edgecloud.experiments.frontier import frontier
    from edgecloud.experiments.sweep import sweep

    config = request.config.stash[CONFIG]
    reporter: Any = request.config.pluginmanager.getplugin("terminalreporter")
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")
    began, swept = time.monotonic(), []
    for point, path, quality in sweep(
        NEEDED, Path(config.output.folder) / "frontier", workers=config.run.workers
    ):
        swept.append((point, path, quality))
        left_s = (time.monotonic() - began) / len(swept) * (len(NEEDED) - len(swept))
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(f"{len(swept)}/{len(NEEDED)} {id_of(point)}, {left_s:.0f} s left")
    if (noted := audio_notes_of(swept)) is not None:
        request.config.stash[WARNED].append(noted)
    blocks = frontier(swept)
    return Found({id_of(p): path for p, path, _ in swept}, blocks, check_targets(TARGETS, blocks))


@pytest.mark.benchmark(group=GROUP, timer=REPLAY)
@pytest.mark.parametrize("point", CHOSEN, ids=id_of)
def test_frontier(point: Point, found: Found, benchmark: Any, request: Any) -> None:
    from edgecloud.results.journal import read
    from edgecloud.results.latency import latency

    with OneLine(benchmark):
        _, records = read(found.journals[id_of(point)])
        ids = [record.file_id for record in records]
        times = [latency(record.trace) for record in records]
    verdicts = [
        verdict
        for verdict in found.verdicts
        if verdict.policy == point.name
        and all(value == point.place.get(key) for key, value in verdict.place.items())
    ]
    missed = [f"{v.measure} {v.value}, wanted {v.bound}" for v in verdicts if not v.met]
    add_rows(
        benchmark,
        request.config,
        total_times=[row.total_time for row in times],
        others={"ttft": (ids, [row.ttft for row in times])},
        extra_info={
            "mode": "spec",
            "language": point.config.data.language,
            "outcome": "failed: " + "; ".join(missed) if missed else "passed",
            "sample_ids": ids,
            "settings": point.settings,
            "targets": {v.measure: {"wanted": v.bound, "reached": v.value} for v in verdicts},
        },
    )
    if missed:
        pytest.fail("\n".join(missed), pytrace=False)
