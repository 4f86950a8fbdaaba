"""A process of a sweep: it decodes points of the same tokens once, and times them anew for the others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgecloud.contracts import Sample
from edgecloud.datasets.corpus import load_corpus
from edgecloud.edge.messages import Failed, Mode, Response
from edgecloud.errors import DataError, JournalError, ModelError
from edgecloud.experiments.retiming import Recombiner, Retimer
from edgecloud.experiments.run import data_of, identity_of, journalled, request_of
from edgecloud.experiments.sweep import Point, quality_of, setup_of, whole_captions
from edgecloud.experiments.system import cache_dir, model_of
from edgecloud.files import held
from edgecloud.hardware.probes import null_readings
from edgecloud.results.frontier import Scored
from edgecloud.results.journal import Journal, read
from edgecloud.results.recorded_run import RecordedRun, facts, recorded_run
from edgecloud.results.records import Record

if TYPE_CHECKING:
    from edgecloud.edge.request_handler import RequestHandler
    from edgecloud.models.loading import LoadedModel
    from edgecloud.settings.config import Config

__all__ = ["complete", "handler_for", "models_of"]

How = Literal["decoded", "retimed"]
Models = tuple["LoadedModel", "LoadedModel"]
"""An edge and a cloud."""
Json = Mapping[str, Any]


def complete(
    points: Sequence[tuple[Point, Path]],
    source: Path | None,
    environment: Json,
    loaded: Callable[[Config], Models] | None = None,
) -> list[tuple[Path, How, dict[str, Scored]]]:
    """Complete the journals of ``points``, all of the same tokens; each with how that was done, and the quality
    of its samples by ``file_id``. ``source`` is a journal of these tokens that is complete; ``loaded`` gives the
    models of a configuration, loaded once in this process where it is not given.

    Raises:
        OutputError: another process is at one of the journals.
    """
    found: list[tuple[Path, How, dict[str, Scored]]] = []
    known = None if source is None else _run_of(source)
    sides: _Sides | None = None

    def completed(point: Point, path: Path, known: Known) -> tuple[How, list[Record]]:
        with held(path, flag="-o"):
            return _complete(point, path, known, environment, loaded or _loaded)

    for point, path in points:
        if whole_captions(point):
            sides = sides or _sides(point, path.parent, completed)
            how, records = completed(point, path, sides)
        else:
            how, records = completed(point, path, known)
            known = known or (_run_of(path) if len(points) > 1 else None)
        found.append((path, how, quality_of(point.config, records)))
    return found


@dataclass(frozen=True, slots=True)
class _Sides:
    """Runs of the edge, with its tokens' statistics, and of the cloud alone: whole captions are one's or the
    other's."""

    edge: RecordedRun
    cloud: RecordedRun


Known = RecordedRun | _Sides | None


def _sides(point: Point, folder: Path, completed: Callable[[Point, Path, Known], object]) -> _Sides:
    """The two runs of the place of ``point``, each completed where it is not."""
    own = {key: point.policy[key] for key in ("cloud_draft_tokens",) if key in point.policy}
    confident = {"gate_type": "never", "gate_scope": "start", "k": 1}
    edge = replace(point, policy=confident)
    place = {"hardware_profile": point.settings.get("hardware_profile", "paper")} if own else {}
    cloud = replace(point, mode="cloud", policy={**own, **place})
    runs = []
    for each in (edge, cloud):
        path = folder / f"{each.key}.jsonl"
        if not path.is_file() or _run_of(path).missing:
            completed(each, path, None)
        runs.append(_run_of(path))
    return _Sides(*runs)


def _run_of(path: Path) -> RecordedRun:
    return recorded_run(*read(path), path=path)


