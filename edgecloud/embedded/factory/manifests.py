"""A split of the synthetic corpus as recordings and manifests, as any dataset is read."""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path
from typing import Final

import soundfile as sf

from edgecloud.embedded import corpus as embedded
from edgecloud.embedded.factory import grammar
from edgecloud.embedded.factory.corpus import Clip, Corpus, make_corpus, shard_audio
from edgecloud.embedded.factory.sentences import Split
from edgecloud.embedded.pair import EDGE_CHECKPOINT
from edgecloud.models.features import SAMPLE_RATE_HZ
from edgecloud.models.prompts import LANGUAGES, PROMPT_TYPES, Language, PromptType

__all__ = ["SEED", "synthesize_split", "write_split"]

SEED: Final = 1
"""The seed of the embedded pair and corpus."""


def synthesize_split(split: Split, dest: Path, *, clips: int, workers: int = 1) -> None:
    """Speak the first ``clips`` recordings of a split and write them with :func:`write_split`.

    ``dev`` shares no sentence with ``train`` or ``test``: policies and gates are tuned on it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        shards = Path(scratch)
        corpus = make_corpus(
            split, clips, seed=SEED, folder=shards, checkpoint=EDGE_CHECKPOINT, workers=workers
        )
        write_split(corpus, split, dest, shards, seed=SEED)


def write_split(corpus: Corpus, split: Split, dest: Path, shards: Path, *, seed: int) -> None:
    """Write the clips as FLAC into ``dest``, a manifest for each language and prompt type, and the
    attributes. The audio comes from ``shards``, where the corpus was made."""
    audio = dest / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    waveforms = shard_audio(shards, split, len(corpus.clips), seed)
    for clip, waveform in zip(corpus.clips, waveforms, strict=True):
        path = audio / f"{clip.clip_id}.flac"
        sf.write(path, waveform, SAMPLE_RATE_HZ, subtype="PCM_16", compression_level=1.0)
    for language, prompt_type in itertools.product(LANGUAGES, PROMPT_TYPES):
        entries = [
            _entry(clip, index, language, prompt_type) for index, clip in enumerate(corpus.clips)
        ]
        _write_json(dest / embedded.manifest_name(language, prompt_type), entries)
    attributes = {
        clip.clip_id: {
            "speech": clip.speech,
            "speaker": clip.speaker,
            **_attributes(clip, "default"),
        }
        for clip in corpus.clips
    }
    _write_json(dest / "attributes.json", attributes)


def _entry(
    clip: Clip, index: int, language: Language, prompt_type: PromptType
) -> dict[str, object]:
    captions = {
        name: grammar.references(clip.attributes, name, clip.clip_id, prompt_type)
        for name in LANGUAGES
    }
    return {
        "file_id": clip.clip_id,
        "dataset": "embedded",
        "audio_path": f"audio/{clip.clip_id}.flac",
        "caption": captions[language],
        "transcription": clip.sentence,
        "chinese_caption": captions["chinese"],
        "english_caption": captions["english"],
        "chinese_transcription": clip.sentence if clip.speech == "chinese" else "",
        "english_transcription": clip.sentence if clip.speech == "english" else "",
        "index": index,
        "attributes": _attributes(clip, prompt_type),
    }


def _attributes(clip: Clip, prompt_type: PromptType) -> dict[str, str]:
    """What is true of a clip, as far as captions of a type say it."""
    return {name: getattr(clip.attributes, name) for name in grammar.SAID[prompt_type]}


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
