"""Every score of a run's captions at once: corpus and per-sample values, and why one is missing.

Names are ``<tokenizer>.<metric>`` (``zh.jieba.cider``) for the n-gram metrics and METEOR,
``<language>.<metric>`` (``en.chrf``) for chrF and sacreBLEU, else the metric's. Which metrics there are
is in the registry :data:`~edgecloud.quality.metric.METRICS` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

from edgecloud.contracts import Language, Sample
from edgecloud.errors import MetricError
from edgecloud.quality.describe import Job, jobs
from edgecloud.quality.fold import script_of
from edgecloud.quality.metrics.bertscore import BertScoreSettings
from edgecloud.quality.metrics.meteor import PTB, ptb_tokens
from edgecloud.quality.result import MetricResult, undefined
from edgecloud.quality.tokenize import LANGUAGE_TOKENIZERS, Tokens, segment

__all__ = ["MAX_CHARACTERS", "METEOR_FROM", "Scores", "corpus_references_of", "score"]

METEOR_FROM: Final = 20
"""Captions from which on METEOR's program is worth the seconds that it takes to start."""
MAX_CHARACTERS: Final = 2000
"""Most characters of a text that are scored. ROUGE-L and METEOR take the square of a length: minutes for
15,000."""

Step = Callable[[str], None]
Cut = Callable[[str], Tokens]


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
    attributes: Sequence[Mapping[str, str]] | None = None,
    bertscore: BertScoreSettings | None = None,
    tokenizers: Sequence[str] | None = None,
    extended: bool = False,
    meteor_from: int = 0,
    step: Step = lambda _: None,
) -> Scores:
    """Score captions generated in ``language``; failed samples are not handed in.

    ``corpus_references`` holds, by id, the references of the *full* manifest in ``language`` (see
    :func:`corpus_references_of`): CIDEr's document frequencies come from them. A sample without a
    reference, or with one in another language, has no scores and is left out of the corpus, except for those
    that go by ``attributes``: the truth about each sample, by attribute, in the samples' order.
    ``tokenizers`` are those of the n-gram metrics: ``LANGUAGE_TOKENIZERS`` when not given; ``en.ptb``
    needs Java. ``extended`` adds what is no main score: chrF, sacreBLEU, metrics of other packages and, in
    English, METEOR, whose Java program takes seconds and 0.8 GB to start: it is left out below
    ``meteor_from`` captions. Of a longer text the first ``MAX_CHARACTERS`` are scored, which the note ``length`` says. ``step`` is told what is worked at.

    Raises:
        MetricError: lengths differ, ids repeat, or a scored sample is not in the corpus.
    """
    _check(ids, hypotheses, references, reference_languages)
    truths = [{}] * len(ids) if attributes is None else attributes
    if len(truths) != len(ids):
        raise MetricError(f"{len(ids)} ids but attributes of {len(truths)}")
    long = _long(hypotheses, references)
    hypotheses = [text[:MAX_CHARACTERS] for text in hypotheses]
    references = [[text[:MAX_CHARACTERS] for text in some] for some in references]
    corpus_references = {
        name: [text[:MAX_CHARACTERS] for text in some] for name, some in corpus_references.items()
    }
    kept, sample_notes = _usable(language, references, reference_languages)
    cuts = LANGUAGE_TOKENIZERS[language] if tokenizers is None else tuple(tokenizers)
    wanted = jobs(language, cuts, extended=extended)
    info = {name: about for job in wanted for name, about in job.describe(language).items()}
    corpus: dict[str, float | None] = dict.fromkeys(info)
    per_sample: list[dict[str, float | None]] = [dict.fromkeys(info) for _ in ids]
    notes = {**_left_out(sample_notes), **long}

    def work(some: Sequence[int]) -> _Work:
        """On the samples at these positions, with those of their references that can be used."""
        texts = [
            [text for text in references[i] if _tokenized(text, language)]
            if sample_notes[i] is None
            else []
            for i in some
        ]
        captions = {ids[i]: hypotheses[i] for i in some}
        return _Work(
            language,
            captions,
            texts,
            corpus_references,
            [truths[i] for i in some],
            bertscore,
            meteor_from,
        )

    def enter(job: Job, some: Sequence[int], result: MetricResult) -> None:
        """Keep what a job gave of the samples at these positions."""
        for i, values in zip(some, result.per_sample, strict=bool(result.per_sample)):
            per_sample[i].update({job.prefix + name: value for name, value in values.items()})

    def take(job: Job, some: Sequence[int], result: MetricResult) -> None:
        """Keep what a job gave of the corpus, too, which these are."""
        corpus.update({job.prefix + name: value for name, value in result.corpus.items()})
        notes.update({job.prefix + name: note for name, note in result.notes.items()})
        for name in job.metric.names:
            info[job.prefix + name].update(result.info)
        enter(job, some, result)

    by_truth = [job for job in wanted if "attributes" in job.metric.needs]
    wanted = [job for job in wanted if job not in by_truth]
    if others := [i for i, note in enumerate(sample_notes) if note is not None]:
        alone = work(others)
        for job in wanted:
            if job.metric.reference_free:
                enter(job, others, alone.result(job))
    if not kept:
        reason = "no caption has a reference in the language generated" if ids else "no captions"
        notes.update(dict.fromkeys(corpus, reason))
    else:
        scored = work(kept)
        notes.update(_scripts([ids[i] for i in kept], scored))
        for job, result in scored.results(wanted, step):
            take(job, kept, result)
    if ids:
        everything = range(len(ids))
        for job, result in work(everything).results(by_truth, step):
            take(job, everything, result)
    return Scores(corpus, per_sample, notes, sample_notes, info, len(kept))


