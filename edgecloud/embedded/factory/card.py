"""The model card, written from what a build measured."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from edgecloud.embedded.factory.evaluate import Scores, as_row
from edgecloud.embedded.factory.layout import Size
from edgecloud.embedded.factory.train import Schedule

CARD_NAME: Final = "MODEL_CARD.md"

_INTRODUCTION: Final = """\
# Model card: the embedded miniature pair

Two miniature Qwen2.5-Omni thinkers, `edge/` and `cloud/`, in the published checkpoint layout
(configuration, safetensors in float16, tokenizer with the family's special tokens and chat
template, feature settings). They exist so that edge-cloud speculative decoding can be run, tested
and compared with no download. They were trained from random weights on synthetic speech only and
know nothing else: on real recordings they answer fluently and wrongly.

The edge is weak on purpose: it was trained briefly, so that it is fluent but often unsure of the
emotion, and the cloud has something to correct.
"""
_DATA: Final = """\
## Data

Speech is synthesised by espeak-ng (package espeakng-loader), half Mandarin and half English. The
words are neutral sentences; the emotion is in the prosody alone: pitch and its range, speaking
rate, loudness, pauses. Captions in Chinese and English come from a grammar over what is audible
(voice, pitch, rate, loudness, emotion), with several equally likely wordings for every phrase, so
that even a perfect model is unsure of the next token at the branches. Every combination of spoken
language, caption language and prompt type is taught. Three references a clip are drawn
independently from the grammar for the default prompt type.

The splits share no sentence. `dev` served all decisions; `test` is the embedded corpus and served
none. `unseen` is spoken by voices that no other split has, which makes pitch, being relative to the
voice, harder to judge; no bar is set for it.
"""
_REBUILD: Final = """\
## Making it again

    pip install -e '.[build]'
    python -m edgecloud.embedded.factory.build --out build/reference

takes under an hour on two cores; an interrupted build goes on when started again with the same
folder, and `--install` copies the result into the package. All randomness is seeded, so the corpus
comes out bit for bit, but another processor, thread count or library version rounds differently,
so weights and scores may differ slightly from these. The weights stored here were trained before
the breath noise of some voices was seeded: their training clips, and theirs alone, differ from a
new build's in that noise.
"""


@dataclass(frozen=True)
class ModelFacts:
    """One model of the pair, with its held-out scores."""

    name: str
    folder: Path
    parameters: int
    size: Size
    schedule: Schedule
    scores: Sequence[Scores]


@dataclass(frozen=True)
class Facts:
    """The measurements of a build."""

    seed: int
    clips: Mapping[str, int]
    hours: Mapping[str, float]
    models: Sequence[ModelFacts]
    seconds: Mapping[str, float]
    threads: int


def card_text(facts: Facts) -> str:
    """The card in Markdown."""
    splits = [
        [split, str(count), f"{facts.hours[split]:.2f}"] for split, count in facts.clips.items()
    ]
    parts = [
        _INTRODUCTION,
        _DATA + "\n" + _table(["split", "clips", "hours"], splits),
        "## Sizes and schedules\n\n" + _sizes(facts),
        "## Held-out scores\n\n" + _score_notes() + "\n" + _score_table(facts),
        "## Sample captions\n\n" + _examples(facts),
        "## Files\n\n" + _hashes(facts),
        "## Time\n\n" + _times(facts),
        _REBUILD,
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _sizes(facts: Facts) -> str:
    rows = []
    for model in facts.models:
        weights = model.folder / "model.safetensors"
        rows.append([model.name, f"{model.parameters:,}", f"{weights.stat().st_size:,}"])
    dimensions = [
        f"- {model.name}: "
        + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in asdict(model.size).items())
        for model in facts.models
    ]
    schedules = [
        f"- {model.name}: "
        + ", ".join(
            f"{key.replace('_', ' ')} {value}" for key, value in asdict(model.schedule).items()
        )
        for model in facts.models
    ]
    return (
        _table(["model", "parameters", "bytes of weights"], rows)
        + "\n"
        + "\n".join(dimensions)
        + "\n\nAdamW, linear warm-up and cosine decay, gradient norm clipped at 1. A step takes "
        "`clips` recordings with `texts` captions each, which share one pass over the audio. "
        "`listening weight` is the weight of an auxiliary classification of what is audible; its "
        f"heads are dropped after training. Seed {facts.seed}.\n\n" + "\n".join(schedules) + "\n"
    )


def _score_notes() -> str:
    return (
        "Greedy decoding of the stored float16 weights in float32. Emotion accuracy is read off "
        "the caption by the grammar's lexicon. CIDEr takes its document frequencies from the "
        "split's own references, Chinese in jieba words, English in lower-cased words. `rate_t` "
        "is the share of blocks of three tokens in which some token's entropy reaches t nats "
        "along the model's own greedy caption; mean entropy is in nats a token.\n"
    )


def _score_table(facts: Facts) -> str:
    rows = []
    for model in facts.models:
        for scores in model.scores:
            row = as_row(scores)
            rows.append([model.name, *("n/a" if v is None else str(v) for v in row.values())])
    header = ["model", *as_row(facts.models[0].scores[0])]
    return _table(header, rows)


def _examples(facts: Facts) -> str:
    return "".join(
        f"- {model.name}, {scores.language}, {scores.prompt_type}: {scores.examples[0]}\n"
        for model in facts.models
        for scores in model.scores
        if scores.split == "dev"
    )


def _hashes(facts: Facts) -> str:
    rows = []
    for model in facts.models:
        for path in sorted(model.folder.iterdir()):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            rows.append([f"{model.name}/{path.name}", f"`{digest}`"])
    return _table(["file", "sha256"], rows)


def _times(facts: Facts) -> str:
    rows = [[part, f"{seconds / 60:.1f}"] for part, seconds in facts.seconds.items()]
    rows.append(["all", f"{sum(facts.seconds.values()) / 60:.1f}"])
    packages = ", ".join(
        f"{name} {version(name)}"
        for name in ("torch", "transformers", "tokenizers", "espeakng-loader", "soxr", "numpy")
    )
    return (
        _table(["part", "minutes"], rows)
        + f"\n{facts.threads} threads, {platform.machine()}, Python {platform.python_version()}; "
        f"{packages}. Other work on the machine is included in these times.\n"
    )
