"""Checkpoints of each family in miniature: the families' own classes, random weights, published layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4UnifiedAudioFeatureExtractor,
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
    GraniteSpeechConfig,
    GraniteSpeechForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi4MultimodalConfig,
    Phi4MultimodalFeatureExtractor,
    Phi4MultimodalForCausalLM,
    PreTrainedModel,
    Qwen2_5OmniConfig,
    Qwen2_5OmniForConditionalGeneration,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3ASRConfig,
    Qwen3ASRFeatureExtractor,
    Qwen3ASRForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3OmniMoeConfig,
    Qwen3OmniMoeForConditionalGeneration,
    VoxtralConfig,
    VoxtralForConditionalGeneration,
    WhisperFeatureExtractor,
)

from edgecloud.embedded.factory import tokenizer as tok
from edgecloud.embedded.factory.layout import write_feature_settings
from tests.conftest import byte_tokenizer

__all__ = [
    "FAST",
    "LLAMA_TEMPLATE",
    "TEXT_TEMPLATE",
    "asr_checkpoint",
    "audio_checkpoint",
    "flamingo_checkpoint",
    "gemma4_checkpoint",
    "gemma4_unified_checkpoint",
    "gemma_checkpoint",
    "granite_checkpoint",
    "llama_checkpoint",
    "mistral_checkpoint",
    "omni3_checkpoint",
    "omni_checkpoint",
    "phi4_checkpoint",
    "qwen3_checkpoint",
    "text_checkpoint",
    "voxtral_checkpoint",
]

FAST = {
    "audioflamingo3": "flamingo_folder",
    "llama": "llama_folder",
    "mistral": "mistral_folder",
    "qwen2": "text_folder",
    "qwen2_5_omni": "omni_folder",
    "qwen2_audio": "audio_folder",
    "qwen3": "qwen3_folder",
    "qwen3_asr": "asr_folder",
}
"""The fixture of the miniature of every family of the fast path, which tests/conformance holds to be all of them."""

TEXT_TEMPLATE = (
    "{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>system\nYou help.<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}{%- if message['role'] != 'system' %}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
"""Of the kind that Qwen2.5's text models have: contents are texts, and a system prompt is added."""

LLAMA_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] }}"
    "{{- '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
"""Of the kind that Llama 3 has: a token begins every text, and other ones end a turn."""
_LLAMA_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
MISTRAL_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}{{- '[INST] ' + message['content'] + ' [/INST]' }}"
    "{%- endfor %}"
)
GEMMA_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<start_of_turn>' + (message['role'] if message['role'] == 'user' else 'model') + '\n' }}"
    "{{- message['content'] + '<end_of_turn>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}"
)
GEMMA4_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}{{- '<|turn>' + message['role'] + '\n' }}"
    "{%- if message['content'] is string %}{{- message['content'] | trim }}{%- else %}"
    "{%- for part in message['content'] %}{%- if part['type'] == 'audio' %}{{- '<|audio|>' }}"
    "{%- else %}{{- part['text'] | trim }}{%- endif %}{%- endfor %}{%- endif %}{{- '<turn|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|turn>model\n' }}{%- endif %}"
)
"""Of the kind that Gemma 4 has: the tokens around a recording are its processor's."""
_GEMMA4_TOKENS = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<|turn>",
    "<turn|>",
    "<|audio>",
    "<|audio|>",
    "<audio|>",
)
_GEMMA_TOKENS = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>")
FLAMINGO_TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['content'] is string %}{{- message['content'] }}{%- else %}"
    "{%- for part in message['content'] %}{%- if part['type'] == 'audio' %}{{- '<sound>' }}"
    "{%- else %}{{- part['text'] }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
