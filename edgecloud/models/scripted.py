"""Deterministic models without weights, for tests of everything above a model.

A :class:`ScriptedModel` answers from a function of the sequence so far, so that two of them can agree
and disagree wherever a test wants, and what speculative decoding must give is known by hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from edgecloud.contracts import Prompt
from edgecloud.models.checks import check_prompt, check_rollback, check_started

__all__ = ["ScriptedModel", "follows", "hashed"]

Script = Callable[[Sequence[int]], Sequence[float]]
"""``(prompt and generated tokens so far) -> logits over the vocabulary``"""


class ScriptedModel:
    """A :class:`edgecloud.contracts.Model` that follows ``script``.

    Counts what it was asked: ``forwards`` and ``ingested``, tokens over all calls of ``extend``.
    """

    def __init__(self, script: Script, *, vocab_size: int) -> None:
        self._script = script
        self._vocab_size = vocab_size
        self._sequence: list[int] = []
        self._prompt_length = 0
        self.forwards = 0
        self.ingested = 0

    @property
    def vocab_size(self) -> int:
        """V, the last dimension of the logits."""
        return self._vocab_size

    @property
    def length(self) -> int:
        """Tokens held, the prompt's included."""
        return len(self._sequence)

    @property
    def cache_bytes(self) -> int:
        """8 bytes a token."""
        return 8 * len(self._sequence)

    def cache_bytes_for(self, prompt_length: int, length: int) -> int:
        """8 bytes a token."""
        return 8 * length

    @property
    def sequence(self) -> tuple[int, ...]:
        """Tokens of the cache."""
        return tuple(self._sequence)

    def prefill(self, prompt: Prompt) -> Tensor:
        """As :meth:`edgecloud.contracts.Model.prefill`, counted as a forward."""
        check_prompt(prompt)
        self._sequence = list(prompt.token_ids)
        self._prompt_length = prompt.length
        self.forwards += 1
        return self._logits()

    def prefill_in_parts(self, prompt: Prompt, most: int) -> Iterator[Tensor | None]:
        """As a model's, a forward for each ``most`` tokens."""
        check_prompt(prompt)
        self._sequence = []
        self._prompt_length = prompt.length
        for begin in range(0, prompt.length, most):
            self._sequence += prompt.token_ids[begin : begin + most]
            self.forwards += 1
            yield self._logits() if self.length == prompt.length else None

    def extend(self, tokens: Sequence[int]) -> Tensor:
        """As :meth:`edgecloud.contracts.Model.extend`, counted as a forward and as ingested tokens."""
        check_started(tokens, self.length)
        self.forwards += 1
        self.ingested += len(tokens)
        rows = []
        for token in tokens:
            self._sequence.append(token)
            rows.append(self._logits())
        return torch.stack(rows)

    def rollback(self, length: int) -> None:
        """As :meth:`edgecloud.contracts.Model.rollback`."""
        check_rollback(length, prompt_length=self._prompt_length, held=self.length)
        del self._sequence[length:]

    def new_sequence(self) -> ScriptedModel:
        """A new sequence on the same script, its counters at 0."""
        return ScriptedModel(self._script, vocab_size=self._vocab_size)

    def _logits(self) -> Tensor:
        return torch.tensor(self._script(self._sequence), dtype=torch.float32)


def follows(
    text: Sequence[int], *, prompt_length: int, vocab_size: int, sure: float = 8.0
) -> Script:
    """A script that writes ``text`` whatever was generated before, then its last token for ever.

    The next token has logit ``sure``, every other one 0.
    """

    def script(sequence: Sequence[int]) -> list[float]:
        logits = [0.0] * vocab_size
        logits[text[min(len(sequence) - prompt_length, len(text) - 1)]] = sure
        return logits

    return script


def hashed(
    seed: int, *, vocab_size: int, end_id: int, disagree_with: Script | None = None, every: int = 1
) -> Script:
    """Pseudo-random logits that depend on the whole sequence, through a hash.

    With ``disagree_with``, the logits are that script's except after one sequence in ``every``. The
    end of text comes in after about 16 tokens.
    """

    def script(sequence: Sequence[int]) -> Sequence[float]:
        text = ",".join(map(str, (seed, *sequence)))
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        drawn = int.from_bytes(digest, "big")
        if disagree_with is not None and drawn % every:
            return disagree_with(sequence)
        generator = torch.Generator().manual_seed(drawn >> 1)
        logits = torch.randn(vocab_size, generator=generator) * 3
        logits[end_id] += -1.0 if len(sequence) < 16 else 4.0
        return [float(value) for value in logits]

    return script
