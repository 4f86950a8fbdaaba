"""Pairs of captions and references from any system, scored: what ``edgecloud score`` does.

The file's shape: ``{"pairs": [{"id", "reference", "hypothesis", "language"}, …]}``, where
``reference`` is a text or a list of texts and ``language`` is ``zh`` or ``en`` (or its full name). A pair may
have ``attributes``, what is true of the voice, as a manifest's entries may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from edgecloud.contracts import Language
from edgecloud.errors import DataError
from edgecloud.quality.attributes import is_truth
from edgecloud.quality.defects import DEFECTS, defects_of
from edgecloud.quality.metric import CODES
from edgecloud.quality.metrics.bertscore import BertScoreSettings
from edgecloud.quality.score import MAX_CHARACTERS, Scores, score

__all__ = ["PAIR_TOKENIZERS", "SCHEMA", "Pair", "read_pairs", "score_pairs"]

SCHEMA: Final = "edgecloud-scores/1"
PAIR_TOKENIZERS: Final[Mapping[Language, tuple[str, ...]]] = MappingProxyType(
    {"chinese": ("zh.jieba", "zh.jieba_punct", "zh.char"), "english": ("en.ptb", "en.simple")}
)
_LANGUAGES: Final[Mapping[str, Language]] = MappingProxyType(
    {"zh": "chinese", "chinese": "chinese", "en": "english", "english": "english"}
)
_SHOWN_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """One caption and its references, in ``language``; ``attributes`` are the truth about it, where it is known."""

    id: str
    hypothesis: str
    references: tuple[str, ...]
    language: Language
    attributes: Mapping[str, str] = field(default_factory=dict)


def read_pairs(content: Any) -> list[Pair]:
    """The pairs in a file's JSON content.

    Raises:
        DataError: lists everything that is wrong, by entry and field.
    """
    rows = content.get("pairs") if isinstance(content, Mapping) else None
    if not isinstance(rows, list) or not rows:
        raise DataError('it must hold {"pairs": [{"id", "reference", "hypothesis", "language"}]}')
    pairs: list[Pair] = []
    problems: list[str] = []
    seen: set[str] = set()
    for position, row in enumerate(rows):
        found, wrong = _pair(row)
        if found is not None and found.id in seen:
            wrong = [f"id {found.id!r} occurs twice"]
        if wrong:
            problems += [f"pairs[{position}]: {problem}" for problem in wrong]
        elif found is not None:
            seen.add(found.id)
            pairs.append(found)
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        shown = problems[:_SHOWN_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
        raise DataError("\n  ".join([f"{len(problems)} problems:", *shown]))
    return pairs


def _pair(row: Any) -> tuple[Pair | None, list[str]]:
    if not isinstance(row, Mapping):
        return None, ["is not an object"]
    wrong: list[str] = []
    name, text, language = (row.get(key) for key in ("id", "hypothesis", "language"))
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if not isinstance(name, str) or not name:
        wrong.append("id is not a text")
    if not isinstance(text, str):
        wrong.append('hypothesis is not a text (an empty caption is "")')
    given = row.get("reference", row.get("references"))
    references = [given] if isinstance(given, str) else given
    if (
        not isinstance(references, list)
        or not references
        or not all(isinstance(reference, str) for reference in references)
    ):
        wrong.append("reference is not a text or a list of texts")
    if not isinstance(language, str) or language not in _LANGUAGES:
        wrong.append(f"language {language!r} is not one of {', '.join(_LANGUAGES)}")
    attributes = row.get("attributes") or {}
    if not is_truth(attributes):
        wrong.append("attributes is not an object of texts")
    if wrong:
        return None, wrong
    known = _LANGUAGES[str(language)]
    return Pair(str(name), str(text), tuple(references or ()), known, attributes), []


def score_pairs(
    pairs: Sequence[Pair],
    *,
    bertscore: Mapping[Language, BertScoreSettings | None] | None = None,
    step: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Corpus and per-pair values, as JSON values.

    ``corpus`` and ``per_pair`` go by names such as ``zh.jieba.bleu_4``, ``en.ptb.cider``,
    ``en.bertscore_f1``. CIDEr's document frequencies come from the pairs of the same language.
    ``step`` is told what is worked at.
    """
    blocks: dict[str, dict[str, Any]] = {
        name: {} for name in ("corpus", "notes", "info", "defects")
    }
    rows: dict[str, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    for language, code in CODES.items():
        some = [pair for pair in pairs if pair.language == language]
        if not some:
            continue
        counts[code] = len(some)
        tell = partial(_tell, step, f"{len(some)} in {language}")
        scores = _score(language, some, (bertscore or {}).get(language), tell)
        blocks["corpus"].update(_named(code, scores.corpus))
        blocks["notes"].update(_named(code, scores.notes))
        blocks["info"].update(_named(code, scores.info))
        found = {
            pair.id: defects_of(pair.hypothesis[:MAX_CHARACTERS], language=language)
            for pair in some
        }
        blocks["defects"][code] = {
            name: sum(flags[name] for flags in found.values())
            for name in DEFECTS
            if name != "truncated"  # the file does not say why a text ended
        }
        for pair, values, why in zip(some, scores.per_sample, scores.sample_notes, strict=True):
            rows[pair.id] = {
                **_named(code, values),
                "defects": [name for name, has in found[pair.id].items() if has],
                "note": why,
            }
    per_pair = {pair.id: rows[pair.id] for pair in pairs}
    return {"schema": SCHEMA, "pairs": counts, **blocks, "per_pair": per_pair}


def _tell(step: Callable[[str], None], of: str, what: str) -> None:
    step(f"{of}: {what}")


def _score(
    language: Language,
    pairs: Sequence[Pair],
    model: BertScoreSettings | None,
    step: Callable[[str], None],
) -> Scores:
    return score(
        language=language,
        ids=[pair.id for pair in pairs],
        hypotheses=[pair.hypothesis for pair in pairs],
        references=[pair.references for pair in pairs],
        reference_languages=[language] * len(pairs),
        corpus_references={pair.id: pair.references for pair in pairs},
        attributes=[pair.attributes for pair in pairs],
        bertscore=model,
        tokenizers=PAIR_TOKENIZERS[language],
        extended=True,
        step=step,
    )


def _named(code: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the language in every name."""
    prefix = f"{code}."
    return {name if name.startswith(prefix) else prefix + name: v for name, v in values.items()}
