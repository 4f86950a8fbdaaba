"""One run of an experiment: its processes, its journal, and the step from a sample to a record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from edgecloud.contracts import Sample, Trace
from edgecloud.datasets.corpus import hash_once, in_own_language, load_corpus
from edgecloud.edge.messages import Failed, Mode, Request, Response
from edgecloud.errors import ConfigError, OutputError
from edgecloud.experiments.certificate import certified_in, differences
from edgecloud.experiments.preset_notes import preset_notes
from edgecloud.experiments.reporting import machine
from edgecloud.experiments.resource_owner import ResourceOwner
from edgecloud.experiments.system import System
from edgecloud.files import held
from edgecloud.hardware.limits import BYTES_PER_GB, with_resident
from edgecloud.hardware.probes import Readings, ResourceProbe, null_readings, resident_bytes
from edgecloud.models.families import FAMILIES
from edgecloud.registry import BUILT_IN
from edgecloud.results.aggregate import measured
from edgecloud.results.certificate import Certified, setup_of
from edgecloud.results.degraded import warm_up_sentence
from edgecloud.results.journal import Journal
from edgecloud.results.kept import journal_path, keep_unfinished, result_path
from edgecloud.results.recorded_run import facts
from edgecloud.results.records import Failure, Loss, Record
from edgecloud.settings.config import Config, check_output_name
from edgecloud.settings.parts import plugins_in_use
from edgecloud.stages import say, stage

__all__ = [
    "NO_COLD_START",
    "Arm",
    "Outcome",
    "data_of",
    "identity_of",
    "journal_path",
    "journalled",
    "load_corpus",
    "request_of",
]


NO_COLD_START: Final = {"total_time_s": None, "reason": "modelled time has no cold start"}
"""What a result in modelled time says of the first requests."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run. ``samples`` are this run's, ``corpus`` the whole manifest's; ``records`` are
    the journal's, measured, one per sample, in the manifest's order; ``setup`` says on what it ran (JSON)."""

    mode: Mode
    config: Config
    samples: tuple[Sample, ...]
    corpus: tuple[Sample, ...]
    records: tuple[Record, ...]
    setup: dict[str, Any]


def data_of(config: Config, corpus: tuple[Sample, ...], manifest: Path) -> dict[str, Any]:
    """The ``data`` block of a result."""
    return {
        "manifest": "embedded" if config.data.path is None else manifest.name,
        "samples": len(corpus),
        "sha256": hash_once(corpus),
    }


def identity_of(config: Config, setup: Mapping[str, Any]) -> dict[str, Any]:
    """The values that must be equal for a journal to be resumed; ``setup`` has the facts of data, models
    and hardware profile."""
    headers = {
        side: found["headers_sha256"]
        for side, found in setup["models"].items()
        if found and found.get("headers_sha256")
    }
    return {
        "settings": config.identity(),
        "data": setup["data"],
        "models": {side: found and found["sha256"] for side, found in setup["models"].items()},
        # By which journals know these weights that were begun before their content was hashed.
        **({"headers": headers} if headers else {}),
        # A file's content may change under its name, and so may a plug-in.
        "hardware_profile": setup["hardware_profile"],
        **({"plugins": setup["plugins"]} if setup.get("plugins") else {}),
    }


def plugins_of(
    mode: Mode, config: Config, models: Mapping[str, Any]
) -> list[dict[str, str | None]]:
    """The parts of other packages that a run uses (JSON), the families of its ``models`` (facts by side) among
    them."""
    names = dict.fromkeys(
        found["family"] for found in models.values() if found and "family" in found
    )
    # A cloud elsewhere may be of a family that is not known here.
    parts = [FAMILIES.part(name) for name in names if name in FAMILIES]
    families = [part.to_json() for part in parts if part.origin != BUILT_IN]
    return [*plugins_in_use(mode, config.to_json()), *families]


class Arm(ResourceOwner):
    """Context manager: starts the processes, opens the journal, warms up; ends them at exit.

    ``records`` holds the journal's records by ``file_id``, measured, without their traces; those of a resumed run are
    there at once.

    Raises, on entering:
        EdgeCloudError: data or models cannot be used, or the journal is another run's.
    """

    def __init__(
        self, mode: Mode, config: Config, *, floors: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        check_output_name(config.output.name)
        self._mode = mode
        self._floors = floors
        stage("reading the data")
        self._config = config = in_own_language(config)
        self._corpus, manifest = load_corpus(config)
        self.samples = self._corpus[: config.data.max_samples][config.run.shard_slice]
        if not self.samples:
            raise ConfigError(
                f"--shard {config.run.shard} holds none of the samples: take fewer shards"
            )
        self.records: dict[str, Record] = {}
        self._done = 0
        self._data = data_of(config, self._corpus, manifest)
        self._setup: dict[str, Any] = {}

    @property
    def total(self) -> int:
        """Samples of this run."""
        return len(self.samples)

    @property
    def done(self) -> int:
        """Samples that have a record."""
        return self._done

    def step(self, sample: Sample) -> Record:
        """Caption one sample, journal it, and return its record."""
        return self._keep(_record(self._systems[0], self._config, sample))

    def run(self) -> Iterator[Record]:
        """Caption every sample without a record, and yield each record as it is journalled.

        With several workers that is in the order in which they end.
        """
        left = [sample for sample in self.samples if sample.file_id not in self.records]
        if len(self._systems) == 1:
            yield from map(self.step, left)
            return
        idle: SimpleQueue[System] = SimpleQueue()
        for system in self._systems:
            idle.put(system)

        def caption(sample: Sample) -> Record:
            system = idle.get()
            try:
                return _record(system, self._config, sample)
            finally:
                idle.put(system)

        pool = ThreadPoolExecutor(len(self._systems))
        try:
            for done in as_completed([pool.submit(caption, sample) for sample in left]):
                yield self._keep(done.result())
        finally:
            # Nothing is waited for: at a failure the processes end, and with them their requests.
            pool.shutdown(wait=False, cancel_futures=True)

    def _keep(self, record: Record) -> Record:
        held = self._journal.append(record)
        self._done += record.file_id not in self.records
        self.records[record.file_id] = held
        return record

    def outcome(self) -> Outcome:
        """The outcome, once every sample has its record."""
        self._check_limits()
        return Outcome(
            mode=self._mode,
            config=self._config,
            samples=self.samples,
            corpus=self._corpus,
            records=tuple(self.records[sample.file_id] for sample in self.samples),
            setup=self._setup,
        )

    def _start(self) -> None:
        mode, config = self._mode, self._config
        path = journal_path(mode, config)
        self._stack.enter_context(held(path))
        self._systems = self._start_systems()
        system = self._systems[0]
        plugins = plugins_of(mode, config, system.facts["models"])
        certified = certified_in(config) if mode == "spec" else None
        identity = identity_of(config, {**system.facts, "data": self._data, "plugins": plugins})
        if not config.run.resume:
            _keep_unfinished(path, result_path(mode, config))
        self._journal = self._stack.enter_context(
            Journal.open(
                path,
                mode=mode,
                identity=identity,
                resume=config.run.resume,
                keep_degraded=config.run.keep_degraded,
                kept=partial(measured, k=config.draft.k),
            )
        )
        self.records = dict(self._journal.records)
        left = [sample for sample in self.samples if sample.file_id not in self.records]
        self._done = self.total - len(left)
        cold = _warm_up(system, mode, config, left or list(self.samples))
        told = preset_notes(mode, config, system.facts["models"])
        for note in told:
            say(note)
        notes = [*self._journal.notes, *told]
        self._setup = {
            **system.facts,
            **(
                {}
                if certified is None
                else {"certificate": _certificate(certified, config, system)}
            ),
            "cold": {"load_s": system.load_s, **cold},
            "data": self._data,
            "plugins": plugins,
            **({"notes": notes} if notes else {}),
        }
        self._describe()

    def _describe(self) -> None:
        """Put into the journal what a result needs besides the samples."""
        self._journal.describe(
            facts(
                config=self._config,
                corpus=self._corpus,
                samples=self.samples,
                setup=self._setup,
                environment=machine(),
                floors=self._floors,
                stopping=self._systems[0].stopping,
            )
        )

    def _check_limits(self) -> None:
        """Withdraw the memory cap where an edge has grown over it since it was loaded. In measured time the
        readings of each sample say so too; in modelled time this is all there is."""
        resident = max(resident_bytes(system.edge_pid) for system in self._systems)
        limits = with_resident(self._setup["limits"], resident / BYTES_PER_GB)
        if limits != self._setup["limits"]:
            self._setup = {**self._setup, "limits": limits}
            self._describe()

    def _start_systems(self) -> list[System]:
        """One for each worker; they load side by side."""
        cores, count = self._config.caps.cpu_cores, self._config.run.workers
        systems = [
            System(self._mode, self._config, first_core=number * cores, samples=self.samples)
            for number in range(count)
        ]
        failure: BaseException | None = None
        with ThreadPoolExecutor(count) as pool:
            for started in [pool.submit(system.__enter__) for system in systems]:
                failure = failure or started.exception()
                if started.exception() is None:
                    self._stack.push(started.result())
        if failure is not None:
            raise failure
        return systems


def _certificate(certified: Certified, config: Config, system: System) -> dict[str, Any]:
    """What the set-up says of a calibration file's certificate."""
    return setup_of(certified, differences(certified, config, system.facts["models"]))


