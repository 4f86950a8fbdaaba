"""Many configurations over one corpus, in modelled time: loaded once, in parallel processes, resumable.

Each point of a sweep has a journal of its own, like any run's; a point whose journal is complete is
read back instead of run. No torch: what decodes and times is in :mod:`edgecloud.experiments.swept`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from edgecloud.contracts import Language, Sample
from edgecloud.contracts.ranges import WHOLE_CAPTIONS
from edgecloud.datasets.corpus import load_corpus
from edgecloud.edge.messages import Mode
from edgecloud.edge.speculation_policy import speculation
from edgecloud.errors import CheckpointError, ConfigError, DataError, WorkerError
from edgecloud.experiments.checking import check_models, model_of
from edgecloud.experiments.reporting import machine
from edgecloud.experiments.retiming import by_time
from edgecloud.experiments.run import data_of, identity_of, plugins_of
from edgecloud.hardware.profiles import profile
from edgecloud.models.identity import identity_at
from edgecloud.quality import corpus_references_of, score
from edgecloud.quality.tokenize import LANGUAGE_TOKENIZERS
from edgecloud.registry import load_plugins
from edgecloud.results import audio_notes
from edgecloud.results.comparable import CROSSINGS
from edgecloud.results.frontier import Scored
from edgecloud.results.journal import check_run, read
from edgecloud.results.records import Record
from edgecloud.settings.config import Config, resolve
from edgecloud.settings.declaration import MODES
from edgecloud.settings.options import OPTIONS
from edgecloud.textfiles import read_toml

__all__ = [
    "DEFAULT_GRID",
    "ROLES",
    "Point",
    "audio_notes_of",
    "check",
    "decoding_of",
    "grid_content",
    "quality_of",
    "read_grid",
    "setup_of",
    "sweep",
    "whole_captions",
]

DEFAULT_GRID = Path(__file__).parent / "frontier.toml"
_TIMED_BY = ("hardware_profile", "link", "max_cpu_cores", "max_memory_gb")
"""Options that decide modelled times, and those that follow from the profile."""
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
_OF_PARTS = tuple(option.name for option in OPTIONS if option.modes == ("spec",))
"""Options of speculation alone, by which whole captions of edge and cloud do not differ."""
_POLICY = {"name", "mode", "settings", "grid", "where", "role", "against", "crosses"}
ROLES = ("policy", "baseline", "added", "removed", "chosen", "rival")


_ADDED_LATER = {
    "repetition_penalty": 1.0,
    "no_repeat_ngram": 0,
    "cloud_draft_tokens": 0,
    "cloud_quantization": "none",
}
"""Defaults of options that journals of sweeps were named before: with these a journal keeps its name."""


@dataclass(frozen=True)
class Point:
    """One configuration: ``edge`` or ``cloud`` alone, or a policy: ``spec`` with ``settings``, or a ``cloud`` with
    ``settings`` of its own.

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
    def alone(self) -> bool:
        """True for the edge and the cloud that the policies of a place are compared with."""
        return self.name == self.mode

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that differ from the defaults: those of ``place``, then of ``policy``."""
        return {**self.place, **self.policy}

    @cached_property
    def config(self) -> Config:
        """The validated configuration, in modelled time.

        Raises:
            ConfigError: settings that are no configuration.
        """
        preset = self.settings.get("preset")
        flags = {key: value for key, value in self.settings.items() if key != "preset"}
        return resolve({**flags, "clock": "modelled"}, preset=preset)

    @cached_property
    def key(self) -> str:
        """The name of its journal: the same for the same configuration, whatever it is called."""
        settings = {
            name: value
            for name, value in self.config.identity().items()
            if (name, value) not in _ADDED_LATER.items()
        }
        identity = json.dumps([self.mode, settings, self.config.data.max_samples])
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
            own = Point(
                policy.get("mode", "spec"),
                name,
                place,
                _at(place, settings),
                role,
                policy.get("against"),
                tuple(policy.get("crosses", ())),
            )
            for point in (*alone, own):
                points.setdefault((point.name, point.key), point)
    _check_points(path, list(points.values()))
    return sorted(points.values(), key=lambda point: not point.alone)


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


def _at(place: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A policy's ``settings`` at a place, whose ``{hardware_profile}`` its own may be named after."""
    own = settings.get("hardware_profile")
    if not isinstance(own, str):
        return dict(settings)
    here = str(place.get("hardware_profile", resolve().hardware.profile))
    return {**settings, "hardware_profile": own.replace("{hardware_profile}", here)}


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
    if policy.get("mode", "spec") not in ("spec", "cloud") or policy["name"] in MODES:
        raise ConfigError(f"{said}: mode is spec or cloud, and edge, cloud and spec are no names")
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
    policies = [point for point in points if not point.alone]
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


