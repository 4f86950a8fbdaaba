"""Choosing a preset: which candidates there are, what each gives, which one meets a goal, and what that one may be
expected to give on other data. No torch: what decodes is in :mod:`edgecloud.experiments.tuned`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from edgecloud.decoding.gates import Calibration
from edgecloud.errors import ConfigError, DataError
from edgecloud.experiments.calibration import PLAIN, SIGN, Examples, fit
from edgecloud.results.cost import cost
from edgecloud.results.latency import latency
from edgecloud.results.records import Record
from edgecloud.results.speculation import speculation
from edgecloud.results.statistics import Interval, gap_closed, mean_difference, mean_ratio
from edgecloud.settings.config import Config
from edgecloud.settings.subjects import OPTIONS

__all__ = [
    "ALONE",
    "EVERYTHING",
    "FEWEST",
    "FOLDS",
    "Candidate",
    "Choice",
    "Goal",
    "Signal",
    "candidates",
    "choose",
    "fixed_of",
    "folds_of",
    "means_of",
    "numbers",
    "row_of",
    "signal_of",
    "standing_of",
    "version_of",
    "with_fit",
]

FOLDS = 4
FEWEST = 12
"""Least number of samples: three in each fold."""
RULES = ("exact", "bounded")
"""Acceptance rules that are tried."""
_FEWEST_REJECTED = 40
"""Least number of rejected and of kept tokens that a gate is fitted to; of fewer the plain signal is used."""
_SHARES = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.45)
"""Shares of drafted tokens that thresholds let a gate ask about."""
_LISTENING = {"gate_scope": "token", "verify_scope": "since-last-call", "k": 16}
_STARTS: tuple[dict[str, Any], ...] = (
    {},
    {"parallel_prefill": True, "cloud_seed_tokens": 4},
    {"parallel_prefill": True, "cloud_seed_tokens": 10},
)
_CONTINUATIONS = (0, 3, 6, 12)
_BLOCKS = (3, 5)
EVERYTHING = {rule: {"gate_type": "always", "acceptance": rule, "k": 16} for rule in RULES}
"""Runs in which everything is verified, by acceptance rule: gates are fitted to them."""
ALONE = ("edge", "cloud")

Settings = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a preset must reach: at least ``gap`` of the quality gap between edge and cloud closed, the cloud busy
    for at most ``busy`` of what it is alone, at most ``time`` of the edge's time. ``None``: not named, and made
    as good as it can be.

    Raises, when made:
        ConfigError: nothing is named, or a number is not above 0.
    """

    gap: float | None = None
    busy: float | None = None
    time: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        named = {name: value for name, value in asdict(self).items() if value is not None}
        if not named:
            raise ConfigError(
                "say what the preset must reach: --gap 0.95 (of the quality gap closed), --busy 0.8 (of the "
                "cloud's work alone), --time 0.65 (of the edge's time alone), or several of them"
            )
        for name, value in named.items():
            if not 0 < value < 100:
                raise ConfigError(f"--{name} {value:g}: give a number above 0, such as 0.8")

    def missed(self, found: Mapping[str, float]) -> dict[str, float]:
        """By how much ``found`` (``gap``, ``busy``, ``time``) misses each bound, as a share of it."""
        missed = {}
        for name in ("gap", "busy", "time"):
            bound = getattr(self, name)
            if bound is not None:
                short = bound - found[name] if name == "gap" else found[name] - bound
                if short > 0:
                    missed[name] = short / bound
        return missed

    def cost(self, found: Mapping[str, float]) -> float:
        """What is made as small as possible among those that meet the goal: the sum of what is not named, of time
        over the edge's, busy time over the cloud's, and the share of the gap that stays open; of all three where all
        are named."""
        costs = {"gap": 1 - found["gap"], "busy": found["busy"], "time": found["time"]}
        free = [name for name in costs if getattr(self, name) is None] or list(costs)
        return sum(costs[name] for name in free)


