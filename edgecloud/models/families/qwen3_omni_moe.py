"""Qwen3-Omni."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgecloud.contracts import LOG_MEL, Arrays
from edgecloud.models.families.contract import family
from edgecloud.models.families.general_audio import GeneralAudioFamily

if TYPE_CHECKING:
    from edgecloud.models.features import FeatureExtractor

__all__ = ["Qwen3Omni"]


@family("qwen3_omni_moe")
class Qwen3Omni(GeneralAudioFamily):
    """The thinker of a Qwen3-Omni, with its vision tower; neither talker nor vocoder."""

    title = "Qwen3-Omni model"
    parts = MappingProxyType({"thinker.": "thinker."})
    needed = (
        ("thinker_config",),
        ("thinker_config", "text_config"),
        ("thinker_config", "audio_config"),
    )
    arrays = MappingProxyType(
        {
            LOG_MEL: ("float16", (1, "audio_config.num_mel_bins", "frames")),
            "feature_attention_mask": ("int32", (1, "frames")),
        }
    )
    inside = "thinker"
    overrides = MappingProxyType({"enable_audio_output": False})
    tower = MappingProxyType({"num_mel_bins": 128, "n_window": 50, "n_window_infer": 800})

    def audio_tokens(self, arrays: Arrays) -> int:
        """As declared: 13 a second."""
        from edgecloud.models.features import asr_token_count

        return asr_token_count(int(arrays["feature_attention_mask"].sum()))

    def feature_extractor(self, folder: Path) -> FeatureExtractor:
        """Whisper's features, with their mask."""
        from edgecloud.models.general_audio import MaskedLogMel

        return MaskedLogMel(folder, self.audio_tokens)

    def tokenizer(self, folder: Path) -> Any:
        """Qwen2's tokenizer: AutoTokenizer would build the whole family's configuration, talker included,
        to find its class."""
        from transformers import Qwen2Tokenizer

        return Qwen2Tokenizer.from_pretrained(str(folder), local_files_only=True)
