"""The site, as ``tox -e docs`` builds it: without a warning, without the network, with every link in place."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

pytest.importorskip("furo", reason="the extra docs is not installed")

ROOT = Path(__file__).parents[2]
OFFLINE = (
    "import socket, sys; from sphinx.cmd.build import main\n"
    "def refuse(*_): raise OSError('the build asked for the network')\n"
    "socket.socket.connect = socket.getaddrinfo = refuse\n"
    "sys.exit(main(sys.argv[1:]))"
)


class Page(HTMLParser):
    """What a page loads, what it links to, and the places in it that may be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.language = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.places.add(found.get("id", ""))
        if tag == "html":
            self.language = found.get("lang", "")
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") in ("stylesheet", "preload", "icon"):
            self.loads.append(found["href"])
        elif "src" in found:
            self.loads.append(found["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [
            *(sys.executable, "-c", OFFLINE, "-W", "--keep-going", "-E", "-q", "-b", "html"),
            *("-d", str(folder / "trees"), str(ROOT / "docs"), str(folder / "html")),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) > len([*(ROOT / "docs").rglob("*.md")])
    broken = []
    for path, page in pages.items():
        assert [url for url in page.loads if re.match(r"(https?:)?//", url)] == []
        for link in [*page.links, *page.loads]:
            if re.match(r"(https?|mailto|data):", link):
                continue
            name, _, place = unquote(link).partition("#")
            to = (path.parent / name.partition("?")[0]).resolve() if name else path
            if not to.exists() or (place and to in pages and place not in pages[to].places):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []
    assert {page.language for page in pages.values()} == {"en", "zh-CN"}
    assert pages[site / "start.zh.html"].language == "zh-CN"


def test_no_style_fetches_a_font(site: Path) -> None:
    for path in site.rglob("*.css"):
        assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", path.read_text("utf-8")), path
