"""A real pair of models on the prompts of ``bench/real_prompts``: tables of acceptance, ranks, entropies and policies.

    python -m bench.real_pair FOLDER [--page PAGE.md]
    python -m bench.real_pair FOLDER --only-tune [--tune-prompts 6]

``FOLDER`` holds two checkpoints of one vocabulary that answer prompts, ``edge`` and ``cloud`` (links will do). The
cloud's own answers become the references, everything verified on the calibration prompts fits the gate, `edgecloud
tune` chooses presets on them, and the policies of ``bench/real_pair.toml`` are decoded in float32, many prompts in one forward (:mod:`bench.lockstep`), as
journals of a sweep: ``edgecloud sweep FOLDER/grid.toml -o FOLDER/frontier`` finds them complete. What was decoded
before is not decoded again. One thread computes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tabulate import tabulate

from bench.lockstep import Lockstep, Remembering
from bench.real_tune import SideBySide
from edgecloud.contracts import Commit, Draft, Language, Verify
from edgecloud.datasets.corpus import load_corpus
from edgecloud.edge.gate_calibration import to_json
from edgecloud.experiments.calibration import evaluate, examples, fit, no_better
from edgecloud.experiments.reporting import machine
from edgecloud.experiments.run import request_of
from edgecloud.experiments.sweep import Point, decoding_of, read_grid, sweep
from edgecloud.experiments.swept import complete, handler_for
from edgecloud.experiments.tune import check, tune
from edgecloud.experiments.tuning import Goal
from edgecloud.models.loading import load
from edgecloud.models.precision import load_model
from edgecloud.quality.metrics.sacre import sacre_scores
from edgecloud.report.frontier.page import updated
from edgecloud.results.frontier import Scored, measures
from edgecloud.results.journal import read
from edgecloud.results.records import Record
from edgecloud.settings.config import resolve

if TYPE_CHECKING:
    from edgecloud.experiments.swept import Models
    from edgecloud.settings.config import Config

PROMPTS = Path(__file__).parent / "real_prompts"
GRID = Path(__file__).parent / "real_pair.toml"
LANGUAGES = ("chinese", "english")
VERIFIED = "everything verified, exact"
EMBEDDED_SAMPLES = 60
GOALS = (0.95, 0.8)
"""Least shares of the gap that presets are tuned for."""
_RANKS = ((0, 0), (1, 1), (2, 4), (5, 19), (20, 99), (100, 10**9))
_ENTROPIES = (0.1, 0.5, 1.0, 1.5, 2.0, 4.0)
"""Nats."""


def main() -> int:
    """Decode what is missing, and print the tables. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--page", type=Path, help="put the tables between this page's marks")
    parser.add_argument("--only-tune", action="store_true", help="print the table of presets alone")
    parser.add_argument("--tune-prompts", type=int, default=6, help="a language, of 20")
    given = parser.parse_args()
    folder: Path = given.folder.resolve()
    torch.set_num_threads(1)
    pair = Pair(folder)
    if given.only_tune:
        sys.stdout.write(f"{tuned(pair, given.tune_prompts)}\n")
        return 0
    grid = folder / "grid.toml"
    grid.write_text(GRID.read_text(encoding="utf-8").replace("FOLDER", str(folder)), "utf-8")
    references(pair)
    fitted = calibrated(pair)
    presets = tuned(pair, given.tune_prompts)
    points = read_grid(grid)
    journals = pair.decoded(points)
    # The other hardware profiles: timed anew, without a model.
    swept = list(sweep(points, folder / "frontier"))
    embedded = [
        Point("spec", VERIFIED, {"language": of, "max_samples": EMBEDDED_SAMPLES}, _VERIFIED)
        for of in LANGUAGES
    ]
    beside = [path for _, path, _ in sweep(embedded, folder / "embedded")]
    verified = [journals[point.key] for point in points if point.name == VERIFIED]
    tables = {
        "acceptance": _acceptance({"real": verified, "embedded": beside}),
        "ranks": _ranks({"real": verified, "embedded": beside}),
        "entropies": _entropies({"real": verified, "embedded": beside}),
        "gates": fitted,
        "tuned": presets,
        **{
            f"policies-{language}-{hardware}": _policies(
                [(point, path) for point, path, _ in swept if _at(point) == (language, hardware)]
            )
            for language in LANGUAGES
            for hardware in ("paper", "paper-int8")
        },
    }
    for name, table in tables.items():
        sys.stdout.write(f"{name}\n{table}\n\n")
    if given.page is not None:
        given.page.write_text(updated(given.page, tables), encoding="utf-8")
    return 0