@dataclass(frozen=True, slots=True)
class Signal:
    """The uncertainty signal that candidates of one acceptance rule are gated by: ``gate`` and the thresholds to try.

    ``fits`` are the calibrated gate's: one for each fold, fitted to the other folds, and ``whole``, fitted to all.
    ``auc`` is that of the gate on recordings it was not fitted to, ``plain`` and ``plain_auc`` the best plain signal's;
    ``note`` says why the gate is plain, where it is.
    """

    gate: str
    thresholds: tuple[float, ...]
    fits: tuple[Mapping[str, Calibration], ...] = ()
    whole: Mapping[str, Calibration] = field(default_factory=dict)
    auc: float | None = None
    plain: str = ""
    plain_auc: float | None = None
    tokens: int = 0
    rejected: int = 0
    note: str | None = None


def signal_of(rule: str, found: Examples, folds: Mapping[str, int], *, gate: str | None) -> Signal:
    """The signal for ``rule``, from drafts that were all verified by it; ``folds`` are the samples'. ``gate``: the
    one asked for, which is taken as it is.

    Raises:
        DataError: nothing was rejected or nothing kept; or the calibrated gate was asked for, and there is too little
            to fit it to, or it is no better than a plain signal.
    """
    rejected = np.array(found.rejected)
    if len(set(found.rejected)) < 2:
        what = "nothing" if not rejected.any() else "everything"
        raise DataError(f"with acceptance {rule} the cloud rejected {what} that the edge drafted")
    scores = {name: np.array([of(token) for token in found.tokens]) for name, of in PLAIN.items()}
    aucs = {name: float(roc_auc_score(rejected, values)) for name, values in scores.items()}
    plain = gate if gate is not None and gate in PLAIN else max(aucs, key=lambda name: aucs[name])
    counts = {"tokens": len(rejected), "rejected": int(rejected.sum())}
    about: dict[str, Any] = {"plain": plain, "plain_auc": aucs[plain], **counts}

    def kept(note: str | None, auc: float | None = None) -> Signal:
        if gate == "calibrated":
            raise DataError(f"{note}; take more samples, or leave out --gate-type")
        sign = SIGN.get(plain, 1)
        quantiles = np.quantile(scores[plain], [1 - share for share in _SHARES])
        return Signal(plain, _distinct(sign * quantiles), auc=auc, note=note, **about)

    few = min(counts["rejected"], counts["tokens"] - counts["rejected"])
    if gate in PLAIN:
        return kept(None)
    if few < _FEWEST_REJECTED:
        return kept(
            f"acceptance {rule}: {few} {'rejected' if rejected.mean() < 0.5 else 'kept'} tokens are too few to fit "
            f"a gate to (wanted are {_FEWEST_REJECTED}); the plain {plain} decides"
        )
    of_token = np.array([folds[name] for name in found.recordings])
    values = np.empty(len(rejected))
    fits = []
    for fold in range(FOLDS):
        learnt = fit(found.where(of_token != fold))
        fits.append(learnt)
        for row in np.flatnonzero(of_token == fold):
            model = learnt.get(found.kinds[row], learnt["any"])
            values[row] = model.rejection(found.tokens[row])
    auc = float(roc_auc_score(rejected, values))
    if auc <= aucs[plain]:
        return kept(
            f"acceptance {rule}: on recordings it was not fitted to, a fitted gate is no better than the plain "
            f"{plain} (AUC {auc:.3f} and {aucs[plain]:.3f}, {counts['rejected']} of {counts['tokens']} tokens "
            "rejected); the plain one decides",
            auc,
        )
    quantiles = np.quantile(values, [1 - share for share in _SHARES])
    return Signal("calibrated", _distinct(quantiles), tuple(fits), fit(found), auc, **about)


def _distinct(values: Any) -> tuple[float, ...]:
    return tuple(dict.fromkeys(float(f"{value:.4g}") for value in values))


@dataclass(frozen=True, slots=True)
class Candidate:
    """Settings to try. ``calibrated`` ones are decoded on each sample with a gate fitted to the other folds."""

    settings: Settings

    @property
    def name(self) -> str:
        """Its settings in one line."""
        return " ".join(f"{key}={value}" for key, value in sorted(self.settings.items()))

    @property
    def rule(self) -> str:
        """Its acceptance rule."""
        return str(self.settings["acceptance"])

    @property
    def calibrated(self) -> bool:
        """True when its gate is fitted."""
        return self.settings.get("gate_type") == "calibrated"


