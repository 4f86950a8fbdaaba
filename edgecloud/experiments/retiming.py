"""Runs timed anew: what decoding again on another hardware profile or link would give, without a model.

The loop of decoding runs once more, in modelled time, over an edge and a cloud that answer from the journal. So
times come from where they always come from; and where a trace does not fit together, it is noticed.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecloud import errors
from edgecloud.contracts import (
    Commit,
    Degrade,
    Draft,
    Features,
    Generate,
    Language,
    StopLimits,
    StopReason,
    Trace,
)
from edgecloud.contracts.ranges import WHOLE_CAPTIONS
from edgecloud.decoding.recorded import RecordedCloud, RecordedEdge, RecordedPrompt, differing
from edgecloud.decoding.speculation_controller import CloudBudget
from edgecloud.decoding.stopping import Stopping
from edgecloud.edge.decoding import Decoding
from edgecloud.edge.messages import Mode
from edgecloud.errors import CloudError, DataError, JournalError, ModelError
from edgecloud.experiments.run import NO_COLD_START, identity_of
from edgecloud.files import held
from edgecloud.hardware.limits import unwatched
from edgecloud.hardware.link import link as link_of
from edgecloud.hardware.probes import null_readings
from edgecloud.hardware.profiles import profile
from edgecloud.results.journal import Journal
from edgecloud.results.recorded_run import RecordedRun
from edgecloud.results.records import Record
from edgecloud.settings.config import Config

__all__ = ["Recombiner", "Retimer", "by_time", "mode_of", "retimed", "timed_by", "write_journal"]


def by_time(mode: str, config: Config) -> str | None:
    """The setting by which a run's tokens hang on time, in words; ``None``: they do not."""
    if mode != "spec":
        return None
    spent = config.cloud.budget
    hanging = {
        "draft_ahead": config.cloud.draft_ahead,
        "adaptive_k": config.draft.adaptive_k,
        "hand_off": config.cloud.hand_off,
        f"cloud_budget {spent}": spent and CloudBudget.parse(spent).busy_s < math.inf,
    }
    return next((name for name, hangs in hanging.items() if hangs), None)


def timed_by(config: Config, *, hardware_profile: str, link: str | None = None) -> Config:
    """``config`` in modelled time on another profile, over another link (``null``: the profile's own) where one
    is given. All else stays, the caps too.

    Raises:
        ConfigError: there is no such profile or link.
    """
    between = config.hardware.link if link is None else None if link == "null" else link
    profile(hardware_profile)
    if between is not None:
        link_of(between)
    return config.changed(
        clock="modelled", hardware_profile=hardware_profile, link=between, resume=False
    )


def retimed(run: RecordedRun, config: Config) -> RecordedRun:
    """``run`` as it would be with the settings ``config``, made by :func:`timed_by` of its own.

    Raises:
        ConfigError: a calibration cannot be used.
        JournalError: its tokens hang on time, or a sample cannot be timed anew; says which and why.
    """
    if run.missing:
        raise JournalError(f"it holds {len(run.records)} of the run's {len(run.samples)} samples")
    retimer = Retimer(run, config)
    return replace(
        run,
        config=config,
        records=tuple(retimer.retimed(record) for record in run.records),
        setup=_setup(run.setup, config),
    )


def write_journal(run: RecordedRun, facts: Mapping[str, Any], path: Path) -> None:
    """Write the journal of a run that :func:`retimed` gave; ``facts`` are those of the journal it is from.

    Raises:
        OutputError: it cannot be written, or another process writes it.
    """
    identity = identity_of(run.config, run.setup)
    with held(path, flag="-o"), Journal.open(path, mode=run.mode, identity=identity) as journal:
        journal.describe({**facts, "config": run.config.to_json(), "setup": run.setup})
        for record in run.records:
            journal.append(record)


def mode_of(name: str) -> Mode:
    """The mode of a journal.

    Raises:
        JournalError: it is none.
    """
    modes: dict[str, Mode] = {"edge": "edge", "cloud": "cloud", "spec": "spec"}
    if name not in modes:
        raise JournalError(f"its mode {name!r:.40} is none of {', '.join(modes)}")
    return modes[name]


