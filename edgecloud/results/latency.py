"""Latency of one request, from its trace alone. Seconds unless the name says otherwise.

The definitions are in the table of ``reports/README.md``. Request start is second 0 of the trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from edgecloud.contracts import Commit, Finish, Generate, Prefill, Trace
from edgecloud.jsontypes import unless
from edgecloud.results.numbers import Amount, Count

__all__ = ["LATENCY_NAMES", "Latency", "latency"]

_LEAST_OF_BUSY = 0.9
"""Of the time that tokens take to make, the least in which they may come: one token more or less late
at either end is no contradiction."""

LATENCY_NAMES = ("ttft", "itps", "otps", "oet", "tpot", "total_time", "prefill_time", "rtf")
"""The quantities that are one number per request and are summarised over samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Every latency of a request in seconds; ``itps`` and ``otps`` in tokens a second, ``rtf`` a ratio.

    ``block_gap`` are the seconds between successive commits, ``tokens_per_block`` the tokens of each;
    ``reasons`` say why a quantity is ``None``. Where the trace contradicts itself about when tokens of the
    cloud came, ``delivered_late`` is true and there is no ``tpot``.
    """

    ttft: Amount | None = None
    itps: Amount | None = None
    otps: Amount | None = None
    oet: Amount | None = None
    tpot: Amount | None = None
    total_time: Amount | None = None
    prefill_time: Amount | None = None
    rtf: Amount | None = None
    delivered_late: bool = unless(False)
    input_tokens: Count | None = None
    output_tokens: Count = 0
    block_gap: tuple[Amount, ...] = ()
    tokens_per_block: tuple[Count, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)


def latency(
    trace: Trace, *, audio_s: float | None = None, input_tokens: int | None = None
) -> Latency:
    """Every latency of a request.

    ``audio_s`` is the length of the recording in seconds, ``input_tokens`` the length of the prompt;
    the prompt's length is read from the trace when it is not given.

    >>> found = latency(Trace((
    ...     Prefill(0.0, 0.5, "edge", input_tokens=50),
    ...     Commit(1.0, 1.0, tokens=(7, 8, 9), origins=("edge",) * 3),
    ...     Commit(2.0, 2.0, tokens=(4, 5), origins=("edge",) * 2),
    ...     Finish(2.0, 2.1, "end_of_text"),
    ... )))
    >>> found.ttft, found.oet, found.tpot, found.otps, found.itps
    (1.0, 1.0, 0.5, 2.5, 100.0)
    """
    reasons: dict[str, str] = {}
    commits = trace.of(Commit)
    per_block = [len(commit.tokens) for commit in commits]
    output_tokens = sum(per_block)

    prefill_s, prompt_tokens = _prefill(trace)
    tokens_in = input_tokens if input_tokens is not None else prompt_tokens
    itps = _ratio(tokens_in, prefill_s)
    if prefill_s is None:
        reasons["prefill_time"] = "the trace holds no prefill"
    if itps is None:
        reasons["itps"] = "input tokens or a prefill time above zero are missing"

    ttft = oet = otps = tpot = None
    if commits:
        ttft, last = commits[0].at_s, commits[-1].at_s
        oet = last - ttft
        otps = _ratio(output_tokens, last)
        tpot = _ratio(oet, output_tokens - per_block[0])
    for name, value in (("ttft", ttft), ("oet", oet), ("otps", otps)):
        if value is None:
            reasons[name] = "nothing was committed" if not commits else "the last commit is at 0 s"
    if tpot is None:
        reasons["tpot"] = "no token after the first commit"
    together = _came_together(trace)
    if together is not None:
        tpot, reasons["tpot"] = None, together

    finish = trace.of(Finish)
    total_time = finish[-1].end_s if finish else None
    if not finish:
        reasons["total_time"] = "the request did not finish"
    rtf = _ratio(total_time, audio_s)
    if rtf is None:
        reasons["rtf"] = (
            "there is no audio, or its length is not known"
            if audio_s is None
            else "the total time is not known"
        )
    if tokens_in is None:
        reasons["input_tokens"] = "the prompt's length was not recorded"
    return Latency(
        ttft=ttft,
        itps=itps,
        otps=otps,
        oet=oet,
        tpot=tpot,
        total_time=total_time,
        prefill_time=prefill_s,
        rtf=rtf,
        delivered_late=together is not None,
        input_tokens=tokens_in,
        output_tokens=output_tokens,
        block_gap=tuple(after.at_s - before.at_s for before, after in pairwise(commits)),
        tokens_per_block=tuple(per_block),
        reasons=reasons,
    )


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
