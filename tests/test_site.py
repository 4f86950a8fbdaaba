"""The site of ``docs``: every page has a place in it, what is generated is complete, its examples run, and the pages
of both languages say the same."""

from __future__ import annotations

import argparse
import contextlib
import re
import runpy
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

import edgecloud
from edgecloud import registry
from edgecloud.cli.main import command_line, main
from edgecloud.contracts import Commit
from edgecloud.decoding.gates import GATES
from edgecloud.edge.messages import Failed, Request, Response, Streamed
from edgecloud.experiments import system
from edgecloud.quality import METRICS
from edgecloud.quality.result import of_samples
from edgecloud.results.cost import Cost
from edgecloud.results.latency import Latency
from edgecloud.results.speculation import Speculation
from edgecloud.settings.config import Config
from edgecloud.settings.declaration import Mode
from edgecloud.settings.options import OPTIONS
from tests.experiments.scripted import ScriptedSystem
from tests.test_library import in_this_process

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE: dict[str, Any] = runpy.run_path(str(DOCS / "generated.py"))
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
MARKED = re.compile(r"<!-- (run|file: [\w.]+) -->\n```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def toctrees() -> list[str]:
    trees = re.findall(r"```\{toctree\}\n(?::[^\n]*\n)*\n(.*?)```", read("index.md"), re.DOTALL)
    return [f"{line}.md" for tree in trees for line in tree.split()]


def read(page: str) -> str:
    return (DOCS / page).read_text("utf-8")


def test_every_page_is_in_the_contents_once() -> None:
    placed = Counter(toctrees())
    missing = [page for page in PAGES if page != "index.md" and page not in placed]
    assert missing == [], (
        f"add {', '.join(missing)} (without .md) to a toctree of docs/index.md: guides, concepts, "
        "what was measured or reference"
    )
    assert [page for page, times in placed.items() if times > 1 or page not in PAGES] == []


def test_a_new_metric_is_on_the_page_of_definitions_by_itself() -> None:
    text = SITE["page"]("concepts/metrics", read("concepts/metrics.md"))

    @edgecloud.metric("overlap", labels={"english": "word overlap"}, tolerance=0.03)
    def overlap(hypotheses: Any, references: Any) -> Any:
        """``overlap``: what both have."""
        return of_samples("overlap", [0.0 for _ in hypotheses])

    its = METRICS["overlap"]
    METRICS._parts.pop("overlap")
    with METRICS.replaced("overlap", its):
        row = "| `overlap` | word overlap | 0..1 | higher | 0.03 | mean |"
        assert row in SITE["metrics"]()
        assert "`overlap`: what both have." in SITE["metrics"]()
    assert row not in text
    for metric in METRICS.values():
        for value in metric.values:
            assert f"`{value.key}`" in text, value.name
            assert f"| {value.label()} | {value.extent()} |" in text
    for kind in (Latency, Speculation, Cost):
        for name in kind.__dataclass_fields__:
            assert re.search(rf"`{name}\b", text), f"{name} is not in reports/README.md"


def test_every_command_and_option_is_in_the_reference() -> None:
    text = SITE["commands"]()
    (commands,) = (
        action.choices
        for action in command_line()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    assert [name for name in commands if f"\n### edgecloud {name}\n" not in f"\n{text}"] == []
    assert "| `--tls-cert` | `FILE` |" in text
    assert "### edgecloud baseline accept\n" in text
    takes_all = re.findall(r"### (edgecloud \w+)\n\n[^\n]*\n\nTakes every", text)
    assert takes_all == ["edgecloud caption", "edgecloud tune", "edgecloud certify"]
    assert "| `--hardware-profile`, " in text.partition("### edgecloud retime\n")[2]
    options = SITE["options"]()
    assert [o.name for o in OPTIONS if f"| `{o.flags[0]}` |" not in options] == []
    for flag in ("--config", "--preset", "--plugin"):
        assert f"| `{flag}` |" in options


def test_every_field_of_a_result_is_in_the_reference() -> None:
    text = SITE["schema"]()
    for kind in (Latency, Speculation, Cost):
        section = text.partition(f"### {kind.__name__}\n")[2].partition("\n### ")[0]
        assert [name for name in kind.__dataclass_fields__ if f"| `{name}` |" not in section] == []
    assert "| `status` | `ok`, `failed` |" in text


def test_every_public_name_is_in_the_reference() -> None:
    text = SITE["api"]()
    for name in edgecloud.__all__:
        assert name == "__version__" or f":: edgecloud.{name}\n" in text, name
    assert ".. autoclass:: edgecloud.errors.CloudTimeout" in text
    assert ".. autofunction:: edgecloud.testing.check_gate" in text


LINKS = {
    "[a](../CONTRIBUTING.md#a-gate)": "[a](../plug-ins.md#a-gate)",  # of which the site has a page
    "[a](tuning.md#goals)": "[a](../tuning.md#goals)",
    "[code](../edgecloud/models/decoder.py)": "[code](../../edgecloud/models/decoder.py)",
    "[words](../edgecloud/quality/words)": "words (`edgecloud/quality/words`)",
    "[card](../edgecloud/embedded/pair/MODEL_CARD.md)": "card (`edgecloud/embedded/pair/MODEL_CARD.md`)",
    "![plot](../reports/fleet.svg)": "![plot](../../reports/fleet.svg)",
    "[away](https://example.org)": "[away](https://example.org)",
    "```\n[a](../CONTRIBUTING.md)\n```": "```\n[a](../CONTRIBUTING.md)\n```",
}


@pytest.mark.parametrize("link", LINKS)
def test_links_of_a_page_that_is_taken_in_lead_somewhere_from_the_site(link: str) -> None:
    assert SITE["_relinked"](link, DOCS, DOCS / "reference") == LINKS[link]


def test_links_to_source_go_to_the_repository_where_one_is_known() -> None:
    relinked = SITE["_relinked"]
    known = {**relinked.__globals__, "_repository": lambda: "https://example.org/edgecloud"}
    there = type(relinked)(relinked.__code__, known, argdefs=relinked.__defaults__)
    assert there("[code](../edgecloud/errors.py)", DOCS, DOCS) == (
        "[code](https://example.org/edgecloud/blob/main/edgecloud/errors.py)"
    )


# --- examples


@pytest.fixture(scope="module")
def pair() -> Iterator[edgecloud.Pair]:
    with edgecloud.load_pair() as loaded:
        yield loaded


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: edgecloud.Pair) -> Iterator[Path]:
    """A folder with two recordings, in which experiments and captions are decoded in this process; what plug-ins
    bring is gone afterwards."""
    for name, sample in zip(
        "ab", edgecloud.samples(language="english", max_samples=2), strict=True
    ):
        shutil.copy(str(sample.audio_path), tmp_path / f"{name}.wav")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv(registry.PLUGINS_VARIABLE, "")
    in_this_process(monkeypatch, pair)

    class OfPair(ScriptedSystem):
        def __init__(self, mode: Mode, config: Config, **more: Any) -> None:
            super().__init__(mode, config, **more)
            self._config = config

        def caption(self, request: Request, on_commit: Any = None) -> Response | Failed:
            answer = pair.handler(self._mode, self._config).caption(request)
            if on_commit is not None and not isinstance(answer, Failed):
                commit = Commit(0.0, 0.0, answer.tokens, answer.origins)
                on_commit(Streamed((("edge", answer.text),), answer.text, commit))
            return answer

    monkeypatch.setattr(system, "System", OfPair)
    loaded, modules = {*registry._LOADED}, {*sys.modules}
    with GATES.replaced("always", GATES["always"]):
        yield tmp_path
    registry._LOADED &= loaded
    for name in {*sys.modules} - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def run(line: str) -> None:
    """A line of an example, in this process: a command, or a suite of ``pytest bench`` as the library has it."""
    program, *words = [
        word
        for each in shlex.split(line)
        for word in (sorted(map(str, Path().glob(each))) if "*" in each else [each])
    ]
    if program == "edgecloud":
        assert main(words) == 0, line
        return
    assert program == "pytest", line
    mode = re.fullmatch(r"bench/test_(edge|cloud|spec)\.py", words.pop(0))
    assert mode is not None, line
    assert len(words) % 2 == 0, line
    flags = dict(zip(words[::2], words[1::2], strict=True))
    settings = {flag.removeprefix("--").replace("-", "_"): value for flag, value in flags.items()}
    if plugin := settings.pop("plugin", None):
        registry.load_plugins([plugin])
    result = edgecloud.run(mode[1], **settings)
    assert result.metrics.num_failed == 0


DEAR = {"start.md": "the page of a report", "plug-ins.md": "a search for what breaks a law"}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.system if page in DEAR else ())
        for page in PAGES
        if MARKED.search(read(page)) and not page.endswith(".zh.md")
    ],
)
def test_the_examples_of_a_page_run(
    page: str, here: Path, pair: edgecloud.Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    waveform, _ = soundfile.read(here / "a.wav")
    names: dict[str, Any] = {"edgecloud": edgecloud, "pair": pair, "waveform": waveform}
    for what, language, text in MARKED.findall(read(page)):
        if what != "run":
            (here / what.removeprefix("file: ")).write_text(text, "utf-8")
        elif language == "python":
            exec(compile(text, page, "exec"), names)
        elif text.startswith("$ "):
            capsys.readouterr()
            command, _, shown = text.removeprefix("$ ").partition("\n")
            run(command)
            mine, theirs = capsys.readouterr().out.splitlines(), shown.splitlines()
            assert mine[0].endswith(theirs[0])
            assert mine[1] == theirs[1]  # the caption
            assert [re.sub(r"[\d.]+", "#", line) for line in (mine[2], theirs[2])] == [
                re.sub(r"[\d.]+", "#", theirs[2])
            ] * 2
        else:
            for line in text.splitlines():
                run(line)


def shown_commands(text: str) -> Iterator[str]:
    """Lines of the blocks of a page that call ``edgecloud`` or ``pytest bench``."""
    fence = ""
    for line in text.replace("\\\n", " ").splitlines():
        if found := re.match(r" *```(\w*)", line):
            fence = "" if fence else found[1] or "plain"
        elif fence in ("plain", "bash", "sh") or line.startswith("    "):
            command = re.sub(r"^\s*(?:\$ |[A-Z_]+=\S+ )*", "", line)
            if re.match(r"edgecloud [a-z]|pytest bench", command):
                yield command


ALL_PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
)


