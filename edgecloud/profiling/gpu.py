"""Timings on a GPU besides :mod:`edgecloud.profiling.timing`: a captured step, and batches.

A CUDA graph replays a step without the host's part. It is captured at one length of the cache and
writes the same place again at each replay, so it times a step; it does not decode.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from edgecloud.contracts import Prompt
from edgecloud.models.audio_lm import AudioLM, extend_many
from edgecloud.profiling.engines import Engine

__all__ = ["Capture", "captured_step", "cuda_graph", "roofline_s", "time_batches", "time_calls"]

Capture = Callable[[Callable[[], Tensor]], Callable[[], object]]
"""Takes an operation on fixed memory and returns what repeats it."""


def cuda_graph(operation: Callable[[], Tensor]) -> Callable[[], object]:
    """``operation`` as a CUDA graph: run a few times on a side stream first, as capturing asks for."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            operation()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        operation()
    return graph.replay


def captured_step(
    engine: Engine, prompt: Prompt, capture: Capture = cuda_graph
) -> Callable[[], object]:
    """A step of ``engine`` after ``prompt``, captured: every call does the same step again.

    Raises:
        ValueError: the engine's weights are not torch's.
    """
    thinker = engine.thinker
    if thinker is None or not isinstance(engine.model, AudioLM):
        raise ValueError(f"{engine.name} has no step that can be captured")
    model = engine.model
    model.prefill(prompt)
    model.extend([7])  # room in the cache, and the table of rotations, are there before capturing
    cache, decoder = model._cache, model._decoder
    token = torch.tensor([7], device=thinker.lm_head.weight.device)
    length = prompt.length

    def step() -> Tensor:
        cache.length = length
        hidden = decoder(thinker.model.embed_tokens(token), [(cache, 1)])
        return cast("Tensor", thinker.lm_head(hidden))

    with torch.inference_mode():
        return capture(step)


def time_calls(call: Callable[[], object], *, rounds: int, device: str) -> list[float]:
    """Seconds of each of ``rounds`` calls, after one without a reading; the device waited for."""
    found: list[float] = []
    for turn in range(rounds + 1):
        _wait(device)
        began_s = time.perf_counter()
        with torch.inference_mode():
            call()
        _wait(device)
        if turn:
            found.append(time.perf_counter() - began_s)
    return found


def time_batches(
    engine: Engine, prompt: Prompt, sizes: Sequence[int], *, rounds: int, tokens: int = 1
) -> dict[int, list[float]]:
    """Seconds of a forward over ``tokens`` tokens of each of so many sessions, by their number.

    Raises:
        ValueError: the engine's sessions cannot share a forward.
    """
    if not isinstance(engine.model, AudioLM):
        raise ValueError(f"the sessions of {engine.name} cannot share a forward")
    first = engine.model
    sessions = [first.new_sequence() for _ in range(max(sizes))]
    for session in sessions:
        session.prefill(prompt)
    found: dict[int, list[float]] = {}
    for size in sizes:
        group = sessions[:size]

        def forward(group: list[AudioLM] = group) -> None:
            for session in group:
                session.rollback(prompt.length)
            extend_many(group, [[7] * tokens] * len(group))

        found[size] = time_calls(forward, rounds=rounds, device=first.device)
    return found


def roofline_s(step_bytes: int, bandwidth_gb_s: float, *, sessions_bytes: int = 0) -> float:
    """The least a step can take: its weights, and the caches of its sessions, read once.

    14 GB of weights at 2000 GB/s take 7 ms.
    """
    return (step_bytes + sessions_bytes) / 1e9 / bandwidth_gb_s


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
