"""What a run may say of the certificate in its calibration file: whether it is of this policy, of data like these, and of
which captions it says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgecloud.contracts import Draft, Trace
from edgecloud.jsontypes import read, write
from edgecloud.results.numbers import Count, Number
from edgecloud.results.records import Record

__all__ = [
    "FEWEST",
    "LEVEL",
    "Certificate",
    "Certified",
    "Difference",
    "certificate_of",
    "difference_p",
    "sentence",
    "setup_of",
    "signals",
]

LEVEL = 0.01
"""Below this p-value, data differ from those of the calibration: of runs on data like those, one in a hundred does."""
FEWEST = 20
"""Captions of which less says nothing of whether data differ."""
_SIGNALS = ("entropy", "margin", "logprob")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """What a calibration file certifies, as far as runs look at it: the mean loss against the cloud alone of the
    ``gate`` at the ``threshold`` is at most ``risk`` with ``confidence``. ``threshold`` is null where none was found to
    keep the risk. ``policy`` has settings, models and the gate's fit; ``signals`` those of the calibration set.
    """

    statement: str
    loss: str
    risk: Number
    confidence: Number
    gate: str
    threshold: Number | None
    samples: Count
    policy: Mapping[str, Any]
    signals: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting, a model or a fit in which a run differs from what was certified."""

    name: str
    own: str
    certified: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The certificate of a run's calibration file, and whether it is one for this run.

    ``applies`` is false where the run decodes otherwise than was certified (``differing``), the file certifies no
    threshold, or no caption was finished as was certified; then nothing is stated, for the ``reason``. ``difference_p``
    is the p-value of a two-sample test of the run's captions against the calibration set's (:func:`difference_p`);
    ``data_differ`` is true below 0.01: then the statement says nothing of these data. Both are null, for the ``reason``,
    with too few captions. Of the run's ``captions`` the statement says nothing of those that were finished without the
    cloud (``degraded``) and those that ``failed``; the three are null where another policy or no threshold was certified.
    """

    applies: bool
    statement: str | None
    loss: str | None
    risk: Number | None
    confidence: Number | None
    gate: str | None
    threshold: Number | None
    samples: Count | None
    differing: tuple[Difference, ...]
    difference_p: Number | None
    data_differ: bool | None
    reason: str | None
    captions: Count | None = None
    degraded: Count | None = None
    failed: Count | None = None

    @property
    def uncovered(self) -> int:
        """Captions of the run of which the statement says nothing."""
        return (self.degraded or 0) + (self.failed or 0)


def signals(trace: Trace) -> dict[str, float] | None:
    """What the gate sees of a caption: the means over all drafted tokens of entropy, margin and log probability.
    ``None``: nothing was drafted, or the trace does not say it."""
    drafts = list(trace.of(Draft))
    columns = [
        [value for draft in drafts for value in getattr(draft, name)]
        for name in ("entropies", "margins", "logprobs")
    ]
    if not all(columns):
        return None
    means = (sum(values) / len(values) for values in columns)
    return dict(zip(_SIGNALS, means, strict=True))


def difference_p(
    own: Sequence[Mapping[str, float]], calibrated: Mapping[str, Sequence[float]]
) -> float:
    """The p-value of the hypothesis that the captions' :func:`signals` are drawn as the ``calibrated`` ones: the least
    of the two-sample tests of Kolmogorov and Smirnov, one a signal, times their number (Bonferroni), at most 1.

    Raises:
        KeyError: a signal is missing.
    """
    from scipy.stats import ks_2samp  # slow to import, and few runs have a certificate

    least = min(
        float(ks_2samp([row[name] for row in own], calibrated[name]).pvalue) for name in _SIGNALS
    )
    return min(1.0, len(_SIGNALS) * least)


def setup_of(certified: Certified, differing: Sequence[Difference]) -> dict[str, Any]:
    """What a run's set-up keeps of it (JSON); the signals, only where they are needed."""
    kept = replace(certified, signals={}) if differing else certified
    return {"certified": write(kept), "differing": [write(each) for each in differing]}


def certificate_of(
    setup: Mapping[str, Any],
    records: Sequence[Record],
    *,
    signals_of: Callable[[Record], Mapping[str, float] | None] = lambda one: signals(one.trace),
) -> Certificate:
    """The certificate that :func:`setup_of` put into a run's set-up, beside the records of its samples; ``signals_of``
    gives the :func:`signals` of one.

    Raises:
        Mismatch: it is none.
    """
    found = read(Certified, setup["certified"])
    differing = tuple(read(Difference, each) for each in setup["differing"])
    if differing or found.threshold is None:
        words = (f"{each.name} {each.own}, not {each.certified}" for each in differing)
        return _withheld(
            f"another policy was certified: {'; '.join(words)}"
            if differing
            else "no threshold was found to keep the risk",
            differing=differing,
        )
    covered = [record for record in records if record.ok and record.loss is None]
    counts: dict[str, Any] = {
        "captions": len(records),
        "degraded": sum(record.ok and record.loss is not None for record in records),
        "failed": sum(not record.ok for record in records),
    }
    if not covered:
        return _withheld("no caption was finished with the cloud", **counts)
    own = [values for record in covered if (values := signals_of(record)) is not None]
    fewest = min(len(own), *(len(found.signals.get(name, ())) for name in _SIGNALS))
    p = difference_p(own, found.signals) if fewest >= FEWEST else None
    few = f"{fewest} captions are too few to tell whether these data are like the calibration's ({FEWEST} are needed)"
    return Certificate(
        applies=True,
        statement=found.statement,
        loss=found.loss,
        risk=found.risk,
        confidence=found.confidence,
        gate=found.gate,
        threshold=found.threshold,
        samples=found.samples,
        differing=(),
        difference_p=p,
        data_differ=None if p is None else p < LEVEL,
        reason=few if p is None else None,
        **counts,
    )


def _withheld(reason: str, *, differing: tuple[Difference, ...] = (), **counts: Any) -> Certificate:
    """A certificate that states nothing of a run."""
    return Certificate(
        applies=False,
        statement=None,
        loss=None,
        risk=None,
        confidence=None,
        gate=None,
        threshold=None,
        samples=None,
        differing=differing,
        difference_p=None,
        data_differ=None,
        reason=reason,
        **counts,
    )


def sentence(found: Certificate) -> str:
    """What a run says of it at its end."""
    if not found.applies:
        return f"the calibration's certificate is not shown: {found.reason}"
    if found.data_differ is None:
        return f"certificate: {found.statement} {found.reason}.{_uncovered_words(found)}"
    p = f"p = {found.difference_p:.2g}"
    if found.data_differ:
        return (
            f"these data differ from those of the calibration in what the gate sees ({p}): the certificate says "
            f"nothing of them. It is: {found.statement}"
        )
    return (
        f"certificate: {found.statement} These data do not differ from the calibration's in what the gate sees ({p})."
        f"{_uncovered_words(found)}"
    )


def _uncovered_words(found: Certificate) -> str:
    """One sentence more, where the statement says nothing of some captions."""
    if not found.uncovered:
        return ""
    kinds = ((found.degraded, "finished without the cloud"), (found.failed, "failed"))
    listed = ", ".join(f"{n} {what}" for n, what in kinds if n)
    return f" It says nothing of {found.uncovered} of the {found.captions} captions: {listed}."
