"""What sessions that share a forward cost, measured: steps, verifications and prefills at several sessions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from edgecloud.contracts import Prompt
from edgecloud.errors import ModelError
from edgecloud.hardware.costs import BatchCosts, Points
from edgecloud.models.audio_lm import AudioLM
from edgecloud.profiling.engines import Engine, prompt_of
from edgecloud.profiling.gpu import time_batches

__all__ = ["SESSIONS", "VERIFIED_TOKENS", "batch_costs", "factors"]

SESSIONS = (1, 2, 4, 8, 16, 32, 64)
VERIFIED_TOKENS = 8
"""Tokens of each session in a forward that is timed as a verification."""
_PREFILLS = 4
"""Most prompts prefilled in a row: this project's engine takes one after the other, so more tell nothing."""


def batch_costs(
    engine: Engine, *, audio_s: float, sessions: Sequence[int] = SESSIONS, rounds: int = 7
) -> tuple[BatchCosts, dict[str, Any]]:
    """Costs at so many ``sessions``, after a prompt with ``audio_s`` seconds of audio, on a CPU or a GPU alike;
    and the medians they come from in ms, by operation and sessions (JSON).

    Raises:
        ModelError: the engine's sessions cannot share a forward.
    """
    if not isinstance(engine.model, AudioLM):
        raise ModelError(f"sessions of {engine.name} share no forward: --batches measures none")
    prompt = prompt_of(engine.shape, audio_s)
    seen: dict[str, dict[int, float]] = {}
    for name, tokens in (("step", 1), ("verify", VERIFIED_TOKENS)):
        timed = time_batches(engine, prompt, sessions, rounds=rounds, tokens=tokens)
        seen[name] = {size: statistics.median(taken) for size, taken in timed.items()}
    models = [engine.model.new_sequence() for _ in range(_PREFILLS)]
    seen["prefill"] = {
        size: statistics.median(_prefills(models[:size], prompt) for _ in range(3))
        for size in sessions
        if size <= _PREFILLS
    }
    costs = BatchCosts(
        prefill=factors(seen["prefill"]),
        step=factors(seen["step"]),
        verify=factors(seen["verify"]),
        source="measured",
    )
    told = {
        name: {str(size): 1e3 * seconds for size, seconds in found.items()}
        for name, found in seen.items()
    }
    return costs, told


def factors(seconds: Mapping[int, float]) -> Points:
    """Seconds by sessions as times that of one, never falling.

    >>> factors({1: 0.5, 2: 0.4, 4: 1.0})
    ((1, 1.0), (2, 1.0), (4, 2.0))
    """
    points: Points = ((1, 1.0),)
    for size in sorted(set(seconds) - {1}):
        points = (*points, (size, max(points[-1][1], seconds[size] / seconds[1])))
    return points


def _prefills(models: Sequence[AudioLM], prompt: Prompt) -> float:
    """Seconds in which these are prefilled one after the other, as the engine does."""
    _wait(models[0].device)
    began_s = time.perf_counter()
    for model in models:
        model.prefill(prompt)
    _wait(models[0].device)
    return time.perf_counter() - began_s


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
