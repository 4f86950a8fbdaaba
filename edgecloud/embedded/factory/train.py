"""Training of one miniature model on the synthetic corpus."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgecloud.embedded.factory import grammar
from edgecloud.embedded.factory.corpus import Clip, Corpus
from edgecloud.embedded.factory.miniature import (
    IGNORED,
    Packed,
    PromptIds,
    TextExample,
    Trainable,
    pack,
)
from edgecloud.embedded.factory.progress import Progress
from edgecloud.models.prompts import LANGUAGES, PROMPT_TYPES, Language, PromptType, instruction

Features = npt.NDArray[np.float16]

_LISTENED: Final[Mapping[str, tuple[str, ...]]] = {
    "emotion": grammar.EMOTIONS,
    "pitch": grammar.PITCHES,
    "rate": grammar.RATES,
    "loudness": grammar.LOUDNESSES,
    "voice": grammar.VOICES,
}
_CHECKPOINT_STEPS: Final = 200
_TRANSCRIPTION_SHARE: Final = 0.15


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps and learning rates of a training.

    Each step takes `clips` recordings with `texts` captions each. `listening_weight` is the weight
    of the auxiliary classification of what is audible, whose heads are dropped after training;
    `time_shift` and `noise` are the augmentation, in mel frames and in feature units.
    """

    steps: int
    clips: int
    texts: int
    peak_rate: float
    warmup_steps: int
    weight_decay: float = 0.05
    listening_weight: float = 0.3
    time_shift: int = 8
    noise: float = 0.02
    bands: int = 8

    def rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to a twentieth of the peak."""
        if step < self.warmup_steps:
            return self.peak_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.peak_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


class Listener(nn.Module):
    """Auxiliary heads: what is audible, from pooled audio and from the state after the audio."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.pooled = nn.ModuleDict(
            {name: nn.Linear(hidden, len(values)) for name, values in _LISTENED.items()}
        )
        self.stated = nn.ModuleDict(
            {name: nn.Linear(hidden, len(values)) for name, values in _LISTENED.items()}
        )

    def forward(self, pooled: Tensor, stated: Tensor, clips: Sequence[Clip]) -> Tensor:
        """Mean cross-entropy over the attributes; both inputs are (B, hidden)."""
        normed = self.norm(pooled)
        losses = []
        for name, values in _LISTENED.items():
            labels = torch.tensor(
                [values.index(getattr(clip.attributes, name)) for clip in clips],
                device=pooled.device,
            )
            losses.append(nn.functional.cross_entropy(self.pooled[name](normed), labels))
            losses.append(nn.functional.cross_entropy(self.stated[name](stated), labels))
        return torch.stack(losses).mean()


def _batches(corpus: Corpus, size: int, rng: random.Random) -> Iterator[list[int]]:
    """Endless batches of clip indices of similar length, every clip once an epoch."""
    while True:
        order = list(range(len(corpus.clips)))
        rng.shuffle(order)
        pool = size * 16
        batches: list[list[int]] = []
        for start in range(0, len(order), pool):
            chunk = sorted(order[start : start + pool], key=corpus.length)
            batches += [chunk[i : i + size] for i in range(0, len(chunk), size)]
        rng.shuffle(batches)
        yield from (batch for batch in batches if len(batch) == size)


def _texts(clip: Clip, ids: PromptIds, count: int, rng: random.Random) -> list[TextExample]:
    """Captions to learn for one clip: the default type in both languages first, then others."""
    kinds: list[tuple[Language, PromptType]] = [
        (language, kind) for language in LANGUAGES for kind in PROMPT_TYPES
    ]
    first = [kind for kind in kinds if kind[1] == "default"]
    others = [kind for kind in kinds if kind[1] != "default"]
    rng.shuffle(first)
    rng.shuffle(others)
    chosen = first + others if count > 1 else kinds
    if count == 1:
        rng.shuffle(chosen)
    examples = []
    for language, kind in chosen[:count]:
        words = clip.sentence if rng.random() < _TRANSCRIPTION_SHARE else None
        text = instruction(language, kind, transcription=words)
        examples.append(ids.text(text, grammar.caption(clip.attributes, language, kind, rng)))
    return examples


