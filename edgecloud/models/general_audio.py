"""Features of the families that hear on the general adapter, and the check of those that a prompt brings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch
from transformers import Phi4MultimodalFeatureExtractor, SequenceFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from edgecloud.contracts import LOG_MEL, Arrays, Prompt
from edgecloud.errors import ModelError
from edgecloud.models.families.general_audio import GeneralAudioFamily
from edgecloud.models.features import SAMPLE_RATE_HZ, LogMel, check_waveform

__all__ = [
    "MaskedLogMel",
    "OwnFeatures",
    "PhiFilterBank",
    "StackedLogMel",
    "WindowedLogMel",
    "check_arrays",
    "entry_of",
]

_WINDOW_FRAMES = 3000


class _CountedLogMel(LogMel):
    """Whisper's log-mel, of which ``count`` tells the embeddings."""

    def __init__(self, checkpoint: Path | str, count: Callable[[Arrays], int]) -> None:
        super().__init__(checkpoint)
        self._count = count

    def tokens(self, arrays: Arrays) -> int:
        """As :meth:`LogMel.tokens`."""
        return self._count(arrays)

    def _made(self, waveform: npt.NDArray[np.float32], **more: Any) -> Any:
        check_waveform(waveform)
        return self._extractor(
            waveform,
            sampling_rate=SAMPLE_RATE_HZ,
            padding="longest",
            truncation=False,
            return_tensors="np",
            **more,
        )


class MaskedLogMel(_CountedLogMel):
    """Log-mel ``(1, n_mels, T) float16`` and ``feature_attention_mask (1, T) int32``, as Qwen3-Omni's own
    processor makes them; T is a frame for each 10 ms."""

    def arrays(self, waveform: npt.NDArray[np.float32]) -> Arrays:
        """As :meth:`LogMel.arrays`."""
        made = self._made(waveform, return_attention_mask=True)
        return {
            LOG_MEL: made["input_features"].astype(np.float16),
            "feature_attention_mask": made["attention_mask"].astype(np.int32),
        }


class WindowedLogMel(_CountedLogMel):
    """Log-mel ``(windows, n_mels, 3000) float16`` of a recording padded to windows of 30 s, as Voxtral's own
    processor makes it."""

    def arrays(self, waveform: npt.NDArray[np.float32]) -> Arrays:
        """As :meth:`LogMel.arrays`."""
        mel = self._made(waveform, pad_to_multiple_of=self._extractor.n_samples)["input_features"][
            0
        ]
        windows = mel.reshape(len(mel), -1, _WINDOW_FRAMES).transpose(1, 0, 2)
        return {LOG_MEL: np.ascontiguousarray(windows, dtype=np.float16)}


_STACKED: Final = {
    "sampling_rate": SAMPLE_RATE_HZ,
    "n_fft": 512,
    "win_length": 400,
    "hop_length": 160,
    "n_mels": 80,
}
"""Settings of Granite Speech's extractor, as its class has them."""


