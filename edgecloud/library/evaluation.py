"""Scores of captions that anything made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, get_args

from edgecloud.contracts import Language
from edgecloud.errors import MetricError
from edgecloud.quality import METEOR_FROM, Scores, bertscore_settings, score
from edgecloud.quality.attributes import is_truth
from edgecloud.quality.describe import plain_names
from edgecloud.quality.language import detect_language
from edgecloud.quality.mixed import by_language
from edgecloud.registry import load_plugins

__all__ = ["Evaluation", "evaluate"]

References = Sequence[str | Sequence[str]]
Truths = Sequence[Mapping[str, str]] | Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores by name, as in a result: ``cider`` and, with its tokeniser, ``en.simple.cider``. A value is ``None`` where
    it is not defined.

    ``corpus`` is over the captions that could be scored, ``per_sample`` has a row for each that was given; ``notes``
    say why a value is missing or what a reader should know of it, ``sample_notes`` why a caption was left out. ``info``
    has each score's range, tokeniser, library and version; ``languages`` that of each caption.
    """

    corpus: Mapping[str, float | None]
    per_sample: tuple[Mapping[str, float | None], ...] = field(repr=False)
    notes: Mapping[str, str] = field(repr=False)
    sample_notes: tuple[str | None, ...] = field(repr=False)
    info: Mapping[str, Mapping[str, str]] = field(repr=False)
    languages: tuple[Language, ...] = field(repr=False)
    scored: int


def evaluate(
    captions: Sequence[str] | Mapping[str, str],
    references: References | Mapping[str, str | Sequence[str]],
    *,
    language: Language | None = None,
    corpus_references: References = (),
    attributes: Truths | None = None,
    bertscore_model: str | None = None,
    bertscore_layers: int | None = None,
    meteor_from: int = METEOR_FROM,
) -> Evaluation:
    """Score ``captions`` against ``references``: one text each, or several. Both may be mappings, by the same ids.

    ``language`` is found out from each caption's references where it is not given; captions of two languages are scored
    each in its own. CIDEr's document frequencies come from the references, and from ``corpus_references`` where these
    are a part of a larger corpus. ``attributes`` are the truth about each caption's voice, in the same order or by the
    same ids (``{"voice": "female", "rate": "fast"}``), for the scores that go by it. BERTScore needs a model (a folder,
    or a hub's id when online), but for English where the extra ``bertscore-minilm`` is installed; METEOR's program
    runs from ``meteor_from`` captions on. Metrics of other packages, and of one's own (:func:`edgecloud.metric`), are
    among the scores.

    Raises:
        MetricError: lengths or ids differ, something is no text, or a language cannot be told.
    """
    load_plugins()
    ids, texts, given = _paired(captions, references)
    if bertscore_layers is not None and bertscore_layers < 1:
        raise MetricError(f"bertscore_layers {bertscore_layers}: give a layer from 1 on")
    truths = _truths(attributes, ids)
    known = _languages(given, language)
    more = [_several(some, f"corpus_references[{n}]") for n, some in enumerate(corpus_references)]
    ours = dict(zip(ids, given, strict=True)) | {f"corpus:{n}": some for n, some in enumerate(more)}
    its = [*known, *_languages(more, language)] if more else known
    by_id = dict(zip(ours, its, strict=True))

    def scored(one: Language, places: list[int]) -> Scores:
        return score(
            language=one,
            ids=[ids[place] for place in places],
            hypotheses=[texts[place] for place in places],
            references=[given[place] for place in places],
            reference_languages=[one] * len(places),
            corpus_references={name: some for name, some in ours.items() if by_id[name] == one},
            attributes=[truths[place] for place in places],
            bertscore=bertscore_settings(one, bertscore_model, bertscore_layers),
            extended=True,
            meteor_from=meteor_from,
        )

    found = by_language(known, scored) or scored(language or "english", [])
    short = plain_names(known[0]) if len({*known}) == 1 else {}
    return Evaluation(
        corpus=_both(found.corpus, short),
        per_sample=tuple(_both(row, short) for row in found.per_sample),
        notes=_both(found.notes, short),
        sample_notes=tuple(found.sample_notes),
        info=_both(found.info, short),
        languages=tuple(known),
        scored=found.scored,
    )


def _both(values: Mapping[str, Any], short: Mapping[str, str]) -> dict[str, Any]:
    """The values, those that have a plain name under that first."""
    return {**{name: values[own] for name, own in short.items() if own in values}, **values}


def _paired(
    captions: Sequence[str] | Mapping[str, str],
    references: References | Mapping[str, str | Sequence[str]],
) -> tuple[list[str], list[str], list[list[str]]]:
    """Ids, captions and each one's references, in the order of the captions.

    Raises:
        MetricError: they do not go together, or something is no text.
    """
    if isinstance(captions, Mapping) and isinstance(references, Mapping):
        if missing := captions.keys() ^ references.keys():
            raise MetricError(f"captions and references have other ids: {min(map(repr, missing))}")
        ids = [str(name) for name in captions]
        texts, given = list(captions.values()), [references[name] for name in captions]
    elif any(isinstance(some, str | Mapping) for some in (captions, references)):
        raise MetricError(
            "give two lists, captions and references, or two mappings by the same ids"
        )
    else:
        texts, given = list(captions), list(cast("References", references))
        if len(texts) != len(given):
            raise MetricError(
                f"{len(texts)} captions and {len(given)} references: give one for each"
            )
        ids = [str(place) for place in range(len(texts))]
    for name, text in zip(ids, texts, strict=True):
        if not isinstance(text, str):
            raise MetricError(f"caption {name} is {text!r:.60}, no text")
    return ids, texts, [_several(some, name) for name, some in zip(ids, given, strict=True)]


def _truths(attributes: Truths | None, ids: Sequence[str]) -> list[Mapping[str, str]]:
    """The truth about each caption, in the order of ``ids``; nothing where it is not given.

    Raises:
        MetricError: there are more or fewer than captions, or something is no text.
    """
    if isinstance(attributes, Mapping):
        if unknown := {str(name) for name in attributes} - {*ids}:
            raise MetricError(f"attributes of {min(unknown)!r}, which is no caption's id")
        by_id = {str(name): truth for name, truth in attributes.items()}
        found = [by_id.get(name, {}) for name in ids]
    else:
        found = [{} for _ in ids] if attributes is None else list(attributes)
    if len(found) != len(ids):
        raise MetricError(f"{len(ids)} captions and attributes of {len(found)}: give them of each")
    for name, truth in zip(ids, found, strict=True):
        if not is_truth(truth):
            raise MetricError(f"attributes of {name} are {truth!r:.60}, no mapping to texts")
    return found


def _several(some: Any, name: str) -> list[str]:
    found = [some] if isinstance(some, str) else some
    if not isinstance(found, Sequence) or not all(isinstance(text, str) for text in found):
        raise MetricError(f"references of {name} are {some!r:.60}; give a text or a list of texts")
    return list(found)


def _languages(references: Sequence[Sequence[str]], given: str | None) -> list[Language]:
    """The language of each caption's references: as given, or as most of its words are; of one that has no words, as
    most others are.

    Raises:
        MetricError: there is no such language, or none can be told.
    """
    if given is not None:
        if given not in get_args(Language):
            raise MetricError(f"language {given!r} is not one of {', '.join(get_args(Language))}")
        return [cast("Language", given)] * len(references)
    found = [detect_language(" ".join(some)) for some in references]
    usual = Counter(language for language in found if language is not None).most_common(1)
    if references and not usual:
        raise MetricError("no reference has a word that tells its language; give language=")
    return [language or usual[0][0] for language in found]
