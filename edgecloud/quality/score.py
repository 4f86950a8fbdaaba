"""Every score of a run's captions at once: corpus and per-sample values, and why one is missing.

Names are ``<tokenizer>.<metric>`` (``zh.jieba.cider``) for the n-gram metrics and METEOR,
``<language>.<metric>`` (``en.chrf``) for chrF and sacreBLEU, else the metric's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from edgecloud.contracts import Language, Sample
from edgecloud.errors import MetricError
from edgecloud.quality.bertscore import BertScoreSettings
from edgecloud.quality.bertscore import bertscore as bert_scores
from edgecloud.quality.bleu import bleu
from edgecloud.quality.cider import cider
from edgecloud.quality.describe import CODES, METEOR, NGRAM_METRICS, describe, score_names
from edgecloud.quality.emotion import emotion_scores
from edgecloud.quality.fold import script_of
from edgecloud.quality.meteor import PTB, meteor_tokens, ptb_tokens
from edgecloud.quality.result import MetricResult, mean, undefined
from edgecloud.quality.rouge import rouge_l
from edgecloud.quality.sacre import sacre_scores
from edgecloud.quality.tokenize import LANGUAGE_TOKENIZERS, Tokens, segment

__all__ = ["MAX_CHARACTERS", "Scores", "corpus_references_of", "score"]

MAX_CHARACTERS: Final = 2000
"""Most characters of a text that are scored. ROUGE-L and METEOR take the square of a length: minutes for
15,000."""

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a run. ``None`` where a value is not defined.

    Attributes:
        corpus: value by name, over the samples that could be scored.
        per_sample: value by name for each sample handed in, in that order; the same names.
        notes: by name, why a value is ``None`` or what a reader should know of it; ``references``
            counts the samples that were left out, ``script`` those in another script than theirs,
            ``length`` the texts that were cut.
        sample_notes: for each sample, why it was left out, or ``None``.
        info: by name, the value's range, tokeniser, library and version.
        scored: samples that the corpus values are over.
    """

    corpus: dict[str, float | None]
    per_sample: list[dict[str, float | None]]
    notes: dict[str, str]
    sample_notes: list[str | None]
    info: dict[str, dict[str, str]]
    scored: int


def corpus_references_of(
    samples: Iterable[Sample], language: Language
) -> dict[str, tuple[str, ...]]:
    """References by ``file_id`` of the manifest's samples in ``language``, for :func:`score`."""
    return {
        sample.file_id: sample.references
        for sample in samples
        if sample.references and sample.reference_language == language
    }


def score(
    *,
    language: Language,
    ids: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    reference_languages: Sequence[Language],
    corpus_references: Mapping[str, Sequence[str]],
    bertscore: BertScoreSettings | None = None,
    tokenizers: Sequence[str] | None = None,
    extended: bool = False,
    meteor_from: int = 0,
    step: Step = lambda _: None,
) -> Scores:
    """Score captions generated in ``language``; failed samples are not handed in.

    ``corpus_references`` holds, by id, the references of the *full* manifest in ``language`` (see
    :func:`corpus_references_of`): CIDEr's document frequencies come from them. A sample without a
    reference, or with one in another language, has no scores and is left out of the corpus.
    ``tokenizers`` are those of the n-gram metrics: ``LANGUAGE_TOKENIZERS`` when not given; ``en.ptb``
    needs Java. ``extended`` adds chrF, sacreBLEU and, in English, METEOR, whose Java program takes
    seconds and 0.8 GB to start: it is left out below ``meteor_from`` captions. Of a longer text the first
    ``MAX_CHARACTERS`` are scored, which the note ``length`` says. ``step`` is told what is worked at.

    Raises:
        MetricError: lengths differ, ids repeat, or a scored sample is not in the corpus.
    """
    _check(ids, hypotheses, references, reference_languages)
    long = _long(hypotheses, references)
    hypotheses = [text[:MAX_CHARACTERS] for text in hypotheses]
    references = [[text[:MAX_CHARACTERS] for text in some] for some in references]
    corpus_references = {
        name: [text[:MAX_CHARACTERS] for text in some] for name, some in corpus_references.items()
    }
    kept, sample_notes = _usable(language, references, reference_languages)
    cuts = LANGUAGE_TOKENIZERS[language] if tokenizers is None else tuple(tokenizers)
    names = score_names(language, cuts, extended=extended)
    corpus: dict[str, float | None] = dict.fromkeys(names)
    per_sample: list[dict[str, float | None]] = [dict.fromkeys(names) for _ in ids]
    notes = {**_left_out(sample_notes), **long}
    info = {name: describe(name, language) for name in names}
    for hypothesis, row in zip(hypotheses, per_sample, strict=True):
        row["caption_length"] = float(
            len(_segment(hypothesis, LANGUAGE_TOKENIZERS[language][0]).words)
        )
    if not kept:
        reason = "no caption has a reference in the language generated" if ids else "no captions"
        notes.update(dict.fromkeys(names, reason))
        return Scores(corpus, per_sample, notes, sample_notes, info, 0)
    work = _Work(
        language,
        {ids[i]: hypotheses[i] for i in kept},
        [[text for text in references[i] if _tokenized(text, language)] for i in kept],
        corpus_references,
    )
    notes.update(_scripts([ids[i] for i in kept], work))
    # METEOR's program runs beside the other metrics.
    with ThreadPoolExecutor(1) as beside:
        later = beside.submit(work.meteor, meteor_from) if METEOR in names else None
        results = work.results(cuts, bertscore=bertscore, extended=extended, step=step)
        if later is not None:
            step("METEOR")
            results.append(("en.ptb.", later.result()))
    for prefix, result in results:
        corpus.update({prefix + name: value for name, value in result.corpus.items()})
        notes.update({prefix + name: note for name, note in result.notes.items()})
        for name in result.corpus:
            info[prefix + name].update(result.info)
        for i, values in zip(kept, result.per_sample, strict=True):
            per_sample[i].update({prefix + name: value for name, value in values.items()})
    return Scores(corpus, per_sample, notes, sample_notes, info, len(kept))


