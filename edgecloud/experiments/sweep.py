"""Many configurations over one corpus, in modelled time: loaded once, in parallel processes, resumable.

Each point of a sweep has a journal of its own, like any run's; a point whose journal is complete is
read back instead of run.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from edgecloud.contracts import Sample
from edgecloud.datasets.corpus import load_corpus
from edgecloud.edge.in_process import handler_of
from edgecloud.edge.messages import Failed, Mode, Response
from edgecloud.edge.speculation_policy import speculation
from edgecloud.errors import CheckpointError, ConfigError, DataError, ModelError, WorkerError
from edgecloud.experiments.checking import check_models
from edgecloud.experiments.reporting import machine
from edgecloud.experiments.run import data_of, identity_of, journalled, plugins_of, request_of
from edgecloud.experiments.system import cache_dir, model_of
from edgecloud.hardware.probes import null_readings
from edgecloud.hardware.profiles import profile
from edgecloud.models.edge import LoadedEdge, load_edge
from edgecloud.models.hub import locate
from edgecloud.models.loading import Loaded, load
from edgecloud.quality import corpus_references_of, score
from edgecloud.quality.tokenize import LANGUAGE_TOKENIZERS
from edgecloud.results import audio_notes
from edgecloud.results.comparable import CROSSINGS
from edgecloud.results.files import held
from edgecloud.results.journal import Journal, read
from edgecloud.results.records import Record
from edgecloud.results.replay import facts
from edgecloud.settings.config import Config, resolve
from edgecloud.settings.options import OPTIONS
from edgecloud.textfiles import read_toml

__all__ = [
    "DEFAULT_GRID",
    "ROLES",
    "Point",
    "audio_notes_of",
    "check",
    "grid_content",
    "read_grid",
    "sweep",
]

DEFAULT_GRID = Path(__file__).parent / "frontier.toml"
_WHERE = ("language", "prompt_type", "hardware_profile", "link")
"""Options that a grid varies around every one of its policies: a block of the tables each."""
_ONCE = tuple(
    option.name
    for option in OPTIONS
    if option.subject in ("data", "generation", "models") and option.name not in _WHERE
)
"""Options with one value in a whole grid: edge and cloud alone have it too, and all rows compare.
``dataset_path`` may hold ``{language}`` and ``{prompt_type}``."""
_OF_POLICIES = {
    "preset",
    "hardware_profile",
    "link",
    *(option.name for option in OPTIONS if option.group == "how" and option.name not in _ONCE),
}
"""Options that a policy may set or vary."""
_POLICY = {"name", "settings", "grid", "where", "role", "against", "crosses"}
ROLES = ("policy", "baseline", "added", "removed", "chosen")


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration: ``edge`` or ``cloud`` alone, or ``spec`` with ``settings``.

    ``place`` is what it is compared within (language, prompt type, hardware profile, link); a policy may
    still have another profile of its own. ``role`` is what it is for on the frontier's page, and
    ``against`` the policy of the same place that it differs from by one idea. ``crosses`` is what may
    differ from what it is compared with (of :data:`edgecloud.results.comparable.CROSSINGS`).
    """

    mode: Mode
    name: str
    place: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    role: str = "policy"
    against: str | None = None
    crosses: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that differ from the defaults: those of ``place``, then of ``policy``."""
        return {**self.place, **self.policy}

    @property
    def config(self) -> Config:
        """The validated configuration, in modelled time.

        Raises:
            ConfigError: settings that are no configuration.
        """
        preset = self.settings.get("preset")
        flags = {key: value for key, value in self.settings.items() if key != "preset"}
        return resolve({**flags, "clock": "modelled"}, preset=preset)

    @property
    def key(self) -> str:
        """The name of its journal: the same for the same configuration, whatever it is called."""
        identity = json.dumps([self.mode, self.config.identity(), self.config.data.max_samples])
        return f"{self.mode}-{hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()}"


def grid_content(path: str | Path) -> dict[str, Any]:
    """The content of a grid file.

    Raises:
        ConfigError: no such file, or not TOML.
    """
    return read_toml(Path(path), what="grid", error=ConfigError)


def read_grid(path: str | Path) -> list[Point]:
    """The points of a grid file (TOML): every ``[[policy]]`` at every place of ``[where]``, edge and
    cloud alone at each of them, too.

    A policy is a name, settings, and lists of settings whose every combination is a point:
    ``name = "token"``, ``settings = {k = 8}``, ``grid = {continuation = [0, 4]}``. Its own ``where``
    replaces values of the grid's; ``settings.preset`` names a preset they change; ``role``, ``against``
    and ``crosses`` are :class:`Point`'s.

    Raises:
        ConfigError: no such file, not TOML, or settings that are none.
    """
    content = grid_content(path)
    where = content.get("where", {})
    policies = content.get("policy", [])
    unknown = {*content} - {"where", "policy", "target"}
    if unknown or not isinstance(where, dict) or not isinstance(policies, list):
        raise ConfigError(f"grid {path}: [where], [[policy]] and [[target]] tables were expected")
    points: dict[tuple[str, str], Point] = {}
    for policy in policies:
        if not isinstance(policy, dict) or "name" not in policy or {*policy} - _POLICY:
            raise ConfigError(f"grid {path}: a policy has a name, and {', '.join(sorted(_POLICY))}")
        _check_policy(path, policy)
        role = policy.get("role", "policy")
        if role not in ROLES:
            raise ConfigError(f"grid {path}: role {role!r} is not one of {', '.join(ROLES)}")
        places = _places(path, {**where, **policy.get("where", {})})
        for place, (name, settings) in itertools.product(places, _policies(policy)):
            alone = [Point("edge", "edge", place), Point("cloud", "cloud", place)]
            spec = Point(
                "spec",
                name,
                place,
                settings,
                role,
                policy.get("against"),
                tuple(policy.get("crosses", ())),
            )
            for point in (*alone, spec):
                points.setdefault((point.name, point.key), point)
    _check_points(path, list(points.values()))
    return sorted(points.values(), key=lambda point: point.mode == "spec")


def _places(path: str | Path, where: Mapping[str, Any]) -> list[dict[str, Any]]:
    for key, value in where.items():
        if key not in (*_WHERE, *_ONCE):
            raise ConfigError(
                f"grid {path}: {key} cannot vary by [where], which has {', '.join(_WHERE)} (lists) and "
                f"{', '.join(_ONCE)} (one value each); "
                + ("use a policy's settings or grid" if key in _OF_POLICIES else _no_effect(key))
            )
        if isinstance(value, list) and (key in _ONCE or not value):
            raise ConfigError(
                f"grid {path}: {key} has one value in a grid, for edge and cloud alone and every policy; "
                "make a grid for each"
                if key in _ONCE
                else f"grid {path}: {key} is an empty list"
            )
    lists = [value if isinstance(value, list) else [value] for value in where.values()]
    places = [dict(zip(where, values, strict=True)) for values in itertools.product(*lists)]
    for place in places:
        if "dataset_path" in place:
            place["dataset_path"] = _filled(path, place)
    return places


def _filled(path: str | Path, place: Mapping[str, Any]) -> str:
    default = resolve()
    known = {"language": default.data.language, "prompt_type": default.data.prompt_type, **place}
    try:
        return str(place["dataset_path"]).format(
            language=known["language"], prompt_type=known["prompt_type"]
        )
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"grid {path}: dataset_path {place['dataset_path']!r} may hold {{language}} and "
            "{prompt_type}, and a brace is written twice"
        ) from error


def _check_policy(path: str | Path, policy: Mapping[str, Any]) -> None:
    """Check that a policy's tables are tables, and vary what can vary."""
    said = f"grid {path}: policy {policy['name']!r}"
    for table in ("settings", "grid", "where"):
        if not isinstance(policy.get(table, {}), dict):
            raise ConfigError(f"{said}: {table} is no table, such as {{k = 8}}")
    crosses = policy.get("crosses", [])
    if not isinstance(crosses, list) or any(name not in CROSSINGS for name in crosses):
        raise ConfigError(f"{said}: crosses is no list of some of {', '.join(CROSSINGS)}")
    for key, values in policy.get("grid", {}).items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{said}: grid.{key} is no list of values, such as [4, 8]")
    for key in {**policy.get("settings", {}), **policy.get("grid", {})}:
        name = key.replace("-", "_")
        if name in (*_ONCE, "language", "prompt_type"):
            raise ConfigError(
                f"{said}: {key} cannot vary between policies, which are compared with edge and cloud "
                "alone on the same data and models; give it in [where]"
            )
        if name in {option.name for option in OPTIONS} - _OF_POLICIES:
            raise ConfigError(f"{said}: {key}: {_no_effect(name)}")
    for key in policy.get("where", {}):
        if key not in _WHERE:
            raise ConfigError(f"{said}: where.{key} cannot vary; give it in the grid's [where]")


