"""Results put side by side, as data: groups that compare, their series, and rows of cells.

The text table, the page, markdown and CSV are all drawn from this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgecloud.quality.metric import values
from edgecloud.report.paired import paired_rows
from edgecloud.report.references import Reference, reference
from edgecloud.results.comparable import Side
from edgecloud.results.result import Result
from edgecloud.results.statistics import Interval

__all__ = ["Block", "Cell", "Group", "Result", "Row", "blocks", "clock_name", "groups"]

_ORDER = ("edge", "spec rank", "spec exact", "spec", "cloud")

Line = tuple[str, str, str]
"""Label, name in ``metrics``, format."""

_BLOCKS: tuple[tuple[str, tuple[Line, ...]], ...] = (
    (
        "Captions with defects",
        (
            ("any defect", "defects.any", "d"),
            ("chat leakage", "defects.chat_leakage", "d"),
            ("wrong language", "defects.wrong_language", "d"),
            ("repetition loop", "defects.repetition_loop", "d"),
            ("truncated by the token limit", "defects.truncated", "d"),
            ("empty", "defects.empty", "d"),
        ),
    ),
    (
        "Latency",
        (
            ("TTFT mean (s)", "latency_metrics.ttft_mean", ".3f"),
            ("TTFT p50 (s)", "latency_metrics.ttft_p50", ".3f"),
            ("TPOT mean (s)", "latency_metrics.tpot_mean", ".4f"),
            ("TPOT p50 (s)", "latency_metrics.tpot_p50", ".4f"),
            ("OTPS mean (tokens/s)", "latency_metrics.otps_mean", ".2f"),
            ("OTPS p50 (tokens/s)", "latency_metrics.otps_p50", ".2f"),
            ("total time mean (s)", "latency_metrics.total_time_mean", ".3f"),
            ("total time p50 (s)", "latency_metrics.total_time_p50", ".3f"),
        ),
    ),
    (
        "Speculation",
        tuple(
            (label, f"speculative_decoding_metrics.{name}", ".3f")
            for label, name in (
                ("cloud call rate", "cloud_call_rate"),
                ("acceptance rate", "acceptance_rate"),
                ("verified acceptance rate", "verified_acceptance_rate"),
                ("correction rate", "correction_rate"),
                ("useful call rate", "useful_call_rate"),
                ("cloud token share", "cloud_token_share"),
            )
        ),
    ),
    (
        "Cost per sample",
        (
            ("cloud busy (s)", "cost_metrics.cloud_busy_time_mean", ".3f"),
            ("cloud prefill tokens", "cost_metrics.cloud_prefill_tokens_mean", ".1f"),
            ("cloud verified tokens", "cost_metrics.cloud_verified_tokens_mean", ".1f"),
            ("cloud generated tokens", "cost_metrics.cloud_generated_tokens_mean", ".1f"),
            ("bytes up", "cost_metrics.bytes_up_mean", ".0f"),
            ("bytes down", "cost_metrics.bytes_down_mean", ".0f"),
        ),
    ),
    (
        "Resources",
        (
            ("edge CPU (%, 100 = one core)", "latency_metrics.cpu_percent_mean", ".0f"),
            ("edge RAM mean (GB)", "latency_metrics.ram_gb_mean", ".2f"),
            ("edge RAM peak (GB)", "latency_metrics.ram_gb_peak_max", ".2f"),
            ("samples over memory cap", "latency_metrics.memory_over_cap_total", "d"),
            ("cloud GPU (%)", "latency_metrics.gpu_util_mean", ".0f"),
            ("cloud GPU memory (GB)", "latency_metrics.gpu_memory_gb_mean", ".2f"),
        ),
    ),
)


def blocks() -> list[tuple[str, tuple[Line, ...]]]:
    """The blocks of the side-by-side table: heading and lines. Those of quality are what the registered
    metrics show."""
    quality = tuple(
        (value.label(), value.table_key, f".{value.decimals}f")
        for value in values().values()
        if value.shown
    )
    return [("Quality", quality), *_BLOCKS]


@dataclass(frozen=True, slots=True)
class Cell:
    """A value as it is in the result, as text, and what a reader should know of it: for a missing
    value (``text`` is ``""``) the reason."""

    value: Any
    text: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """``name`` is the value's path in ``metrics`` of a result; ``cells`` are in the series' order."""

    label: str
    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of a table under one heading."""

    heading: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Series in one language, with one prompt, on one set of samples, by their column's name.

    ``data`` is what the set of samples is called: ``embedded``, or its manifest's name, with the
    beginning of its hash where several sets have one name.
    """

    language: str
    prompt_type: str
    data: str
    arms: Mapping[str, Result]

    @property
    def specs(self) -> list[str]:
        """Names of the runs that speculate."""
        return [name for name, result in self.arms.items() if result.mode == "spec"]

    @property
    def compared(self) -> list[str]:
        """The series that are compared with others: all but the edge alone, where there are others."""
        if len(self.arms) < 2:
            return []
        return [name for name, result in self.arms.items() if result.mode != "edge"]

    @property
    def sides(self) -> list[Side]:
        """The sides, edge and cloud, that some run is the run alone of."""
        modes = {result.mode for result in self.arms.values()}
        sides: tuple[Side, ...] = ("edge", "cloud")
        return [side for side in sides if side in modes]

    def reference(self, arm: str, side: Side) -> Reference:
        """The run alone of the edge or the cloud that ``arm`` is compared with."""
        return reference(self.arms, arm, side)

    def reference_rows(self) -> list[tuple[str, list[str]]]:
        """For edge and cloud, the name of the run that each compared series is compared with; ``–``: none."""
        rows = []
        for side in self.sides if self.compared else ():
            names = [self.reference(arm, side).name for arm in self.compared]
            pairs = zip(self.compared, names, strict=True)
            named = [self.named(None if name == arm else name) for arm, name in pairs]
            rows.append((f"{side} compared with", named))
        return rows

    def named(self, arm: str | None) -> str:
        """A series' column with its run's name; ``–`` for none."""
        if arm is None:
            return "–"
        run = self.arms[arm].run.output_name
        return arm if run is None or "(" in arm else f"{arm} ({run})"

    def clocks(self) -> dict[str, list[str]]:
        """The series by the clock that timed them."""
        found: dict[str, list[str]] = {}
        for arm, result in self.arms.items():
            found.setdefault(clock_name(result), []).append(arm)
        return found

    def blocks(self) -> list[Block]:
        """Every row of the side-by-side table."""
        arms = list(self.arms.values())
        found = [
            Block(
                heading,
                tuple(
                    Row(label, name, tuple(_cell(result, name, form) for result in arms))
                    for label, name, form in lines
                ),
            )
            for heading, lines in blocks()
        ]
        return [*found, Block("Run", tuple(_run_rows(arms)))]

    def paired(self) -> tuple[list[str], list[tuple[str, list[Interval | None]]]]:
        """Columns and rows of paired comparisons; empty unless a series is there to be compared and
        another to compare it with."""
        columns = self.compared
        if not columns or not self.sides:
            return [], []
        references = {
            side: {arm: self.reference(arm, side) for arm in columns} for side in self.sides
        }
        return columns, paired_rows(self.arms, columns, references)

    def limits(self) -> dict[str, list[str]]:
        """The limits in force, in words, and the series that each was in force for."""
        found: dict[str, list[str]] = {}
        for name, result in self.arms.items():
            found.setdefault(result.limits.summary or "none recorded", []).append(name)
        return found


def groups(results: Iterable[Result]) -> list[Group]:
    """Results of one language, prompt and data set together; each with its series in a fixed order:
    edge, speculative by acceptance, cloud."""
    found: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        own = result.experiment_config
        key = (own.language, own.prompt_type, result.data.identity)
        found.setdefault(key, []).append(result)
    titles = Counter((key[0], key[1], _manifest(some)) for key, some in found.items())

    def data_name(key: tuple[str, str, str], some: Sequence[Result]) -> str:
        name = _manifest(some)
        return f"{name} {key[2][:8]}" if titles[key[0], key[1], name] > 1 else name

    return [Group(key[0], key[1], data_name(key, some), _arms(some)) for key, some in found.items()]


def _manifest(results: Sequence[Result]) -> str:
    return results[0].data.manifest or "unnamed data"


def clock_name(result: Result) -> str:
    """The clock of a run as a reader is told it, with the hardware profile in modelled time."""
    own = result.experiment_config
    return f"modelled: {own.hardware_profile}" if own.modelled else own.clock


def _arms(results: Sequence[Result]) -> dict[str, Result]:
    """Results by their column's name; where a series occurs twice, what tells them apart is added: the
    clock, the run's own name, or a number."""
    kinds = [result.arm for result in results]
    labels = list(kinds)
    for marks in (
        [clock_name(result) for result in results],
        [str(result.run.output_name) for result in results],
        [str(number) for number in range(1, len(results) + 1)],
    ):
        told: dict[str, set[str]] = {}
        for label, mark in zip(labels, marks, strict=True):
            told.setdefault(label, set()).add(mark)
        labels = [
            _marked(label, mark) if len(told[label]) > 1 else label
            for label, mark in zip(labels, marks, strict=True)
        ]
    order = {name: position for position, name in enumerate(_ORDER)}
    ordered = sorted(
        zip(labels, kinds, results, strict=True),
        key=lambda item: order.get(item[1], len(_ORDER) - 2),
    )
    return {label: result for label, _, result in ordered}


