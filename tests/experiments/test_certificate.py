"""Certificates: p-values that are valid, losses that hang on their own sample, what is refused early, what a file says,
to which runs it applies, and of which captions it says nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgecloud.cli.main import main
from edgecloud.contracts import Draft, Sample, Trace
from edgecloud.datasets.manifest import embedded_manifest
from edgecloud.errors import AudioError, ConfigError, DataError
from edgecloud.experiments import certify, tuned
from edgecloud.experiments.certificate import (
    CIDER_SCALE,
    Frequencies,
    certified_in,
    differences,
    fewest,
    learn_then_test,
    losses,
    p_value,
)
from edgecloud.experiments.run import journalled
from edgecloud.hardware.probes import null_readings
from edgecloud.report.comparison import groups
from edgecloud.report.notices import notices
from edgecloud.report.texts import Texts
from edgecloud.results.certificate import (
    LEVEL,
    certificate_of,
    difference_p,
    sentence,
    setup_of,
)
from edgecloud.results.records import Record
from edgecloud.results.result_file import build_result
from edgecloud.settings.config import Config, resolve
from tests.results.synthetic import FakeOutcome, FakeScores, degraded

MODELS = {side: {"sha256": side * 20, "dtype": "float32"} for side in ("edge", "cloud")}
ROOT = Path(__file__).parents[2]


# --- statistics


def bernoulli(rng: np.random.Generator, risk: float, shape: tuple[int, int]) -> Any:
    return (rng.random(shape) < risk).astype(float)


def shares(rng: np.random.Generator, risk: float, shape: tuple[int, int]) -> Any:
    """Mostly nothing, now and then a share, as attributes are lost."""
    return bernoulli(rng, 5 * risk, shape) * rng.integers(0, 3, shape) / 5


def betas(rng: np.random.Generator, risk: float, shape: tuple[int, int]) -> Any:
    """Two kinds of samples: easy ones and hard ones, whose mean is the risk."""
    hard = rng.random(shape) < 0.1
    return np.where(
        hard,
        rng.beta(25 * risk, 5 * (1 - 5 * risk), shape),
        rng.beta(risk / 1.8, 1 - risk / 1.8, shape),
    )


@pytest.mark.parametrize("risk, n", [(0.02, 250), (0.1, 60)])
@pytest.mark.parametrize("draw", [bernoulli, shares, betas])
def test_p_values_are_valid_where_the_risk_is_just_reached(draw: Any, risk: float, n: int) -> None:
    """P(p <= u) <= u while the mean is the risk: of 4000 sets no more than the share, and its chance."""
    rng = np.random.default_rng(1)
    sets = draw(rng, risk, (4000, n))
    assert sets.mean() == pytest.approx(risk, rel=0.03)
    found = p_value(sets, risk=risk, confidence=0.95)
    for u in (0.01, 0.05, 0.1, 0.25):
        assert (found <= u).mean() <= u + 2 * (u * (1 - u) / len(sets)) ** 0.5


def test_small_shares_are_certified_with_fewer_samples_than_by_hoeffding_and_bentkus() -> None:
    """250 samples, one in 30 loses a fifth: Hoeffding's p-value of that mean (0.0064) is 0.23."""
    own = np.zeros(250)
    own[::32] = 0.2
    assert own.mean() == pytest.approx(0.0064)
    assert p_value(own, risk=0.02, confidence=0.95) < 0.05


def test_the_fewest_samples_are_the_fewest() -> None:
    for risk, confidence in [(0.02, 0.95), (0.1, 0.9), (0.5, 0.6)]:
        n = fewest(risk=risk, confidence=confidence)
        at, below = (
            float(p_value(np.zeros(count), risk=risk, confidence=confidence))
            for count in (n, n - 1)
        )
        assert at <= 1 - confidence < below