class _Work:
    """The captions that can be scored, with their references, and every metric over them."""

    def __init__(
        self,
        language: Language,
        hypotheses: Mapping[str, str],
        references: Sequence[Sequence[str]],
        corpus_references: Mapping[str, Sequence[str]],
    ) -> None:
        self._language = language
        self._hypotheses = hypotheses
        self._references = references
        self._corpus = corpus_references

    def scripts(self) -> list[int]:
        """Positions of the captions that are in another script than every reference of theirs."""
        found = []
        for i, (text, some) in enumerate(
            zip(self._hypotheses.values(), self._references, strict=True)
        ):
            its, others = script_of(text), {script_of(reference) for reference in some}
            if its is not None and its not in others and None not in others:
                found.append(i)
        return found

    def results(
        self,
        tokenizers: Sequence[str],
        *,
        bertscore: BertScoreSettings | None,
        extended: bool,
        step: Step,
    ) -> list[tuple[str, MetricResult]]:
        """Every result with the prefix of its names: this is where a new metric is added."""
        texts, language = list(self._hypotheses.values()), self._language
        step("emotions")
        results = [("", emotion_scores(texts, self._references, language=language))]
        step("BERTScore")
        results.append(("", bert_scores(texts, self._references, settings=bertscore)))
        results.append(("", _lengths(LANGUAGE_TOKENIZERS[language][0], texts, self._references)))
        if extended:
            step("chrF and sacreBLEU")
            chrf_and_bleu = sacre_scores(texts, self._references, language=language)
            results.append((CODES[language] + ".", chrf_and_bleu))
        for tokenizer in tokenizers:
            step(f"BLEU, ROUGE-L and CIDEr by {tokenizer}")
            results += [(tokenizer + ".", result) for result in self._ngrams(tokenizer)]
        return results

    def meteor(self, least: int) -> MetricResult:
        count = len(self._hypotheses)
        if count < least:
            reason = f"its program takes seconds to start: not for fewer than {least} captions"
            return undefined(("meteor",), count, reason)
        texts = list(self._hypotheses.values())
        try:
            cut = ptb_tokens([*texts, *(text for some in self._references for text in some)])
        except MetricError as error:
            return undefined(("meteor",), count, str(error))
        targets = [[cut[text] for text in some] for some in self._references]
        return meteor_tokens([cut[text] for text in texts], targets)

    def _ngrams(self, tokenizer: str) -> list[MetricResult]:
        texts = [
            *self._hypotheses.values(),
            *(text for some in self._references for text in some),
            *(text for some in self._corpus.values() for text in some),
        ]
        try:
            cut = (
                ptb_tokens(texts)
                if tokenizer == PTB
                else {text: _segment(text, tokenizer) for text in texts}
            )
        except MetricError as error:
            return [undefined(NGRAM_METRICS, len(self._hypotheses), str(error))]

        def tokens(some: Sequence[str]) -> list[Tokens]:
            """References as tokens, without those that have none."""
            return [cut[text] for text in some if cut[text].words]

        values = {name: cut[text] for name, text in self._hypotheses.items()}
        targets = [tokens(some) for some in self._references]
        corpus = {name: some for name, texts in self._corpus.items() if (some := tokens(texts))}
        return [
            bleu(list(values.values()), targets),
            rouge_l(list(values.values()), targets),
            cider(values, corpus),
        ]


