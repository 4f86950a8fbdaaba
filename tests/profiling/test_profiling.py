"""What is timed, and what becomes of it, at a tiny shape; times themselves are no matter here."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from bench import shapes as bench_shapes
from bench.gpu_shapes import Gpu
from edgecloud.cli.main import main
from edgecloud.hardware.costs import Caps, EdgeCosts
from edgecloud.hardware.profiles import profile
from edgecloud.models.families import FAMILIES
from edgecloud.models.shapes import SHAPES, shape
from edgecloud.profiling import measure as measuring
from edgecloud.profiling import timing as profiling
from edgecloud.profiling.engines import Engine, Family, baseline, build, prompt_of
from edgecloud.profiling.gpu import captured_step, roofline_s, time_batches
from edgecloud.profiling.measure import cloud_costs
from edgecloud.profiling.timing import (
    Plan,
    edge_costs,
    full_depth_s,
    memory_bandwidth_gb_s,
    time_engines,
)
from tests.models.miniatures import FAST, mistral_checkpoint

TINY = shape("tiny")
SHORT = Plan(counts=(1, 4), rounds=1, audio_s=(1.0, 0.5), prefills=1, caption_tokens=3)


@pytest.fixture(scope="module")
def own() -> Engine:
    return build("float32", TINY)


@pytest.fixture(scope="module")
def base(own: Engine) -> Engine:
    return baseline(own)


def test_published_shapes_count_their_weights() -> None:
    small, large = SHAPES["3b"], SHAPES["7b"]
    assert small.layer_weights == 2048 * (2048 * 2 + 2 * 2 * 128) + 3 * 2048 * 11008
    assert round(small.step_weights / 1e9, 2) == 3.09
    assert round(large.step_weights / 1e9, 2) == 7.07
    assert round(small.audio_weights / 1e9, 2) == 0.64
    assert small.cut(6).layers == 6
    assert small.cut(6).whole == small
    assert small.cut(99) == small


def test_weights_are_each_layers_own_and_the_count_is_theirs(own: Engine) -> None:
    assert own.thinker is not None
    weights = [p for p in own.thinker.parameters() if p.ndim > 1]
    assert len({p.data_ptr() for p in weights}) == len(weights)
    layer = own.thinker.model.layers[0]
    assert sum(p.numel() for p in layer.parameters() if p.ndim > 1) == TINY.layer_weights
    tower = own.thinker.audio_tower
    matrices = {name: p for name, p in tower.named_parameters() if p.ndim > 1}
    del matrices["audio_bos_eos_token.weight"]  # a table of two rows, not a matrix of products
    assert sum(p.numel() for p in matrices.values()) == TINY.audio_weights


def test_the_family_and_the_engine_compute_the_same(own: Engine, base: Engine) -> None:
    prompt = prompt_of(TINY, 1.0)
    ours, theirs = own.model.prefill(prompt), base.model.prefill(prompt)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        own.model.extend([3, 4, 5]), base.model.extend([3, 4, 5]), atol=1e-5, rtol=1e-4
    )
    base.model.rollback(prompt.length + 1)
    own.model.rollback(prompt.length + 1)
    assert base.model.length == own.model.length
    torch.testing.assert_close(own.model.extend([9]), base.model.extend([9]), atol=1e-5, rtol=1e-4)
    assert isinstance(base.model, Family)


def test_engines_take_turns_and_every_operation_has_its_readings(
    own: Engine, base: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def watched(engine: Engine) -> Callable[..., object]:
        extend = engine.model.extend
        return lambda tokens: (order.append(engine.name), extend(tokens))[1]

    for engine in (own, base):
        monkeypatch.setattr(engine.model, "extend", watched(engine))
    found = time_engines([base, own], Plan(counts=(1,), rounds=3, prefills=1, captions=0))
    turns = ["transformers", "float32", "float32", "transformers"] * 2
    assert order == [name for name in turns for _ in range(profiling.RUN)]
    assert {name: len(timed.wall_s) for name, timed in found["float32"].items()} == {
        "hear": 1,
        "prefill-short": 1,
        "prefill": 1,
        "step": 3,
    }


def test_what_a_cut_shape_takes_is_scaled_to_all_of_its_layers() -> None:
    times = {"hear": 1.0, "prefill-short": 2.0, "prefill": 4.0, "step": 0.1, "ingest-4": 0.2}
    times["caption"] = 4.0 + 0.5
    assert full_depth_s(TINY, times) == times
    half = TINY.cut(2)
    weights = TINY.step_weights / half.step_weights
    assert full_depth_s(half, times) == pytest.approx(
        {
            "hear": 1.0,
            "prefill": 1.0 + 3.0 * 2,
            "prefill-short": 0.5 + 1.5 * 2,
            "step": 0.1 * weights,
            "ingest-4": 0.2 * weights,
            "caption": 7.0 + 0.5 * weights,
        }
    )


def test_costs_are_a_line_of_prefills_and_steps_that_never_fall() -> None:
    prompts = prompt_of(TINY, 10.0), prompt_of(TINY, 2.0)
    longer, shorter = (prompt.length for prompt in prompts)
    times = {"step": 0.1, "ingest-2": 0.3, "ingest-4": 0.2, "prefill-short": 1.0}
    times["prefill"] = 1.0 + 0.01 * (longer - shorter)
    found = edge_costs(times, prompts)
    assert found.prefill(longer) == pytest.approx(times["prefill"])
    assert found.prefill(shorter) == pytest.approx(1.0)
    assert found.ingest_steps == ((1, 1.0), (2, pytest.approx(3.0)), (4, pytest.approx(3.0)))
    steep = edge_costs({**times, "prefill-short": 1e-6}, prompts)
    assert (steep.prefill_s, steep.prefill(longer)) == (0.0, pytest.approx(times["prefill"]))
    cloud = cloud_costs(found)
    assert (cloud.verify(2), cloud.step_s) == (pytest.approx(0.3), 0.1)


def test_memory_is_read_at_some_speed() -> None:
    wall, cpu = memory_bandwidth_gb_s(gigabytes=0.02, rounds=1)
    assert 0 < wall < 10_000
    assert 0 < cpu < 10_000


@pytest.mark.parametrize(
    "precision", ["bfloat16", "int8", "int4", "int8-openvino", "int4-openvino"]
)
def test_every_precision_is_timed_beside_transformers(precision: str, own: Engine) -> None:
    if precision.startswith("int"):
        pytest.importorskip("openvino")
    engine = build(precision, TINY)
    found = time_engines([baseline(own), engine], SHORT)
    assert set(found) == {"transformers", precision}
    assert set(found[precision]) == {
        "hear",
        "prefill-short",
        "prefill",
        "step",
        "ingest-4",
        "caption",
    }
    bits = 8 * engine.step_bytes / TINY.step_weights
    expected = {"bfloat16": 16, "int8": 8, "int4": 4}[precision.partition("-")[0]]
    assert expected <= bits < 17  # scales weigh in a tiny model
    if precision.endswith("openvino"):
        assert engine.runner.startswith("OpenVINO")


def test_as_many_layers_are_built_as_fit() -> None:
    small = SHAPES["3b"]
    assert bench_shapes.layers_that_fit(small, "float32", 64.0) == 36
    assert bench_shapes.layers_that_fit(small, "int8", 20.0) < 36
    assert bench_shapes.layers_that_fit(small, "int8", 12.0) < bench_shapes.layers_that_fit(
        small, "int8", 20.0
    )
    assert bench_shapes.layers_that_fit(small, "int8", 4.0) == 1


def test_a_pair_has_rows_a_table_and_a_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "memory_bandwidth_gb_s", lambda **_: (30.0, 31.0))
    monkeypatch.setattr(bench_shapes, "products_s_per_weight", lambda _: [(1e-12, 2e-12)] * 4)
    run = bench_shapes.Run(shape="tiny", layers=2, clock="cpu")
    pair = run.pair("bfloat16")
    row = json.loads(json.dumps(pair.info("step"), allow_nan=False))
    assert (row["layers"], row["depth"], row["extrapolated"]) == (2, 4, True)
    base, own = pair.full_s("transformers", "wall"), pair.full_s("bfloat16", "wall")
    assert row["times_faster_than_transformers"] == pytest.approx(base["step"] / own["step"])
    assert row["full_depth_ms"] == pytest.approx(1e3 * own["step"])
    assert row["best_bandwidth_gb_s"] == [30.0, 31.0]
    memory_s = pair.times[profiling.MEMORY]["step"].median_s
    assert row["bandwidth_gb_s"] == pytest.approx(pair.memory_gb / memory_s)
    assert len(pair.times[profiling.MEMORY]["step"].wall_s) == 10
    assert "transformers" in run.table()
    readings, made = run.save(tmp_path)
    assert set(json.loads(readings.read_text())["bfloat16"]["readings_s"]) == {
        "transformers",
        "bfloat16",
        "memory",
    }
    assert profile(f"{made}@bfloat16").edge.step_s == pytest.approx(
        pair.full_s("bfloat16", "cpu")["step"]
    )


def test_int8_at_the_3b_shape_is_held_to_the_limits_of_the_machine() -> None:
    of = SHAPES["3b"]

    def timed(step_s: float, ingest_s: float, prefill_s: float) -> dict[str, profiling.Timed]:
        seconds = {"hear": 1.0, "prefill": 1.0 + prefill_s, "prefill-short": 1.5, "step": step_s}
        seconds |= {"ingest-8": ingest_s, "caption": 2.0 + 70 * step_s}
        return {name: profiling.Timed([value], [value]) for name, value in seconds.items()}

    def pair(
        step_s: float = 0.1, ingest_s: float = 0.1, prefill_s: float = 1.0
    ) -> bench_shapes.Pair:
        whole = of.depth * of.layer_weights
        return bench_shapes.Pair(
            name="int8",
            of=of,
            base_of=of,
            step_bytes=of.step_weights,
            times={
                "int8": timed(step_s, ingest_s, prefill_s),
                "transformers": timed(0.601, 1.0, 1.0),
                profiling.MEMORY: timed(of.step_weights / 1e9 / 40.0, 1.0, 1.0),
            },
            bandwidths_gb_s=(50.0, 50.0),
            memory_gb=of.step_weights / 1e9,
            products={
                "prefill": (0.61 / whole, 0.61 / whole),
                "ingest-8": (
                    0.061 / (whole + of.head_weights),
                    0.061 / (whole + of.head_weights),
                ),
            },
            peak_gb=1.0,
            costs=EdgeCosts(1.0, step_s),
            told={"runner": "ours"},
        )

    at_80_s = of.step_weights / 1e9 / 40.0 / 0.8
    good = pair(step_s=0.99 * at_80_s)
    for operation in ("step", "ingest-8", "prefill", "caption", "hear"):
        assert good.missed(operation, "wall") is None
    # However slow a peer is: nothing is held to a ratio.
    assert good.ratio("prefill", "wall") == pytest.approx(1.0)
    missed = str(pair(step_s=at_80_s / 0.99).missed("step", "cpu"))
    assert missed == "step: 79% of the memory bandwidth, 80% is the target"
    missed = str(pair(ingest_s=0.105).missed("ingest-8", "wall"))
    assert missed == "ingest-8: 58% of the rate of an int8 product, 60% is the target"
    assert "prefill: 58%" in str(pair(prefill_s=1.05).missed("prefill", "wall"))
    assert good.info("ingest-8")["share_of_int8_product"] == pytest.approx(0.61)


def test_an_int8_product_takes_time_by_rows_and_weights() -> None:
    few, many = bench_shapes.products_s_per_weight((1, 256), rounds=1, side=256, gigabytes=0.004)
    assert 0.0 < few[0] < many[0] < 1e-6
    assert 0.0 < few[1] < many[1]


def test_a_captured_step_is_the_step(own: Engine) -> None:
    prompt = prompt_of(TINY, 1.0)
    step = captured_step(own, prompt, lambda operation: operation)
    own.model.rollback(prompt.length)
    with torch.inference_mode():
        again = [step() for _ in range(2)]
    own.model.rollback(prompt.length)
    expected = own.model.extend([7])
    for logits in again:
        assert isinstance(logits, torch.Tensor)
        torch.testing.assert_close(logits.float(), expected)


def test_batches_are_timed_by_the_number_of_sessions(own: Engine, base: Engine) -> None:
    found = time_batches(own, prompt_of(TINY, 1.0), (1, 3), rounds=2, tokens=2)
    assert {size: len(times) for size, times in found.items()} == {1: 2, 3: 2}
    with pytest.raises(ValueError, match="cannot share a forward"):
        time_batches(base, prompt_of(TINY, 1.0), (1,), rounds=1)
    assert roofline_s(14 * 10**9, 2000.0) == pytest.approx(0.007)


def test_the_gpus_part_runs_and_makes_a_cloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "memory_bandwidth_gb_s", lambda **_: (1000.0, 900.0))
    found = Gpu.timed(
        "tiny", device="cpu", precision="float32", capture=lambda call: call, rounds=1
    )
    assert {
        f"float16/{name}" for name in ("step-graph", "batch-16", "ingest-16", "caption")
    } <= set(found.readings_s)
    row = found.info("float16/step")
    assert row["times_faster_than_transformers"] > 0
    assert found.info("float16/batch-4")["times_faster_than_transformers"] is None
    cloud = profile(str(found.save(tmp_path)))
    assert cloud.cloud.step_s > 0
    assert cloud.edge == profile("paper").edge


def test_measure_writes_a_profile_that_a_run_can_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "memory_bandwidth_gb_s", lambda **_: (30.0, 31.0))
    path = tmp_path / "here.json"
    what = ["--shape", "tiny", "--layers", "2", "--dtype", "float32,bfloat16", "--rounds", "1"]
    caps = ["--max-cpu-cores", "0", "--max-memory-gb", "3"]
    done = main(["profile", "measure", *what, *caps, "-o", str(path)])
    assert done == 0
    assert "profile: " in capsys.readouterr().out
    found = profile(f"{path}@bfloat16")
    assert found.name == "here@bfloat16"
    assert found.caps == Caps(0, 3.0)
    told = json.loads(path.read_text())["provenance"]
    assert told["measured"]["float32"]["extrapolated"] is True
    assert "cloud, link: from the profile paper" in told["modelled"]
    assert main(["profile", "show", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "here"
    assert main(["profile", "list"]) == 0
    assert "iphone-15-plus" in capsys.readouterr().out


@pytest.mark.parametrize("name", FAST)
def test_every_family_of_the_fast_path_can_be_measured(
    name: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also those that take text alone, whose prompts have as many tokens."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measuring, "memory_bandwidth_gb_s", lambda **_: (30.0, 31.0))
    monkeypatch.setattr(measuring, "Plan", partial(Plan, counts=(1, 4), prefills=1))
    path = tmp_path / "here.json"
    model = (
        mistral_checkpoint(tmp_path / "without a window")
        if name == "mistral"
        else request.getfixturevalue(FAST[name])
    )
    what = ["--model", str(model), "--dtype", "float32", "--quantization", "int8", "--rounds", "1"]
    assert main(["profile", "measure", *what, "--max-cpu-cores", "0", "-o", str(path)]) == 0
    told = json.loads(path.read_text())["provenance"]["measured"]
    assert set(told) == {"float32", "int8"}
    for one in told.values():
        assert one["prompt_tokens"] == ([170, 79] if name == "qwen3_asr" else [290, 115])
        assert ("hear" in one["full_ms"]) == FAMILIES[name].accepts_audio
    assert profile(f"{path}@int8").edge.step_s > 0


def test_prompts_beyond_a_quantised_window_are_one_line(
    mistral_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    what = ["--model", str(mistral_folder), "--dtype", "none", "--quantization", "int8"]
    path = tmp_path / "x.json"
    assert main(["profile", "measure", *what, "--max-cpu-cores", "0", "-o", str(path)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "attends to its last 12 tokens, and quantised it takes no more" in line
    assert not path.exists()


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--dtype", "float8"], "--dtype float8: choose from"),
        (["--quantization", "int3"], "--quantization int3: choose from"),
        (["--dtype", "none"], "leave nothing to measure"),
        (["--shape", "9b"], "unknown shape '9b'"),
        (["--rounds", "0"], "count from 1"),
        (["--model", "x", "--layers", "2"], "--layers cuts a --shape"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["profile", "measure", "--max-cpu-cores", "0", "-o", str(tmp_path / "x.json")]
    assert main([*common, *flags]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()
