"""The frontier's page, plots and tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edgecloud.errors import OutputError
from edgecloud.experiments.targets import Verdict
from edgecloud.report.frontier import write
from edgecloud.results.frontier import bound_line, router, seeded

COSTS = {
    "edge": {"prefill_s": 7.3, "step_s": 0.415},
    "cloud": {"prefill_s": 0.39, "step_s": 0.041, "verify_s": 0.05},
}


def interval(value: float | None) -> dict[str, Any]:
    spread = None if value is None else 0.1
    ends = (None, None) if value is None or spread is None else (value - spread, value + spread)
    return {"estimate": value, "low": ends[0], "high": ends[1]}


def row(name: str, role: str, *, time: float, busy: float, gap: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "total_s": 18 * time,
        "ttft_s": 7.0,
        "busy_s": 1.4 * busy,
        "tokens": 26.0,
        "attribute_accuracy": 0.75,
        "cider": 2.5,
        "calls": 2.0,
        "cloud_token_share": 0.5,
        "time": interval(time),
        "busy": interval(busy),
        "ttft": interval(0.9),
        "gap_closed": interval(gap),
        "attribute_gap_closed": interval(0.875),
        "above_bound": 0.05,
        "crossings": {},
        "against": {
            "name": "other",
            "time": interval(0.9),
            "busy": None,
            "attributes": interval(0.0625),
            "cider": interval(0.01),
            "calls": interval(-1.0),
        },
    }


BLOCK: dict[str, Any] = {
    "language": "chinese",
    "prompt_type": "default",
    "hardware_profile": "paper",
    "link": None,
    "costs": COSTS,
    "samples": 4,
    "edge": {
        "total_s": 18.0,
        "ttft_s": 7.3,
        "busy_s": 0.0,
        "tokens": 28.0,
        "attribute_accuracy": 0.25,
        "cider": 1.6,
    },
    "cloud": {
        "total_s": 1.45,
        "ttft_s": 0.44,
        "busy_s": 1.4,
        "tokens": 26.0,
        "attribute_accuracy": 0.875,
        "cider": 2.8,
    },
    "rows": [
        row("frontier", "chosen", time=0.64, busy=0.79, gap=1.0),
        row("weak", "policy", time=0.9, busy=0.3, gap=None),
        row("step", "added", time=0.9, busy=0.4, gap=0.5),
        row("first 4", "baseline", time=0.9, busy=0.4, gap=0.1),
        row("first 20", "baseline", time=0.5, busy=0.85, gap=0.6),
    ],
}
VERDICT = Verdict(
    "frontier",
    {"language": "chinese", "prompt_type": "default", "hardware_profile": "paper", "link": None},
    "time",
    "≤ 0.66",
    0.64,
    met=True,
)


def test_everything_a_reader_wants_is_written(tmp_path: Path) -> None:
    paths = {path.name for path in write([BLOCK], [VERDICT], tmp_path)}
    assert paths == {"frontier.json", "frontier.csv", "tables.md", "chinese-default-paper.svg"}
    text = (tmp_path / "frontier.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert [r["policy"] for r in rows[:3]] == ["edge", "cloud", "frontier"]
    assert rows[2]["time"] == "0.64"
    assert json.loads((tmp_path / "frontier.json").read_text())["places"][0]["samples"] == 4
    tables = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert "**frontier**" in tables
    assert "≤ 0.66" in tables
    root = ElementTree.parse(tmp_path / "chinese-default-paper.svg").getroot()
    text = " ".join(root.itertext())
    assert "bound, edge and cloud on each caption" in text
    assert "whole captions to the cloud" in text


def without_truth(block: dict[str, Any]) -> dict[str, Any]:
    """The block of a manifest that does not know its attributes."""
    rows = [
        {
            **row,
            "attribute_accuracy": None,
            "attribute_gap_closed": None,
            "against": {**row["against"], "attributes": None},
        }
        for row in block["rows"]
    ]
    alone = {side: {**block[side], "attribute_accuracy": None} for side in ("edge", "cloud")}
    return {**block, **alone, "rows": rows}


def test_attributes_come_first_where_the_truth_is_known(tmp_path: Path) -> None:
    write([BLOCK], [], tmp_path / "known")
    tables = (tmp_path / "known" / "tables.md").read_text(encoding="utf-8")
    headers = [line for line in tables.splitlines() if line.startswith("| policy")]
    assert all(h.index("attribute gap closed") < h.index("CIDEr gap closed") for h in headers[:2])
    assert "0.875 (0.775 … 0.975)" in tables
    plot = (tmp_path / "known" / "chinese-default-paper.svg").read_text(encoding="utf-8")
    assert "all attributes right" in plot
    text = (tmp_path / "known" / "frontier.csv").read_text(encoding="utf-8")
    edge, _, policy = list(csv.DictReader(text.splitlines()))[:3]
    assert (edge["attribute_accuracy"], edge["attribute_gap_closed"]) == ("0.25", "")
    assert policy["attribute_gap_closed_low"] == "0.775"

    write([without_truth(BLOCK)], [], tmp_path / "unknown")
    tables = (tmp_path / "unknown" / "tables.md").read_text(encoding="utf-8")
    assert "attribute" not in tables
    assert "CIDEr gap closed" in tables
    plot = (tmp_path / "unknown" / "chinese-default-paper.svg").read_text(encoding="utf-8")
    assert "gap closed (CIDEr)" in plot


def test_a_page_keeps_its_own_words_around_the_tables(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    marks = "<!-- begin added-chinese-default-paper -->\nold\n<!-- end -->"
    page.write_text(f"Words before.\n{marks}\nWords after.\n", encoding="utf-8")
    write([BLOCK], [], tmp_path / "out", page=page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("Words before.\n")
    assert text.endswith("Words after.\n")
    assert "| step " in text
    assert "old" not in text
    write([BLOCK], [], tmp_path / "out", page=page)
    assert page.read_text(encoding="utf-8") == text


def test_a_page_that_marks_an_unknown_table_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- begin nonsense -->\n<!-- end -->\n", encoding="utf-8")
    with pytest.raises(OutputError, match="nonsense"):
        write([BLOCK], [], tmp_path / "out", page=page)
    with pytest.raises(OutputError, match=r"absent\.md"):
        write([BLOCK], [], tmp_path / "out", page=tmp_path / "absent.md")


def test_the_baselines_are_lines_between_what_was_measured() -> None:
    assert router(BLOCK, 0.0).time == 1.0
    assert router(BLOCK, 1.0).time == pytest.approx(1.45 / 18)
    assert router(BLOCK, 0.5).gap_closed == 0.5
    seeds = [r for r in BLOCK["rows"] if r["role"] == "baseline"]
    half = seeded(seeds, 0.625)
    assert half is not None
    assert (half.gap_closed, half.time) == (pytest.approx(0.35), pytest.approx(0.7))
    assert seeded(seeds, 0.2) is None


def test_the_bound_falls_from_one_token_of_the_cloud_to_all_of_them() -> None:
    line = bound_line(BLOCK)
    assert line[0] == (
        pytest.approx(0.39 / 1.4),
        pytest.approx((7.3 + 25 * 0.415) / 18),
    )
    assert line[-1] == (pytest.approx((0.39 + 25 * 0.041) / 1.4), pytest.approx(7.3 / 18))
    assert line == sorted(line)


def test_crossings_and_ratios_that_there_are_not_are_said_under_the_table(tmp_path: Path) -> None:
    crossing = row("crossing", "added", time=0.9, busy=0.4, gap=0.97)
    crossing["crossings"] = {"cloud": "different links (lte / lan)", "against": "different links"}
    refused = row("refused", "policy", time=0.9, busy=0.4, gap=0.97)
    refused["busy"] = {**interval(None), "reason": "not comparable: different links (lte / lan)"}
    page = tmp_path / "page.md"
    marks = [
        f"<!-- begin {name}-chinese-default-paper -->\n<!-- end -->"
        for name in ("added", "policies")
    ]
    page.write_text("\n".join(marks), encoding="utf-8")
    block = {**BLOCK, "rows": [*BLOCK["rows"], crossing, refused]}
    write([block], [], tmp_path / "out", page=page)
    lines = page.read_text(encoding="utf-8").splitlines()
    beside = "crossing: a crossing, as declared, beside"
    assert f"- {beside} the cloud alone: different links (lte / lan)." in lines
    assert f"- {beside} other: different links." in lines
    reason = "no ratio over the cloud alone: not comparable: different links (lte / lan)"
    assert f"- refused: {reason}." in lines
    tables = (tmp_path / "out" / "frontier.csv").read_text(encoding="utf-8").splitlines()
    by_name = {one["policy"]: one for one in csv.DictReader(tables)}
    assert (by_name["refused"]["busy"], by_name["refused"]["notes"]) == ("", reason)
    assert by_name["weak"]["notes"] == ""
