"""The synthetic corpus: what each clip says and how, its audio and its features.

Clips are drawn from a seed, synthesised shard by shard in processes of their own (the synthesiser
has global state, so only a fresh process repeats itself), and kept as shards that a later run with
the same folder finds again.
"""

from __future__ import annotations

import json
import multiprocessing
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgecloud.embedded.factory.grammar import (
    EMOTIONS,
    Attributes,
    Emotion,
    Loudness,
    Pitch,
    Rate,
    Voice,
)
from edgecloud.embedded.factory.progress import Progress
from edgecloud.embedded.factory.sentences import Split, draw_sentence
from edgecloud.embedded.factory.speech import Prosody, synthesize
from edgecloud.models.features import LogMel
from edgecloud.models.prompts import LANGUAGES, Language

SHARD_CLIPS: Final = 200

_TRAINING_VOICES: Final[Mapping[Voice, tuple[str, ...]]] = MappingProxyType(
    {
        "female": ("f2", "f3", "f5", "belinda", "steph", "Alicia"),
        "male": ("Alex", "m3", "Michael", "max", "Andy", "adam"),
    }
)
_UNSEEN_VOICES: Final[Mapping[Voice, tuple[str, ...]]] = MappingProxyType(
    {"female": ("f1", "Annie", "shelby"), "male": ("m7", "Gene", "Lee")}
)
_PITCH: Final[Mapping[Pitch, int]] = {"low": 18, "mid": 48, "high": 82}
_RANGE: Final[Mapping[str, int]] = {"narrow": 10, "mid": 50, "wide": 92}
_RATE_WPM: Final[Mapping[Rate, int]] = {"slow": 115, "mid": 165, "fast": 240}
_LEVEL_DB: Final[Mapping[Loudness, float]] = {"soft": -37.0, "mid": -27.0, "loud": -17.0}


@dataclass(frozen=True, slots=True)
class _Profile:
    """The effect of an emotion on the voice; where several levels are listed, one is drawn."""

    pitch: tuple[Pitch, ...]
    contour: str
    rate: tuple[Rate, ...]
    loudness: tuple[Loudness, ...]
    pauses: bool = False
    mark: str = "."


