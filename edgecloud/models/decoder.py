"""The text model's forward, for several sequences at once, on caches that are set aside ahead.

The weights are the family's own modules'. What is written here is the way through them: tokens of all
sequences lie in one row of ``N``, so that each matrix product is done once for all, and attention
reads each sequence's own cache. Nothing is padded, nothing that grows is copied, and a sequence's
result does not depend on which others share the forward, rounding apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgecloud.models.layout import Layout, layout_of
from edgecloud.models.networks import TextModel

__all__ = ["Decoder", "KVCache"]

_ROOM = 256
"""Tokens set aside after a prompt; a longer answer doubles what there is."""
_MOST_SCORES = 1 << 24
"""Pairs of a new token and one it attends to, up to which attention is computed at once."""


class KVCache:
    """Keys and values of one sequence, ``(layers, 2, kv heads, capacity, head dim)``.

    Appending writes behind the last token; :attr:`length` is a mark that can be set back.
    """

    def __init__(self) -> None:
        self.length = 0
        self._memory: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes set aside."""
        return 0 if self._memory is None else self._memory.nbytes

    @property
    def capacity(self) -> int:
        """Tokens set aside for."""
        return 0 if self._memory is None else self._memory.shape[3]

    def append(self, layer: int, keys_values: Tensor) -> Tensor:
        """Write ``(2, kv heads, n, head dim)`` behind the first ``length`` tokens of ``layer``.

        Returns all of the layer, ``(2, kv heads, length + n, head dim)``. :meth:`reserve` comes first.
        """
        if self._memory is None:
            raise ValueError("reserve comes before append")
        held = self._memory[layer]
        count = keys_values.shape[2]
        held.narrow(2, self.length, count).copy_(keys_values)
        return held.narrow(2, 0, self.length + count)

    def reserve(self, count: int, *, like: Tensor, shape: tuple[int, int, int]) -> None:
        """Make room for ``count`` more tokens; ``shape`` is (layers, kv heads, head dim)."""
        needed = self.length + count
        layers, heads, dim = shape
        held = self._memory
        if held is not None and needed <= held.shape[3]:
            return
        capacity = needed + _ROOM if held is None else max(needed, 2 * held.shape[3])
        self._memory = like.new_empty((layers, 2, heads, capacity, dim))
        if held is not None:
            self._memory[:, :, :, : self.length] = held[:, :, :, : self.length]


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer's weights; what is multiplied with the same input lies together."""

    attention_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    head_norms: Tensor | None
    """Weights of the norms of every query's and key's head, ``(heads + kv heads, 1, head dim)``."""
    out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor
    window: int | None
    """The last tokens that one attends to, itself among them; None: all."""


