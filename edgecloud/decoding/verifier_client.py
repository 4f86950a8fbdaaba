"""The client of the cloud verifier: one object for one request, with fallback to the edge."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from edgecloud.contracts import (
    Acceptance,
    CloudChunk,
    CloudModel,
    CloudSession,
    Pending,
    Prompt,
    Verdict,
)
from edgecloud.contracts.sampling import Sampling
from edgecloud.decoding.drafting import Drafter
from edgecloud.decoding.recorder import Recorder
from edgecloud.decoding.speculation_controller import SpeculationController
from edgecloud.errors import CloudError

__all__ = ["VerifierClient"]

_MOST_AHEAD = 16
"""Most tokens drafted while one call is under way; a longer guess is hardly ever kept."""


class VerifierClient:
    """Client of the cloud verifier for one request.

    Opens the session when first needed. After the first CloudError the request finishes on the edge
    alone; the trace says when and why.
    """

    def __init__(
        self,
        cloud: CloudModel,
        prompt: Prompt,
        acceptance: Acceptance,
        controller: SpeculationController,
        recorder: Recorder,
        *,
        sampling: Sampling,
    ) -> None:
        self._cloud = cloud
        self._prompt = prompt
        self._sampling = sampling
        self._acceptance = acceptance
        self._controller = controller
        self._recorder = recorder
        self._session: CloudSession | None = None
        self._start: Pending[CloudChunk] | None = None
        self._start_s = 0.0
        self._lost = False

    @property
    def usable(self) -> bool:
        """True while the cloud has not failed and the budget allows another request."""
        return not self._lost and self._controller.affordable

    def start(self, count: int) -> None:
        """Ask the cloud to prefill now and to generate the output's first ``count`` tokens."""
        with self._watched() as self._start_s:
            self._start = self._opened().start(count)

    def started(self) -> list[int]:
        """Wait for the tokens asked for by :meth:`start`; empty where the cloud failed."""
        tokens: list[int] = []
        start, self._start = self._start, None
        if start is not None:
            with self._watched():
                chunk = start.result()
                self._controller.paid(chunk.cost)
                self._recorder.generate(self._start_s, chunk)
                tokens = list(chunk.tokens)
        return tokens

    def ask(
        self,
        output: Sequence[int],
        proposed: Sequence[int],
        continuation: int,
        drafter: Drafter,
        *,
        ahead: bool,
    ) -> Verdict | None:
        """The verdict on what ``drafter`` ``proposed`` after ``output``; ``None`` where the cloud failed.

        With ``ahead`` the edge drafts on in the meantime, as if all were kept.
        """
        verdict: Verdict | None = None
        with self._watched() as start_s:
            self.started()
            if self._lost:
                return None
            draft_probabilities = drafter.draft_probabilities(len(output), len(proposed))
            answer = self._opened().submit(
                output, proposed, self._acceptance, continuation, draft_probabilities
            )
            steps = 0
            while ahead and not answer.ready() and steps < _MOST_AHEAD and drafter.step():
                steps += 1
            verdict = answer.result()
            self._recorder.verify(start_s, verdict, drafted=len(proposed), ahead=steps)
            self._controller.called(
                verdict.cost,
                self._recorder.now() - start_s,
                kept=verdict.kept,
                rejected=verdict.kept < len(proposed),
            )
            left = self._acceptance.regret_nats - verdict.regret
            self._acceptance = replace(self._acceptance, regret_nats=max(0.0, left))
        return verdict

    def close(self) -> None:
        """Close the session, where one was opened."""
        if self._session is not None:
            self._session.close()

    def _opened(self) -> CloudSession:
        if self._session is None:
            self._session = self._cloud.open(self._prompt, self._sampling)
        return self._session

    @contextmanager
    def _watched(self) -> Generator[float, None, None]:
        """Yields the time now; a CloudError inside is recorded and ends the use of the cloud."""
        start_s = self._recorder.now()
        try:
            yield start_s
        except CloudError as error:
            self._recorder.degrade(start_s, error)
            self._lost = True