"""Of the kind that Audio Flamingo 3 has."""
VOXTRAL_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}{{- '[INST]' }}"
    "{%- if message['content'] is string %}{{- message['content'] }}{%- else %}"
    "{%- for part in message['content'] %}{%- if part['type'] == 'audio' %}"
    "{{- '[BEGIN_AUDIO][AUDIO]' }}{%- else %}{{- part['text'] }}{%- endif %}{%- endfor %}"
    "{%- endif %}{{- '[/INST]' }}{%- endfor %}"
)
"""Of the kind that mistral-common has for Voxtral."""
GRANITE_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] }}"
    "{{- '<|end_of_text|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"
)
"""Of the kind that Granite 3.3 has: contents are texts, the placeholder of a recording among them."""
_GRANITE_TOKENS = (
    "<|end_of_text|>",
    "<|start_of_role|>",
    "<|end_of_role|>",
    "<|audio|>",
)
PHI4_TEMPLATE = (
    "{%- for message in messages %}{{- '<|' + message['role'] + '|>' }}"
    "{%- if message['content'] is string %}{{- message['content'] }}{%- else %}"
    "{%- for part in message['content'] %}{%- if part['type'] == 'audio' %}{{- '<|audio|>' }}"
    "{%- else %}{{- part['text'] }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)
"""Of the kind that conversions of Phi-4-multimodal have."""
_PHI4_TOKENS = (
    "<|endoftext|>",
    "<|image|>",
    "<|audio|>",
    "<|assistant|>",
    "<|end|>",
    "<|user|>",
    "<|system|>",
)
_MISTRAL_TOKENS = ("<unk>", "<s>", "</s>")

_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "hidden_act": "silu",
}
_TOWER = {
    "num_mel_bins": 128,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "d_model": 32,
    "max_source_positions": 1500,
}


def audio_checkpoint(
    folder: Path, *, seed: int = 1, padded_rows: int = 0, words: str | None = None
) -> Path:
    """Qwen2-Audio; ``padded_rows`` are rows of the output layer beyond the tokenizer, which is merged from
    ``words``."""
    template = Qwen2AudioProcessor.default_chat_template.fget(None)
    tokenizer = _tokenizer(folder, template, words=words)
    WhisperFeatureExtractor(feature_size=128, return_attention_mask=True).save_pretrained(
        str(folder)
    )
    rows = tokenizer.get_vocab_size() + padded_rows
    config = Qwen2AudioConfig(
        text_config={**_TEXT, "model_type": "qwen2", "vocab_size": rows},
        audio_config={**_TOWER, "model_type": "qwen2_audio_encoder"},
        audio_token_index=tokenizer.token_to_id(tok.AUDIO),
    )
    return _save(Qwen2AudioForConditionalGeneration, config, folder, seed)


def flamingo_checkpoint(folder: Path, *, seed: int = 1) -> Path:
    """Audio Flamingo 3: a template and an audio token of its own."""
    tokenizer = byte_tokenizer(special=(*tok.SPECIAL_TOKENS, "<sound>"))
    tok.save_tokenizer(tokenizer, folder)
    path = folder / "chat_template.jinja"
    path.write_text(FLAMINGO_TEMPLATE, encoding="utf-8")
    WhisperFeatureExtractor(feature_size=128, return_attention_mask=True).save_pretrained(
        str(folder)
    )
    config = AudioFlamingo3Config(
        text_config={**_TEXT, "model_type": "qwen2", "vocab_size": tokenizer.get_vocab_size()},
        audio_config={
            "num_mel_bins": 128,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "hidden_size": 32,
            "max_source_positions": 1500,
            "model_type": "audioflamingo3_encoder",
        },
        audio_token_id=tokenizer.token_to_id("<sound>"),
    )
    return _save(AudioFlamingo3ForConditionalGeneration, config, folder, seed)


def asr_checkpoint(folder: Path, *, seed: int = 1) -> Path:
    """Qwen3-ASR: Qwen3's layers behind an encoder over windows, tied embeddings."""
    tokenizer = byte_tokenizer(special=(*tok.SPECIAL_TOKENS, "<|audio_pad|>"))
    tok.save_tokenizer(tokenizer, folder)
    path = folder / "chat_template.jinja"
    path.write_text(FLAMINGO_TEMPLATE.replace("<sound>", "<|audio_pad|>"), encoding="utf-8")
    Qwen3ASRFeatureExtractor().save_pretrained(str(folder))
    text = {**_TEXT, "head_dim": 16, "vocab_size": tokenizer.get_vocab_size()}
    config = Qwen3ASRConfig(
        text_config={**text, "model_type": "qwen3", "tie_word_embeddings": True},
        audio_config={
            **{name: size for name, size in _TOWER.items() if name != "max_source_positions"},
            "model_type": "qwen3_asr_encoder",
            "output_dim": 32,
            "downsample_hidden_size": 8,
        },
        audio_token_id=tokenizer.token_to_id("<|audio_pad|>"),
        timestamp_token_id=0,
        pad_token_id=tokenizer.token_to_id(tok.END_OF_TURN),
        eos_token_id=[tokenizer.token_to_id(i) for i in (tok.END_OF_TEXT, tok.END_OF_TURN)],
    )
    return _save(Qwen3ASRForConditionalGeneration, config, folder, seed, varied=True)


