"""Models that many requests share in lockstep, and that compute what follows a text once.

For decoding many prompts under many policies on slow processors. A product of 64 rows costs a fraction of 64
products of one, so forwards of all requests wait for each other and run together; and policies write much the
same texts, so what a model gave is kept by prompt and text. Tokens are those of the models themselves; sums are
in another order than one request at a time would have them, which shows in ties alone.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from edgecloud.contracts import Prompt
from edgecloud.decoding.drafting import common_prefix
from edgecloud.models.audio_lm import AudioLM, extend_many
from edgecloud.models.checks import check_rollback, check_started, check_vocabulary

__all__ = ["Lockstep", "Remembering"]

KEPT = 4096
"""Logits of a row that are kept; the others count as equally likely, so that all add up to 1."""
_MOST_ROWS = 192
"""Rows of one forward: of 151936 logits each."""
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(slots=True)
class _Asked:
    run: AudioLM
    weights: AudioLM
    """The model whose weights ``run`` is a sequence on."""
    tokens: Sequence[int]
    prompt: Prompt | None
    rows: Tensor | None = None
    error: BaseException | None = None


class Lockstep:
    """Threads of :meth:`map` whose forwards wait until every thread asks for one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._active = 0
        self._asked: list[_Asked] = []

    def map(self, work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
        """``work`` on every item, each in a thread of its own."""
        todo = list(items)
        self._active = len(todo)

        def one(item: _T) -> _R:
            try:
                return work(item)
            finally:
                with self._changed:
                    self._active -= 1
                    self._go_on()

        with ThreadPoolExecutor(max(1, len(todo))) as pool:
            return list(pool.map(one, todo))

    def prefill(self, run: AudioLM, weights: AudioLM, prompt: Prompt) -> Tensor:
        """``(1, V)``: :meth:`~edgecloud.contracts.Model.prefill` of ``run``, when it is its turn."""
        return self._wait(_Asked(run, weights, (), prompt))

    def extend(self, run: AudioLM, weights: AudioLM, tokens: Sequence[int]) -> Tensor:
        """``(n, V)``: :meth:`~edgecloud.contracts.Model.extend` of ``run``, together with others on ``weights``."""
        return self._wait(_Asked(run, weights, tokens, None))

    def _wait(self, asked: _Asked) -> Tensor:
        with self._changed:
            self._asked.append(asked)
            self._go_on()
            while asked.rows is None:
                if asked.error is not None:
                    raise asked.error
                self._changed.wait()
        return asked.rows

    def _go_on(self) -> None:
        """Compute what was asked for, if nobody is left who may ask for more."""
        if not self._asked or len(self._asked) < self._active:
            return
        asked, self._asked = self._asked, []
        try:
            for each in (each for each in asked if each.prompt is not None):
                each.rows = each.run.prefill(each.prompt)[None]
            for group in _together([each for each in asked if each.prompt is None]):
                found = extend_many([each.run for each in group], [each.tokens for each in group])
                for each, rows in zip(group, found, strict=True):
                    each.rows = rows
        except BaseException as error:
            for each in asked:
                each.error = error
            raise
        finally:
            self._changed.notify_all()


def _together(asked: Sequence[_Asked]) -> Iterator[list[_Asked]]:
    """Forwards on the same weights, as many as :data:`_MOST_ROWS` allows."""
    by_model: dict[int, list[_Asked]] = {}
    for each in asked:
        by_model.setdefault(id(each.weights), []).append(each)
    for same in by_model.values():
        group: list[_Asked] = []
        for each in same:
            if group and sum(len(one.tokens) for one in group) + len(each.tokens) > _MOST_ROWS:
                yield group
                group = []
            group.append(each)
        yield group


@dataclass(frozen=True, slots=True)
class _Row:
    """The likeliest tokens of one row of logits, and what stands for each of the others."""

    ids: Tensor
    values: Tensor
    rest: float
    size: int

    @classmethod
    def of(cls, logits: Tensor) -> _Row:
        values, ids = logits.topk(min(KEPT, len(logits)))
        left = len(logits) - len(ids)
        if not left:
            return cls(ids.int(), values, 0.0, len(logits))
        # Beyond the largest, which no sum of exponentials overflows.
        top = float(values[0])
        mass = float((logits - top).double().exp().sum() - (values - top).double().exp().sum())
        rest = top + math.log(max(mass, 1e-30) / left)
        return cls(ids.int(), values, min(rest, float(values[-1])), len(logits))

    def full(self) -> Tensor:
        """``(V,)``."""
        return torch.full((self.size,), self.rest).scatter_(0, self.ids.long(), self.values)


@dataclass(slots=True)
class _Known:
    """Of one prompt: what a model gave after each text, and a sequence that holds one of the texts."""

    sequence: AudioLM
    rows: dict[tuple[int, ...], _Row] = field(default_factory=dict)
    held: list[int] = field(default_factory=list)
    prompt_length: int = 0


class Remembering:
    """A :class:`edgecloud.contracts.Model` on the weights of ``model``, whose forwards ``lockstep`` runs and
    which asks for none whose result is known. One request at a time has a prompt."""

    def __init__(
        self,
        model: AudioLM,
        lockstep: Lockstep,
        known: dict[tuple[int, ...], _Known] | None = None,
    ) -> None:
        self._model = model
        self._lockstep = lockstep
        self._all = {} if known is None else known
        self._known: _Known | None = None
        self._output: list[int] = []

    @property
    def vocab_size(self) -> int:
        """V."""
        return self._model.vocab_size

    @property
    def length(self) -> int:
        """Tokens of the prompt and after it."""
        return 0 if self._known is None else self._known.prompt_length + len(self._output)

    @property
    def cache_bytes(self) -> int:
        """Of the sequence that is held for the prompt."""
        return 0 if self._known is None else self._known.sequence.cache_bytes

    @property
    def computed(self) -> int:
        """Texts, of all prompts, after which the next token is known."""
        return sum(len(known.rows) for known in self._all.values())

    def prefill(self, prompt: Prompt) -> Tensor:
        """As :meth:`edgecloud.contracts.Model.prefill`."""
        known = self._all.get(prompt.token_ids)
        if known is None:
            known = _Known(self._model.new_sequence(), prompt_length=prompt.length)
            known.rows[()] = _Row.of(self._lockstep.prefill(known.sequence, self._model, prompt)[0])
            self._all[prompt.token_ids] = known
        self._known, self._output = known, []
        return known.rows[()].full()

    def prefill_in_parts(self, prompt: Prompt, most: int) -> Iterator[Tensor | None]:
        """As :meth:`edgecloud.contracts.Model.prefill_in_parts`, in one part."""
        yield self.prefill(prompt)

    def extend(self, tokens: Sequence[int]) -> Tensor:
        """As :meth:`edgecloud.contracts.Model.extend`."""
        check_started(tokens, self.length)
        check_vocabulary(tokens, self.vocab_size)
        known = self._known
        assert known is not None
        begin, whole = len(self._output), [*self._output, *tokens]
        wanted = [tuple(whole[: end + 1]) for end in range(begin, len(whole))]
        missing = next((len(text) - 1 for text in wanted if text not in known.rows), None)
        if missing is not None:
            first = min(missing, common_prefix(known.held, whole))
            known.sequence.rollback(known.prompt_length + first)
            rows = self._lockstep.extend(known.sequence, self._model, whole[first:])
            known.held = whole
            for place, row in enumerate(rows, start=first + 1):
                if tuple(whole[:place]) not in known.rows:
                    known.rows[tuple(whole[:place])] = _Row.of(row)
        self._output = whole
        return torch.stack([known.rows[text].full() for text in wanted])

    def rollback(self, length: int) -> None:
        """As :meth:`edgecloud.contracts.Model.rollback`; nothing that is known is lost."""
        begin = 0 if self._known is None else self._known.prompt_length
        check_rollback(length, prompt_length=begin, held=self.length)
        del self._output[length - begin :]

    def new_sequence(self) -> Remembering:
        """Another sequence that knows the same."""
        return Remembering(self._model, self._lockstep, self._all)
