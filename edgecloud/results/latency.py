"""Latency of one request, from its trace alone. Seconds unless the name says otherwise.

The definitions are in the table of ``reports/README.md``. Request start is second 0 of the trace.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from edgecloud.contracts import Commit, Finish, Generate, Prefill, Trace

__all__ = ["LATENCY_NAMES", "latency"]

_LEAST_OF_BUSY = 0.9
"""Of the time that tokens take to make, the least in which they may come: one token more or less late
at either end is no contradiction."""

LATENCY_NAMES = ("ttft", "itps", "otps", "oet", "tpot", "total_time", "prefill_time", "rtf")
"""The quantities that are one number per request and are summarised over samples."""


def latency(
    trace: Trace, *, audio_s: float | None = None, input_tokens: int | None = None
) -> dict[str, Any]:
    """Every latency of a request.

    ``audio_s`` is the length of the recording in seconds, ``input_tokens`` the length of the prompt;
    the prompt's length is read from the trace when it is not given. The result holds
    :data:`LATENCY_NAMES`, ``input_tokens``, ``output_tokens``, the lists ``block_gap`` (seconds) and
    ``tokens_per_block``, and ``reasons``: why a quantity is ``None``. Where the trace contradicts itself
    about when tokens of the cloud came, ``delivered_late`` is there, ``True``, and ``tpot`` is ``None``.

    >>> trace = Trace((
    ...     Prefill(0.0, 0.5, "edge", input_tokens=50),
    ...     Commit(1.0, 1.0, tokens=(7, 8, 9), origins=("edge",) * 3),
    ...     Commit(2.0, 2.0, tokens=(4, 5), origins=("edge",) * 2),
    ...     Finish(2.0, 2.1, "end_of_text"),
    ... ))
    >>> result = latency(trace)
    >>> result["ttft"], result["oet"], result["tpot"], result["otps"], result["itps"]
    (1.0, 1.0, 0.5, 2.5, 100.0)
    """
    values: dict[str, Any] = dict.fromkeys(LATENCY_NAMES)
    reasons: dict[str, str] = {}
    commits = trace.of(Commit)
    per_block = [len(commit.tokens) for commit in commits]
    output_tokens = sum(per_block)

    prefill_s, prompt_tokens = _prefill(trace)
    tokens_in = input_tokens if input_tokens is not None else prompt_tokens
    values["prefill_time"] = prefill_s
    values["itps"] = _ratio(tokens_in, prefill_s)
    if prefill_s is None:
        reasons["prefill_time"] = "the trace holds no prefill"
    if values["itps"] is None:
        reasons["itps"] = "input tokens or a prefill time above zero are missing"

    if commits:
        first, last = commits[0].at_s, commits[-1].at_s
        values["ttft"] = first
        values["oet"] = last - first
        values["otps"] = _ratio(output_tokens, last)
        values["tpot"] = _ratio(last - first, output_tokens - per_block[0])
    for name in ("ttft", "oet", "otps"):
        if values[name] is None:
            reasons[name] = "nothing was committed" if not commits else "the last commit is at 0 s"
    if values["tpot"] is None:
        reasons["tpot"] = "no token after the first commit"
    together = _came_together(trace)
    if together is not None:
        values["delivered_late"] = True
        values["tpot"], reasons["tpot"] = None, together

    finish = trace.of(Finish)
    values["total_time"] = finish[-1].end_s if finish else None
    if not finish:
        reasons["total_time"] = "the request did not finish"
    values["rtf"] = _ratio(values["total_time"], audio_s)
    if values["rtf"] is None:
        reasons["rtf"] = (
            "there is no audio, or its length is not known"
            if audio_s is None
            else "the total time is not known"
        )

    times = [commit.at_s for commit in commits]
    values["input_tokens"] = tokens_in
    if tokens_in is None:
        reasons["input_tokens"] = "the prompt's length was not recorded"
    values["output_tokens"] = output_tokens
    values["block_gap"] = [after - before for before, after in pairwise(times)]
    values["tokens_per_block"] = per_block
    values["reasons"] = reasons
    return values


def _came_together(trace: Trace) -> str | None:
    """The reason why a cloud stream's commits do not say how fast its tokens were made; ``None``: they do.

    Tokens after the first commit cannot take less time to come than the cloud was busy with making
    them: where they do, the first ones were delivered late, and the trace contradicts itself.
    """
    commits, chunks = trace.of(Commit), trace.of(Generate)
    if len(commits) < 2 or len(chunks) != len(commits):
        return None  # not the cloud's stream alone
    made_s = sum(chunk.cost.busy_s for chunk in chunks[1:])
    came_s = commits[-1].at_s - commits[0].at_s
    if came_s >= _LEAST_OF_BUSY * made_s:
        return None
    return (
        f"the tokens after the first came within {came_s * 1e3:.1f} ms although the cloud was busy with "
        f"them for {made_s * 1e3:.1f} ms: they were delivered late, together"
    )


def _prefill(trace: Trace) -> tuple[float | None, int | None]:
    """Seconds and tokens of the prefill: the edge's where it has one, else the cloud's."""
    prefills = sorted(trace.of(Prefill), key=lambda prefill: prefill.side != "edge")
    return (prefills[0].took_s, prefills[0].input_tokens) if prefills else (None, None)


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    """``numerator / denominator``; ``None`` when either is missing or the denominator is not above 0."""
    if numerator is None or denominator is None or denominator <= 0:
        return None
    return numerator / denominator