@pytest.mark.parametrize("draw", [bernoulli, shares, betas])
def test_of_calibration_sets_at_most_one_in_twenty_chooses_a_threshold_above_the_risk(
    draw: Any,
) -> None:
    """All thresholds tested one after the other, the third by a hair above the risk: it, or one after it, is chosen at
    most as often as the confidence allows, and the first ones, well below the risk, nearly always."""
    rng = np.random.default_rng(4)
    means, sets, n = (0.01, 0.03, 0.1001, 0.12, 0.1001), 1000, 200
    columns = [draw(rng, mean, (sets, n)) for mean in means]
    chosen = [
        learn_then_test(np.stack(rows), risk=0.1, confidence=0.95).index
        for rows in zip(*columns, strict=True)
    ]
    above = sum(index is not None and index >= 2 for index in chosen)
    assert above / sets <= 0.05 + 2 * (0.05 * 0.95 / sets) ** 0.5
    assert sum(index is not None for index in chosen) / sets > 0.9


def test_testing_stops_at_the_first_threshold_that_is_not_shown_to_keep_the_risk() -> None:
    """What comes after it is not looked at, however good."""
    good, bad = np.zeros(300), np.full(300, 0.5)
    assert learn_then_test(np.array([good, good, bad, good]), risk=0.02, confidence=0.95).index == 1
    assert learn_then_test(np.array([good, good]), risk=0.02, confidence=0.95).index == 1
    assert learn_then_test(np.array([bad, good]), risk=0.02, confidence=0.95).index is None


# --- losses


def sample(number: int, caption: str = "a calm voice speaks", **attributes: str) -> Sample:
    return Sample(
        f"s{number}",
        number,
        "",
        Path(),
        (caption,),
        "english",
        attributes=tuple(attributes.items()),
    )


def row(text: str, *tokens: int, **more: Any) -> dict[str, Any]:
    return {"text": text, "tokens": list(tokens), **more}


def test_an_attribute_is_lost_where_the_cloud_has_it_right_and_the_caption_has_not() -> None:
    truth = [sample(n, voice="female", rate="fast") for n in range(3)]
    cloud = [row("a woman speaks fast"), row("a woman speaks fast"), row("a man speaks slowly")]
    own = [row("a woman speaks slowly"), row("a woman speaks fast"), row("a woman speaks fast")]
    found = losses("attributes", own, cloud, samples=truth, language="english")
    assert list(found) == [0.5, 0.0, 0.0]


def test_tokens_are_lost_where_they_do_not_match() -> None:
    found = losses(
        "tokens",
        [row("", 1, 2, 3, 4), row("", 1, 2), row("")],
        [row("", 1, 2, 9, 4), row("", 1, 2), row("")],
        samples=[sample(0)] * 3,
        language="english",
    )
    assert list(found) == [0.25, 0.0, 0.0]


def test_a_loss_of_cider_hangs_on_its_own_sample_alone() -> None:
    """Whichever samples are beside it: document frequencies are fixed beforehand."""
    words = ("calm", "angry", "glad", "tired", "sad", "bright")
    fixed = Frequencies(
        {f"f{n}": (f"a {w} voice speaks loudly",) for n, w in enumerate(words)}, "f"
    )
    some = [sample(n, f"a {word} voice speaks here") for n, word in enumerate(words)]
    cloud = [row(f"a {word} voice speaks here") for word in words]
    own = [row("a calm voice speaks here")] * len(words)

    def lost(count: int) -> list[float]:
        return list(
            losses(
                "cider",
                own[:count],
                cloud[:count],
                samples=some[:count],
                language="english",
                frequencies=fixed,
            )
        )

    every = lost(6)
    assert every[0] == 0.0 < every[1] <= 1.0
    assert lost(2) == every[:2]
    other = replace(fixed, references={**fixed.references, "more": ("a voice",)})
    assert other.to_json()["sha256"] != fixed.to_json()["sha256"]
    assert CIDER_SCALE == 10.0


# --- what is asked


def manifest(folder: Path, n: int, *, without: int = 0) -> Path:
    """A manifest of ``n`` recordings, of which the last ones ``without`` attributes."""
    (folder / "a.flac").write_bytes(b"none reads it")
    entries = [
        {
            "file_id": f"s{number:03d}",
            "audio_path": "a.flac",
            "caption": "a woman speaks fast",
            **(
                {} if number >= n - without else {"attributes": {"voice": "female", "rate": "fast"}}
            ),
        }
        for number in range(n)
    ]
    path = folder / "manifest.json"
    path.write_text(json.dumps(entries))
    return path