def _setup(setup: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """What a run on the profile and the link of ``config`` says it ran on; models and machine are those that
    decoded."""
    rest = {name: block for name, block in setup.items() if name != "link"}
    between = config.hardware.link
    return {
        **({} if between is None else {"link": link_of(between).to_json()}),
        **rest,
        "limits": unwatched(setup["limits"]),
        "hardware_profile": profile(config.hardware.profile).to_json(),
        "cold": dict(NO_COLD_START),
    }


def _stopping(run: RecordedRun) -> Stopping:
    """What ended the captions of a run, as its journal says. An older one shows the ends of text in its
    captions; an end that none of them has is noticed where it would have mattered.

    Raises:
        JournalError: it does not say which tokens end a sentence.
    """
    generation = run.config.generation
    limits = StopLimits(generation.max_new_tokens, generation.max_sentences)
    if run.stopping is not None:
        return Stopping.from_json(limits, run.stopping)
    if limits.max_sentences is not None:
        raise JournalError(
            "an older version wrote it, which does not say which tokens end a sentence, as max_sentences needs"
        )
    ended = [record.tokens for record in run.records if record.stop == "end_of_text"]
    return Stopping(limits, frozenset(tokens[-1] for tokens in ended if tokens))


class Retimer:
    """Times records of ``run`` anew, in modelled time as ``config`` says.

    Raises:
        ConfigError: the profile, the link or the gate's calibration cannot be used.
        JournalError: tokens of the run hang on time, or its journal does not say enough.
    """

    def __init__(self, run: RecordedRun, config: Config) -> None:
        if (name := by_time(run.mode, run.config)) is not None:
            raise JournalError(f"with {name}, other times may give other tokens")
        if run.mode == "spec" and "shared_vocabulary" in run.setup["models"]["edge"]:
            raise JournalError(
                "the edge reads the cloud's tokens in those of a vocabulary of its own, and their "
                "numbers are not in it"
            )
        self._mode = mode_of(run.mode)
        self._config = config
        self._measured = run.config.hardware.clock == "wall"
        self._decoding = Decoding(config, _stopping(run))
        between = link_of(config.hardware.link) if config.hardware.link is not None else None
        self._by_chance = run.mode != "edge" and between is not None and between.by_chance

    def retimed(self, record: Record) -> Record:
        """The record as decoding again would give it. A sample that failed for a reason of its own, at any
        speed, stays as it is.

        Raises:
            JournalError: it would not be the same, or the record does not say enough.
        """
        try:
            if not record.ok:
                _check_failed(record)
                return replace(record, resources=_READINGS)
            self._check(record)
            return replace(record, trace=self._decoded(record), resources=_READINGS)
        except JournalError as error:
            raise JournalError(f"sample {record.file_id}: {error}") from error

    def _check(self, record: Record) -> None:
        if (lost := record.loss) is not None:
            raise JournalError(f"it lost the cloud ({lost.error}: {lost.reason})")
        if self._by_chance and record.prompt_digest is None:
            raise JournalError(
                "an older version wrote it, without that from which the chances of the link "
                f"{self._config.hardware.link} are drawn"
            )
        if self._measured:
            whole = self._mode == "cloud" or self._config.gate.scope in WHOLE_CAPTIONS
            _check_measured(record, whole_captions=whole)

    def _decoded(self, record: Record) -> Trace:
        """The trace of the request, decoded once more from its own trace."""
        before = record.trace
        text = self._config.data.kind == "text"
        found = _again(
            self._decoding,
            record,
            edge=None if self._mode == "cloud" else before,
            cloud=None if self._mode == "edge" else before,
            language=record.reference_language if text else None,
        )
        if (kind := differing(before, found)) is not None:
            raise JournalError(f"its trace does not fit together: another {kind} comes out")
        return found


def _again(
    decoding: Decoding,
    record: Record,
    *,
    edge: Trace | None,
    cloud: Trace | None,
    language: Language | None,
) -> Trace:
    """The trace of ``record``'s request, decoded once more with what the ``edge`` and the ``cloud`` said."""
    recorder = decoding.begin()
    if record.trace.of(Features):
        recorder.features()
    try:
        commits = decoding.commits(
            RecordedPrompt.of(record.input_tokens or 0, record.prompt_digest),
            recorder,
            edge=None if edge is None else RecordedEdge(edge),
            cloud=None if cloud is None else RecordedCloud(cloud),
            language=language,
        )
        recorder.finish(_stop(commits))
    except CloudError as error:
        raise JournalError(f"it would fail ({type(error).__name__}: {error})") from error
    except ValueError as error:
        raise JournalError(f"its trace is damaged ({error})") from error
    except JournalError:
        _check_kept(recorder.trace())
        raise
    found = recorder.trace()
    _check_kept(found)
    return found


class Recombiner:
    """Puts captions of a cascade or a router together, as ``config`` says, from a run ``edge`` in which the edge
    wrote every caption with the statistics of its tokens (the gate ``never``), and a run ``cloud`` of the cloud
    alone: what decoding again gives, without a model.

    Raises:
        ConfigError: the profile, the link or the gate's calibration cannot be used.
        JournalError: a journal does not say enough.
    """

    def __init__(self, edge: RecordedRun, cloud: RecordedRun, config: Config) -> None:
        # What is said against timing either of them anew is said against this.
        Retimer(edge, config)
        Retimer(cloud, config)
        self._decoding = Decoding(config, _stopping(edge))
        self._text = config.data.kind == "text"

    def recombined(self, edge: Record, cloud: Record) -> Record:
        """The record of a sample, from those of the edge's and the cloud's run.

        Raises:
            JournalError: one of them failed, lost the cloud, or is of another prompt.
        """
        try:
            if not (edge.ok and cloud.ok) or edge.loss or cloud.loss:
                raise JournalError("it failed on the edge or the cloud")
            if edge.prompt_digest != cloud.prompt_digest:
                raise JournalError("edge and cloud were asked different things")
            trace = _again(
                self._decoding,
                edge,
                edge=edge.trace,
                cloud=cloud.trace,
                language=edge.reference_language if self._text else None,
            )
        except JournalError as error:
            raise JournalError(f"sample {edge.file_id}: {error}") from error
        own = cloud if trace.of(Draft)[0].escalated else edge
        return replace(own, trace=trace, resources=_READINGS)


_READINGS = null_readings("the clock is modelled").to_json()


def _stop(commits: Generator[Commit, None, StopReason]) -> StopReason:
    """Decode to the end."""
    while True:
        try:
            next(commits)
        except StopIteration as end:
            stop: StopReason = end.value
            return stop


def _check_failed(record: Record) -> None:
    """Check that a sample failed for a reason of its own, at any speed."""
    told = record.error
    kind = getattr(errors, told.type, None) if told else None
    of_its_own = isinstance(kind, type) and issubclass(kind, DataError | ModelError)
    if not of_its_own or kind is errors.OutOfMemoryError:
        why = f"{told.type}: {told.message}" if told else "nobody knows why"
        raise JournalError(f"it failed ({why})")


def _check_kept(trace: Trace) -> None:
    """Check that the cloud was not lost on the way."""
    for event in trace.of(Degrade):
        raise JournalError(f"it would lose the cloud ({event.error}: {event.reason})")


def _check_measured(record: Record, *, whole_captions: bool) -> None:
    """Check that the cloud's answers in measured time are those of modelled time: ``whole_captions`` came a token a
    message, and it computed the prompt once, at its first."""
    if whole_captions and any(len(event.tokens) > 1 for event in record.trace.of(Generate)):
        raise JournalError("the cloud sent several tokens in a message, as they came")
    computed = [call.cost.prefill_tokens for call in record.trace.calls]
    if computed and computed != [record.input_tokens, *[0] * (len(computed) - 1)]:
        raise JournalError(
            "the cloud had computed its prompt before, or computed it again, which a modelled one does not"
        )
