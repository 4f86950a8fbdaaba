"""Speculation metrics of one request, and of a run, from traces alone.

Rates are over counts of the same trace; a rate whose denominator is 0 is ``None`` with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from edgecloud.contracts import Draft, Trace, Verify

__all__ = ["COUNT_NAMES", "RATE_NAMES", "pool", "speculation"]

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

_RATES: dict[str, tuple[str, str, str]] = {
    "cloud_call_rate": ("cloud_calls", "draft_rounds", "nothing was drafted"),
    "acceptance_rate": ("reached_output", "drafted", "nothing was drafted"),
    "verified_acceptance_rate": ("accepted", "verified", "there were no calls of the cloud"),
    "correction_rate": ("corrections", "cloud_calls", "there were no calls of the cloud"),
    "useful_call_rate": ("useful_calls", "cloud_calls", "there were no calls of the cloud"),
    "cloud_token_share": ("cloud_tokens", "output_tokens", "there is no output"),
}
"""Rate: numerator, denominator, and why it is null when the denominator is 0."""

RATE_NAMES = tuple(_RATES)

_CLOUD_CHOSE = frozenset({"corrected", "bonus", "cloud"})
_DRAFTED = frozenset({"edge", "verified"})


def speculation(trace: Trace, *, k: int) -> dict[str, Any]:
    """Counts (:data:`COUNT_NAMES`), rates (:data:`RATE_NAMES`) and ``accept_histogram`` of a request.

    ``accept_histogram[n]`` is how many calls kept ``n`` drafted tokens, for ``n`` in ``0..k``.
    ``reached_output`` counts drafted tokens that the output holds, ``useful_calls`` the corrections
    and bonus tokens that entered it (a call brings at most one). A request without drafting has
    counts of 0 and null rates; ``cloud_token_share`` exists for every output. ``reasons`` says why a
    rate is ``None``.

    Two rounds of two tokens; the cloud keeps one token of the second and corrects the other:

    >>> from edgecloud.contracts import Commit
    >>> trace = Trace((
    ...     Draft(0.0, 1.0, tokens=(1, 2)),
    ...     Commit(1.0, 1.0, tokens=(1, 2), origins=("edge", "edge")),
    ...     Draft(1.0, 2.0, tokens=(3, 4), escalated=True),
    ...     Verify(2.0, 3.0, drafted=2, kept=1, token=9),
    ...     Commit(3.0, 3.0, tokens=(3, 9), origins=("verified", "corrected")),
    ... ))
    >>> result = speculation(trace, k=2)
    >>> result["cloud_call_rate"], result["acceptance_rate"], result["cloud_token_share"]
    (0.5, 0.75, 0.25)
    >>> result["accept_histogram"]
    [0, 1, 0]
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
    return _with_rates(counts, histogram)


def pool(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same quantities over all samples of a run: counts summed, rates over the sums.

    A pooled rate weighs every block, call or token alike; the mean of per-sample rates would weigh a
    caption of one block as much as one of ten.
    """
    counts = {name: sum(int(result[name]) for result in results) for name in COUNT_NAMES}
    columns = zip_longest(*(result["accept_histogram"] for result in results), fillvalue=0)
    return _with_rates(counts, [sum(column) for column in columns])


def _with_rates(counts: Mapping[str, int], histogram: list[int]) -> dict[str, Any]:
    rates: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for name, (numerator, denominator, why) in _RATES.items():
        if counts[denominator]:
            rates[name] = counts[numerator] / counts[denominator]
        else:
            rates[name] = None
            reasons[name] = why
    return {**counts, **rates, "accept_histogram": histogram, "reasons": reasons}
