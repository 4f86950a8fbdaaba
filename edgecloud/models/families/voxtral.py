"""Voxtral."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgecloud.contracts import LOG_MEL, Arrays
from edgecloud.errors import CheckpointError
from edgecloud.models.families.contract import family
from edgecloud.models.families.general_audio import GeneralAudioFamily
from edgecloud.models.prompts import Language, PromptType, prompt_messages

if TYPE_CHECKING:
    from edgecloud.models.checkpoint import Checkpoint
    from edgecloud.models.features import FeatureExtractor
    from edgecloud.models.processor import Processor

__all__ = ["Voxtral"]


@family("voxtral")
class Voxtral(GeneralAudioFamily):
    """Voxtral: Whisper's encoder over windows of 30 s, four of its frames an embedding, and Llama's text model.
    A recording is padded to whole windows."""

    title = "Voxtral model"
    arrays = MappingProxyType(
        {LOG_MEL: ("float16", ("windows", "audio_config.num_mel_bins", 3000))}
    )
    tower = MappingProxyType({"num_mel_bins": 128, "max_source_positions": 1500})

    def audio_tokens(self, arrays: Arrays) -> int:
        """As declared: 375 a window."""
        return 375 * len(arrays[LOG_MEL])

    def feature_extractor(self, folder: Path) -> FeatureExtractor:
        """Whisper's features in windows."""
        from edgecloud.models.general_audio import WindowedLogMel

        return WindowedLogMel(folder, self.audio_tokens)

    def processor(self, checkpoint: Checkpoint) -> Processor:
        """As declared. Mistral's own repositories hold another tokenizer.

        Raises:
            CheckpointError: as declared, or there is a tokenizer of mistral-common alone.
        """
        if not (checkpoint.path / "tokenizer.json").is_file():
            raise CheckpointError(
                f"model {checkpoint.path}: a Voxtral needs a tokenizer.json and a chat template; with a "
                "tokenizer of mistral-common (tekken.json) alone give a converted checkpoint"
            )
        return super().processor(checkpoint)

    def messages(
        self, language: Language, prompt_type: PromptType, transcription: str | None = None
    ) -> list[dict[str, Any]]:
        """As declared, without a system prompt: the family has none beside recordings."""
        return prompt_messages(language, prompt_type, transcription)[1:]
