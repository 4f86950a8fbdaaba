"""The numbers of the READMEs' headline are those of the pages that the sweeps wrote."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ("chinese", "english")


def row(page: str, table: str, policy: str) -> dict[str, float]:
    """The estimates of a policy's row, by column."""
    text = (ROOT / page).read_text("utf-8")
    body = text.partition(f"<!-- begin {table} -->")[2].partition("<!-- end -->")[0]
    lines = [line.strip("|").split("|") for line in body.splitlines() if line.startswith("| ")]
    names = [name.strip() for name in lines[0]]
    (found,) = (line for line in lines if line[0].strip().strip("*") == policy)
    numbers = (re.match(r"-?[\d.]+", cell.strip()) for cell in found)
    return {name: float(number[0]) for name, number in zip(names, numbers, strict=True) if number}


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_headline_says_what_the_page_of_rivals_says(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    headline = text.partition("\n![")[0]
    for place in PLACES:
        frontier = row("reports/rivals.md", f"policies-{place}-default-paper", "frontier")
        for column in ("/ edge", "/ cloud", "attribute gap closed"):
            assert f"{frontier[column]:.2f}" in headline, (place, column)
        eagle = row("reports/rivals.md", f"rivals-{place}-default-paper", "cloud, EAGLE-3")
        over = frontier["/ cloud"] / eagle["/ cloud"]  # of numbers that the page rounds
        said = [float(number) for number in re.findall(r"1\.\d\d", headline)]
        assert any(abs(number - over) < 0.006 for number in said), (place, over, said)
    targets = (ROOT / "reports" / "rivals.md").read_text("utf-8")
    reached = re.findall(
        r"\| frontier +\| \w+-default-paper +\| faster than cascade +\|[^|]*\| (\S+)", targets
    )
    assert len(reached) == len(PLACES)
    assert {f"{float(times):.1f}" for times in reached} <= set(re.findall(r"\d\.\d\b", headline))


@pytest.mark.parametrize("place", PLACES)
def test_both_pages_say_the_same_of_the_frontier(place: str) -> None:
    table = f"policies-{place}-default-paper"
    ours, other = (row(f"reports/{page}.md", table, "frontier") for page in ("frontier", "rivals"))
    assert ours
    assert ours == other
