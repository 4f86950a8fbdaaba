"""The three experiments over prompts of text alone, with a pair of models that take nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecloud.cli.main import main
from tests.models.miniatures import text_checkpoint
from tests.system.test_command_line import result, run


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name an edge and a cloud with output layers of their own paddings."""
    folder = tmp_path_factory.mktemp("pair")
    edge = text_checkpoint(folder / "edge", padded_rows=5, layers=2)
    cloud = text_checkpoint(folder / "cloud", padded_rows=12, seed=2)
    return [f"--edge-model={edge}", f"--cloud-model={cloud}"]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("prompts") / "prompts.json"
    entries = [
        {"file_id": f"p{n}", "prompt": f"the voice {n}", "references": "声音。"} for n in range(2)
    ]
    path.write_text(json.dumps(entries), encoding="utf-8")
    return ["-p", "no:cacheprovider", "--dataset-type=text", f"--dataset-path={path}"]


def test_all_three_experiments_run_over_text(
    tmp_path: Path, pair: list[str], options: list[str]
) -> None:
    settings = ["--max-new-tokens=12", "--acceptance=exact", "--gate-type=always"]
    done = run("pytest", "bench", f"--output-dir={tmp_path}", *options, *pair, *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {mode: result(tmp_path, f"{mode}_results") for mode in ("edge", "cloud", "spec")}
    for mode, one in found.items():
        metrics = one["metrics"]
        assert metrics["latency_metrics"]["rtf_mean"] is None
        assert "no audio" in metrics["notes"]["latency_metrics.rtf_mean"]
        assert metrics["latency_metrics"]["ttft_mean"] > 0
        assert metrics["num_completed"] == 2
        assert metrics["rouge_l"] is not None
        assert {sample["audio_s"] for sample in one["detailed_results"]} == {None}
        journal = (tmp_path / "journals" / f"{mode}_results.jsonl").read_text("utf-8")
        assert '"prefill"' in journal or '"generate"' in journal
        assert '"kind": "features"' not in journal.replace('":"', '": "')
        assert "shared" not in (one["models"]["edge"] or one["models"]["cloud"])
    texts = [[s["generated_text"] for s in found[m]["detailed_results"]] for m in ("cloud", "spec")]
    assert texts[0] == texts[1], "with exact acceptance the pair writes what the cloud would"
    page = tmp_path / "report.html"
    results = [str(path) for path in sorted((tmp_path / "results").glob("*.json"))]
    assert main(["report", *results, "--embed-audio", "--output", str(page)]) == 0
    assert "prompts of text alone" in page.read_text("utf-8")
