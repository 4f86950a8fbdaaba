"""A gateway in front of a service that does to messages what bad networks and servers do."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import httpx

__all__ = ["Exchange", "Fault", "Gateway"]


class Exchange:
    """One request at the gateway, ``number`` in order of arrival: what came, and ways to answer."""

    def __init__(self, handler: BaseHTTPRequestHandler, service: httpx.Client, number: int) -> None:
        self._handler = handler
        self._service = service
        self.number = number
        self.head = (handler.command, handler.path, dict(handler.headers))
        """Method, path and headers."""
        length = int(handler.headers.get("Content-Length", 0))
        self.body = handler.rfile.read(length)

    def ask(self, body: bytes | None = None) -> httpx.Response:
        """Have the service answer ``body``, by default what came."""
        content = self.body if body is None else body
        return self._service.post("/v1/messages", content=content)

    def answer(self, status: int, body: bytes, *, claim: int | None = None) -> None:
        """Answer; ``claim`` is the length that is said where it is not the body's."""
        handler = self._handler
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if claim is None else claim))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = claim is not None

    def relay(self) -> None:
        """Answer as the service does."""
        found = self.ask()
        self.answer(found.status_code, found.content)

    def raw(self, data: bytes) -> None:
        """Say ``data``, and hang up."""
        self._handler.wfile.write(data)
        self._handler.close_connection = True

    def reset(self) -> None:
        """End the connection at once, so that the other side sees it broken."""
        self._handler.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self._handler.close_connection = True
        self._handler.connection.close()


Fault = Callable[[Exchange], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken connections are what this is for."""


class Gateway:
    """Context manager: listens on loopback, and lets ``fault`` answer each request."""

    def __init__(self, target: str, fault: Fault) -> None:
        count = iter(range(1 << 30))
        self._service = service = httpx.Client(base_url=target, timeout=30, trust_env=False)
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                with lock:
                    number = next(count)
                # A client that has gone away does not care for what it would have been told.
                with suppress(OSError, httpx.HTTPError):
                    fault(Exchange(self, service, number))

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
        self._service.close()