def fixed_of(config: Config) -> Settings:
    """The settings of how to decode that were given, and are therefore not varied."""
    return {
        option.name: option.value_of(config)
        for option in OPTIONS
        if option.group == "how" and "spec" in option.modes and option.name in config.given
    }


def candidates(signals: Mapping[str, Signal], fixed: Mapping[str, Any]) -> list[Candidate]:
    """All candidates for the ``signals`` by acceptance rule, with the settings ``fixed`` by the user in each."""
    found = {
        Candidate({**settings, **fixed}).name: {**settings, **fixed} for settings in _all(signals)
    }
    return [Candidate(settings) for settings in found.values()]


def _all(signals: Mapping[str, Signal]) -> Iterator[Settings]:
    for rule, signal in signals.items():
        for threshold in signal.thresholds:
            gate = {
                "acceptance": rule,
                "gate_type": signal.gate,
                f"{signal.gate}_threshold": threshold,
            }
            for start, more in itertools.product(_STARTS, _CONTINUATIONS):
                yield {**gate, **_LISTENING, **start, "continuation": more}
            for start, k in itertools.product(_STARTS[:2], _BLOCKS):
                yield {**gate, **start, "k": k}
        yield dict(EVERYTHING[rule])


Measured = Mapping[str, Sequence[Mapping[str, Any]]]
"""By candidate, and ``edge`` and ``cloud`` alone: a row for each sample, as :func:`row_of` gives it."""


def row_of(record: Record) -> dict[str, Any]:
    """What is kept of a sample decoded by one candidate (JSON)."""
    times, counts = latency(record.trace), speculation(record.trace, k=1)
    return {
        "total_s": times.total_time,
        "ttft_s": times.ttft,
        "busy_s": cost(record.trace).cloud_busy_time,
        "calls": counts.cloud_calls,
        "tokens": counts.output_tokens,
        "cloud_tokens": counts.cloud_tokens,
        "text": record.text or "",
    }