def text_checkpoint(
    folder: Path, *, seed: int = 1, tied: bool = True, padded_rows: int = 0, layers: int = 3
) -> Path:
    """Qwen2.5 for text alone."""
    tokenizer = _tokenizer(folder, TEXT_TEMPLATE)
    rows = tokenizer.get_vocab_size() + padded_rows
    sizes = {**_TEXT, "num_hidden_layers": layers}
    config = Qwen2Config(**sizes, vocab_size=rows, tie_word_embeddings=tied)
    return _save(Qwen2ForCausalLM, config, folder, seed)


def llama_checkpoint(folder: Path, *, seed: int = 1, tied: bool = True, layers: int = 2) -> Path:
    """Llama 3.2: scaled rotary embeddings, no biases, a tokenizer of its own, two tokens that end answers."""
    tokenizer = _other_tokenizer(folder, LLAMA_TEMPLATE, _LLAMA_TOKENS, eos="<|end_of_text|>")
    config = LlamaConfig(
        **{**_TEXT, "num_hidden_layers": layers, "head_dim": 12},
        vocab_size=tokenizer.get_vocab_size(),
        tie_word_embeddings=tied,
        rope_theta=500_000.0,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        bos_token_id=tokenizer.token_to_id("<|begin_of_text|>"),
        eos_token_id=[tokenizer.token_to_id(i) for i in ("<|end_of_text|>", "<|eot_id|>")],
    )
    return _save(LlamaForCausalLM, config, folder, seed, varied=True)


def mistral_checkpoint(
    folder: Path,
    *,
    seed: int = 1,
    window: int | None = None,
    layers: int = 2,
    tokenizer: Tokenizer | None = None,
) -> Path:
    """Mistral 7B: no biases, an output layer of its own; the first version slides a ``window``. With a ``tokenizer``
    of its own, which has ``<s>`` and ``</s>``."""
    tokenizer = _other_tokenizer(
        folder, MISTRAL_TEMPLATE, _MISTRAL_TOKENS, eos="</s>", tokenizer=tokenizer
    )
    config = MistralConfig(
        **{**_TEXT, "num_hidden_layers": layers},
        vocab_size=tokenizer.get_vocab_size(),
        sliding_window=window,
        bos_token_id=tokenizer.token_to_id("<s>"),
        eos_token_id=tokenizer.token_to_id("</s>"),
    )
    return _save(MistralForCausalLM, config, folder, seed, varied=True)


def gemma_checkpoint(folder: Path, *, seed: int = 1, window: int = 8) -> Path:
    """Gemma 3 for text: four norms a layer, embeddings scaled, two in three layers slide a ``window``; the
    tokenizer has a token more than the output layer has rows."""
    tokenizer = _other_tokenizer(
        folder, GEMMA_TEMPLATE, (*_GEMMA_TOKENS, "<image_soft_token>"), eos="<eos>"
    )
    config = Gemma3TextConfig(
        **{key: value for key, value in _TEXT.items() if key != "hidden_act"},
        head_dim=8,
        vocab_size=tokenizer.get_vocab_size() - 1,
        sliding_window=window,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        query_pre_attn_scalar=8,
        bos_token_id=tokenizer.token_to_id("<bos>"),
        eos_token_id=[tokenizer.token_to_id(i) for i in ("<eos>", "<end_of_turn>")],
        pad_token_id=tokenizer.token_to_id("<pad>"),
    )
    return _save(Gemma3ForCausalLM, config, folder, seed, varied=True)


def gemma4_checkpoint(folder: Path, *, seed: int = 1) -> Path:
    """Gemma 4 E2B: embeddings for each layer, of which two in four share keys and values and one in two slides a
    window, an audio tower, and a vision tower among the weights."""
    tokenizer, settings = _gemma4(folder)
    Gemma4AudioFeatureExtractor().save_pretrained(str(folder))
    rows = tokenizer.get_vocab_size()
    text = {
        **settings.pop("text_config"),
        "hidden_size_per_layer_input": 4,
        "vocab_size_per_layer_input": rows,
        "num_kv_shared_layers": 2,
        "use_double_wide_mlp": True,
    }
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma4Config(
        text_config=text,
        audio_config={**small, "subsampling_conv_channels": [128, 4], "output_proj_dims": 16},
        vision_config={
            **small,
            "intermediate_size": 16,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "position_embedding_size": 8,
        },
        **settings,
    )
    return _save(Gemma4ForConditionalGeneration, config, folder, seed, varied=True)


