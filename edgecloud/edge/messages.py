"""Messages between an experiment and its edge process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgecloud.contracts import Commit, Language, Origin, StopReason
from edgecloud.settings.config import Config
from edgecloud.settings.declaration import Mode

if TYPE_CHECKING:
    from edgecloud.datasets.audio import Recording

__all__ = ["EdgeSetup", "Failed", "Mode", "Request", "Response", "Streamed"]


@dataclass(frozen=True, slots=True)
class EdgeSetup:
    """The settings that an edge process is started with. ``model`` and ``path`` name the checkpoint whose
    tokenizer and features it uses; its weights are loaded unless ``mode`` is ``cloud``. ``cloud_path`` is the
    folder of a cloud that may be of another family or vocabulary; its weights are not read. ``cache_dir``
    holds features of earlier requests, for modelled time only. ``first_core`` is the place, among the
    cores this process may use, of the first that its cap leaves it."""

    mode: Mode
    config: Config
    model: str
    path: str
    cloud_path: str | None = None
    cache_dir: str | None = None
    first_core: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One recording to caption, a file or one ``recording`` that is decoded already, or one ``prompt`` of text alone
    to answer. ``gate`` replaces the
    configured one (warm-up asks the cloud always); with ``stream`` every commit is sent as it comes.
    ``language`` is a prompt's own: it says which calibration of the gate is for it."""

    audio_path: str | None
    transcription: str | None = None
    gate: str | None = None
    stream: bool = False
    prompt: str | None = None
    language: Language | None = None
    recording: Recording | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Streamed:
    """A commit of a caption: its new tokens as text by origin, and the whole ``text`` so far, but for a character
    whose bytes are not all there yet."""

    pieces: tuple[tuple[Origin, str], ...]
    text: str
    commit: Commit


@dataclass(frozen=True, slots=True)
class Response:
    """A finished caption: everything a journal record holds of it. ``audio_s`` is None for a prompt;
    ``audio_notes`` are sentences on what about the recording cannot be right, by kind; ``prompt_digest``
    is :meth:`edgecloud.contracts.Prompt.digest`."""

    audio_s: float | None
    input_tokens: int
    tokens: tuple[int, ...]
    origins: tuple[Origin, ...]
    text: str
    stop: StopReason
    trace: list[dict[str, Any]]
    audio_notes: Mapping[str, str] = field(default_factory=dict)
    prompt_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that failed for a reason of its own; the process goes on."""

    kind: str
    message: str
