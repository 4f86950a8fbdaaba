"""Engines to be measured at a shape: one a precision, and ``transformers`` itself beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from edgecloud.contracts import LOG_MEL, Model, Prompt
from edgecloud.errors import ModelError
from edgecloud.models.assembly import on_meta
from edgecloud.models.audio_lm import AudioLM, pick_dtype
from edgecloud.models.cached import cache_argument
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.decoder import Decoder
from edgecloud.models.features import CONTEXT_FRAMES
from edgecloud.models.loading import load
from edgecloud.models.networks import Network
from edgecloud.models.shapes import Shape, family_thinker, meta_thinker, random_thinker
from edgecloud.models.thinker import Thinker

if TYPE_CHECKING:
    from edgecloud.models.quantized.engine import Kernels
    from edgecloud.models.quantized.model import QuantizedLM

__all__ = [
    "BASELINE",
    "QUANTIZED",
    "Engine",
    "Family",
    "baseline",
    "build",
    "caption_of",
    "loaded",
    "prompt_of",
]

BASELINE = "transformers"
"""The family's own model in float32 (float16 on a GPU), run by ``transformers``."""
QUANTIZED: dict[str, tuple[int, Kernels | None]] = {
    "int8": (8, None),
    "int4": (4, None),
    "int8-openvino": (8, "openvino"),
    "int4-openvino": (4, "openvino"),
}
"""Bits, and what runs the text model where it is not to be the fastest there is."""
_TEXT_TOKENS = 40


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to run a model. ``encode_audio`` runs the audio tower alone, where there is one; ``caption``
    writes so many tokens from a prompt on; ``step_bytes`` of weights are read in a step; ``runner`` multiplies them."""

    name: str
    shape: Shape
    model: Model
    encode_audio: Callable[[NDArray[np.float16]], object]
    caption: Callable[[Prompt, int], object]
    step_bytes: int
    thinker: Network | None = None
    """The weights, where others can share them."""
    runner: str = f"torch {torch.__version__}"


def prompt_of(of: Shape, audio_s: float) -> Prompt:
    """A prompt with so much noise for audio, and forty tokens of text around it; of a model that takes text
    alone as many tokens of text."""
    frames = round(audio_s * 100)
    before, after = range(1, _TEXT_TOKENS // 2), range(1, _TEXT_TOKENS // 2)
    if not of.accepts_audio:
        return Prompt((*before, *[0] * (of.audio_tokens(frames) + 2), *after))
    columns = frames + (CONTEXT_FRAMES if of.pads_audio else 0)
    features = np.random.default_rng(0).standard_normal((of.mel_bins, columns)).astype(np.float16)
    # As the published tokenizers of Qwen have them.
    opens, closes = ((of.audio_token + after) % of.vocab_size for after in (1, 2))
    audio = [opens, *[of.audio_token] * of.audio_tokens(frames), closes]
    return Prompt((*before, *audio, *after), {LOG_MEL: features})


def caption_of(model: Model, prompt: Prompt, tokens: int) -> None:
    """Write ``tokens`` tokens, each the likeliest, as edge-only decoding does."""
    logits = model.prefill(prompt)
    for _ in range(tokens):
        logits = model.extend([int(logits.reshape(-1, logits.shape[-1])[-1].argmax())])


def loaded(path: str, name: str, *, device: str = "cpu") -> Engine:
    """The engine of that precision on the checkpoint in a folder.

    Raises:
        EdgeCloudError: the checkpoint or the device cannot be used.
    """
    checkpoint = Checkpoint.open(path)
    if not checkpoint.family.fast:
        raise ModelError(
            f"model {path} runs on the general adapter; only families of the fast path are measured"
        )
    of = Shape.of(checkpoint.path.name, on_meta(checkpoint, torch.float32))
    if name in QUANTIZED:
        from edgecloud.models.quantized.loading import load_quantized

        bits, kernels = QUANTIZED[name]
        quantized = load_quantized(checkpoint, bits=bits, vocab_size=of.vocab_size, kernels=kernels)
        return _quantized_engine(name, of, quantized)
    own = load(path, path, device=device, dtype=name).model
    assert isinstance(own, AudioLM)
    return _torch_engine(name, of, own._thinker, own)


def build(name: str, of: Shape, *, device: str = "cpu", share: Thinker | None = None) -> Engine:
    """The engine of that precision at a shape: ``float32``, ``bfloat16``, ``float16``, or one of
    ``QUANTIZED``. ``share`` gives it weights of its precision that are there already.

    Raises:
        ModelError: the precision is unknown, or its engine is not installed.
    """
    if name in QUANTIZED:
        from edgecloud.models.quantized.random import random_model

        bits, kernels = QUANTIZED[name]
        quantized = random_model(meta_thinker(of), bits=bits, kernels=kernels)
        return _quantized_engine(name, of, quantized)
    thinker = share or random_thinker(of, dtype=pick_dtype(name, device), device=device)
    model = AudioLM(thinker, Decoder(thinker.model), vocab_size=of.vocab_size)
    return _torch_engine(name, of, thinker, model)


def _quantized_engine(name: str, of: Shape, model: QuantizedLM) -> Engine:
    def caption(prompt: Prompt, tokens: int) -> None:
        caption_of(model, prompt, tokens)

    return Engine(
        name, of, model, model.encode_audio, caption, model.weight_bytes, runner=model.engine_name
    )


def _torch_engine(name: str, of: Shape, thinker: Network, model: AudioLM) -> Engine:
    def encode_audio(features: NDArray[np.float16]) -> None:
        with torch.inference_mode():
            frames = features.shape[1] - (CONTEXT_FRAMES if of.pads_audio else 0)
            thinker.embed(Prompt((of.audio_token,) * of.audio_tokens(frames), {LOG_MEL: features}))

    return Engine(
        name,
        of,
        model,
        encode_audio,
        lambda prompt, tokens: caption_of(model, prompt, tokens),
        of.step_weights * thinker.lm_head.weight.dtype.itemsize,
        thinker,
    )


def baseline(own: Engine) -> Engine:
    """``transformers`` on the weights of ``own``."""
    if not isinstance(own.thinker, Thinker):
        raise ValueError(f"the weights of {own.name} are no thinker's in transformers")
    family = Family(own.thinker, own.shape)
    return Engine(BASELINE, own.shape, family, family.encode_audio, family.caption, own.step_bytes)


class Family:
    """The family's own model as a :class:`edgecloud.contracts.Model`, for comparison of times.

    It is given positions and no attention mask in a step, which is the fastest it can be called.
    """

    cache_bytes = 0

    def __init__(self, thinker: Thinker, of: Shape) -> None:
        self._shape = of
        self._thinker = thinker
        self._whole: Any = family_thinker(thinker, of)
        self._cache = DynamicCache()
        self._cache_name = cache_argument(self._whole)

    def _cached(self) -> dict[str, Any]:
        return {self._cache_name: self._cache, "use_cache": True}

    @property
    def vocab_size(self) -> int:
        """V, the last dimension of the logits."""
        return self._shape.vocab_size

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return int(self._cache.get_seq_length())

    def prefill(self, prompt: Prompt) -> Tensor:
        """As :meth:`edgecloud.contracts.Model.prefill`, by ``transformers``."""
        self._cache = DynamicCache()
        with torch.inference_mode():
            found = self._whole(**self._inputs(prompt), **self._cached())
        logits: Tensor = found.logits[0, -1].float()
        return logits

    def prefill_in_parts(self, prompt: Prompt, most: int) -> Iterator[Tensor | None]:
        """All at once: the family's own model is not called otherwise."""
        yield self.prefill(prompt)

    def extend(self, tokens: Sequence[int]) -> Tensor:
        """As :meth:`edgecloud.contracts.Model.extend`, by ``transformers``."""
        ids = torch.tensor([list(tokens)], device=self._device)
        positions = torch.arange(self.length, self.length + len(tokens), device=self._device)
        with torch.inference_mode():
            found = self._whole(
                input_ids=ids,
                position_ids=positions.expand(3, 1, -1),
                **self._cached(),
            )
        logits: Tensor = found.logits[0].float()
        return logits

    def rollback(self, length: int) -> None:
        """Crop the cache to ``length`` tokens."""
        if length < self.length:
            self._cache.crop(length - self.length)

    def new_sequence(self) -> Family:
        """A new sequence on the same weights."""
        return Family(self._thinker, self._shape)

    def encode_audio(self, features: NDArray[np.float16]) -> None:
        """The audio tower alone."""
        given = self._audio(features)
        with torch.inference_mode():
            self._whole.get_audio_features(**given)

    def caption(self, prompt: Prompt, tokens: int) -> None:
        """``generate``, with exactly so many tokens."""
        with torch.inference_mode():
            self._whole.generate(
                **self._inputs(prompt),
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
                pad_token_id=0,
            )

    @property
    def _device(self) -> torch.device:
        return self._thinker.lm_head.weight.device

    def _inputs(self, prompt: Prompt) -> dict[str, Tensor]:
        ids = torch.tensor([prompt.token_ids], device=self._device)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return given if prompt.features is None else {**given, **self._audio(prompt.features)}

    def _audio(self, features: NDArray[np.float16]) -> dict[str, Tensor]:
        dtype = self._thinker.lm_head.weight.dtype
        return {
            "input_features": torch.from_numpy(features).to(self._device, dtype)[None],
            "feature_attention_mask": torch.ones(
                (1, features.shape[1]), dtype=torch.long, device=self._device
            ),
        }