def gemma4_unified_checkpoint(folder: Path, *, seed: int = 1) -> Path:
    """Gemma 4 12B: no tower, keys that are the values, and what sees among the weights."""
    _, settings = _gemma4(folder)
    Gemma4UnifiedAudioFeatureExtractor().save_pretrained(str(folder))
    text = {**settings.pop("text_config"), "attention_k_eq_v": True}
    config = Gemma4UnifiedConfig(
        text_config={
            **text,
            "num_global_key_value_heads": 1,
            "num_hidden_layers": 2,
            "layer_types": text["layer_types"][:2],
        },
        audio_config={"audio_embed_dim": 640},
        vision_config={
            "patch_size": 2,
            "pooling_kernel_size": 2,
            "mm_embed_dim": 16,
            "mm_posemb_size": 8,
            "output_proj_dims": 16,
        },
        **settings,
    )
    return _save(Gemma4UnifiedForConditionalGeneration, config, folder, seed, varied=True)


def _gemma4(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Gemma 4's tokenizer, and what the configurations of all its sizes have."""
    tokenizer = _other_tokenizer(folder, GEMMA4_TEMPLATE, _GEMMA4_TOKENS, eos="<eos>")
    text = {
        **{key: value for key, value in _TEXT.items() if key != "hidden_act"},
        "num_hidden_layers": 4,
        "head_dim": 8,
        "global_head_dim": 16,
        "vocab_size": tokenizer.get_vocab_size(),
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "final_logit_softcapping": 30.0,
        "pad_token_id": tokenizer.token_to_id("<pad>"),
        "bos_token_id": tokenizer.token_to_id("<bos>"),
        "eos_token_id": [tokenizer.token_to_id(i) for i in ("<eos>", "<turn|>")],
    }
    return tokenizer, {
        "text_config": text,
        "audio_token_id": tokenizer.token_to_id("<|audio|>"),
        "boa_token_id": tokenizer.token_to_id("<|audio>"),
        "eoa_token_index": tokenizer.token_to_id("<audio|>"),
    }


def qwen3_checkpoint(folder: Path, *, seed: int = 1, tied: bool = True, layers: int = 2) -> Path:
    """Qwen3 for text alone: heads of a size of their own, each normalized, no biases."""
    tokenizer = _tokenizer(folder, TEXT_TEMPLATE)
    config = Qwen3Config(
        **{**_TEXT, "num_hidden_layers": layers, "head_dim": 16},
        vocab_size=tokenizer.get_vocab_size() + 5,
        tie_word_embeddings=tied,
        eos_token_id=[tokenizer.token_to_id(i) for i in (tok.END_OF_TURN, tok.END_OF_TEXT)],
    )
    return _save(Qwen3ForCausalLM, config, folder, seed, varied=True)


def omni_checkpoint(folder: Path, *, seed: int = 1) -> Path:
    """The whole of a Qwen2.5-Omni: thinker with its vision tower, talker and vocoder."""
    tokenizer = _tokenizer(folder, tok.CHAT_TEMPLATE)
    write_feature_settings(folder)
    rows = tokenizer.get_vocab_size()
    turns = {"rope_type": "default", "type": "default"}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2}
    thinker = {
        "text_config": {
            **_TEXT,
            "vocab_size": rows,
            "rope_scaling": {"mrope_section": [2, 1, 1], **turns},
            "tie_word_embeddings": False,
        },
        "audio_config": {**_TOWER, "n_window": 100, "output_dim": 32},
        "vision_config": {**vision, "out_hidden_size": 32, "fullatt_block_indexes": [0]},
        "audio_token_index": tokenizer.token_to_id(tok.AUDIO),
        # As published; the class has no default, and asks for it with a mask alone.
        "vision_start_token_id": 151652,
    }
    # The talker's vocabulary must hold the family's own special ids, or transformers warns.
    talker = {
        "hidden_size": 8,
        "embedding_size": 32,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "vocab_size": 152_064,
        "rope_scaling": {"mrope_section": [1, 1, 0], **turns},
    }
    encoder = {"enc_channels": [8, 8, 8, 8, 24], "enc_attention_channels": 4, "enc_se_channels": 4}
    vocoder = {
        "dit_config": {
            **encoder,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "head_dim": 8,
            "emb_dim": 16,
            "num_embeds": 9,
            "enc_dim": 8,
            "enc_emb_dim": 8,
            "mel_dim": 8,
            "look_ahead_layers": [0],
            "look_backward_layers": [0],
        },
        "bigvgan_config": {
            "mel_dim": 8,
            "upsample_initial_channel": 16,
            "upsample_rates": [2],
            "upsample_kernel_sizes": [4],
            "resblock_kernel_sizes": [3],
            "resblock_dilation_sizes": [[1, 3, 5]],
        },
    }
    config = Qwen2_5OmniConfig(
        thinker_config=thinker, talker_config=talker, token2wav_config=vocoder
    )
    return _save(Qwen2_5OmniForConditionalGeneration, config, folder, seed)


