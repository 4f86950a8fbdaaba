"""Files and folders into benchmarks, whichever of the three kinds they are."""

from __future__ import annotations

from pathlib import Path

from edgecloud.errors import DataError
from edgecloud.regression.compact import from_baseline
from edgecloud.regression.fields import read_json
from edgecloud.regression.model import Benchmark
from edgecloud.regression.plugin_rows import from_plugin_file
from edgecloud.textfiles import json_files

__all__ = ["read"]


def read(path: Path) -> list[Benchmark]:
    """The benchmarks in a file, or in every ``*.json`` of a folder.

    Raises:
        DataError: it does not exist, is empty, or any file is broken or of an older schema.
    """
    if not path.is_dir():
        return _read_file(path)
    files = json_files(path)
    if not files:
        raise DataError(f"{path} holds no *.json; name a file, or a folder of results or baselines")
    return [benchmark for file in files for benchmark in _read_file(file)]


def _read_file(path: Path) -> list[Benchmark]:
    content = read_json(path)
    schema = content.get("schema")
    if isinstance(schema, str) and schema.startswith("edgecloud-baseline/"):
        return [from_baseline(content, path)]
    if isinstance(schema, str) and schema.startswith("edgecloud-result/"):
        from edgecloud.regression.result_rows import from_result  # imports all of our results

        return [from_result(content, path)]
    if schema is None and "benchmarks" in content:
        return from_plugin_file(content, path)
    found = "none" if schema is None else repr(schema)
    raise DataError(
        f"{path} is neither a result, a baseline nor a pytest-benchmark file (schema: {found})"
    )
