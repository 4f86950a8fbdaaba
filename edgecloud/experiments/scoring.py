"""Scores of captions, in a process forked from a nursery where a series of runs has one.

That has imported already what BERTScore needs, seven seconds of CPU, and keeps for the next run what it has read: words,
paraphrases, embeddings. Any other program scores within itself.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from typing import Any, ClassVar

from edgecloud.edge.nursery import with_networks
from edgecloud.edge.worker import At, Said, Worker, pass_on
from edgecloud.errors import EdgeCloudError, WorkerError
from edgecloud.quality import Scores, score
from edgecloud.stages import say

__all__ = ["scored"]

_SILENT_S = 900.0
"""Longer than any metric, whose programs have deadlines of their own."""


class _Process:
    """The one of this program."""

    worker: ClassVar[Worker | None] = None

    @classmethod
    def close(cls) -> None:
        """End it; the next captions get another."""
        if cls.worker is not None:
            cls.worker.close()
            cls.worker = None


def scored(**given: Any) -> Scores:
    """:func:`edgecloud.quality.score` of what is ``given``. Where a process for it dies, this one scores, and says so.

    Raises:
        MetricError: as :func:`edgecloud.quality.score` does.
    """
    source = with_networks()
    if source is None:
        return score(**given)
    try:
        if _Process.worker is None:
            cores = os.sched_getaffinity(0)
            _Process.worker = Worker("scoring", _serve, cores, nursery=source)
        _Process.worker.send(given)
        while isinstance(found := _Process.worker.receive(_SILENT_S), At | Said):
            pass_on(found)
    except WorkerError as error:
        _Process.close()
        say(f"{error}; the captions are scored in this process instead")
        return score(**given)
    assert isinstance(found, Scores)
    return found


def _serve(connection: Connection, cores: set[int]) -> None:
    """Score whatever comes, on ``cores``: those of the program, not those that an edge is capped to."""
    import torch  # the nursery has it

    from edgecloud.registry import load_plugins

    os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
    load_plugins()
    while True:
        given = connection.recv()
        try:
            connection.send(score(**given))
        except EdgeCloudError as error:
            connection.send(error)
