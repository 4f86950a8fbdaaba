"""Fitting the calibrated gate: what counts as an example, and what the fit finds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from edgecloud.cli.main import main
from edgecloud.contracts import TokenStats
from edgecloud.decoding.gates import GATES, Thresholds
from edgecloud.edge.gate_calibration import calibration, to_json
from edgecloud.edge.speculation_policy import speculation
from edgecloud.errors import ConfigError, DataError
from edgecloud.experiments.calibration import evaluate, examples, fit
from edgecloud.results.journal import SCHEMA
from edgecloud.settings.config import resolve


def journal(path: Path, traces: list[list[dict[str, Any]]]) -> Path:
    settings = {"language": "chinese", "prompt_type": "default"}
    header = {"schema": SCHEMA, "mode": "spec", "identity": {"settings": settings}}
    rows = [{"file_id": f"clip-{i}", "trace": trace} for i, trace in enumerate(traces)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [header, *rows]), encoding="utf-8")
    return path


def draft(entropies: list[float]) -> dict[str, Any]:
    count = len(entropies)
    return {
        "kind": "draft",
        "start_s": 0.0,
        "end_s": 0.0,
        "tokens": [1] * count,
        "entropies": entropies,
        "margins": [0.5] * count,
        "logprobs": [-1.0] * count,
    }


def verify(kept: int) -> dict[str, Any]:
    call = {"kind": "verify", "start_s": 0.0, "end_s": 0.0}
    return {**call, "drafted": 2, "kept": kept, "token": 5}


def commit(*origins: str) -> dict[str, Any]:
    made = {"kind": "commit", "start_s": 0.0, "end_s": 0.0}
    return {**made, "tokens": [1] * len(origins), "origins": list(origins)}


def caption(rng: random.Random) -> list[dict[str, Any]]:
    """A caption whose drafts are rejected where they are unsure, in its second half."""
    trace, output = [], 0
    while output < 24:
        entropy = rng.choice([0.1, 2.0])
        rejected = entropy > 1 and output >= 12
        origin = "corrected" if rejected else "verified"
        trace += [draft([entropy]), verify(0 if rejected else 1), commit(origin)]
        output += 1
    return trace


def test_examples_are_what_was_kept_and_the_first_that_was_not(tmp_path: Path) -> None:
    trace = [
        draft([0.1, 0.2]),
        draft([0.3, 0.4]),
        verify(2),
        commit("verified", "verified", "corrected"),
        draft([0.5]),
        commit("edge"),
        draft([0.6]),
        verify(1),
        commit("verified", "bonus"),
    ]
    found = examples([journal(tmp_path / "j.jsonl", [trace] * 4)])
    assert found.rejected[:4] == (False, False, True, False)
    assert [token.entropy for token in found.tokens[:4]] == [0.1, 0.2, 0.3, 0.6]
    assert [token.position for token in found.tokens[:4]] == [0, 1, 2, 4]
    assert [token.recent_corrections for token in found.tokens[:4]] == [0, 0, 0, 1]
    assert len(set(found.recordings)) == 4


def test_the_fit_finds_what_no_threshold_on_entropy_can(tmp_path: Path) -> None:
    rng = random.Random(1)
    found = examples([journal(tmp_path / "j.jsonl", [caption(rng) for _ in range(20)])])
    rows = {row["gate"]: row for row in evaluate(found)}
    assert rows["calibrated"]["auc"] > 0.98 > rows["entropy"]["auc"]
    at = {entry["rate"]: entry for entry in rows["calibrated"]["at"]}
    plain = {entry["rate"]: entry for entry in rows["entropy"]["at"]}
    assert at[0.2]["precision"] > 0.9
    assert at[0.3]["recall"] >= plain[0.3]["recall"]
    thresholds = Thresholds(calibration=fit(found)["chinese/default"], calibrated=0.5)
    late, early = TokenStats(2.0, 0.5, -1.0, 20), TokenStats(2.0, 0.5, -1.0, 3)
    assert GATES["calibrated"]([late], thresholds)
    assert not GATES["calibrated"]([early], thresholds)


def test_a_fit_that_was_stored_is_read_back_as_it_was(tmp_path: Path) -> None:
    fitted = fit(examples([journal(tmp_path / "j.jsonl", [caption(random.Random(2))] * 5)]))
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(to_json(fitted, tokens=3)), encoding="utf-8")
    assert set(fitted) == {"chinese/default", "any"}
    own = calibration(path, language="chinese", prompt_type="default")
    assert own == fitted["chinese/default"]
    assert calibration(path, language="english", prompt_type="default") == fitted["any"]


@pytest.mark.parametrize("language", ["chinese", "english"])
@pytest.mark.parametrize("prompt_type", ["default", "detailed"])
def test_the_embedded_pair_has_a_calibration_of_its_own(language: str, prompt_type: str) -> None:
    assert any(calibration(None, language=language, prompt_type=prompt_type).weights)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"schema": "other", "weights": {}}', '{"schema": "edgecloud-calibration/1"}'],
)
def test_a_file_that_is_no_calibration_says_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"c\.json"):
        calibration(path, language="chinese", prompt_type="default")


def test_the_embedded_calibration_is_not_taken_for_another_pair(tmp_path: Path) -> None:
    speculation(resolve(preset="frontier"))
    with pytest.raises(ConfigError, match="edgecloud calibrate"):
        speculation(resolve({"edge_model": "my-3B"}, preset="frontier"))


def test_journals_without_verifications_are_refused(tmp_path: Path) -> None:
    path = journal(tmp_path / "j.jsonl", [[draft([0.1]), commit("edge")]] * 5)
    with pytest.raises(DataError, match="--gate-type always"):
        examples([path])


def whole_journal(path: Path, traces: list[list[dict[str, Any]]]) -> Path:
    """With all that the command keeps of a journal's header."""
    lines = journal(path, traces).read_text(encoding="utf-8").splitlines()
    header = json.loads(lines[0])
    header["identity"].update(models={"edge": "e"}, data={"sha256": "d"})
    header["identity"]["settings"]["acceptance"] = "rank"
    path.write_text("\n".join([json.dumps(header), *lines[1:]]) + "\n", encoding="utf-8")
    return path