class Decoder:
    """The layers of a text model, or a ``part`` of them that lies on one device, without its embeddings
    and its output layer. What has the last layer ends with the model's norm.

    Raises:
        ModelError: the model has layers that this forward does not know.
    """

    def __init__(self, model: TextModel, part: slice = slice(None)) -> None:
        layout = layout_of(model)
        layers = list(model.layers)[part]
        self._heads: int = layout.heads
        self._kv_heads: int = layout.kv_heads
        self._head_dim: int = layout.head_dim
        self._eps: float = layout.epsilon
        windows = layout.windows[part]
        self._layers = [
            _fused(layer, layout, window) for layer, window in zip(layers, windows, strict=True)
        ]
        self._windows = tuple(dict.fromkeys(windows))
        last = layers[-1] is model.layers[-1]
        self._norm: Tensor | None = model.norm.get_parameter("weight") if last else None
        like = self._layers[0].out
        self._root_eps = torch.tensor(self._eps**0.5, device=like.device)
        self._rotary = model.rotary_emb
        self._rotary_cache: Tensor = like.new_empty((2, 0, self._head_dim))
        """Cosines and signed sines by position, ``(2, positions, head dim)``; grows as needed."""

    @property
    def device(self) -> torch.device:
        """Device of the layers."""
        return self._rotary_cache.device

    @property
    def token_bytes(self) -> int:
        """Bytes of a cache for each token that it has room for."""
        head_bytes = self._head_dim * self._rotary_cache.element_size()
        return len(self._layers) * 2 * self._kv_heads * head_bytes

    def cache(self) -> KVCache:
        """An empty cache for one sequence."""
        return KVCache()

    def reserve(self, cache: KVCache, count: int) -> None:
        """Make room in ``cache`` for ``count`` more tokens, so that it does not grow bit by bit."""
        shape = (len(self._layers), self._kv_heads, self._head_dim)
        cache.reserve(count, like=self._layers[0].out, shape=shape)

    def __call__(self, embedded: Tensor, spans: Sequence[tuple[KVCache, int]]) -> Tensor:
        """Run ``embedded (N, hidden)``: for each ``(cache, n)`` the next ``n`` tokens of a sequence.

        Returns ``(N, hidden)``, ready for the output layer; every cache holds its tokens afterwards.
        """
        for cache, count in spans:
            self.reserve(cache, count)
        cosines, sines = self._cos_sin(spans)
        masks = {
            window: [_mask(cache.length, count, embedded, window) for cache, count in spans]
            for window in self._windows
        }
        hidden = embedded
        for number, layer in enumerate(self._layers):
            normed = self._normalized(hidden, layer.attention_norm)
            rows = functional.linear(normed, layer.qkv, layer.qkv_bias)
            # Queries, keys and values, one head above the other: (heads + 2 kv heads, N, head dim).
            heads = rows.view(-1, self._heads + 2 * self._kv_heads, self._head_dim).transpose(0, 1)
            rotated = heads.narrow(0, 0, self._heads + self._kv_heads)
            if layer.head_norms is not None:
                rotated.copy_(self._normalized(rotated, layer.head_norms))
            swapped = rotated.roll(self._head_dim // 2, -1)
            rotated.mul_(cosines).addcmul_(swapped, sines)
            mixed = self._attend(number, heads, spans, masks[layer.window])
            hidden = hidden + functional.linear(mixed, layer.out)
            normed = self._normalized(hidden, layer.mlp_norm)
            gate, up = functional.linear(normed, layer.gate_up).chunk(2, dim=-1)
            hidden = hidden + functional.linear(functional.silu(gate).mul_(up), layer.down)
        for cache, count in spans:
            cache.length += count
        return hidden if self._norm is None else self._normalized(hidden, self._norm)

    def _normalized(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """``hidden (…, size)`` over the root mean square of its last axis, times ``weight``."""
        size = hidden.shape[-1]
        if hidden.device.type != "cpu" or hidden.dtype != torch.float32:
            if weight.ndim > 1:
                return torch.rms_norm(hidden, (size,), eps=self._eps).mul_(weight)
            return torch.rms_norm(hidden, (size,), weight, self._eps)
        # On a processor rms_norm is a chain of ten small operations, a quarter of a small model's step.
        length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)
        return hidden.div(length.mul_(size**-0.5).hypot_(self._root_eps)).mul_(weight)

    def _attend(
        self,
        number: int,
        heads: Tensor,
        spans: Sequence[tuple[KVCache, int]],
        masks: Sequence[Tensor | None],
    ) -> Tensor:
        """Attention of every sequence to its own past, ``(N, heads * head dim)``."""
        mixed = []
        begin = 0
        for (cache, count), mask in zip(spans, masks, strict=True):
            own = heads if len(spans) == 1 else heads.narrow(1, begin, count)
            keys_values = own.narrow(0, self._heads, 2 * self._kv_heads)
            keys, values = cache.append(
                number, keys_values.view(2, self._kv_heads, count, self._head_dim)
            ).unbind()
            queries = own.narrow(0, 0, self._heads)
            window = self._layers[number].window
            if window is not None and (unseen := cache.length + 1 - window) > 0:
                # What none of the new tokens looks back to.
                keys, values = keys[:, unseen:], values[:, unseen:]
            if mask is None or mask.shape[0] == count:
                found = self._attended(queries, keys, values, mask)
            else:
                found = self._attended_in_blocks(queries, keys, values, mask)
            mixed.append(found.transpose(0, 1))
            begin += count
        together = mixed[0] if len(mixed) == 1 else torch.cat(mixed)
        return together.reshape(heads.shape[1], -1)

    def _attended(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> Tensor:
        """``(heads, n, head dim)``; without a mask every query sees what is before it, or all if it is
        the only one."""
        return functional.scaled_dot_product_attention(
            queries[None],
            keys[None],
            values[None],
            attn_mask=mask,
            is_causal=mask is None and queries.shape[1] > 1,
            enable_gqa=self._kv_heads != self._heads,
        )[0]

    def _attended_in_blocks(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> Tensor:
        """The same for the last ``n`` of ``keys``, some queries at a time. ``mask (rows, all keys)`` is
        that of the last block; cut from the left it is that of each."""
        rows, (count, total) = mask.shape[0], (queries.shape[1], keys.shape[1])
        found = torch.empty_like(queries, memory_format=torch.contiguous_format)
        for begin in range(0, count, rows):
            size = min(rows, count - begin)
            seen = total - count + begin + size
            found[:, begin : begin + size] = self._attended(
                queries[:, begin : begin + size],
                keys[:, :seen],
                values[:, :seen],
                mask[rows - size :, total - seen :].contiguous(),
            )
        return found

    def _cos_sin(self, spans: Sequence[tuple[KVCache, int]]) -> tuple[Tensor, Tensor]:
        """The rotation of every token in ``spans``: cosines and signed sines, ``(N, head dim)``."""
        furthest = max(cache.length + count for cache, count in spans)
        # Of this call alone: another thread may put a shorter one in its place meanwhile.
        rotary_cache = self._rotary_cache
        if furthest > rotary_cache.shape[1]:
            count = max(furthest, 2 * rotary_cache.shape[1])
            positions = torch.arange(count, device=self.device)
            # One row of positions: where a family has three, those of text and audio are equal.
            cosines, sines = self._rotary(rotary_cache, positions[None])
            # What turns into the first half of a head comes from its second half, negated.
            sines[..., : self._head_dim // 2].neg_()
            self._rotary_cache = rotary_cache = torch.stack((cosines[0], sines[0]))
        parts = [rotary_cache.narrow(1, cache.length, count) for cache, count in spans]
        cosines, sines = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return cosines, sines


def _mask(past: int, count: int, like: Tensor, window: int | None = None) -> Tensor | None:
    """Attention mask of new tokens, 0 or minus infinity, ``(rows, past + count)``; None where all are seen,
    or where causal says it. With a ``window`` a token sees as many of the last tokens, itself among them,
    and columns that no row sees are left out.

    A row for each of the ``count``; where that would be more than :data:`_MOST_SCORES` numbers, for as
    many of the last ones as those allow, so that memory is linear in what is new.
    """
    if window is not None:
        past = min(past, window - 1)
    total = past + count
    rows = count if count * total <= _MOST_SCORES else max(1, _MOST_SCORES // total)
    slides = window is not None and total > window
    if count == 1 or (past == 0 and rows == count and not slides):
        return None
    mask = like.new_full((rows, total), -torch.inf).triu_(total - rows + 1)
    if window is not None and slides:
        mask += like.new_full((rows, total), -torch.inf).tril_(total - rows - window)
    return mask


def _fused(layer: Any, layout: Layout, window: int | None) -> _Layer:
    """The layer's weights. Projections of one input are laid into one matrix, and the modules' own
    parameters become views of it, so that nothing is in memory twice."""
    attention, mlp = layer.self_attn, layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = [module.bias for module in projections] if layout.biases else None
    return _Layer(
        attention_norm=layer.input_layernorm.weight,
        qkv=_together([module.weight for module in projections]),
        qkv_bias=None if biases is None else _together(biases),
        head_norms=_head_norms(attention, layout) if layout.head_norms else None,
        out=attention.o_proj.weight,
        mlp_norm=layer.post_attention_layernorm.weight,
        gate_up=_together([mlp.gate_proj.weight, mlp.up_proj.weight]),
        down=mlp.down_proj.weight,
        window=window,
    )


def _head_norms(attention: Any, layout: Layout) -> Tensor:
    queries = attention.q_norm.weight.data.expand(layout.heads, 1, -1)
    keys = attention.k_norm.weight.data.expand(layout.kv_heads, 1, -1)
    return torch.cat((queries, keys))


def _together(parameters: Sequence[Tensor]) -> Tensor:
    joined = torch.cat([parameter.data for parameter in parameters])
    begin = 0
    for parameter in parameters:
        end = begin + len(parameter)
        parameter.data = joined[begin:end]
        begin = end
    return joined
