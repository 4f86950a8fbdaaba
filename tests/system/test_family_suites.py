"""`pytest bench`, edge, cloud and spec, on files of each family: for one here, beside the Qwen2 of
:mod:`tests.system.test_text_manifest`, for all in ``tox -e families``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.models.miniatures import (
    asr_checkpoint,
    audio_checkpoint,
    flamingo_checkpoint,
    gemma4_checkpoint,
    gemma4_unified_checkpoint,
    gemma_checkpoint,
    granite_checkpoint,
    llama_checkpoint,
    mistral_checkpoint,
    omni3_checkpoint,
    omni_checkpoint,
    phi4_checkpoint,
    qwen3_checkpoint,
    text_checkpoint,
    voxtral_checkpoint,
)

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300
AUDIO: dict[str, Callable[..., Path]] = {
    "qwen2_audio": audio_checkpoint,
    "audioflamingo3": flamingo_checkpoint,
    "qwen2_5_omni": omni_checkpoint,
    "qwen3_asr": asr_checkpoint,
    "qwen3_omni_moe": omni3_checkpoint,
    "voxtral": voxtral_checkpoint,
    "gemma4": gemma4_checkpoint,
    "gemma4_unified": gemma4_unified_checkpoint,
    "granite_speech": granite_checkpoint,
    "phi4_multimodal": phi4_checkpoint,
}
TEXT: dict[str, Callable[..., Path]] = {
    "llama": llama_checkpoint,
    "gemma3_text": gemma_checkpoint,
    "mistral": partial(mistral_checkpoint, window=12),
    "qwen2": text_checkpoint,
    "qwen3": qwen3_checkpoint,
}
FULL = os.environ.get("EDGECLOUD_FAMILIES") == "full"
MODES = ("edge", "cloud", "spec")
NAMES = [*AUDIO, *TEXT] if FULL else ["qwen2_audio"]


def suites(out: Path, *options: str) -> dict[str, dict[str, Any]]:
    """The results of the three suites in one run of pytest."""
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "bench/test_edge.py", "bench/test_cloud.py", "bench/test_spec.py",
            "-q", "-p", "no:cacheprovider", f"--output-dir={out}", "--output-name=run", "--max-new-tokens=12",
            "--gate-type=always", "--acceptance=exact", "--language=english", *options,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(path.read_text("utf-8")) for path in (out / "results").glob("*.json")]
    return {result["experiment_config"]["mode"]: result for result in found}


def texts(result: dict[str, Any]) -> list[str]:
    return [sample["generated_text"] for sample in result["detailed_results"]]


@pytest.mark.parametrize("name", NAMES)
def test_the_three_suites_run_on_the_files_of_a_family(name: str, tmp_path: Path) -> None:
    make = {**AUDIO, **TEXT}[name]
    edge, cloud = (
        make(tmp_path / side, seed=seed) for seed, side in enumerate(("edge", "cloud"), 1)
    )
    options = ["--max-samples=2"]
    if name in TEXT:
        prompts = [{"file_id": word, "prompt": word} for word in ("the voice.", "happy")]
        (tmp_path / "prompts.json").write_text(json.dumps(prompts), "utf-8")
        options += ["--dataset-type=text", f"--dataset-path={tmp_path / 'prompts.json'}"]
    found = suites(tmp_path / "reports", f"--edge-model={edge}", f"--cloud-model={cloud}", *options)
    assert len(found) == 3
    one, other, both = (found[mode] for mode in MODES)
    assert texts(both) == texts(other) != texts(one)
    assert both["models"]["edge"]["family"] == both["models"]["cloud"]["family"] == name


@pytest.mark.skipif(
    not FULL, reason="tox -e families; test_pair has the same pair, in both languages"
)
def test_an_embedded_model_is_called_by_its_name(tmp_path: Path) -> None:
    """An edge of another family and vocabulary, drafting for the embedded cloud."""
    found = suites(tmp_path, "--edge-model=embedded-qwen2-audio", "--max-samples=4", "--k=3")
    one, other, both = (found[mode] for mode in MODES)
    assert texts(both) == texts(other) != texts(one)
    assert both["models"]["edge"]["name"] == "embedded-qwen2-audio"
    assert both["models"]["edge"]["shared_vocabulary"]["shared_tokens"] > 600
    assert both["metrics"]["speculative_decoding_metrics"]["acceptance_rate"] > 0.1
