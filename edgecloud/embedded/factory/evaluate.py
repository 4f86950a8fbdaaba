"""Held-out scores of a miniature model: emotion accuracy, CIDEr, entropies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import jieba
import numpy as np
import torch
from pycocoevalcap.cider.cider import Cider
from tokenizers import Tokenizer
from transformers import DynamicCache

from edgecloud.embedded.factory import grammar
from edgecloud.embedded.factory.corpus import Corpus
from edgecloud.embedded.factory.miniature import PromptIds, Trainable
from edgecloud.models.prompts import Language, PromptType, instruction

BLOCK_TOKENS: Final = 3
THRESHOLDS_NATS: Final = (1.0, 1.5, 2.0, 4.0)
_BATCH: Final = 32


@dataclass(frozen=True, slots=True)
class Decoded:
    """A greedy caption: its tokens without the end, and the entropy (nats) before each of them."""

    token_ids: tuple[int, ...]
    entropies: tuple[float, ...]


@torch.inference_mode()
def decode(
    model: Trainable,
    corpus: Corpus,
    indices: Sequence[int],
    ids: PromptIds,
    instruction_text: str,
    *,
    max_tokens: int = 96,
) -> list[Decoded]:
    """Greedy captions of clips, decoded in batches."""
    by_length = sorted(indices, key=corpus.length)
    decoded: dict[int, Decoded] = {}
    for start in range(0, len(by_length), _BATCH):
        batch = by_length[start : start + _BATCH]
        captions = _decode_batch(model, corpus, batch, ids, instruction_text, max_tokens)
        decoded.update(zip(batch, captions, strict=True))
    return [decoded[index] for index in indices]


def _decode_batch(
    model: Trainable,
    corpus: Corpus,
    indices: Sequence[int],
    ids: PromptIds,
    instruction_text: str,
    max_tokens: int,
) -> list[Decoded]:
    features = [np.asarray(corpus.features(index)) for index in indices]
    tail = ids.text(instruction_text).prompt_ids
    prompts = [[*ids.prefix(len(f)), *tail] for f in features]
    longest = max(map(len, prompts))
    device = model.language_model.embed_tokens.weight.device
    padded = [[ids.end_of_text] * (longest - len(p)) + p for p in prompts]
    mask = torch.tensor([[int(i >= longest - len(p)) for i in range(longest)] for p in prompts])
    mask = mask.to(device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    audio, _ = model.encode_audio(features)
    embeddings = model.embed(torch.tensor(padded, device=device), audio)
    cache = DynamicCache()
    tokens: list[list[int]] = [[] for _ in indices]
    entropies: list[list[float]] = [[] for _ in indices]
    open_rows = set(range(len(indices)))
    for _ in range(max_tokens):
        hidden = model.think(embeddings, positions, mask, cache=cache)[:, -1]
        log_p = model.logits(hidden).float().log_softmax(-1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        chosen = log_p.argmax(-1)
        for row in list(open_rows):
            entropies[row].append(float(entropy[row]))
            if int(chosen[row]) in (ids.end_of_turn, ids.end_of_text):
                open_rows.discard(row)
            else:
                tokens[row].append(int(chosen[row]))
        if not open_rows:
            break
        embeddings = model.language_model.embed_tokens(chosen).unsqueeze(1)
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(indices), 1)], dim=1)
    return [Decoded(tuple(t), tuple(e)) for t, e in zip(tokens, entropies, strict=True)]


def words(text: str, language: Language) -> str:
    """The text as words between blanks: Chinese by jieba, English lower-cased."""
    if language == "chinese":
        return " ".join(w for w in jieba.cut(text) if re.search(r"\w", w))
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def cider(
    candidates: Sequence[str], references: Sequence[Sequence[str]], language: Language
) -> float:
    """Corpus CIDEr with document frequencies from the references; 0 and up, higher is better."""
    jieba.setLogLevel("ERROR")
    truth = {i: [words(r, language) for r in refs] for i, refs in enumerate(references)}
    guess = {i: [words(text, language)] for i, text in enumerate(candidates)}
    return float(Cider().compute_score(truth, guess)[0])


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one model on one split in one language with one prompt type.

    `call_rates` says for each entropy threshold (nats) what share of blocks of three tokens holds
    a token at or above it; `cider` is None for the types that have no references.
    """

    split: str
    language: Language
    prompt_type: PromptType
    clips: int
    emotion_accuracy: float
    cider: float | None
    mean_tokens: float
    mean_entropy: float
    call_rates: tuple[tuple[float, float], ...]
    examples: tuple[str, ...]


def score(
    model: Trainable,
    corpus: Corpus,
    tokenizer: Tokenizer,
    *,
    split: str,
    language: Language,
    prompt_type: PromptType = "default",
    prompts: type[PromptIds] = PromptIds,
) -> Scores:
    """Decode every clip of the corpus greedily and score the captions."""
    ids = prompts(tokenizer)
    text = instruction(language, prompt_type)
    decoded = decode(model, corpus, range(len(corpus.clips)), ids, text)
    captions = [tokenizer.decode(list(d.token_ids)) for d in decoded]
    truth = [clip.attributes for clip in corpus.clips]
    hits = [
        grammar.emotion_of(caption, language) == attributes.emotion
        for caption, attributes in zip(captions, truth, strict=True)
    ]
    references = [
        grammar.references(clip.attributes, language, clip.clip_id) for clip in corpus.clips
    ]
    peaks = [
        max(d.entropies[i : i + BLOCK_TOKENS])
        for d in decoded
        for i in range(0, len(d.entropies), BLOCK_TOKENS)
    ]
    return Scores(
        split=split,
        language=language,
        prompt_type=prompt_type,
        clips=len(corpus.clips),
        emotion_accuracy=float(np.mean(hits)),
        cider=cider(captions, references, language) if prompt_type == "default" else None,
        mean_tokens=float(np.mean([len(d.token_ids) for d in decoded])),
        mean_entropy=float(np.mean([e for d in decoded for e in d.entropies])),
        call_rates=tuple((t, float(np.mean([p >= t for p in peaks]))) for t in THRESHOLDS_NATS),
        examples=tuple(captions[:3]),
    )


def as_row(scores: Scores) -> dict[str, Any]:
    """The scores as plain values for a table or JSON."""
    rates = {f"rate_{threshold:g}": round(rate, 3) for threshold, rate in scores.call_rates}
    return {
        "split": scores.split,
        "language": scores.language,
        "prompt_type": scores.prompt_type,
        "clips": scores.clips,
        "emotion_accuracy": round(scores.emotion_accuracy, 3),
        "cider": None if scores.cider is None else round(scores.cider, 3),
        "mean_tokens": round(scores.mean_tokens, 1),
        "mean_entropy": round(scores.mean_entropy, 3),
        **rates,
    }
