"""A child process and the pipe to it. Every wait has a deadline; a death is told with its reason."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from edgecloud.edge.nursery import Nursery, forked
from edgecloud.ending import TERMINATED, end_on_sigterm
from edgecloud.errors import EdgeCloudError, WorkerError
from edgecloud.registry import main_brings_parts
from edgecloud.stages import listening, say, stage

__all__ = ["At", "Said", "Worker", "pass_on", "pipe", "speaking"]

_STOP_WITHIN_S = 5.0
_TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence of a process for whoever watches the run."""

    text: str


@dataclass(frozen=True, slots=True)
class At:
    """The stage of a process before it is ready, and the share of it that is done (0 to 1, or not known)."""

    what: str
    share: float | None = None


def pass_on(message: At | Said, of: str = "") -> None:
    """Tell whoever listens here what a process is at, or has said; ``of`` is its name, where it is to be told."""
    begin = f"{of}: " if of else ""
    if isinstance(message, Said):
        say(begin + message.text)
    else:
        stage(begin + message.what, message.share)


def pipe() -> tuple[Connection, Connection]:
    """Two connected ends, for processes made by :class:`Worker`."""
    return multiprocessing.get_context("spawn").Pipe(duplex=True)


class Worker:
    """Runs ``entry(connection, *arguments)`` in a fresh interpreter and talks to it.

    Messages are Python objects; only this process and its own child ever hold the pipe's ends. An
    exception of our tree that ends the child's ``entry`` is raised by the next :meth:`receive`. With a
    ``nursery`` the child has its modules imported already; where that fails it starts afresh all the same.
    """

    def __init__(
        self,
        name: str,
        entry: Callable[..., None],
        *arguments: Any,
        nursery: Nursery | None = None,
    ) -> None:
        self._name = name
        self._connection, theirs = pipe()
        with _without_main():
            self._process = _started(nursery, f"edgecloud-{name}", (entry, theirs, *arguments))
        # Only the child holds its end now, so that its death is seen as the end of the stream.
        theirs.close()

    @property
    def pid(self) -> int:
        """The child's process id.

        Raises:
            WorkerError: it was never started.
        """
        if self._process.pid is None:
            raise WorkerError(f"the {self._name} process was never started")
        return self._process.pid

    def send(self, message: Any) -> None:
        """Raises WorkerError when the process is gone."""
        try:
            self._connection.send(message)
        except OSError as error:
            raise WorkerError(self._death()) from error

    def receive(self, timeout_s: float) -> Any:
        """The next message.

        Raises:
            WorkerError: the process died, or said nothing for ``timeout_s`` seconds.
            EdgeCloudError: what the process ended with.
        """
        try:
            if not self._connection.poll(timeout_s):
                raise WorkerError(
                    f"the {self._name} process said nothing for {timeout_s:.0f} s; raise --deadline "
                    "(or --start-deadline while models load), or use a smaller model"
                )
            message = self._connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerError(self._death()) from error
        if isinstance(message, EdgeCloudError):
            raise message
        return message

    @property
    def name(self) -> str:
        """The name that errors call the child by."""
        return self._name

    @property
    def connection(self) -> Connection:
        """This process's end of the pipe."""
        return self._connection

    def close(self) -> None:
        """End the process: by closing its pipe, then by force. Safe to call twice."""
        self._connection.close()
        self._process.join(_STOP_WITHIN_S)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(_STOP_WITHIN_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(_STOP_WITHIN_S)

    def _death(self) -> str:
        self._process.join(_STOP_WITHIN_S)
        code = self._process.exitcode
        if code is None:
            return f"the {self._name} process closed its pipe but still runs"
        if code == -getattr(signal, "SIGKILL", 0):
            return (
                f"the {self._name} process was killed from outside, most likely because the machine, "
                "the container or the job ran out of memory; give it more, or use a smaller model or "
                "precision"
            )
        return f"the {self._name} process died (exit code {code}); its last words are above"


def _started(nursery: Nursery | None, name: str, arguments: tuple[Any, ...]) -> BaseProcess:
    if nursery is not None:
        # It may have run out of memory, or been killed.
        with suppress(OSError, EOFError):
            return forked(nursery, _run, arguments, name=name)
    process = multiprocessing.get_context("spawn").Process(
        target=_run, args=arguments, name=name, daemon=True
    )
    process.start()
    return process


def speaking(workers: Sequence[Worker], *, within_s: float) -> Iterator[Worker | None]:
    """The workers with a message, one after the other as messages arrive, for ``within_s``
    seconds at most; ``None`` each second in which all are silent. Whoever iterates receives it."""
    deadline_s = time.monotonic() + within_s
    by_end = {worker.connection: worker for worker in workers}
    while (left_s := deadline_s - time.monotonic()) > 0:
        ends = wait(list(by_end), timeout=min(_TICK_S, left_s))
        if not ends:
            yield None
        for end in ends:
            yield by_end[end]  # type: ignore[index]


_STARTING = threading.Lock()


@contextmanager
def _without_main() -> Iterator[None]:
    """Meanwhile a process that starts does not import the program it is started from: a script needs no guard of its
    ``__main__``, and nothing of it runs twice. Where a program registers parts itself they are to be had there by
    that alone, so then it is imported."""
    main = sys.modules["__main__"]
    with _STARTING:
        if main_brings_parts():
            yield
            return
        # What multiprocessing looks at to find it.
        kept = {name: vars(main).get(name) for name in ("__file__", "__spec__")}
        vars(main).update(dict.fromkeys(kept))
        try:
            yield
        finally:
            for name, value in kept.items():
                vars(main)[name] = value
            if kept["__file__"] is None:
                del vars(main)["__file__"]


class _ToParent:
    """Passes on to the parent what this process is at."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def stage(self, what: str, share: float | None) -> None:
        self._send(At(what, share))

    def say(self, text: str) -> None:
        self._send(Said(text))

    def close(self) -> None:
        """Nothing: the pipe is closed elsewhere."""

    def _send(self, message: At | Said) -> None:
        # Nobody listens any more: the work ends at its next message.
        self._connection.send(message)


def _end_with_parent() -> None:
    """End this process when its parent is gone, however that ended: by SIGTERM, so that what was being
    written is cleared away, and by force where that does not help."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_STOP_WITHIN_S)
    os._exit(TERMINATED)


def _run(entry: Callable[..., None], connection: Connection, *arguments: Any) -> None:
    # Ctrl-C reaches the whole group; the parent decides, and closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_on_sigterm()
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    # Edge and cloud take turns: a thread pool that spins while it waits takes the other's cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with listening(_ToParent(connection)):
            entry(connection, *arguments)
    except EdgeCloudError as error:
        _last_words(connection, error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the other end was closed: the work is over
    finally:
        connection.close()
    # Nothing is left to unwind, and taking a large library apart costs a second of CPU.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _last_words(connection: Connection, error: EdgeCloudError) -> None:
    try:
        connection.send(error)
    except OSError:
        print(error, file=sys.stderr)  # noqa: T201 - nobody is left to send it to
