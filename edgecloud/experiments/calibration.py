"""Fitting the calibrated gate: from journals of verified drafts to a logistic model, and how good it is.

A verification says of each drafted token up to the first it did not keep whether the cloud kept it, by
the acceptance rule of its run. What the edge knew of those tokens stands in the same journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from edgecloud.contracts import Commit, Draft, Language, TokenStats, Trace, Verify
from edgecloud.decoding.gates import Calibration, terms
from edgecloud.decoding.speculative import RECENT
from edgecloud.edge.gate_calibration import ANY, key
from edgecloud.errors import DataError
from edgecloud.results.journal import read
from edgecloud.results.records import Record

__all__ = [
    "CALL_RATES",
    "PLAIN",
    "SIGN",
    "Examples",
    "evaluate",
    "examples",
    "examples_of",
    "fit",
    "no_better",
    "too_little",
    "unjudged",
]

CALL_RATES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
"""Shares of tokens sent to the cloud at which gates are compared."""
_FOLDS = 4
_FEWEST_TOKENS = 100
"""Least number of rejected and of kept tokens, for the 55 weights of a fit (shrunken ones: see
``_pipeline``)."""
_FEWEST_RECORDINGS = 20
_RESAMPLES = 200
PLAIN: Mapping[str, Callable[[TokenStats], float]] = {
    "entropy": lambda token: token.entropy,
    "margin": lambda token: -token.margin,
    "logprob": lambda token: -token.logprob,
}
"""The plain gates' scores by name: higher means less sure."""
SIGN = {"margin": -1, "logprob": -1}
"""The sign of a plain gate's threshold beside its score; 1 where none is named."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Examples:
    """Drafted tokens, whether the cloud rejected each, the recording each belongs to, and the language
    and prompt type it was drafted in (:func:`edgecloud.edge.gate_calibration.key`)."""

    tokens: tuple[TokenStats, ...]
    rejected: tuple[bool, ...]
    recordings: tuple[str, ...]
    kinds: tuple[str, ...]
    repeated: tuple[str, ...] = ()
    """A line for each journal with recordings that an earlier one holds, which are not counted again."""

    def of(self, kind: str) -> Examples:
        """The examples of one language and prompt type."""
        columns = zip(self.tokens, self.rejected, self.recordings, self.kinds, strict=True)
        return _examples([row for row in columns if row[3] == kind])

    def where(self, chosen: Iterable[bool]) -> Examples:
        """Those of the examples that are ``chosen``, by position."""
        columns = zip(self.tokens, self.rejected, self.recordings, self.kinds, strict=True)
        return _examples([row for row, own in zip(columns, chosen, strict=True) if own])


def examples(paths: Sequence[str | Path]) -> Examples:
    """The draft tokens that verifications in speculative runs' journals kept or rejected. A recording that an
    earlier journal holds in the same language and prompt type counts once: of the same data, or with the same
    verdicts, as in a copy.

    Raises:
        DataError: no journal, or nothing in it that the cloud rejected and kept.
    """
    rows: list[tuple[TokenStats, bool, str, str]] = []
    seen: set[tuple[str, ...]] = set()
    repeated: list[str] = []
    for path in paths:
        header, records = read(path)
        try:
            settings = header["identity"]["settings"]
            text = settings.get("dataset_type") == "text"
            data = (header["identity"].get("data") or {}).get("sha256") or str(path)
            kinds: dict[str, None] = {}
            marks: set[tuple[str, ...]] = set()
            again = 0
            for record in records:
                language = record.language(text=text, default=settings["language"])
                kinds[kind := key(language, settings["prompt_type"])] = None
                name = record.file_id
                found = [(token, no, name, kind) for token, no in _verdicts(record.trace)]
                own = {(kind, name, data), (kind, name, repr(found))}
                if found and seen & own:
                    again += 1
                elif found:
                    rows += found
                    marks |= own
            seen |= marks
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the journal {path} lacks what a fit needs: {error!r}") from error
        short = [kind for kind in kinds if _is_short([row for row in rows if row[3] == kind])]
        if short or not kinds:
            raise DataError(
                f"{path}: {''.join(f'{kind}: ' for kind in short)}no tokens that the cloud kept and rejected in at least {_FOLDS} "
                "recordings; take journals of bench/test_spec.py --gate-type always"
            )
        if again:
            repeated.append(
                f"{path}: {again} of its {len(records)} recordings are in an earlier journal as well; "
                "they count once"
            )
    return replace(_examples(rows), repeated=tuple(repeated))


def examples_of(
    records: Iterable[Record], *, language: Language, prompt_type: str, text: bool
) -> Examples:
    """The draft tokens that verifications in these records kept or rejected."""
    rows = [
        (token, no, record.file_id, key(record.language(text=text, default=language), prompt_type))
        for record in records
        for token, no in _verdicts(record.trace)
    ]
    return _examples(rows) if rows else Examples((), (), (), ())


def _is_short(rows: Sequence[tuple[TokenStats, bool, str, str]]) -> bool:
    """Whether nothing can be learnt from these and judged on other recordings."""
    return len({row[1] for row in rows}) < 2 or len({row[2] for row in rows}) < _FOLDS


def _examples(rows: Sequence[tuple[TokenStats, bool, str, str]]) -> Examples:
    return Examples(*zip(*rows, strict=True))


def _verdicts(trace: Trace) -> Iterator[tuple[TokenStats, bool]]:
    """The draft tokens with a known verdict: all that were kept, and the first that was rejected."""
    origins: list[str] = []
    proposed: list[TokenStats] = []
    for event in trace.events:
        if isinstance(event, Draft):
            recent = origins[-RECENT:].count("corrected")
            for values in zip(event.entropies, event.margins, event.logprobs, strict=True):
                proposed.append(TokenStats(*values, len(origins) + len(proposed), recent))
        elif isinstance(event, Verify):
            for number, token in enumerate(proposed[: event.kept + 1]):
                yield token, number == event.kept
        elif isinstance(event, Commit):
            origins += event.origins
            proposed.clear()


def fit(found: Examples) -> dict[str, Calibration]:
    """Fitted models of the cloud's rejections: one for each language and prompt type, and one for ``any``."""
    return {**{kind: _fit(found.of(kind)) for kind in _kinds(found)}, ANY: _fit(found)}


