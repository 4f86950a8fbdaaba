"""Scoring in a process of its own: the same scores, one process for all, its errors, its death."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from edgecloud.edge import nursery as nurseries
from edgecloud.edge.nursery import Nursery, with_networks
from edgecloud.errors import MetricError
from edgecloud.experiments import scoring
from edgecloud.experiments.scoring import scored
from edgecloud.quality import score
from edgecloud.stages import listening
from tests.nurseries import stop
from tests.told import Told

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nurseries are for Linux")

GIVEN: dict[str, Any] = {
    "language": "chinese",
    "ids": ["a", "b"],
    "hypotheses": ["说话人平静地说话", "声音很高"],
    "references": [["说话人很平静"], ["声音又高又快"]],
    "reference_languages": ["chinese", "chinese"],
    "corpus_references": {"a": ["说话人很平静"], "b": ["声音又高又快"]},
}


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nursery]:
    """A nursery on one core, of a module that costs nothing."""
    found = Nursery(("this",), (1, 4.0, 0))
    monkeypatch.setattr(scoring, "with_networks", lambda: found)
    yield found
    scoring._Process.close()
    stop(found)


def test_without_a_nursery_of_networks_the_program_scores_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edge, cloud = Nursery(nurseries.EDGE, (1, 4.0, 0)), Nursery(nurseries.CLOUD)
    capped = Nursery((*nurseries.EDGE, *nurseries.CLOUD), (1, 4.0, 0))
    running: dict[Nursery, Any] = {edge: None}
    monkeypatch.setattr(nurseries._Servers, "running", running)
    assert with_networks() is None
    assert scored(**GIVEN) == score(**GIVEN)
    assert scoring._Process.worker is None
    # Of those that have what is needed, the one that is capped by nothing.
    running[capped] = None
    assert with_networks() is capped
    running[cloud] = None
    assert with_networks() is cloud


def test_one_process_scores_all_as_this_one_would_and_outlives_errors_and_is_replaced(
    nursery: Nursery,
) -> None:
    expected = score(**GIVEN)
    assert scored(**GIVEN) == expected
    worker = scoring._Process.worker
    assert worker is not None
    # It is not held to the one core of what it was forked from.
    assert os.sched_getaffinity(worker.pid) == os.sched_getaffinity(0)
    with pytest.raises(MetricError, match="ids repeat"):
        scored(**{**GIVEN, "ids": ["a", "a"]})
    assert scored(**GIVEN) == expected
    assert scoring._Process.worker is worker

    told = Told()
    os.kill(worker.pid, signal.SIGKILL)
    with listening(told):
        assert scored(**GIVEN) == expected
    (line,) = told.said
    assert line.startswith("the scoring process was killed from outside")
    assert line.endswith("the captions are scored in this process instead")
    assert scoring._Process.worker is None
    assert scored(**GIVEN) == expected
    assert scoring._Process.worker is not None
