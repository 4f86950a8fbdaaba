"""The library, as a notebook uses it: in this process, with the embedded pair."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import edgecloud
from edgecloud.contracts import Acceptance, Sample, TokenStats
from edgecloud.datasets.corpus import load_corpus
from edgecloud.decoding.acceptance import RULES, TokenScore
from edgecloud.decoding.gates import GATES, Thresholds
from edgecloud.edge.messages import Failed, Mode, Request, Response
from edgecloud.errors import (
    AudioError,
    ConfigError,
    DataError,
    MetricError,
    ModelError,
    PluginError,
)
from edgecloud.experiments import experiment, floors
from edgecloud.experiments import run as arm
from edgecloud.experiments.reporting import machine, result_of
from edgecloud.results.result import Result
from edgecloud.settings.config import Config, resolve
from tests.experiments.scripted import ScriptedSystem, manifest

ROOT = Path(__file__).parents[1]
ENGLISH: dict[str, Any] = {"language": "english", "clock": "modelled"}
EXACT: dict[str, Any] = {**ENGLISH, "gate": "always", "acceptance": "exact"}


@pytest.fixture(scope="module")
def pair() -> Iterator[edgecloud.Pair]:
    with edgecloud.load_pair() as loaded:
        yield loaded


@pytest.fixture(scope="module")
def samples() -> tuple[Sample, ...]:
    return load_corpus(resolve({"language": "english"}))[0][:3]


@pytest.fixture(scope="module")
def recording(samples: tuple[Sample, ...]) -> str:
    return str(samples[0].audio_path)


@pytest.fixture(autouse=True)
def silent(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing is printed by itself."""
    yield
    assert capfd.readouterr() == ("", "")


def in_this_process(monkeypatch: pytest.MonkeyPatch, pair: edgecloud.Pair) -> None:
    """Let experiments decode with a pair that is loaded, in place of processes of their own."""

    class OfPair(ScriptedSystem):
        def __init__(self, mode: Mode, config: Config, **more: Any) -> None:
            super().__init__(mode, config, **more)
            self._config = config

        def caption(self, request: Request, on_commit: Any = None) -> Response | Failed:
            return pair.handler(self._mode, self._config).caption(request)

    monkeypatch.setattr(arm, "System", OfPair)