def _marked(label: str, mark: str) -> str:
    return f"{label[:-1]}, {mark})" if label.endswith(")") else f"{label} ({mark})"


def _cell(result: Result, name: str, form: str) -> Cell:
    value = result.metrics.value(name)
    note = result.metrics.notes.get(name)
    if value is None:
        return Cell(None, "", note or "not in this result")
    return Cell(value, format(value, form), note)


def _run_rows(results: Sequence[Result]) -> list[Row]:
    def row(label: str, name: str, values: Iterable[Any]) -> Row:
        return Row(label, name, tuple(Cell(value, str(value)) for value in values))

    return [
        row("samples", "num_samples", (r.metrics.num_samples for r in results)),
        row("failed", "num_failed", (r.metrics.num_failed for r in results)),
        row("degraded to the edge", "num_degraded", (r.metrics.num_degraded for r in results)),
        row("clock", "clock", (clock_name(r) for r in results)),
        row("edge device", "models.edge.device", (_device(r, "edge") for r in results)),
        row("cloud device", "models.cloud.device", (_device(r, "cloud") for r in results)),
        row("quality floors", "quality_floors.status", (r.quality_floors.status for r in results)),
    ]


def _device(result: Result, side: str) -> str:
    model = result.models.get(side)
    return "–" if model is None else model.device or "–"
