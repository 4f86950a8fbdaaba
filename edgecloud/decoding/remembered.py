"""Edge and cloud of a request that was decoded before with other settings: what they answered then they answer again
from memory, and compute only what nobody asked yet.

Greedy decoding is a function of the text so far: the token that the edge drafts after it, the token that the cloud
goes on with, and whether an acceptance rule keeps a drafted token there. So a request that is decoded with many
settings meets the same texts again and again. What the loop, the protocol and the clock make of the answers is their
business, as with :mod:`edgecloud.decoding.recorded`, which computes nothing at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from edgecloud.contracts import (
    Acceptance,
    CloudChunk,
    CloudCost,
    CloudModel,
    CloudSession,
    Commit,
    Draft,
    Drafted,
    EdgeModel,
    Generate,
    Pending,
    Prompt,
    StopLimits,
    TokenStats,
    Trace,
    Verdict,
    Verify,
)
from edgecloud.contracts.sampling import GREEDY, Distribution, Sampling
from edgecloud.decoding.drafting import common_prefix

__all__ = ["Memory"]

Text = tuple[int, ...]
_Rule = tuple[object, ...]


@dataclass(slots=True)
class _Known:
    """What is known of one prompt, by the text after it."""

    drafted: dict[Text, Drafted] = field(default_factory=dict)
    """The token that the edge drafts after a text."""
    following: dict[Text, int] = field(default_factory=dict)
    """The token that the cloud goes on with after a text."""
    kept: dict[tuple[_Rule, Text], bool] = field(default_factory=dict)
    """Whether a rule keeps the last token of a text, drafted after the rest of it."""
    seen: dict[Text, tuple[int, float]] = field(default_factory=dict)
    """The rank of the last token of a text in the cloud's eyes, and the probability of its first choice there."""
    edge: _LiveEdge | None = None
    session: CloudSession | None = None


class Memory:
    """What edge and cloud said of each prompt, by :meth:`edgecloud.contracts.Prompt.digest`. ``end_ids`` end a text.

    One prompt at a time is decoded live: what was computed for the one before is kept, its caches are not.
    ``asked`` and ``computed`` count the answers given, and those of them that a model was needed for.
    """

    def __init__(self, end_ids: frozenset[int]) -> None:
        self.end_ids = end_ids
        self.asked = self.computed = 0
        self._known: dict[str, _Known] = {}
        self._live: tuple[str, _Known] | None = None

    def edge(self, edge: EdgeModel, prompt: Prompt) -> EdgeModel:
        """``edge`` for one request: asked only for what is not known."""
        return _RememberedEdge(self, edge, prompt)

    def cloud(self, cloud: CloudModel) -> CloudModel:
        """``cloud``, asked only for what is not known. Decoding is greedy, and no budget of regret is on it."""
        return _RememberedCloud(self, cloud)

    def learn(self, digest: str, trace: Trace, acceptance: Acceptance | None) -> None:
        """Learn from the trace of a request with this prompt, whose drafts were judged by ``acceptance``; of one
        without drafts it may be ``None``."""
        known = self.known(digest)
        output: list[int] = []
        proposed: list[int] = []
        for event in trace.events:
            if isinstance(event, Draft):
                stats = map(TokenStats, event.entropies, event.margins, event.logprobs)
                for token, its in zip(event.tokens, stats, strict=True):
                    known.drafted.setdefault((*output, *proposed), Drafted(token, its))
                    proposed.append(token)
            elif isinstance(event, Verify) and acceptance is not None:
                verdict = Verdict(
                    event.kept, event.token, event.ranks, event.top_probs, event.continuation
                )
                _learn_verdict(known, output, proposed, acceptance, verdict)
            elif isinstance(event, Generate):
                _learn_text(known, output, event.tokens)
            elif isinstance(event, Commit):
                output += event.tokens
                proposed.clear()

    def known(self, digest: str) -> _Known:
        """What is known of a prompt."""
        return self._known.setdefault(digest, _Known())

    def live(self, digest: str) -> _Known:
        """The same, to compute what is not: the caches of the prompt before are let go."""
        known = self.known(digest)
        if self._live is not None and self._live[0] != digest:
            self._live[1].edge = None
            if self._live[1].session is not None:
                self._live[1].session.close()
                self._live[1].session = None
        self._live = (digest, known)
        return known


