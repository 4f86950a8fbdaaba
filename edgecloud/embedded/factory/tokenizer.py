"""The pair's shared tokenizer: a small byte-level BPE with the family's special tokens."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import jieba
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from edgecloud.embedded.factory import grammar, sentences
from edgecloud.embedded.factory.grammar import Attributes
from edgecloud.models.prompts import LANGUAGES, PROMPT_TYPES, SYSTEM_PROMPT, Language, instruction

END_OF_TEXT: Final = "<|endoftext|>"
END_OF_TURN: Final = "<|im_end|>"
AUDIO: Final = "<|AUDIO|>"
AUDIO_START: Final = "<|audio_bos|>"
AUDIO_END: Final = "<|audio_eos|>"
VISION_START: Final = "<|vision_bos|>"
VISION_END: Final = "<|vision_eos|>"
IMAGE: Final = "<|IMAGE|>"
VIDEO: Final = "<|VIDEO|>"
SPECIAL_TOKENS: Final = (
    END_OF_TEXT,
    "<|im_start|>",
    END_OF_TURN,
    AUDIO,
    AUDIO_START,
    AUDIO_END,
    VISION_START,
    VISION_END,
    IMAGE,
    VIDEO,
)
VOCABULARY_SIZE: Final = 1408

# The family's own split into words, so that its tokenizer class rebuilds the same pipeline.
_WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE: Final = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['content'] is string %}
{{- message['content'] }}
{%- else %}
{%- for part in message['content'] %}
{%- if part['type'] == 'audio' %}
{{- '<|audio_bos|><|AUDIO|><|audio_eos|>' }}
{%- elif part['type'] == 'text' %}
{{- part['text'] }}
{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def _captions(rng: random.Random, count: int) -> Iterator[tuple[Language, str]]:
    for _ in range(count):
        attributes = Attributes(
            voice=rng.choice(grammar.VOICES),
            pitch=rng.choice(grammar.PITCHES),
            rate=rng.choice(grammar.RATES),
            loudness=rng.choice(grammar.LOUDNESSES),
            emotion=rng.choice(grammar.EMOTIONS),
        )
        for language in LANGUAGES:
            for prompt_type in PROMPT_TYPES:
                yield language, grammar.caption(attributes, language, prompt_type, rng)


def _training_texts(seed: int) -> Iterator[str]:
    """Chinese as single words, so that no token spans two of them; English as sentences."""
    rng = random.Random(f"tokenizer {seed}")
    texts = list(_captions(rng, 400))
    for language in LANGUAGES:
        prompts = [
            instruction(language, prompt_type, transcription=transcription)
            for prompt_type in PROMPT_TYPES
            for transcription in (None, "-")
        ]
        texts += [(language, prompt) for prompt in prompts for _ in range(40)]
        spoken = [sentences.draw_sentence(language, "train", rng) for _ in range(600)]
        texts += [(language, sentence) for sentence in spoken]
    for words in grammar.EMOTION_WORDS.values():
        plain = [word for group in words.values() for word in group]
        texts += [("english", f"{lead}{word}") for word in plain for lead in ("", " ")] * 60
    texts += [("english", SYSTEM_PROMPT), ("english", "system\nuser\nassistant\n")] * 40
    for language, text in texts:
        if language == "chinese":
            yield from jieba.cut(text)
        else:
            yield text


def train_tokenizer(
    *, seed: int, size: int = VOCABULARY_SIZE, special: Sequence[str] = SPECIAL_TOKENS
) -> Tokenizer:
    """Byte-level BPE of `size` tokens, `special` ones included; every text can be encoded."""
    jieba.setLogLevel("ERROR")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_texts(seed), trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    return tokenizer


def save_tokenizer(
    tokenizer: Tokenizer,
    folder: Path,
    *,
    special: Sequence[str] = SPECIAL_TOKENS,
    template: str = CHAT_TEMPLATE,
) -> None:
    """Write tokenizer.json, tokenizer_config.json and the chat template, as published folders do."""
    named = {"image_token": IMAGE, "video_token": VIDEO}
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": END_OF_TURN,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "model_max_length": 32768,
        "additional_special_tokens": list(special[1:]),
        "audio_token": AUDIO,
        "audio_bos_token": AUDIO_START,
        "audio_eos_token": AUDIO_END,
        **{name: token for name, token in named.items() if token in special},
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps(settings, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