def checked(path: Path, flags: dict[str, Any] | None = None, **more: Any) -> certify.Asked:
    settings = {"language": "english", "gate_type": "entropy", "dataset_path": str(path)}
    asked = {"loss": "attributes", "risk": 0.05, "confidence": 0.9, **more}
    return certify.check(resolve({**settings, **(flags or {})}), **asked)


@pytest.mark.parametrize(
    "flags, more, why",
    [
        ({}, {"risk": 0.0}, "--risk 0: give"),
        ({}, {"confidence": 1.0}, "--confidence 1: give"),
        ({}, {"risk": 0.02, "confidence": 0.95}, "at least 154 samples.*there are 60"),
        ({}, {"risk": 1e-9}, r"at least 230258509\d samples"),
        ({"gate_type": "always"}, {}, "'always' has no threshold"),
        ({"cloud_budget": "0.8s"}, {}, "leave out cloud_budget"),
        ({"adaptive_k": True}, {}, "leave out adaptive_k"),
        ({"temperature": 1.0, "acceptance": "rejection"}, {}, "leave out temperature"),
        ({}, {"thresholds": "0.1,x"}, "--thresholds 0.1,x: 'x' is not a number"),
        ({"gate_type": "margin"}, {"thresholds": "2"}, "--thresholds 2"),
        ({}, {"document_frequencies": Path("x.json")}, "for --loss cider alone"),
    ],
)
def test_what_cannot_be_certified_is_refused_before_anything_is_decoded(
    flags: dict[str, Any], more: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, DataError), match=why):
        checked(manifest(tmp_path, 60), flags, **more)


def test_samples_without_attributes_are_outside_the_population_and_counted(tmp_path: Path) -> None:
    asked = checked(manifest(tmp_path, 60, without=4))
    assert len(asked.samples) == 56
    assert asked.left_out == {"without attributes": 4}
    with pytest.raises(
        DataError, match=r"needs at least \d+ samples.*there are 0 .*60 more are without"
    ):
        checked(manifest(tmp_path, 60, without=60))


def test_thresholds_are_tested_from_the_one_that_asks_most(tmp_path: Path) -> None:
    path = manifest(tmp_path, 60)
    assert checked(path, thresholds="2,0.5,1").thresholds == (0.5, 1, 2)
    margin = checked(path, {"gate_type": "margin"}, thresholds="0.1,0.9")
    assert margin.thresholds == (0.9, 0.1)
    assert margin.at(0.9).gate.margin_threshold == 0.9
    mean = checked(path, {"gate_type": "mean-logprob"})
    assert (mean.option, mean.thresholds[0]) == ("logprob_threshold", 0)


def test_document_frequencies_are_of_other_samples_than_those_calibrated_on(tmp_path: Path) -> None:
    own = manifest(tmp_path, 60)
    found = checked(own, loss="cider").frequencies
    assert found is not None
    assert found.to_json()["source"] == "the embedded corpus"
    with pytest.raises(DataError, match="60 of its samples are among those of the calibration"):
        checked(own, loss="cider", document_frequencies=own)
    (tmp_path / "few").mkdir()
    with pytest.raises(DataError, match="need 50 samples"):
        checked(own, loss="cider", document_frequencies=manifest(tmp_path / "few", 5))
    with pytest.raises(DataError, match="among those of the calibration"):
        checked(embedded_manifest("english"), loss="cider")


# --- from a manifest to a file


DRAFT = {
    "kind": "draft",
    "start_s": 0.0,
    "end_s": 0.0,
    "tokens": [1],
    "entropies": [0.5],
    "margins": [0.5],
    "logprobs": [-1.0],
}