_PROFILES: Final[Mapping[Emotion, _Profile]] = MappingProxyType(
    {
        "neutral": _Profile(("low", "mid"), "narrow", ("mid",), ("mid",)),
        "happy": _Profile(("high",), "wide", ("fast",), ("mid", "loud"), mark="!"),
        "angry": _Profile(("low", "mid"), "wide", ("fast",), ("loud",), mark="!"),
        "sad": _Profile(("low",), "narrow", ("slow",), ("soft",), pauses=True),
        "fearful": _Profile(("mid", "high"), "narrow", ("mid", "fast"), ("soft",)),
        "surprised": _Profile(("high",), "wide", ("mid",), ("mid", "loud"), mark="?"),
        "disgusted": _Profile(("low", "mid"), "mid", ("slow",), ("mid", "loud"), pauses=True),
        "gentle": _Profile(("mid", "high"), "mid", ("slow",), ("soft",)),
    }
)


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance: the words, the voice, how it is said and what a listener can hear in it."""

    clip_id: str
    speech: Language
    speaker: str
    sentence: str
    mark: str
    prosody: Prosody
    attributes: Attributes


@dataclass(frozen=True)
class Corpus:
    """Clips of one split with their features.

    `shards` hold features (frames, bands), float16, mapped from the disk; `places` says which shard
    and which of its frames belong to a clip.
    """

    clips: tuple[Clip, ...]
    shards: tuple[npt.NDArray[np.float16], ...]
    places: tuple[tuple[int, int, int], ...]

    def features(self, index: int) -> npt.NDArray[np.float16]:
        """Features (T, bands), float16, of one clip."""
        shard, start, stop = self.places[index]
        return self.shards[shard][start:stop]

    def length(self, index: int) -> int:
        """Mel frames of one clip."""
        _, start, stop = self.places[index]
        return stop - start


def draw_clips(split: Split, count: int, *, seed: int) -> list[Clip]:
    """`count` clips, balanced over speech languages, voices and emotions."""
    voices = _UNSEEN_VOICES if split == "unseen" else _TRAINING_VOICES
    return [_draw_clip(split, index, voices, seed) for index in range(count)]


def _draw_clip(split: Split, index: int, voices: Mapping[Voice, Sequence[str]], seed: int) -> Clip:
    rng = random.Random(f"clip {seed} {split} {index}")
    speech = LANGUAGES[index % 2]
    emotion = EMOTIONS[index // 2 % len(EMOTIONS)]
    voice: Voice = ("male", "female")[index // (2 * len(EMOTIONS)) % 2]
    profile = _PROFILES[emotion]
    pitch, rate = rng.choice(profile.pitch), rng.choice(profile.rate)
    loudness = rng.choice(profile.loudness)
    prosody = Prosody(
        pitch=_PITCH[pitch] + rng.randint(-6, 6),
        pitch_range=max(0, min(99, _RANGE[profile.contour] + rng.randint(-8, 8))),
        rate_wpm=round(_RATE_WPM[rate] * rng.uniform(0.93, 1.07)),
        word_gap=rng.randint(9, 13) if profile.pauses else 0,
        level_db=_LEVEL_DB[loudness] + rng.uniform(-1.5, 1.5),
    )
    return Clip(
        clip_id=f"{split}-{index:05d}",
        speech=speech,
        speaker=rng.choice(voices[voice]),
        sentence=draw_sentence(speech, split, rng),
        mark=profile.mark,
        prosody=prosody,
        attributes=Attributes(voice, pitch, rate, loudness, emotion),
    )


def speak(clip: Clip) -> npt.NDArray[np.int16]:
    """The clip's audio (n,), int16, 16 kHz."""
    prosody = clip.prosody
    if clip.speech == "chinese" and prosody.word_gap:
        prosody = Prosody(**{**asdict(prosody), "word_gap": prosody.word_gap // 2})
    return synthesize(
        clip.sentence + clip.mark, language=clip.speech, voice=clip.speaker, prosody=prosody
    )


def _make_shard(job: tuple[Sequence[Clip], Path, Path, bool]) -> Path:
    """Synthesise the clips and save their audio, features and lengths; runs in its own process."""
    clips, path, checkpoint, pads = job
    log_mel = LogMel(checkpoint, pads=pads)
    waveforms = [speak(clip) for clip in clips]
    features = [log_mel((w / 32768).astype(np.float32)).T for w in waveforms]
    np.save(path.with_suffix(".features.npy"), np.concatenate(features))
    np.save(path.with_suffix(".audio.npy"), np.concatenate(waveforms))
    index = {
        "frames": [len(f) for f in features],
        "samples": [len(w) for w in waveforms],
        "clips": [clip.clip_id for clip in clips],
    }
    # Written last: a shard without its index is made again.
    path.with_suffix(".json").write_text(json.dumps(index))
    return path


def make_corpus(
    split: Split,
    count: int,
    *,
    seed: int,
    folder: Path,
    checkpoint: Path,
    workers: int,
    pads: bool = False,
) -> Corpus:
    """Synthesise a split into `folder`, or find it there.

    Args:
        checkpoint: a folder with preprocessor_config.json.
        pads: features are those of a family that pads recordings to 30 s.
        workers: processes to synthesise with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clips = draw_clips(split, count, seed=seed)
    parts = [clips[start : start + SHARD_CLIPS] for start in range(0, count, SHARD_CLIPS)]
    paths = [folder / f"{split}-{seed}-{number:03d}-of-{count}" for number in range(len(parts))]
    jobs = [
        (part, path, checkpoint, pads)
        for part, path in zip(parts, paths, strict=True)
        if not path.with_suffix(".json").exists()
    ]
    if jobs:
        context = multiprocessing.get_context("spawn")
        progress = Progress(f"speech ({split})", len(jobs), unit="shards")
        with context.Pool(workers, maxtasksperchild=1) as pool:
            for done, _ in enumerate(pool.imap_unordered(_make_shard, jobs), start=1):
                progress.update(done)
        progress.close()
    return _open_corpus(clips, paths)


def _open_corpus(clips: Sequence[Clip], paths: Iterable[Path]) -> Corpus:
    shards: list[npt.NDArray[np.float16]] = []
    places: list[tuple[int, int, int]] = []
    for path in paths:
        index = json.loads(path.with_suffix(".json").read_text())
        start = 0
        for frames in index["frames"]:
            places.append((len(shards), start, start + frames))
            start += frames
        shards.append(np.load(path.with_suffix(".features.npy"), mmap_mode="r"))
    return Corpus(tuple(clips), tuple(shards), tuple(places))


def shard_audio(folder: Path, split: Split, count: int, seed: int) -> list[npt.NDArray[np.int16]]:
    """The waveforms of a split made by `make_corpus`, in order."""
    waveforms: list[npt.NDArray[np.int16]] = []
    for path in sorted(folder.glob(f"{split}-{seed}-*-of-{count}.json")):
        index: dict[str, Any] = json.loads(path.read_text())
        audio = np.load(path.with_suffix(".audio.npy"))
        waveforms += np.split(audio, np.cumsum(index["samples"])[:-1])
    return waveforms