def voxtral_checkpoint(folder: Path, *, seed: int = 1) -> Path:
    """Voxtral: windows of 30 s, a tokenizer of its own with a chat template, as conversions have."""
    special = (*_MISTRAL_TOKENS, "[INST]", "[/INST]", "[BEGIN_AUDIO]", "[AUDIO]")
    tokenizer = _other_tokenizer(folder, VOXTRAL_TEMPLATE, special, eos="</s>")
    WhisperFeatureExtractor(feature_size=128).save_pretrained(str(folder))
    text = {**_TEXT, "head_dim": 8, "model_type": "llama", "rms_norm_eps": 1e-5}
    config = VoxtralConfig(
        text_config={**text, "vocab_size": tokenizer.get_vocab_size(), "num_hidden_layers": 2},
        audio_config={
            "model_type": "voxtral_encoder",
            "hidden_size": 8,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
        audio_token_id=tokenizer.token_to_id("[AUDIO]"),
        eos_token_id=tokenizer.token_to_id("</s>"),
    )
    return _save(VoxtralForConditionalGeneration, config, folder, seed)


def granite_checkpoint(folder: Path, *, seed: int = 1) -> Path:
    """Granite Speech 3.3: a conformer, a projector and an adapter for recordings beside tied weights."""
    tokenizer = _other_tokenizer(folder, GRANITE_TEMPLATE, _GRANITE_TOKENS, eos="<|end_of_text|>")
    # As published; the class that writes it needs torchaudio.
    settings = {"feature_extractor_type": "GraniteSpeechFeatureExtractor", "sampling_rate": 16_000}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    end = tokenizer.token_to_id("<|end_of_text|>")
    config = GraniteSpeechConfig(
        text_config={
            **_TEXT,
            "model_type": "granite",
            "num_hidden_layers": 1,
            "vocab_size": tokenizer.get_vocab_size(),
            "embedding_multiplier": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.3,
            "logits_scaling": 1.5,
            "bos_token_id": end,
            "eos_token_id": end,
            "pad_token_id": None,
        },
        encoder_config={
            "num_layers": 2,
            "hidden_dim": 16,
            "num_heads": 2,
            "output_dim": 12,
            "context_size": 20,
            "max_pos_emb": 24,
        },
        projector_config={
            "model_type": "blip_2_qformer",
            "hidden_size": 16,
            "encoder_hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        },
        audio_token_index=tokenizer.token_to_id("<|audio|>"),
        eos_token_id=end,
    )
    _save(GraniteSpeechForConditionalGeneration, config, folder, seed)
    _adapted(GraniteSpeechForConditionalGeneration, folder, "", ["q_proj", "v_proj"], seed)
    # As published, under the names of an earlier version of transformers.
    file = folder / "adapter_model.safetensors"
    now, then = ".model.model.language_model.", ".model.language_model.model."
    earlier = {name.replace(now, then): tensor for name, tensor in load_file(file).items()}
    save_file(earlier, file, {"format": "pt"})
    return folder


def phi4_checkpoint(folder: Path, *, seed: int = 1) -> Path:
    """Phi-4-multimodal as converted: rotary embeddings of two kinds, an adapter for recordings, a vision tower."""
    tokenizer = _other_tokenizer(folder, PHI4_TEMPLATE, _PHI4_TOKENS, eos="<|endoftext|>")
    Phi4MultimodalFeatureExtractor().save_pretrained(str(folder))
    end = tokenizer.token_to_id("<|endoftext|>")
    config = Phi4MultimodalConfig(
        **{**_TEXT, "num_hidden_layers": 1},
        vocab_size=tokenizer.get_vocab_size(),
        tie_word_embeddings=True,
        original_max_position_embeddings=1024,
        partial_rotary_factor=0.5,
        rope_scaling={"type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [1.0, 4.0]},
        audio_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_blocks": 1,
            "num_attention_heads": 2,
            "ext_pw_out_channel": 16,
            "depthwise_separable_out_channel": 16,
            "nemo_conv_channels": 8,
            "bias_max_distance": 20,
            "audio_token_id": tokenizer.token_to_id("<|audio|>"),
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "crop_size": 28,
            "image_token_id": tokenizer.token_to_id("<|image|>"),
        },
        bos_token_id=end,
        pad_token_id=end,
        eos_token_id=[end, tokenizer.token_to_id("<|end|>")],
    )
    _save(Phi4MultimodalForCausalLM, config, folder, seed)
    parts = r"model\.layers\.\d+\.(self_attn\.(qkv|o)_proj|mlp\.(gate_up|down)_proj)"
    return _adapted(Phi4MultimodalForCausalLM, folder, "speech-lora", parts, seed)


def omni3_checkpoint(folder: Path, *, seed: int = 1) -> Path:
    """Qwen3-Omni: a thinker of experts with its vision tower. Its config.json speaks of a talker, which is not
    among the weights."""
    tokenizer = _tokenizer(folder, tok.CHAT_TEMPLATE)
    write_feature_settings(folder)
    turns = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_interleaved": True}
    config = Qwen3OmniMoeConfig(
        thinker_config={
            "text_config": {
                **_TEXT,
                "num_hidden_layers": 2,
                "vocab_size": tokenizer.get_vocab_size(),
                "rope_parameters": {**turns, "mrope_section": [2, 1, 1]},
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 16,
            },
            "audio_config": {**_TOWER, "output_dim": 32, "downsample_hidden_size": 8},
            "vision_config": {
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 32,
                "deepstack_visual_indexes": [0],
            },
            "audio_token_id": tokenizer.token_to_id(tok.AUDIO),
            "audio_start_token_id": tokenizer.token_to_id(tok.AUDIO_START),
            # As published; the class has no default, and asks for it with a mask alone.
            "vision_start_token_id": 151652,
        },
        enable_audio_output=False,
        eos_token_id=[tokenizer.token_to_id(i) for i in (tok.END_OF_TURN, tok.END_OF_TEXT)],
    )
    _save(Qwen3OmniMoeForConditionalGeneration, config, folder, seed)
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "enable_audio_output": True}), encoding="utf-8")
    return folder


