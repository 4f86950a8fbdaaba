"""How much memory a checkpoint's weights need, and how much there is, known before any is loaded; and
what it means when a forward finds too little of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from edgecloud.errors import OutOfMemoryError
from edgecloud.models.checkpoint import Checkpoint

__all__ = ["check_memory", "free_bytes", "memory_advice", "needed_bytes", "out_of_memory"]

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_GB = 10**9
_NO_ROOM = (
    "DefaultCPUAllocator",
    "allocate memory",
    "bad_alloc",
    "Storage size calculation overflowed",
    "numel: integer multiplication overflow",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA out of memory",
)
"""What those libraries say that raise a plain RuntimeError where they cannot allocate."""


def needed_bytes(
    checkpoint: Checkpoint, dtype: torch.dtype, place: Callable[[str], str] = lambda _: "cpu"
) -> dict[str, int]:
    """Bytes of the weights by device, from the shards' headers: all that ``place`` puts there, as
    ``dtype``, and the largest tensor once more, which is read before it is put.

    Raises:
        CheckpointError: a shard is broken or cut off.
    """
    needed: Counter[str] = Counter()
    largest: Counter[str] = Counter()
    for parameter, stored in checkpoint.stored().items():
        size = math.prod(stored.shape) * dtype.itemsize
        device = place(parameter)
        needed[device] += size
        largest[device] = max(largest[device], size)
    return dict(needed + largest)


def check_memory(checkpoint: Checkpoint, dtype: torch.dtype, place: Callable[[str], str]) -> None:
    """Whether the weights fit where ``place`` puts them.

    Raises:
        OutOfMemoryError: they do not; says what they need and what there is.
        CheckpointError: a shard is broken or cut off.
    """
    for device, needed in needed_bytes(checkpoint, dtype, place).items():
        free = free_bytes(device)
        if needed > free:
            name = str(dtype).removeprefix("torch.")
            advice = "bfloat16 takes half, " if dtype.itemsize > 2 else ""
            raise OutOfMemoryError(
                f"model {checkpoint.path}: its weights need {needed / _GB:.1f} GB on {device} as "
                f"{name}, {free / _GB:.1f} GB are free there; {advice}or choose a smaller model or "
                "another device"
            )


def free_bytes(device: str) -> int:
    """What can still be taken on ``device``: of a CUDA device, or of this machine or container."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(torch.device(device))[0]
    free = psutil.virtual_memory().available
    for path in map(Path, _CGROUP_LIMITS):
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal():
            free = min(free, int(text))
    return free


def out_of_memory(error: Exception, where: str = "the cloud") -> OutOfMemoryError | None:
    """What ``error`` means if it says, in whatever way, that memory could not be had ``where``."""
    if not isinstance(error, torch.OutOfMemoryError | MemoryError) and not (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_ROOM)
    ):
        return None
    torch.cuda.empty_cache()  # nothing where CUDA is not in use
    other = ", or --cloud-device cpu" if where.startswith("cuda") else " or text"
    return OutOfMemoryError(
        f"{where} is out of memory; use a smaller model or precision (--cloud-dtype float16), "
        f"a shorter recording{other}"
    )


@contextmanager
def memory_advice(where: str | torch.device) -> Iterator[None]:
    """Turn every way of saying that memory cannot be had into one line of advice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # CUDA's own error is a RuntimeError too
        advice = out_of_memory(error, str(where))
        if advice is None:
            raise
        raise advice from error