_VERIFIED = {"gate_type": "always", "k": 4, "acceptance": "exact"}


class Pair:
    """The two checkpoints, loaded when something is decoded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lockstep = Lockstep()
        self._models: Models | None = None

    def loaded(self, config: Config) -> Models:
        """Edge and cloud in float32."""
        if self._models is None:
            edge = load_model(
                "edge",
                str(self.folder / "edge"),
                device="cpu",
                dtype="float32",
                quantization="none",
            )
            cloud = load("cloud", str(self.folder / "cloud"), device="cpu", dtype="float32")
            self._models = (
                replace(edge, model=Remembering(edge.model, self.lockstep)),  # type: ignore[arg-type]
                replace(cloud, model=Remembering(cloud.model, self.lockstep)),  # type: ignore[arg-type]
            )
        return self._models

    def decoded(self, points: Sequence[Point]) -> dict[str, Path]:
        """The journals of ``points`` by their keys, one of those that differ in hardware alone complete."""
        folder = self.folder / "frontier" / "journals"
        folder.mkdir(parents=True, exist_ok=True)
        paths = {point.key: folder / f"{point.key}.jsonl" for point in points}
        distinct = {decoding_of(point, paths[point.key]): point for point in reversed(points)}
        by_name: dict[str, list[Point]] = {}
        for point in reversed(distinct.values()):
            done = read(paths[point.key])[1] if paths[point.key].exists() else []
            if len(done) < len(load_corpus(point.config)[0]):
                by_name.setdefault(point.name, []).append(point)
        for name, together in by_name.items():
            began_s = time.process_time()
            self._remember(together)
            for point in together:
                complete([(point, paths[point.key])], None, machine(), self.loaded)
            _say(f"{name}: {time.process_time() - began_s:.0f} CPU s")
        return paths

    def _remember(self, points: Sequence[Point]) -> None:
        """Decode all samples of all ``points`` side by side, so that journals have only to be written."""
        requests = [
            (
                handler_for(point.mode, point.config, self.loaded),
                request_of(point.config, sample),
            )
            for point in points
            for sample in load_corpus(point.config)[0]
        ]
        self.lockstep.map(lambda each: each[0].caption(each[1]), requests)


def references(pair: Pair) -> None:
    """Write the manifests of the prompts with the cloud's own answers as references."""
    entries = {
        f"{prefix}{language}": json.loads(
            (PROMPTS / f"{prefix}{language}.json").read_text(encoding="utf-8")
        )
        for prefix in ("", "calibration-")
        for language in LANGUAGES
    }
    points = {}
    for name, some in entries.items():
        plain = pair.folder / f"{name}-plain.json"
        _write(plain, [{**one, "references": ["-"]} for one in some])
        points[name] = _point(pair, "cloud", "cloud", plain, name.rsplit("-", 1)[-1])
    journals = pair.decoded(list(points.values()))
    for name, point in points.items():
        texts = {record.file_id: record.text for record in read(journals[point.key])[1]}
        _write(
            pair.folder / f"{name}.json",
            [{**one, "references": [texts[one["file_id"]]]} for one in entries[name]],
        )


def _write(path: Path, content: Any) -> None:
    """Write JSON; a file that holds it already keeps its time."""
    text = json.dumps(content, ensure_ascii=False, indent=1)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def calibrated(pair: Pair) -> str:
    """Fit the gate to the calibration prompts, by the bounded rule. Returns a table of gates."""
    points = [
        _point(
            pair,
            "spec",
            "calibration",
            pair.folder / f"calibration-{language}.json",
            language,
            {**_VERIFIED, "acceptance": "bounded"},
        )
        for language in LANGUAGES
    ]
    journals = pair.decoded(points)
    found = examples([journals[point.key] for point in points])
    rows = evaluate(found)
    _write(
        pair.folder / "calibration.json",
        to_json(fit(found), tokens=len(found.tokens), rejected=sum(found.rejected)),
    )
    for line in no_better(rows):
        _say(f"calibration: {line}")
    shown = [
        [row["kind"], row["gate"], f"{row['auc']:.3f}"]
        + [f"{at['precision']:.2f} / {at['recall']:.2f}" for at in row["at"]]
        for row in rows
    ]
    rates = [f"at {at['rate']:.0%}" for at in rows[0]["at"]]
    said = f"{len(found.tokens)} tokens, {sum(found.rejected)} rejected"
    return f"{_table(shown, ['', 'gate', 'AUC', *rates])}\n\n{said}"