def unlearnable(rng: random.Random) -> list[dict[str, Any]]:
    """A caption whose drafts are rejected the surer of it the higher their entropy, and by nothing else:
    there is no more to learn than a threshold knows."""
    trace = []
    for _ in range(24):
        entropy = rng.uniform(0.0, 3.0)
        rejected = rng.random() < entropy / 4
        trace += [draft([entropy]), verify(0 if rejected else 1)]
        trace.append(commit("corrected" if rejected else "verified"))
    return trace


def test_a_fit_on_too_little_is_refused_with_its_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(3)
    path = whole_journal(tmp_path / "j.jsonl", [caption(rng) for _ in range(6)])
    command = ["calibrate", str(path), "-o", str(tmp_path / "c.json")]
    assert main(command) == 2
    said = capsys.readouterr().err
    found = examples([path])
    rejected = sum(found.rejected)
    assert f"{rejected} rejected and {144 - rejected} kept tokens of 6 recordings" in said
    assert "--force" in said
    assert not (tmp_path / "c.json").exists()
    assert main([*command, "--force"]) == 0
    assert "warning: chinese/default: " in capsys.readouterr().err
    assert calibration(tmp_path / "c.json", language="chinese", prompt_type="default").weights


def test_rejections_in_one_fold_alone_are_forced_without_a_judgement(tmp_path: Path) -> None:
    sure = [event for _ in range(24) for event in (draft([0.1]), verify(1), commit("verified"))]
    traces = [caption(random.Random(4)), *[sure] * 7]
    path = whole_journal(tmp_path / "j.jsonl", traces)
    command = ["calibrate", str(path), "-o", str(tmp_path / "c.json")]
    assert main(command) == 2
    assert main([*command, "--force"]) == 0
    assert json.loads((tmp_path / "c.json").read_text("utf-8"))["cross_validated"] == []


@pytest.mark.parametrize("make, status", [(unlearnable, 2), (caption, 0)])
def test_a_fit_that_is_no_better_than_a_threshold_out_of_sample_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Any, status: int
) -> None:
    rng = random.Random(5)
    path = whole_journal(tmp_path / "j.jsonl", [make(rng) for _ in range(40)])
    command = ["calibrate", str(path), "-o", str(tmp_path / "c.json")]
    assert main(command) == status
    said = capsys.readouterr()
    assert "960 tokens of 40 recordings" in said.out
    assert ("no better than a plain threshold" in said.err) == (status == 2)
    assert ("entropy alone 0." in said.err) == (status == 2)
    assert (tmp_path / "c.json").exists() == (status == 0)


def test_recordings_of_a_copied_journal_count_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(3)
    path = whole_journal(tmp_path / "j.jsonl", [caption(rng) for _ in range(6)])
    once = examples([path])
    copy = tmp_path / "copy.jsonl"
    content = path.read_text(encoding="utf-8")
    # Of the same run with fewer samples the hash is another one.
    for again in (content, content.replace('"sha256": "d"', '"sha256": "e"')):
        copy.write_text(again, encoding="utf-8")
        both = examples([path, copy])
        assert (both.tokens, both.recordings) == (once.tokens, once.recordings)
        assert both.repeated == (
            f"{copy}: 6 of its 6 recordings are in an earlier journal as well; they count once",
        )
    # Drafted anew it is still the same recording; one of other data is another.
    other = [caption(random.Random(4)) for _ in range(6)]
    assert examples([path, whole_journal(copy, other)]).tokens == once.tokens
    copy.write_text(copy.read_text("utf-8").replace('"sha256": "d"', '"sha256": "e"'), "utf-8")
    assert len(examples([path, copy]).tokens) > len(once.tokens)
    assert once.repeated == ()
    assert main(["calibrate", *[str(path)] * 30, "-o", str(tmp_path / "c.json")]) != 0
    said = capsys.readouterr().err
    assert said.count("they count once") == 29
    assert "kept tokens of 6 recordings" in said
