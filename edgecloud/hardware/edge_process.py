"""The edge as a process of its own, so that caps and readings are its alone.

It decodes recordings, computes features, drafts, and talks to the cloud; the waveform never leaves
it. The harness sends it a :class:`CaptionRequest` and gets a :class:`Captioned` back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Literal

from edgecloud.config import Config
from edgecloud.contracts import Origin, StopReason
from edgecloud.errors import CloudError, ConfigError, DataError, ModelError, OutOfMemoryError
from edgecloud.hardware.limits import apply_in_child, apply_torch_threads

if TYPE_CHECKING:
    from edgecloud.models.edge import LoadedEdge

__all__ = ["CaptionRequest", "Captioned", "EdgeSetup", "Failed", "Mode", "Streamed", "main"]

Mode = Literal["edge", "cloud", "spec"]


@dataclass(frozen=True, slots=True)
class EdgeSetup:
    """What an edge process is started with. ``model`` and ``path`` name the checkpoint whose tokenizer
    and features it uses; its weights are loaded unless ``mode`` is ``cloud``. ``cache_dir`` holds
    features of earlier requests, for modelled time only. ``first_core`` is the place, among the cores
    this process may use, of the first that its cap leaves it."""

    mode: Mode
    config: Config
    model: str
    path: str
    cache_dir: str | None = None
    first_core: int = 0


@dataclass(frozen=True, slots=True)
class CaptionRequest:
    """One recording to caption, or one ``prompt`` of text alone to answer. ``gate`` replaces the
    configured one (warm-up asks the cloud always); with ``stream`` every commit is sent as it comes."""

    audio_path: str | None
    transcription: str | None = None
    gate: str | None = None
    stream: bool = False
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Streamed:
    """New tokens of a caption, as text by origin."""

    pieces: tuple[tuple[Origin, str], ...]


@dataclass(frozen=True, slots=True)
class Captioned:
    """A finished caption: everything a journal record holds of it. ``audio_s`` is None for a prompt;
    ``audio_notes`` are sentences on what about the recording cannot be right, by kind."""

    audio_s: float | None
    input_tokens: int
    tokens: tuple[int, ...]
    origins: tuple[Origin, ...]
    text: str
    stop: StopReason
    trace: list[dict[str, Any]]
    audio_notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that failed for a reason of its own; the process goes on."""

    kind: str
    message: str


def main(control: Connection, cloud: Connection | None, setup: EdgeSetup) -> None:
    """Cap this process, load, say ``("ready", facts)`` on ``control``, then serve requests.

    ``cloud`` leads to the cloud's process; ``None``: it is asked over HTTP, or not at all.

    Raises:
        EdgeCloudError: the model cannot be loaded.
    """
    config = setup.config
    limits = apply_in_child(config.max_cpu_cores, config.max_memory_gb, first_core=setup.first_core)
    # Only now may torch be imported: its thread pools are sized at import.
    from edgecloud.cloud.client import HttpChannel
    from edgecloud.cloud.remote import PipeChannel, RemoteCloud
    from edgecloud.hardware.captioner import Captioner
    from edgecloud.models.checkpoint import Checkpoint
    from edgecloud.models.edge import load_edge
    from edgecloud.models.processor import Processor

    limits["torch_threads"] = apply_torch_threads(config.max_cpu_cores)
    began = time.perf_counter()
    loaded: LoadedEdge | None = None
    if setup.mode == "cloud":
        processor = Processor(Checkpoint.open(setup.path))
        facts: dict[str, Any] | None = None
    else:
        _check_cap(setup)
        loaded = load_edge(
            setup.model,
            setup.path,
            device=config.edge_device,
            dtype=config.edge_dtype,
            quantization=config.edge_quantization,
            verify=config.verify_weights,
        )
        processor = loaded.processor
        facts = {**loaded.facts, "load_s": time.perf_counter() - began}
    if config.dataset_type != "text" and not processor.hears:
        raise ConfigError(
            f"model {setup.model} takes text alone; give --dataset-type text and a manifest of prompts"
        )
    channel: HttpChannel | PipeChannel | None = None
    if setup.mode != "edge":
        token = os.environ.get("EDGECLOUD_TOKEN")
        channel = (
            HttpChannel(config.cloud_url, token=token) if cloud is None else PipeChannel(cloud)
        )
    captioner = Captioner(
        config,
        processor,
        edge=loaded.model if loaded else None,
        cloud=RemoteCloud(channel, deadline_s=config.deadline) if channel else None,
        cache_dir=setup.cache_dir,
    )
    ready = {
        "limits": limits,
        "model": facts,
        "tokenizer_sha256": processor.fingerprint(),
        "shared": processor.shared(),
    }
    control.send(("ready", ready))
    with closing(channel) if channel else nullcontext():
        while True:
            request: CaptionRequest = control.recv()
            listener = control.send if request.stream else None
            try:
                control.send(captioner.caption(request, listener))
            except (DataError, CloudError, OutOfMemoryError, ModelError) as error:
                control.send(Failed(type(error).__name__, str(error)))


def _check_cap(setup: EdgeSetup) -> None:
    """Raises OutOfMemoryError where the weights alone, in their real precision, are over the cap."""
    from edgecloud.models.checkpoint import Checkpoint
    from edgecloud.models.edge import edge_need
    from edgecloud.models.memory import check_cap

    config = setup.config
    if config.max_memory_gb > 0:
        need = edge_need(
            Checkpoint.open(setup.path),
            device=config.edge_device,
            dtype=config.edge_dtype,
            quantization=config.edge_quantization,
        )
        check_cap(need, config.max_memory_gb)
