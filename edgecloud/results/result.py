"""The types of a result: what a result file holds, read and checked once, written once.

Its fields are described one by one in ``reports/README.md``; ``reports/result.schema.json`` is the JSON Schema of
:class:`Result`. Standard library only: whoever compares results needs no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from edgecloud.contracts import Language, Origin, PromptType
from edgecloud.errors import DataError
from edgecloud.jsontypes import Mismatch, read, rest, schema, unless, whole, write
from edgecloud.results.aggregate import Resources, RunLatency, RunSpeculation
from edgecloud.results.certificate import Certificate
from edgecloud.results.cost import Cost
from edgecloud.results.latency import Latency
from edgecloud.results.numbers import Amount, Count, Number, Token
from edgecloud.results.records import Failure, Loss
from edgecloud.results.speculation import Speculation
from edgecloud.settings.declaration import Mode
from edgecloud.settings.naming import kind
from edgecloud.settings.options import OPTIONS
from edgecloud.textfiles import parse_object, read_text, uncollected

__all__ = [
    "SCHEMA",
    "Environment",
    "Experiment",
    "HardwareProfile",
    "Metrics",
    "ModelFacts",
    "Result",
    "Run",
    "SampleResult",
    "of_content",
    "read_result",
    "result_schema",
]

SCHEMA: Final = "edgecloud-result/1"

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What was run: the mode and every setting that decides a sample's result. ``settings`` has them all."""

    mode: Mode
    language: Language
    prompt_type: PromptType
    clock: Literal["wall", "modelled"]
    acceptance: str
    hardware_profile: str
    link: str | None = None
    dataset_type: str | None = None
    dataset_path: str | None = None
    caption_type: Literal["original", "audio_only"] = "original"
    edge_model: str | None = None
    cloud_model: str | None = None
    edge_quantization: str | None = None
    edge_dtype: str | None = None
    cloud_dtype: str | None = None
    cloud_quantization: str | None = None
    max_cpu_cores: Number | None = None
    max_memory_gb: Number | None = None
    settings: Json = whole()

    @property
    def modelled(self) -> bool:
        """True where time is computed from the hardware profile."""
        return self.clock == "modelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Metrics over samples: the scores by their names, counts, and the blocks of latency, speculation and cost.
    ``notes`` say by name why a value is missing, or what a reader should know of it."""

    scores: Mapping[str, Number | None] = rest()
    num_samples: Count
    num_completed: Count
    num_failed: Count
    num_degraded: Count = 0
    defects: Mapping[str, Count] | None = None
    audio_notes: Mapping[str, Count] = field(default_factory=dict)
    latency_metrics: RunLatency
    speculative_decoding_metrics: RunSpeculation
    cost_metrics: Mapping[str, Number | None]
    notes: Mapping[str, str]

    def value(self, name: str) -> float | None:
        """A number by its name: a score, a count, or one of a block (``latency_metrics.ttft_mean``); ``None``
        where there is none."""
        if name in self.scores:
            return self.scores[name]
        block, _, last = name.rpartition(".")
        latency, speculation = self.latency_metrics, self.speculative_decoding_metrics
        numbers: dict[str, tuple[Mapping[str, float | None], object]] = {
            "": ({}, self),
            "defects": (self.defects or {}, None),
            "latency_metrics": (latency.numbers, latency),
            "speculative_decoding_metrics": (speculation.means, speculation),
            "cost_metrics": (self.cost_metrics, None),
        }
        some, fields = numbers.get(block, ({}, None))
        found: float | None = some[last] if last in some else getattr(fields, last, None)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleResult:
    """What one sample gave, and what was measured of it; a failed one has its error, and no numbers."""

    file_id: str
    index: int | None = None
    dataset: str | None = None
    status: Literal["ok", "failed"]
    error: Failure | None = None
    degraded: Loss | None = None
    reference_caption: str | None = None
    reference_captions: tuple[str, ...]
    reference_language: Language | None = None
    generated_text: str | None = None
    tokens: tuple[Token, ...]
    origins: tuple[Origin, ...]
    stop: str | None = None
    audio_s: Amount | None = None
    audio_notes: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Number | None] = rest()
    score_note: str | None = None
    defects: tuple[str, ...] | None = None
    latency_metrics: Latency | None
    speculative_decoding_metrics: Speculation | None
    cost_metrics: Cost | None
    resources: Resources | None = None

    @property
    def ok(self) -> bool:
        """True when the sample was completed."""
        return self.status == "ok"

    def value(self, name: str) -> float | None:
        """A quantity by its name: a score, a latency, a cost or a rate of speculation; ``None`` where there is
        none."""
        if name in self.scores:
            return self.scores[name]
        block = getattr(self, _BLOCK_OF[name]) if name in _BLOCK_OF else None
        found: float | None = getattr(block, name, None)
        return found


_BLOCK_OF: Final = {
    entry.name: block
    for block, kind in (
        ("speculative_decoding_metrics", Speculation),
        ("cost_metrics", Cost),
        ("latency_metrics", Latency),
    )
    for entry in fields(kind)
}
"""The block of a sample's result in which a quantity is that is no score; of several the last one here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """The verdict on quality floors. ``missed`` says what was below them."""

    status: str
    missed: tuple[str, ...] = ()
    facts: Json = whole()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor."""

    model: str | None = None
    logical_cores: Number | None = None
    facts: Json = whole()


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """The devices beside the processor: the name of each GPU, ``None`` of one that does not tell it."""

    gpus: tuple[str | None, ...] | None = None
    facts: Json = whole()


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Versions, platform, processor, memory: what stays the same on one machine."""

    cpu: Cpu | None = None
    devices: Devices | None = None
    memory_total_gb: Number | None = None
    versions: Mapping[str, str | None] | None = None
    platform: Mapping[str, str | None] | None = None
    facts: Json = whole()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The caps of the edge process: in force, and in words."""

    summary: str | None = None
    in_force: Json | None = None
    facts: Json = whole()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Facts about a model in use. ``headers_sha256`` is the former identity of large weights, ``transport`` the
    way to a cloud that is a service elsewhere."""

    name: str | None = None
    sha256: str | None = None
    headers_sha256: str | None = None
    dtype: str | None = None
    device: str | None = None
    transport: str | None = None
    facts: Json = whole()


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The manifest's name, and the identity of what is in it."""

    manifest: str | None = None
    samples: Count | None = None
    sha256: str | None = None
    facts: Json = whole()

    @property
    def identity(self) -> str:
        """What has one hash is the same data, wherever it lies and whatever its file is called."""
        return self.sha256 or self.manifest or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareProfile:
    """The constants of the modelled clock."""

    name: str | None = None
    edge: Json | None = None
    cloud: Json | None = None
    link: Json | None = None
    facts: Json = whole()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Settings that change no sample's result."""

    output_name: str | None = None
    interleave: bool = False
    facts: Json = whole()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Median total time of the second half of the samples over that of the first."""

    second_half_over_first: Number | None = None
    n: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What may vary between two runs that computed the same, as it was when the run began."""

    run_id: str | None = None
    started_at: str | None = None
    host: str | None = None
    load_average: tuple[Number, ...] | None = None
    commit: str | None = None
    dirty: bool | None = None
    cpu_governor: str | None = None
    affinity: tuple[int, ...] | None = None
    settings: RunSettings | None = None
    drift: Drift | None = None
    cold: Json | None = None
    facts: Json = whole()

    @property
    def output_name(self) -> str | None:
        """The name that the run was given."""
        return None if self.settings is None else self.settings.output_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of one experiment in one language. ``schema`` names the layout; ``hardware_profile`` is null
    under the wall clock, ``setup`` what else the run was set up with."""

    schema: Literal["edgecloud-result/1"] = SCHEMA
    experiment_config: Experiment
    metrics: Metrics
    detailed_results: tuple[SampleResult, ...]
    quality_info: Json = field(default_factory=dict)
    quality_floors: Floors
    environment: Environment
    limits: Limits
    models: Mapping[str, ModelFacts | None]
    data: Data
    hardware_profile: HardwareProfile | None
    plugins: tuple[Json, ...] = ()
    certificate: Certificate | None = unless(None)
    setup: Json | None = unless(None)
    run: Run

    @property
    def mode(self) -> Mode:
        """``edge``, ``cloud`` or ``spec``."""
        return self.experiment_config.mode

    @property
    def samples(self) -> tuple[SampleResult, ...]:
        """One for each sample, in the manifest's order."""
        return self.detailed_results

    @property
    def completed(self) -> list[SampleResult]:
        """The samples that did not fail."""
        return [sample for sample in self.detailed_results if sample.ok]

    def per_sample(self, name: str) -> dict[str, float]:
        """A quantity of each completed sample, by id; samples without it are left out."""
        found = {sample.file_id: sample.value(name) for sample in self.completed}
        return {file_id: float(value) for file_id, value in found.items() if value is not None}

    @property
    def arm(self) -> str:
        """The kind of experiment: ``edge``, ``cloud``, or ``spec`` with its acceptance rule, as ``spec rank``."""
        return kind(self.mode, self.experiment_config.acceptance)

    def to_json(self) -> dict[str, Any]:
        """The result as its file holds it, in a fixed order."""
        row: dict[str, Any] = write(self)
        return row

    @classmethod
    def from_json(cls, content: Any) -> Result:
        """The result in a file's content.

        Raises:
            Mismatch: another schema, or a field that is missing, of another type or out of range.
        """
        found = read(cls, content)
        _check_settings(found.experiment_config.settings)
        _check_samples(found.detailed_results)
        return found


