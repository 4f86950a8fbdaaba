"""The cost of quantizing the edge: numerics and captions against float32, and its effect on
entropies, by which the gate decides.

Two comparisons of each model. *Followed*: it is given float32's own captions token by token, so that its
logits can be compared with float32's at the same places. *Alone*: it captions by itself, and the
captions are scored. Differences are paired by sample, with bootstrap intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgecloud.contracts import Model, Prompt, Sample, StopLimits
from edgecloud.datasets.audio import load_audio
from edgecloud.decoding.draft_scores import choose
from edgecloud.decoding.stopping import Stopping
from edgecloud.edge.messages import Mode
from edgecloud.experiments.checking import check_models
from edgecloud.experiments.run import load_corpus
from edgecloud.experiments.system import model_of
from edgecloud.models.precision import load_model
from edgecloud.models.processor import Processor
from edgecloud.quality.score import corpus_references_of, score
from edgecloud.quality.tokenize import LANGUAGE_TOKENIZERS
from edgecloud.results.statistics import Interval, mean_difference
from edgecloud.settings.config import Config

__all__ = ["QUANTIZATIONS", "Caption", "Row", "equal_rate_threshold", "evaluate"]

QUANTIZATIONS = ("none", "bf16", "int8", "int4")


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption that a model wrote alone, and the entropy (nats) before each of its tokens."""

    tokens: tuple[int, ...]
    text: str
    entropies: tuple[float, ...]

    def blocks(self, size: int) -> list[float]:
        """The largest entropy of each block of ``size`` tokens: the input of the entropy gate."""
        places = range(0, len(self.entropies), size)
        return [max(self.entropies[place : place + size]) for place in places]


@dataclass(frozen=True, slots=True)
class Row:
    """One quantisation in one language.

    ``logit_error``: root mean square difference to float32's logits over their deviation;
    ``equal_tokens``: share of places with the same first choice; ``entropy_shift``: nats, at the same
    places; all three followed. ``cider``, ``emotion_accuracy`` and their differences to float32:
    alone. ``call_rate``: share of blocks above the configured entropy threshold; ``threshold``: the one
    that gives float32's share.
    """

    language: str
    quantization: str
    samples: int
    logit_error: float
    equal_tokens: float
    entropy_shift: Interval
    cider: float
    cider_difference: Interval
    emotion_accuracy: float
    emotion_difference: Interval
    equal_captions: float
    call_rate: float
    threshold: float


@dataclass(frozen=True, slots=True)
class _Followed:
    """Float32's caption of a sample under another model: ``logits (n, V)`` before each token."""

    logits: Tensor

    @property
    def entropies(self) -> Tensor:
        logprobs = torch.log_softmax(self.logits, dim=-1)
        return -(logprobs.exp() * logprobs).sum(dim=-1)


def evaluate(config: Config, quantizations: Sequence[str] = QUANTIZATIONS) -> list[Row]:
    """A row for each of ``quantizations`` on the edge of ``config`` and its corpus; the first one is
    what the others are compared with, and should be ``none``.

    Raises:
        EdgeCloudError: a model or the corpus cannot be used.
    """
    corpus, _ = load_corpus(config)
    samples = corpus[: config.data.max_samples]
    name, path = model_of(config.models.edge, "edge")
    # One process holds them, one after the other, and no cap is on it.
    arms: list[tuple[Mode, Config]] = [
        ("edge", config.changed(max_memory_gb=0.0, edge_quantization=which))
        for which in quantizations
    ]
    check_models(arms, samples=samples)
    rows: list[Row] = []
    prompts: list[Prompt] = []
    captions: list[Caption] = []
    exact: list[_Followed] = []
    scores: list[dict[str, float]] = []
    for quantization in quantizations:
        loaded = load_model(
            name, path, device=config.models.edge_device, dtype="auto", quantization=quantization
        )
        if not prompts:
            prompts = [_prompt(config, loaded.processor, sample) for sample in samples]
        stopping = loaded.processor.stopping(
            StopLimits(config.generation.max_new_tokens, config.generation.max_sentences)
        )
        alone = [_alone(loaded.model, prompt, stopping, loaded.processor) for prompt in prompts]
        found = _scores(config, corpus, samples, alone)
        if not exact:
            captions, scores = alone, found
        followed = [
            _follow(loaded.model, prompt, caption.tokens)
            for prompt, caption in zip(prompts, captions, strict=True)
        ]
        exact = exact or followed
        wanted = [peak for caption in captions for peak in caption.blocks(config.draft.k)]
        peaks = [peak for caption in alone for peak in caption.blocks(config.draft.k)]
        same = [a.tokens == b.tokens for a, b in zip(alone, captions, strict=True)]
        rows.append(
            Row(
                language=config.data.language,
                quantization=quantization,
                samples=len(samples),
                **_numerics(followed, exact),
                **_qualities(found, scores),
                equal_captions=float(np.mean(same)),
                call_rate=float(np.mean(np.array(peaks) > config.gate.entropy_threshold)),
                threshold=equal_rate_threshold(
                    peaks, wanted, threshold=config.gate.entropy_threshold
                ),
            )
        )
    return rows