def _learn_verdict(
    known: _Known,
    committed: Sequence[int],
    draft: Sequence[int],
    acceptance: Acceptance,
    verdict: Verdict,
) -> None:
    """Learn what the cloud kept of a draft, and how it went on."""
    text = (*committed, *draft)
    rule = _rule(acceptance)
    before = len(committed)
    for count in range(1, min(verdict.kept + 1, len(draft)) + 1):
        known.kept[rule, text[: before + count]] = count <= verdict.kept
    for count, its in enumerate(zip(verdict.ranks, verdict.top_probs, strict=True), start=1):
        known.seen[text[: before + count]] = its
    if verdict.token is not None:
        added = (verdict.token, *verdict.continuation)
        _learn_text(known, text[: before + verdict.kept], added)


def _learn_text(known: _Known, before: Sequence[int], tokens: Sequence[int]) -> None:
    text = tuple(before)
    for token in tokens:
        known.following.setdefault(text, token)
        text = (*text, token)


def _rule(acceptance: Acceptance) -> _Rule:
    """A rule and its numbers, as far as they decide about a token."""
    own = tuple(sorted(acceptance.own.items()))
    return acceptance.rule, acceptance.rank_threshold, acceptance.probability_ratio, own


class _LiveEdge:
    """An edge that moves to any text after its prompt."""

    def __init__(self, edge: EdgeModel, prompt: Prompt) -> None:
        self._edge = edge
        self._prompt = prompt
        self._held: list[int] = []
        edge.prefill(prompt)

    def draft(self, output: Sequence[int]) -> Drafted:
        """The token after ``output``."""
        shared = common_prefix(self._held, output)
        if shared < len(self._held):
            # After a cut nothing is known of what follows: the last token is computed again.
            shared = min(shared, max(0, len(output) - 1))
            self._edge.rollback(self._prompt.length + shared)
        if len(output) > shared:
            self._edge.extend(output[shared:])
        self._held = list(output)
        return self._edge.draft(output)


class _RememberedEdge:
    """A :class:`edgecloud.contracts.EdgeModel`; what its text is, is told with every question."""

    def __init__(self, memory: Memory, edge: EdgeModel, prompt: Prompt) -> None:
        self._memory = memory
        self._edge = edge
        self._prompt = prompt
        self._digest = prompt.digest()

    def prefill(self, prompt: Prompt) -> None:
        """Nothing to compute yet."""

    def extend(self, tokens: Sequence[int]) -> None:
        """Nothing to compute yet."""

    def rollback(self, length: int) -> None:
        """Nothing to cut yet."""

    def choose(self, output: Sequence[int]) -> int:
        """The token of :meth:`draft`."""
        return self.draft(output).token

    def draft(self, output: Sequence[int]) -> Drafted:
        """The token that follows ``output``."""
        text = tuple(output)
        memory = self._memory
        memory.asked += 1
        found = memory.known(self._digest).drafted.get(text)
        if found is None:
            memory.computed += 1
            known = memory.live(self._digest)
            if known.edge is None:
                known.edge = _LiveEdge(self._edge, self._prompt)
            found = known.drafted[text] = known.edge.draft(output)
        return found


class _RememberedCloud:
    """A :class:`edgecloud.contracts.CloudModel`."""

    def __init__(self, memory: Memory, cloud: CloudModel) -> None:
        self._memory = memory
        self._cloud = cloud

    def open(self, prompt: Prompt, sampling: Sampling = GREEDY) -> CloudSession:
        """A session of one request."""
        return _RememberedSession(self._memory, self._cloud, prompt, sampling)


