"""The gate on how likely a text is as a whole."""

from __future__ import annotations

from collections.abc import Sequence

from edgecloud.contracts import TokenStats
from edgecloud.decoding.gates.contract import Thresholds, gate

__all__ = ["mean_logprob"]


@gate("mean-logprob", options=("logprob_threshold",))
def mean_logprob(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """Ask when the mean log probability of the drafted tokens is *below* the threshold of ``logprob``.

    Tokens of log probability -0.1 and -0.5 have a mean of -0.3: asked at threshold -0.2. With the scope
    ``caption`` it is the usual cascade's deferral rule (Gupta et al. 2024, arXiv 2404.10136).
    """
    return sum(token.logprob for token in block) / len(block) < thresholds.logprob
