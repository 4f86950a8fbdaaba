"""Two policies on the same recordings, compared in pairs with bootstrap intervals."""

from __future__ import annotations

import edgecloud
from edgecloud.results.statistics import mean_difference, mean_ratio

POLICIES = {
    "entropy gate": {"gate": "entropy", "entropy_threshold": 1.5, "k": 3},
    "frontier": {"preset": "frontier"},
}
samples = edgecloud.samples(language="english", max_samples=6)
seconds: dict[str, list[float]] = {}
quality: dict[str, list[float]] = {}
with edgecloud.load_pair() as pair:
    for name, policy in POLICIES.items():
        outs = [
            edgecloud.decode(sample, pair, language="english", clock="modelled", **policy)
            for sample in samples
        ]
        scores = edgecloud.evaluate([out.text for out in outs], [s.references for s in samples])
        seconds[name] = [out.metrics.latency_metrics.total_time for out in outs]
        quality[name] = [row["rouge_l"] or 0.0 for row in scores.per_sample]

before, after = POLICIES
time = mean_ratio(seconds[after], seconds[before])
rouge = mean_difference(quality[after], quality[before])
print(f"{after} over {before}, {time.n} recordings, 95 % intervals:")
print(f"time    × {time.estimate:.2f} ({time.low:.2f} … {time.high:.2f})")
print(f"ROUGE-L {rouge.estimate:+.3f} ({rouge.low:+.3f} … {rouge.high:+.3f})")