class _Work:
    """Captions with their references, and every metric over them."""

    def __init__(
        self,
        language: Language,
        hypotheses: Mapping[str, str],
        references: Sequence[Sequence[str]],
        corpus_references: Mapping[str, Sequence[str]],
        attributes: Sequence[Mapping[str, str]],
        bertscore: BertScoreSettings | None,
        java_from: int,
    ) -> None:
        self._language = language
        self._hypotheses = hypotheses
        self._references = references
        self._corpus = corpus_references
        self._attributes = attributes
        self._bertscore = bertscore
        self._java_from = java_from
        self._cuts: dict[tuple[str, bool], Cut | MetricError] = {}

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

    def results(self, wanted: Sequence[Job], step: Step) -> list[tuple[Job, MetricResult]]:
        """Every job with its result. Metrics with a Java program run beside the others."""
        slow = [job for job in wanted if "java" in job.metric.needs]
        found = []
        with ThreadPoolExecutor(1) as beside:
            later = [(job, beside.submit(self.result, job)) for job in slow]
            for job in wanted:
                if job not in slow:
                    by = f" by {job.tokenizer}" if job.metric.takes == "tokens" else ""
                    step(job.metric.title + by)
                    found.append((job, self.result(job)))
            for job, result in later:
                step(job.metric.title)
                found.append((job, result.result()))
        return found

    def result(self, job: Job) -> MetricResult:
        """The result of one metric; ``None`` for every value, with the reason, where a tokenizer that
        it needs is missing or there are too few captions for a Java program of its own."""
        metric, count = job.metric, len(self._hypotheses)
        beside = "java" in metric.needs
        if beside and count < self._java_from:
            return undefined(
                metric.names,
                count,
                f"its program takes seconds to start: not for fewer than {self._java_from} captions",
            )
        extras: dict[str, object] = {}
        if "language" in metric.needs:
            extras["language"] = self._language
        if "bert_model" in metric.needs:
            extras["settings"] = self._bertscore
        if "attributes" in metric.needs:
            extras["attributes"] = self._attributes
        if job.tokenizer is None:
            if "corpus" in metric.needs:
                extras |= {"ids": list(self._hypotheses), "corpus_references": self._corpus}
            return metric.score(list(self._hypotheses.values()), self._references, **extras)
        try:
            cut = self._cut(job.tokenizer, beside="corpus" not in metric.needs and beside)
        except MetricError as error:
            return undefined(metric.names, count, str(error))

        def tokens(some: Sequence[str]) -> list[Tokens]:
            """References as tokens, without those that have none."""
            return [found for text in some if (found := cut(text)).words]

        if "corpus" in metric.needs:
            corpus = {name: some for name, texts in self._corpus.items() if (some := tokens(texts))}
            extras |= {"ids": list(self._hypotheses), "corpus_references": corpus}
        captions = [cut(text) for text in self._hypotheses.values()]
        references = [tokens(some) or [cut(text) for text in some] for some in self._references]
        return metric.score(captions, references, **extras)

    def _cut(self, tokenizer: str, *, beside: bool) -> Cut:
        """How a text is cut up. The Java tokenizer is started once for all texts that may come: those
        of the corpus are left out where a metric that runs ``beside`` the others asks.

        Raises:
            MetricError: it is unknown, or there is no Java for it.
        """
        if tokenizer != PTB:
            return partial(_segment, tokenizer=tokenizer)
        if (found := self._cuts.get((tokenizer, beside))) is None:
            references = [*self._references, *(() if beside else self._corpus.values())]
            texts = [*self._hypotheses.values(), *(text for some in references for text in some)]
            try:
                found = ptb_tokens(texts).__getitem__
            except MetricError as error:
                found = error
            self._cuts[tokenizer, beside] = found
        if isinstance(found, MetricError):
            raise found
        return found


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
