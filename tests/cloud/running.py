"""A service on a free port of loopback, in a thread of the tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from edgecloud.cloud.engine.engine import Runner
from edgecloud.cloud.engine.session_registry import SteppedCloud
from edgecloud.cloud.http.app import ServiceSettings, service
from edgecloud.cloud.http.connections import Connections

__all__ = ["listening", "running"]

_WITHIN_S = 20


@contextmanager
def running(
    cloud: SteppedCloud,
    settings: ServiceSettings | None = None,
    *,
    port: int = 0,
    runner: Runner | None = None,
    facts: dict[str, Any] | None = None,
) -> Iterator[str]:
    """The address of a service on ``cloud`` while the context lasts."""
    known = {"name": "scripted", **(facts or {})}
    app = service(cloud, known, settings or ServiceSettings(), runner=runner)
    with listening(app, port=port) as address:
        yield address


@contextmanager
def listening(app: Any, *, port: int = 0, connections: Connections | None = None) -> Iterator[str]:
    """The address of an ASGI application while the context lasts; ``connections`` as a service has them."""
    more: dict[str, Any] = {"http": connections.protocol()} if connections else {}
    listener = socket.create_server(("127.0.0.1", port))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1, **more)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + _WITHIN_S
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    try:
        scheme = "https" if connections and connections.tls else "http"
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(_WITHIN_S)
        listener.close()
