"""The line to the cloud: given up at its first failure, and that once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from edgecloud.contracts import (
    Acceptance,
    CloudChunk,
    CloudSession,
    Degrade,
    Pending,
    Prompt,
    StopLimits,
    Verdict,
)
from edgecloud.contracts.sampling import GREEDY, Distribution, Sampling
from edgecloud.decoding.drafting import Drafter
from edgecloud.decoding.local_edge import LocalEdge
from edgecloud.decoding.recorder import Recorder
from edgecloud.decoding.speculation_controller import CloudBudget, SpeculationController
from edgecloud.decoding.verifier_client import VerifierClient
from edgecloud.errors import CloudTimeout, CloudUnavailable
from edgecloud.hardware.clock import WallClock
from edgecloud.models.scripted import ScriptedModel, hashed


class LateSession(CloudSession):
    """Whose start never ends; counts what else it is asked."""

    def __init__(self) -> None:
        self.submitted = 0

    def start(self, count: int) -> Pending[CloudChunk]:
        def late() -> CloudChunk:
            raise CloudTimeout("too late")

        return Pending(late)

    def submit(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        acceptance: Acceptance,
        continuation: int = 0,
        draft_probabilities: Sequence[Distribution] = (),
    ) -> Pending[Verdict]:
        self.submitted += 1
        return Pending(lambda: Verdict(0, 1))

    def generate(self, committed: Sequence[int], limits: StopLimits) -> Iterator[CloudChunk]:
        return iter(())

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("how", ["awaited", "met at the first question"])
def test_a_start_that_failed_is_told_once_and_nothing_more_is_asked(how: str) -> None:
    session, recorder = LateSession(), Recorder(WallClock())

    class Cloud:
        def open(self, prompt: Prompt, sampling: Sampling = GREEDY) -> CloudSession:
            return session

    prompt = Prompt((1,))
    pace = SpeculationController(CloudBudget())
    line = VerifierClient(Cloud(), prompt, Acceptance(), pace, recorder, sampling=GREEDY)
    drafter = Drafter(
        LocalEdge(ScriptedModel(hashed(0, vocab_size=8, end_id=7), vocab_size=8)),
        prompt,
        end_ids=frozenset(),
    )
    line.start(0)
    if how == "awaited":
        assert line.started() == []
    else:
        assert line.ask([], [2, 3], 0, drafter, ahead=False) is None
    assert not line.usable
    assert session.submitted == 0
    assert len(recorder.trace().of(Degrade)) == 1


def test_what_ended_the_cloud_s_use_is_named_by_its_public_class() -> None:
    class _Again(CloudUnavailable):
        """A kind that only its own module knows."""

    recorder = Recorder(WallClock())
    for error in (_Again("gone"), CloudTimeout("late")):
        recorder.degrade(0.0, error)
    told = [event.error for event in recorder.trace().of(Degrade)]
    assert told == ["CloudUnavailable", "CloudTimeout"]
