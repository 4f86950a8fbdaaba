"""Checks of arguments for every :class:`edgecloud.contracts.Model`, with the same messages."""

from __future__ import annotations

from collections.abc import Sequence

from edgecloud.contracts import LOG_MEL, Prompt
from edgecloud.errors import ModelError

__all__ = ["check_log_mel", "check_prompt", "check_rollback", "check_started", "check_vocabulary"]


def check_prompt(prompt: Prompt) -> None:
    """Raises ValueError for a prompt without tokens."""
    if not prompt.token_ids:
        raise ValueError("an empty prompt has no next token")


def check_log_mel(prompt: Prompt) -> None:
    """Raises ValueError for a prompt without tokens, ModelError for one with features that none of the fast
    path's families takes."""
    check_prompt(prompt)
    if not set(prompt.arrays) <= {LOG_MEL}:
        raise ModelError(
            f"the prompt has {', '.join(sorted(prompt.arrays))}, this model takes {LOG_MEL} alone; edge and "
            "cloud must be of one family"
        )
    if prompt.arrays and prompt.arrays[LOG_MEL].ndim != 2:
        raise ModelError(
            f"the features have the shape {prompt.arrays[LOG_MEL].shape}, not (bands, frames); edge and cloud "
            "must be of one family"
        )


def check_started(tokens: Sequence[int], held: int) -> None:
    """Raises ValueError when there is nothing to append, or no prompt to append it to."""
    if not tokens:
        raise ValueError("extend needs at least one token")
    if not held:
        raise ValueError("prefill comes first")


def check_vocabulary(tokens: Sequence[int], vocab_size: int) -> None:
    """Raises ModelError for a token that the tokenizer does not have."""
    if min(tokens) < 0 or max(tokens) >= vocab_size:
        raise ModelError(
            f"a token is outside the vocabulary of {vocab_size}; "
            "edge and cloud must share a tokenizer"
        )


def check_rollback(length: int, *, prompt_length: int, held: int) -> None:
    """Raises ValueError for a ``length`` that cuts into the prompt or is more than there is."""
    if not prompt_length <= length <= held:
        raise ValueError(
            f"cannot rewind to {length}: the prompt has {prompt_length} tokens, the cache {held}"
        )
