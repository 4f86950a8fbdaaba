"""Rejection sampling loses nothing: what speculation writes is distributed as the cloud's own output.

Many captions of one to three tokens, each with its own seed, are counted and compared with the target's
exact probabilities by a chi-square test; a planted mistake must fail it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from edgecloud.contracts import StopLimits
from edgecloud.contracts.sampling import Sampling
from edgecloud.decoding import local_edge, sampling
from edgecloud.decoding.acceptance import RULES
from edgecloud.decoding.draft_scores import score_drafts
from edgecloud.decoding.gates import Thresholds
from edgecloud.decoding.sampling import chance, warp
from edgecloud.decoding.speculative import Speculation
from edgecloud.decoding.stopping import Stopping
from edgecloud.models.scripted import ScriptedModel
from tests.properties.loop import (
    PROMPT,
    REJECTION,
    VOCAB,
    Case,
    CountingCloud,
    run_modelled,
    run_speculative,
)

WORDS, END = 4, 0
"""Only the first tokens of the vocabulary ever come."""
LIMITS = StopLimits(3)


def script(seed: int) -> Callable[[Sequence[int]], Sequence[float]]:
    """Other logits after every text, from ``seed``; a text ends early now and then."""

    @cache
    def after(text: tuple[int, ...]) -> list[float]:
        number = chance(seed, "script", text) >> 1
        logits = torch.randn(WORDS, generator=torch.Generator().manual_seed(number)) * 1.5
        logits[END] += 1.0
        return [*logits.tolist(), *[-math.inf] * (VOCAB - WORDS)]

    return lambda sequence: after(tuple(sequence[PROMPT.length :]))


EDGE, CLOUD = script(1), script(2)
PLAIN = Speculation(k=2, gate="always", acceptance=REJECTION)
EVERY_IDEA = Speculation(
    k=3,
    gate="logprob",
    thresholds=Thresholds(logprob=-1.0),
    acceptance=REJECTION,
    gate_scope="token",
    verify_scope="since-last-call",
    final_check=True,
    continuation=1,
    adaptive_k=True,
    draft_ahead=True,
    parallel_prefill=True,
)


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same pure function of a tensor: there are few different ones here, and thousands of calls."""
    known: dict[Any, Any] = {}

    def again(tensor: torch.Tensor, *rest: Any, **more: Any) -> Any:
        key = (tensor.numpy().tobytes(), repr(rest), repr(more))
        if key not in known:
            known[key] = function(tensor, *rest, **more)
        return known[key]

    return again


@pytest.fixture(autouse=True)
def quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_edge, "choose", remembered(local_edge.choose))
    monkeypatch.setattr(sampling, "quantized", remembered(sampling.quantized))
    sight = remembered(lambda logits, draft: score_drafts([logits], [draft])[0])
    monkeypatch.setattr(
        sampling,
        "score_drafts",
        lambda logits, drafts: [sight(*one) for one in zip(logits, drafts, strict=True)],
    )
    table = remembered(
        lambda logits, temperature, top_p: warp(logits, Sampling(temperature, top_p))
    )
    monkeypatch.setattr(
        sampling, "warp", lambda logits, way: table(logits, way.temperature, way.top_p)
    )


def exact(way: Sampling, text: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every caption the cloud may write alone, with its probability."""
    if len(text) == LIMITS.max_new_tokens or text[-1:] == (END,):
        yield text, 1.0
        return
    logits = torch.tensor(CLOUD([*PROMPT.token_ids, *text]))
    for token, prob in enumerate(warp(logits, way).tolist()):
        for whole, rest in exact(way, (*text, token)) if prob else ():
            yield whole, prob * rest


def written(settings: Speculation, way: Sampling, captions: int) -> Counter[tuple[int, ...]]:
    """How often each caption comes out of speculation."""
    decode = run_speculative if settings is PLAIN else run_modelled
    found: Counter[tuple[int, ...]] = Counter()
    for seed in range(captions):
        case = Case(
            settings=settings,
            limits=LIMITS,
            sampling=Sampling(way.temperature, way.top_p, seed),
        )
        stopping = Stopping(LIMITS, frozenset({END}))
        cloud = CountingCloud(ScriptedModel(CLOUD, vocab_size=VOCAB), stopping)
        run = decode(case, ScriptedModel(EDGE, vocab_size=VOCAB), cloud)
        assert "edge" not in run.origins, "a token was not verified"
        found[tuple(run.tokens)] += 1
    return found


def p_value(settings: Speculation, way: Sampling, captions: int) -> float:
    """How likely counts at least as far from the target's are, if nothing is lost."""
    expected = {text: prob * captions for text, prob in exact(way)}
    found = written(settings, way, captions)
    if set(found) - set(expected):
        return 0.0
    # Captions that are expected less than five times count together.
    common = [text for text, count in expected.items() if count >= 5]
    observed = [found[text] for text in common]
    counts = [expected[text] for text in common]
    if len(common) < len(expected):
        observed.append(captions - sum(observed))
        counts.append(captions - sum(counts))
    return float(chisquare(observed, counts).pvalue)


@pytest.mark.parametrize(
    "settings, way, captions",
    [
        (PLAIN, Sampling(0.8, 0.9), 4_000),
        (PLAIN, Sampling(1.3, 1.0), 4_000),
        (EVERY_IDEA, Sampling(1.0, 0.95), 4_000),
    ],
    ids=["plain", "hot", "every idea"],
)
def test_what_is_written_is_distributed_as_the_clouds_own(
    settings: Speculation, way: Sampling, captions: int
) -> None:
    assert p_value(settings, way, captions) > 1e-4


def without_residual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "residual", lambda p, _: p)


def everything_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    keeping = replace(RULES.part("rejection"), object=lambda *_: True)
    monkeypatch.setitem(RULES._parts, "rejection", keeping)


def one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = sampling._hashed
    monkeypatch.setattr(sampling, "_hashed", lambda seed, _, text: hashed(seed, "one", text))


@pytest.mark.parametrize("mistake", [without_residual, everything_kept, one_stream])
def test_a_planted_mistake_is_found(
    mistake: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    assert p_value(PLAIN, Sampling(0.8, 0.9), 1_000) < 1e-8
