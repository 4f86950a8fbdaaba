"""Granite Speech."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgecloud.contracts import LOG_MEL, Arrays
from edgecloud.models.families.contract import family
from edgecloud.models.families.general_audio import GeneralAudioFamily
from edgecloud.models.prompts import SYSTEM_PROMPT, Language, PromptType, instruction

if TYPE_CHECKING:
    from edgecloud.models.features import FeatureExtractor

__all__ = ["GraniteSpeech"]

_WINDOW = 15
_DOWNSAMPLING = 5


@family("granite_speech")
class GraniteSpeech(GeneralAudioFamily):
    """Granite Speech: a conformer, a projector over windows of 15 of its frames, three embeddings each, and
    Granite's text model, in 3.3 with an adapter for recordings (since 4.0 it is merged)."""

    title = "Granite Speech model"
    needed = (("text_config",), ("encoder_config",), ("projector_config",))
    arrays = MappingProxyType({LOG_MEL: ("float16", (1, "frames", "encoder_config.input_dim"))})
    audio_entry = "audio_token_index"
    audio_token = "<|audio|>"
    adapter = ""

    def fits(self, config: Mapping[str, Any]) -> bool:
        """As declared: the projector's window is the published one."""
        found = config.get("window_size", _WINDOW), config.get("downsample_rate", _DOWNSAMPLING)
        return found == (_WINDOW, _DOWNSAMPLING)

    def audio_tokens(self, arrays: Arrays) -> int:
        """As declared: three for each window that is begun, about ten a second."""
        frames: int = arrays[LOG_MEL].shape[1]
        return -(-frames // _WINDOW) * (_WINDOW // _DOWNSAMPLING)

    def feature_extractor(self, folder: Path) -> FeatureExtractor:
        """Two frames of log-mel in each of its own."""
        from edgecloud.models.general_audio import StackedLogMel

        return StackedLogMel(folder, self.audio_tokens)

    def messages(
        self, language: Language, prompt_type: PromptType, transcription: str | None = None
    ) -> list[dict[str, Any]]:
        """As declared; contents are texts, which the placeholder is a part of, as in the model cards."""
        text = instruction(language, prompt_type, transcription=transcription)
        return [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": self.audio_token + text},
        ]