_BEGINNINGS = ("<s>", "<bos>", "<|begin_of_text|>", "<|end_of_text|>", "<|endoftext|>")


def _other_tokenizer(
    folder: Path,
    template: str,
    special: tuple[str, ...],
    *,
    eos: str,
    tokenizer: Tokenizer | None = None,
) -> Any:
    """A byte-level tokenizer, where none is given, with the ``special`` tokens of another family, the one with which texts begin first or
    second; of transformers' general class, as Llama 3 names it."""
    tokenizer = tokenizer or byte_tokenizer(special=special)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": next(token for token in special if token in _BEGINNINGS),
        "eos_token": eos,
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return tokenizer


def _tokenizer(folder: Path, template: str, *, words: str | None = None) -> Any:
    tokenizer = byte_tokenizer(*([words] if words else []))
    tok.save_tokenizer(tokenizer, folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "chat_template": template}), encoding="utf-8")
    (folder / "chat_template.jinja").unlink()
    return tokenizer


def _adapted(kind: Any, folder: Path, inside: str, parts: str | list[str], seed: int) -> Path:
    """An adapter for ``parts`` of the model in ``folder``, ``inside`` of that, as peft saves it."""
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    model = kind.from_pretrained(str(folder))
    settings = LoraConfig(r=2, lora_alpha=3, target_modules=parts)
    inject_adapter_in_model(settings, model)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    settings.save_pretrained(str(folder / inside))
    save_file(
        {f"base_model.model.{name}": t for name, t in get_peft_model_state_dict(model).items()},
        folder / inside / "adapter_model.safetensors",
        {"format": "pt"},
    )
    return folder


def _save(
    kind: type[PreTrainedModel], config: Any, folder: Path, seed: int, *, varied: bool = False
) -> Path:
    """Weights spread widely enough that choices are clear, in shards of 60 kB; ``varied``: norms, too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.3)
                elif varied:
                    parameter.normal_(1.0, 0.3)
    model.save_pretrained(str(folder), max_shard_size="60KB")
    return folder
