"""``edgecloud report``: results as a page, markdown or CSV."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``edgecloud report`` to ``commands``, the subparsers of the command line."""
    report = commands.add_parser(
        "report",
        help="results as a page to look at, as markdown or CSV",
        description="One self-contained HTML page of results (or markdown, or CSV). A folder stands "
        "for its *.json. Journals beside the results give timelines and entropies.",
    )
    report.add_argument("results", nargs="+", type=Path, metavar="RESULT")
    report.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="default: report.html; '-' for the terminal",
    )
    report.add_argument("--format", choices=("html", "markdown", "csv"), default="html")
    report.add_argument("--language", choices=("en", "zh"), default="en", help="of the report")
    report.add_argument(
        "--embed-audio",
        action="store_true",
        help="put recordings into the page (those of the embedded corpus always are)",
    )
    report.add_argument(
        "--journals", type=Path, metavar="DIR", help="default: journals/ beside the results' folder"
    )
    report.add_argument(
        "--tokenizer",
        type=Path,
        metavar="PATH",
        help="checkpoint folder or tokenizer.json, when the models' own are not where they were",
    )
    report.set_defaults(command=_report)


def _report(parsed: argparse.Namespace) -> int:
    text, count = _render(parsed)
    output = parsed.output or Path("report.html" if parsed.format == "html" else "-")
    if str(output) == "-":
        sys.stdout.write(text)
        return 0
    _write(output, text)
    print(f"{output}: {count} results, {output.stat().st_size / 1e6:.1f} MB")
    return 0


def _render(parsed: argparse.Namespace) -> tuple[str, int]:
    """The report, and of how many results it is."""
    from edgecloud.errors import ConfigError
    from edgecloud.report.loading import load_results

    if parsed.format == "csv":
        from edgecloud.report.csv import to_csv

        results = load_results(parsed.results)
        return to_csv(results), len(results)
    if parsed.format == "markdown":
        from edgecloud.report.markdown import to_markdown

        results = load_results(parsed.results)
        return to_markdown(results, language=parsed.language), len(results)
    try:
        from edgecloud.report.html.page import to_html
    except ModuleNotFoundError as error:
        if error.name not in ("jinja2", "markupsafe", "matplotlib"):
            raise
        raise ConfigError(
            f"the page needs {error.name}: pip install 'edgecloud[report]'"
        ) from error
    from edgecloud.report.sources import load_sources

    sources = load_sources(parsed.results, journals=parsed.journals)
    text = to_html(
        sources,
        language=parsed.language,
        embed_audio=parsed.embed_audio,
        tokenizer=parsed.tokenizer,
    )
    return text, len(sources)


def _write(output: Path, text: str) -> None:
    from edgecloud.errors import OutputError

    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(
            f"cannot write the report {output}: {error.strerror or error}; choose another --output"
        ) from error