def check(points: Sequence[Point]) -> list[str]:
    """Check data and policies. Returns lines on what varies and what does not. Models are checked by
    :func:`sweep`, where any are used.

    Raises:
        EdgeCloudError: data that cannot be read or has no references to score by, models that are not
            there, a policy that does not go with them.
    """
    checked: set[tuple[Any, ...]] = set()
    for point in points:
        config = point.config
        if point.mode == "spec":
            speculation(config)
        if _data(config) in checked:
            continue
        checked.add(_data(config))
        corpus, manifest = load_corpus(config)
        scored = len(corpus_references_of(corpus, config.data.language))
        if scored < 2:
            raise DataError(
                f"{manifest}: {scored} of {len(corpus)} samples have a reference in {config.data.language}, "
                "and a sweep scores by CIDEr, which needs 2; take another language in [where], or "
                'caption_type = "audio_only"'
            )
        for side in ("edge", "cloud"):
            model = getattr(config.models, side)
            path = Path(model_of(model, side)[1])
            if model is not None and not (path / "config.json").is_file():
                raise CheckpointError(
                    f"{side}_model {model} is no checkpoint folder: it holds no config.json"
                )
    configs = [point.config.to_json() for point in points]
    varied = {key: list(dict.fromkeys(config[key] for config in configs)) for key in _WHERE}
    shown = [f"{key}: {', '.join(map(str, some))}" for key, some in varied.items() if len(some) > 1]
    policies = {point.name for point in points if not point.alone}
    return [
        f"{len({point.key for point in points})} runs: {len(policies)} policies, and edge and cloud alone",
        f"varies: {'; '.join(shown) or 'nothing but the policies'}",
        "the same everywhere: data, models, precision, most tokens; it is in modelled time, on this machine",
    ]


def _data(config: Config) -> tuple[Any, ...]:
    return config.data.path, config.data.language, config.data.prompt_type


def _check_models(points: Sequence[Point], *, workers: int) -> None:
    """Check the models of points, in ``workers`` processes, before any of their weights is used.

    Raises:
        EdgeCloudError: they do not fit to each other or into memory.
    """
    configs = {_data(config): config for config in (point.config for point in points)}
    corpora = [load_corpus(config)[0][: config.data.max_samples] for config in configs.values()]
    # One process holds edge and cloud, and no cap is on it.
    arms: list[tuple[Mode, Config]] = [
        ("spec", config.changed(workers=workers, max_memory_gb=0.0)) for config in configs.values()
    ]
    check_models(arms, samples=[sample for corpus in corpora for sample in corpus])


