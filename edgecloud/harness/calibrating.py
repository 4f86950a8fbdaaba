"""Fitting the calibrated gate: from journals of verified drafts to a logistic model, and how good it is.

A verification says of each drafted token up to the first it did not keep whether the cloud kept it, by
the acceptance rule of its run. What the edge knew of those tokens stands in the same journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from edgecloud.contracts import TokenStats, Trace
from edgecloud.decoding.gates import TERMS, Calibration, terms
from edgecloud.decoding.speculative import RECENT
from edgecloud.errors import DataError
from edgecloud.measure.journal import read

__all__ = ["CALL_RATES", "Examples", "evaluate", "examples", "fit"]

CALL_RATES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
"""Shares of tokens sent to the cloud at which gates are compared."""
_FOLDS = 4
_PLAIN: Mapping[str, Callable[[TokenStats], float]] = {
    "entropy": lambda token: token.entropy,
    "margin": lambda token: -token.margin,
    "logprob": lambda token: -token.logprob,
}
"""The plain gates: the higher, the less sure."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Examples:
    """Drafted tokens, whether the cloud rejected each, and the recording each belongs to."""

    tokens: tuple[TokenStats, ...]
    rejected: tuple[bool, ...]
    recordings: tuple[str, ...]


def examples(paths: Sequence[str | Path]) -> Examples:
    """The judged tokens of speculative runs' journals.

    Raises:
        DataError: no journal, or nothing in it that the cloud rejected and kept.
    """
    rows: list[tuple[TokenStats, bool, str]] = []
    for path in paths:
        _, records = read(path)
        for record in records:
            trace = Trace.from_json(record["trace"])
            rows += [(token, no, record["file_id"]) for token, no in _judged(trace)]
    if len({no for _, no, _ in rows}) < 2 or len({name for *_, name in rows}) < _FOLDS:
        raise DataError(
            f"{', '.join(map(str, paths))}: no tokens that the cloud kept and rejected in at least "
            f"{_FOLDS} recordings; take journals of bench/test_spec.py --gate-type always"
        )
    tokens, rejected, recordings = zip(*rows, strict=True)
    return Examples(tokens, rejected, recordings)


def _judged(trace: Trace) -> Iterator[tuple[TokenStats, bool]]:
    """The drafted tokens that verifications judged: all they kept, and the first they did not."""
    origins: list[str] = []
    proposed: list[TokenStats] = []
    for event in trace.of("draft", "verify", "commit"):
        if event.kind == "draft":
            recent = origins[-RECENT:].count("corrected")
            known = zip(
                event.data["entropies"], event.data["margins"], event.data["logprobs"], strict=True
            )
            for values in known:
                proposed.append(TokenStats(*values, len(origins) + len(proposed), recent))
        elif event.kind == "verify":
            kept = event.data["kept"]
            for number, token in enumerate(proposed[: kept + 1]):
                yield token, number == kept
        else:
            origins += event.data["origins"]
            proposed.clear()


def fit(found: Examples) -> Calibration:
    """The model of what the cloud rejects, on all examples."""
    pipeline = _pipeline().fit(_matrix(found), found.rejected)
    scaler, logistic = pipeline[0], pipeline[1]
    weights: Floats = logistic.coef_[0] / scaler.scale_
    intercept = float(logistic.intercept_[0] - weights @ scaler.mean_)
    return Calibration(intercept, tuple(float(weight) for weight in weights))


def evaluate(found: Examples) -> list[dict[str, Any]]:
    """A row (JSON) for each gate: its AUC, and at each call rate the precision and the recall of the
    rejections, with the calibrated gate's threshold there.

    The calibrated gate is judged on recordings that it was not fitted to, in four folds.
    """
    rejected = np.array(found.rejected)
    folds = GroupKFold(_FOLDS)
    groups = np.unique(found.recordings, return_inverse=True)[1]
    calibrated: Floats = cross_val_predict(
        _pipeline(), _matrix(found), rejected, groups=groups, cv=folds, method="predict_proba"
    )[:, 1]
    scores = {
        "calibrated": calibrated,
        **{name: np.array([of(token) for token in found.tokens]) for name, of in _PLAIN.items()},
    }
    return [
        {
            "gate": name,
            "auc": float(roc_auc_score(rejected, values)),
            "at": [_at(rate, values, rejected) for rate in CALL_RATES],
        }
        for name, values in scores.items()
    ]


def _at(rate: float, values: Floats, rejected: NDArray[np.bool_]) -> dict[str, float]:
    """What a gate finds when it sends the ``rate`` of tokens it is least sure of."""
    threshold = float(np.quantile(values, 1 - rate))
    asked = values > threshold
    hits = float((asked & rejected).sum())
    return {
        "rate": rate,
        "threshold": threshold,
        "precision": hits / max(1, int(asked.sum())),
        "recall": hits / int(rejected.sum()),
    }


def _pipeline() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))


def _matrix(found: Examples) -> Floats:
    """``(n, terms)``."""
    matrix: Floats = np.array([terms(token) for token in found.tokens])
    assert matrix.shape[1] == len(TERMS)
    return matrix
