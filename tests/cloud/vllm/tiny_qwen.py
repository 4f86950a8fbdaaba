"""A Qwen2.5 text model of a few thousand random weights, on disk for vLLM and here as the verifier
that vLLM's answers are held against."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

from edgecloud.contracts import Prompt
from edgecloud.embedded.factory import tokenizer as tok
from edgecloud.models.cached import cache_argument

__all__ = ["QwenText", "make_text_checkpoint"]


def make_text_checkpoint(folder: Path, tokenizer: Tokenizer, *, seed: int) -> Path:
    """A checkpoint in the published layout, its weights spread widely enough for clear choices."""
    size = tokenizer.get_vocab_size()
    end = tokenizer.token_to_id(tok.END_OF_TURN)
    config = Qwen2Config(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=end,
        dtype="float32",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.3)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tok.save_tokenizer(tokenizer, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "Qwen2Tokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


class QwenText:
    """A :class:`edgecloud.contracts.Model` on transformers' own class, in float32."""

    def __init__(self, model: Qwen2ForCausalLM) -> None:
        self._model = model
        self._cache = DynamicCache(config=model.config)
        self._prompt_length = 0

    @classmethod
    def load(cls, folder: Path) -> QwenText:
        model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return cls(model.eval())

    @property
    def vocab_size(self) -> int:
        return int(self._model.config.vocab_size)

    @property
    def length(self) -> int:
        return int(self._cache.get_seq_length())

    @property
    def cache_bytes(self) -> int:
        config = self._model.config
        heads = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
        return 2 * 4 * config.num_hidden_layers * heads * self.length

    def prefill(self, prompt: Prompt) -> Tensor:
        self._cache = DynamicCache(config=self._model.config)
        self._prompt_length = prompt.length
        return self._forward(prompt.token_ids)[-1]

    def extend(self, tokens: Sequence[int]) -> Tensor:
        return self._forward(tokens)

    def rollback(self, length: int) -> None:
        if not self._prompt_length <= length <= self.length:
            raise ValueError(f"cannot rewind to {length}")
        if length < self.length:
            self._cache.crop(length - self.length)

    def new_sequence(self) -> QwenText:
        return QwenText(self._model)

    @torch.inference_mode()
    def _forward(self, tokens: Sequence[int]) -> Tensor:
        ids = torch.tensor([list(tokens)])
        found = self._model(
            input_ids=ids, use_cache=True, **{cache_argument(self._model): self._cache}
        )
        logits: Tensor = found.logits[0].float()
        return logits
