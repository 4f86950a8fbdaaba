"""The edge as a process of its own, so that caps and readings are its alone.

It decodes recordings, computes features, drafts, and talks to the cloud; the waveform never leaves
it. The experiment sends it a :class:`Request` and gets a :class:`Response` back.
"""

from __future__ import annotations

import os
import time
from contextlib import closing, nullcontext
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from edgecloud.edge.messages import EdgeSetup, Failed, Request
from edgecloud.edge.nursery import caps_in_force
from edgecloud.errors import CloudError, ConfigError, DataError, ModelError, OutOfMemoryError
from edgecloud.hardware.limits import apply_in_child, apply_torch_threads
from edgecloud.registry import load_plugins

if TYPE_CHECKING:
    from edgecloud.models.loading import LoadedModel

__all__ = ["main"]


def main(control: Connection, cloud: Connection | None, setup: EdgeSetup) -> None:
    """Cap this process, load, say ``("ready", facts)`` on ``control``, then serve requests.

    ``cloud`` leads to the cloud's process; ``None``: it is asked over HTTP, or not at all.

    Raises:
        EdgeCloudError: the model cannot be loaded.
    """
    config = setup.config
    limits = caps_in_force() or apply_in_child(
        config.caps.cpu_cores, config.caps.memory_gb, first_core=setup.first_core
    )
    # Only now may torch be imported: its thread pools are sized at import.
    from edgecloud.cloud.http.client import HttpChannel
    from edgecloud.cloud.protocol.remote import PipeChannel, RemoteCloud
    from edgecloud.edge.request_handler import RequestHandler
    from edgecloud.models.checkpoint import Checkpoint

    # What a plug-in imports is capped, too.
    load_plugins()
    limits["torch_threads"] = apply_torch_threads(config.caps.cpu_cores)
    began = time.perf_counter()
    loaded: LoadedModel | None = None
    drafter = None
    if setup.mode == "cloud":
        processor = Checkpoint.open(setup.path).processor()
        facts: dict[str, Any] | None = None
    else:
        # Not above: beside a cloud alone there is no network here to import classes for.
        from edgecloud.models.folder import same_vocabulary
        from edgecloud.models.precision import load_model
        from edgecloud.models.translation import of_pair

        _check_cap(setup)
        loaded = load_model(
            setup.model,
            setup.path,
            verify=config.service.verify_weights,
            **config.models.placement("edge"),
        )
        processor = loaded.processor
        if setup.cloud_path is not None and not same_vocabulary(setup.path, setup.cloud_path):
            processor, drafter = of_pair(processor, Checkpoint.open(setup.cloud_path).processor())
        facts = {**loaded.facts, "load_s": time.perf_counter() - began}
    if config.data.kind != "text" and not processor.accepts_audio:
        raise ConfigError(
            f"model {setup.model} takes text alone; give --dataset-type text and a manifest of prompts"
        )
    channel: HttpChannel | PipeChannel | None = None
    if setup.mode != "edge":
        token = os.environ.get("EDGECLOUD_TOKEN")
        channel = (
            HttpChannel(config.service.url, token=token) if cloud is None else PipeChannel(cloud)
        )
    request_handler = RequestHandler(
        config,
        processor,
        edge=loaded.model if loaded else None,
        cloud=RemoteCloud(channel, deadline_s=config.run.deadline_s) if channel else None,
        drafter=drafter,
        cache_dir=setup.cache_dir,
    )
    if facts is not None and request_handler.translation is not None:
        facts["shared_vocabulary"] = request_handler.translation.to_json()
    ready = {
        "limits": limits,
        "model": facts,
        "tokenizer_sha256": processor.fingerprint(),
        "shared": processor.shared(),
        "stopping": request_handler.stopping.to_json(),
    }
    control.send(("ready", ready))
    with closing(channel) if channel else nullcontext():
        while True:
            request: Request = control.recv()
            listener = control.send if request.stream else None
            try:
                control.send(request_handler.caption(request, listener))
            except (DataError, CloudError, OutOfMemoryError, ModelError) as error:
                control.send(Failed(type(error).__name__, str(error)))


def _check_cap(setup: EdgeSetup) -> None:
    """Check the cap. Raises OutOfMemoryError where the weights, in their real precision, and what is held
    besides exceed it."""
    from edgecloud.models.checkpoint import Checkpoint
    from edgecloud.models.memory import check_cap, request_tokens, with_room
    from edgecloud.models.precision import need_of

    config = setup.config
    if config.caps.memory_gb > 0:
        checkpoint = Checkpoint.open(setup.path)
        need = need_of(checkpoint, **config.models.placement("edge"))
        tokens = request_tokens(config)
        check_cap(with_room(need, checkpoint, tokens=tokens), config.caps.memory_gb)
