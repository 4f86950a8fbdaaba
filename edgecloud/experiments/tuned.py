"""Decoding for `edgecloud tune`: a pair in this process that answers from memory what it was asked before.

Sample by sample, every candidate is decoded by the loop, the protocol and the clock that a run has; the models compute
a text's next token once, whichever candidates meet that text. What was measured of a sample is on disk before the next
one begins.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.http.client import HttpChannel
from edgecloud.cloud.loopback import Loopback
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import CloudModel, Sample, StopLimits
from edgecloud.decoding.remembered import Memory
from edgecloud.edge.gate_calibration import to_json
from edgecloud.edge.messages import Mode
from edgecloud.edge.request_handler import RequestHandler
from edgecloud.edge.speculation_policy import speculation
from edgecloud.errors import CloudError, OutputError
from edgecloud.experiments.calibration import examples_of
from edgecloud.experiments.checking import check_models, remote_facts
from edgecloud.experiments.run import journalled, request_of
from edgecloud.experiments.system import cache_dir, model_of
from edgecloud.experiments.tuning import (
    ALONE,
    EVERYTHING,
    FOLDS,
    Candidate,
    Signal,
    row_of,
    signal_of,
    version_of,
    with_fit,
)
from edgecloud.files import put
from edgecloud.hardware.probes import null_readings
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.loading import LoadedModel
from edgecloud.models.precision import load_model
from edgecloud.models.processor import Processor
from edgecloud.models.translation import of_pair
from edgecloud.results.journal import Journal
from edgecloud.results.records import Record
from edgecloud.settings.config import Config
from edgecloud.textfiles import read_json

__all__ = ["Bench", "Told", "keep", "kept", "load_bench", "signals_of"]

Told = Callable[[str, int, int], None]
"""Is told what is decoded, and how many of how many samples are done."""
_SEPARATOR = " \u00b7 "
"""Between a run's name and a sample's, in the one journal of the first pass."""


@dataclass(slots=True)
class Bench:
    """A loaded pair, with what it remembers. ``facts`` are the models' (JSON), by side."""

    config: Config
    edge: LoadedModel
    verifier: CloudModel
    processors: Mapping[Mode, Processor]
    drafter: Processor | None
    facts: dict[str, Any]
    memory: Memory = field(init=False)

    def __post_init__(self) -> None:
        """Remember nothing yet."""
        self.memory = Memory(self.processors["spec"].stopping(StopLimits()).end_ids)

    def handler(self, mode: Mode, config: Config) -> RequestHandler:
        """A request handler that answers from memory; its messages are counted as any cloud's."""
        remote = RemoteCloud(
            Loopback(MessageServer(self.memory.cloud(self.verifier))),
            deadline_s=config.run.deadline_s,
        )
        return RequestHandler(
            config,
            self.processors[mode],
            edge=None if mode == "cloud" else self.edge.model.new_sequence(),
            cloud=None if mode == "edge" else remote,
            drafter=self.drafter if mode == "spec" else None,
            cache_dir=cache_dir(),
            around=self.memory.edge,
        )

    def decoded(self, handler: RequestHandler, config: Config, sample: Sample) -> Record:
        """The record of a sample.

        Raises:
            EdgeCloudError: the sample cannot be decoded, or the cloud was lost.
        """
        answer = handler.caption(request_of(config, sample))
        record = journalled(sample, answer, null_readings("the clock is modelled"))
        if record.loss is not None:
            raise CloudError(
                f"sample {sample.file_id}: the cloud was lost ({record.loss.error}: {record.loss.reason}); "
                "start again, what is done is not done again"
            )
        return record

    def alone(
        self,
        samples: Sequence[Sample],
        rules: Sequence[str],
        journal: Journal | None,
        told: Told = lambda *_: None,
    ) -> dict[str, list[Record]]:
        """The first pass: edge and cloud alone, and everything verified by each of ``rules``. Records by run, in the
        order of ``samples``; those that a ``journal`` holds are not decoded again, and remembered."""
        modes: dict[str, tuple[Mode, Config]] = {
            "edge": ("edge", self.config),
            "cloud": ("cloud", self.config),
            **{rule: ("spec", self.config.changed(**EVERYTHING[rule])) for rule in rules},
        }
        handlers = {name: self.handler(mode, config) for name, (mode, config) in modes.items()}
        found: dict[str, list[Record]] = {name: [] for name in modes}
        for number, sample in enumerate(samples):
            for name, (mode, config) in modes.items():
                key = f"{name}{_SEPARATOR}{sample.file_id}"
                record = None if journal is None else journal.records.get(key)
                if record is None:
                    record = self.decoded(handlers[name], config, sample)
                    if journal is not None:
                        journal.append(_renamed(record, key))
                elif record.prompt_digest is not None:
                    judged = speculation(config).acceptance if mode == "spec" else None
                    self.memory.learn(record.prompt_digest, record.trace, judged)
                found[name].append(_renamed(record, sample.file_id))
            told("edge alone, cloud alone, everything verified", number + 1, len(samples))
        return found

    def measured(
        self,
        samples: Sequence[Sample],
        folds: Sequence[int],
        tried: Sequence[Candidate],
        signals: Mapping[str, Signal],
        first: Mapping[str, Sequence[Record]],
        folder: Path,
        told: Told = lambda *_: None,
    ) -> dict[str, list[dict[str, Any]]]:
        """The second pass: a row for each sample of each candidate, and of edge and cloud alone."""
        fits = _write_fits(signals, folder)
        version = version_of(tried, signals)
        handlers: dict[tuple[str, int], tuple[Config, RequestHandler]] = {}
        found: dict[str, list[dict[str, Any]]] = {each.name: [] for each in tried}
        found.update({name: [row_of(record) for record in first[name]] for name in ALONE})
        for number, (sample, fold) in enumerate(zip(samples, folds, strict=True)):
            place = folder / f"measured-{number:04d}.json"
            rows = kept(place, version, sample)
            if rows is None:
                rows = {}
                for each in tried:
                    own = fold if each.calibrated else 0
                    if (each.name, own) not in handlers:
                        fit = str(fits[each.rule][fold]) if each.calibrated else None
                        config = with_fit(self.config, each.settings, fit)
                        handlers[each.name, own] = config, self.handler("spec", config)
                    config, handler = handlers[each.name, own]
                    rows[each.name] = row_of(self.decoded(handler, config, sample))
                keep(place, {"version": version, "file_id": sample.file_id, "rows": rows})
            for each in tried:
                found[each.name].append(rows[each.name])
            told(f"{len(tried)} candidates", number + 1, len(samples))
        return found


