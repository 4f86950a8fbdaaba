"""Processes forked from one that has imported: caps first, ends and deaths as of any other, afresh where it fails."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest

from edgecloud.edge import nursery as nurseries
from edgecloud.edge.nursery import CLOUD, EDGE, Nursery, caps_in_force
from edgecloud.edge.worker import Worker
from edgecloud.errors import WorkerError
from tests.nurseries import stop

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nurseries are for Linux")

STARTED_S = 60.0
CAPS = (1, 4.0, 0)
MODULE = "this"
"""Of the standard library, and imported by nothing."""


def _told(connection: Connection) -> None:
    """Says what is there before anything is imported; an exit code given as a number ends it."""
    connection.send(
        {
            "imported": MODULE in sys.modules,
            "late": "torch" in sys.modules,
            "caps": caps_in_force(),
            "affinity": len(os.sched_getaffinity(0)),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "parent": os.getppid(),
            "asked": nurseries._ASKED in os.environ,
        }
    )
    if isinstance(code := connection.recv(), int):
        os._exit(code)


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    """One of a module that costs nothing; it has ended afterwards."""
    found = Nursery((MODULE,), CAPS)
    yield found
    if found in nurseries._Servers.running:
        stop(found)


def test_two_processes_of_a_nursery_have_its_imports_under_its_caps(nursery: Nursery) -> None:
    before = os.sched_getaffinity(0)
    workers = [Worker("edge", _told, nursery=nursery) for _ in range(2)]
    first, second = (worker.receive(STARTED_S) for worker in workers)
    assert first == second
    assert first["imported"]
    assert not first["late"]
    assert not first["asked"]
    assert first["parent"] not in (os.getpid(), 1)
    assert first["affinity"] == 1
    assert first["threads"] == "1"
    # Nothing says that the caps came late, and this process is as free as it was.
    assert first["caps"] == {"affinity": [min(before)], "threads": 1, "notes": []}
    assert os.sched_getaffinity(0) == before
    assert nurseries._ASKED not in os.environ
    # Each dies its own death, which is told, and closing ends the other.
    workers[0].send(3)
    with pytest.raises(WorkerError, match=r"edge process died \(exit code 3\)"):
        workers[0].receive(STARTED_S)
    began = time.monotonic()
    for worker in workers:
        worker.close()
    assert time.monotonic() - began < 5
    assert [worker._process.exitcode for worker in workers] == [3, 0]


def test_a_nursery_that_was_killed_is_made_again(nursery: Nursery) -> None:
    nursery.start()
    nursery.kill()
    worker = Worker("edge", _told, nursery=nursery)
    # It may be afresh, if the kernel had not yet ended the nursery when it was asked.
    assert worker.receive(STARTED_S)["affinity"] >= 1
    worker.close()
    assert worker._process.exitcode == 0


def test_a_nursery_that_is_not_ready_is_ended_and_the_process_starts_afresh(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    nursery.start()
    server: Any = nursery._server
    pid = server._forkserver_pid
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(nurseries, "_READY_WITHIN_S", 0.1)
    worker = Worker("edge", _told, nursery=nursery)
    told = worker.receive(STARTED_S)
    assert told["parent"] == os.getpid()
    assert told["caps"] is None
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    server._forkserver_pid = None
    worker.close()


def test_where_a_nursery_ends_while_it_imports_the_process_starts_afresh() -> None:
    broken = Nursery((MODULE,), ("many", 4.0, 0))  # type: ignore[arg-type]
    worker = Worker("edge", _told, nursery=broken)
    told = worker.receive(STARTED_S)
    assert told["parent"] == os.getpid()
    assert told["caps"] is None
    assert not told["imported"]
    worker.close()
    stop(broken)


def test_nurseries_name_modules_that_there_are() -> None:
    """A name that is wrong would cost every run its import, and nobody would notice: it is no error there."""
    from importlib.util import find_spec

    assert all(find_spec(name) is not None for name in (*EDGE, *CLOUD))
