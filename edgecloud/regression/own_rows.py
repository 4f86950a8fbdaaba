"""What rows of our own suites say besides their times, in the ``extra_info`` of pytest-benchmark's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgecloud.errors import DataError
from edgecloud.jsontypes import Mismatch, read
from edgecloud.regression.fields import Fields, flatten
from edgecloud.regression.model import Benchmark
from edgecloud.regression.result_rows import by_content, experiment_settings, machine, scores_of
from edgecloud.results.result import Environment

__all__ = ["of_our_own"]


def of_our_own(plain: Benchmark, row: Fields, info: Fields) -> Benchmark:
    """The benchmark of a row with what ours say: ``plain`` is what any project's row gives.

    Raises:
        DataError: a field is missing or of the wrong type.
    """
    config = info.optional("experiment_config").content
    models = flatten(info.optional("models").content)
    failed, degraded = (_some(info, key) for key in ("failed_ids", "degraded_ids"))
    # Of the corpus: these files keep no scores of samples.
    scored = row.content.get("group") == "total_time"
    return replace(
        plain,
        modelled=config.get("clock") == "modelled",
        scores=scores_of(info.optional("quality").maybe_number, lambda _: {}) if scored else {},
        samples=(*info.texts("sample_ids"), *failed),
        failed=failed,
        degraded=degraded,
        identity=_identity(plain.identity, info, models),
        environment={**plain.environment, **machine(_environment(info), models)},
        provenance={**plain.provenance, "load_average": info.content.get("load_average")},
    )


def _some(info: Fields, key: str) -> tuple[str, ...]:
    return info.texts(key) if key in info.content else ()


def _environment(info: Fields) -> Environment:
    found = info.optional("environment")
    try:
        return read(Environment, found.content)
    except Mismatch as error:
        raise DataError(f"{found.where}: {error}; the file is broken, make it again") from None


def _identity(
    plain: Mapping[str, Mapping[str, Any]], info: Fields, models: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    config = info.mapping("experiment_config").content
    data = info.optional("data").content
    hardware = dict(plain["hardware"])
    if config.get("clock") == "modelled":
        hardware = {"profile": config.get("hardware_profile")}
    else:
        hardware["limits"] = info.optional("limits").content.get("summary")
    settings = experiment_settings({**config, "mode": info.text("mode")})
    return {
        "data": {key: data.get(key) for key in ("sha256", "samples")},
        "models": by_content(models),
        "settings": {**plain["settings"], **settings},
        "hardware": hardware,
    }
