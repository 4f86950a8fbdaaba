"""pytest-benchmark's files as benchmarks: plain ones of any project, and ours with ``extra_info``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecloud.errors import DataError
from edgecloud.regression.fields import Fields, unique
from edgecloud.regression.model import Benchmark, Scores, Series, Summary

__all__ = ["TIME", "from_plugin_file"]

TIME = "time"
"""The one quantity of a row."""

_MACHINE = ("machine", "system")
_CPU = ("brand_raw", "arch", "count", "hz_advertised_friendly")
_OPTIONS = ("disable_gc", "warmup")


def from_plugin_file(content: Mapping[str, Any], path: Path) -> list[Benchmark]:
    """One benchmark a row, under the row's full name.

    Raises:
        DataError: no rows, two of one name, or a field that is missing or of the wrong type.
    """
    whole = Fields(content, str(path))
    rows = whole.rows("benchmarks")
    if not rows:
        raise DataError(f"{path} holds no benchmarks; run them again with --benchmark-json")
    unique((row.text("fullname") for row in rows), str(path))
    infos = {row.text("fullname"): row.optional("extra_info") for row in rows}
    return [_benchmark(row, _info(row, infos), whole) for row in rows]


def _info(row: Fields, infos: Mapping[str, Fields]) -> Fields:
    """A row's ``extra_info``, over that of the row it was derived from: our row ``test_spec_ttft[…]``
    of group ``ttft`` belongs to ``test_spec[…]``."""
    own = row.optional("extra_info")
    if "sample_ids" not in own.content:
        return own
    group = row.content.get("group")
    parent = infos.get(row.text("fullname").replace(f"_{group}[", "["))
    return own if parent is None else Fields({**parent.content, **own.content}, own.where)


def _benchmark(row: Fields, info: Fields, whole: Fields) -> Benchmark:
    plain = Benchmark(
        name=row.text("fullname"),
        kind="pytest-benchmark",
        source=Path(whole.where),
        modelled=False,
        times={},
        problem=_problem(info),
        identity=_identity(row, whole),
        environment=_circumstances(row, whole),
        provenance={
            "started_at": whole.content.get("datetime"),
            "commit": whole.optional("commit_info").content.get("id"),
            "dirty": whole.optional("commit_info").content.get("dirty"),
            "load_average": None,
        },
    )
    if "experiment_config" in info.content and "sample_ids" in info.content:
        from edgecloud.regression.own_rows import of_our_own  # imports results, settings, metrics

        found = of_our_own(plain, row, info)
        return replace(found, times={TIME: _time(row, info.texts("sample_ids"))})
    ids = _others_ids(row)
    return replace(
        plain, times={TIME: _time(row, ids)}, scores=_others_scores(info), samples=ids or ()
    )


def _problem(info: Fields) -> str | None:
    outcome = info.content.get("outcome")
    return outcome if isinstance(outcome, str) and outcome.startswith("failed") else None


def _circumstances(row: Fields, whole: Fields) -> dict[str, Any]:
    """Circumstances that make the same code faster or slower; told where they differ."""
    interpreter = whole.optional("machine_info").content
    options = row.optional("options").content
    return {
        "versions.python": interpreter.get("python_version"),
        "versions.python_implementation": interpreter.get("python_implementation"),
        **{f"options.{name}": options[name] for name in _OPTIONS if name in options},
    }


def _others_scores(info: Fields) -> dict[str, Scores]:
    """What a row of any project says of quality: the numbers in ``extra_info["quality"]``, by name."""
    found = info.content.get("quality")
    if not isinstance(found, dict):
        return {}
    own = Fields(found, info.where)
    numbers = [name for name, value in found.items() if type(value) in (int, float)]
    return {name: Scores(own.number(name)) for name in numbers}


def _others_ids(row: Fields) -> tuple[str, ...] | None:
    """Rows of any project pair when they name a sample a round as ours do; else they have no ids."""
    ids = row.optional("extra_info").content.get("sample_ids")
    data = row.mapping("stats").content.get("data")
    if not isinstance(ids, list) or not isinstance(data, list) or len(ids) != len(data):
        return None
    if not all(isinstance(name, str) for name in ids) or len(set(ids)) != len(ids):
        return None
    return tuple(ids)


def _time(row: Fields, ids: tuple[str, ...] | None) -> Series | Summary:
    stats = row.mapping("stats")
    if not stats.content.get("data"):
        summary = Summary(stats.number("median"), stats.number("iqr"), int(stats.number("rounds")))
        if min(summary.median, summary.iqr) < 0 or summary.n < 1:
            raise DataError(f"{stats.where}: a time is negative; the file is broken")
        return summary
    values = stats.numbers("data")
    if min(values) < 0:
        raise DataError(f"{stats.where}: a time is negative; the file is broken")
    if ids is not None and len(ids) != len(values):
        raise DataError(
            f"{stats.where}: {len(values)} times of {len(ids)} samples; the file is broken"
        )
    return Series(values, ids)


def _identity(row: Fields, whole: Fields) -> dict[str, Mapping[str, Any]]:
    plugin_machine = whole.optional("machine_info")
    hardware = {name: plugin_machine.content.get(name) for name in _MACHINE}
    cpu = plugin_machine.optional("cpu").content
    hardware.update({f"cpu.{name}": cpu.get(name) for name in _CPU})
    options = row.optional("options").content
    settings = {"timer": options.get("timer"), "group": row.content.get("group")}
    return {"settings": settings, "hardware": hardware}
