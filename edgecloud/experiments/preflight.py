"""Checks of a run's models before any of their weights is used.

Three steps, each only when the one before found nothing: what folders, configurations, tokenizers and
devices tell, for which no file with weights is opened; whether everything fits into memory, from the
files' headers; and which weights they are (:mod:`edgecloud.models.identity`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch

from edgecloud.edge.speculation_policy import policies
from edgecloud.errors import ConfigError
from edgecloud.models.assembly import check_rows
from edgecloud.models.audio_lm import described_network, pick_device, pick_dtype
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.memory import (
    Need,
    check_cap,
    in_gb,
    needed_bytes,
    plan,
    precision_name,
    request_tokens,
    with_room,
)
from edgecloud.models.networks import Network
from edgecloud.models.pairing import check_pair, have_own_vocabularies
from edgecloud.models.placing import AUTO_MAP, placed
from edgecloud.models.precision import EDGE, check_precision, need_of, quantizable
from edgecloud.models.processor import Processor
from edgecloud.models.quantized.shapes import shapes_of
from edgecloud.models.translation import Translation, described
from edgecloud.settings.config import Config

__all__ = ["Arm", "Side", "examine"]

Messages = list[dict[str, Any]]

_SLOW_BYTES = 10**9
"""Weights from here on make a step in a precision that its processor is slow in a matter of seconds."""


@dataclass(frozen=True, slots=True)
class Side:
    """A model that a run loads on this machine, or of which it uses only the tokenizer and features
    (``weights`` False)."""

    role: Literal["edge", "cloud"]
    path: str
    device: str
    dtype: str
    quantization: str = "none"
    flags: str = EDGE
    """How the options of it begin."""
    weights: bool = True
    caches: int | None = None
    """Bytes of its sessions' caches; None: one request at a time."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One run's models: its settings, the models it loads here, what a service said of the one that
    it asks, and the requests it will make."""

    config: Config
    sides: tuple[Side, ...]
    remote: Mapping[str, Any] | None
    conversations: Sequence[Sequence[Messages]]


@dataclass(frozen=True, slots=True)
class _Opened:
    side: Side
    checkpoint: Checkpoint
    processor: Processor
    bits: int | None
    network: Network | None
    """The network on no device; None where the weights are quantized, or not loaded."""
    window: int | None = None
    """Of a quantised model: the tokens that it can take, where its attention would slide beyond them."""


def examine(arms: Sequence[Arm], *, together: bool, say: Callable[[str], None]) -> None:
    """Check ``arms``, which are loaded at once (``together``) or one after the other. ``say`` is told
    the plan of memory, and what would be faster.

    Raises:
        EdgeCloudError: what is wrong, in one line.
    """
    opened = [_without_weights(arm, say) for arm in arms]
    needs = [_needs(arm, sides) for arm, sides in zip(arms, opened, strict=True)]
    said = []
    if together:
        said.append(plan([need for some in needs for need in some]))
    else:
        said += [plan(some) for some in needs if some]
    for line in dict.fromkeys(said):
        say(f"memory: {line}")
    hints = [
        hint
        for arm, sides in zip(arms, opened, strict=True)
        for hint in (_unheeded(arm.config, sides[-1]), *map(_slow, sides))
    ]
    for hint in dict.fromkeys(hints):
        if hint is not None:
            say(hint)
    for path in dict.fromkeys(
        found.side.path for sides in opened for found in sides if found.side.weights
    ):
        Checkpoint.open(path).fingerprint()


def _without_weights(arm: Arm, say: Callable[[str], None]) -> list[_Opened]:
    """All that is known of a run's models from everything but their weights."""
    config = arm.config
    if config.gate.name == "calibrated":
        policies(config)
    opened = [_open(side) for side in arm.sides]
    for found, conversations in zip(opened, arm.conversations, strict=True):
        if config.data.kind != "text" and not found.processor.accepts_audio:
            raise ConfigError(
                f"model {found.side.path} takes text alone; give --dataset-type text and a manifest of "
                "prompts"
            )
        for messages in conversations[:1]:
            found.processor.rendered(messages)
        if found.bits is not None and found.window is not None and config.data.kind == "text":
            _check_window(found, conversations, found.window, config.generation.max_new_tokens)
    if opened and opened[0].side.role == "edge":
        _check_together(arm, [found.processor for found in opened], say)
    return opened


def _check_together(arm: Arm, processors: Sequence[Processor], say: Callable[[str], None]) -> None:
    """Check that an edge and its cloud, here, elsewhere or both, have one vocabulary, or some of it in common."""
    facts: list[Mapping[str, Any]] = [
        {
            "shared": one.shared(),
            "chat_template": one.chat_template,
            # An older service says no more of its tokenizer than this.
            "tokenizer_sha256": one.fingerprint(),
        }
        for one in processors
    ]
    if len(facts) == 2 and have_own_vocabularies(facts[0]["shared"], facts[1]["shared"]):
        edge, cloud = (one.vocabulary() for one in processors)
        say(described(Translation.between(edge, cloud).to_json()))
    elif len(facts) == 2:
        check_pair(facts[0], facts[1], processors[0], arm.conversations[0])
    if arm.remote is not None:
        check_pair(facts[-1], arm.remote, processors[-1], arm.conversations[-1])