def signals_of(
    first: Mapping[str, Sequence[Record]],
    rules: Sequence[str],
    folds: Sequence[int],
    config: Config,
) -> dict[str, Signal]:
    """The signal of each rule that leaves something to be gated.

    Raises:
        DataError: none does.
    """
    gate = config.gate.name if "gate_type" in config.given else None
    by_name = {record.file_id: fold for record, fold in zip(first["edge"], folds, strict=True)}
    found = {}
    for rule in rules:
        examples = examples_of(
            first[rule],
            language=config.data.language,
            prompt_type=config.data.prompt_type,
            text=config.data.kind == "text",
        )
        found[rule] = signal_of(rule, examples, by_name, gate=gate)
    return found


def load_bench(config: Config, samples: Sequence[Sample]) -> Bench:
    """Check and load the pair of ``config``: its cloud is here, or a service at its address.

    Raises:
        EdgeCloudError: a model cannot be had, or they do not fit together.
    """
    check_models([("spec", config.changed(max_memory_gb=0.0))], samples=samples, together=True)
    own = config.models
    edge = load_model(
        *model_of(own.edge, "edge"),
        verify=config.service.verify_weights,
        **own.placement("edge"),
    )
    if config.service.url == "local":
        loaded = load_model(
            *model_of(own.cloud, "cloud"),
            verify=config.service.verify_weights,
            **own.placement("cloud"),
        )
        verifier: CloudModel = LocalCloud(loaded.model, loaded.stopping())
        theirs, cloud_facts = loaded.processor, loaded.facts
    else:
        channel = HttpChannel(config.service.url, token=os.environ.get("EDGECLOUD_TOKEN"))
        verifier = RemoteCloud(channel, deadline_s=config.run.deadline_s)
        theirs, cloud_facts = edge.processor, remote_facts(config)
        if own.cloud is not None:
            theirs = Checkpoint.open(model_of(own.cloud, "cloud")[1]).processor()
    together, drafter = of_pair(edge.processor, theirs)
    return Bench(
        config,
        edge,
        verifier,
        {"edge": edge.processor, "cloud": theirs, "spec": together},
        drafter,
        {"edge": edge.facts, "cloud": cloud_facts},
    )


def _renamed(record: Record, name: str) -> Record:
    return replace(record, file_id=name)


def _write_fits(signals: Mapping[str, Signal], folder: Path) -> dict[str, list[Path]]:
    """A calibration file for each rule and fold."""
    found: dict[str, list[Path]] = {}
    for rule, signal in signals.items():
        for fold in range(FOLDS) if signal.fits else ():
            path = folder / f"fit-{rule}-{fold}.json"
            keep(path, to_json(signal.fits[fold]))
            found.setdefault(rule, []).append(path)
    return found


def keep(path: Path, content: Mapping[str, Any]) -> None:
    """Put JSON on disk.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, json.dumps(content, ensure_ascii=False).encode())
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; choose another -o"
        ) from error


def kept(path: Path, version: str, sample: Sample) -> dict[str, Any] | None:
    """The ``rows`` of a sample in a file of :func:`keep` of the same ``version`` and ``file_id``; ``None``: there are none.

    Raises:
        OutputError: the file is damaged.
    """
    if not path.is_file():
        return None
    content = read_json(path, what="measurements", error=OutputError, advice="delete it")
    if (content.get("version"), content.get("file_id")) != (version, sample.file_id):
        return None
    rows: dict[str, Any] = content["rows"]
    return rows