def read_result(path: str | Path) -> Result:
    """The result in a file.

    Raises:
        DataError: it cannot be read, is no result of this version, or is broken; one line that names file and
            field.
    """
    file = Path(path)
    text = read_text(file, what="result file", error=DataError)
    try:
        with uncollected():
            content, samples = parse_object(text, each="detailed_results", take=_sample)
    except ValueError as error:
        raise DataError(f"result file {file} is not JSON: {error}") from error
    return of_content(content, file, samples)


def _sample(content: Any) -> SampleResult | Mismatch:
    """A sample, or what is wrong with it: to be told once it is known that the file is a result at all."""
    try:
        return read(SampleResult, content)
    except Mismatch as error:
        return error


def of_content(content: Any, path: Path, samples: Sequence[SampleResult | Mismatch] = ()) -> Result:
    """The result in the content of the file ``path``. ``samples`` are those that were read already, and are missing from
    ``content``.

    Raises:
        DataError: as :func:`read_result`.
    """
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA:
        if isinstance(found, str) and found.startswith("edgecloud-result/"):
            raise DataError(
                f"{path} has schema {found}, this version reads {SCHEMA}; run the experiment again with "
                "this version"
            )
        raise DataError(f"{path} is not a result file of this version ({SCHEMA})")
    try:
        return _joined(Result.from_json(content), samples)
    except Mismatch as error:
        raise DataError(f"{path}: {error}; the file is broken, make it again") from None


