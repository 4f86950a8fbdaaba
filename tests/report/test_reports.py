"""What stands behind the page: lanes, tokens, sentences, warnings, markdown, CSV, the command."""

from __future__ import annotations

import csv
import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edgecloud.cli.main import main
from edgecloud.contracts import CloudCost, Commit, Generate, Prefill, Trace
from edgecloud.report.comparison import groups
from edgecloud.report.csv import to_csv
from edgecloud.report.lanes import spans
from edgecloud.report.markdown import to_markdown
from edgecloud.report.notices import notices
from edgecloud.report.summary import percent, summarize
from edgecloud.report.texts import Texts
from edgecloud.report.tokens import decoder, doubts, pieces
from edgecloud.report.words.interface import INTERFACE
from edgecloud.report.words.sentences import SENTENCES
from tests.report.pages import words, write_runs
from tests.report.test_table import four, result, typed
from tests.results.synthetic import trace as rows

EN = Texts("en")


def trace(mode: str, seed: int = 0) -> Trace:
    return Trace.from_json(rows(mode, seed=seed))


def said(results: list[Any], language: Any = "en") -> str:
    return "\n".join(
        summarize(groups(typed(results))[0], Texts(language)).paragraphs(Texts(language))
    )


# Lanes


def test_the_edge_alone_decodes_from_commit_to_commit() -> None:
    found = spans(trace("edge"))
    assert [(span.lane, span.kind) for span in found] == [
        ("edge", "features"),
        ("edge", "prefill"),
        ("edge", "decode"),
    ]


@pytest.mark.parametrize("mode", ["edge", "spec", "cloud"])
@pytest.mark.parametrize("seed", range(5))
def test_spans_of_a_lane_do_not_overlap_and_cover_the_request(mode: str, seed: int) -> None:
    events = trace(mode, seed=seed)
    found = spans(events)
    for lane in ("edge", "link", "cloud"):
        own = sorted((s.start_s, s.end_s) for s in found if s.lane == lane)
        assert all(a[1] <= b[0] + 1e-9 for a, b in pairwise(own))
    last_commit = max(commit.at_s for commit in events.of(Commit))
    assert max(span.end_s for span in found) == pytest.approx(last_commit)


def test_the_cloud_is_busy_for_as_long_as_the_calls_say() -> None:
    events = trace("spec", seed=3)
    busy = sum(call.cost.busy_s for call in events.calls)
    assert sum(s.end_s - s.start_s for s in spans(events) if s.lane == "cloud") == pytest.approx(
        busy
    )


def test_a_prefill_inside_a_call_says_when_the_cloud_began() -> None:
    call = Generate(0.0, 1.0, (5,), CloudCost(busy_s=0.6))
    prefill = Prefill(0.3, 0.5, "cloud")
    cloud = next(span for span in spans(Trace((call, prefill))) if span.lane == "cloud")
    assert (cloud.start_s, cloud.end_s) == pytest.approx((0.3, 0.9))


# Tokens


@pytest.mark.parametrize("mode", ["edge", "spec", "cloud"])
def test_every_output_token_has_its_doubt(mode: str) -> None:
    events = trace(mode, seed=2)
    known = doubts(events)
    origins = events.origins
    assert len(known) == len(origins)
    # The made-up trace puts its end of text in the place of the last token, whoever chose that.
    for doubt, origin in list(zip(known, origins, strict=True))[:-1]:
        assert (doubt.proposed is not None) == (origin == "corrected")
        if mode == "spec":
            assert (doubt.entropy is not None) == (origin in ("edge", "verified", "corrected"))


def test_the_pieces_of_a_caption_are_its_text() -> None:
    assert pieces(decoder(words()), [5, 7, 2], "w5 w7") == [" w5", " w7", ""]
    assert pieces(decoder(words()), [5, 7, 2], "another text") is None
    assert pieces(None, [5], "w5") is None


