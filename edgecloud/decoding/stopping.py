"""The end of an output: end of text, token limit, sentence limit. One rule for every way of decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgecloud.contracts import StopLimits, StopReason

__all__ = ["Stopping"]


@dataclass(frozen=True, slots=True)
class Stopping:
    """``end_ids`` end the text; ``sentence_ids`` end a sentence (tokens that hold 。！？ or . ! ?)."""

    limits: StopLimits
    end_ids: frozenset[int]
    sentence_ids: frozenset[int] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """The ends of a text as in a journal; the limits are settings."""
        return {"end_ids": sorted(self.end_ids), "sentence_ids": sorted(self.sentence_ids)}

    @classmethod
    def from_json(cls, limits: StopLimits, ends: Mapping[str, Any]) -> Stopping:
        """``limits``, and the ``ends`` that :meth:`to_json` gave."""
        return cls(limits, frozenset(ends["end_ids"]), frozenset(ends["sentence_ids"]))

    def room(self, output: Sequence[int]) -> int:
        """Number of tokens that may still follow ``output``."""
        return self.limits.max_new_tokens - len(output)

    def cut(
        self, output: Sequence[int], new: Sequence[int]
    ) -> tuple[tuple[int, ...], StopReason | None]:
        """The part of ``new`` that may follow ``output``, and why it ends there, if it does.

        With a limit of 5 tokens, 3 in the output and 4 new ones, 2 stay: ``token_limit``. An
        end-of-text token stays in the output; nothing follows it.
        """
        counted = self.limits.max_sentences is not None
        sentences = sum(token in self.sentence_ids for token in output) if counted else 0
        for count, token in enumerate(new[: self.room(output)], start=1):
            if token in self.end_ids:
                return tuple(new[:count]), "end_of_text"
            sentences += token in self.sentence_ids
            if self.limits.max_sentences is not None and sentences >= self.limits.max_sentences:
                return tuple(new[:count]), "sentence_limit"
        if len(new) >= self.room(output):
            return tuple(new[: self.room(output)]), "token_limit"
        return tuple(new), None
