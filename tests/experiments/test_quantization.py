from __future__ import annotations

import doctest
import json
import math
from pathlib import Path

import numpy as np
import pytest

from edgecloud.cli.main import main
from edgecloud.experiments import quantization
from edgecloud.experiments.quantization import Caption, equal_rate_threshold, evaluate
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.processor import Processor
from edgecloud.models.quantized.convert import scheme
from edgecloud.settings.config import resolve


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_worked_example_holds() -> None:
    assert doctest.testmod(quantization).failed == 0


@pytest.mark.parametrize("factor, shift", [(1.0, 0.0), (1.2, 0.0), (1.0, 0.3), (0.7, 0.1)])
@pytest.mark.parametrize("threshold", [0.0, 0.4, 1.5, 10.0])
def test_the_matched_threshold_gives_the_same_call_rate(
    factor: float, shift: float, threshold: float
) -> None:
    baseline = np.random.default_rng(0).gamma(2.0, 0.6, 500)
    peaks = list(factor * baseline + shift)
    found = equal_rate_threshold(peaks, list(baseline), threshold=threshold)
    assert math.isfinite(found)
    assert (np.array(peaks) > found).mean() == pytest.approx((baseline > threshold).mean())
    if (factor, shift) == (1.0, 0.0):
        assert found == threshold


def test_a_block_counts_by_its_largest_entropy() -> None:
    assert Caption((1, 2, 3, 4), "", (0.1, 0.9, 0.3, 0.2)).blocks(3) == [0.9, 0.2]


@pytest.mark.system
@pytest.mark.parametrize("language", ["chinese", "english"])
def test_float32_differs_from_itself_in_nothing_and_eight_bits_in_little(language: str) -> None:
    config = resolve({"language": language, "max_samples": 4, "max_new_tokens": 24})
    none, int8 = evaluate(config, ("none", "int8"))
    assert (none.logit_error, none.equal_tokens, none.equal_captions) == (0.0, 1.0, 1.0)
    assert none.threshold == 1.5
    assert (none.entropy_shift.low, none.cider_difference.high) == (0.0, 0.0)
    assert 0 < int8.logit_error < 0.03
    assert int8.equal_tokens > 0.9
    assert int8.entropy_shift.estimate is not None
    assert abs(int8.entropy_shift.estimate) < 0.05


def test_the_command_converts_into_a_folder_that_is_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", "--bits", "4", "-o", str(tmp_path / "edge4")]) == 0
    assert "MB" in capsys.readouterr().out
    checkpoint = Checkpoint.open(tmp_path / "edge4")
    assert (scheme(checkpoint) or {})["bits"] == 4
    assert Processor(checkpoint).vocab_size > 0


@pytest.mark.system
def test_the_command_evaluates_every_precision_in_both_languages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "costs.json"
    assert main(["quantize", "--evaluate", "--max-samples", "1", "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    rows = json.loads(out.read_text(encoding="utf-8"))["quantisations"]
    assert [(row["language"], row["quantisation"]) for row in rows] == [
        (language, name)
        for language in ("chinese", "english")
        for name in ("none", "bf16", "int8", "int4")
    ]
    for row in rows:
        assert f"{row['language']} {row['quantisation']}" in shown
        assert math.isfinite(row["threshold"])
