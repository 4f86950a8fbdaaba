"""A metric of one's own: registered once, it stands beside the others wherever captions are scored."""

from __future__ import annotations

from collections.abc import Sequence

import edgecloud
from edgecloud.quality.result import MetricResult, of_samples
from edgecloud.quality.tokenize import Tokens


@edgecloud.metric("first_word", labels={"english": "first word", "chinese": "首词"}, tolerance=0.05)
def first_word(
    hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> MetricResult:
    """``first_word``, 0..1, higher is better: whether some reference begins with the caption's first word."""
    return of_samples(
        "first_word",
        [
            float(caption.words[:1] in [reference.words[:1] for reference in some])
            for caption, some in zip(hypotheses, references, strict=True)
        ],
    )


found = edgecloud.evaluate(
    captions=["A man speaks calmly.", "Somebody laughs."],
    references=[["A man talks calmly.", "He is calm."], "A woman laughs."],
)
for name in ("first_word", "rouge_l", "chrf"):
    print(f"{name:10} {found.corpus[name]:.3f}", [row[name] for row in found.per_sample])
print("cider:", found.notes["cider"])