class StackedLogMel:
    """Log-mel ``(1, T, 2 n_mels) float16``, two frames of 10 ms in each of the T, as Granite Speech's own extractor
    makes it. That one needs torchaudio, whose releases lag behind torch and are built for one of its variants: this
    computes the same with torch alone (``torchaudio.transforms.MelSpectrogram`` with its defaults, log10, 8 below the
    loudest at most, over 4, plus 1)."""

    def __init__(self, checkpoint: Path | str, count: Callable[[Arrays], int]) -> None:
        """By the settings of the checkpoint's feature extractor; ``count`` tells the embeddings."""
        found, _ = SequenceFeatureExtractor.get_feature_extractor_dict(str(checkpoint))
        self._settings = {name: int(found.get(name, value)) for name, value in _STACKED.items()}
        self.tokens = count
        size, rate = self._settings["n_fft"], self._settings["sampling_rate"]
        bank = mel_filter_bank(
            size // 2 + 1, self._settings["n_mels"], 0.0, rate / 2, rate, mel_scale="htk"
        )
        self._bank = torch.from_numpy(bank).float()

    @property
    def settings(self) -> dict[str, int]:
        """As :attr:`LogMel.settings`."""
        return dict(self._settings)

    def arrays(self, waveform: npt.NDArray[np.float32]) -> Arrays:
        """As :meth:`LogMel.arrays`."""
        check_waveform(waveform)
        window = self._settings["win_length"]
        spectrum = torch.stft(
            torch.from_numpy(waveform),
            self._settings["n_fft"],
            self._settings["hop_length"],
            window,
            torch.hann_window(window),
            return_complex=True,
        )
        mel = (spectrum.abs().square().T @ self._bank).clamp(min=1e-10).log10()
        mel = torch.maximum(mel, mel.max() - 8) / 4 + 1
        pairs = mel[: len(mel) // 2 * 2].reshape(1, -1, 2 * mel.shape[1])
        return {LOG_MEL: pairs.numpy().astype(np.float16)}


class OwnFeatures:
    """Features of a family's own extractor, of a class ``kind`` of transformers; ``names`` are its settings."""

    kind: ClassVar[Any]
    names: ClassVar[tuple[str, ...]]

    def __init__(self, checkpoint: Path | str, count: Callable[[Arrays], int]) -> None:
        """By the settings of the checkpoint's feature extractor; ``count`` tells the embeddings."""
        self._extractor = self.kind.from_pretrained(str(checkpoint))
        self._count = count

    @property
    def settings(self) -> dict[str, int]:
        """As :attr:`LogMel.settings`."""
        return {name: int(getattr(self._extractor, name)) for name in self.names}

    def tokens(self, arrays: Arrays) -> int:
        """As :meth:`LogMel.tokens`."""
        return self._count(arrays)


class PhiFilterBank(OwnFeatures):
    """Logarithms of a bank of 80 filters ``(1, T, 80) float16``, a frame of 25 ms for each 10 ms, as
    Phi-4-multimodal's own extractor makes them."""

    kind = Phi4MultimodalFeatureExtractor
    names = ("feature_size", "sampling_rate", "hop_length", "n_fft", "win_length")

    def arrays(self, waveform: npt.NDArray[np.float32]) -> Arrays:
        """As :meth:`LogMel.arrays`."""
        check_waveform(waveform)
        name = "audio_input_features"
        made = self._extractor(waveform, sampling_rate=SAMPLE_RATE_HZ, return_tensors="np")
        return {name: made[name].astype(np.float16)}


def check_arrays(prompt: Prompt, hears: GeneralAudioFamily, config: Any, audio_id: int) -> None:
    """Check the features of a prompt against what the family takes; ``config`` is transformers' own.

    Raises:
        ModelError: an array is missing, is none of the family's, or has another type, shape or values; the
            prompt has not as many placeholders.
    """
    if prompt.arrays and set(prompt.arrays) != set(hears.arrays):
        raise ModelError(
            f"the prompt has {', '.join(sorted(prompt.arrays))}, a {hears.title} takes "
            f"{', '.join(sorted(hears.arrays))}; edge and cloud must be of one family"
        )
    sizes: dict[str, int] = {}
    for name, array in prompt.arrays.items():
        dtype, shape = hears.arrays[name]
        wanted = tuple(
            _size(of, config, sizes, array.shape[at : at + 1]) for at, of in enumerate(shape)
        )
        if array.dtype != dtype or array.shape != wanted:
            raise ModelError(
                f"{name} is {array.dtype} of shape {array.shape}, a {hears.title} takes {dtype} of {wanted}"
            )
        if dtype == "int32" and not np.isin(array, (0, 1)).all():
            raise ModelError(f"{name} is a mask with other values than 0 and 1")
    count = hears.audio_tokens(prompt.arrays) if prompt.arrays else 0
    places = prompt.token_ids.count(audio_id)
    if places != count:
        raise ModelError(
            f"the prompt has {places} audio placeholders, the audio tower gives {count} embeddings"
        )


def _size(of: int | str, config: Any, sizes: dict[str, int], found: tuple[int, ...]) -> int:
    """A size of an array: a number, an entry of the configuration, or the recording's own as ``found``."""
    if isinstance(of, int):
        return of
    if "." not in of:
        return sizes.setdefault(of, found[0] if found else 0)
    return entry_of(config, of)


def entry_of(config: Any, path: str) -> int:
    """The number at ``path`` in a configuration of transformers."""
    for name in path.split("."):
        config = getattr(config, name)
    return int(config)