def test_a_character_of_several_tokens_stands_with_its_last() -> None:
    from tokenizers import Tokenizer, decoders, models

    tokenizer = Tokenizer(models.BPE({"å": 0, "·": 1, "®": 2, "a": 3}, []))
    tokenizer.decoder = decoders.ByteLevel()
    assert tokenizer.decode([0, 1, 2]) == "差"
    assert pieces(decoder(tokenizer), [3, 0, 1, 2, 3], "a差a") == ["a", "", "", "差", "a"]


# Sentences


def test_a_summary_says_how_much_of_the_gap_is_closed_for_what_time_and_cloud() -> None:
    text = said(four())
    assert (
        "On 8 samples, the cloud alone reaches a CIDEr of 0.935 and the edge alone 0.535." in text
    )
    assert "rank acceptance closed 25% of the CIDEr gap" in text
    assert "exact acceptance closed 75% of the CIDEr gap" in text
    assert "times as long as the edge alone" in text
    assert "of what the cloud alone needs" in text


def test_no_difference_is_not_called_one() -> None:
    text = said([result("edge"), result("spec"), result("cloud")])
    assert "has no CIDEr gap to close" in text
    noisy = [result("edge"), result("spec", shift=0.0), result("cloud", shift=0.4)]
    assert "did not measurably close the CIDEr gap" in said(noisy)


def test_below_the_edge_and_above_the_cloud_are_said() -> None:
    edge, cloud = result("edge"), result("cloud", shift=0.4)
    assert "scored below the edge" in said([edge, result("spec", shift=-0.1), cloud])
    assert "scored above the cloud" in said([edge, result("spec", shift=0.6), cloud])


def test_different_clocks_are_not_compared_in_time() -> None:
    arms = [result("edge"), result("spec", shift=0.1, clock="modelled"), result("cloud", shift=0.4)]
    assert "cannot be compared with the edge in time" in said(arms)
    assert any("different clocks" in notice for notice in notices(groups(typed(arms))[0], EN))


def test_modelled_time_is_called_computed() -> None:
    arms = [result("edge", clock="modelled"), result("cloud", shift=0.4, clock="modelled")]
    assert "computed from the hardware profile “paper”, not measured" in said(arms)


def test_an_arm_alone_is_compared_with_nothing() -> None:
    assert "nothing is compared" in said([result("edge")])
    assert "no edge-alone arm" in said([result("spec"), result("cloud")])


def test_chinese_sentences_hold_the_same_numbers() -> None:
    assert "弥合了端云之间 CIDEr 差距的 75%" in said(four(), "zh")


@pytest.mark.parametrize(
    "value, digits, text",
    [(0.1234, None, "12%"), (0.0123, None, "1.2%"), (-0.0001, 0, "0%"), (-0.25, None, "−25%")],
)
def test_percentages(value: float, digits: int | None, text: str) -> None:
    assert percent(value, digits) == text


def test_texts_of_both_languages_have_the_same_placeholders() -> None:
    import string

    for key, (english, chinese) in {**INTERFACE, **SENTENCES}.items():
        names = [
            {name for _, name, _, _ in string.Formatter().parse(t) if name}
            for t in (english, chinese)
        ]
        assert names[0] == names[1], key


# Warnings


def test_models_known_by_headers_alone_are_said_and_not_called_different() -> None:
    edge, cloud = result("edge"), result("cloud", shift=0.4)
    edge["models"]["edge"]["sha256"] = "headers:1"
    cloud["models"]["edge"] = {"name": "e", "sha256": "2", "headers_sha256": "headers:1"}
    text = "\n".join(notices(groups(typed([edge, cloud]))[0], EN))
    assert "known by its headers alone" in text
    assert "differs between" not in text
    edge["models"]["edge"]["sha256"] = "headers:3"
    assert "model differs" in "\n".join(notices(groups(typed([edge, cloud]))[0], EN))