def _no_effect(key: str) -> str:
    if key == "clock":
        return "a sweep is in modelled time"
    if key.startswith("bertscore"):
        return "a sweep scores by CIDEr alone"
    return "it has no effect in a sweep, whose points run in one process in modelled time"


def _check_points(path: str | Path, points: Sequence[Point]) -> None:
    """Check that names tell the points of a place apart, and that their reference is there."""
    policies = [point for point in points if point.mode == "spec"]
    if not policies:
        raise ConfigError(f"grid {path} has no policy: add a [[policy]] with a name and settings")
    names = {point.name for point in policies}
    seen: set[str] = set()
    for point in policies:
        place = json.dumps([point.name, *(point.place.get(key) for key in _WHERE)])
        if place in seen:  # of one configuration there is one point
            raise ConfigError(f"grid {path}: two policies are called {point.name!r}; rename one")
        seen.add(place)
        if point.against is not None and point.against not in names:
            raise ConfigError(
                f"grid {path}: policy {point.name!r} is against {point.against!r}, which is none of "
                f"{', '.join(sorted(names))}"
            )


def check(points: Sequence[Point], *, workers: int = 1) -> list[str]:
    """Check all that points need, in ``workers`` processes, before any of their weights is used. Returns lines
    on what varies and what does not.

    Raises:
        EdgeCloudError: data that cannot be read or has no references to score by, models that are not
            there, do not fit to each other or into memory, a policy that does not go with them.
    """
    checked: set[tuple[Any, ...]] = set()
    places: list[tuple[Mode, Config]] = []
    samples: list[Sample] = []
    for point in points:
        config = point.config
        if point.mode == "spec":
            speculation(config)
        what = (config.data.path, config.data.language, config.data.prompt_type)
        if what in checked:
            continue
        checked.add(what)
        corpus, manifest = load_corpus(config)
        scored = len(corpus_references_of(corpus, config.data.language))
        if scored < 2:
            raise DataError(
                f"{manifest}: {scored} of {len(corpus)} samples have a reference in {config.data.language}, "
                "and a sweep scores by CIDEr, which needs 2; take another language in [where], or "
                'caption_type = "audio_only"'
            )
        samples += corpus[: config.data.max_samples]
        # One process holds edge and cloud, and no cap is on it.
        places.append(("spec", config.changed(workers=workers, max_memory_gb=0.0)))
        for side in ("edge", "cloud"):
            model = getattr(config.models, side)
            if model is not None and not (Path(locate(model).path) / "config.json").is_file():
                raise CheckpointError(
                    f"{side}_model {model} is no checkpoint folder: it holds no config.json"
                )
    check_models(places, samples=samples)
    configs = [point.config.to_json() for point in points]
    varied = {key: list(dict.fromkeys(config[key] for config in configs)) for key in _WHERE}
    shown = [f"{key}: {', '.join(map(str, some))}" for key, some in varied.items() if len(some) > 1]
    policies = {point.name for point in points if point.mode == "spec"}
    return [
        f"{len({point.key for point in points})} runs: {len(policies)} policies, and edge and cloud alone",
        f"varies: {'; '.join(shown) or 'nothing but the policies'}",
        "the same everywhere: data, models, precision, most tokens; it is in modelled time, on this machine",
    ]


