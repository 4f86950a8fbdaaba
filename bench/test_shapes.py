"""Speed at the published shapes, on random weights: each precision beside ``transformers`` float32.

On 2 cores: the 3B text and audio shape within 20 GB, ``tox -e shapes``. Quantised engines have all
their layers; ``transformers`` and the unquantised ones as many as fit, and what all would take is
computed from that and marked so. A row is an operation on an engine, its ids are frozen. What int8 is held to are
the limits of the machine: the memory's bandwidth for a step, an int8 product's rate for forwards over more tokens.
How much faster than ``transformers`` it is, is reported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.conftest import CONFIG, TABLES, WRITTEN
from bench.gpu_shapes import Gpu
from bench.rows import REPLAY, add_rows
from bench.shapes import COUNTS, ENGINES, Pair, Run

if TYPE_CHECKING:
    from edgecloud.settings.config import Config

# What transformers says of arguments that it will rename one day is no failure of what is timed here.
pytestmark = pytest.mark.filterwarnings("default::FutureWarning", "default::DeprecationWarning")

engines = pytest.mark.parametrize("pair", ENGINES, indirect=True, scope="module")


@pytest.fixture(scope="module")
def run(pytestconfig: pytest.Config) -> Iterator[Run]:
    """All pairs of this session; at its end a table, the readings and the profile they make."""
    from edgecloud.hardware.limits import apply_torch_threads

    config: Config = pytestconfig.stash[CONFIG]
    apply_torch_threads(config.caps.cpu_cores)
    found = Run()
    yield found
    if found.done:
        pytestconfig.stash[TABLES].append(found.table())
        pytestconfig.stash[WRITTEN] += found.save(Path(config.output.folder) / "shapes")


@pytest.fixture(scope="module")
def pair(run: Run, request: pytest.FixtureRequest) -> Pair:
    return run.pair(request.param)


def record(benchmark: Any, config: pytest.Config, run: Run, pair: Pair, operation: str) -> None:
    """A row of the readings; then fail where int8 misses its target."""
    missed = pair.missed(operation, run.clock)
    add_rows(
        benchmark,
        config,
        total_times=pair.times[pair.name][operation].wall_s,
        others={},
        extra_info={**pair.info(operation), "outcome": f"failed: {missed}" if missed else "passed"},
    )
    if missed:
        pytest.fail(missed, pytrace=False)


@engines
@pytest.mark.benchmark(group="audio tower, 10 s", timer=REPLAY)
def test_audio(benchmark: Any, pytestconfig: pytest.Config, run: Run, pair: Pair) -> None:
    record(benchmark, pytestconfig, run, pair, "hear")


@engines
@pytest.mark.benchmark(group="prefill with audio tower", timer=REPLAY)
def test_prefill(benchmark: Any, pytestconfig: pytest.Config, run: Run, pair: Pair) -> None:
    record(benchmark, pytestconfig, run, pair, "prefill")


@engines
@pytest.mark.benchmark(group="decode step", timer=REPLAY)
def test_step(benchmark: Any, pytestconfig: pytest.Config, run: Run, pair: Pair) -> None:
    record(benchmark, pytestconfig, run, pair, "step")


@pytest.mark.parametrize("count", COUNTS[1:])
@engines
@pytest.mark.benchmark(group="ingestion", timer=REPLAY)
def test_ingest(
    benchmark: Any, pytestconfig: pytest.Config, run: Run, pair: Pair, count: int
) -> None:
    record(benchmark, pytestconfig, run, pair, f"ingest-{count}")


@engines
@pytest.mark.benchmark(group="caption of 70 tokens", timer=REPLAY)
def test_caption(benchmark: Any, pytestconfig: pytest.Config, run: Run, pair: Pair) -> None:
    record(benchmark, pytestconfig, run, pair, "caption")


# On a GPU: the 7B shape in float16, as the cloud runs it. Not part of a session without one.

BATCHES = (1, 2, 4, 8, 16)


@pytest.fixture(scope="module")
def gpu(pytestconfig: pytest.Config) -> Iterator[Gpu]:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    found = Gpu.timed(os.environ.get("EDGECLOUD_SHAPES_GPU", "7b"), device="cuda")
    yield found
    folder = Path(pytestconfig.stash[CONFIG].output.folder) / "shapes"
    pytestconfig.stash[WRITTEN].append(found.save(folder))


def record_gpu(benchmark: Any, config: pytest.Config, gpu: Gpu, operation: str) -> None:
    add_rows(
        benchmark,
        config,
        total_times=gpu.readings_s[operation],
        others={},
        extra_info=gpu.info(operation),
    )


@pytest.mark.parametrize("operation", ["prefill", "step", "step-graph", "caption"])
@pytest.mark.parametrize("engine", ["float16", "transformers"])
@pytest.mark.benchmark(group="GPU", timer=REPLAY)
def test_gpu(
    benchmark: Any, pytestconfig: pytest.Config, gpu: Gpu, engine: str, operation: str
) -> None:
    if f"{engine}/{operation}" not in gpu.readings_s:
        pytest.skip(f"{engine} has no {operation}")
    record_gpu(benchmark, pytestconfig, gpu, f"{engine}/{operation}")


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.benchmark(group="GPU verification", timer=REPLAY)
def test_gpu_verify(benchmark: Any, pytestconfig: pytest.Config, gpu: Gpu, count: int) -> None:
    name = "step" if count == 1 else f"ingest-{count}"
    record_gpu(benchmark, pytestconfig, gpu, f"float16/{name}")


@pytest.mark.parametrize("sessions", BATCHES)
@pytest.mark.benchmark(group="GPU sessions in one step", timer=REPLAY)
def test_gpu_batch(benchmark: Any, pytestconfig: pytest.Config, gpu: Gpu, sessions: int) -> None:
    record_gpu(benchmark, pytestconfig, gpu, f"float16/batch-{sessions}")
