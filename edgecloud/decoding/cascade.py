"""Whole captions: the edge's, or all of it from the cloud. A cascade, and a router.

Both ask the gate once. A **cascade** asks it about the edge's whole caption, a **router** about its first
tokens; where the gate escalates, the cloud writes the caption from scratch, and what the edge wrote is
dropped. So the output is the edge's own, or the cloud's own.
"""

from __future__ import annotations

from collections.abc import Generator

from edgecloud.contracts import CloudModel, Commit, EdgeModel, Prompt, StopReason, TokenStats
from edgecloud.contracts.sampling import GREEDY, Sampling
from edgecloud.decoding.autoregressive import cloud_only
from edgecloud.decoding.drafting import Drafter
from edgecloud.decoding.gates import GATES
from edgecloud.decoding.recorder import Recorder, by
from edgecloud.decoding.speculative import Speculation
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import CloudError
from edgecloud.registry import guarded

__all__ = ["cascade"]


def cascade(
    prompt: Prompt,
    *,
    edge: EdgeModel,
    cloud: CloudModel,
    settings: Speculation,
    stopping: Stopping,
    recorder: Recorder,
    sampling: Sampling = GREEDY,
) -> Generator[Commit, None, StopReason]:
    """Yield commits until the caption ends; returns why it ended.

    With the gate scope ``caption`` the gate is asked about the edge's whole caption, with ``start`` about its
    first ``settings.k`` tokens: nothing but the prefill is spent on the edge with ``k`` of 1 where the cloud
    is chosen. No token is committed before. When the cloud fails, the edge finishes after what has come from
    it, and the trace says when and why.
    """
    escalate = guarded(GATES.part(settings.gate), GATES[settings.gate])
    drafter = Drafter(edge, prompt, end_ids=stopping.end_ids)
    start = recorder.now()
    drafter.prefill()
    recorder.prefill(start, "edge", (prompt.edge or prompt).length)
    output: list[int] = []
    stats: list[TokenStats] = []
    reason: StopReason | None = None

    def write_on() -> tuple[int, ...]:
        nonlocal reason
        drafted, its = drafter.draft(output, 1)
        tokens, reason = stopping.cut(output, drafted)
        output.extend(tokens)
        stats.extend(its)
        return tokens

    most = stopping.room(output) if settings.gate_scope == "caption" else settings.k
    start = recorder.now()
    while reason is None and len(stats) < most:
        write_on()
    asked = escalate(stats, settings.thresholds)
    recorder.draft(start, output, stats, escalated=asked)
    written: list[int] = []
    if asked:
        start = recorder.now()
        try:
            return (
                yield from cloud_only(
                    prompt, cloud=cloud, stopping=stopping, recorder=recorder, sampling=sampling
                )
            )
        except CloudError as error:
            recorder.degrade(start, error)
            written = [token for commit in recorder.trace().of(Commit) for token in commit.tokens]
    if written:  # they were committed, and stay
        output, reason = written, None
    else:
        yield recorder.commit(tuple(output), by("edge", len(output)))
    while reason is None:
        start = recorder.now()
        tokens = write_on()
        recorder.draft(start, list(tokens), stats[-1:], escalated=False)
        yield recorder.commit(tokens, by("edge", len(tokens)))
    return reason
