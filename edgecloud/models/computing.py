"""What a network's forwards run under."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from edgecloud.models.memory import memory_advice
from edgecloud.models.networks import Network

__all__ = ["computing"]


@contextmanager
def computing(network: Network, device: torch.device | str) -> Iterator[None]:
    """No gradients; advice where memory cannot be had; and one thread for a small network
    (:attr:`~edgecloud.models.networks.Network.small`) on a processor, whatever torch has otherwise."""
    alone = network.small and torch.device(device).type == "cpu"
    threads = torch.get_num_threads()
    with torch.inference_mode(), memory_advice(device):
        if not alone or threads == 1:
            yield
            return
        # Of this thread, as an engine's two are; it takes less than a microsecond.
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