def _check(
    ids: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    languages: Sequence[Language],
) -> None:
    lengths = {
        "ids": len(ids),
        "hypotheses": len(hypotheses),
        "references": len(references),
        "reference languages": len(languages),
    }
    if len(set(lengths.values())) > 1:
        raise MetricError(
            "not of one length: " + ", ".join(f"{count} {name}" for name, count in lengths.items())
        )
    if len(set(ids)) < len(ids):
        raise MetricError("sample ids repeat; each caption needs an id of its own")
    for name, some in zip(ids, references, strict=True):
        if isinstance(some, str):
            raise MetricError(f"references of {name!r} are one text; give a list of references")


def _usable(
    language: Language, references: Sequence[Sequence[str]], languages: Sequence[Language]
) -> tuple[list[int], list[str | None]]:
    """Positions of the samples that can be scored, and for every sample why not."""
    notes: list[str | None] = []
    for some, its_language in zip(references, languages, strict=True):
        if not any(text.strip() for text in some):
            notes.append("no reference")
        elif its_language != language:
            notes.append(f"reference in {its_language}, caption in {language}")
        elif not any(_tokenized(text, language) for text in some):
            notes.append("reference without words")
        else:
            notes.append(None)
    return [i for i, note in enumerate(notes) if note is None], notes


def _long(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, str]:
    texts = [*hypotheses, *(text for some in references for text in some)]
    if not (count := sum(len(text) > MAX_CHARACTERS for text in texts)):
        return {}
    return {
        "length": f"{count} of {len(texts)} captions and references have more than {MAX_CHARACTERS} "
        "characters: what is beyond is not scored"
    }


def _scripts(ids: Sequence[str], work: _Work) -> dict[str, str]:
    if not (found := work.scripts()):
        return {}
    return {
        "script": f"{len(found)} of {len(ids)} captions, {ids[found[0]]!r} the first, and their "
        "references are in different scripts, simplified and traditional Chinese: words that differ "
        "by it do not match; convert one side"
    }


def _left_out(sample_notes: Sequence[str | None]) -> dict[str, str]:
    reasons = [note for note in sample_notes if note is not None]
    if not reasons:
        return {}
    counted = "; ".join(f"{reasons.count(r)}: {r}" for r in dict.fromkeys(reasons))
    return {
        "references": f"{len(reasons)} of {len(sample_notes)} samples left out of the scores "
        f"({counted})"
    }


# One process tokenizes the same references for every run and metric.
@lru_cache(maxsize=65536)
def _segment(text: str, tokenizer: str) -> Tokens:
    return segment(text, tokenizer)


def _tokenized(text: str, language: Language) -> bool:
    return all(_segment(text, tokenizer).words for tokenizer in LANGUAGE_TOKENIZERS[language])


def _cut(references: Sequence[str], tokenizer: str) -> list[Tokens]:
    """References as tokens, without those that have none."""
    cut = [_segment(text, tokenizer) for text in references]
    return [tokens for tokens in cut if tokens.words]


def _lengths(
    tokenizer: str, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> MetricResult:
    """``caption_length`` and ``reference_length`` (mean over the references), in tokens."""
    rows: list[dict[str, float | None]] = []
    for hypothesis, some in zip(hypotheses, references, strict=True):
        lengths = [float(len(tokens.words)) for tokens in _cut(some, tokenizer)]
        rows.append(
            {
                "caption_length": float(len(_segment(hypothesis, tokenizer).words)),
                "reference_length": mean(lengths),
            }
        )
    names = ("caption_length", "reference_length")
    return MetricResult({name: mean([row[name] for row in rows]) for name in names}, tuple(rows))