def _keep_unfinished(journal: Path, result: Path) -> None:
    """Put the unfinished journal of an earlier run aside, and say so.

    Raises:
        OutputError: it cannot be moved; it stays where it is.
    """
    try:
        told = keep_unfinished(journal, result)
    except OSError as error:
        raise OutputError(
            f"the unfinished journal {journal} cannot be put aside ({error.strerror or error}); go on "
            "with it by --resume, move it, or choose another --output-name"
        ) from error
    if told is not None:
        say(told)


def _warm_up(system: System, mode: Mode, config: Config, samples: list[Sample]) -> dict[str, Any]:
    """Discarded requests, so that samples are not timed on cold code; their own times are kept.

    The cloud is asked always, so that it warms up too. Modelled time has nothing to warm up.
    """
    if config.hardware.clock == "modelled":
        return dict(NO_COLD_START)
    times: list[float | None] = []
    lost: list[dict[str, Any]] = []
    for turn in range(config.run.warmup):
        stage("warming up", turn / config.run.warmup)
        answer = system.caption(
            request_of(
                config, samples[turn % len(samples)], gate="always" if mode == "spec" else None
            )
        )
        trace = Trace.from_json(answer.trace if isinstance(answer, Response) else ())
        times.append(trace.events[-1].end_s if trace.events else None)
        if (why := Loss.of(trace)) is not None:
            lost.append({"request": turn, **asdict(why)})
    cold: dict[str, Any] = {
        "total_time_s": times,
        "reason": None,
        **({"degraded": lost} if lost else {}),
    }
    if (told := warm_up_sentence(cold)) is not None:
        say(told)  # now: whoever watches may not want to wait for the samples
    return cold