class Bench:
    """A pair that needs no models: above ``fails`` nats the gate lets a wrong caption pass. ``broken`` cannot be read."""

    def __init__(self, *, fails: float = 1.0, broken: str = "") -> None:
        self.facts = MODELS
        self.fails, self.broken = fails, broken
        self.count = 0

    def handler(self, mode: str, config: Config) -> str:
        return mode

    def decoded(self, handler: str, config: Config, own: Sample) -> Record:
        self.count += 1
        if own.file_id == self.broken:
            raise AudioError("no sound")
        wrong = handler == "spec" and config.gate.entropy_threshold > self.fails
        answer = SimpleNamespace(
            audio_s=1.0,
            audio_notes={},
            input_tokens=1,
            text="a man speaks slowly" if wrong else "a woman speaks fast",
            stop="end",
            trace=[DRAFT],
            prompt_digest=None,
        )
        return journalled(own, answer, null_readings("none"))  # type: ignore[arg-type]


def test_the_laxest_threshold_that_keeps_the_risk_is_certified_and_failures_count_as_lost(
    tmp_path: Path,
) -> None:
    asked = checked(manifest(tmp_path, 90, without=3))
    bench = Bench(broken="s007")
    found = certify.certify(asked, tmp_path / "kept", loaded=lambda *_: bench)  # type: ignore[arg-type]
    block = found["certificate"]
    assert block["threshold"] == 1.0
    assert (block["samples"], block["failed"], block["left_out"]) == (
        87,
        1,
        {"without attributes": 3},
    )
    by_threshold = {row["threshold"]: row["mean_loss"] for row in block["tested"]}
    assert by_threshold[1.0] == pytest.approx(1 / 87)
    assert by_threshold[1.25] == 1.0
    assert (
        "3 samples without attributes are not of that population. 1 that failed count"
        in block["statement"]
    )
    assert block["policy"]["edge weights"] == MODELS["edge"]["sha256"]
    assert len(block["signals"]["entropy"]) == 86
    assert {"models", "schema"} <= found.keys()  # still a calibration that runs read
    before = bench.count
    again = certify.certify(asked, tmp_path / "kept", loaded=lambda *_: bench)  # type: ignore[arg-type]
    assert (again, bench.count) == (found, before)


def test_where_no_threshold_keeps_the_risk_status_and_file_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tuned, "load_bench", lambda *_: Bench(fails=-1.0))
    path = tmp_path / "c.json"
    command = [
        "certify",
        str(manifest(tmp_path, 60)),
        "--language",
        "english",
        "--gate-type",
        "entropy",
    ]
    command += ["--risk", "0.05", "--confidence", "0.9", "-o", str(path)]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert "Nothing is certified" in said
    assert "use it with" not in said
    block = json.loads(path.read_text())["certificate"]
    assert block["threshold"] is None
    assert block["statement"].startswith("Nothing is certified")
    monkeypatch.setattr(tuned, "load_bench", lambda *_: Bench())
    assert main([*command[:-1], str(tmp_path / "d.json")]) == 0
    assert "--entropy-threshold 1" in capsys.readouterr().out


# --- a run beside a certificate


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certified")
    asked = checked(manifest(folder, 60))
    found = certify.certify(asked, folder / "kept", loaded=lambda *_: Bench())  # type: ignore[arg-type]
    path = folder / "certified.json"
    path.write_text(json.dumps(found))
    return path


def of_run(path: Path, **changes: Any) -> Config:
    settings = {"language": "english", "gate_type": "entropy", "entropy_threshold": 1.0}
    return resolve({**settings, "calibration": str(path), **changes})


def differing(path: Path, models: Any = MODELS, **changes: Any) -> list[str]:
    config = of_run(path, **changes)
    found = certified_in(config)
    assert found is not None
    return [each.name for each in differences(found, config, models)]