def _joined(result: Result, samples: Sequence[SampleResult | Mismatch]) -> Result:
    """``result`` with its samples, where they were read apart.

    Raises:
        Mismatch: one of them is broken, or is there twice.
    """
    sound = []
    for number, sample in enumerate(samples):
        if isinstance(sample, Mismatch):
            raise sample.under(number).under("detailed_results")
        sound.append(sample)
    if not sound:
        return result
    _check_samples(sound)
    return replace(result, detailed_results=tuple(sound))


def result_schema() -> dict[str, Any]:
    """The JSON Schema of a result file."""
    return {"title": f"A result of edgecloud, {SCHEMA}", **schema(Result)}


def _check_settings(settings: Json) -> None:
    """Settings of a type that is not their option's; those of no known option may be anything."""
    kinds = {str: (str, "text"), int: (int | float, "a number"), float: (int | float, "a number")}
    for option in OPTIONS:
        value = settings.get(option.name)
        if value is None or option.kind not in kinds:
            continue
        kind, words = kinds[option.kind]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise Mismatch(f"is not {words}", "experiment_config", option.name)


def _check_samples(samples: Iterable[SampleResult]) -> None:
    seen: set[str] = set()
    for number, sample in enumerate(samples):
        where = ("detailed_results", number)
        if sample.file_id in seen:
            raise Mismatch(f"{sample.file_id} comes twice", *where, "file_id")
        seen.add(sample.file_id)
        if len(sample.tokens) != len(sample.origins):
            raise Mismatch("and tokens differ in number", *where, "origins")
        if sample.ok and None in (
            sample.latency_metrics,
            sample.speculative_decoding_metrics,
            sample.cost_metrics,
        ):
            raise Mismatch("lacks latency, speculation or cost of a completed sample", *where)