def in_fresh_interpreter(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_is_cheap_and_every_public_name_is_there() -> None:
    took_s, heavy = json.loads(
        in_fresh_interpreter(
            "import time; began = time.process_time(); import edgecloud, sys, json\n"
            "took_s = time.process_time() - began\n"
            "heavy = [n for n in ('torch', 'numpy', 'yaml', 'edgecloud.settings') if n in sys.modules]\n"
            "print(json.dumps([took_s, heavy]))"
        )
    )
    assert heavy == []
    assert took_s < 0.1
    assert all(getattr(edgecloud, name) is not None for name in edgecloud.__all__)
    assert set(edgecloud.__all__) <= set(dir(edgecloud))
    with pytest.raises(AttributeError, match="load_pairs"):
        edgecloud.load_pairs  # noqa: B018


@pytest.mark.parametrize("k", [1, 4])
def test_exact_speculation_gives_the_clouds_tokens(
    pair: edgecloud.Pair, samples: tuple[Sample, ...], k: int
) -> None:
    for sample in samples:
        path = str(sample.audio_path)
        out = edgecloud.decode(path, pair, mode="spec", k=k, **EXACT)
        alone = edgecloud.decode(path, pair, mode="cloud", **ENGLISH)
        assert (out.tokens, out.text, out.stop) == (alone.tokens, alone.text, alone.stop)
        assert out.metrics.speculative_decoding_metrics.cloud_calls > 0
        assert set(alone.origins) == {"cloud"} != set(out.origins)


def test_an_outcome_says_what_a_sample_of_a_result_says(
    monkeypatch: pytest.MonkeyPatch,
    pair: edgecloud.Pair,
    samples: tuple[Sample, ...],
    recording: str,
) -> None:
    in_this_process(monkeypatch, pair)
    result = edgecloud.run("spec", k=4, max_samples=1, **EXACT)
    (entry,) = result.samples
    for source in (recording, Path(recording), samples[0]):
        out = edgecloud.decode(source, pair, k=4, **EXACT)
        assert out.text == entry.generated_text
        assert out.tokens == entry.tokens
        assert (out.audio_s, out.stop, out.degraded) == (entry.audio_s, entry.stop, None)
        for block in ("latency_metrics", "speculative_decoding_metrics"):
            assert getattr(out.metrics, block) == getattr(entry, block)
        assert out.trace.tokens == out.tokens


def test_a_streams_texts_grow_into_the_outcome(pair: edgecloud.Pair, recording: str) -> None:
    stream = edgecloud.stream(recording, pair, k=3, **EXACT)
    with pytest.raises(DataError, match="not ended"):
        _ = stream.outcome
    parts = list(stream)
    whole = edgecloud.decode(recording, pair, k=3, **EXACT)
    assert len(parts) > 1
    assert all(after.text.startswith(before.text) for before, after in pairwise(parts))
    assert parts[-1].text == whole.text == stream.outcome.text
    assert [token for part in parts for token in part.commit.tokens] == [*whole.tokens]
    assert stream.outcome == whole


def test_measured_time_is_the_default(pair: edgecloud.Pair, recording: str) -> None:
    out = edgecloud.decode(recording, pair, language="english", mode="edge")
    assert out.config.hardware.clock == "wall"
    assert out.metrics.latency_metrics.total_time > 0


@pytest.mark.parametrize("kind", ["float32", "int16", "stereo", "8 kHz"])
def test_samples_in_memory_are_a_recording(pair: edgecloud.Pair, recording: str, kind: str) -> None:
    waveform, rate = soundfile.read(recording, dtype="int16" if kind == "int16" else "float32")
    if kind == "stereo":
        waveform = np.stack([waveform, waveform], axis=1)
    if kind == "8 kHz":
        waveform, rate = waveform[::2], rate // 2
    out = edgecloud.decode(waveform, pair, mode="cloud", sample_rate_hz=rate, **ENGLISH)
    file = edgecloud.decode(recording, pair, mode="cloud", **ENGLISH)
    assert out.audio_s == pytest.approx(file.audio_s, abs=1e-3)
    assert kind == "8 kHz" or out.tokens == file.tokens


def asks_when_wide(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    return max(token.entropy for token in block) > thresholds.entropy


def keeps_the_first(token: TokenScore, acceptance: Acceptance) -> bool:
    return token.is_top


def test_gate_and_rule_may_be_functions_of_one_call(pair: edgecloud.Pair, recording: str) -> None:
    before = (set(GATES), set(RULES))
    own = edgecloud.decode(
        recording, pair, gate=asks_when_wide, acceptance=keeps_the_first, **ENGLISH
    )
    named = edgecloud.decode(recording, pair, gate="entropy", acceptance="exact", **ENGLISH)
    assert own.config.gate.name == "asks_when_wide"
    assert (own.tokens, own.origins) == (named.tokens, named.origins)
    registered = edgecloud.decode(recording, pair, gate=GATES["entropy"], **ENGLISH)
    assert registered.config.gate.name == "entropy"
    stream = edgecloud.stream(recording, pair, gate=lambda *_: True, **ENGLISH)
    next(stream)
    assert "lambda" in GATES
    stream.close()
    assert (set(GATES), set(RULES)) == before


def test_several_threads_decode_at_once_each_with_a_gate_of_its_own(
    pair: edgecloud.Pair, recording: str
) -> None:
    def decoded(asks: bool) -> int:
        def own(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
            return asks

        out = edgecloud.decode(recording, pair, gate=own, acceptance="exact", **ENGLISH)
        calls: int = out.metrics.speculative_decoding_metrics.cloud_calls
        return calls

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(decoded, [True, False] * 4))
    assert all((calls > 0) == (turn % 2 == 0) for turn, calls in enumerate(found))
    assert not any(name.startswith("own") for name in GATES)


def test_what_a_function_raises_is_told_as_its_failure(
    pair: edgecloud.Pair, recording: str
) -> None:
    def broken(token: TokenScore, acceptance: Acceptance) -> bool:
        raise ZeroDivisionError("by nothing")

    with pytest.raises(PluginError, match=r"acceptance rule 'broken' .*ZeroDivisionError"):
        edgecloud.decode(recording, pair, gate="always", acceptance=broken, **ENGLISH)
    assert "broken" not in RULES


@pytest.mark.parametrize(
    "given, why",
    [
        ({"k": 0}, "k: 0 is below 1"),
        ({"k": "many"}, "k: 'many' is not a whole number"),
        ({"verify_scope": "since_last_call"}, "verify_scope: .* not one of block, since-last-call"),
        ({"gate_scope": "blok"}, "gate_scope: 'blok' is not one of block, token"),
        ({"gate": "entopy"}, "gate_type: 'entopy' is not one of always"),
        ({"gate": 5}, "gate_type: '5' is not one of"),
        ({"acceptance": "fuzzy"}, "acceptance: 'fuzzy' is not one of"),
        ({"gate": "always", "gate_type": "never"}, "gate and gate_type are one setting"),
        ({"mode": "spek"}, "mode 'spek' is not one of edge, cloud, spec"),
        ({"languag": "english"}, "no setting 'languag'; did you mean language"),
        ({"language": "german"}, "language: 'german' is not one of"),
        ({"max_token": 3}, "no setting 'max_token'; did you mean max_new_tokens"),
        ({"output_name": "mine"}, "output_name counts for nothing here"),
        ({"edge_model": "x"}, "edge_model counts for nothing here"),
        ({"max_cpu_cores": 2}, "max_cpu_cores counts for nothing here"),
        ({"temperature": 1.0}, "acceptance: rank is for temperature 0"),
        ({"cloud_budget": "a lot"}, "cloud_budget: 'a lot' is neither"),
        ({"clock": "wall", "link": "lte"}, "link counts in modelled time alone"),
        ({"clock": "wall", "hardware_profile": "paper"}, "hardware_profile counts in modelled"),
        ({"hardware_profile": "papers"}, "papers"),
        ({"preset": "fast"}, "unknown preset 'fast'"),
        ({"dataset_type": "txt"}, "dataset_type: 'txt' is not one of unified, text"),
        ({"input_modality": "audio_text"}, "needs transcription="),
    ],
)
@pytest.mark.parametrize("call", [edgecloud.decode, edgecloud.stream])
def test_a_wrong_setting_is_refused_before_anything_is_decoded(
    pair: edgecloud.Pair, call: Any, given: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        call("absent.wav", pair, **{"clock": "modelled", **given})


@pytest.mark.parametrize(
    "source, given, error, why",
    [
        ("absent.wav", {}, AudioError, "absent.wav does not exist"),
        (3, {}, DataError, "a path, an array of samples or a Sample was expected, not int"),
        (np.zeros(16_000), {}, DataError, "needs sample_rate_hz"),
        ("a.wav", {"sample_rate_hz": 16_000}, DataError, "for arrays"),
        (np.zeros(16_000), {"sample_rate_hz": 1.5}, AudioError, "no whole number of Hz"),
        (np.zeros(160), {"sample_rate_hz": 16_000}, AudioError, "lasts 10 ms"),
        (np.zeros(16_000), {"sample_rate_hz": 100}, AudioError, "at least 4000"),
        (np.zeros((2, 16_000)), {"sample_rate_hz": 16_000}, AudioError, r"shape \(2, 16000\)"),
        (np.full(16_000, np.nan), {"sample_rate_hz": 16_000}, AudioError, "not finite"),
        (np.array(["a"] * 9), {"sample_rate_hz": 16_000}, AudioError, "no real numbers"),
        (np.zeros(16_000), {"dataset_type": "text"}, DataError, "a prompt of text was expected"),
    ],
)
def test_a_source_that_is_none_is_refused(
    pair: edgecloud.Pair, source: Any, given: dict[str, Any], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        edgecloud.decode(source, pair, **given)


def test_a_pair_of_text_models_answers_prompts(text_folder: Path) -> None:
    with edgecloud.load_pair(text_folder, text_folder) as pair:
        given: dict[str, Any] = {**EXACT, "max_new_tokens": 8}
        out = edgecloud.decode("Why?", pair, **given)
        assert out.tokens == edgecloud.decode("Why?", pair, **{**given, "mode": "cloud"}).tokens
        assert (out.audio_s, pair.settings["edge_model"]) == (None, str(text_folder))
        with pytest.raises(ConfigError, match="fitted to a pair of models"):
            edgecloud.decode("Why?", pair, gate="calibrated")
    with pytest.raises(ModelError, match="closed"):
        edgecloud.decode("Why?", pair)


def test_a_pair_is_checked_before_it_is_loaded(text_folder: Path) -> None:
    with pytest.raises(ConfigError, match="int8 decides the precision"):
        edgecloud.load_pair(text_folder, edge_quantization="int8", edge_dtype="float16")
    with pytest.raises(ModelError, match="no/such"):
        edgecloud.load_pair("no/such/folder")
    with pytest.raises(ConfigError, match="no setting 'device'; did you mean"):
        edgecloud.load_pair(device="cpu")
    with pytest.raises(ConfigError, match="k counts for nothing here; give it to what decodes"):
        edgecloud.load_pair(k=3)
    with pytest.raises(ConfigError, match="edge_quantization: 'int3' is not one of"):
        edgecloud.load_pair(edge_quantization="int3")


def test_captions_are_scored_in_the_language_of_their_references() -> None:
    found = edgecloud.evaluate(
        ["a man speaks calmly", "a woman shouts"], ["a man talks calmly", ["a woman shouts", "x"]]
    )
    assert found.languages == ("english", "english")
    assert found.corpus["rouge_l"] == found.corpus["en.simple.rouge_l"]
    assert [row["rouge_l"] for row in found.per_sample] == [pytest.approx(0.75, abs=0.01), 1.0]
    assert "2 samples" in found.notes["cider"]
    assert found.scored == 2
    both = edgecloud.evaluate(
        {"a": "他很开心。", "b": "a man"}, {"b": "a man", "a": ["他很高兴。"]}
    )
    assert both.languages == ("chinese", "english")
    assert both.corpus["zh.jieba.rouge_l"] is not None
    assert both.corpus["en.simple.rouge_l"] == 1.0
    assert edgecloud.evaluate([], []).scored == 0
    empty = edgecloud.evaluate(["a man", "a dog"], ["a man", []])
    assert empty.sample_notes == (None, "no reference")


def test_a_larger_corpus_weighs_ciders_words() -> None:
    captions, references = ["a calm man", "an angry man"], ["a calm lady", "an angry woman"]
    alone = edgecloud.evaluate(captions, references)
    larger = edgecloud.evaluate(captions, references, corpus_references=["a calm dog"] * 30)
    assert alone.per_sample[0]["cider"] != larger.per_sample[0]["cider"]


@pytest.mark.parametrize(
    "captions, references, given, why",
    [
        (["a"], ["b", "c"], {}, "1 captions and 2 references"),
        ("a", ["b"], {}, "give two lists"),
        (["a"], "b", {}, "give two lists"),
        ({"a": "x"}, {"b": "x"}, {}, "other ids: 'a'"),
        ([None], ["b"], {}, "caption 0 is None, no text"),
        (["a"], [3], {}, "references of 0 are 3"),
        (["a"], ["!"], {}, "give language="),
        (["a"], ["b"], {"language": "german"}, "language 'german' is not one of"),
        (["a"], ["b"], {"bertscore_layers": 0}, "from 1 on"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    captions: Any, references: Any, given: dict[str, Any], why: str
) -> None:
    with pytest.raises(MetricError, match=why):
        edgecloud.evaluate(captions, references, **given)


@pytest.mark.parametrize(
    "mode, given, why",
    [
        ("all", {}, "mode 'all' is not one of"),
        ("spec", {"k": 0}, "run: k: 0 is below 1"),
        ("spec", {"interleave": True}, "it takes one mode"),
        (
            "spec",
            {"gate": asks_when_wide},
            r"register it in a module and give plugins=\['MODULE'\]",
        ),
        ("spec", {"plugins": ["no_such_module"]}, "no_such_module cannot be loaded"),
        ("spec", {"max_sample": 3}, "no setting 'max_sample'; did you mean max_samples"),
        ("edge", {"resume": True}, "give its output_name or output_dir"),
        ("edge", {"output_name": "a/b"}, "--output-name 'a/b' holds a separator"),
        ("edge", {"workers": 2}, "needs --clock modelled"),
    ],
)
def test_a_wrong_experiment_is_refused_before_anything_is_loaded(
    mode: str, given: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        edgecloud.run(mode, **given)


def test_a_gate_of_a_notebook_is_refused_before_processes_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def own(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
        return True

    own.__module__ = "__main__"
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with (
        GATES.replaced("own", own),
        pytest.raises(ConfigError, match=r"gate 'own' is registered in this session alone"),
    ):
        edgecloud.run("spec", gate="own")


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A manifest of six recordings, and a system that makes its answers up."""
    monkeypatch.setattr(arm, "System", ScriptedSystem)
    return manifest(tmp_path / "data", 6)


def still(result: Result) -> str:
    """The file's content without what may vary."""
    return json.dumps({**result.to_json(), "run": None})


@pytest.mark.parametrize("mode", ["edge", "spec"])
def test_an_experiment_gives_what_the_suites_write(mode: Any, data: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"dataset_path": str(data), "clock": "modelled", "k": 2}
    folder = tmp_path / "reports"
    kept = edgecloud.run(mode, output_dir=folder, output_name="mine", gate="margin", **given)
    assert edgecloud.read_result(folder / "results" / "mine.json") == kept
    assert len((folder / "journals" / "mine.jsonl").read_text("utf-8").splitlines()) == 7
    config = resolve({**given, "gate_type": "margin", "output_dir": str(tmp_path / "other")})
    outcome = experiment.run(mode, config, floors=floors.load())
    bench = result_of(outcome, environment=machine(), run_block={}, floors=floors.load())
    assert still(kept) == still(bench)
    assert len(kept.per_sample("total_time")) == 6
    again = edgecloud.run(mode, gate_type="margin", **given)
    assert still(again) == still(kept)
    assert again.to_json()["run"]["settings"]["output_dir"] == "reports"


def test_an_experiment_without_output_leaves_nothing_behind(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "tmp").mkdir()
    edgecloud.run("edge", dataset_path=str(data), clock="modelled", max_samples=2)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "tmp"}
    assert list((tmp_path / "tmp").glob("edgecloud*")) == []


def test_progress_is_told_on_request(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int]] = []
    given: dict[str, Any] = {"dataset_path": str(data), "clock": "modelled"}
    edgecloud.run("edge", progress=lambda *at: told.append(at[:2]), **given)
    assert told == [(done, 6) for done in range(7)]
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    edgecloud.run("edge", progress=True, **given)
    assert capfd.readouterr().out == ""
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.system
def test_a_script_without_a_guard_starts_an_experiment(tmp_path: Path) -> None:
    """Its processes import nothing of it; and nothing but what it prints itself is printed."""
    script = tmp_path / "study.py"
    script.write_text(
        "import edgecloud\n"
        "found = edgecloud.run('edge', language='english', max_samples=1, clock='modelled')\n"
        "print(found.metrics.num_completed)\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["study.py"]