@pytest.mark.parametrize("page", [page for page in ALL_PAGES if page != "CHANGELOG.md"])
def test_commands_of_a_page_are_ones_that_there_are(
    page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = command_line()
    flags = {flag for option in OPTIONS for flag in option.flags}
    flags |= {"--config", "--preset", "--plugin"}
    for line in shown_commands((ROOT / page).read_text("utf-8")):
        words = shlex.split(line, comments=True)
        if words[0] == "pytest":
            own = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert {flag for flag in own - flags if not flag.startswith("--benchmark")} == set(), (
                line
            )
            continue
        words = [re.sub(r"\$\w+", "1", word) for word in words if word != "&"]
        with contextlib.suppress(SystemExit):
            parser.parse_args(words[1:])
        assert capsys.readouterr().err == "", line


# --- both languages

TWINS = {
    "README.md": "README.zh.md",
    "docs/start.md": "docs/start.zh.md",
    "docs/own-data.md": "docs/own-data.zh.md",
}


def sections(page: str) -> list[str]:
    found, fenced = [""], False
    for line in (ROOT / page).read_text("utf-8").splitlines(keepends=True):
        fenced ^= line.startswith("```")
        if not fenced and line.startswith("## "):
            found.append("")
        found[-1] += line
    return found


def blocks(text: str) -> list[str]:
    """Lines of code, without their comments and reasons."""
    found = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [
        re.sub(r"\s+#.*$", "", line).rstrip() for block in found for line in block.splitlines()
    ]
    return [re.sub(r'--reason ".*"', "--reason", line) for line in lines]


def told(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def links(text: str) -> set[str]:
    return {link.replace(".zh.md", ".md") for link in re.findall(r"\]\(([^)]+)\)", told(text))}


def numbers(text: str) -> set[str]:
    words = re.sub(r"\]\([^)]+\)|`[^`]*`", "", told(text))
    return {found.rstrip(",") for found in re.findall(r"\d[\d,]*(?:\.\d+)?", words)}


def names(text: str) -> set[str]:
    """What stands in code within sentences: options, files, fields; placeholders are words."""
    found = re.findall(r"`([^`]+)`", told(text))
    return {name for name in found if re.fullmatch(r"[\w./*-]*[\w*]", name) and name.isascii()}


@pytest.mark.parametrize("page", TWINS)
def test_the_chinese_page_says_what_the_english_one_says(page: str) -> None:
    ours, theirs = sections(page), sections(TWINS[page])
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        heading = mine.splitlines()[0]
        for what in (blocks, links, numbers, names):
            one, two = what(mine), what(other)
            if heading.startswith("# "):  # the first line leads to the other language
                two = type(two)(each.replace("README.zh", "README") for each in two)  # type: ignore[call-arg]
            assert one == two, f"{heading}: {what.__name__}"