class _RememberedSession(CloudSession):
    """Its costs are those of a session that computes everything, and keeps its cache between calls."""

    def __init__(
        self, memory: Memory, cloud: CloudModel, prompt: Prompt, sampling: Sampling
    ) -> None:
        self._memory = memory
        self._cloud = cloud
        self._prompt = prompt
        self._sampling = sampling
        self._digest = prompt.digest()
        self._known = memory.known(self._digest)
        self._prefilled = False
        self._held = 0
        """Tokens of the output that such a session has in its cache."""

    def start(self, count: int) -> Pending[CloudChunk]:
        return Pending(lambda: CloudChunk.merged(self.generate((), StopLimits(count))))

    def submit(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        acceptance: Acceptance,
        continuation: int = 0,
        draft_probabilities: Sequence[Distribution] = (),
    ) -> Pending[Verdict]:
        return Pending(lambda: self._verdict(committed, draft, acceptance, continuation))

    def generate(self, committed: Sequence[int], limits: StopLimits) -> Iterator[CloudChunk]:
        most = limits.max_new_tokens
        if not most and not committed:
            yield CloudChunk((), CloudCost(prefill_tokens=self._prefill()), last=True)
            return
        output = tuple(committed)
        ended = False
        while not ended and len(output) < most:
            prefilled, unseen = self._prefill(), max(0, len(output) - self._held)
            self._held = len(output)
            first = len(output) == len(committed)
            token = self._next(output, most)
            output = (*output, token)
            ended = token in self._memory.end_ids
            yield CloudChunk(
                (token,),
                CloudCost(prefilled, 0, unseen if first else 0, 1),
                last=ended or len(output) >= most,
            )

    def close(self) -> None:
        """What is computed live stays for the next request of this prompt."""

    def _verdict(
        self, committed: Sequence[int], draft: Sequence[int], acceptance: Acceptance, more: int
    ) -> Verdict:
        kept = self._kept(committed, draft, acceptance)
        text = (*committed, *draft[:kept])
        end_ids = self._memory.end_ids
        added: list[int] = []
        if kept < len(draft) or draft[-1] not in end_ids:
            most = len(text) + 1 + more
            while len(added) <= more and not (added and added[-1] in end_ids):
                added.append(self._next((*text, *added), most))
        unseen = max(0, len(committed) - self._held)
        self._held = len(text) + max(0, len(added) - 1)
        proposed = (*committed, *draft)
        # Of tokens after the first rejected one nothing is known where nobody asked: they decide nothing.
        seen = [
            self._known.seen.get(proposed[:count], (0, 0.0))
            for count in range(len(committed) + 1, len(proposed) + 1)
        ]
        return Verdict(
            kept,
            added[0] if added else None,
            ranks=tuple(rank for rank, _ in seen),
            top_probs=tuple(prob for _, prob in seen),
            continuation=tuple(added[1:]),
            cost=CloudCost(self._prefill(), len(draft), unseen, len(added)),
        )

    def _prefill(self) -> int:
        """Tokens of the prompt to compute for this answer."""
        done, self._prefilled = self._prefilled, True
        return 0 if done else self._prompt.length

    def _kept(self, committed: Sequence[int], draft: Sequence[int], acceptance: Acceptance) -> int:
        """The number of tokens of a draft that are kept."""
        self._memory.asked += 1
        rule = _rule(acceptance)
        text = (*committed, *draft)
        for count in range(1, len(draft) + 1):
            its = text[: len(committed) + count]
            keeps = self._known.kept.get((rule, its))
            if keeps is None and acceptance.rule == "exact":
                following = self._known.following.get(its[:-1])
                keeps = None if following is None else following == its[-1]
            if keeps is None:
                return self._asked(committed, draft, acceptance).kept
            if not keeps:
                return count - 1
        return len(draft)

    def _asked(
        self, committed: Sequence[int], draft: Sequence[int], acceptance: Acceptance
    ) -> Verdict:
        """The verdict of the model on a draft."""
        self._memory.computed += 1
        unbounded = replace(acceptance, regret_nats=math.inf)
        verdict = self._session().verify(committed, draft, unbounded)
        _learn_verdict(self._known, committed, draft, acceptance, verdict)
        return verdict

    def _next(self, text: Text, most: int) -> int:
        """The token that the cloud goes on with after ``text``; what it has to compute, it computes up to
        ``most`` tokens of output."""
        self._memory.asked += 1
        found = self._known.following.get(text)
        if found is None:
            self._memory.computed += 1
            output = text
            # Nothing says that the rest is wanted, but where it is not known yet it mostly is.
            for chunk in self._session().generate(text, StopLimits(most)):
                _learn_text(self._known, output, chunk.tokens)
                output = (*output, *chunk.tokens)
            found = self._known.following[text]
        return found

    def _session(self) -> CloudSession:
        known = self._memory.live(self._digest)
        if known.session is None:
            known.session = self._cloud.open(self._prompt, self._sampling)
        return known.session
