"""The page in a real browser: Chromium, without a network."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgecloud.report.html.page import to_html
from edgecloud.report.sources import load_sources
from tests.report.chromium import BROWSERS, Chromium, find
from tests.report.pages import change, two_clocks, write_manifest, write_runs, write_tokenizer

EXECUTABLE = find()
pytestmark = [
    pytest.mark.skipif(EXECUTABLE is None, reason=f"no browser: none of {', '.join(BROWSERS)}"),
    pytest.mark.skipif(os.name != "posix", reason="the browser is driven over POSIX descriptors"),
]
LIMIT_S = 3.0
SAMPLES = 600
SHOWN = "document.getElementById('count').textContent"


@dataclass(frozen=True)
class Pages:
    large: Path
    english: Path
    chinese: Path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    assert EXECUTABLE is not None
    with Chromium(EXECUTABLE, tmp_path_factory.mktemp("profile")) as running:
        yield running


LOST = {"at_s": 1.0, "error": "CloudTimeout", "reason": "the cloud did not answer in time"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """A page of 600 samples, and small ones of both languages with sound and every sort of sample."""
    folder = tmp_path_factory.mktemp("pages")
    tokenizer = write_tokenizer(folder / "tokenizer")
    large = write_runs(folder / "large", SAMPLES)
    manifest = str(write_manifest(folder / "data", 8))
    for language in ("english", "chinese"):
        small = write_runs(folder / "small", 8, language=language, dataset_path=manifest)
        evil = "</script><img src=x onerror=document.title='no'> a rare word"
        for path in small.glob(f"*-{language}.json"):
            lost = LOST if path.stem.startswith("spec-exact") else None
            change(path, reference_captions=[evil], degraded=lost)
    made = Pages(folder / "large.html", folder / "en.html", folder / "zh.html")
    large_page = to_html(load_sources([large]), tokenizer=tokenizer)
    made.large.write_text(large_page, encoding="utf-8")
    sources = load_sources([small])
    for path, ui in ((made.english, "en"), (made.chinese, "zh")):
        page = to_html(sources, language=ui, embed_audio=True, tokenizer=tokenizer)  # type: ignore[arg-type]
        path.write_text(page, encoding="utf-8")
    return made


@pytest.fixture
def page(browser: Chromium, pages: Pages) -> Chromium:
    """The small English page, freshly opened on a screen of 1280 by 900."""
    browser.media()
    browser.size(1280, 900)
    browser.open(pages.english)
    return browser


def choose(browser: Chromium, **values: Any) -> str:
    """Set fields of the filters as a person would; the line that counts what is shown."""
    browser.run(
        f"""for (const [name, value] of Object.entries({json.dumps(values)})) {{
            const field = document.getElementById("filters").elements[name];
            field.value = value;
            field.dispatchEvent(new Event("input", {{ bubbles: true }}));
        }}"""
    )
    return str(browser.run(SHOWN))


@pytest.mark.alone
def test_600_samples_open_in_time_and_in_few_megabytes(browser: Chromium, pages: Pages) -> None:
    assert pages.large.stat().st_size < 20e6
    browser.size(1280, 900)
    browser.open(pages.large)
    assert browser.run("document.documentElement.dataset.ready") == "true"
    took = browser.run("performance.getEntriesByType('navigation')[0].loadEventEnd / 1000")
    assert took < LIMIT_S
    assert browser.run(SHOWN) == f"{SAMPLES} of {SAMPLES} samples"
    assert choose(browser, text="s599") == f"1 of {SAMPLES} samples"


def test_nothing_is_fetched_and_nothing_complains(browser: Chromium, pages: Pages) -> None:
    for path in (pages.english, pages.chinese, pages.large):
        browser.open(path)
        browser.run("document.getElementById('more').click()")
        assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []
        assert browser.messages == []


def test_captions_are_shown_as_text_whatever_they_hold(page: Chromium) -> None:
    assert page.run("document.title").startswith("Edge–cloud")
    assert page.run("document.querySelectorAll('main img').length") == 0
    assert "onerror" in page.run("document.querySelector('.refs').textContent")


def test_the_explorer_finds_text_in_captions_references_and_ids(page: Chromium) -> None:
    assert choose(page, text="RARE WORD") == "2 of 16 samples"
    assert choose(page, text="s003") == "2 of 16 samples"
    assert choose(page, text="no such words") == "No sample fits these filters."
    page.run("document.querySelector('#filters [type=reset]').click()")
    page.run("new Promise((done) => setTimeout(done, 50))")
    assert page.run(SHOWN) == "16 of 16 samples"


def test_the_explorer_filters_by_language_status_and_origin(page: Chromium) -> None:
    assert choose(page, group="0") == "8 of 16 samples"
    assert choose(page, group="", status="failed") == "2 of 16 samples"
    assert choose(page, status="degraded") == "2 of 16 samples"
    everything = choose(page, status="all", origin="c", least="0")
    some = choose(page, least="20")
    none = choose(page, least="100")
    counts = [int(line.split()[0]) if line[0].isdigit() else 0 for line in (everything, some, none)]
    assert counts == sorted(counts, reverse=True)
    assert 0 < counts[1] < 16
    assert counts[2] == 0


def test_failed_samples_say_why(page: Chromium) -> None:
    choose(page, status="failed")
    assert "not audio" in page.run("document.querySelector('.bad').textContent")


def test_sorting_puts_the_slowest_first(page: Chromium) -> None:
    choose(page, sort="time")
    first = page.run("document.querySelector('#cards .sample h4').textContent")
    data = page.run("JSON.parse(document.getElementById('data').textContent)")
    slowest = max(
        (sample for group in data for sample in group["samples"]),
        key=lambda sample: max((its or {}).get("t") or 0 for its in sample["a"]),
    )
    assert first == slowest["id"]


@pytest.mark.usefixtures("without_figures")
def test_the_longest_total_time_is_that_of_one_clock(browser: Chromium, tmp_path: Path) -> None:
    path = tmp_path / "clocks.html"
    path.write_text(to_html(load_sources(two_clocks(tmp_path))), encoding="utf-8")
    browser.open(path)
    for clock, slowest in (("wall", "s003"), ("modelled: paper", "s005")):
        choose(browser, sort=f"time:{clock}")
        first = browser.run("document.querySelector('#cards .sample h4').textContent")
        assert first == slowest


def test_a_recording_plays(page: Chromium) -> None:
    script = """new Promise((done, fail) => {
        const audio = document.querySelector("audio");
        audio.addEventListener("timeupdate", () => audio.currentTime > 0 && done(audio.duration));
        audio.addEventListener("error", () => fail(audio.error.message));
        audio.play().catch(fail);
    })"""
    assert page.run(script) == pytest.approx(0.2, abs=0.05)
    assert page.run("document.querySelector('audio').getAttribute('aria-label')") == "Play s000"


def test_arrow_keys_go_from_token_to_token_and_say_who_chose_it(page: Chromium) -> None:
    page.run("document.querySelectorAll('.caption')[1].focus()")
    said = []
    for _ in range(4):
        page.press("ArrowRight")
        said.append(page.run("document.getElementById('tip').textContent"))
    assert page.run("document.querySelector('.t.at').dataset.index") == "3"
    assert any("entropy" in text and "nats" in text for text in said)
    page.press("Escape")
    assert page.run("document.getElementById('tip').hidden")


def test_hovering_a_correction_tells_what_it_replaced(page: Chromium) -> None:
    page.run(
        """document.querySelector(".caption .o-c").dispatchEvent(
            new PointerEvent("pointerover", { bubbles: true, pointerType: "mouse" }))"""
    )
    text = page.run("document.getElementById('tip').textContent")
    assert "in place of a rejected draft" in text
    assert "the edge proposed" in text


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_is_the_systems_until_it_is_chosen(page: Chromium, theme: str) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    colors = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 22, 26)"}
    other = {"light": "dark", "dark": "light"}[theme]
    page.media(prefers_color_scheme=theme)
    assert page.run(ground) == colors[theme]
    page.run(f"document.querySelector('[data-theme-choice={other}]').click()")
    assert page.run(ground) == colors[other]
    pressed = "document.querySelector('[data-theme-choice][aria-pressed=true]').textContent"
    assert page.run(pressed).lower() == other
    stroke = "getComputedStyle(document.querySelector('#figures svg text')).fill"
    light = page.run(stroke)
    page.run("document.querySelector('[data-theme-choice=auto]').click()")
    assert page.run(stroke) != light


def test_paper_is_white_whatever_the_screen(page: Chromium) -> None:
    page.media(media="print", prefers_color_scheme="dark")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.run("getComputedStyle(document.querySelector('.filters')).display") == "none"


@pytest.mark.parametrize("language", ["english", "chinese"])
def test_a_phone_needs_no_sideways_scrolling(
    browser: Chromium, pages: Pages, language: str
) -> None:
    browser.media()
    browser.size(360, 740, mobile=True)
    browser.open(getattr(pages, language))
    assert browser.run("document.documentElement.scrollWidth") <= 360
    inside = "(box) => box.getBoundingClientRect().right <= innerWidth"
    fields = "[...document.querySelectorAll('.filters input, .filters select, audio')]"
    assert browser.run(f"{fields}.every({inside})")


def test_a_figure_is_saved_in_light_colours_of_its_own(page: Chromium) -> None:
    script = """new Promise((done) => {
        URL.createObjectURL = (blob) => { blob.text().then(done); return "#"; };
        document.querySelector("[data-svg]").click();
    })"""
    svg = page.run(script)
    assert svg.startswith("<svg")
    assert 'xmlns="http://www.w3.org/2000/svg"' in svg
    assert "var(" not in svg


def test_the_shown_samples_are_saved_as_csv(page: Chromium) -> None:
    choose(page, text="s003")
    script = """new Promise((done) => {
        URL.createObjectURL = (blob) => { blob.text().then(done); return "#"; };
        document.getElementById("samples-csv").click();
    })"""
    lines = page.run(script).splitlines()
    assert len(lines) == 1 + 2 * 4
    assert lines[1].startswith('"s003"')


def test_filtering_600_samples_is_quick(browser: Chromium, pages: Pages) -> None:
    browser.size(1280, 900)
    browser.open(pages.large)
    start = time.perf_counter()
    assert choose(browser, origin="c", least="30").endswith(f"of {SAMPLES} samples")
    assert time.perf_counter() - start < LIMIT_S


def test_a_series_that_is_not_chosen_is_nowhere_to_be_seen(page: Chromium) -> None:
    seen = """[...document.querySelectorAll(".arm-2")].filter(
        (node) => node.getClientRects().length && !node.closest("details:not([open])")).length"""
    cards = "document.querySelectorAll('.sample')[0].querySelectorAll('.arm').length"
    before, shown = page.run(seen), page.run(cards)
    assert before > 10
    page.run("document.querySelector('.choose input[value=\"2\"]').click()")
    assert page.run(
        "[...document.querySelectorAll('[data-group=\"0\"] .arm-2')].every((n) => !n.getClientRects().length)"
    )
    assert page.run(cards) == shown - 1
    page.run("document.querySelector('.choose button').click()")
    assert (page.run(seen), page.run(cards)) == (before, shown)


def test_where_series_are_hidden_rows_close_up_and_the_scale_and_what_is_read_out_follow(
    page: Chromium,
) -> None:
    figure = "document.getElementById('g0-histogram-total_time').firstElementChild"
    height = f"{figure}.viewBox.baseVal.height"
    scale = f"[...{figure}.querySelectorAll('text')].find((t) => t.textContent === 'seconds (log scale)')"
    under = f"{figure}.getBoundingClientRect().bottom - {scale}.getBoundingClientRect().bottom"
    before, pitch, space = page.run(height), page.run(f"+{figure}.dataset.pitch"), page.run(under)
    for number in (2, 4):
        page.run(f"document.querySelector('.choose input[value=\"{number}\"]').click()")
    assert page.run(height) == pytest.approx(before - 2 * pitch)
    assert page.run(under) == pytest.approx(space, abs=1)
    said = page.run(f"{figure}.querySelector('desc').textContent")
    assert "edge: p50" in said
    assert "spec exact: p50" in said
    assert "spec rank" not in said
    assert "cloud" not in said
    saved = """new Promise((done) => {
        URL.createObjectURL = (blob) => { blob.text().then(done); return "#"; };
        document.querySelector("%s").click();
    })"""
    svg = page.run(saved % "[data-svg=g0-histogram-total_time]")
    assert "spec exact" in svg
    assert "spec rank" not in svg
    lines = page.run(saved % "#samples-csv").splitlines()
    assert sum('"spec rank"' in line for line in lines) == 8  # those of the other group
    page.run("document.querySelector('.choose [data-shown=none]').click()")
    assert page.run(f"{figure}.getClientRects().length") == 0
    page.run("document.querySelector('.choose [data-shown=all]').click()")
    assert page.run(height) == pytest.approx(before)
    assert "cloud: p50" in page.run(f"{figure}.querySelector('desc').textContent")


def test_samples_are_sorted_and_found_by_the_series_that_are_shown(page: Chromium) -> None:
    choose(page, group="0", status="failed")
    assert page.run(SHOWN) == "1 of 16 samples"
    page.run("document.querySelector('.choose input[value=\"1\"]').click()")
    assert page.run(SHOWN) == "No sample fits these filters."


def test_the_cloud_column_stays_in_sight_on_a_phone(page: Chromium) -> None:
    page.size(390, 844, mobile=True)
    right = page.run(
        """(() => { const box = document.querySelector("#comparison .scroll");
        const last = box.querySelector("thead th:last-child").getBoundingClientRect();
        return [last.right, last.width, box.scrollWidth > box.clientWidth]; })()"""
    )
    assert right[0] <= 390
    assert 0 < right[1] < 160
    assert right[2]