def tuned(pair: Pair, each: int) -> str:
    """Choose a preset for each of :data:`GOALS` on the first ``each`` calibration prompts of both languages, by
    agreement with the cloud. Returns a table of what was chosen, and what is expected of it."""
    entries = [
        {**one, "file_id": f"{language}-{one['file_id']}", "index": number}
        for language in LANGUAGES
        for number, one in enumerate(
            json.loads((PROMPTS / f"calibration-{language}.json").read_text(encoding="utf-8"))[
                :each
            ]
        )
    ]
    manifest = pair.folder / "calibration-both.json"
    _write(manifest, entries)
    place = _point(pair, "spec", "tune", manifest, "chinese").place
    config, samples = check(resolve({name: place[name] for name in place if name != "language"}))
    rows = []
    for goal in GOALS:
        began_s = time.process_time()
        found = tune(
            config,
            samples,
            Goal(gap=goal),
            pair.folder / "tuning",
            say=_say,
            loaded=lambda config, _: SideBySide(config, *pair.loaded(config), pair.lockstep),
        )
        _say(f"tuned for {goal}: {time.process_time() - began_s:.0f} CPU s")
        _write(pair.folder / f"tuned-{goal}.json", found.content)
        blocks = [found.choice.expected, found.choice.seen]
        shown = [
            [
                f"{block[name]['estimate']:.2f} ({block[name]['low']:.2f} … {block[name]['high']:.2f})"
                for block in blocks
            ]
            for name in ("gap_closed", "busy", "time")
        ]
        settings = " ".join(f"{k}={v}" for k, v in found.choice.candidate.settings.items())
        rows.append([f"{goal}", settings, *itertools.chain.from_iterable(shown)])
    heads = [
        f"{what}, {where}"
        for what in ("gap closed", "busy / cloud", "time / edge")
        for where in ("expected", "on these")
    ]
    return _table(rows, ["gap wanted", "chosen", *heads])


def _point(
    pair: Pair,
    mode: Any,
    name: str,
    manifest: Path,
    language: str,
    policy: dict[str, Any] | None = None,
) -> Point:
    place = {
        "language": language,
        "dataset_type": "text",
        "dataset_path": str(manifest),
        "edge_model": str(pair.folder / "edge"),
        "cloud_model": str(pair.folder / "cloud"),
        "cloud_device": "cpu",
        "max_new_tokens": 48,
    }
    return Point(mode, name, place, policy or {})


def _at(point: Point) -> tuple[str, str]:
    return point.config.data.language, point.config.hardware.profile


def _records(paths: Sequence[Path]) -> list[Record]:
    return [record for path in paths for record in read(path)[1]]


def _judged(records: Sequence[Record]) -> Iterator[tuple[bool, int, float, float]]:
    """Of each drafted token up to the first that was not kept: whether it was, its rank in the cloud's
    distribution, the cloud's probability of its own first choice, and the edge's entropy in nats."""
    for record in records:
        entropies: list[float] = []
        for event in record.trace.events:
            if isinstance(event, Draft):
                entropies += event.entropies
            elif isinstance(event, Commit):
                entropies = []
            elif isinstance(event, Verify):
                judged = zip(event.ranks, event.top_probs, entropies, strict=True)
                for number, row in enumerate(list(judged)[: event.kept + 1]):
                    yield number < event.kept, *row


def _by(
    runs: dict[str, list[Path]], of: Callable[[list[tuple[bool, int, float, float]]], list[Any]]
) -> list[list[Any]]:
    rows = []
    for name, paths in runs.items():
        for language, path in zip(LANGUAGES, paths, strict=True):
            rows.append([f"{name}, {language}", *of(list(_judged(_records([path]))))])
    return rows


