"""A service as a running process: load the model, listen, answer, drain at SIGTERM."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import uvicorn

from edgecloud.cloud.http.app import ServiceSettings, service
from edgecloud.cloud.http.connections import Connections
from edgecloud.cloud.http.telemetry import JsonLines, Limited
from edgecloud.decoding.acceptance import RULES
from edgecloud.errors import ConfigError

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    import asyncio
    from types import FrameType

    from starlette.applications import Starlette

    from edgecloud.cloud.engine.engine import ExtendMany
    from edgecloud.cloud.vllm.replicas import VllmSettings

__all__ = ["Listening", "check", "on_vllm", "serve"]

_BACKLOG = 256
_OTHER_FILES = 96
"""Files of this process that are no connections: weights, libraries, logs, pipes, vLLM."""


@dataclass(frozen=True, slots=True)
class Listening:
    """The address to listen at, and the most ``connections`` at once; ``head_s`` bounds the time to a
    request's head. ``drain_s``: how long after SIGTERM the process may live."""

    host: str = "127.0.0.1"
    port: int = 8765
    tls_cert: str | None = None
    tls_key: str | None = None
    drain_s: float = 10.0
    connections: int = 256
    head_s: float = 10.0


def check(listening: Listening, settings: ServiceSettings) -> None:
    """Check that the service is not open to strangers.

    Raises:
        ConfigError: not on loopback and without a token; half of a TLS pair, or one that cannot be used.
    """
    if not settings.clients and not _loopback(listening.host):
        raise ConfigError(
            f"{listening.host} can be reached from outside: give --token-file, or the token in "
            "EDGECLOUD_TOKEN"
        )
    if (listening.tls_cert is None) != (listening.tls_key is None):
        raise ConfigError("--tls-cert and --tls-key come together")
    for path in (listening.tls_cert, listening.tls_key):
        if path is not None and not Path(path).is_file():
            raise ConfigError(f"{path} is no file; check --tls-cert and --tls-key")
    _tls(listening)


