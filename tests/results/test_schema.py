"""The JSON Schema of a result: in step with the types, and true of real files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edgecloud.results.result import Result, of_content, result_schema
from edgecloud.results.result_file import build_result
from tests.results.synthetic import FakeOutcome, FakeScores

ROOT = Path(__file__).parents[2]
SCHEMA_FILE = ROOT / "reports" / "result.schema.json"
EARLIER = sorted((ROOT / "tests" / "earlier" / "results").glob("*.json"))


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    content = json.loads(SCHEMA_FILE.read_text("utf-8"))
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


def built(mode: str, **flags: Any) -> dict[str, Any]:
    outcome = FakeOutcome(mode, 4, bad=(1,), **flags)
    content = build_result(outcome, FakeScores(outcome), environment={}, run_block={}).to_json()
    return json.loads(json.dumps(content))  # type: ignore[no-any-return]


def test_the_file_is_what_the_types_say() -> None:
    written = json.loads(SCHEMA_FILE.read_text("utf-8"))
    assert written == result_schema(), (
        'write it again: python -c "import json; from edgecloud.results.result import result_schema; '
        'print(json.dumps(result_schema(), indent=1))" > reports/result.schema.json'
    )


@pytest.mark.parametrize("path", EARLIER, ids=lambda path: path.stem)
def test_earlier_results_are_valid_and_lose_nothing_when_read(
    path: Path, validator: Draft202012Validator
) -> None:
    content = json.loads(path.read_text("utf-8"))
    validator.validate(content)
    assert lost(content, of_content(content, path).to_json()) == []


def lost(before: Any, after: Any, where: str = "") -> list[str]:
    """Places whose value is another one, or gone."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            place
            for key, value in before.items()
            for place in (lost(value, after[key], f"{where}.{key}") if key in after else [key])
        ]
    return [] if json.dumps(before) == json.dumps(after) or isinstance(before, list) else [where]


@pytest.mark.parametrize("mode", ["edge", "cloud", "spec"])
def test_results_of_now_are_valid_and_read_as_they_were_written(
    mode: str, validator: Draft202012Validator
) -> None:
    content = built(mode)
    validator.validate(content)
    again = Result.from_json(content)
    assert json.dumps(again.to_json()) == json.dumps(content)
    assert [sample.file_id for sample in again.completed] == ["s000", "s002", "s003"]


BROKEN: list[tuple[tuple[Any, ...], Any]] = [
    (("schema",), "edgecloud-result/2"),
    (("experiment_config", "language"), "klingon"),
    (("metrics", "num_samples"), -1),
    (("metrics", "cider"), "good"),
    (("metrics", "latency_metrics", "ttft_mean"), [1]),
    (("detailed_results", 0, "tokens"), ["a"]),
    (("detailed_results", 0, "tokens"), [1 << 31]),
    (("detailed_results", 0, "origins"), ["moon"]),
    (("detailed_results", 0, "status"), "perhaps"),
    (("detailed_results", 0, "latency_metrics", "ttft"), -1),
    (("detailed_results", 0, "error"), {"type": "AudioError"}),
    (("models", "edge"), "mini"),
    (("run", "load_average"), 3),
]


@pytest.mark.parametrize("path, value", BROKEN, ids=lambda value: str(value)[:40])
def test_what_the_reader_refuses_is_not_valid_either(
    path: tuple[Any, ...], value: Any, validator: Draft202012Validator
) -> None:
    content = copy.deepcopy(built("spec"))
    at = content
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert not validator.is_valid(content)
    with pytest.raises(ValueError, match=str(path[-1])):
        Result.from_json(content)


@pytest.mark.parametrize("key", ["metrics", "run", "models", "quality_floors", "detailed_results"])
def test_what_no_result_lacks_is_required(key: str, validator: Draft202012Validator) -> None:
    content = built("edge")
    del content[key]
    assert not validator.is_valid(content)
    with pytest.raises(ValueError, match=f"{key} is missing"):
        Result.from_json(content)
