"""Choosing a preset: candidates from memory are candidates decoded, the goal is kept, expectations are of samples that
did not choose."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from edgecloud.cli.main import main
from edgecloud.contracts import TokenStats
from edgecloud.datasets.corpus import load_corpus
from edgecloud.datasets.manifest import embedded_manifest
from edgecloud.decoding.remembered import Memory
from edgecloud.edge.speculation_policy import speculation
from edgecloud.errors import ConfigError, DataError
from edgecloud.experiments import tuned, tuning
from edgecloud.experiments.calibration import Examples
from edgecloud.experiments.preset_notes import preset_notes
from edgecloud.experiments.run import request_of
from edgecloud.experiments.swept import handler_for
from edgecloud.experiments.tuned import Bench, load_bench
from edgecloud.experiments.tuning import (
    FOLDS,
    Candidate,
    Goal,
    Signal,
    candidates,
    choose,
    folds_of,
    signal_of,
)
from edgecloud.experiments.tuning_quality import qualities
from edgecloud.settings.config import Config, resolve
from edgecloud.settings.presets import FITTED, preset_content

POLICIES: list[dict[str, Any]] = [
    {"gate_type": "always", "k": 16, "acceptance": "exact"},
    {"gate_type": "always", "k": 4, "acceptance": "bounded", "continuation": 3},
    {"preset": "frontier"},
    {"preset": "frontier", "calibrated_threshold": 0.2, "continuation": 2, "acceptance": "exact"},
    {"preset": "recommended"},
    {"gate_type": "never", "cloud_seed_tokens": 5, "max_sentences": 1},
]


def config_of(policy: dict[str, Any]) -> Config:
    flags = {"clock": "modelled", "language": "english", "max_samples": 3, **policy}
    return resolve({k: v for k, v in flags.items() if k != "preset"}, preset=policy.get("preset"))


@pytest.fixture(scope="module")
def bench() -> Bench:
    config = config_of({})
    return load_bench(config, load_corpus(config)[0][:3])


def test_what_is_remembered_is_what_decoding_gives(bench: Bench) -> None:
    """Tokens, calls, bytes and modelled times; and of all that was asked little is computed."""
    samples = load_corpus(bench.config)[0][:3]
    pairs = [
        (c, bench.handler("spec", c), handler_for("spec", c)) for c in map(config_of, POLICIES)
    ]
    for sample in samples:
        for config, remembered, plain in pairs:
            found = bench.decoded(remembered, config, sample)
            wanted = plain.caption(request_of(config, sample))
            assert (found.tokens, found.text) == (wanted.tokens, wanted.text)
            for mine, other in zip(found.trace.to_json(), wanted.trace, strict=True):
                for name, value in other.items():
                    if name not in (
                        "ranks",
                        "top_probs",
                        "regret",
                        "entropies",
                        "margins",
                        "logprobs",
                    ):
                        assert mine[name] == pytest.approx(value, abs=1e-9), (config.gate, name)
    computed, asked = bench.memory.computed, bench.memory.asked
    assert 0 < computed < asked
    for config, remembered, _ in pairs:
        bench.decoded(remembered, config, samples[0])
    assert bench.memory.computed == computed
    assert bench.memory.asked > asked


def test_what_traces_hold_is_not_computed_again(bench: Bench) -> None:
    samples = load_corpus(bench.config)[0][:2]
    configs = [config_of(policy) for policy in POLICIES[:3]]
    handlers = [bench.handler("spec", config) for config in configs]
    records = [
        [
            bench.decoded(handler, config, sample)
            for handler, config in zip(handlers, configs, strict=True)
        ]
        for sample in samples
    ]
    kept, bench.memory = bench.memory, Memory(bench.memory.end_ids)
    for of_sample in records:
        for record, config in zip(of_sample, configs, strict=True):
            bench.memory.learn(
                record.prompt_digest or "", record.trace, speculation(config).acceptance
            )
    again = [bench.handler("spec", config) for config in configs]
    for sample, of_sample in zip(samples, records, strict=True):
        for record, config, handler in zip(of_sample, configs, again, strict=True):
            assert bench.decoded(handler, config, sample).trace == record.trace
    assert bench.memory.computed == 0
    bench.memory = kept


# --- choosing


def rows(count: int, time: float, busy: float, text: str = "") -> list[dict[str, Any]]:
    row = {"total_s": time, "busy_s": busy, "ttft_s": 0.1, "calls": 1, "text": text}
    return [row] * count


NAMES = {"low": 0.5, "near": 0.9, "high": 1.0}
TRIED = [Candidate({"acceptance": "exact", "k": number}) for number, _ in enumerate(NAMES, start=1)]


def measured(count: int = 16) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Three candidates: the better, the dearer. Quality: edge 0, cloud 10, a little noise that cancels."""
    times = {"edge": (1.0, 0.0), "cloud": (0.5, 1.0)}
    times |= {
        each.name: (0.4 + 0.1 * number, 0.2 + 0.2 * number) for number, each in enumerate(TRIED)
    }
    levels = {"edge": 0.0, "cloud": 1.0}
    levels |= dict(zip([each.name for each in TRIED], NAMES.values(), strict=True))
    noise = [(-1) ** number * 0.1 for number in range(count)]
    return (
        {name: rows(count, *own) for name, own in times.items()},
        {name: [10 * level + one for one in noise] for name, level in levels.items()},
    )


