"""``python -m tests.experiments.killed_run FOLDER SAMPLES KILLS SEED``: a run that is killed at random
moments and resumed each time, then left to end. Prints what was lost, as JSON.

One interpreter imports everything once and forks a child for each attempt, so that fifty attempts
take seconds. The child is the runner itself, with a scripted system.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from edgecloud.errors import JournalError
from edgecloud.experiments import experiment
from edgecloud.experiments import run as arm
from edgecloud.experiments.reporting import result_of
from edgecloud.results.journal import read
from edgecloud.results.records import Record
from edgecloud.settings.config import Config
from tests.experiments.scripted import ScriptedSystem, config, manifest

_WAIT_S = 60.0


def attempt(settings: Config, draw: random.Random) -> tuple[list[str], bool]:
    """Start the run, kill it at some moment: the samples whose end it told, and whether it was killed."""
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)

        def tell(done: int, total: int, record: Record | None) -> None:
            if record is not None:
                os.write(tells, f"{record.file_id}\n".encode())

        experiment.run("spec", settings, on_progress=tell)
        os._exit(0)
    os.close(tells)
    samples = b""
    if draw.random() < 0.7:  # in the middle of the samples; else while the run starts
        wanted = draw.randint(1, 8)
        while samples.count(b"\n") < wanted and select.select([told], [], [], _WAIT_S)[0]:
            if not (more := os.read(told, 4096)):
                break
            samples += more
        time.sleep(draw.uniform(0.0, 0.01))
    else:
        time.sleep(draw.uniform(0.0, 0.06))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while more := os.read(told, 4096):
        samples += more
    os.close(told)
    return samples.decode().split(), os.WIFSIGNALED(status)


def kept(path: Path) -> set[str]:
    try:
        return {record.file_id for record in read(path)[1]}
    except JournalError:
        return set()  # killed before its first line


def main() -> None:
    folder, n, kills, seed = Path(sys.argv[1]), *map(int, sys.argv[2:])
    setattr(arm, "System", ScriptedSystem)  # noqa: B010  a name that the module does not export
    ScriptedSystem.delay_s = 0.003
    data = manifest(folder / "data", n)
    broken = config(data, folder / "broken", resume=True)
    path = experiment.journal_path("spec", broken)
    draw = random.Random(seed)
    found: dict[str, Any] = {"killed": 0, "lost": 0, "in_flight": [], "after": []}
    while found["killed"] < kills:
        before = kept(path)
        told, was_killed = attempt(broken, draw)
        after = kept(path)
        found["killed"] += was_killed
        found["lost"] += len((before | set(told)) - after)
        found["in_flight"].append(len(after - before - set(told)))
        found["after"].append(len(after))
        if not was_killed:
            break
    results = [
        result_of(experiment.run("spec", some), environment={}, run_block={}).to_json()
        for some in (broken, config(data, folder / "unbroken"))
    ]
    for result in results:
        del result["run"]
    found["equal"] = json.dumps(results[0]) == json.dumps(results[1])
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
