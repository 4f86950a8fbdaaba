"""A service as a running process: load the model, listen, answer, drain at SIGTERM."""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgecloud.cloud.service import ServiceSettings, service
from edgecloud.cloud.telemetry import JsonLines
from edgecloud.errors import ConfigError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from edgecloud.cloud.engine import ExtendMany
    from edgecloud.cloud.replicas import VllmSettings

__all__ = ["Listening", "check", "on_vllm", "serve"]


@dataclass(frozen=True, slots=True)
class Listening:
    """Where to listen. ``drain_s``: how long requests under way may take after SIGTERM."""

    host: str = "127.0.0.1"
    port: int = 8765
    tls_cert: str | None = None
    tls_key: str | None = None
    drain_s: float = 10.0


def check(listening: Listening, settings: ServiceSettings) -> None:
    """Refuse what would be open to strangers.

    Raises:
        ConfigError: not on loopback and without a token, or half of a TLS pair.
    """
    if settings.token is None and not _loopback(listening.host):
        raise ConfigError(
            f"{listening.host} can be reached from outside: give --token-file, or the token in "
            "EDGECLOUD_TOKEN"
        )
    if (listening.tls_cert is None) != (listening.tls_key is None):
        raise ConfigError("--tls-cert and --tls-key come together")
    for path in (listening.tls_cert, listening.tls_key):
        if path is not None and not Path(path).is_file():
            raise ConfigError(f"{path} is no file; check --tls-cert and --tls-key")


def serve(
    name: str,
    path: str,
    *,
    device: str,
    dtype: str,
    listening: Listening,
    settings: ServiceSettings,
    log_level: str = "info",
    on_ready: Callable[[str], None],
    vllm: VllmSettings | None = None,
) -> None:
    """Answer until SIGTERM or Ctrl-C. ``on_ready`` is told the address once it is listened on. With
    ``vllm`` the model at ``path`` runs there, and only its tokenizer is read here.

    Raises:
        ConfigError: the address cannot be listened on, or is open to strangers.
        ModelError: the model cannot be loaded.
    """
    import uvicorn

    check(listening, settings)
    with _bound(listening) as listener:
        app = (
            _on_model(name, path, device, dtype, settings)
            if vllm is None
            else on_vllm(name, path, vllm, settings)
        )
        log = logging.StreamHandler(sys.stderr)
        log.setFormatter(JsonLines())
        for source in ("edgecloud.service", "uvicorn.error"):
            logging.getLogger(source).addHandler(log)
            logging.getLogger(source).setLevel(log_level.upper())
            logging.getLogger(source).propagate = False
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                ssl_certfile=listening.tls_cert,
                ssl_keyfile=listening.tls_key,
                timeout_graceful_shutdown=int(listening.drain_s),
                timeout_keep_alive=75,
                h11_max_incomplete_event_size=16 << 10,
                server_header=False,
            )
        )
        scheme = "https" if listening.tls_cert else "http"
        host, port = listener.getsockname()[:2]
        on_ready(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
        server.run(sockets=[listener])


def _on_model(
    name: str, path: str, device: str, dtype: str, settings: ServiceSettings
) -> Starlette:
    from edgecloud.cloud.local import LocalCloud
    from edgecloud.models.audio_lm import extend_many
    from edgecloud.models.loading import load

    loaded = load(name, path, device=device, dtype=dtype)
    cloud = LocalCloud(loaded.model, loaded.stopping())
    together = cast("ExtendMany", extend_many)  # every session of this cloud is an AudioLM
    return service(
        cloud,
        loaded.facts,
        settings,
        extend_many=together,
        prefill_beside=settings.max_batch > 1,
    )


def on_vllm(name: str, path: str, vllm: VllmSettings, settings: ServiceSettings) -> Starlette:
    """The application of a gateway to vLLM for the checkpoint at ``path``.

    Raises:
        CheckpointError: the folder or its content is not usable.
    """
    from edgecloud.cloud.threads import Threads
    from edgecloud.cloud.vllm import VllmCloud, Vocabulary
    from edgecloud.contracts import StopLimits
    from edgecloud.models.loading import look_at

    processor, facts = look_at(name, path)
    stopping = processor.stopping(StopLimits(max_sentences=1))
    cloud = VllmCloud(vllm, Vocabulary(processor.vocab_size, stopping, processor.audio_id))
    hears = "recordings" if vllm.recordings else "nothing"
    return service(
        cloud,
        {**facts, "hears": hears, "draws": False},
        settings,
        runner=Threads(cloud.healthy, cloud.close),
    )


def _bound(listening: Listening) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
        bound = socket.create_server((listening.host, listening.port), family=family, backlog=256)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {listening.host}:{listening.port} ({error.strerror or error}); "
            "choose another --host or --port"
        ) from error
    # Connections inherit it: an answer's body must not wait for the receipt of its head.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