def _complete(
    point: Point,
    path: Path,
    known: Known,
    environment: Json,
    loaded: Callable[[Config], Models],
) -> tuple[How, list[Record]]:
    """Write what a point's journal does not hold yet, timed anew where its tokens are ``known``; returns how,
    and all of its records."""
    config = point.config
    corpus, manifest = load_corpus(config)
    samples = corpus[: config.data.max_samples]
    handler: RequestHandler | None = None
    stopping: Mapping[str, Sequence[int]] | None
    if known is None:
        handler = handler_for(point.mode, config, loaded)
        models = models_of(point.mode, config, handler, loaded)
        stopping = handler.stopping.to_json()
    else:
        models = _models_known(known)
        ran = known.edge if isinstance(known, _Sides) else known
        stopping, environment = ran.stopping, ran.environment
    setup = setup_of(point, data_of(config, corpus, manifest), models)
    # Outages are the modelled link's, and the same each time: nothing is gained by another try.
    with Journal.open(
        path,
        mode=point.mode,
        identity=identity_of(config, setup),
        resume=True,
        keep_degraded=True,
    ) as journal:
        for note in journal.notes:
            _say(note)
        journal.describe(
            facts(
                config=config,
                corpus=corpus,
                samples=samples,
                setup=setup,
                environment=environment,
                floors=None,
                stopping=stopping,
            )
        )
        left = [sample for sample in samples if sample.file_id not in journal.records]
        again = _retimed(point, known, left) if known else {}
        for sample in left:
            record = again.get(sample.file_id)
            if record is None:
                handler = handler or handler_for(point.mode, config, loaded)
                record = _decoded(handler, point, sample)
            journal.append(record)
    how: How = "retimed" if known and len(again) == len(left) else "decoded"
    return how, list(journal.records.values())


def _models_known(known: RecordedRun | _Sides) -> dict[str, Any]:
    """Facts of the models of runs that are known, by side."""
    if isinstance(known, _Sides):
        return {
            "edge": known.edge.setup["models"]["edge"],
            "cloud": known.cloud.setup["models"]["cloud"],
        }
    return dict(known.setup["models"])


def _timing(known: RecordedRun | _Sides, config: Config) -> Callable[[Record], Record]:
    """What makes a record of what is ``known`` one of a run with ``config``.

    Raises:
        JournalError: nothing can be made of it.
    """
    if not isinstance(known, _Sides):
        return Retimer(known, config).retimed
    recombiner = Recombiner(known.edge, known.cloud, config)
    clouds = {record.file_id: record for record in known.cloud.records}
    return lambda record: recombiner.recombined(record, clouds[record.file_id])


def _retimed(
    point: Point, known: RecordedRun | _Sides, samples: Sequence[Sample]
) -> dict[str, Record]:
    """The records, by ``file_id``, of those of ``samples`` that can be timed anew, or put together."""
    found: dict[str, Record] = {}
    others: list[JournalError] = []
    try:
        timed = _timing(known, point.config)
    except JournalError as error:
        _say(f"{point.name}: {error}; it is decoded")
        return {}
    wanted = {sample.file_id for sample in samples}
    for record in (known.edge if isinstance(known, _Sides) else known).records:
        if record.file_id not in wanted:
            continue
        try:
            found[record.file_id] = timed(record)
        except JournalError as error:
            others.append(error)
    if others:
        _say(f"{point.name}: {len(others)} of {len(samples)} are decoded again: {others[0]}")
    return found


def _decoded(handler: RequestHandler, point: Point, sample: Sample) -> Record:
    answer: Response | Failed
    try:
        answer = handler.caption(request_of(point.config, sample))
    except (DataError, ModelError) as error:
        answer = Failed(type(error).__name__, str(error))
    return journalled(sample, answer, null_readings("the clock is modelled"))


def _say(text: str) -> None:
    print(f"edgecloud: {text}", file=sys.stderr)  # noqa: T201 - a warning


def models_of(
    mode: Mode,
    config: Config,
    handler: RequestHandler,
    loaded: Callable[[Config], Models] | None = None,
) -> dict[str, Any]:
    """Facts of the models that decode, by side; for ``loaded`` see :func:`complete`."""
    edge, cloud = (loaded or _loaded)(config)
    between = handler.translation
    shared = {} if between is None else {"shared_vocabulary": between.to_json()}
    return {
        "edge": None if mode == "cloud" else {**edge.facts, **shared},
        "cloud": None if mode == "edge" else cloud.facts,
    }


def handler_for(
    mode: Mode, config: Config, loaded: Callable[[Config], Models] | None = None
) -> RequestHandler:
    """Edge and cloud in this process; for ``loaded`` see :func:`complete`."""
    from edgecloud.edge.in_process import handler_of

    edge, cloud = (loaded or _loaded)(config)
    return handler_of(mode, config, edge=edge, cloud=cloud, cache_dir=cache_dir())


def _loaded(config: Config) -> Models:
    """The models of a sweep, loaded once in this process, and only where something is decoded."""
    models = config.models
    return (
        _model("edge", models.edge, **models.placement("edge")),
        _model("cloud", models.cloud, **models.placement("cloud")),
    )


@cache
def _model(side: str, path: str | None, **placement: Any) -> LoadedModel:
    import torch

    from edgecloud.models.precision import load_model

    torch.set_num_threads(1)
    return load_model(*model_of(path, side), **placement)
