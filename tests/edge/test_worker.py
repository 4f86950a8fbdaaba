"""A child process: what it says, how it dies, and how it is ended. Each test starts one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from edgecloud.edge import worker as worker_module
from edgecloud.edge.worker import Worker, speaking
from edgecloud.errors import CheckpointError, ManifestError, WorkerError

STARTED_S = 60.0


def _echo(connection: Connection, greeting: str) -> None:
    """Repeats what it hears; an exit code given as a number ends it."""
    connection.send(greeting)
    while True:
        heard = connection.recv()
        if isinstance(heard, int):
            os._exit(heard)
        connection.send(heard)


def _fail(connection: Connection) -> None:
    connection.send("ready")
    if connection.recv() == "listed":
        raise ManifestError("two problems", ["entry 1: caption", "entry 2: index"])
    raise CheckpointError("model here: weights missing")


def _deaf(connection: Connection) -> None:
    connection.send("ready")
    time.sleep(600)


def _main(connection: Connection) -> None:
    """Says whether the program that started it was imported."""
    connection.send(sys.modules["__main__"].__name__ == "__mp_main__")


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("brings_parts", [False, True])
def test_a_process_imports_the_program_only_for_the_parts_that_it_registers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, brings_parts: bool
) -> None:
    program = tmp_path / "program.py"
    program.touch()
    # Whatever runs the tests, and a worker of pytest-xdist has no file at all.
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(program), raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(worker_module, "main_brings_parts", lambda: brings_parts)
    main = vars(sys.modules["__main__"])
    before = {name: main.get(name) for name in ("__file__", "__spec__")}
    worker = Worker("edge", _main)
    assert {name: main.get(name) for name in before} == before
    assert worker.receive(STARTED_S) is brings_parts
    worker.close()


def test_messages_go_both_ways_and_closing_ends_the_process() -> None:
    worker = Worker("edge", _echo, "hello")
    assert worker.receive(STARTED_S) == "hello"
    worker.send({"k": [1, 2]})
    assert worker.receive(STARTED_S) == {"k": [1, 2]}
    assert worker.pid != os.getpid()
    began = time.monotonic()
    worker.close()
    worker.close()
    assert time.monotonic() - began < 5
    assert worker._process.exitcode == 0


def test_a_death_is_told_with_its_exit_code_not_waited_out() -> None:
    worker = Worker("cloud", _echo, "hello")
    assert worker.receive(STARTED_S) == "hello"
    worker.send(3)
    began = time.monotonic()
    with pytest.raises(WorkerError, match=r"cloud process died \(exit code 3\)"):
        worker.receive(STARTED_S)
    assert time.monotonic() - began < 10
    # Sending may still find room in the pipe; receiving says it again.
    with pytest.raises(WorkerError, match="cloud process died"):
        worker.receive(1.0)
    worker.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_process_is_told_as_want_of_memory() -> None:
    worker = Worker("edge", _echo, "hello")
    assert worker.receive(STARTED_S) == "hello"
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match=r"edge process was killed.*memory"):
        worker.receive(STARTED_S)
    worker.close()


def test_an_error_of_ours_is_raised_here_as_it_was_there() -> None:
    worker = Worker("edge", _fail)
    assert worker.receive(STARTED_S) == "ready"
    worker.send("listed")
    with pytest.raises(ManifestError) as info:
        worker.receive(STARTED_S)
    assert str(info.value) == "two problems\n  entry 1: caption\n  entry 2: index"
    worker.close()


def test_silence_has_a_deadline_and_a_deaf_process_is_ended_by_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "_STOP_WITHIN_S", 0.3)
    worker = Worker("cloud", _deaf)
    assert worker.receive(STARTED_S) == "ready"
    began = time.monotonic()
    with pytest.raises(WorkerError, match=r"cloud process said nothing for .*--deadline"):
        worker.receive(0.2)
    assert time.monotonic() - began < 2
    pid = worker.pid
    worker.close()
    assert _gone(pid)


def _busy(connection: Connection, path: str) -> None:
    """Works on without looking at its pipe, and clears away what it was writing when it is ended."""
    try:
        Path(path).write_text("half")
        connection.send("working")
        while True:
            time.sleep(0.05)
    finally:
        Path(path).unlink()


_PARENT = """
import os, signal, sys
from edgecloud.edge.worker import Worker
from tests.edge.test_worker import _busy
if __name__ == "__main__":
    worker = Worker("edge", _busy, sys.argv[1])
    assert worker.receive(60.0) == "working"
    print(worker.pid, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_busy_worker_ends_with_its_parent_and_clears_away(tmp_path: Path, number: int) -> None:
    script, part = tmp_path / "parent.py", tmp_path / "weights.part"
    script.write_text(_PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(part)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert part.exists()
    os.kill(parent.pid, number)
    parent.communicate(timeout=20)
    deadline_s = time.monotonic() + 20
    while not _gone(pid) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert _gone(pid)
    assert not part.exists()


def test_whoever_has_something_to_say_is_heard_first() -> None:
    worker = Worker("edge", _echo, "hello")
    heard = next(found for found in speaking([worker], within_s=STARTED_S) if found is not None)
    assert heard is worker
    assert worker.receive(1.0) == "hello"
    assert list(speaking([worker], within_s=0.0)) == []
    worker.close()