@pytest.mark.parametrize(
    "goal, chosen",
    [
        (Goal(gap=0.95), "high"),
        (Goal(gap=0.9), "near"),
        (Goal(busy=0.41), "near"),
        (Goal(time=0.41), "low"),
        (Goal(gap=0.8, busy=0.5, time=0.6), "near"),
    ],
)
def test_of_those_that_meet_the_goal_the_cheapest_is_chosen(goal: Goal, chosen: str) -> None:
    table, quality = measured()
    found = choose(TRIED, table, quality, folds_of(16), goal)
    assert found.candidate == TRIED[[*NAMES].index(chosen)]
    assert found.seen["gap_closed"]["estimate"] == pytest.approx(NAMES[chosen])
    assert found.expected == found.seen
    assert found.agreed == FOLDS


def test_a_goal_out_of_reach_is_refused_with_the_nearest() -> None:
    table, quality = measured()
    with pytest.raises(DataError, match=r"reaches gap 0.95, busy 0.3.*gap 0.900, busy 0.400.*k=2"):
        choose(TRIED, table, quality, folds_of(16), Goal(gap=0.95, busy=0.3))


def test_what_is_expected_is_of_samples_that_did_not_choose() -> None:
    """A candidate that shines on one fold alone is chosen for it, and expected to be what it is elsewhere."""
    table, quality = measured()
    low, near, _ = (each.name for each in TRIED)
    quality[low] = [60.0 if number % FOLDS == 0 else 6.0 for number in range(16)]
    found = choose(TRIED, table, quality, folds_of(16), Goal(gap=0.9))
    assert found.candidate.name == low
    assert found.seen["gap_closed"]["estimate"] > 1.5
    # Without its fold it does not meet the goal, and another is taken.
    assert found.agreed == FOLDS - 1
    held_out = [quality[near if number % FOLDS == 0 else low][number] for number in range(16)]
    assert found.expected["gap_closed"]["estimate"] == pytest.approx(
        (sum(held_out) - sum(quality["edge"])) / (sum(quality["cloud"]) - sum(quality["edge"]))
    )


def test_without_a_gap_there_is_nothing_to_choose_by() -> None:
    table, quality = measured()
    quality["cloud"] = quality["edge"][::-1]
    with pytest.raises(DataError, match="do not differ in quality"):
        choose(TRIED, table, quality, folds_of(16), Goal(gap=0.9))