def numbers(
    measured: Measured, name: str, quality: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Columns of a candidate and of edge and cloud alone, sample by sample."""
    rows, edge, cloud = measured[name], measured["edge"], measured["cloud"]
    return {
        "total_s": np.array([row["total_s"] for row in rows]),
        "edge_s": np.array([row["total_s"] for row in edge]),
        "busy_s": np.array([row["busy_s"] for row in rows]),
        "cloud_s": np.array([row["busy_s"] for row in cloud]),
        "quality": np.array(quality[name]),
        "edge_quality": np.array(quality["edge"]),
        "cloud_quality": np.array(quality["cloud"]),
        "calls": np.array([row["calls"] for row in rows]),
        "ttft_s": np.array([row["ttft_s"] for row in rows]),
        "edge_ttft_s": np.array([row["ttft_s"] for row in edge]),
    }


def means_of(columns: Mapping[str, Any], some: Any = slice(None)) -> dict[str, float]:
    """``gap``, ``busy`` and ``time`` over some of the samples."""
    means = {name: float(values[some].mean()) for name, values in columns.items()}
    between = means["cloud_quality"] - means["edge_quality"]
    return {
        "gap": (means["quality"] - means["edge_quality"]) / between if between else 1.0,
        "busy": means["busy_s"] / means["cloud_s"],
        "time": means["total_s"] / means["edge_s"],
    }


def standing_of(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Gap closed, busy time over the cloud's, time and time to first token over the edge's, and calls a sample, with
    95% bootstrap intervals over samples (JSON)."""
    c = {name: list(values) for name, values in columns.items()}
    found: dict[str, Interval] = {
        "gap_closed": gap_closed(c["edge_quality"], c["quality"], c["cloud_quality"]),
        "busy": mean_ratio(c["busy_s"], c["cloud_s"]),
        "time": mean_ratio(c["total_s"], c["edge_s"]),
        "ttft": mean_ratio(c["ttft_s"], c["edge_ttft_s"]),
        "calls": mean_difference(c["calls"], [0.0] * len(c["calls"])),
    }
    return {name: asdict(value) for name, value in found.items()}


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidate chosen on all samples; what it gave on them (``seen``), and what the same choice, made without
    each fold in turn, gave on the fold left out (``expected``); ``agreed``: folds that chose the same settings."""

    candidate: Candidate
    seen: dict[str, Any]
    expected: dict[str, Any]
    agreed: int


def choose(
    tried: Sequence[Candidate],
    measured: Measured,
    quality: Mapping[str, Sequence[float]],
    folds: Sequence[int],
    goal: Goal,
) -> Choice:
    """The candidate that meets ``goal`` at the least cost. ``quality`` has each candidate's by sample, and ``folds`` the
    fold of each sample.

    Raises:
        DataError: none meets it; the nearest is named. Or edge and cloud do not differ in quality.
    """
    columns = {each.name: numbers(measured, each.name, quality) for each in tried}
    every = np.arange(len(folds))
    gap = mean_difference(list(quality["cloud"]), list(quality["edge"]))
    if gap.includes_zero:
        raise DataError(
            "cloud and edge do not differ in quality beyond the interval on these samples "
            f"({gap.estimate or 0:.3g}, {gap.low or 0:.3g} … {gap.high or 0:.3g}): there is no gap to close; take more "
            "samples, or measure quality by --quality agreement"
        )
    chosen = _best(tried, columns, every, goal)
    found = means_of(columns[chosen.name], every)
    if goal.missed(found):
        raise DataError(_unreachable(goal, chosen, found))
    of_fold = np.array(folds)
    picks = [_best(tried, columns, np.flatnonzero(of_fold != fold), goal) for fold in range(FOLDS)]
    own = columns[chosen.name]
    held_out = {
        name: np.array([columns[picks[fold].name][name][row] for row, fold in enumerate(folds)])
        for name in own
    }
    return Choice(chosen, standing_of(own), standing_of(held_out), picks.count(chosen))


def _best(
    tried: Sequence[Candidate], columns: Mapping[str, Mapping[str, Any]], some: Any, goal: Goal
) -> Candidate:
    """The best on some of the samples: of those that meet the goal that of least cost; of none the nearest."""

    def order(candidate: Candidate) -> tuple[float, float]:
        found = means_of(columns[candidate.name], some)
        return sum(goal.missed(found).values()), goal.cost(found)

    return min(tried, key=order)


def _unreachable(goal: Goal, nearest: Candidate, found: Mapping[str, float]) -> str:
    wanted = ", ".join(
        f"{name} {getattr(goal, name):g}" for name in ("gap", "busy", "time") if getattr(goal, name)
    )
    return (
        f"no candidate reaches {wanted} on these samples; the nearest has gap {found['gap']:.3f}, busy "
        f"{found['busy']:.3f}, time {found['time']:.3f} ({nearest.name}); ask for that, or for less"
    )


def folds_of(count: int) -> list[int]:
    """The fold of each of ``count`` samples, in turn.

    Raises:
        DataError: they are too few.
    """
    if count < FEWEST:
        raise DataError(
            f"{count} samples are too few to choose by; give at least {FEWEST}, better 32 or more, that nothing is "
            "judged on later"
        )
    return [number % FOLDS for number in range(count)]


def version_of(tried: Sequence[Candidate], signals: Mapping[str, Signal]) -> str:
    """A digest of what is tried, with the fits of gates: what was measured of another is of no use."""
    fits = [
        [rule, {kind: asdict(model) for kind, model in each.items()}]
        for rule, signal in signals.items()
        for each in signal.fits
    ]
    text = json.dumps([[each.settings for each in tried], fits], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def with_fit(config: Config, settings: Mapping[str, Any], calibration: str | None) -> Config:
    """``config`` with a candidate's settings, its gate's fit in a file."""
    fitted = {} if calibration is None else {"calibration": calibration}
    return replace(config.changed(**settings, **fitted), given=config.given)
