"""A sweep of one's own: draft lengths by thresholds, in modelled time, with what each wins and costs."""

from __future__ import annotations

from itertools import product
from statistics import fmean

import edgecloud

samples = edgecloud.samples(language="english", max_samples=4)
with edgecloud.load_pair() as pair:
    cloud = [
        edgecloud.decode(sample, pair, mode="cloud", language="english", clock="modelled")
        for sample in samples
    ]
    print(" k  threshold  seconds  cloud seconds  as the cloud")
    for k, threshold in product((2, 4), (1.0, 3.0)):
        outs = [
            edgecloud.decode(
                sample,
                pair,
                language="english",
                clock="modelled",
                hardware_profile="paper",
                acceptance="exact",
                k=k,
                entropy_threshold=threshold,
            )
            for sample in samples
        ]
        seconds = fmean(out.metrics.latency_metrics.total_time for out in outs)
        busy = fmean(out.metrics.cost_metrics.cloud_busy_time for out in outs)
        same = sum(out.tokens == theirs.tokens for out, theirs in zip(outs, cloud, strict=True))
        print(f"{k:2} {threshold:10.1f} {seconds:8.1f} {busy:14.2f} {same:10} of {len(outs)}")
