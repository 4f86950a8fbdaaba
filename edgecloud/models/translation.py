"""An edge that drafts in the vocabulary of another model.

The edge predicts its own tokens; those that spell the same bytes as one of the cloud's can be drafted,
the others never are (the token-level intersection of Timor et al. 2025, "Accelerating LLM Inference with
Lossless Speculative Decoding Algorithms for Heterogeneous Vocabularies"). What the cloud writes, the edge
reads in its own tokens, a token that it does not have in several: bytes are bytes, so half a character is
no difficulty. Drafts are thus tokens of the cloud with probabilities of their own, and every gate, every
acceptance rule and sampled decoding work, and are exact, as they do in one vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from edgecloud.contracts import Model, Prompt
from edgecloud.errors import ModelError
from edgecloud.models.pairing import have_own_vocabularies
from edgecloud.models.processor import Processor
from edgecloud.models.spelling import Vocabulary

__all__ = ["TranslatedModel", "Translation", "described", "of_pair", "translation_of"]

_NONE = -1


@dataclass(frozen=True, slots=True)
class Translation:
    """From the tokens of a cloud to those of an edge.

    ``sources (V_cloud,) int64``: the edge's token that spells the same, -1 where there is none.
    ``end`` is the cloud's token that stands for any of ``edge_ends``, ends of text that it has no token of the
    name for. ``readings``: by the cloud's token the edge's tokens that the edge reads it as, at least one.
    ``shared`` is the number of the cloud's texts that can be drafted.
    """

    sources: Tensor
    end: int
    edge_ends: Sequence[int]
    readings: Sequence[tuple[int, ...]]
    shared: int
    edge_texts: int
    cloud_texts: int

    @classmethod
    def between(cls, edge: Vocabulary, cloud: Vocabulary) -> Translation:
        """How the tokens of ``cloud`` are drafted and read by ``edge``.

        Raises:
            ModelError: they share no text, or one of them has no end of text.
        """
        by_spelling = _first_of_each(edge)
        drafted = _first_of_each(cloud)
        sources = [_NONE] * len(cloud.spellings)
        for spelling, token in drafted.items():
            sources[token] = by_spelling.get(spelling, _NONE)
        shared = sum(source != _NONE for source in sources)
        if not shared or not edge.ends or not cloud.ends:
            raise ModelError(
                "edge and cloud do not fit together: their vocabularies have no text in common, or one has no "
                "end of text; give --edge-model and --cloud-model whose tokens spell the same language"
            )
        names = {name: token for token, name in edge.ends}
        for token, name in cloud.ends:
            sources[token] = names.pop(name, _NONE)
        # The first of the cloud's ends that the edge does not know by name stands for those that are left.
        usual = cloud.ends[0][0]
        end = next((token for token, _ in cloud.ends if sources[token] == _NONE), usual)
        edge_ends: tuple[int, ...] = (sources[end],)
        if sources[end] == _NONE:
            edge_ends = tuple(names.values()) or (edge.ends[0][0],)
            sources[end] = edge_ends[0]
        longest = max(map(len, by_spelling))
        filler = (by_spelling.get(b" ", next(iter(by_spelling.values()))),)
        readings = [
            (source,) if source != _NONE else _read(spelling or b"", by_spelling, longest) or filler
            for source, spelling in zip(sources, cloud.spellings, strict=True)
        ]
        return cls(torch.tensor(sources), end, edge_ends, readings, shared, edge.texts, cloud.texts)

    def read(self, tokens: Sequence[int]) -> int:
        """The number of the edge's tokens that ``tokens`` of the cloud's are read as."""
        return sum(len(self.readings[token]) for token in tokens)

    def to_json(self) -> dict[str, int]:
        """What a result says of it."""
        return {
            "shared_tokens": self.shared,
            "edge_tokens": self.edge_texts,
            "cloud_tokens": self.cloud_texts,
        }


def described(facts: Mapping[str, int]) -> str:
    """:meth:`Translation.to_json` in a sentence for whoever watches the run.

    >>> described({"shared_tokens": 90, "edge_tokens": 100, "cloud_tokens": 120})
    'edge and cloud have vocabularies of their own: 90 of the cloud's 120 tokens of text can be drafted'
    """
    return (
        f"edge and cloud have vocabularies of their own: {facts['shared_tokens']:,} of the cloud's "
        f"{facts['cloud_tokens']:,} tokens of text can be drafted"
    )


@lru_cache(maxsize=4)
def of_pair(edge: Processor, cloud: Processor) -> tuple[Processor, Processor | None]:
    """What surrounds a pair of models: the processor of its output, and the edge's own where that is another
    (``None``: both have one vocabulary)."""
    if have_own_vocabularies(edge.shared(), cloud.shared()):
        return cloud, edge
    return edge, None


@lru_cache(maxsize=2)
def translation_of(edge: Processor, cloud: Processor) -> Translation:
    """:meth:`Translation.between` the vocabularies of two models, made once.

    Raises:
        ModelError: as that does, or what a token stands for cannot be told.
    """
    return Translation.between(edge.vocabulary(), cloud.vocabulary())


def _first_of_each(vocabulary: Vocabulary) -> dict[bytes, int]:
    """One token for each spelling, the last of those there are: SentencePiece numbers single bytes before the
    characters that are as long."""
    return {spelling: token for token, spelling in enumerate(vocabulary.spellings) if spelling}


def _read(spelling: bytes, tokens: Mapping[bytes, int], longest: int) -> tuple[int, ...]:
    """The fewest leftmost-longest ``tokens`` that spell ``spelling``; bytes that none begins with are left
    out."""
    found: list[int] = []
    at = 0
    while at < len(spelling):
        for end in range(min(len(spelling), at + longest), at, -1):
            if (token := tokens.get(spelling[at:end])) is not None:
                found.append(token)
                at = end
                break
        else:
            at += 1
    return tuple(found)


class TranslatedModel:
    """An edge model, as a model of the cloud's vocabulary. Lengths are counted in the cloud's tokens.

    A prompt must bring the same request in the edge's own form (:attr:`edgecloud.contracts.Prompt.edge`).
    """

    def __init__(self, model: Model, translation: Translation) -> None:
        self._model = model
        self._translation = translation
        self._prompt_lengths = (0, 0)
        """Tokens of the prompt, the cloud's and the edge's."""
        self._ends: list[int] = []
        """Tokens in the edge's cache after each of the cloud's tokens, the prompt's apart."""

    @property
    def vocab_size(self) -> int:
        """That of the cloud's vocabulary."""
        return len(self._translation.sources)

    @property
    def length(self) -> int:
        """The cloud's tokens in the cache, those of its prompt among them."""
        return self._prompt_lengths[0] + len(self._ends)

    @property
    def cache_bytes(self) -> int:
        """That of the model."""
        return self._model.cache_bytes

    def prefill(self, prompt: Prompt) -> Tensor:
        """Start over with the edge's form of ``prompt``. Returns logits ``(V_cloud,)``, minus infinity for
        what cannot be drafted."""
        own = self._start(prompt)
        return self._drafted(self._model.prefill(own))

    def prefill_in_parts(self, prompt: Prompt, most: int) -> Iterator[Tensor | None]:
        """:meth:`prefill`, in parts as the model makes them."""
        for logits in self._model.prefill_in_parts(self._start(prompt), most):
            yield None if logits is None else self._drafted(logits)

    def extend(self, tokens: Sequence[int]) -> Tensor:
        """Read ``n`` of the cloud's tokens in one forward. Returns ``(n, V_cloud)``."""
        read: list[int] = []
        rows = []
        for token in tokens:
            read += self._translation.readings[token]
            rows.append(len(read) - 1)
        held = self._ends[-1] if self._ends else 0
        logits = self._model.extend(read)
        self._ends += [held + row + 1 for row in rows]
        return self._drafted(logits[rows])

    def rollback(self, length: int) -> None:
        """Cut back to ``length`` of the cloud's tokens; as :meth:`edgecloud.contracts.Model.rollback`."""
        keep = length - self._prompt_lengths[0]
        if not 0 <= keep <= len(self._ends):
            raise ValueError(
                f"length {length} is outside {self._prompt_lengths[0]} .. {self.length}"
            )
        del self._ends[keep:]
        self._model.rollback(self._prompt_lengths[1] + (self._ends[-1] if self._ends else 0))

    def new_sequence(self) -> TranslatedModel:
        """Another, empty sequence on the same weights."""
        return TranslatedModel(self._model.new_sequence(), self._translation)

    def _start(self, prompt: Prompt) -> Prompt:
        if prompt.edge is None:
            raise ValueError("the prompt is in the cloud's form alone")
        self._prompt_lengths = (prompt.length, prompt.edge.length)
        self._ends = []
        return prompt.edge

    def _drafted(self, logits: Tensor) -> Tensor:
        """Logits ``(..., V_edge)`` as logits ``(..., V_cloud)``."""
        to = self._translation
        sources = to.sources.to(logits.device)
        found = logits[..., sources.clamp_min(0)].where(sources != _NONE, -torch.inf)
        found[..., to.end] = logits[..., list(to.edge_ends)].amax(-1)
        return found
