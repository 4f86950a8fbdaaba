"""Imports done once for the model processes of several runs: these are forked from a process that has done them.

Importing torch and the networks' classes takes a model process five to nine seconds of CPU, more than the embedded
miniatures need for half a corpus. A nursery is capped as its processes are, first thing, then imports, and computes
nothing: no thread, no tensor and no weight of one run is there in the next, and a run's own loading and warm-up are
its own. Only :mod:`bench.series` asks for it; where it cannot be had a process starts afresh, as everywhere else.
"""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from multiprocessing import context, process, reduction, spawn, util
from multiprocessing.connection import wait
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

from edgecloud.hardware.limits import apply_in_child

if TYPE_CHECKING:
    from multiprocessing.forkserver import ForkServer
    from multiprocessing.popen_forkserver import Popen

__all__ = [
    "CLOUD",
    "EDGE",
    "Nursery",
    "allow",
    "allowed",
    "caps_in_force",
    "forked",
    "nursery",
    "with_networks",
]

EDGE = (
    "edgecloud.cloud.http.client",
    "edgecloud.cloud.protocol.remote",
    "edgecloud.edge.request_handler",
    "edgecloud.models.checkpoint",
    "edgecloud.models.families",
)
"""Modules of an edge's process without a network of its own."""
CLOUD = (
    "edgecloud.cloud.engine.self_drafting",
    "edgecloud.cloud.pipe_server",
    "edgecloud.models.loading",
    "edgecloud.models.thinker",
    "edgecloud.models.translation",
)
"""Modules of a process with a network."""
_ASKED = "EDGECLOUD__NURSERY"
_READY_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True)
class Nursery:
    """``modules`` that are imported under the caps of :func:`edgecloud.hardware.limits.apply_in_child`; without
    ``caps`` nothing is capped, nor said of it."""

    modules: tuple[str, ...]
    caps: tuple[int, float, int] | None = None
    """``max_cpu_cores``, ``max_memory_gb``, ``first_core``."""

    def start(self) -> None:
        """Begin to import, if that has not begun; returns at once.

        Raises:
            OSError: no process can be started.
        """
        with _Servers.starting:
            os.environ[_ASKED] = json.dumps(asdict(self))
            try:
                self._server.ensure_running()
            finally:
                del os.environ[_ASKED]

    def kill(self) -> None:
        """End it by force; what was forked from it lives on."""
        with _Servers.starting, suppress(ProcessLookupError):
            if (pid := getattr(self._server, "_forkserver_pid", None)) is not None:
                os.kill(pid, signal.SIGKILL)

    @property
    def _server(self) -> ForkServer:
        if self not in _Servers.running:
            from multiprocessing.forkserver import ForkServer  # not for Windows

            server = _Servers.running[self] = ForkServer()
            server.set_forkserver_preload([__name__])
        return _Servers.running[self]


class _Servers:
    """Of this process: whether nurseries may be used, and those that were."""

    allowed = False
    starting = Lock()
    running: ClassVar[dict[Nursery, ForkServer]] = {}
    in_force: dict[str, Any] | None = None
    """In a nursery and what is forked from it: what its caps came to."""


def allow() -> None:
    """From now on model processes of this program's runs may be forked from nurseries. Linux alone: elsewhere
    libraries do not bear being forked once they are imported."""
    _Servers.allowed = sys.platform == "linux"


def allowed() -> bool:
    """Whether :func:`allow` was called, and this system can."""
    return _Servers.allowed


def nursery(modules: tuple[str, ...], caps: tuple[int, float, int] | None = None) -> Nursery:
    """The nursery of these modules, or one that was started and has them all, under the same caps."""
    for found in list(_Servers.running):
        if found.caps == caps and set(modules) <= set(found.modules):
            return found
    return Nursery(modules, caps)


def with_networks() -> Nursery | None:
    """One that was started and imports what networks need, without caps if there is one; ``None`` where there is none."""
    found = [its for its in _Servers.running if set(CLOUD) <= set(its.modules)]
    return min(found, key=lambda its: its.caps is not None, default=None)


def caps_in_force() -> dict[str, Any] | None:
    """What :func:`edgecloud.hardware.limits.apply_in_child` returned in the nursery that this process was forked
    from, before anything else was imported there; ``None`` in any other process."""
    return _Servers.in_force


def forked(
    source: Nursery, target: Callable[..., None], arguments: tuple[Any, ...], *, name: str
) -> process.BaseProcess:
    """A process forked from a nursery, once that is ready, and started.

    Raises:
        EOFError: the nursery ended while it imported.
        OSError: there is none to be had, or it was not ready within five minutes; then it is ended.
    """
    found = _Forked(target=target, args=arguments, name=name, daemon=True)
    found.source = source
    source.start()
    found.start()
    return found


class _Forked(process.BaseProcess):
    _start_method = "spawn"  # of what it starts in its turn, if anything
    source: Nursery

    @staticmethod
    def _Popen(process_obj: Any) -> Popen:  # noqa: N802 - multiprocessing's name
        from multiprocessing.forkserver import read_signed  # not for Windows
        from multiprocessing.popen_forkserver import Popen

        class Of(Popen):
            """multiprocessing's own, but for the server that is asked."""

            _fds: list[int]

            def _launch(self, process_obj: Any) -> None:
                written = io.BytesIO()
                context.set_spawning_popen(self)
                try:
                    reduction.dump(spawn.get_preparation_data(process_obj._name), written)
                    reduction.dump(process_obj, written)
                finally:
                    context.set_spawning_popen(None)
                server = process_obj.source._server
                self.sentinel, to = server.connect_to_new_process(self._fds)
                # The child sees by it that this process is gone.
                held = os.dup(to)
                self.finalizer = util.Finalize(self, _close, (held, self.sentinel))
                with os.fdopen(to, "wb") as pipe:
                    pipe.write(written.getbuffer())
                if not wait([self.sentinel], _READY_WITHIN_S):
                    # Else it would start this process once more, later.
                    process_obj.source.kill()
                    raise TimeoutError(f"nothing was forked within {_READY_WITHIN_S:g} s")
                self.pid = read_signed(self.sentinel)

        return Of(process_obj)


def _close(*files: int) -> None:
    for file in files:
        os.close(file)


def _import(caps: tuple[int, float, int] | None, modules: list[str]) -> None:
    """What a nursery does before it forks."""
    # Ctrl-C reaches the whole group; the program that wants it decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if caps is not None:
        cores, memory_gb, first_core = caps
        _Servers.in_force = apply_in_child(cores, memory_gb, first_core=first_core)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in modules:
        # What is missing says so in the process that needs it.
        with suppress(ImportError):
            import_module(name)
    gc.freeze()


if (_asked := os.environ.pop(_ASKED, None)) is not None:
    _import(**json.loads(_asked))
