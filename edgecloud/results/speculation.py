"""Speculation metrics of one request, and of a run, from traces alone.

Rates are over counts of the same trace; a rate whose denominator is 0 is ``None`` with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from edgecloud.contracts import Draft, Trace, Verify
from edgecloud.contracts.ranges import Probability
from edgecloud.results.numbers import Amount, Count

__all__ = ["COUNT_NAMES", "RATE_NAMES", "Counts", "Speculation", "pool", "speculation"]

COUNT_NAMES = (
    "draft_rounds",
    "escalated_rounds",
    "cloud_calls",
    "drafted",
    "verified",
    "accepted",
    "reached_output",
    "corrections",
    "useful_calls",
    "cloud_tokens",
    "output_tokens",
)

_NO_CALLS = "there were no calls of the cloud"
_RATES: dict[str, tuple[str, str, str]] = {
    "cloud_call_rate": ("cloud_calls", "draft_rounds", "nothing was drafted"),
    "acceptance_rate": ("reached_output", "drafted", "nothing was drafted"),
    "verified_acceptance_rate": ("accepted", "verified", _NO_CALLS),
    "correction_rate": ("corrections", "cloud_calls", _NO_CALLS),
    "useful_call_rate": ("useful_calls", "cloud_calls", _NO_CALLS),
    "cloud_token_share": ("cloud_tokens", "output_tokens", "there is no output"),
}
"""Rate: numerator, denominator, and why it is null when the denominator is 0."""

RATE_NAMES = tuple(_RATES)

_CLOUD_CHOSE = frozenset({"corrected", "bonus", "cloud"})
_DRAFTED = frozenset({"edge", "verified"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counts of drafting and verifying, and their rates; ``None`` where a rate is not defined.

    ``accept_histogram[n]`` is how many calls kept ``n`` drafted tokens, for ``n`` in ``0..k``, and
    ``verified_by_position[i]`` how many had a token at draft position ``i + 1``;
    ``acceptance_by_position[i]`` is the share of those tokens that was kept. ``mean_acceptance_length`` are the
    tokens that a verification adds, its own correction or bonus token among them (vLLM's meaning).
    ``reached_output`` counts drafted tokens that the output holds, ``useful_calls`` the corrections and bonus
    tokens that entered it (a call brings at most one).
    """

    draft_rounds: Count = 0
    escalated_rounds: Count = 0
    cloud_calls: Count = 0
    drafted: Count = 0
    verified: Count = 0
    accepted: Count = 0
    reached_output: Count = 0
    corrections: Count = 0
    useful_calls: Count = 0
    cloud_tokens: Count = 0
    output_tokens: Count = 0
    cloud_call_rate: Amount | None = None
    acceptance_rate: Probability | None = None
    verified_acceptance_rate: Probability | None = None
    correction_rate: Probability | None = None
    useful_call_rate: Probability | None = None
    cloud_token_share: Probability | None = None
    accept_histogram: tuple[Count, ...] = ()
    mean_acceptance_length: Amount | None = None
    verified_by_position: tuple[Count, ...] = ()
    acceptance_by_position: tuple[Probability, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation(Counts):
    """Counts and rates of a request; ``reasons`` say why a rate is ``None``. A request without drafting has
    counts of 0 and no rates but ``cloud_token_share``, which exists for every output."""

    reasons: Mapping[str, str] = field(default_factory=dict)


def speculation(trace: Trace, *, k: int) -> Speculation:
    """Counts and rates of a request whose drafts are of up to ``k`` tokens.

    Two rounds of two tokens; the cloud keeps one token of the second and corrects the other:

    >>> from edgecloud.contracts import Commit
    >>> found = speculation(Trace((
    ...     Draft(0.0, 1.0, tokens=(1, 2)),
    ...     Commit(1.0, 1.0, tokens=(1, 2), origins=("edge", "edge")),
    ...     Draft(1.0, 2.0, tokens=(3, 4), escalated=True),
    ...     Verify(2.0, 3.0, drafted=2, kept=1, token=9),
    ...     Commit(3.0, 3.0, tokens=(3, 9), origins=("verified", "corrected")),
    ... )), k=2)
    >>> found.cloud_call_rate, found.acceptance_rate, found.cloud_token_share
    (0.5, 0.75, 0.25)
    >>> found.accept_histogram, found.mean_acceptance_length, found.acceptance_by_position
    ((0, 1, 0), 2.0, (1.0, 0.0))
    """
    drafts, calls, origins = trace.of(Draft), trace.of(Verify), trace.origins
    counts: dict[str, int] = {
        "draft_rounds": len(drafts),
        "escalated_rounds": sum(draft.escalated for draft in drafts),
        "cloud_calls": len(calls),
        "drafted": sum(len(draft.tokens) for draft in drafts),
        "verified": sum(call.drafted for call in calls),
        "accepted": sum(call.kept for call in calls),
        "reached_output": sum(origin in _DRAFTED for origin in origins) if drafts else 0,
        "corrections": sum(call.kept < call.drafted and call.token is not None for call in calls),
        "useful_calls": sum(origin in ("corrected", "bonus") for origin in origins),
        "cloud_tokens": sum(origin in _CLOUD_CHOSE for origin in origins),
        "output_tokens": len(origins),
    }
    histogram = [0] * (max([k, *(call.kept for call in calls)]) + 1)
    for call in calls:
        histogram[call.kept] += 1
    longest = max((call.drafted for call in calls), default=0)
    verified = [sum(call.drafted > place for call in calls) for place in range(longest)]
    return _with_rates(counts, histogram, verified)


def pool(results: Sequence[Counts]) -> Speculation:
    """The same quantities over all samples of a run: counts summed, rates over the sums.

    A pooled rate weighs every block, call or token alike; the mean of per-sample rates would weigh a
    caption of one block as much as one of ten.
    """
    counts = {name: sum(getattr(result, name) for result in results) for name in COUNT_NAMES}
    histograms = zip_longest(*(result.accept_histogram for result in results), fillvalue=0)
    verified = zip_longest(*(result.verified_by_position for result in results), fillvalue=0)
    return _with_rates(counts, list(map(sum, histograms)), list(map(sum, verified)))


def _with_rates(
    counts: Mapping[str, int], histogram: Sequence[int], verified: Sequence[int]
) -> Speculation:
    rates: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for name, (numerator, denominator, why) in _RATES.items():
        if counts[denominator]:
            rates[name] = counts[numerator] / counts[denominator]
        else:
            rates[name] = None
            reasons[name] = why
    length = by_position = None
    if calls := counts["cloud_calls"]:
        length = (counts["accepted"] + counts["useful_calls"]) / calls
        kept = [sum(histogram[place:]) for place in range(1, len(verified) + 1)]
        by_position = tuple(own / of for own, of in zip(kept, verified, strict=True))
    else:
        reasons |= dict.fromkeys(("mean_acceptance_length", "acceptance_by_position"), _NO_CALLS)
    return Speculation(
        **counts,
        **rates,
        accept_histogram=tuple(histogram),
        mean_acceptance_length=length,
        verified_by_position=tuple(verified),
        acceptance_by_position=by_position,
        reasons=reasons,
    )