def test_a_certificate_is_of_one_policy_of_one_pair(certified: Path) -> None:
    assert differing(certified) == []
    # What counts for no token of it is no difference.
    assert (
        differing(certified, margin_threshold=0.4, seed=7, hardware_profile="paper-measured") == []
    )
    assert differing(certified, entropy_threshold=1.5) == ["entropy_threshold"]
    changes = {"k": 8, "acceptance": "exact", "repetition_penalty": 1.2}
    # With other limits captions are cut that the certified ones were not.
    changes |= {"max_new_tokens": 9, "max_sentences": 1}
    assert {*changes} <= {*differing(certified, **changes)}
    assert differing(certified, language="chinese") == ["language"]
    assert differing(certified, gate_scope="token") == ["gate_scope"]
    for side, fact, name in (
        ("edge", "sha256", "edge weights"),
        ("cloud", "dtype", "cloud precision"),
    ):
        other = {**MODELS, side: {**MODELS[side], fact: "other"}}
        assert differing(certified, other) == [name]


def test_another_fit_of_the_calibrated_gate_is_another_policy(tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    asked = checked(manifest(tmp_path, 60), {"gate_type": "calibrated"})
    found = certify.certify(asked, tmp_path / "kept", loaded=lambda *_: Bench(fails=9.0))  # type: ignore[arg-type]
    path.write_text(json.dumps(found))
    own = {"gate_type": "calibrated", "calibrated_threshold": found["certificate"]["threshold"]}
    assert differing(path, **own) == []
    for model in found["models"].values():
        model["intercept"] += 0.1
    path.write_text(json.dumps(found))
    assert differing(path, **own) == ["gate's fit"]


def test_a_damaged_certificate_is_refused(certified: Path, tmp_path: Path) -> None:
    content = json.loads(certified.read_text())
    content["certificate"]["risk"] = "low"
    path = tmp_path / "c.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"certificate is damaged.*risk"):
        certified_in(of_run(path))
    assert certified_in(resolve({})) is None


def records(shift: float, n: int = 60, seed: int = 2) -> list[Record]:
    rng = np.random.default_rng(seed)
    traces = (
        Trace.from_json([{**DRAFT, "entropies": [v + shift], "margins": [v], "logprobs": [-v]}])
        for v in rng.random(n)
    )
    return [Record(f"s{number:03d}", trace=trace) for number, trace in enumerate(traces)]


def without_cloud(record: Record) -> Record:
    """The same, finished by the edge alone, whose drafts are of another kind than those of captions with the cloud."""
    alone = Draft(0.0, 0.0, (1,), (9.0,), (0.0,), (-9.0,))
    return replace(record, trace=degraded(Trace((alone, *record.trace.events))))


def setup_with(certified: Path, **changes: Any) -> dict[str, Any]:
    config = of_run(certified, **changes)
    found = certified_in(config)
    assert found is not None
    values = list(np.random.default_rng(1).random(60))
    signals = {"entropy": values, "margin": values, "logprob": [-v for v in values]}
    found = replace(found, signals={name: tuple(map(float, v)) for name, v in signals.items()})
    return setup_of(found, differences(found, config, MODELS))


def test_a_run_says_where_its_data_are_of_another_kind(certified: Path) -> None:
    setup = json.loads(json.dumps(setup_with(certified)))
    same = certificate_of(setup, records(0.0))
    assert (same.applies, same.data_differ) == (True, False)
    assert "do not differ" in sentence(same)
    other = certificate_of(setup, records(0.4))
    assert other.data_differ is True
    assert other.difference_p is not None
    assert other.difference_p < LEVEL
    assert "says nothing of them" in sentence(other)
    few = certificate_of(setup, records(0.0, n=5))
    assert (few.data_differ, few.difference_p) == (None, None)
    assert few.reason is not None
    assert "5 captions are too few" in few.reason


def test_the_test_of_data_errs_at_most_at_its_level() -> None:
    """Of runs on data like those of the calibration, over all signals together."""
    rng = np.random.default_rng(3)
    names = ("entropy", "margin", "logprob")

    def drawn() -> dict[str, list[float]]:
        return {name: list(rng.random(25)) for name in names}

    wrong = 0
    for _ in range(300):
        own, calibrated = drawn(), drawn()
        rows = [dict(zip(names, values, strict=True)) for values in zip(*own.values(), strict=True)]
        wrong += difference_p(rows, calibrated) < 0.1
    assert wrong / 300 <= 0.1 + 2 * (0.1 * 0.9 / 300) ** 0.5


def test_a_run_of_another_policy_shows_no_certificate(certified: Path) -> None:
    found = certificate_of(setup_with(certified, k=8), records(0.0))
    assert (found.applies, found.statement, found.risk) == (False, None, None)
    assert [(each.name, each.own, each.certified) for each in found.differing] == [("k", "8", "3")]
    assert "another policy was certified: k 8, not 3" in sentence(found)


def test_a_run_says_of_how_many_captions_the_certificate_says_nothing(certified: Path) -> None:
    """Those that lost their cloud, or failed, are no sign of other data either."""
    setup = setup_with(certified)
    some, other = records(0.0, n=80), records(0.4)
    lost = [*map(without_cloud, some[:50]), replace(some[50], status="failed"), *some[51:]]
    found = certificate_of(setup, lost)
    assert (found.captions, found.degraded, found.failed) == (80, 50, 1)
    assert (found.applies, found.data_differ) == (True, False)
    said = "It says nothing of 51 of the 80 captions: 50 finished without the cloud, 1 failed."
    assert sentence(found).endswith(said)
    few = [without_cloud(other[0]), *other[1:9]]
    assert "It says nothing of 1 of the 9 captions" in sentence(certificate_of(setup, few))
    whole = certificate_of(setup, some)
    assert (whole.captions, whole.uncovered) == (80, 0)
    assert "says nothing" not in sentence(whole)


def test_where_every_caption_lost_its_cloud_no_certificate_is_shown(certified: Path) -> None:
    found = certificate_of(setup_with(certified), list(map(without_cloud, records(0.0))))
    assert (found.applies, found.statement, found.degraded) == (False, None, 60)
    assert sentence(found).endswith("is not shown: no caption was finished with the cloud")


def results(certified: Path) -> Iterator[tuple[str, Any]]:
    """A result for each thing that a report may have to say."""
    setup = setup_with(certified)
    nothing = json.loads(json.dumps(setup))
    nothing["certified"]["threshold"] = None
    other = {**MODELS, "edge": {**MODELS["edge"], "sha256": "other"}}
    config = of_run(certified, k=8)
    other_policy = certified_in(config)
    assert other_policy is not None
    for name, its, shift, n in (
        ("certified", setup, 0.0, 40),
        ("certified_other", setup, 0.5, 40),
        ("certified_few", setup, 0.0, 6),
        ("uncertified", setup_of(other_policy, differences(other_policy, config, other)), 0.0, 40),
        ("certified_lost", setup, 0.0, 40),
        ("none_covered", setup, 0.0, 40),
        ("nothing_certified", nothing, 0.0, 40),
    ):
        outcome = FakeOutcome("spec", n)
        outcome.setup["certificate"] = its
        result = build_result(outcome, FakeScores(outcome), environment={}, run_block={})
        own = records(shift, n)
        if name == "certified_lost":
            own = [*map(without_cloud, own[:3]), replace(own[3], status="failed"), *own[4:]]
        elif name == "none_covered":
            own = list(map(without_cloud, own))
        found = certificate_of(its, own)
        yield name, replace(result, certificate=found)


LOST = {
    "en": "says nothing of 4 of the 40 captions: 3 finished without the cloud; 1 failed.",
    "zh": "40 条描述中有 4 条不在此保证之内：3 条未经云端完成；1 条失败。",
}


def test_reports_say_it_in_their_own_language(certified: Path) -> None:
    for name, result in results(certified):
        again = type(result).from_json(json.loads(json.dumps(result.to_json())))
        assert again.certificate == result.certificate
        for language in ("en", "zh"):
            texts = Texts(language)  # type: ignore[arg-type]
            (group,) = groups([result])
            said = [line for line in notices(group, texts) if re.search("certif|保证", line)]
            assert len(said) == 1, (name, language, said)
            if language == "zh":
                assert not re.search(r"[A-Za-z]{2,} [A-Za-z]{2,}", said[0]), said[0]
            else:
                stated = ("certified", "certified_few", "certified_lost")
                assert ("is at most 0.05" in said[0]) == (name in stated)
            if name == "certified_lost":
                assert said[0].endswith(LOST[language])