def too_little(found: Examples) -> list[str]:
    """A line for each kind that has too few tokens or recordings to fit its gate to."""
    lines = []
    for kind in _kinds(found):
        own = found.of(kind)
        rejected, recordings = sum(own.rejected), len(set(own.recordings))
        kept = len(own.tokens) - rejected
        if min(rejected, kept) < _FEWEST_TOKENS or recordings < _FEWEST_RECORDINGS:
            lines.append(
                f"{kind}: {rejected} rejected and {kept} kept tokens of {recordings} recordings; "
                f"wanted are {_FEWEST_TOKENS} of each and {_FEWEST_RECORDINGS} recordings"
            )
    return lines


def no_better(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each kind whose fit, on recordings it was not fitted to, is not better than the best
    plain threshold beyond the interval; ``rows`` are those of :func:`evaluate`."""
    lines = []
    for row in (row for row in rows if row["gate"] == "calibrated"):
        over = row["over_plain"]
        if over["low"] is None or over["low"] <= 0.0:
            ends = "none" if over["low"] is None else f"{over['low']:+.3f} … {over['high']:+.3f}"
            lines.append(
                f"{row['kind']}: AUC {row['auc']:.3f} on other recordings, {over['gate']} alone "
                f"{over['auc']:.3f}; interval of the difference {ends}"
            )
    return lines


def unjudged(found: Examples, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each kind of which :func:`evaluate` has no row: nobody can say whether its fit is any good."""
    judged = {row["kind"] for row in rows}
    return [
        f"{kind}: {sum(own.rejected)} of {len(own.tokens)} tokens rejected, so that a fold of its recordings leaves "
        "nothing to learn, and the fit cannot be judged"
        for kind in _kinds(found)
        if kind not in judged
        for own in [found.of(kind)]
    ]


def _kinds(found: Examples) -> list[str]:
    return sorted(set(found.kinds))


def _fit(found: Examples) -> Calibration:
    pipeline = _pipeline().fit(_matrix(found), found.rejected)
    scaler, logistic = pipeline[0], pipeline[1]
    weights: Floats = logistic.coef_[0] / scaler.scale_
    intercept = float(logistic.intercept_[0] - weights @ scaler.mean_)
    return Calibration(intercept, tuple(float(weight) for weight in weights))


def evaluate(found: Examples) -> list[dict[str, Any]]:
    """A row (JSON) for each gate and kind: its AUC, and at each call rate the precision and the recall
    of the rejections, with its threshold there (the plain gates' as the gate states it).

    The calibrated gate is evaluated on recordings that it was not fitted to, in four folds; its row says
    in ``over_plain`` by how much its AUC exceeds that of the best plain gate, with the 90% interval of
    a bootstrap over recordings. A kind in which a fold leaves nothing to learn has no rows.
    """
    return [row for kind in _kinds(found) for row in _evaluate(kind, found.of(kind))]


def _evaluate(kind: str, found: Examples) -> list[dict[str, Any]]:
    rejected = np.array(found.rejected)
    groups = np.unique(found.recordings, return_inverse=True)[1]
    folds = GroupKFold(_FOLDS).split(groups, groups=groups)
    if any(len(set(rejected[learned])) < 2 for learned, _ in folds):
        return []
    calibrated: Floats = cross_val_predict(
        _pipeline(),
        _matrix(found),
        rejected,
        groups=groups,
        cv=GroupKFold(_FOLDS),
        method="predict_proba",
    )[:, 1]
    scores = {
        "calibrated": calibrated,
        **{name: np.array([of(token) for token in found.tokens]) for name, of in PLAIN.items()},
    }
    aucs = {name: float(roc_auc_score(rejected, values)) for name, values in scores.items()}
    best = max(PLAIN, key=lambda name: aucs[name])
    interval = _difference(calibrated, scores[best], rejected, groups)
    over = {
        "gate": best,
        "auc": aucs[best],
        "estimate": aucs["calibrated"] - aucs[best],
        **dict(zip(("low", "high"), interval, strict=True)),
    }
    return [
        {
            "kind": kind,
            "gate": name,
            "auc": aucs[name],
            **({"over_plain": over} if name == "calibrated" else {}),
            "at": [_at(rate, values, rejected, sign=SIGN.get(name, 1)) for rate in CALL_RATES],
        }
        for name, values in scores.items()
    ]


def _difference(
    fitted: Floats, plain: Floats, rejected: NDArray[np.bool_], groups: NDArray[np.int_]
) -> tuple[float, float] | tuple[None, None]:
    """Ends of the 90% interval of the difference of two AUCs, over recordings drawn anew."""
    rng = np.random.default_rng(0)
    of_recording = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
    found = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(0, len(of_recording), len(of_recording))
        rows = np.concatenate([of_recording[index] for index in drawn])
        if 0 < rejected[rows].sum() < rows.size:
            aucs = [roc_auc_score(rejected[rows], values[rows]) for values in (fitted, plain)]
            found.append(aucs[0] - aucs[1])
    if not found:
        return None, None
    low, high = np.quantile(found, [0.05, 0.95])
    return float(low), float(high)


def _at(rate: float, values: Floats, rejected: NDArray[np.bool_], *, sign: int) -> dict[str, float]:
    """Precision and recall of a gate that sends the ``rate`` of tokens it is least sure of."""
    threshold = float(np.quantile(values, 1 - rate))
    asked = values > threshold
    hits = float((asked & rejected).sum())
    return {
        "rate": rate,
        "threshold": sign * threshold,
        "precision": hits / max(1, int(asked.sum())),
        "recall": hits / int(rejected.sum()),
    }


def _pipeline() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))


def _matrix(found: Examples) -> Floats:
    """``(n, terms)``."""
    matrix: Floats = np.array([terms(token) for token in found.tokens])
    return matrix
