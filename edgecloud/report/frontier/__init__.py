"""A sweep's frontier for readers: tables, plots, CSV, and a written page that holds them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecloud.errors import OutputError
from edgecloud.experiments.targets import Verdict
from edgecloud.files import put
from edgecloud.report.frontier.page import notes, place_name, sections, updated
from edgecloud.report.frontier.plots import draw
from edgecloud.results.result_file import write_result

__all__ = ["write"]

Json = dict[str, Any]


def write(
    blocks: Sequence[Json],
    verdicts: Sequence[Verdict],
    folder: Path,
    *,
    page: Path | None = None,
) -> list[Path]:
    """Write ``frontier.json``, ``frontier.csv``, ``tables.md`` and a plot for each place into ``folder``,
    and the tables into ``page``, whose own words stay. Returns the paths.

    Raises:
        OutputError: something cannot be written, or the page has no such marks.
    """
    tables = sections(blocks, verdicts)
    everything = "\n\n".join(f"## {name}\n\n{table}" for name, table in tables.items())
    texts = {
        folder / "frontier.csv": _csv(blocks),
        folder / "tables.md": everything + "\n",
        **{folder / f"{place_name(block)}.svg": draw(block) for block in blocks},
    }
    if page is not None:
        texts[page] = updated(page, tables)
    written = [write_result(folder / "frontier.json", {"places": list(blocks)}, flag="-o")]
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            put(path, text.encode())
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        written.append(path)
    return written


_COLUMNS = ("total_s", "ttft_s", "busy_s", "tokens", "cider", "calls", "cloud_token_share")
_TRUTH = "attribute_accuracy"
_TRUTH_GAP = "attribute_gap_closed"
"""The last columns: what files of earlier versions did not have."""
_RATIOS = ("time", "busy", "ttft", "gap_closed")


def _csv(blocks: Sequence[Json]) -> str:
    """A line for each policy and for edge and cloud alone."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    places = ("language", "prompt_type", "hardware_profile", "link")
    ends = [f"{name}{end}" for name in _RATIOS for end in ("", "_low", "_high")]
    last = [f"{_TRUTH_GAP}{end}" for end in ("", "_low", "_high")]
    writer.writerow(
        [*places, "policy", "role", *_COLUMNS, *ends, "above_bound", "notes", _TRUTH, *last]
    )
    for block in blocks:
        place = [block[name] for name in places]
        for alone in ("edge", "cloud"):
            values = [block[alone].get(name) for name in _COLUMNS]
            none = [None] * (len(ends) + 2)
            truth = [block[alone][_TRUTH], None, None, None]
            writer.writerow([*place, alone, "alone", *values, *none, *truth])
        for row in block["rows"]:
            values = [row[name] for name in _COLUMNS]
            intervals = [value for name in _RATIOS for value in _ends(row[name])]
            said = [row["above_bound"], "; ".join(notes(row))]
            truth = [row[_TRUTH], *_ends(row[_TRUTH_GAP])]
            writer.writerow([*place, row["name"], row["role"], *values, *intervals, *said, *truth])
    return buffer.getvalue()


def _ends(interval: Mapping[str, Any] | None) -> tuple[Any, Any, Any]:
    if interval is None:
        return None, None, None
    return interval["estimate"], interval["low"], interval["high"]