def equal_rate_threshold(
    peaks: Sequence[float], baseline: Sequence[float], *, threshold: float
) -> float:
    """The threshold above which as large a share of ``peaks`` lies as of ``baseline`` above
    ``threshold``: ``threshold`` itself where that is one, else halfway between the two peaks that it
    separates.

    A quarter of the baseline is above 1.5, so a quarter of the peaks shall be:

    >>> equal_rate_threshold([0.2, 0.4, 0.6, 1.0], [0.1, 0.9, 1.2, 2.0], threshold=1.5)
    0.8
    """
    ordered = sorted(peaks, reverse=True)
    share = sum(peak > threshold for peak in baseline) / len(baseline)
    count = round(share * len(ordered))
    above = ordered[count - 1] if count else math.inf
    below = ordered[count] if count < len(ordered) else 0.0
    if below <= threshold < above:
        return threshold
    return (above + below) / 2 if count else below


def _prompt(config: Config, processor: Processor, sample: Sample) -> Prompt:
    waveform = load_audio(str(sample.audio_path), max_audio_s=config.data.max_audio_s)
    return processor.prompt(
        processor.features(waveform),
        language=config.data.language,
        prompt_type=config.data.prompt_type,
        transcription=sample.transcription if config.data.input_modality == "audio_text" else None,
    )


def _alone(model: Model, prompt: Prompt, stopping: Stopping, processor: Processor) -> Caption:
    tokens: list[int] = []
    entropies: list[float] = []
    logits = model.prefill(prompt)
    while True:
        token, stats = choose(logits)
        kept, reason = stopping.cut(tokens, [token])
        tokens += kept
        entropies.append(stats.entropy)
        if reason is not None:
            return Caption(tuple(tokens), processor.text(tokens), tuple(entropies))
        logits = model.extend(kept)[-1]


def _follow(model: Model, prompt: Prompt, tokens: Sequence[int]) -> _Followed:
    rows = [model.prefill(prompt)[None]]
    # One by one, as it drafts.
    rows += [model.extend([token]) for token in tokens[:-1]]
    return _Followed(torch.cat(rows))


def _numerics(followed: Sequence[_Followed], exact: Sequence[_Followed]) -> dict[str, Any]:
    ours = torch.cat([one.logits for one in followed])
    theirs = torch.cat([one.logits for one in exact])
    # What all logits of a place have in common changes nothing.
    centred = [rows - rows.mean(dim=1, keepdim=True) for rows in (ours, theirs)]
    error = (centred[0] - centred[1]).square().mean().sqrt() / centred[1].square().mean().sqrt()
    means = [[one.entropies.mean().item() for one in some] for some in (followed, exact)]
    return {
        "logit_error": error.item(),
        "equal_tokens": (ours.argmax(1) == theirs.argmax(1)).float().mean().item(),
        "entropy_shift": mean_difference(means[0], means[1]),
    }


def _scores(
    config: Config, corpus: Sequence[Sample], samples: Sequence[Sample], alone: Sequence[Caption]
) -> list[dict[str, float]]:
    """CIDEr and emotion accuracy of each sample; 0 where a sample has none."""
    found = score(
        language=config.data.language,
        ids=[sample.file_id for sample in samples],
        hypotheses=[caption.text for caption in alone],
        references=[sample.references for sample in samples],
        reference_languages=[sample.reference_language for sample in samples],
        corpus_references=corpus_references_of(corpus, config.data.language),
    )
    cider = f"{LANGUAGE_TOKENIZERS[config.data.language][0]}.cider"
    return [
        {"cider": row[cider] or 0.0, "emotion": row["emotion_accuracy"] or 0.0}
        for row in found.per_sample
    ]


def _qualities(
    found: Sequence[dict[str, float]], baseline: Sequence[dict[str, float]]
) -> dict[str, Any]:
    ours, theirs = (
        {name: [row[name] for row in rows] for name in ("cider", "emotion")}
        for rows in (found, baseline)
    )
    return {
        "cider": float(np.mean(ours["cider"])),
        "cider_difference": mean_difference(ours["cider"], theirs["cider"]),
        "emotion_accuracy": float(np.mean(ours["emotion"])),
        "emotion_difference": mean_difference(ours["emotion"], theirs["emotion"]),
    }