@lru_cache(maxsize=16)
def _open(side: Side) -> _Opened:
    checkpoint = Checkpoint.open(side.path)
    bits = None
    if side.weights:
        bits = check_precision(
            checkpoint,
            device=side.device,
            dtype=side.dtype,
            quantization=side.quantization,
            flags=side.flags,
        )
        if bits is not None:
            # It says so itself where the extra is missing.
            import_module("edgecloud.models.quantized.openvino.runtime")
    device = pick_device(side.device) if side.weights else "cpu"
    processor = checkpoint.processor()
    network = None
    window = None
    if side.weights:
        network = described_network(checkpoint, _dtype(side, device))
        check_rows(checkpoint, processor.vocab_size, network.lm_head.out_features)
        if bits is not None:
            window, network = shapes_of(network)[0].window, None
    return _Opened(side, checkpoint, processor, bits, network, window)


def _check_window(
    found: _Opened, conversations: Sequence[Messages], window: int, answer: int
) -> None:
    """Raises ConfigError where the longest of the requests and an answer of ``answer`` tokens are more than a
    quantised model can take."""
    longest = max(map(found.processor.length, conversations), default=0)
    if longest + answer > window:
        raise ConfigError(
            f"model {found.side.path} attends to its last {window} tokens, and quantised it takes no more; the "
            f"longest request has {longest}, so give --max-new-tokens {window - longest}"
            if longest < window
            else f"model {found.side.path} attends to its last {window} tokens, and quantised it takes no more; the "
            f"longest request has {longest}: leave out {found.side.flags}quantization"
        )


def _dtype(side: Side, device: str) -> torch.dtype:
    return pick_dtype("bfloat16" if side.quantization == "bf16" else side.dtype, device)


def _needs(arm: Arm, opened: Sequence[_Opened]) -> list[Need]:
    tokens = request_tokens(arm.config)
    found = [
        with_room(
            _need(one, copies=arm.config.run.workers),
            one.checkpoint,
            tokens=tokens,
            caches=one.side.caches,
        )
        for one in opened
        if one.side.weights
    ]
    for need in found:
        if need.side == "edge":
            check_cap(need, arm.config.caps.memory_gb)
    return found


def _need(found: _Opened, *, copies: int) -> Need:
    side, checkpoint = found.side, found.checkpoint
    place = None
    if found.network is not None and not checkpoint.family.fast:
        # Not above: few runs need it.
        from edgecloud.models.general import check_weights

        check_weights(checkpoint, side.device)
    elif found.network is not None:
        checkpoint.check(found.network)
        if side.device == AUTO_MAP:
            place = placed(found.network, AUTO_MAP, _dtype(side, AUTO_MAP))
    return need_of(
        checkpoint,
        device=side.device,
        dtype=side.dtype,
        quantization=side.quantization,
        side=side.role,
        flags=side.flags,
        place=place,
        copies=copies,
    )


def _unheeded(config: Config, found: _Opened) -> str | None:
    """What the model whose text is written asks for in its generation_config.json and this run does not do; what
    this run sets by itself is its own to know."""
    asked = found.checkpoint.generation
    if not asked:
        return None
    sampling = config.sampling
    flags = (
        ("--repetition-penalty", asked.get("repetition_penalty"), sampling.repetition_penalty, 1),
        ("--no-repeat-ngram", asked.get("no_repeat_ngram_size"), sampling.no_repeat_ngram, 0),
    )
    told = [
        f"{flag} {wanted:g}"
        for flag, wanted, here, none in flags
        if wanted is not None and wanted not in (here, none)
    ]
    if not told:
        return None
    return (
        f"note: model {found.side.path} is published with {' '.join(told)} (generation_config.json), as transformers' "
        "generate applies it; this run does not: give it to do the same"
    )


def _slow(found: _Opened) -> str | None:
    """A hint where a large model runs in a precision for which its processor has no units."""
    side = found.side
    if found.network is None or pick_device(side.device) != "cpu":
        return None
    from edgecloud.models.quantized.convert import quantized_bytes

    dtype = _dtype(side, "cpu")
    needed = sum(needed_bytes(found.checkpoint, dtype).values())
    fast = dtype == torch.bfloat16 and _has_bfloat16()
    if needed < _SLOW_BYTES or fast or not quantizable(found.checkpoint):
        return None
    return (
        f"hint: on a CPU {precision_name(dtype)} is 4 to 17 times slower than {side.flags}quantization int8, "
        f"which needs {in_gb(quantized_bytes(found.checkpoint, 8))}"
    )


def _has_bfloat16() -> bool:
    """True when this processor multiplies bfloat16 by itself."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return bool({"amx_bf16", "avx512_bf16", "bf16"} & set(text.split()))
