"""The models of a run, checked before a process loads any of them.

What there is to check needs the families' libraries, which the process that only conducts a run never
imports: a process of its own does it (:mod:`edgecloud.experiments.preflight`) and ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecloud.cloud.http.client import model_metadata
from edgecloud.contracts import Sample
from edgecloud.edge.messages import Mode
from edgecloud.edge.worker import At, Said, Worker, pass_on
from edgecloud.embedded.pair import CLOUD_CHECKPOINT, NAMED
from edgecloud.errors import ConfigError, WorkerError
from edgecloud.models.families import Family
from edgecloud.models.folder import family_at
from edgecloud.models.hub import locate
from edgecloud.registry import load_plugins
from edgecloud.settings.config import Config, resolve
from edgecloud.stages import say, stage

if TYPE_CHECKING:
    from edgecloud.experiments.preflight import Arm, Side

__all__ = ["check_cloud", "check_here", "check_models", "known_good", "model_of", "remote_facts"]

_CHECKED: set[str] = set()
"""Checks that passed since this process began."""
_LOCK = threading.Lock()
_DONE = "done"
_CHECKED_WITHIN_S = 3600.0
"""Of a service, whose weights may have to be hashed first."""


def check_models(
    arms: Sequence[tuple[Mode, Config]],
    *,
    samples: Sequence[Sample] = (),
    together: bool = False,
) -> None:
    """Check what ``arms`` load on this machine: that edge and cloud fit to each other and to what they
    are asked (``samples``), that devices and precisions exist, then that all fits into memory, then
    which weights they are. Done once for equal runs. ``together``: all are loaded at once.

    Raises:
        EdgeCloudError: something is wrong; nothing has been loaded.
    """
    with _LOCK:
        keys = [_key(mode, config) for mode, config in arms]
        if all(key in _CHECKED for key in keys):
            return
        wanted = [(mode, config) for mode, config in arms if not known_good(mode, config)]
        if wanted:
            _examined(
                [_settings(mode, config, samples) for mode, config in wanted],
                together=together,
                timeout_s=max(config.run.start_deadline_s for _, config in wanted),
            )
        _CHECKED.update(keys)


def check_here(config: Config) -> None:
    """Check an edge and a cloud that this very process is to load, as :func:`check_models` checks a run's, for
    requests of the kind that they take.

    Raises:
        EdgeCloudError: something is wrong; nothing has been loaded.
    """
    if known_good("spec", config):
        return
    models = (model_of(config.models.edge, "edge"), model_of(config.models.cloud, "cloud"))
    families = [family_at(path) for _, path in models]
    if any(family is not None and not family.accepts_audio for family in families):
        config = config.changed(dataset_type="text")
    _examine_here([_settings("spec", config, ())], together=False)


def check_cloud(
    path: str,
    *,
    device: str,
    dtype: str,
    quantization: str,
    caches: int,
    timeout_s: float = _CHECKED_WITHIN_S,
) -> None:
    """Check a model that a service is to load, with ``caches`` bytes for its sessions, as
    :func:`check_models` checks a run's; what it will be asked is not known yet.

    Raises:
        EdgeCloudError: something is wrong; nothing has been loaded.
    """
    if path == str(CLOUD_CHECKPOINT) and device in ("auto", "cpu") and quantization == "none":
        return
    placed = {"device": device, "dtype": dtype, "quantization": quantization, "flags": "--"}
    side = {"role": "cloud", "path": path, **placed, "caches": caches}
    # Text is taken by every family.
    config = resolve().changed(dataset_type="text")
    arm = {"config": config, "sides": [side], "remote": None, "conversations": [[]]}
    _examined([arm], together=False, timeout_s=timeout_s)


def model_of(model: str | None, side: str) -> tuple[str, str]:
    """``(name, folder)`` of a model, fetched from a hub where it names a repository; the embedded
    miniature of that ``side`` when none is given, another one by its name. A folder of that name comes first.

    Raises:
        CheckpointError: it cannot be had.
    """
    name = model or f"embedded-{side}"
    if name in NAMED and (model is None or not Path(name).exists()):
        return name, str(NAMED[name])
    found = locate(name)
    return found.name, found.path


def remote_facts(config: Config) -> dict[str, Any]:
    """The model's metadata as the service gives it, with a word on how it is reached.

    Raises:
        CloudError: it does not answer, or is none.
    """
    token = os.environ.get("EDGECLOUD_TOKEN")
    found = model_metadata(config.service.url, token=token, timeout_s=config.run.start_deadline_s)
    return {**found, "transport": "http"}


def known_good(mode: Mode, config: Config) -> bool:
    """True when this machine uses only the embedded pair, as it was made, on a CPU, which need not be
    checked each time."""
    own = (mode == "cloud" or config.models.edge is None) and (
        mode == "edge" or config.models.cloud is None
    )
    usual = {config.models.edge_device, config.models.cloud_device} <= {"auto", "cpu"}
    quantized = {config.models.edge_quantization, config.models.cloud_quantization} != {"none"}
    plain = not quantized and config.gate.calibration is None
    return own and usual and plain


def _key(mode: Mode, config: Config) -> str:
    run = (config.run.workers, config.run.shard, config.service.url)
    return repr((mode, config.data, config.models, config.caps, config.gate.calibration, run))


def _settings(mode: Mode, config: Config, samples: Sequence[Sample]) -> dict[str, Any]:
    """The values that :class:`edgecloud.experiments.preflight.Arm` is made of, as they travel.

    Raises:
        ConfigError: a precision is asked for of a cloud that is not loaded here.
    """
    near = config.service.url == "local"
    if mode != "edge" and not near and config.models.cloud_quantization != "none":
        raise ConfigError(
            f"--cloud-quantization {config.models.cloud_quantization} is for --cloud-url local; start the service with "
            f"`edgecloud serve --quantization {config.models.cloud_quantization}`"
        )
    sides: list[dict[str, Any]] = []
    if mode != "cloud":
        _, path = model_of(config.models.edge, "edge")
        sides.append({"role": "edge", "path": path, **config.models.placement("edge")})
    # Of a cloud elsewhere the edge's process uses the tokenizer and the features.
    if mode == "cloud" or (mode == "spec" and (near or config.models.cloud is not None)):
        _, path = model_of(config.models.cloud, "cloud")
        placed = config.models.placement("cloud")
        sides.append({"role": "cloud", "path": path, **placed, "weights": near})
    return {
        "config": config,
        "sides": sides,
        "remote": None if near or mode == "edge" else remote_facts(config),
        "conversations": [
            _conversations(config, samples, family_at(side["path"])) for side in sides
        ],
    }


def _conversations(
    config: Config, samples: Sequence[Sample], family: Family | None
) -> list[list[dict[str, Any]]]:
    """The requests of a run, each once, as ``family`` words them; without samples a request of their kind."""
    family = family or Family("unknown")  # the check says so
    if config.data.kind == "text":
        texts = dict.fromkeys(sample.prompt for sample in samples if sample.prompt is not None)
        return [family.text_messages(text) for text in texts or ("?",)]
    words: dict[str | None, None] = {None: None}
    if config.data.input_modality == "audio_text":
        words = dict.fromkeys(sample.transcription for sample in samples) or words
    return [family.messages(config.data.language, config.data.prompt_type, text) for text in words]


def _examined(arms: list[dict[str, Any]], *, together: bool, timeout_s: float) -> None:
    worker = Worker("check", _examine, arms, together)
    try:
        while (message := worker.receive(timeout_s)) != _DONE:
            if not isinstance(message, At | Said):
                raise WorkerError(f"the check of the models said {message!r:.200}")
            pass_on(message)
    finally:
        worker.close()


def _examine(connection: Connection, arms: list[dict[str, Any]], together: bool) -> None:
    stage("checking the models")
    load_plugins()
    _examine_here(arms, together=together)
    connection.send(_DONE)


def _examine_here(arms: list[dict[str, Any]], *, together: bool) -> None:
    from edgecloud.experiments.preflight import Arm, Side, examine

    def made(arm: dict[str, Any]) -> Arm:
        sides: tuple[Side, ...] = tuple(Side(**side) for side in arm["sides"])
        return Arm(**{**arm, "sides": sides})

    examine([made(arm) for arm in arms], together=together, say=say)
