"""The two ends of the scale: the edge alone, and the cloud alone. The same stream of commits."""

from __future__ import annotations

from collections.abc import Generator

from edgecloud.contracts import CloudModel, Commit, EdgeModel, Prompt, StopReason
from edgecloud.contracts.sampling import GREEDY, Sampling
from edgecloud.decoding.recorder import Recorder, by
from edgecloud.decoding.stopping import Stopping

__all__ = ["cloud_only", "edge_only"]


def edge_only(
    prompt: Prompt,
    *,
    edge: EdgeModel,
    stopping: Stopping,
    recorder: Recorder,
) -> Generator[Commit, None, StopReason]:
    """Decoding on the edge, one token a commit."""
    start = recorder.now()
    edge.prefill(prompt)
    recorder.prefill(start, "edge", prompt.length)
    output: list[int] = []
    while True:
        tokens, reason = stopping.cut(output, [edge.choose(output)])
        output += tokens
        yield recorder.commit(tokens, by("edge", len(tokens)))
        if reason is not None:
            return reason
        edge.extend(tokens)


def cloud_only(
    prompt: Prompt,
    *,
    cloud: CloudModel,
    stopping: Stopping,
    recorder: Recorder,
    sampling: Sampling = GREEDY,
) -> Generator[Commit, None, StopReason]:
    """Decoding on the cloud, which streams its tokens; each commit is one message."""
    session = cloud.open(prompt, sampling)
    output: list[int] = []
    try:
        start = recorder.now()
        for chunk in session.generate(output, stopping.limits):
            if not output:
                # The first token comes from the prefill: what the cloud was busy with until then.
                began = max(0.0, recorder.now() - chunk.cost.busy_s)
                recorder.prefill(began, "cloud", prompt.length)
            recorder.generate(start, chunk)
            tokens, reason = stopping.cut(output, chunk.tokens)
            output += tokens
            yield recorder.commit(tokens, by("cloud", len(tokens)))
            if reason is not None:
                return reason
            start = recorder.now()
    finally:
        session.close()
    # A cloud that ends its stream without an end of text, below the limit, has no more to say.
    return "token_limit"
