"""The laws of :class:`edgecloud.contracts.Model`, for whatever runs a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgecloud.contracts import Model, Prompt
from edgecloud.testing.laws import Law, check

__all__ = ["MODEL_LAWS", "ModelCase", "check_model"]

_NEXT = (3, 1, 4, 1, 5, 2)
"""Tokens to go on with."""


@dataclass(frozen=True, slots=True)
class ModelCase:
    """A ``model`` without a sequence yet, of at least six tokens, and a ``prompt`` that it takes; numbers that
    one forward rounds differently from several differ by ``tolerance`` at most."""

    model: Model
    prompt: Prompt
    tolerance: float = 1e-4

    def begun(self) -> Model:
        """Another sequence, after the prompt."""
        model = self.model.new_sequence()
        model.prefill(self.prompt)
        return model

    def same(self, found: Tensor, expected: Tensor, what: str) -> None:
        """Raises AssertionError where the two differ."""
        assert found.shape == expected.shape, f"{what}: {tuple(found.shape)}"
        worst = float((found - expected).abs().max()) if found.numel() else 0.0
        close = torch.allclose(found, expected, rtol=self.tolerance, atol=self.tolerance)
        assert close, f"{what}: off by {worst:g}"


def _rows(case: ModelCase, options: Sequence[str]) -> None:
    model, prompt = case.model.new_sequence(), case.prompt
    first = model.prefill(prompt)
    assert first.shape == (model.vocab_size,), f"prefill gave {tuple(first.shape)}"
    assert model.length == prompt.length, f"length is {model.length} after {prompt.length} tokens"
    rows = model.extend(_NEXT)
    assert rows.shape == (len(_NEXT), model.vocab_size), f"extend gave {tuple(rows.shape)}"
    assert model.length == prompt.length + len(_NEXT), f"length is {model.length} after extend"
    for logits in (first, rows):
        assert logits.dtype == torch.float32, f"{logits.dtype}"
        assert bool(torch.isfinite(logits).all()), "a value that is not finite"


def _repeats(case: ModelCase, options: Sequence[str]) -> None:
    model = case.model.new_sequence()
    first = model.prefill(case.prompt)
    rows = model.extend([1, 2])
    before = first.clone(), rows.clone()
    model.rollback(case.prompt.length)
    model.extend([5, 5])
    assert torch.equal(first, before[0]), "what prefill returned changed later"
    assert torch.equal(rows, before[1]), "what extend returned changed later"
    assert torch.equal(model.prefill(case.prompt), before[0]), "a second prefill"
    assert torch.equal(model.extend([1, 2]), before[1]), "a second extend"


def _parts(case: ModelCase, options: Sequence[str]) -> None:
    prompt = case.prompt
    for most in (1, 3, 1000):
        model, other = case.model.new_sequence(), case.model.new_sequence()
        *before, last = model.prefill_in_parts(prompt, most)
        assert before == [None] * (-(-prompt.length // most) - 1), f"parts of {most}: {before}"
        assert last is not None, f"parts of {most}: no logits"
        case.same(last, other.prefill(prompt), f"parts of {most}")
        assert model.length == prompt.length, f"parts of {most}: length is {model.length}"
        case.same(model.extend(_NEXT), other.extend(_NEXT), f"after parts of {most}")
    left = case.model.new_sequence()
    next(left.prefill_in_parts(prompt, 2))
    case.same(left.prefill(prompt), case.model.new_sequence().prefill(prompt), "parts left alone")
    assert left.length == prompt.length, f"length is {left.length} after parts left alone"


def _at_once(case: ModelCase, options: Sequence[str]) -> None:
    at_once = case.begun().extend(_NEXT)
    for split in (1, 2, 5):
        model = case.begun()
        parts = torch.cat((model.extend(_NEXT[:split]), model.extend(_NEXT[split:])))
        case.same(parts, at_once, f"in parts of {split} and {len(_NEXT) - split}")
    model = case.begun()
    case.same(torch.cat([model.extend([token]) for token in _NEXT]), at_once, "one by one")
    one, other = case.begun().extend([3, 1, 4]), case.begun().extend([3, 1, 5])
    case.same(one[:2], other[:2], "rows before another third token")


def _rollback(case: ModelCase, options: Sequence[str]) -> None:
    begin = case.prompt.length
    for kept in (0, 1, 3, 6):
        model = case.begun()
        before = model.extend(_NEXT)
        model.rollback(begin + kept)
        assert model.length == begin + kept, f"length is {model.length}, not {begin + kept}"
        if kept < len(_NEXT):
            case.same(model.extend(_NEXT[kept:]), before[kept:], f"with {kept} kept")
    model, other = case.begun(), case.begun()
    for token in _NEXT:
        model.extend([5, 5, 5])
        model.rollback(model.length - 3)
        model.extend([token])
    case.same(model.extend([1])[-1], other.extend([*_NEXT, 1])[-1], "after many small ones")


def _sequences(case: ModelCase, options: Sequence[str]) -> None:
    model, begin = case.begun(), case.prompt.length
    expected = model.extend([1, 2])
    model.rollback(begin)
    other = model.new_sequence()
    assert other.length == 0, f"a new sequence has length {other.length}"
    assert other.vocab_size == model.vocab_size, f"a new sequence has {other.vocab_size} tokens"
    other.prefill(Prompt((1, 2, 3, 4)))
    other.extend([5, 5, 5])
    assert model.length == begin, "another sequence changed the length"
    case.same(model.extend([1, 2]), expected, "beside another sequence")
    other.prefill(case.prompt)
    case.same(other.extend([1, 2]), expected, "a sequence begun anew")


def _refusals(case: ModelCase, options: Sequence[str]) -> None:
    model, begin = case.begun(), case.prompt.length
    model.extend([1, 2])
    for length in (begin - 1, 0, -1, begin + 3):
        _refused(f"rollback({length}) of {begin + 2}", model.rollback, length)
    _refused("extend([])", model.extend, [])
    assert model.length == begin + 2, "what was refused changed the length"
    _refused("extend before prefill", model.new_sequence().extend, [1])
    _refused("an empty prompt", model.new_sequence().prefill, Prompt(()))


def _refused(what: str, call: Callable[..., object], given: object) -> None:
    try:
        call(given)
    except ValueError:
        return
    raise AssertionError(f"{what} is not refused")


MODEL_LAWS: tuple[Law[ModelCase], ...] = (
    Law("rows", "logits are float32 and finite, over the vocabulary, a row a token", _rows),
    Law("repeats", "the same call gives the very same numbers, which never change later", _repeats),
    Law("parts", "a prefill in parts is one at once, and one that was left is begun anew", _parts),
    Law(
        "at once", "many tokens at once are one after the other; no row sees later tokens", _at_once
    ),
    Law("rollback", "a rollback forgets exactly what it cuts, however often", _rollback),
    Law("sequences", "sequences on the same weights do not touch each other", _sequences),
    Law(
        "refusals",
        "a rollback into the prompt or forward, no tokens, and no prompt are ValueErrors that change nothing",
        _refusals,
    ),
)
"""What every model obeys."""


def check_model(case: ModelCase) -> None:
    """Hold a model to :data:`MODEL_LAWS`.

    Raises:
        AssertionError: it breaks one; the message has the law and what it was broken by.
    """
    check(MODEL_LAWS, case, ())
