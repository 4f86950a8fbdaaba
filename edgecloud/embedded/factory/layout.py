"""Checkpoint folders in the published layout of Qwen2.5-Omni, for a miniature thinker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import Qwen2_5OmniThinkerConfig, WhisperFeatureExtractor

from edgecloud.embedded.factory import tokenizer as tok
from edgecloud.models.features import HOP_SAMPLES, MEL_BINS, SAMPLE_RATE_HZ

WEIGHTS_NAME: Final = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Size:
    """The dimensions of a miniature thinker."""

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    feed_forward: int
    audio_width: int
    audio_layers: int
    audio_heads: int
    audio_feed_forward: int


EDGE_SIZE: Final = Size(
    hidden=96,
    layers=2,
    heads=4,
    key_value_heads=2,
    feed_forward=256,
    audio_width=64,
    audio_layers=1,
    audio_heads=4,
    audio_feed_forward=192,
)
CLOUD_SIZE: Final = Size(
    hidden=192,
    layers=6,
    heads=6,
    key_value_heads=2,
    feed_forward=576,
    audio_width=128,
    audio_layers=3,
    audio_heads=4,
    audio_feed_forward=512,
)


def checkpoint_config(size: Size, tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of config.json: a Qwen2.5-Omni configuration with only a thinker."""
    head_size = size.hidden // size.heads
    third = head_size // 2 // 3
    text_config = {
        "model_type": "qwen2_5_omni_text",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": size.hidden,
        "intermediate_size": size.feed_forward,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.key_value_heads,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_scaling": {
            "mrope_section": [head_size // 2 - 2 * third, third, third],
            "rope_type": "default",
            "type": "default",
        },
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "pad_token_id": tokenizer.token_to_id(tok.END_OF_TEXT),
        "initializer_range": 0.02,
    }
    audio_config = {
        "model_type": "qwen2_5_omni_audio_encoder",
        "num_mel_bins": MEL_BINS,
        "encoder_layers": size.audio_layers,
        "encoder_attention_heads": size.audio_heads,
        "encoder_ffn_dim": size.audio_feed_forward,
        "d_model": size.audio_width,
        "max_source_positions": 1500,
        "n_window": 100,
        "output_dim": size.hidden,
        "dropout": 0.0,
    }
    # The family's class always builds a vision tower; the smallest one, whose weights are absent.
    vision_config = {
        "model_type": "qwen2_5_omni_vision_encoder",
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": size.hidden,
        "fullatt_block_indexes": [0],
    }
    thinker_config = {
        "model_type": "qwen2_5_omni_thinker",
        "audio_config": audio_config,
        "text_config": text_config,
        "vision_config": vision_config,
        "audio_token_index": tokenizer.token_to_id(tok.AUDIO),
        "image_token_index": tokenizer.token_to_id(tok.IMAGE),
        "video_token_index": tokenizer.token_to_id(tok.VIDEO),
        "audio_start_token_id": tokenizer.token_to_id(tok.AUDIO_START),
        "audio_end_token_id": tokenizer.token_to_id(tok.AUDIO_END),
        "vision_start_token_id": tokenizer.token_to_id(tok.VISION_START),
        "vision_end_token_id": tokenizer.token_to_id(tok.VISION_END),
        "user_token_id": tokenizer.encode("user").ids[0],
        "position_id_per_seconds": 25,
        "seconds_per_chunk": 2,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
    }
    return {
        "architectures": ["Qwen2_5OmniForConditionalGeneration"],
        "model_type": "qwen2_5_omni",
        "enable_audio_output": False,
        "enable_talker": False,
        "thinker_config": thinker_config,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
    }


def thinker_config(config: Mapping[str, Any]) -> Qwen2_5OmniThinkerConfig:
    """The thinker's part of a config.json as the family's own class."""
    return Qwen2_5OmniThinkerConfig(**config["thinker_config"])


def write_settings(folder: Path, *, size: Size, tokenizer: Tokenizer) -> None:
    """Write everything but the weights: configuration, tokenizer and feature settings."""
    folder.mkdir(parents=True, exist_ok=True)
    tok.save_tokenizer(tokenizer, folder)
    write_json(folder / "config.json", checkpoint_config(size, tokenizer))
    write_ends(folder, tokenizer)
    write_feature_settings(folder)


def write_ends(folder: Path, tokenizer: Tokenizer) -> None:
    """Write generation_config.json: what ends an answer."""
    write_json(
        folder / "generation_config.json",
        {
            "do_sample": False,
            "eos_token_id": [
                tokenizer.token_to_id(tok.END_OF_TURN),
                tokenizer.token_to_id(tok.END_OF_TEXT),
            ],
            "pad_token_id": tokenizer.token_to_id(tok.END_OF_TEXT),
        },
    )


def write_feature_settings(folder: Path, *, bins: int = MEL_BINS, window_s: int = 300) -> None:
    """Write preprocessor_config.json: Whisper's log-mel with `bins` mel bins, over at most `window_s`."""
    folder.mkdir(parents=True, exist_ok=True)
    extractor = WhisperFeatureExtractor(  # type: ignore[no-untyped-call]
        feature_size=bins,
        sampling_rate=SAMPLE_RATE_HZ,
        hop_length=HOP_SAMPLES,
        chunk_length=window_s,
        n_fft=400,
        return_attention_mask=True,
    )
    extractor.save_pretrained(str(folder))


def save_weights(
    folder: Path, *, audio_tower: torch.nn.Module, language_model: torch.nn.Module
) -> None:
    """Write model.safetensors in float16 under the published names; the head is tied."""
    save_parts(folder, {"thinker.audio_tower.": audio_tower, "thinker.model.": language_model})


def save_parts(folder: Path, parts: Mapping[str, torch.nn.Module]) -> None:
    """Write model.safetensors in float16; `parts` are modules by what their tensors' names begin with."""
    tensors = {
        f"{prefix}{name}": tensor.detach().to(torch.float16).contiguous()
        for prefix, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
    save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    (folder / WEIGHTS_NAME).chmod(0o644)


def load_weights(
    folder: Path, *, audio_tower: torch.nn.Module, language_model: torch.nn.Module
) -> None:
    """Read what `save_weights` wrote, into modules of the right size."""
    tensors = load_file(folder / WEIGHTS_NAME)
    for prefix, module in (
        ("thinker.audio_tower.", audio_tower),
        ("thinker.model.", language_model),
    ):
        module.load_state_dict(
            {
                name.removeprefix(prefix): tensor.float()
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
        )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a settings file of a checkpoint."""
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
