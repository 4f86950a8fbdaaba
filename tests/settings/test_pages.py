"""Tables of options are written from the declarations, and the printed file of settings is read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecloud.cli.main import main
from edgecloud.decoding.gates import GATES
from edgecloud.errors import ConfigError
from edgecloud.settings.config import load_file, resolve
from edgecloud.settings.options import OPTIONS
from edgecloud.settings.pages import as_yaml, with_tables

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    if "<!-- options " in page.read_text("utf-8")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_of_a_page_are_those_of_the_declarations(page: Path) -> None:
    text = page.read_text("utf-8")
    assert with_tables(text) == text, f"run: edgecloud settings --tables {page.relative_to(ROOT)}"


def test_both_languages_show_the_same_options() -> None:
    assert [page.name for page in PAGES] == ["experiments.md", "experiments.zh.md"]
    one, other = (page.read_text("utf-8").partition("<!-- options ")[2] for page in PAGES)
    assert one.partition("-->")[0][2:] == other.partition("-->")[0][2:]


def test_the_printed_file_holds_every_default_and_is_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["settings"]) == 0
    printed = capsys.readouterr().out
    assert printed == as_yaml()
    file = tmp_path / "settings.yaml"
    file.write_text(printed, encoding="utf-8")
    assert load_file(file) == {option.name: option.default for option in OPTIONS}
    assert resolve(file=file) == resolve()


def test_a_table_is_written_anew_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- options en: k\nlogprob_threshold -->\nold\n<!-- /options -->\nafter\n"
    )
    with GATES.replaced("mine", lambda *_: True):
        assert main(["settings", "--tables", str(page)]) == 0
    lines = page.read_text("utf-8").splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert lines[3:-2] == [
        "| option | values | default | meaning |",
        "|---|---|---|---|",
        "| `--k` | 1…64 | `3` | draft tokens per round |",
        "| `--logprob-threshold` | …0 | `-2.0` | logprob gate, nats: ask when a token is less likely |",
    ]
    with pytest.raises(ConfigError, match="names nothing, which is no setting"):
        with_tables("<!-- options zh: nothing -->\n<!-- /options -->")
