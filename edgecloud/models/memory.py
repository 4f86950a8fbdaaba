"""Memory that weights need and that there is: one plan before any is loaded; and what it means
when a forward finds too little of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from edgecloud.errors import OutOfMemoryError
from edgecloud.hardware.room import free_memory
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.settings.config import Config

__all__ = [
    "RUNTIME_BYTES",
    "Need",
    "cache_bytes",
    "check_cap",
    "check_memory",
    "free_bytes",
    "in_gb",
    "memory_advice",
    "needed_bytes",
    "out_of_memory",
    "plan",
    "precision_name",
    "request_tokens",
    "with_room",
]

_GB = 10**9
_AUDIO_TOKENS_PER_S = 25
_LONGEST_AUDIO_S = 300.0
"""What the families take; ``--max-audio-s`` may be anything."""
_WORDS = 512
"""Tokens of instructions, and those that are set aside behind a prompt."""
RUNTIME_BYTES = 600_000_000
"""What a process holds besides weights and caches: interpreter, libraries, buffers. The embedded edge, after three
captions, has 0.43 GB resident on torch and 0.58 GB on the int8 engine (x86-64 Linux, torch 2.13)."""
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
    ``copies`` processes hold them. ``beside`` is what each of those holds besides, by device: caches,
    libraries, buffers. ``ways`` are settings with which they would take less."""

    side: str
    precision: str
    by_device: Mapping[str, int]
    copies: int = 1
    beside: Mapping[str, int] = field(default_factory=dict)
    ways: tuple[str, ...] = ()

    def __str__(self) -> str:
        times = f"{self.copies} × " if self.copies > 1 else ""
        return f"{times}{self.side} {self.precision} {in_gb(sum(self.by_device.values()))}"

    def on(self, device: str) -> Need:
        """The part of it that lies on ``device``."""
        return replace(
            self,
            by_device={device: self.by_device.get(device, 0)},
            beside={device: self.beside.get(device, 0)},
        )


def plan(needs: Sequence[Need], *, room: Callable[[str], int] | None = None) -> str:
    """The memory to be loaded at once and the memory that is free, in a line for each device.

    ``edge int8 4.4 GB + cloud bfloat16 8.1 GB of 22.0 GB free, besides 1.1 GB for caches and libraries``

    Raises:
        OutOfMemoryError: it does not fit together; says what each needs and what there is.
    """
    lines = []
    for device in dict.fromkeys(
        device for need in needs for device in (*need.by_device, *need.beside)
    ):
        here = [need.on(device) for need in needs if need.by_device.get(device)]
        beside = sum(need.copies * need.beside.get(device, 0) for need in needs)
        free = (room or free_bytes)(device)
        where = "" if device == "cpu" else f" on {device}"
        line = f"{' + '.join(map(str, here)) or 'no weights'} of {in_gb(free)} free{where}"
        if beside:
            line += f", besides {in_gb(beside)} for caches and libraries"
        if sum(need.by_device[device] * need.copies for need in here) + beside > free:
            raise OutOfMemoryError(
                f"the weights do not fit into memory{' together' if len(here) > 1 else ''}: {line}; "
                f"{_advice(here)}"
            )
        if here:
            lines.append(line)
    return "; ".join(lines)


def check_cap(need: Need, cap_gb: float) -> None:
    """Check that the edge fits under its cap (``--max-memory-gb``; 0: there is none), with what its process
    holds besides weights.

    Raises:
        OutOfMemoryError: they do not.
    """
    weights, beside = need.by_device.get("cpu", 0), need.beside.get("cpu", 0)
    if cap_gb > 0 and weights + beside > cap_gb * _GB:
        more = f" and {in_gb(beside)} for caches and libraries" if beside else ""
        raise OutOfMemoryError(
            f"the edge's weights need {in_gb(weights)}{more} as {need.precision}, more than its cap of "
            f"{cap_gb:g} GB; raise --max-memory-gb (0: none), or {_advice([need])}"
        )


def with_room(
    need: Need, checkpoint: Checkpoint, *, tokens: int, caches: int | None = None
) -> Need:
    """``need`` with what its process holds beside the weights: :data:`RUNTIME_BYTES` of this machine's
    memory, and where the weights lie the cache of one sequence of ``tokens``, or ``caches`` bytes."""
    ways = need.ways
    if caches is not None:
        ways = (*ways, "a smaller --max-memory-gb")
    else:
        width = 4 if need.precision == "float32" or need.precision.startswith("int") else 2
        caches = cache_bytes(checkpoint, tokens=tokens, width=width)
    total = sum(need.by_device.values())
    beside = {
        device: caches * held // total if total else 0 for device, held in need.by_device.items()
    }
    beside["cpu"] = beside.get("cpu", 0) + RUNTIME_BYTES
    return replace(need, beside=beside, ways=ways)


def request_tokens(config: Config) -> int:
    """Tokens that a cache is set aside for, for the longest request that ``config`` allows."""
    audio_s = 0.0 if config.data.kind == "text" else min(config.data.max_audio_s, _LONGEST_AUDIO_S)
    return math.ceil(_AUDIO_TOKENS_PER_S * audio_s) + _WORDS + config.generation.max_new_tokens


def cache_bytes(checkpoint: Checkpoint, *, tokens: int, width: int) -> int:
    """Bytes of the keys and values of ``tokens``, ``width`` bytes a number, by config.json; what it leaves
    out is as its family has it."""
    section: Any = checkpoint.config
    for part in ("thinker_config", "text_config"):
        section = section.get(part, section)

    def size(name: str, otherwise: int) -> int:
        found = section.get(name)
        return found if isinstance(found, int) and found > 0 else otherwise

    # What published configurations leave out: Qwen2's own values.
    heads = size("num_attention_heads", 32)
    dim = size("head_dim", size("hidden_size", 4096) // heads)
    kv_heads = size("num_key_value_heads", heads)
    return 2 * size("num_hidden_layers", 32) * kv_heads * dim * width * tokens


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