def test_warnings_name_what_weakens_a_conclusion() -> None:
    edge, cloud = result("edge", bad=(0,)), result("cloud", shift=0.4)
    edge["run"] |= {"dirty": True, "commit": "abc", "load_average": [9.0, 1, 1], "host": "a"}
    edge["run"]["drift"] = {"second_half_over_first": 1.5}
    edge["environment"] = {"cpu": {"logical_cores": 2}}
    edge["quality_floors"] = {"status": "failed"}
    edge["metrics"]["notes"]["avg_cider"] = "unstable: 8 samples"
    edge["metrics"]["defects"] = {"any": 2, "repetition_loop": 2, "chat_leakage": 0}
    edge["metrics"]["latency_metrics"]["memory_over_cap_total"] = 3
    edge["detailed_results"][3]["degraded"] = {
        "at_s": 1.0,
        "error": "CloudTimeout",
        "reason": "late",
    }
    edge["detailed_results"][4]["audio_notes"] = {"silent": "…", "clipped": "…"}
    edge["models"]["edge"]["sha256"] = "1"
    cloud["models"]["edge"] = {"name": "other", "sha256": "2"}
    text = "\n".join(notices(groups(typed([edge, cloud]))[0], EN))
    for part in (
        "only 7 samples",
        "1 of 8 samples failed",
        "1 samples were degraded",
        "1 of 8 recordings cannot be right: clipped 1, silent once mixed down 1.",
        "uncommitted changes",
        "different commits",
        "different machines",
        "one after the other",
        "took 1.50 times as long",
        "load 9.0 on 2 cores",
        "quality floors failed",
        "CIDEr: unstable: 8 samples.",
        "repetition loop 2",
        "3 samples went over the memory cap",
        "cover different samples; paired figures use the 7",
        "the edge model differs",
    ):
        assert part in text
    assert "leakage" not in text


def test_what_is_true_of_several_arms_is_said_once() -> None:
    arms = [result("edge"), result("cloud", shift=0.4)]
    for one in arms:
        one["run"]["dirty"] = True
    found = [n for n in notices(groups(typed(arms))[0], EN) if "uncommitted" in n]
    assert found == [
        "English captions, default prompt, embedded corpus, edge, cloud: the code had uncommitted changes."
    ]


# Markdown and CSV


def test_markdown_has_summary_tables_and_warnings() -> None:
    text = to_markdown(typed(four()))
    assert "| CIDEr" in text
    assert re.search(r"0\.535 \[0\.5[12]\d, 0\.5[45]\d\]", text)
    assert "exact acceptance closed 75% of the CIDEr gap" in text
    assert "only 8 samples" in text
    assert "三方" not in text
    assert "配对差异" in to_markdown(typed(four()), language="zh")


def test_markdown_takes_names_as_text() -> None:
    arms = [result("edge", output_name="a|b<i>"), result("edge", output_name="*c*")]
    text = to_markdown(typed(arms))
    assert "a\\|b\\<i>" in text
    assert "\\*c\\*" in text


def test_csv_has_a_line_for_every_value_with_its_interval_or_reason() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(typed(four())))))
    gap = next(r for r in rows if r["metric"] == "CIDEr gap closed" and r["arm"] == "spec exact")
    assert float(gap["value"]) == pytest.approx(0.75)
    assert (gap["n"], gap["level"]) == ("8", "0.95")
    missing = [row for row in rows if not row["value"]]
    assert missing
    assert all(row["note"] for row in missing)


# The command


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = write_runs(tmp_path, 3)
    page = tmp_path / "out" / "report.html"
    assert main(["report", str(results), "-o", str(page), "--language", "zh"]) == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "4 results" in capsys.readouterr().out


def test_the_command_prints_markdown_and_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = str(write_runs(tmp_path, 3))
    assert main(["report", results, "--format", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("# Edge–cloud")
    assert main(["report", results, "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("language,")


def test_what_cannot_be_read_or_written_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
    results = write_runs(tmp_path, 2)
    (tmp_path / "file").write_text("")
    assert main(["report", str(results), "-o", str(tmp_path / "file" / "r.html")]) == 2
    assert "cannot write the report" in capsys.readouterr().err
    (tmp_path / "broken.json").write_text(json.dumps({"schema": "x"}))
    assert main(["report", str(tmp_path / "broken.json")]) == 2
