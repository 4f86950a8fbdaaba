"""A cloud that speculates by itself: a smaller model beside its own drafts what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgecloud.cloud.engine.local import LocalCloud, LocalSession, Steps
from edgecloud.contracts import Acceptance, CloudChunk, Model, Prompt, StopLimits
from edgecloud.contracts.sampling import GREEDY, Sampling
from edgecloud.decoding.drafting import Drafter
from edgecloud.decoding.local_edge import LocalEdge
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import ModelError

if TYPE_CHECKING:
    from edgecloud.models.loading import LoadedModel

__all__ = ["OwnDraft", "SelfDraftingCloud", "SelfDraftingSession", "local_cloud"]


@dataclass(frozen=True, slots=True)
class OwnDraft:
    """A draft ``model`` in this process, of the cloud's vocabulary and family, and how many tokens it drafts at
    a time."""

    model: Model
    tokens: int


class SelfDraftingCloud(LocalCloud):
    """A :class:`LocalCloud` whose sessions write with a draft of their own: the same tokens, several at a
    time (Leviathan et al. 2023). At temperature 0 alone.
    """

    def __init__(self, model: Model, stopping: Stopping, draft: OwnDraft) -> None:
        super().__init__(model, stopping)
        self._draft = draft

    def open(self, prompt: Prompt, sampling: Sampling = GREEDY) -> LocalSession:
        """Raises ModelError where tokens are drawn at random."""
        if not sampling.greedy:
            raise ModelError(
                "a cloud with a draft of its own chooses the likeliest tokens; take --temperature 0"
            )
        if prompt.recording is not None:
            return super().open(prompt, sampling)  # which refuses it
        return SelfDraftingSession(
            self._model.new_sequence(), prompt, self._stopping, sampling, draft=self._draft
        )


class SelfDraftingSession(LocalSession):
    """One request. A chunk of :meth:`generate` holds what one forward of the model kept of a draft, and its
    own token after that; ``verified_tokens`` of its cost are the drafted ones."""

    def __init__(
        self,
        model: Model,
        prompt: Prompt,
        stopping: Stopping,
        sampling: Sampling = GREEDY,
        *,
        draft: OwnDraft,
    ) -> None:
        super().__init__(model, prompt, stopping, sampling)
        edge = LocalEdge(draft.model.new_sequence(), sampling)
        self._drafter = Drafter(edge, prompt, end_ids=stopping.end_ids)
        self._heard = False
        self._most = draft.tokens

    def generating(self, committed: Sequence[int], limits: StopLimits) -> Steps:
        """The steps of a generation after ``committed``: a chunk a draft.

        Raises:
            WireError: the limit leaves no room for a token.
        """
        stopping = replace(self._stopping, limits=limits)
        output = list(committed)
        reason = "token_limit" if stopping.room(output) < 1 else None
        if reason is not None:
            return (yield from super().generating(committed, limits))
        if not self._heard:
            self._drafter.prefill()
            self._heard = True
        while reason is None:
            room = stopping.room(output)
            draft, _ = self._drafter.draft(output, min(self._most, max(1, room - 1)))
            verdict = yield from self.verifying(output, draft, Acceptance("exact"))
            if verdict is None:
                return None
            tokens, reason = stopping.cut(output, verdict.output(draft))
            output += tokens
            cost = replace(verdict.cost, generated_tokens=len(tokens))
            yield CloudChunk(tokens, cost, last=reason is not None)
        return None


def local_cloud(cloud: LoadedModel, draft: LoadedModel | None, tokens: int) -> LocalCloud:
    """The verifier on a loaded ``cloud``, which drafts so many ``tokens`` for itself by ``draft``; 0: none.

    Raises:
        ModelError: the draft model's vocabulary is another.
    """
    if not tokens or draft is None:
        return LocalCloud(cloud.model, cloud.stopping())
    if draft.processor.fingerprint() != cloud.processor.fingerprint():
        raise ModelError(
            "--cloud-draft-tokens: the edge's model has another vocabulary than the cloud's, and cannot be "
            "the cloud's own draft"
        )
    return SelfDraftingCloud(cloud.model, cloud.stopping(), OwnDraft(draft.model, tokens))