def _policies(policy: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    grid = policy.get("grid", {})
    for values in itertools.product(*grid.values()):
        varied = dict(zip(grid, values, strict=True))
        name = " ".join([policy["name"], *(f"{key}={value}" for key, value in varied.items())])
        yield name, {**policy.get("settings", {}), **varied}


def sweep(
    points: Sequence[Point], output_dir: str | Path, *, workers: int = 1
) -> Iterator[tuple[Point, Path, dict[str, float]]]:
    """Run every point; yield it with its journal and the CIDEr of each sample as it is done. Complete
    journals are not run again, broken-off ones go on.

    Raises:
        EdgeCloudError: a point cannot be run; journals keep what was done.
    """
    folder = Path(output_dir) / "journals"
    environment = machine()
    tasks = [(point, folder / f"{point.key}.jsonl") for point in points]
    # Settings are checked before anything is run.
    distinct = {path: point for point, path in tasks}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_one_thread) as pool:
        running = {
            pool.submit(_run, point, path, environment): path for path, point in distinct.items()
        }
        try:
            for done in as_completed(running):
                quality = done.result()
                for point, path in tasks:
                    if path == running[done]:
                        yield point, path, quality
        except BrokenProcessPool as error:
            raise WorkerError(
                "a process of the sweep died; start it again, it goes on where it ended"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def audio_notes_of(swept: Iterable[tuple[Point, Path, Any]]) -> str | None:
    """The number of recordings of a sweep that left a note that they cannot be right, each counted once, in a
    line; ``None``: none did.

    Raises:
        JournalError: a journal cannot be read.
    """
    journals: dict[tuple[Any, ...], Path] = {}
    for point, path, _ in swept:
        config = point.config
        data = (config.data.path, config.data.language, config.data.prompt_type)
        journals.setdefault(data, path)
    found: dict[tuple[Any, str], Mapping[str, str]] = {}
    for (manifest, *_), path in journals.items():
        for record in read(path)[1]:
            found[manifest, record.file_id] = record.audio_notes
    return audio_notes.sentence(found.values())


def _one_thread() -> None:
    """Limit this process to one core, as many run side by side."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


@cache
def _cloud(path: str | None, device: str, dtype: str) -> Loaded:
    return load(*model_of(path, "cloud"), device=device, dtype=dtype)


@cache
def _loaded_edge(path: str | None, device: str, dtype: str, quantization: str) -> LoadedEdge:
    return load_edge(*model_of(path, "edge"), device=device, dtype=dtype, quantization=quantization)


def _run(point: Point, path: Path, environment: Mapping[str, Any]) -> dict[str, float]:
    """Caption what the point's journal does not hold yet; the CIDEr of each sample by ``file_id``.

    Raises:
        OutputError: another process is at this journal.
    """
    with held(path, flag="-o"):
        return _complete(point, path, environment)


def _complete(point: Point, path: Path, environment: Mapping[str, Any]) -> dict[str, float]:
    config = point.config
    corpus, manifest = load_corpus(config)
    samples = corpus[: config.data.max_samples]
    edge = _loaded_edge(
        config.models.edge,
        config.models.edge_device,
        config.models.edge_dtype,
        config.models.edge_quantization,
    )
    cloud = _cloud(config.models.cloud, config.models.cloud_device, config.models.cloud_dtype)
    setup: dict[str, Any] = {
        "models": {
            "edge": None if point.mode == "cloud" else edge.facts,
            "cloud": None if point.mode == "edge" else cloud.facts,
        },
        "data": data_of(config, corpus, manifest),
        "limits": {"summary": "none: one process, modelled time"},
        "hardware_profile": profile(config.hardware.profile).to_json(),
    }
    setup["plugins"] = plugins_of(point.mode, config, setup["models"])
    identity = identity_of(config, setup)
    # Outages are the modelled link's, and the same each time: nothing is gained by another try.
    with Journal.open(
        path, mode=point.mode, identity=identity, resume=True, keep_degraded=True
    ) as journal:
        for note in journal.notes:
            print(f"edgecloud: {note}", file=sys.stderr)  # noqa: T201 - a warning
        journal.describe(
            facts(
                config=config,
                corpus=corpus,
                samples=samples,
                setup=setup,
                environment=environment,
                floors=None,
            )
        )
        request_handler = handler_of(
            point.mode, config, edge=edge, cloud=cloud, cache_dir=cache_dir()
        )
        for sample in samples:
            if sample.file_id in journal.records:
                continue
            answer: Response | Failed
            try:
                answer = request_handler.caption(request_of(config, sample))
            except (DataError, ModelError) as error:
                answer = Failed(type(error).__name__, str(error))
            journal.append(journalled(sample, answer, null_readings("the clock is modelled")))
    return _ciders(config, corpus, journal.records)


def _ciders(
    config: Config, corpus: Sequence[Sample], records: Mapping[str, Record]
) -> dict[str, float]:
    language = config.data.language
    found = score(
        language=language,
        ids=list(records),
        hypotheses=[record.text or "" for record in records.values()],
        references=[record.references for record in records.values()],
        reference_languages=[record.reference_language or language for record in records.values()],
        corpus_references=corpus_references_of(corpus, language),
        tokenizers=LANGUAGE_TOKENIZERS[language][:1],
    )
    name = f"{LANGUAGE_TOKENIZERS[language][0]}.cider"
    values = {id_: row[name] for id_, row in zip(records, found.per_sample, strict=True)}
    return {id_: value for id_, value in values.items() if value is not None}
