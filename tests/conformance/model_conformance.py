"""The laws of :class:`edgecloud.contracts.Model`, for any implementation.

Subclass :class:`ModelConformance` in a test file and give it ``model`` and ``prompt`` fixtures; what
an implementation rounds differently in a batch goes into ``tolerance``.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgecloud.contracts import Model, Prompt

__all__ = ["ModelConformance"]


class ModelConformance:
    """Every test takes a ``model`` without a sequence yet."""

    tolerance = 1e-4
    """Largest difference of logits between one forward over n tokens and n forwards."""
    continuation = (3, 1, 4, 1, 5, 2)
    """Tokens to go on with; all below the vocabulary's size."""

    def assert_same(self, actual: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(actual, expected, rtol=self.tolerance, atol=self.tolerance)

    def test_prefill_gives_one_row_of_float32_over_the_vocabulary(
        self, model: Model, prompt: Prompt
    ) -> None:
        logits = model.prefill(prompt)
        assert logits.shape == (model.vocab_size,)
        assert logits.dtype == torch.float32
        assert torch.isfinite(logits).all()
        assert model.length == prompt.length

    @pytest.mark.parametrize("most", [1, 3, 1000])
    def test_a_prefill_in_parts_is_one_at_once(
        self, model: Model, prompt: Prompt, most: int
    ) -> None:
        other = model.new_sequence()
        *before, last = model.prefill_in_parts(prompt, most)
        assert before == [None] * (-(-prompt.length // most) - 1)
        assert last is not None
        self.assert_same(last, other.prefill(prompt))
        assert model.length == prompt.length
        self.assert_same(model.extend(self.continuation), other.extend(self.continuation))
        model.rollback(prompt.length)
        with pytest.raises(ValueError, match="rewind"):
            model.rollback(prompt.length - 1)

    def test_a_prefill_in_parts_that_was_left_is_begun_anew(
        self, model: Model, prompt: Prompt
    ) -> None:
        parts = model.prefill_in_parts(prompt, 2)
        assert next(parts) is None
        other = model.new_sequence()
        self.assert_same(model.prefill(prompt), other.prefill(prompt))
        assert model.length == prompt.length

    def test_extend_gives_one_row_per_token(self, model: Model, prompt: Prompt) -> None:
        model.prefill(prompt)
        logits = model.extend(self.continuation)
        assert logits.shape == (len(self.continuation), model.vocab_size)
        assert logits.dtype == torch.float32
        assert model.length == prompt.length + len(self.continuation)

    @pytest.mark.parametrize("split", [1, 2, 5])
    def test_extend_in_parts_is_extend_at_once(
        self, model: Model, prompt: Prompt, split: int
    ) -> None:
        other = model.new_sequence()
        model.prefill(prompt)
        other.prefill(prompt)
        at_once = model.extend(self.continuation)
        first = other.extend(self.continuation[:split])
        rest = other.extend(self.continuation[split:])
        self.assert_same(torch.cat((first, rest)), at_once)

    def test_extend_token_by_token_is_extend_at_once(self, model: Model, prompt: Prompt) -> None:
        other = model.new_sequence()
        model.prefill(prompt)
        other.prefill(prompt)
        at_once = model.extend(self.continuation)
        steps = [other.extend([token]) for token in self.continuation]
        self.assert_same(torch.cat(steps), at_once)

    def test_rows_do_not_see_later_tokens(self, model: Model, prompt: Prompt) -> None:
        model.prefill(prompt)
        one = model.extend([3, 1, 4])
        model.rollback(prompt.length)
        other = model.extend([3, 1, 5])
        self.assert_same(one[:2], other[:2])

    @pytest.mark.parametrize("kept", [0, 1, 3, 6])
    def test_after_a_rewind_the_same_tokens_give_the_same_logits(
        self, model: Model, prompt: Prompt, kept: int
    ) -> None:
        model.prefill(prompt)
        before = model.extend(self.continuation)
        model.rollback(prompt.length + kept)
        assert model.length == prompt.length + kept
        if kept < len(self.continuation):
            self.assert_same(model.extend(self.continuation[kept:]), before[kept:])

    def test_after_a_rewind_nothing_is_left_of_what_was_taken_back(
        self, model: Model, prompt: Prompt
    ) -> None:
        other = model.new_sequence()
        other.prefill(prompt)
        model.prefill(prompt)
        model.extend([2, 2, 2, 2])
        model.rollback(prompt.length + 1)
        other.extend([2])
        self.assert_same(model.extend([4, 3]), other.extend([4, 3]))

    def test_many_small_rewinds_do_not_add_up_to_an_error(
        self, model: Model, prompt: Prompt
    ) -> None:
        other = model.new_sequence()
        other.prefill(prompt)
        model.prefill(prompt)
        for token in self.continuation:
            model.extend([5, 5, 5])
            model.rollback(model.length - 3)
            model.extend([token])
        expected = other.extend([*self.continuation, 1])
        self.assert_same(model.extend([1])[-1], expected[-1])

    def test_rewind_neither_enters_the_prompt_nor_goes_forward(
        self, model: Model, prompt: Prompt
    ) -> None:
        model.prefill(prompt)
        model.extend([1, 2])
        for length in (prompt.length - 1, 0, -1, prompt.length + 3):
            with pytest.raises(ValueError, match="rewind"):
                model.rollback(length)
        assert model.length == prompt.length + 2
        model.rollback(prompt.length + 2)
        model.rollback(prompt.length)
        assert model.length == prompt.length

    def test_a_fresh_sequence_is_empty_and_leaves_the_first_alone(
        self, model: Model, prompt: Prompt
    ) -> None:
        model.prefill(prompt)
        expected = model.extend([1, 2])
        model.rollback(prompt.length)
        fresh = model.new_sequence()
        assert fresh.length == 0
        assert fresh.vocab_size == model.vocab_size
        fresh.prefill(Prompt((1, 2, 3, 4)))
        fresh.extend([5, 5, 5])
        assert model.length == prompt.length
        self.assert_same(model.extend([1, 2]), expected)

    def test_prefill_starts_over(self, model: Model, prompt: Prompt) -> None:
        expected = model.prefill(prompt)
        model.extend([1, 2, 3])
        model.prefill(Prompt((4, 3)))
        model.extend([1])
        self.assert_same(model.prefill(prompt), expected)
        assert model.length == prompt.length

    def test_the_same_call_gives_the_very_same_numbers(self, model: Model, prompt: Prompt) -> None:
        one = model.prefill(prompt), model.extend([1, 2])
        other = model.prefill(prompt), model.extend([1, 2])
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])

    def test_what_was_returned_does_not_change_later(self, model: Model, prompt: Prompt) -> None:
        first = model.prefill(prompt)
        copy = first.clone()
        rows = model.extend([1, 2])
        rows_copy = rows.clone()
        model.rollback(prompt.length)
        model.extend([5, 5])
        assert torch.equal(first, copy)
        assert torch.equal(rows, rows_copy)

    def test_nothing_to_go_on_with_is_refused(self, model: Model, prompt: Prompt) -> None:
        with pytest.raises(ValueError, match="prefill comes first"):
            model.extend([1])
        model.prefill(prompt)
        with pytest.raises(ValueError, match="at least one token"):
            model.extend([])
        with pytest.raises(ValueError, match="empty prompt"):
            model.new_sequence().prefill(Prompt(()))
