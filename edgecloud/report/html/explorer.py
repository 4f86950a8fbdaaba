"""Data of the sample explorer, as compact JSON for the page's script.

``{"arms": [...], "groups": [{"language", "prompt", "arms", "samples"}]}``; a sample has ``id``, ``refs``,
``audio`` (a number into the recordings), and for each series of its group ``null`` or an entry::

    s  status            p  pieces of text, one a token      q  CIDEr
    d  degraded          o  origins, one letter a token      m  emotion right (1, 0, null)
    e  error             h  entropies x 100 (-1: none)       t  total time (s)
    w  whole caption, where its tokens have no texts         x  corrections: {token: [proposed, rank]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgecloud.report.comparison import Group
from edgecloud.report.tokens import Decode, Doubt, decoder, pieces
from edgecloud.results.comparable import Side
from edgecloud.results.records import Failure
from edgecloud.results.result import SampleResult

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["LETTERS", "group_data", "script_json"]

LETTERS = {"edge": "e", "verified": "v", "corrected": "c", "bonus": "b", "cloud": "k"}

Json = dict[str, Any]


def group_data(
    group: Group,
    *,
    doubts: Mapping[str, Mapping[str, Sequence[Doubt]]],
    tokenizers: Mapping[str, Tokenizer | None],
    audio: Mapping[str, int],
) -> tuple[Json, int]:
    """A group's part of the explorer's data, and how many captions have no texts of tokens.

    ``doubts`` holds what journals know of tokens, by series and ``file_id``, ``tokenizers`` one for each series,
    ``audio`` the number of each sample's recording.
    """
    samples: dict[str, Json] = {}
    whole = 0
    for position, (arm, result) in enumerate(group.arms.items()):
        tokenizer = tokenizers.get(arm)
        decode = decoder(tokenizer) if tokenizer is not None else None
        for found in result.samples:
            file_id = found.file_id
            sample = samples.setdefault(file_id, _sample(found, len(group.arms), audio))
            known = doubts.get(arm, {}).get(file_id, ())
            its = _arm(found, known, tokenizer, decode)
            sample["a"][position] = its
            whole += "w" in its
    data = {
        "language": group.language,
        "prompt": group.prompt_type,
        "arms": list(group.arms),
        "compared": _compared(group),
        "samples": list(samples.values()),
    }
    return data, whole


def _compared(group: Group) -> Json:
    """For edge and cloud the reference of each series, by its number among the series; -1: none."""
    number_of = {arm: number for number, arm in enumerate(group.arms)}
    sides: tuple[Side, ...] = ("edge", "cloud")
    return {
        side: [number_of.get(group.reference(arm, side).name or "", -1) for arm in group.arms]
        for side in sides
    }


def script_json(value: Any) -> str:
    """JSON that can stand in a ``<script>`` element: nothing in it ends the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for mark, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(mark, code)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _sample(found: SampleResult, arms: int, audio: Mapping[str, int]) -> Json:
    return {
        "id": found.file_id,
        "refs": found.reference_captions,
        "rl": "en" if found.reference_language == "english" else "zh",
        "audio": audio.get(found.file_id),
        "dur": found.audio_s,
        "a": [None] * arms,
    }


def _arm(
    sample: SampleResult,
    known: Sequence[Doubt],
    tokenizer: Tokenizer | None,
    decode: Decode | None,
) -> Json:
    if not sample.ok:
        error = sample.error or Failure("", "")
        return {"s": "failed", "e": f"{error.type}: {error.message}"}
    found: Json = {
        "o": "".join(LETTERS[origin] for origin in sample.origins),
        "q": _rounded(sample.value("cider")),
        "m": sample.value("emotion_accuracy"),
        "t": _rounded(sample.value("total_time")),
    }
    if sample.degraded is not None:
        found["d"] = 1
    texts = pieces(decode, sample.tokens, sample.generated_text)
    if texts is None:
        found["w"] = sample.generated_text or ""
        return found
    found["p"] = texts
    return found | _uncertainty(known, len(texts), tokenizer)


def _uncertainty(known: Sequence[Doubt], count: int, tokenizer: Tokenizer | None) -> Json:
    if len(known) != count or not any(doubt.entropy is not None for doubt in known):
        return {}
    found: Json = {
        "h": [-1 if d.entropy is None else round(max(d.entropy, 0.0) * 100) for d in known]
    }
    proposed = {
        str(position): [
            tokenizer.decode([doubt.proposed], skip_special_tokens=False) if tokenizer else "",
            doubt.rank,
        ]
        for position, doubt in enumerate(known)
        if doubt.proposed is not None
    }
    return found | ({"x": proposed} if proposed else {})


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
