"""Names of the scores, and what each is: its range, tokeniser, library and version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Final

from edgecloud.contracts import Language
from edgecloud.quality.emotion import EMOTION_METRICS, LEXICON_VERSION
from edgecloud.quality.tokenize import DESCRIPTIONS, LANGUAGE_TOKENIZERS

__all__ = ["CODES", "METEOR", "NGRAM_METRICS", "describe", "score_names"]

NGRAM_METRICS: Final = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")
METEOR: Final = "en.ptb.meteor"
CODES: Final[Mapping[Language, str]] = MappingProxyType({"chinese": "zh", "english": "en"})
_RANGES: Final = {
    "cider": "0..10",
    "chrf": "0..100",
    "sacrebleu": "0..100",
    "caption_length": "tokens",
    "reference_length": "tokens",
}
_SACRE_TOKENIZERS: Final[Mapping[Language, str]] = {"chinese": "zh", "english": "13a"}


def score_names(language: Language, tokenizers: Sequence[str], *, extended: bool) -> list[str]:
    """The names of all scores of captions in ``language``, in the order in which they are shown."""
    ngrams = [f"{tokenizer}.{metric}" for tokenizer in tokenizers for metric in NGRAM_METRICS]
    more = [f"{CODES[language]}.{name}" for name in ("chrf", "sacrebleu")] if extended else []
    more += [METEOR] if extended and language == "english" else []
    return [
        *ngrams,
        *more,
        "bertscore_precision",
        "bertscore_recall",
        "bertscore_f1",
        *EMOTION_METRICS,
        "caption_length",
        "reference_length",
    ]


def describe(name: str, language: Language) -> dict[str, str]:
    """Range, tokeniser, library and version of the score called ``name``."""
    tokenizer, _, metric = name.rpartition(".")
    if metric.endswith("_length"):
        tokenizer = LANGUAGE_TOKENIZERS[language][0]
    info = {"range": _RANGES.get(metric, "0..1")}
    if metric == "chrf":
        info["tokeniser"] = "chrF: characters, order 6"
        info["library"] = f"sacrebleu {_version('sacrebleu')}"
    elif metric == "sacrebleu":
        its = _SACRE_TOKENIZERS[language]
        info["tokeniser"] = f"sacrebleu's {its}"
        info["library"] = f"sacrebleu {_version('sacrebleu')}"
    elif tokenizer:
        info["tokeniser"] = f"{tokenizer}: {DESCRIPTIONS[tokenizer]}"
        libraries = [] if metric.endswith("_length") else ["pycocoevalcap"]
        libraries += ["jieba"] if tokenizer.startswith("zh.jieba") else []
        info["library"] = ", ".join(f"{package} {_version(package)}" for package in libraries)
    elif metric.startswith("bertscore"):
        info["library"] = f"bert-score {_version('bert-score')}"
        info["tokeniser"] = "the model's own"
    elif metric in EMOTION_METRICS:
        info["library"] = f"edgecloud.quality.emotion, lexicon {LEXICON_VERSION}"
    return info


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