def test_few_samples_and_goals_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match="11 samples are too few"):
        folds_of(11)
    with pytest.raises(ConfigError, match="say what the preset must reach"):
        Goal()
    with pytest.raises(ConfigError, match="--busy -1"):
        Goal(busy=-1)


# --- signals


def drafts(learnable: bool, count: int = 40) -> Examples:
    """Tokens that are rejected where they are unsure and late; or by a coin weighted by entropy alone."""
    rng = random.Random(3)
    found: list[tuple[TokenStats, bool, str, str]] = []
    for clip in range(count):
        for position in range(24):
            entropy = rng.uniform(0.0, 3.0)
            no = entropy > 1.5 and position >= 12 if learnable else rng.random() < entropy / 4
            stats = TokenStats(entropy, 0.5, -1.0, position)
            found.append((stats, no, f"clip-{clip}", "english/default"))
    return Examples(*zip(*found, strict=True))


FOLD_OF = {f"clip-{clip}": clip % FOLDS for clip in range(40)}


def test_a_gate_that_is_better_on_other_recordings_is_taken() -> None:
    found = signal_of("exact", drafts(True), FOLD_OF, gate=None)
    assert (found.gate, found.note, len(found.fits)) == ("calibrated", None, FOLDS)
    assert found.auc is not None
    assert found.plain_auc is not None
    assert found.auc > found.plain_auc
    assert all(0 <= threshold <= 1 for threshold in found.thresholds)


def test_a_gate_that_is_not_leaves_the_plain_signal_and_a_line() -> None:
    found = signal_of("exact", drafts(False), FOLD_OF, gate=None)
    assert (found.gate, found.fits) == ("entropy", ())
    assert found.note is not None
    assert "no better than the plain entropy" in found.note
    assert f"{found.auc:.3f} and {found.plain_auc:.3f}" in found.note
    with pytest.raises(DataError, match="leave out --gate-type"):
        signal_of("exact", drafts(False), FOLD_OF, gate="calibrated")


def test_eight_rejections_fit_no_gate() -> None:
    whole = drafts(True)
    few = [no for no in range(len(whole.rejected)) if whole.rejected[no]][:8]
    found = signal_of(
        "bounded",
        whole.where(not no or number in few for number, no in enumerate(whole.rejected)),
        FOLD_OF,
        gate=None,
    )
    assert found.gate == "entropy"
    assert found.note is not None
    assert "8 rejected tokens are too few" in found.note


def test_what_a_user_fixes_is_not_varied() -> None:
    signals = {"exact": Signal("entropy", (0.5, 1.0))}
    every = candidates(signals, {})
    some = candidates(signals, {"continuation": 2, "k": 9})
    assert {each.settings["continuation"] for each in some} == {2}
    assert {each.settings["k"] for each in some} == {9}
    assert len(some) < len(every) == len({each.name for each in every})


def test_agreement_is_one_for_the_clouds_own_words_in_any_language() -> None:
    samples = load_corpus(config_of({}))[0][:4]
    said = ["a calm man", "a happy woman speaks", "", "一位女性平静地说话"]
    found = qualities(
        "agreement",
        {
            "cloud": said,
            "edge": ["a calm woman", "a happy woman speaks", "words", "一位男性平静地说话"],
        },
        samples=samples,
        corpus=samples,
        languages=["english"] * 3 + ["chinese"],
    )
    assert found["cloud"] == [1.0] * 4
    assert found["edge"][1:3] == [1.0, 0.0]
    assert 0.5 < found["edge"][0] < 1
    assert 0.5 < found["edge"][3] < 1


# --- the command


@pytest.fixture
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_SHARES", (0.2,))
    monkeypatch.setattr(tuning, "_CONTINUATIONS", (6,))
    monkeypatch.setattr(tuning, "_BLOCKS", ())
    monkeypatch.setattr(tuning, "_STARTS", ({},))