def serve(
    name: str,
    path: str,
    *,
    device: str,
    dtype: str,
    quantization: str = "none",
    listening: Listening,
    settings: ServiceSettings,
    log_level: str = "info",
    on_ready: Callable[[str], None],
    check_model: Callable[[], None] = lambda: None,
    vllm: VllmSettings | None = None,
) -> None:
    """Answer until SIGTERM or Ctrl-C. ``on_ready`` is told the address once it is listened on;
    ``check_model`` is called before the model at ``path`` is loaded, when all else is in order. With
    ``vllm`` the model at ``path`` runs there, and only its tokenizer is read here.

    Raises:
        ConfigError: the address cannot be listened on, or is open to strangers.
        ModelError: the model cannot be loaded.
    """
    check(listening, settings)
    margin_s = min(2.0, listening.drain_s / 4)
    settings = replace(settings, close_s=margin_s / 2)
    most, backlog = _fitting(listening.connections)
    connections = Connections(most, head_s=listening.head_s, tls=_tls(listening))
    with _bound(listening) as listener:
        if vllm is None:
            from edgecloud.models.checkpoint import Checkpoint

            _within(settings, Checkpoint.open(path).context)
            check_model()
        app = (
            _on_model(name, path, device, dtype, quantization, settings)
            if vllm is None
            else on_vllm(name, path, vllm, settings)
        )
        log = logging.StreamHandler(sys.stderr)
        log.setFormatter(JsonLines())
        log.addFilter(Limited())
        for source in ("edgecloud", "uvicorn.error", "asyncio"):
            logging.getLogger(source).addHandler(log)
            logging.getLogger(source).setLevel(log_level.upper())
            logging.getLogger(source).propagate = False
        server = _Server(
            uvicorn.Config(
                app,
                http=cast("type[asyncio.Protocol]", connections.protocol()),
                ws="none",
                backlog=backlog,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=cast("int", listening.drain_s - margin_s),
                timeout_keep_alive=75,
                h11_max_incomplete_event_size=16 << 10,
                server_header=False,
            ),
            ends_within_s=listening.drain_s,
        )
        scheme = "https" if listening.tls_cert else "http"
        host, port = listener.getsockname()[:2]
        on_ready(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server whose process ends within ``ends_within_s`` of the signal to end, whatever is under way."""

    def __init__(self, config: uvicorn.Config, *, ends_within_s: float) -> None:
        super().__init__(config)
        self._ends_within_s = ends_within_s
        self._ending: threading.Timer | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            # How many may wait to be accepted is another matter than how many are accepted at once.
            listener.listen(_BACKLOG)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._ending is None:
            # What a shell says of a process that a signal ended.
            self._ending = threading.Timer(self._ends_within_s, _end_now, [128 + sig])
            self._ending.daemon = True
            self._ending.start()


def _end_now(status: int) -> None:
    """End the process without waiting for anything: a forward on a thread cannot be stopped."""
    logging.getLogger("edgecloud.service").warning("ended before all requests were")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _fitting(connections: int) -> tuple[int, int]:
    """The numbers of connections that may be open and that may be accepted at once, so that this process
    always has files left; raises its own limit where it may."""
    backlog = 128
    if sys.platform == "win32":
        return connections, backlog
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + 2 * backlog + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft != resource.RLIM_INFINITY and soft < needed:
        free = max(4, soft - _OTHER_FILES)
        # As many are accepted, in the worst case, before as many are closed.
        backlog = max(1, free // 8)
        connections = max(2, min(connections, free - 3 * backlog))
    return connections, backlog


def _on_model(
    name: str, path: str, device: str, dtype: str, quantization: str, settings: ServiceSettings
) -> Starlette:
    from edgecloud.cloud.engine.engine import extend_each
    from edgecloud.cloud.engine.local import LocalCloud
    from edgecloud.models.audio_lm import AudioLM, extend_many
    from edgecloud.models.precision import load_model

    loaded = load_model(
        name, path, device=device, dtype=dtype, quantization=quantization, flags="--"
    )
    settings = _within(settings, loaded.context)
    cloud = LocalCloud(loaded.model, loaded.stopping())
    # Every session of this cloud is an AudioLM, or on the general adapter or quantised, which take them in turns.
    fast = isinstance(loaded.model, AudioLM)
    together = cast("ExtendMany", extend_many) if fast else extend_each
    return service(
        cloud,
        {**loaded.facts, "chat_template": loaded.processor.chat_template, "rules": _rules()},
        settings,
        extend_many=together,
        prefill_beside=settings.max_batch > 1,
    )


def _rules() -> dict[str, str | None]:
    """The acceptance rules that this service can apply, and the hashes of those that plug-ins bring."""
    return {part.name: part.sha256 for part in RULES.parts()}


def _within(settings: ServiceSettings, model_context: int | None) -> ServiceSettings:
    """The settings with the model's context, where it has one and none is asked for.

    Raises:
        ConfigError: more is asked for than the model has.
    """
    bounds = settings.bounds
    if model_context is None:
        return settings
    if bounds.context is not None and bounds.context > model_context:
        raise ConfigError(
            f"--max-context {bounds.context} is more than the {model_context} tokens that the model was "
            "made for"
        )
    context = bounds.context or model_context
    return replace(settings, bounds=replace(bounds, context=context))


def on_vllm(name: str, path: str, vllm: VllmSettings, settings: ServiceSettings) -> Starlette:
    """The application of a gateway to vLLM for the checkpoint at ``path``.

    Raises:
        CheckpointError: the folder or its content is not usable.
    """
    from edgecloud.cloud.engine.thread_runner import Threads
    from edgecloud.cloud.vllm.gateway import VllmCloud, Vocabulary
    from edgecloud.contracts import StopLimits
    from edgecloud.models.checkpoint import Checkpoint
    from edgecloud.models.families.contract import published_context
    from edgecloud.models.loading import look_at

    processor, facts = look_at(name, path)
    settings = _within(settings, published_context(Checkpoint.open(path).config))
    stopping = processor.stopping(StopLimits(max_sentences=1))
    cloud = VllmCloud(vllm, Vocabulary(processor.vocab_size, stopping, processor.audio_id))
    accepts_audio = "recordings" if vllm.recordings else "nothing"
    return service(
        cloud,
        {
            **facts,
            "chat_template": processor.chat_template,
            "hears": accepts_audio,
            "draws": False,
            "rules": _rules(),
        },
        settings,
        runner=Threads(cloud.healthy, cloud.close),
    )


def _tls(listening: Listening) -> ssl.SSLContext | None:
    """Raises ConfigError where certificate and key cannot be used."""
    if listening.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # A key behind a passphrase would be asked for on a terminal that may not be there.
        context.load_cert_chain(listening.tls_cert, listening.tls_key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"--tls-cert {listening.tls_cert} and --tls-key {listening.tls_key} cannot be used "
            f"({str(reason).replace('_', ' ').lower()}); give a certificate and its key without a "
            "passphrase, both as PEM"
        ) from error
    return context


def _bound(listening: Listening) -> socket.socket:
    try:
        # What is no name at all is refused before a socket is made.
        socket.getaddrinfo(listening.host or None, listening.port, flags=socket.AI_PASSIVE)
        family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
        bound = socket.create_server(
            (listening.host, listening.port), family=family, backlog=_BACKLOG
        )
    except (OSError, OverflowError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot listen on {listening.host}:{listening.port} ({reason}); "
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
