"""The page: it stands alone, says what the results say, and lets nothing out of its place."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgecloud.errors import DataError
from edgecloud.report.html.page import to_html
from edgecloud.report.html.theme import DARK, LIGHT, ORIGINS, contrast
from edgecloud.report.sources import load_sources
from edgecloud.report.tokens import Doubt, doubts
from edgecloud.results.journal import record_at
from edgecloud.results.records import Record
from tests.report.pages import (
    change,
    two_clocks,
    write_manifest,
    write_result,
    write_runs,
    write_tokenizer,
)


class Page(HTMLParser):
    """The elements of a page, their ids, and what its scripts of data hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.data: dict[str, str] = {}
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._script = dict(attrs).get("id") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script:
            self.data[self._script] = self.data.get(self._script, "") + data

    def json(self, name: str) -> Any:
        return json.loads(self.data[name])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four arms in each language. Read it, do not change it."""
    folder = tmp_path_factory.mktemp("runs")
    write_runs(folder, language="english")
    write_runs(folder, language="chinese")
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module", params=["en", "zh"])
def text(request: pytest.FixtureRequest, runs: Path, tokenizer: Path) -> str:
    return to_html(load_sources([runs / "results"]), language=request.param, tokenizer=tokenizer)


def test_the_page_asks_for_nothing_outside_itself(text: str) -> None:
    for tag, attributes in Page(text).elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:", "#")) or not value, (tag, name, value[:60])
    policies = [
        a.get("content") for t, a in Page(text).elements if t == "meta" and "http-equiv" in a
    ]
    assert policies == [policy for policy in policies if policy and "default-src 'none'" in policy]
    assert policies
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_the_page_speaks_the_language_asked_for(text: str) -> None:
    language = next(a["lang"] for tag, a in Page(text).elements if tag == "html")
    chinese = language == "zh-Hans"
    assert ("端云协同推测解码" in text) is chinese
    assert ("Where the time of a request goes" in text) is not chinese
    assert ("接受规则的推测解码" in text) is chinese


def test_ids_are_there_once_and_every_reference_to_one_has_its_target(text: str) -> None:
    page = Page(text)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        named = (attributes.get("aria-labelledby") or "").split()
        linked = [
            value[1:]
            for name in ("href", "xlink:href")
            if (value := attributes.get(name) or "").startswith("#")
        ]
        assert set(named + linked) <= set(ids)


def test_every_figure_has_words_in_its_place_and_the_pages_colours(text: str) -> None:
    page = Page(text)
    figures = [a for tag, a in page.elements if tag == "svg"]
    assert len(figures) == 2 * (2 + 6 + 3)
    assert all(a.get("role") == "img" and a.get("aria-labelledby") for a in figures)
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert not [c for c in re.findall(r"#[0-9a-f]{6}\b", " ".join(drawings)) if c != "#ffffff"]
    used = set(re.findall(r"var\(--([\w-]+)\)", " ".join(drawings)))
    assert used <= set(LIGHT)
    assert all("<desc" in drawing for drawing in drawings)


def test_every_control_has_a_name(text: str) -> None:
    page = Page(text)
    labels = text.count("<label")
    controls = [a for tag, a in page.elements if tag in ("input", "select")]
    filters, series = 6, 2 * 4  # of two languages
    assert len(controls) == labels == filters + series
    for button in re.findall(r"<button[^>]*>(.*?)</button>", text, flags=re.DOTALL):
        assert button.strip()


@pytest.mark.usefixtures("without_figures")
def test_key_figures_of_many_series_are_lines_under_one_heading(tmp_path: Path) -> None:
    results = write_runs(tmp_path, 3)
    own = json.loads((results / "spec-rank-english.json").read_text())
    for number in range(4):
        own["run"]["output_name"] = f"more-{number}"
        write_result(results / f"more-{number}.json", own)
    text = to_html(load_sources([results]))
    assert text.count('<div class="keys many">') == 1
    assert text.count('<div class="key arm-') == 6
    assert text.count("time, cloud alone = 1</div>") == 1
    assert text.count("<dt>time, cloud alone = 1</dt>") == 6


@pytest.mark.usefixtures("without_figures")
def test_of_several_clouds_the_column_of_the_one_compared_with_is_pinned(tmp_path: Path) -> None:
    results = write_runs(tmp_path, 3)
    other = json.loads((results / "cloud-rank-english.json").read_text())
    other["run"]["output_name"] = "zz"
    other["experiment_config"]["hardware_profile"] = "another"
    write_result(results / "zz.json", other)
    heads = re.findall(
        r'<th scope="col" class="arm-\d pin">.*?</span>(.*?)</th>', to_html(load_sources([results]))
    )
    assert heads
    assert not any("zz" in head for head in heads)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(theme: dict[str, str]) -> None:
    for ground in ("ground", "panel"):
        for role in ("ink", "muted", "accent", "warn", "fail"):
            assert contrast(theme[role], theme[ground]) >= 4.5, (role, ground)
        for role in ("control", *ORIGINS):
            assert contrast(theme[role], theme[ground]) >= 3.0, (role, ground)
    arms = [role for role in theme if role.startswith("spec-")] + ["edge", "cloud"]
    for role in arms:  # arms are named in their colour
        assert contrast(theme[role], theme["ground"]) >= 4.5, role


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_on_the_tint_of_its_origin_keeps_the_contrast(theme: dict[str, str]) -> None:
    share = 0.16  # the strongest tint of style.css

    def mixed(role: str) -> str:
        pairs = [(theme[role][i : i + 2], theme["ground"][i : i + 2]) for i in (1, 3, 5)]
        return "#" + "".join(
            f"{round(share * int(own, 16) + (1 - share) * int(ground, 16)):02x}"
            for own, ground in pairs
        )

    for origin in ORIGINS:
        assert contrast(theme["ink"], mixed(origin)) >= 7


def test_both_themes_define_the_same_roles() -> None:
    assert list(LIGHT) == list(DARK)


def test_every_table_is_a_link_to_its_numbers(text: str) -> None:
    links = [a for tag, a in Page(text).elements if tag == "a" and "download" in a]
    assert len(links) == 2 * 5
    headline = next(a for a in links if a["download"] == "g0-headline.csv")
    content = base64.b64decode((headline["href"] or "").split("base64,")[1]).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(content)))
    assert {row["arm"] for row in rows} == {"edge", "spec rank", "spec exact", "cloud"}
    cider = next(row for row in rows if row["metric"] == "cider" and row["arm"] == "edge")
    assert float(cider["low"]) < float(cider["value"]) < float(cider["high"])


@pytest.mark.usefixtures("without_figures")
def test_captions_come_in_tokens_with_origin_entropy_and_what_was_corrected(
    runs: Path, tokenizer: Path
) -> None:
    page = Page(to_html(load_sources([runs / "results"]), tokenizer=tokenizer))
    sample = page.json("data")[0]["samples"][0]
    edge, rank, exact, cloud = sample["a"]
    for its in (edge, rank, exact, cloud):
        assert len(its["p"]) == len(its["o"])
    assert set(edge["o"]) == {"e"}
    assert set(cloud["o"]) == {"k"}
    assert "h" not in edge
    # The made-up trace puts its end of text in the place of the last token, whoever chose that.
    drafted = [letter in "evc" for letter in exact["o"]][:-1]
    assert [entropy >= 0 for entropy in exact["h"]][:-1] == drafted
    assert all(re.fullmatch(r" w\d+|<end>", text) for text, _ in exact.get("x", {}).values())


@pytest.mark.usefixtures("without_figures")
def test_without_the_tokenizer_captions_are_whole_and_the_page_says_so(runs: Path) -> None:
    text = to_html(load_sources([runs / "results"]))
    its = Page(text).json("data")[0]["samples"][0]["a"][1]
    assert its["w"]
    assert its["o"]
    assert "p" not in its
    assert "give --tokenizer" in text


def test_without_journals_there_are_no_timelines_and_the_page_says_why(
    runs: Path, tmp_path: Path
) -> None:
    text = to_html(load_sources([runs / "results"], journals=tmp_path))
    assert "timeline-typical" not in text
    assert f"there is no {tmp_path}" in text


def test_traces_are_read_when_they_are_asked_for(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = load_sources([runs / "results"])
    asked: list[Path] = []

    def counted(path: Path, begin: int) -> Record:
        asked.append(path)
        return record_at(path, begin)

    monkeypatch.setattr("edgecloud.report.sources.record_at", counted)
    for source in sources:
        assert all(sample.file_id in source.traces for sample in source.result.completed)
        assert "no such sample" not in source.traces
        assert not asked
        for name, trace in source.traces.items():
            its = doubts(trace)
            known = source.doubts[name]
            assert list(known) == its or (not known and its == [Doubt()] * len(its))
        assert len(asked) == len(source.traces)
        asked.clear()


@pytest.mark.usefixtures("without_figures")
def test_a_journal_of_another_run_is_not_taken(tmp_path: Path) -> None:
    results = write_runs(tmp_path)
    change(results / "edge-rank-english.json", tokens=[1, 2, 3], origins=["edge"] * 3)
    sources = {source.path.stem: source for source in load_sources([results])}
    assert sources["edge-rank-english"].foreign
    assert not sources["edge-rank-english"].traces
    assert sources["cloud-rank-english"].traces
    assert "is of another run" in to_html(list(sources.values()))


@pytest.mark.usefixtures("without_figures")
def test_markup_in_captions_references_ids_and_names_stays_text(tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    results = write_runs(tmp_path, 2)
    for path in results.glob("*.json"):
        change(
            path,
            generated_text=evil,
            reference_captions=[evil],
            file_id=evil,
            error={"type": evil, "message": evil},
        )
    path = results / "spec-exact-english.json"
    result = json.loads(path.read_text())
    result["run"] |= {"host": evil, "commit": evil}
    result["metrics"]["notes"]["avg_cider"] = evil
    path.write_text(json.dumps(result))
    page = Page(to_html(load_sources([results])))
    assert "img" not in {tag for tag, _ in page.elements}
    assert page.json("data")[0]["samples"][0]["refs"] == [evil]


def test_a_dollar_sign_in_a_name_is_no_mathematics(tmp_path: Path) -> None:
    results = write_runs(tmp_path, 3)
    for path in results.glob("*.json"):
        change(path, file_id="cost_$x^$")
    to_html(load_sources([results]))


@pytest.mark.usefixtures("without_figures")
def test_recordings_are_embedded_only_when_asked_for(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "data", 4)
    results = write_runs(tmp_path / "runs", 4, dataset_path=str(manifest))
    for path in results.glob("*.json"):
        result = json.loads(path.read_text())
        result["data"]["manifest"] = "manifest.json"
        path.write_text(json.dumps(result))
    without = to_html(load_sources([results]))
    assert Page(without).json("audio") == []
    assert "--embed-audio was not given" in without
    page = Page(to_html(load_sources([results]), embed_audio=True))
    uris = page.json("audio")
    assert len(uris) == 4
    assert uris[0].startswith("data:audio/wav;base64,")
    numbers = [sample["audio"] for sample in page.json("data")[0]["samples"]]
    assert numbers == [0, 1, 2, 3]


@pytest.mark.usefixtures("without_figures")
def test_recordings_that_are_gone_are_named(tmp_path: Path) -> None:
    results = write_runs(tmp_path, 2, dataset_path=str(tmp_path / "gone.json"))
    for path in results.glob("*.json"):
        result = json.loads(path.read_text())
        result["data"]["manifest"] = "gone.json"
        path.write_text(json.dumps(result))
    assert "gone.json does not exist" in to_html(load_sources([results]), embed_audio=True)


def test_a_tokenizer_that_is_not_there_or_is_none_is_named(runs: Path, tmp_path: Path) -> None:
    sources = load_sources([runs / "results"])
    with pytest.raises(DataError, match=r"there is no tokenizer\.json"):
        to_html(sources, tokenizer=tmp_path)
    broken = tmp_path / "tokenizer.json"
    for content, message in (("{", "is not JSON"), ("[]", "is not a tokenizer")):
        broken.write_text(content)
        with pytest.raises(DataError, match=message):
            to_html(sources, tokenizer=broken)


def test_one_arm_alone_makes_a_page_without_comparisons(runs: Path) -> None:
    path = runs / "results" / "edge-rank-english.json"
    text = to_html(load_sources([path]))
    assert "There is one arm only" in text
    assert "g0-paired" not in text


def test_the_same_results_make_the_same_page(runs: Path) -> None:
    sources = load_sources([runs / "results" / "edge-rank-english.json"])
    assert to_html(sources) == to_html(sources)


@pytest.mark.usefixtures("without_figures")
def test_times_of_two_clocks_are_sorted_each_by_its_own(runs: Path, tmp_path: Path) -> None:
    def orders(page: Page) -> list[str | None]:
        values = [attrs.get("value") for tag, attrs in page.elements if tag == "option"]
        return [value for value in values if value and value.startswith("time")]

    one = Page(to_html(load_sources([runs / "results"])))
    assert orders(one) == ["time"]
    text = to_html(load_sources(two_clocks(tmp_path)))
    assert orders(Page(text)) == ["time:wall", "time:modelled: paper"]
    assert "Longest total time, clock: wall" in text
    clocks = [arm["clock"] for arm in Page(text).json("data")[0]["arms"]]
    assert set(clocks) == {"wall", "modelled: paper"}