def request_of(config: Config, sample: Sample, *, gate: str | None = None) -> Request:
    """The request to the edge for a sample; ``gate`` replaces the configured one."""
    return Request(
        audio_path=None if sample.audio_path is None else str(sample.audio_path),
        transcription=sample.transcription if config.data.input_modality == "audio_text" else None,
        gate=gate,
        prompt=sample.prompt,
        language=None if sample.prompt is None else sample.reference_language,
    )


def _record(system: System, config: Config, sample: Sample) -> Record:
    """Caption one sample, with readings of CPU, memory and GPU around it: its journal record."""
    request = request_of(config, sample)
    if config.hardware.clock == "modelled":
        answer = system.caption(request)
        readings = null_readings("the clock is modelled")
    else:
        probe = ResourceProbe(
            system.edge_pid,
            period_s=config.run.probe_period_s,
            gpu_index=system.cloud_gpu,
            memory_cap_gb=config.caps.memory_gb,
        )
        probe.start()
        try:
            answer = system.caption(request)
        finally:
            readings = probe.stop()
    return journalled(sample, answer, readings)


def journalled(sample: Sample, answer: Response | Failed, readings: Readings) -> Record:
    """A sample's record in the journal."""
    found = Record(
        sample.file_id,
        index=sample.index,
        dataset=sample.dataset,
        references=sample.references,
        reference_language=sample.reference_language,
        resources=readings.to_json(),
    )
    if isinstance(answer, Failed):
        return replace(found, status="failed", error=Failure(answer.kind, answer.message))
    return replace(
        found,
        audio_s=answer.audio_s,
        audio_notes=answer.audio_notes,
        input_tokens=answer.input_tokens,
        text=answer.text,
        stop=answer.stop,
        trace=Trace.from_json(answer.trace),
        prompt_digest=answer.prompt_digest,
    )