def _acceptance(runs: dict[str, list[Path]]) -> str:
    rows = []
    for name, paths in runs.items():
        for language, path in zip(LANGUAGES, paths, strict=True):
            records = _records([path])
            checks = [event for record in records for event in record.trace.of(Verify)]
            judged = list(_judged(records))
            drafted, kept = sum(e.drafted for e in checks), sum(e.kept for e in checks)
            rows.append(
                [
                    f"{name}, {language}",
                    len(records),
                    sum(len(record.trace.tokens) for record in records),
                    f"{kept / drafted:.3f}",
                    f"{np.mean([one[0] for one in judged]):.3f}",
                    f"{sum(e.kept == e.drafted for e in checks) / len(checks):.2f}",
                    f"{np.mean([e.kept for e in checks]) + 1:.2f}",
                ]
            )
    return _table(
        rows,
        [
            "",
            "answers",
            "tokens",
            "kept of drafted",
            "kept of judged",
            "drafts kept whole",
            "tokens a verification",
        ],
    )


def _ranks(runs: dict[str, list[Path]]) -> str:
    def shares(judged: list[tuple[bool, int, float, float]]) -> list[Any]:
        ranks = np.array([one[1] for one in judged])
        return [
            len(judged),
            *(f"{np.mean((ranks >= low) & (ranks <= high)):.1%}" for low, high in _RANKS),
        ]

    heads = ["first", "second", "3 to 5", "6 to 20", "21 to 100", "later"]
    return _table(_by(runs, shares), ["", "judged tokens", *heads])


def _entropies(runs: dict[str, list[Path]]) -> str:
    edges = [0.0, *_ENTROPIES, np.inf]

    def shares(judged: list[tuple[bool, int, float, float]]) -> list[Any]:
        kept, entropies = np.array([one[0] for one in judged]), np.array([one[3] for one in judged])
        found: list[Any] = [f"{np.median(entropies):.2f}"]
        for low, high in itertools.pairwise(edges):
            here = (entropies >= low) & (entropies < high)
            found.append(f"{here.mean():.0%} ({kept[here].mean():.0%})" if here.any() else "0%")
        return found

    heads = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges[:-1])]
    return _table(_by(runs, shares), ["", "median", *heads, f"from {edges[-2]:g}"])


def _policies(found: Sequence[tuple[Point, Path]]) -> str:
    by_name = {point.name: read(path)[1] for point, path in found}
    cloud = by_name["cloud"]
    language = found[0][0].config.data.language
    own = {
        name: measures(records, [Scored(0.0)] * len(records)) for name, records in by_name.items()
    }
    rows = []
    for name, records in by_name.items():
        its = own[name]
        same = [a.trace.tokens == b.trace.tokens for a, b in zip(records, cloud, strict=True)]
        rows.append(
            [
                name,
                f"{np.mean(its.total_s) / np.mean(own['edge'].total_s):.2f}",
                f"{np.mean(its.busy_s) / np.mean(own['cloud'].busy_s):.2f}",
                f"{np.mean(its.calls):.1f}",
                f"{sum(its.cloud_tokens) / sum(its.tokens):.2f}",
                f"{np.mean([alike(a, b) for a, b in zip(records, cloud, strict=True)]):.3f}",
                f"{_chrf(records, cloud, language):.1f}",
                f"{sum(same)} of {len(same)}",
            ]
        )
    return _table(
        rows,
        [
            "policy",
            "time / edge",
            "busy / cloud",
            "calls",
            "cloud's share of tokens",
            "agreement, tokens",
            "agreement, chrF",
            "the cloud's answer",
        ],
    )


def _chrf(records: Sequence[Record], others: Sequence[Record], language: Language) -> float:
    texts = [[record.text or "" for record in some] for some in (records, others)]
    found = sacre_scores(texts[0], [[text] for text in texts[1]], language=language)
    return found.corpus["chrf"] or 0.0


def alike(one: Record, other: Record) -> float:
    """Twice the tokens that two answers have in common in order, over all of theirs."""
    return SequenceMatcher(None, one.trace.tokens, other.trace.tokens, autojunk=False).ratio()


def _table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
