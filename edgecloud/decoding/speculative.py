"""Speculative decoding across a network: the edge drafts, a gate decides, the cloud verifies.

The committed output only grows. What the edge accepted by itself and a verification may still take
back is *pending*. The edge's cache follows both (:class:`edgecloud.decoding.drafting.Drafter`).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from edgecloud.contracts import (
    Acceptance,
    CloudModel,
    Commit,
    EdgeModel,
    Origin,
    Prompt,
    StopReason,
    TokenStats,
    Verdict,
)
from edgecloud.contracts.ranges import (
    WHOLE_CAPTIONS,
    DraftLength,
    ExpectedLength,
    GateScope,
    TokenCount,
    VerifyScope,
    check_fields,
)
from edgecloud.contracts.sampling import GREEDY, Sampling
from edgecloud.decoding.acceptance import RULES
from edgecloud.decoding.drafting import Drafter
from edgecloud.decoding.gates import GATES, Thresholds
from edgecloud.decoding.recorder import Recorder, by
from edgecloud.decoding.speculation_controller import CloudBudget, SpeculationController
from edgecloud.decoding.stopping import Stopping
from edgecloud.decoding.verifier_client import VerifierClient
from edgecloud.errors import ConfigError
from edgecloud.registry import guarded

__all__ = ["RECENT", "Speculation", "speculative"]

RECENT = 8
"""Output tokens among which the calibrated gate counts corrections."""


@dataclass(frozen=True, slots=True)
class Speculation:
    """Settings of speculative decoding.

    ``k`` drafted tokens a round at most, with ``adaptive_k`` as many as pay; the ``gate`` by name, asked
    about each ``block`` or each ``token`` alone; or once, about the first ``k`` tokens (``start``) or the whole
    ``caption``, and then the cloud writes all of it or nothing (:mod:`edgecloud.decoding.cascade`); the cloud's
    ``acceptance`` rule. A verification covers the ``block``, or everything ``since-last-call``, with ``final_check``
    also at the caption's end; then the cloud goes on for ``continuation`` tokens. The first ``seed_tokens`` come from the cloud;
    ``parallel_prefill`` lets it prefill while the edge does; ``draft_ahead`` lets the edge draft while
    it waits. ``budget`` bounds the cloud's part; with ``hand_off`` the cloud finishes a caption of
    about ``expected_tokens`` when that is faster and within the budget.

    Raises, when made:
        ConfigError: a value is none of the choices, or out of the range, that flags are held to.
    """

    k: DraftLength = 3
    gate: str = "entropy"
    thresholds: Thresholds = field(default_factory=Thresholds)
    acceptance: Acceptance = field(default_factory=Acceptance)
    gate_scope: GateScope = "block"
    verify_scope: VerifyScope = "block"
    final_check: bool = False
    continuation: TokenCount = 0
    adaptive_k: bool = False
    draft_ahead: bool = False
    parallel_prefill: bool = False
    seed_tokens: TokenCount = 0
    hand_off: bool = False
    expected_tokens: ExpectedLength = 32
    budget: CloudBudget = field(default_factory=CloudBudget)

    def __post_init__(self) -> None:
        """Check the settings; an acceptance rule of a cloud elsewhere must be known here, too."""
        check_fields(self, gate=GATES)
        if self.acceptance.rule not in RULES:
            raise ConfigError(
                f"Speculation: acceptance: {self.acceptance.rule!r} is not one of {', '.join(RULES)}"
            )
        if self.whole_captions and (idle := [name for name in _SPANS if getattr(self, name)]):
            raise ConfigError(
                f"Speculation: {', '.join(idle)}: with the gate scope {self.gate_scope} the cloud writes a "
                "whole caption or nothing of it"
            )

    @property
    def whole_captions(self) -> bool:
        """True where a caption is the edge's or the cloud's as a whole: a router or a cascade."""
        return self.gate_scope in WHOLE_CAPTIONS


_SPANS = (
    "continuation",
    "seed_tokens",
    "adaptive_k",
    "draft_ahead",
    "parallel_prefill",
    "hand_off",
    "final_check",
)
"""Settings of a cloud that has a part in a caption: none of a router's or a cascade's."""


def speculative(
    prompt: Prompt,
    *,
    edge: EdgeModel,
    cloud: CloudModel,
    settings: Speculation,
    stopping: Stopping,
    recorder: Recorder,
    sampling: Sampling = GREEDY,
) -> Generator[Commit, None, StopReason]:
    """Yield commits until the caption ends; returns why it ended.

    A draft the gate lets pass is accepted as it is. Any other goes to the cloud, which keeps a prefix
    of it and adds tokens of its own. Without a start on the cloud, it is first opened at the first
    escalation, so a caption the edge is sure of costs no network and no cloud at all.

    When the cloud gives no usable answer, the edge finishes alone, and the trace says when and why.

    When everything is verified with ``exact`` acceptance, the output is the cloud's own greedy output
    (Leviathan et al. 2023); see "Exactness" in the definitions for ties. When everything is verified
    with ``rejection``, it is distributed as the cloud's own output at that ``sampling``, which is the
    edge's, too. Everything is verified with the gate ``always``, or since the last call with a final
    check, as long as the cloud answers and the budget lasts; any other token is drawn by the edge, from
    its own distribution.
    """
    escalate = guarded(GATES.part(settings.gate), GATES[settings.gate])
    blockwise = settings.gate_scope == "block"
    since_last_call = settings.verify_scope == "since-last-call"
    drafter = Drafter(edge, prompt, end_ids=stopping.end_ids)
    controller = SpeculationController(settings.budget)
    verifier = VerifierClient(
        cloud, prompt, settings.acceptance, controller, recorder, sampling=sampling
    )
    output: list[int] = []
    origins: list[Origin] = []
    pending: list[int] = []

    def sure(token: TokenStats) -> bool:
        return blockwise or not escalate([token], settings.thresholds)

    def commit(new: list[int], chosen_by: tuple[Origin, ...]) -> tuple[Commit, StopReason | None]:
        tokens, reason = stopping.cut(output, new)
        output.extend(tokens)
        origins.extend(chosen_by[: len(tokens)])
        pending.clear()
        drafter.follow(output, ended=reason is not None)
        return recorder.commit(tokens, chosen_by[: len(tokens)]), reason

    def prefill() -> None:
        start = recorder.now()
        drafter.prefill()
        recorder.prefill(start, "edge", (prompt.edge or prompt).length)

    try:
        seeds = min(settings.seed_tokens, stopping.room(output))
        if settings.parallel_prefill or seeds:
            verifier.start(seeds)
            prefilled = recorder.beside(prefill)
            seed = verifier.started() if seeds else []
            committed = commit(seed, by("cloud", len(seed))) if seed else None
            if committed:
                yield committed[0]
            prefilled.result()
            if committed and committed[1]:
                return committed[1]
        else:
            prefill()
        while True:
            text = [*output, *pending]
            room = stopping.room(text)
            k = min(settings.k, room)
            k = controller.best_k(k, settings.continuation) if settings.adaptive_k else k
            start = recorder.now()
            recent = origins[-RECENT:].count("corrected")
            draft, stats = drafter.draft(text, k, sure=sure, recent_corrections=recent)
            controller.drew(len(draft), recorder.now() - start)
            proposed = [*pending, *draft]
            ended = stopping.cut(output, proposed)[1] is not None
            asked = verifier.usable and (
                escalate(stats if blockwise else stats[-1:], settings.thresholds)
                or (ended and settings.final_check)
            )
            recorder.draft(start, draft, stats, escalated=asked)
            verdict = None
            if asked:
                room = stopping.room(output) - 1
                wanted = min(settings.continuation, room)
                remaining = min(room, max(1, settings.expected_tokens - len(text)))
                if settings.hand_off and controller.hands_off(remaining):
                    wanted = room
                more = controller.continuation(wanted)
                verdict = verifier.ask(output, proposed, more, drafter, ahead=settings.draft_ahead)
            if verdict is not None:
                done, reason = commit(verdict.output(proposed), _origins(verdict, len(proposed)))
            elif ended or not since_last_call or not verifier.usable:
                done, reason = commit(proposed, by("edge", len(proposed)))
            else:
                pending = proposed
                continue
            yield done
            if reason is not None:
                return reason
    finally:
        verifier.close()


def _origins(verdict: Verdict, drafted: int) -> tuple[Origin, ...]:
    """The origin of each token of a verdict's output."""
    chosen: Origin = "bonus" if verdict.kept == drafted else "corrected"
    return (
        *by("verified", verdict.kept),
        *by(chosen, 0 if verdict.token is None else 1),
        *by("cloud", len(verdict.continuation)),
    )
