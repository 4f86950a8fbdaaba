"""Speculative decoding across a network: the edge drafts, a gate decides, the cloud verifies.

The loop keeps two invariants. The output only grows. The edge's cache holds the prompt and a prefix
of the output; what it has not seen (its own last token, a correction, a bonus) is ingested in one
forward at the start of the next round.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from edgecloud.contracts import (
    Acceptance,
    CloudModel,
    CloudSession,
    Commit,
    Model,
    Origin,
    Prompt,
    StopReason,
)
from edgecloud.decoding.gates import GATES, Thresholds
from edgecloud.decoding.greedy import draft_block
from edgecloud.decoding.recorder import Recorder, by
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import CloudError

__all__ = ["Speculation", "speculative"]


@dataclass(frozen=True, slots=True)
class Speculation:
    """How to speculate: ``k`` drafted tokens a round, the gate by name, the cloud's acceptance rule."""

    k: int = 3
    gate: str = "entropy"
    thresholds: Thresholds = field(default_factory=Thresholds)
    acceptance: Acceptance = field(default_factory=Acceptance)


def speculative(
    prompt: Prompt,
    *,
    edge: Model,
    cloud: CloudModel,
    settings: Speculation,
    stopping: Stopping,
    recorder: Recorder,
) -> Generator[Commit, None, StopReason]:
    """Yield commits until the caption ends; returns why it ended.

    A block the gate lets pass is committed as drafted. Any other goes to the cloud, which keeps a
    prefix of it and adds one token of its own. The cloud is first opened at the first escalation, so
    a caption the edge is sure of costs no network and no cloud at all.

    When the cloud gives no usable answer, the edge finishes alone, and the trace says when and why.

    With the ``always`` gate and ``exact`` acceptance the output is the cloud's own greedy output
    (Leviathan et al. 2023); see "Exactness" in the definitions for ties.
    """
    escalate = GATES[settings.gate]
    start = recorder.now()
    logits = edge.prefill(prompt)
    recorder.add("prefill", start, side="edge", input_tokens=prompt.length)
    output: list[int] = []
    session: CloudSession | None = None
    lost = False
    try:
        while True:
            start = recorder.now()
            if unseen := output[edge.length - prompt.length :]:
                logits = edge.extend(unseen)[-1]
            k = min(settings.k, stopping.room(output))
            draft, stats = draft_block(edge, logits, k=k, end_ids=stopping.end_ids)
            asked = not lost and escalate(stats, settings.thresholds)
            recorder.draft(start, draft, stats, escalated=asked)

            new, kept, origins = draft, len(draft), by("edge", len(draft))
            if asked:
                start = recorder.now()
                try:
                    session = session or cloud.open(prompt)
                    new, kept, origins = _verified(session, output, draft, settings, recorder)
                except CloudError as error:
                    recorder.degrade(start, error)
                    lost = True
            tokens, reason = stopping.cut(output, new)
            edge.rewind(min(edge.length, prompt.length + len(output) + min(kept, len(tokens))))
            output += tokens
            yield recorder.commit(tokens, origins[: len(tokens)])
            if reason is not None:
                return reason
    finally:
        if session is not None:
            session.close()


def _verified(
    session: CloudSession,
    output: list[int],
    draft: list[int],
    settings: Speculation,
    recorder: Recorder,
) -> tuple[list[int], int, tuple[Origin, ...]]:
    """What one verification makes of a draft: the tokens, how many of them were drafted, the origins."""
    start = recorder.now()
    verdict = session.verify(output, draft, settings.acceptance)
    recorder.verify(start, verdict, drafted=len(draft))
    kept = by("verified", verdict.kept)
    if verdict.token is None:
        return draft[: verdict.kept], verdict.kept, kept
    chosen: Origin = "bonus" if verdict.kept == len(draft) else "corrected"
    return [*draft[: verdict.kept], verdict.token], verdict.kept, (*kept, chosen)