def _augmented(features: Features, schedule: Schedule, rng: np.random.Generator) -> Features:
    """Features (T, bands) shifted in time, with noise and a muted band of frequencies."""
    shifted = np.roll(features, int(rng.integers(0, schedule.time_shift + 1)), axis=0)
    noise: Features = rng.normal(0, schedule.noise, size=shifted.shape).astype(np.float16)
    noisy: Features = shifted + noise
    width = int(rng.integers(0, schedule.bands + 1))
    start = int(rng.integers(0, noisy.shape[1] - width + 1))
    noisy[:, start : start + width] = noisy.min()
    return noisy


def losses(
    model: Trainable,
    listener: Listener,
    features: Sequence[Features],
    packed: Packed,
    clips: Sequence[Clip],
) -> tuple[Tensor, Tensor]:
    """Caption loss (nats a token) and listening loss of one batch."""
    audio, counts = model.encode_audio(features)
    device = audio.device
    embeddings = model.embed(packed.ids.to(device), audio)
    mask = {"full_attention": packed.mask.to(device)}
    hidden = model.think(embeddings, packed.positions.to(device), mask)
    labels = packed.labels.to(device)
    wanted = labels != IGNORED
    caption = nn.functional.cross_entropy(model.logits(hidden[wanted]), labels[wanted])
    pooled = torch.stack([part.mean(dim=0) for part in torch.split(audio, counts)])
    rows = torch.arange(len(clips), device=device)
    stated = hidden[rows, packed.audio_end.to(device)]
    return caption, listener(pooled, stated, clips)


def train(
    model: Trainable,
    corpus: Corpus,
    ids: PromptIds,
    schedule: Schedule,
    *,
    seed: int,
    title: str,
    checkpoint: Path,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Train `model` in place; interrupted training goes on from `checkpoint`.

    Args:
        title: what the progress line calls it.
        checkpoint: a file rewritten every 200 steps.
        on_step: called with the number of steps done and the caption loss.
    """
    device = next(model.parameters()).device
    listener = Listener(model.language_model.config.hidden_size).to(device)
    parameters = [*model.parameters(), *listener.parameters()]
    groups: list[dict[str, object]] = [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups,
        lr=schedule.peak_rate,
        betas=(0.9, 0.98),
        weight_decay=schedule.weight_decay,
    )
    modules = nn.ModuleList([model, listener])
    done = _resume(checkpoint, modules, optimizer, schedule)
    progress = Progress(f"training {title}", schedule.steps, unit="steps", done=done)
    batches = _batches(corpus, schedule.clips, random.Random(f"batches {seed}"))
    model.train()
    for step in range(schedule.steps):
        indices = next(batches)
        if step < done:
            continue
        rng = random.Random(f"texts {seed} {step}")
        noise = np.random.default_rng([seed, step])
        clips = [corpus.clips[index] for index in indices]
        features = [_augmented(corpus.features(index), schedule, noise) for index in indices]
        packed = pack(
            [ids.prefix(len(f)) for f in features],
            [_texts(clip, ids, schedule.texts, rng) for clip in clips],
            pad_id=ids.end_of_text,
        )
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        caption, listening = losses(model, listener, features, packed, clips)
        optimizer.zero_grad(set_to_none=True)
        (caption + schedule.listening_weight * listening).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if (step + 1) % _CHECKPOINT_STEPS == 0 and step + 1 < schedule.steps:
            _save(checkpoint, modules, optimizer, schedule, step + 1)
        note = f"(caption {caption.item():.3f}, listening {listening.item():.3f})"
        progress.update(step + 1, note)
        if on_step is not None:
            on_step(step + 1, caption.item())
    progress.close()
    model.eval()


def _save(
    path: Path,
    modules: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    done: int,
) -> None:
    state = {
        "done": done,
        "schedule": asdict(schedule),
        "modules": modules.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def _resume(
    path: Path, modules: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule
) -> int:
    """Steps already done according to `path`; 0 if there is none or it is of another schedule."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    if state["schedule"] != asdict(schedule):
        return 0
    modules.load_state_dict(state["modules"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["done"])
