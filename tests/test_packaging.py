"""What is installed, and what is said of it: the wheel holds every file of the package, weights and
recordings included; the guides name what there is, alike in both languages."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "edgecloud"], capture_output=True, text=True
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    tracked = {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}
    assert tracked - packed == set()
    assert {name.split("/")[0].split("-")[0] for name in packed} == {"edgecloud"}


@pytest.mark.parametrize(
    "guide",
    ["README.md", "README.zh.md", "CONTRIBUTING.md", "docs/cluster.md", "docs/experiments.md"],
)
def test_files_that_a_guide_names_are_there(guide: str) -> None:
    text = (ROOT / guide).read_text(encoding="utf-8")
    named = re.findall(
        r"\b(?:edgecloud|tests|bench|docs)/[\w./-]+\.(?:py|md|toml|yaml|json|sh)\b", text
    )
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_guides_say_the_same_commands_and_options_in_both_languages() -> None:
    english, chinese = (
        "\n".join(
            (ROOT / f"{page}{ending}").read_text(encoding="utf-8")
            for page in ("README", "docs/experiments")
        )
        for ending in (".md", ".zh.md")
    )
    for pattern in (r"`(pytest bench[^`]*)`", r"^\| `(--[^|]*)` \|", r"python -m tox[^#`\n]*"):
        ours, theirs = (
            [
                re.sub(r"[`、,\s]+", " ", found).strip()
                for found in re.findall(pattern, text, re.MULTILINE)
            ]
            for text in (english, chinese)
        )
        assert ours
        assert ours == theirs


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda page: page.name
)
def test_links_of_a_page_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
