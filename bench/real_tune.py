"""`edgecloud tune` for a pair whose forwards :mod:`bench.lockstep` runs: a thread for each sample, all candidates in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.lockstep import Lockstep
from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.contracts import Sample
from edgecloud.experiments.tuned import Bench, Told
from edgecloud.experiments.tuning import Candidate, Signal
from edgecloud.models.loading import LoadedModel
from edgecloud.results.journal import Journal
from edgecloud.results.records import Record
from edgecloud.settings.config import Config

__all__ = ["SideBySide"]


class SideBySide(Bench):
    """A bench whose samples have a memory each and are decoded at the same time; nothing of the first pass is kept on
    disk."""

    def __init__(
        self, config: Config, edge: LoadedModel, cloud: LoadedModel, lockstep: Lockstep
    ) -> None:
        Bench.__init__(
            self,
            config,
            edge,
            LocalCloud(cloud.model, cloud.stopping()),
            {"edge": edge.processor, "cloud": cloud.processor, "spec": edge.processor},
            None,
            {"edge": edge.facts, "cloud": cloud.facts},
        )
        self._map: Callable[..., list[Any]] = lockstep.map
        self._own: dict[str, Bench] = {}

    def alone(
        self,
        samples: Sequence[Sample],
        rules: Sequence[str],
        journal: Journal | None,
        told: Told = lambda *_: None,
    ) -> dict[str, list[Record]]:
        """As :meth:`Bench.alone`."""
        self._own = {
            sample.file_id: Bench(
                self.config, self.edge, self.verifier, self.processors, None, self.facts
            )
            for sample in samples
        }
        found = self._map(
            lambda sample: self._own[sample.file_id].alone([sample], rules, None), samples
        )
        told("edge alone, cloud alone, everything verified", len(samples), len(samples))
        return {name: [each[name][0] for each in found] for name in found[0]}

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
        """As :meth:`Bench.measured`, in a folder for each sample."""

        def one(number: int) -> dict[str, list[dict[str, Any]]]:
            sample = samples[number]
            own = {name: [records[number]] for name, records in first.items()}
            place = folder / f"{number:04d}"
            bench = self._own[sample.file_id]
            return bench.measured([sample], [folds[number]], tried, signals, own, place)

        found = self._map(one, range(len(samples)))
        for bench in self._own.values():
            self.memory.asked += bench.memory.asked
            self.memory.computed += bench.memory.computed
        told(f"{len(tried)} candidates", len(samples), len(samples))
        return {name: [each[name][0] for each in found] for name in found[0]}