def _policies(policy: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    grid = policy.get("grid", {})
    for values in itertools.product(*grid.values()):
        varied = dict(zip(grid, values, strict=True))
        name = " ".join([policy["name"], *(f"{key}={value}" for key, value in varied.items())])
        yield name, {**policy.get("settings", {}), **varied}


def sweep(
    points: Sequence[Point],
    output_dir: str | Path,
    *,
    workers: int = 1,
    counts: Counter[str] | None = None,
) -> Iterator[tuple[Point, Path, dict[str, Scored]]]:
    """Run every point; yield it with its journal and the quality of each sample as it is done. Complete
    journals are not run again, broken-off ones go on. Points that differ in hardware profile and link alone
    are decoded once and timed anew for each, where their tokens do not hang on time. ``counts`` is told how many
    journals were ``kept``, ``retimed`` and ``decoded``.

    Raises:
        EdgeCloudError: a point cannot be run; journals keep what was done.
    """
    folder = Path(output_dir) / "journals"
    tasks = [(point, folder / f"{point.key}.jsonl") for point in points]
    # Settings are checked before anything is run.
    distinct = {path: point for point, path in tasks}
    told = Counter[str]() if counts is None else counts
    groups: dict[str, _Group] = {}
    blocks: dict[tuple[Any, ...], dict[str, Any]] = {}
    for path, point in distinct.items():
        group = groups.setdefault(decoding_of(point, path), _Group())
        records = _complete(point, path, blocks)
        if records is None:
            group.left.append((point, path))
            continue
        if not whole_captions(point):  # of those, no journal alone says what the others need
            group.complete = group.complete or path
        told["kept"] += 1
        yield from _each(tasks, path, quality_of(point.config, records))
    unfinished = [group for group in groups.values() if group.left]
    if not unfinished:
        return
    _check_models([p for group in unfinished for p, _ in group.left], workers=workers)
    environment = machine()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        running = [pool.submit(_run, group, environment) for group in unfinished]
        try:
            for done in as_completed(running):
                for path, how, quality in done.result():
                    told[how] += 1
                    yield from _each(tasks, path, quality)
        except BrokenProcessPool as error:
            raise WorkerError(
                "a process of the sweep died; start it again, it goes on where it ended"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class _Group:
    """Points of the same tokens, and one of their journals that is complete, if any is."""

    left: list[tuple[Point, Path]] = field(default_factory=list)
    complete: Path | None = None


def whole_captions(point: Point) -> bool:
    """True for a cascade and a router: their captions are the edge's or the cloud's, and are put together from
    runs of the two, whatever the threshold."""
    config = point.config
    return point.mode == "spec" and config.gate.scope in WHOLE_CAPTIONS


def decoding_of(point: Point, path: Path) -> str:
    """The same for points whose journals can be timed anew from each other, or from those of edge and cloud;
    ``path`` is the point's own."""
    config = point.config
    if by_time(point.mode, config) is not None:
        return str(path)
    apart = point.mode != "cloud" and not whole_captions(point)
    named = _TIMED_BY if apart else (*_TIMED_BY, *_OF_PARTS)
    alike = {k: v for k, v in config.identity().items() if k not in named}
    return json.dumps([point.mode if apart else "cloud", alike, config.data.max_samples])


def _each(
    tasks: Sequence[tuple[Point, Path]], path: Path, quality: dict[str, Scored]
) -> Iterator[tuple[Point, Path, dict[str, Scored]]]:
    """Every point whose journal it is."""
    yield from ((point, path, quality) for point, its in tasks if its == path)


def _complete(
    point: Point, path: Path, blocks: dict[tuple[Any, ...], dict[str, Any]]
) -> list[Record] | None:
    """The records of a point's journal, where it holds every sample; nothing is loaded. ``blocks`` keeps what
    was found out about the data.

    Raises:
        JournalError: it is damaged, or of another run.
    """
    if not path.is_file():
        return None
    config = point.config
    corpus, manifest = load_corpus(config)
    header, records = read(path)
    sides = {"edge": config.models.edge, "cloud": config.models.cloud}
    models = {
        side: None if {point.mode, side} == {"edge", "cloud"} else _identity(model, side)
        for side, model in sides.items()
    }
    data = blocks.get(_data(config)) or data_of(config, corpus, manifest)
    blocks[_data(config)] = data
    setup = setup_of(point, data, models)
    check_run(path, header, mode=point.mode, identity=identity_of(config, setup))
    by_id = {record.file_id: record for record in records if record.ok}
    wanted = [sample.file_id for sample in corpus[: config.data.max_samples]]
    if "facts" not in header or not by_id.keys() >= {*wanted}:
        return None
    return [by_id[file_id] for file_id in wanted]


@cache
def _identity(model: str | None, side: str) -> dict[str, str]:
    return identity_at(model_of(model, side)[1])


def setup_of(point: Point, data: Mapping[str, Any], models: Mapping[str, Any]) -> dict[str, Any]:
    """On what a point runs (JSON): its block of ``data``, and facts of its ``models`` by side."""
    config = point.config
    return {
        "models": dict(models),
        "data": dict(data),
        "limits": {"summary": "none: one process, modelled time"},
        "hardware_profile": profile(config.hardware.profile).to_json(),
        "plugins": plugins_of(point.mode, config, models),
    }


def quality_of(config: Config, records: Iterable[Record]) -> dict[str, Scored]:
    """The quality of each sample that has a CIDEr, by ``file_id``."""
    corpus, _ = load_corpus(config)
    language = config.data.language
    captions = tuple(
        (r.file_id, r.text or "", r.references, r.reference_language or language) for r in records
    )
    return dict(_scored(language, corpus, captions))


@lru_cache(maxsize=64)
def _scored(
    language: Language,
    corpus: tuple[Sample, ...],
    captions: tuple[tuple[str, str, tuple[str, ...], Language], ...],
) -> Mapping[str, Scored]:
    """Of the same captions once: those that were timed anew are."""
    ids, texts, references, languages = zip(*captions, strict=True) if captions else ((),) * 4
    truth = {sample.file_id: dict(sample.attributes) for sample in corpus}
    found = score(
        language=language,
        ids=list(ids),
        hypotheses=list(texts),
        references=list(references),
        reference_languages=list(languages),
        corpus_references=corpus_references_of(corpus, language),
        attributes=[truth.get(id_, {}) for id_ in ids],
        tokenizers=LANGUAGE_TOKENIZERS[language][:1],
    )
    name = f"{LANGUAGE_TOKENIZERS[language][0]}.cider"
    return {
        id_: Scored(cider, row["attribute_accuracy"])
        for id_, row in zip(ids, found.per_sample, strict=True)
        if (cider := row[name]) is not None
    }


def _run(
    group: _Group, environment: Mapping[str, Any]
) -> Sequence[tuple[Path, str, dict[str, Scored]]]:
    """In a process of the pool: complete the journals of a group; each with how and with its quality."""
    # One core, as many run side by side; what computes is imported only now.
    os.environ["OMP_NUM_THREADS"] = "1"
    from edgecloud.experiments.swept import complete

    load_plugins()
    return complete(group.left, group.complete, environment)


def audio_notes_of(swept: Iterable[tuple[Point, Path, Any]]) -> str | None:
    """The number of recordings of a sweep that left a note that they cannot be right, each counted once, in a
    line; ``None``: none did.

    Raises:
        JournalError: a journal cannot be read.
    """
    journals: dict[tuple[Any, ...], Path] = {}
    for point, path, _ in swept:
        journals.setdefault(_data(point.config), path)
    found: dict[tuple[Any, str], Mapping[str, str]] = {}
    for (manifest, *_), path in journals.items():
        for record in read(path)[1]:
            found[manifest, record.file_id] = record.audio_notes
    return audio_notes.sentence(found.values())
