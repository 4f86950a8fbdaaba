"""What a request takes outside the models' forwards: choosing, gate, verdict, messages, bookkeeping."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig

from bench.assisted import Ours, Way
from edgecloud.contracts import Model, Prompt
from edgecloud.decoding.stopping import Stopping
from edgecloud.models.audio_lm import AudioLM
from edgecloud.models.decoder import Decoder
from edgecloud.models.thinker import Thinker

__all__ = ["LAYERS", "Outside", "outside", "shape_3b"]

LAYERS = 2
"""Of the 3B shape's 36: with fewer layers the forwards are shorter, so the share outside them is an
upper bound of the whole model's."""
_VOCABULARY = 151936


@dataclass(slots=True)
class Tally:
    """Seconds in forwards, and how many there were."""

    inside_s: float = 0.0
    forwards: int = 0


@dataclass(frozen=True, slots=True)
class Metered:
    """A model whose forwards are timed."""

    model: Model
    tally: Tally = field(default_factory=Tally)

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    @property
    def length(self) -> int:
        return self.model.length

    @property
    def cache_bytes(self) -> int:
        return self.model.cache_bytes

    def prefill(self, prompt: Prompt) -> Tensor:
        return self._timed(lambda: self.model.prefill(prompt))

    def extend(self, tokens: Sequence[int]) -> Tensor:
        return self._timed(lambda: self.model.extend(tokens))

    def rollback(self, length: int) -> None:
        self.model.rollback(length)

    def new_sequence(self) -> Metered:
        return Metered(self.model.new_sequence(), self.tally)

    def _timed(self, forward: Callable[[], Tensor]) -> Tensor:
        began = time.perf_counter()
        logits = forward()
        self.tally.inside_s += time.perf_counter() - began
        self.tally.forwards += 1
        return logits


@dataclass(frozen=True, slots=True)
class Outside:
    """Medians over requests: microseconds outside forwards for each output token, and for each forward
    of the verifier (of the one model, where there is no verifier); their share of the whole time."""

    per_token_us: float
    per_call_us: float
    share: float
    request_s: float
    tokens: int
    """Of all requests together."""


def outside(
    edge: Model, cloud: Model, stopping: Stopping, prompts: Sequence[Prompt], *, k: int
) -> dict[str, Outside]:
    """:class:`Outside` of our ways of decoding, each over ``prompts``, in turn; ``speculative, messages``
    packs and unpacks every request and answer, as for a cloud elsewhere."""
    on_edge, on_cloud = Metered(edge), Metered(cloud)
    ours = Ours(on_edge, on_cloud, stopping)
    ways: dict[str, tuple[Way, Tally]] = {
        "edge": (ours.edge, on_edge.tally),
        "cloud": (ours.cloud, on_cloud.tally),
        "speculative": (ours.speculative(k), on_cloud.tally),
        "speculative, messages": (ours.speculative(k, messages=True), on_cloud.tally),
    }
    found: dict[str, list[tuple[float, float, int, int]]] = {name: [] for name in ways}
    for way, _ in ways.values():
        way(prompts[0])
    for prompt in prompts:
        for name, (way, counted) in ways.items():
            inside_s = on_edge.tally.inside_s + on_cloud.tally.inside_s
            calls = counted.forwards
            began = time.perf_counter()
            tokens = len(way(prompt))
            total_s = time.perf_counter() - began
            inside_s = on_edge.tally.inside_s + on_cloud.tally.inside_s - inside_s
            found[name].append((total_s, total_s - inside_s, tokens, counted.forwards - calls))
    return {
        name: Outside(
            per_token_us=median(1e6 * out_s / tokens for _, out_s, tokens, _ in rows),
            per_call_us=median(1e6 * out_s / calls for _, out_s, _, calls in rows),
            share=median(out_s / total_s for total_s, out_s, _, _ in rows),
            request_s=median(total_s for total_s, *_ in rows),
            tokens=sum(tokens for _, _, tokens, _ in rows),
        )
        for name, rows in found.items()
    }


def shape_3b() -> AudioLM:
    """A thinker with the 3B model's text layers, :data:`LAYERS` of them, its whole vocabulary, random
    weights in float32 (3.1 GB), and next to no audio tower."""
    config = Qwen2_5OmniThinkerConfig(
        text_config={
            "vocab_size": _VOCABULARY,
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "rope_theta": 1e6,
            "rope_scaling": {
                "mrope_section": [16, 24, 24],
                "rope_type": "default",
                "type": "default",
            },
            "tie_word_embeddings": False,
            "use_sliding_window": False,
        },
        audio_config={
            "encoder_layers": 1,
            "encoder_attention_heads": 1,
            "encoder_ffn_dim": 16,
            "d_model": 16,
            "output_dim": 2048,
        },
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        thinker = Thinker(config)
    thinker.requires_grad_(requires_grad=False).train(mode=False)
    return AudioLM(thinker, Decoder(thinker.model), vocab_size=_VOCABULARY)