@pytest.mark.usefixtures("few_candidates")
def test_the_command_writes_a_preset_that_every_command_takes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bench: Bench,
) -> None:
    monkeypatch.setattr(tuned, "load_bench", lambda *_: bench)
    out = tmp_path / "mine.json"
    manifest = str(embedded_manifest("english", "default"))
    command = ["tune", manifest, "--language", "english", "--max-samples", "12", "-o", str(out)]
    assert main([*command, "--gap", "0.5"]) == 0
    said = capsys.readouterr()
    assert "12/12 edge alone, cloud alone" in said.err
    assert "expected on new data" in said.out
    content = json.loads(out.read_text("utf-8"))
    assert content["goal"] == {"gap": 0.5, "busy": None, "time": None}
    assert content["expected"]["time"]["n"] == 12
    assert content["tuned_on"]["models"]["edge"]["sha256"]
    config = resolve({"edge_model": "my-3B"}, preset=str(out))
    assert config.to_json().items() >= content["settings"].items()
    speculation(config)
    # Again, for another goal: nothing is decoded a second time.
    monkeypatch.setattr(Bench, "decoded", None)
    assert main([*command, "--busy", "0.9"]) == 0
    capsys.readouterr()
    assert main([*command, "--gap", "0.99", "--busy", "0.01"]) == 2
    assert "no candidate reaches gap 0.99, busy 0.01" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, said",
    [
        ([], "say what the preset must reach"),
        (["--gap", "0.9", "--preset", "frontier"], "takes none"),
        (["--gap", "0.9", "--max-samples", "5"], "5 samples are too few"),
        (["--gap", "0.9", "--acceptance", "rank"], "exact and bounded"),
        (["--gap", "0.9", "--gate-type", "never"], "not for never"),
        (["--gap", "0.9", "--temperature", "0.5", "--acceptance", "rejection"], "temperature"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    manifest = str(embedded_manifest("english", "default"))
    command = ["tune", manifest, "--language", "english", "-o", str(tmp_path / "p.json"), *flags]
    assert main(command) == 2
    assert said in capsys.readouterr().err


# --- presets of other pairs


def test_a_preset_that_is_no_file_of_tune_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "p.json"
    other.write_text('{"schema": "edgecloud-calibration/1", "models": {}}', "utf-8")
    with pytest.raises(ConfigError, match="no file of `edgecloud tune`"):
        resolve(preset=str(other))
    with pytest.raises(ConfigError, match="edgecloud tune MANIFEST"):
        resolve(preset=str(tmp_path / "none.json"))


@pytest.mark.parametrize("preset", FITTED)
def test_a_preset_of_the_embedded_pair_says_how_to_get_ones_own(
    preset: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="edgecloud tune MANIFEST --gap"):
        speculation(resolve({"edge_model": "my-3B"}, preset=preset))
    own = resolve({"edge_model": "my-3B", "calibration": "own.json"}, preset=preset)
    (note,) = preset_notes("spec", own, {})
    assert f"the preset {preset} was chosen for the embedded pair" in note
    assert "edgecloud tune MANIFEST --gap" in note
    assert preset_notes("spec", resolve(preset=preset), {}) == []
    assert preset_notes("edge", own, {}) == []


def test_a_tuned_preset_knows_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    models = {"edge": {"sha256": "a"}, "cloud": {"sha256": "b"}}
    content = {"schema": "edgecloud-preset/1", "settings": {"k": 9}, "tuned_on": {"models": models}}
    path.write_text(json.dumps(content), "utf-8")
    config = resolve(preset=str(path))
    assert config.draft.k == 9
    assert preset_content(str(path)) == content
    assert preset_notes("spec", config, models) == []
    (note,) = preset_notes("spec", config, {**models, "cloud": {"sha256": "c"}})
    assert "other weights of the cloud:" in note
