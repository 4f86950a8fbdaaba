"""Memory that weights need and that there is: one plan before any is loaded; and what it means
when a forward finds too little of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from edgecloud.errors import OutOfMemoryError
from edgecloud.hardware.room import free_memory
from edgecloud.models.checkpoint import Checkpoint

__all__ = [
    "Need",
    "check_cap",
    "check_memory",
    "free_bytes",
    "in_gb",
    "memory_advice",
    "needed_bytes",
    "out_of_memory",
    "plan",
    "precision_name",
]

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
"""Messages of libraries that raise a plain RuntimeError where they cannot allocate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Memory of the weights of ``side`` ("edge", "cloud"), in bytes by device, in their real precision;
    ``copies`` processes hold them. ``ways`` are settings with which they would take less."""

    side: str
    precision: str
    by_device: Mapping[str, int]
    copies: int = 1
    ways: tuple[str, ...] = ()

    def __str__(self) -> str:
        times = f"{self.copies} × " if self.copies > 1 else ""
        return f"{times}{self.side} {self.precision} {in_gb(sum(self.by_device.values()))}"


def plan(needs: Sequence[Need], *, room: Callable[[str], int] | None = None) -> str:
    """The memory to be loaded at once and the memory that is free, in a line for each device.

    ``edge int8 4.4 GB + cloud bfloat16 8.1 GB of 22.0 GB free``

    Raises:
        OutOfMemoryError: it does not fit together; says what each needs and what there is.
    """
    lines = []
    for device in dict.fromkeys(device for need in needs for device in need.by_device):
        here = [
            Need(
                side=need.side,
                precision=need.precision,
                by_device={device: need.by_device[device]},
                copies=need.copies,
                ways=need.ways,
            )
            for need in needs
            if device in need.by_device
        ]
        free = (room or free_bytes)(device)
        where = "" if device == "cpu" else f" on {device}"
        line = f"{' + '.join(map(str, here))} of {in_gb(free)} free{where}"
        if sum(need.by_device[device] * need.copies for need in here) > free:
            raise OutOfMemoryError(
                f"the weights do not fit into memory{' together' if len(here) > 1 else ''}: {line}; "
                f"{_advice(here)}"
            )
        lines.append(line)
    return "; ".join(lines)


def check_cap(need: Need, cap_gb: float) -> None:
    """Check that the edge's weights fit under its cap (``--max-memory-gb``; 0: there is none).

    Raises:
        OutOfMemoryError: they do not.
    """
    needed = need.by_device.get("cpu", 0)
    if cap_gb > 0 and needed > cap_gb * _GB:
        raise OutOfMemoryError(
            f"the edge's weights need {in_gb(needed)} as {need.precision}, more than its cap of "
            f"{cap_gb:g} GB; raise --max-memory-gb (0: none), or {_advice([need])}"
        )


def needed_bytes(
    checkpoint: Checkpoint, dtype: torch.dtype, place: Callable[[str], str] = lambda _: "cpu"
) -> dict[str, int]:
    """Bytes of the weights by device, from the shards' headers: all that ``place`` puts there, as
    ``dtype``. What is read lies on the pages of the shards, which the system can take back.

    Raises:
        CheckpointError: a shard is broken or cut off.
    """
    needed: Counter[str] = Counter()
    for parameter, stored in checkpoint.stored().items():
        needed[place(parameter)] += math.prod(stored.shape) * dtype.itemsize
    return dict(needed)


def check_memory(checkpoint: Checkpoint, dtype: torch.dtype, place: Callable[[str], str]) -> None:
    """Check that the weights fit where ``place`` puts them.

    Raises:
        OutOfMemoryError: they do not; says what they need and what there is.
        CheckpointError: a shard is broken or cut off.
    """
    for device, needed in needed_bytes(checkpoint, dtype, place).items():
        free = free_bytes(device)
        if needed > free:
            advice = "bfloat16 takes half, " if dtype.itemsize > 2 else ""
            raise OutOfMemoryError(
                f"model {checkpoint.path}: its weights need {in_gb(needed)} on {device} as "
                f"{precision_name(dtype)}, {in_gb(free)} are free there; {advice}or choose a smaller "
                "model or another device"
            )


def free_bytes(device: str) -> int:
    """Bytes that can still be taken on ``device``: of a CUDA device, or of this machine, container or job."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(torch.device(device))[0]
    return free_memory()


def out_of_memory(error: Exception, where: str = "the cloud") -> OutOfMemoryError | None:
    """The error of our own for ``error`` if it says, in whatever way, that memory could not be had
    ``where``."""
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


def precision_name(dtype: torch.dtype) -> str:
    """``bfloat16``."""
    return str(dtype).removeprefix("torch.")


def in_gb(nbytes: int) -> str:
    """Bytes in GB for people.

    >>> in_gb(4_370_000_000), in_gb(2_100_000), in_gb(0)
    ('4.4 GB', '0.0021 GB', '0.0 GB')
    """
    value = nbytes / _GB
    return f"{value:.1f} GB" if value >= 0.1 or value == 0 else f"{value:.2g} GB"


def _advice(needs: Sequence[Need]) -> str:
    """Advice on settings with which less is needed."""
    ways = [way for need in needs for way in need.ways]
    if any(need.copies > 1 for need in needs):
        ways.append("fewer --workers")
    return ", ".join([*dict.fromkeys(ways), "smaller models", "or another device"])
