"""A gate of one's own: ask the cloud while the caption is young, and later only when a token is quite unsure."""

from __future__ import annotations

from collections.abc import Sequence

import edgecloud
from edgecloud.contracts import TokenStats
from edgecloud.decoding.gates import Thresholds


def early(block: Sequence[TokenStats], thresholds: Thresholds) -> bool:
    """Ask in the first eight tokens, or where a token's entropy is above the threshold."""
    return any(token.position < 8 or token.entropy > thresholds.entropy for token in block)


with edgecloud.load_pair() as pair:
    for sample in edgecloud.samples(language="english", max_samples=2):
        for gate in ("never", early, "always"):
            out = edgecloud.decode(
                sample, pair, language="english", gate=gate, entropy_threshold=2.5, clock="modelled"
            )
            calls = out.metrics.speculative_decoding_metrics.cloud_calls
            seconds = out.metrics.latency_metrics.total_time
            print(f"{out.config.gate.name:8} {calls:2} calls {seconds:5.1f} s  {out.text}")
