"""Speculative decoding on scripted models, with everything that can be counted."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from hypothesis import strategies as st

from edgecloud.cloud.engine.local import LocalSession
from edgecloud.contracts import (
    Acceptance,
    CloudChunk,
    CloudModel,
    CloudSession,
    Commit,
    EdgeModel,
    Pending,
    Prompt,
    StopLimits,
    StopReason,
    Trace,
    Verdict,
)
from edgecloud.contracts.sampling import GREEDY, Distribution, Sampling
from edgecloud.decoding.autoregressive import cloud_only, edge_only
from edgecloud.decoding.cascade import cascade
from edgecloud.decoding.gates import Thresholds
from edgecloud.decoding.local_edge import LocalEdge
from edgecloud.decoding.recorded import RecordedCloud, RecordedEdge
from edgecloud.decoding.recorder import Recorder
from edgecloud.decoding.sampling import chance, draw, pick, residual, warp
from edgecloud.decoding.speculation_controller import CloudBudget
from edgecloud.decoding.speculative import Speculation, speculative
from edgecloud.decoding.stopping import Stopping
from edgecloud.hardware.clock import ModelledClock, TimedCloud, TimedEdge, WallClock
from edgecloud.hardware.profiles import CloudCosts, EdgeCosts, HardwareProfile, LinkCosts
from edgecloud.models.scripted import ScriptedModel, hashed

VOCAB = 12
END, STOP = 0, 1
PROMPT = Prompt((7, 8, 9))
REJECTION = Acceptance("rejection")


@dataclass
class CountingCloud:
    """A cloud whose sessions stay at hand after they are closed."""

    model: ScriptedModel
    stopping: Stopping
    opened: list[ScriptedModel] = field(default_factory=list)
    calls: list[tuple[tuple[int, ...], tuple[int, ...], Verdict]] = field(default_factory=list)
    closed: int = 0
    fail_at: int | None = None

    def open(self, prompt: Prompt, sampling: Sampling = GREEDY) -> CloudSession:
        model = self.model.new_sequence()
        self.opened.append(model)
        return _CountingSession(self, LocalSession(model, prompt, self.stopping, sampling))


class _CountingSession(CloudSession):
    def __init__(self, cloud: CountingCloud, session: LocalSession) -> None:
        self._cloud = cloud
        self._session = session

    def start(self, count: int) -> Pending[CloudChunk]:
        return self._session.start(count)

    def submit(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        acceptance: Acceptance,
        continuation: int = 0,
        draft_probabilities: Sequence[Distribution] = (),
    ) -> Pending[Verdict]:
        if len(self._cloud.calls) == self._cloud.fail_at:
            raise RuntimeError("the cloud is gone")
        verdict = self._session.verify(
            committed, draft, acceptance, continuation, draft_probabilities
        )
        self._cloud.calls.append((tuple(committed), tuple(draft), verdict))
        return Pending(lambda: verdict)

    def generate(self, committed: Sequence[int], limits: StopLimits) -> Iterator[CloudChunk]:
        return self._session.generate(committed, limits)

    def close(self) -> None:
        self._cloud.closed += 1
        self._session.close()


@dataclass(frozen=True)
class Case:
    """Two models that agree now and then, and a way to decode with them."""

    seed: int = 1
    every: int = 3
    settings: Speculation = field(default_factory=Speculation)
    limits: StopLimits = field(default_factory=lambda: StopLimits(40))
    sampling: Sampling = GREEDY

    @property
    def stopping(self) -> Stopping:
        return Stopping(self.limits, frozenset({END}), frozenset({STOP}))

    def edge(self) -> ScriptedModel:
        return ScriptedModel(
            hashed(
                self.seed,
                vocab_size=VOCAB,
                end_id=END,
                disagree_with=hashed(self.seed + 1000, vocab_size=VOCAB, end_id=END),
                every=self.every,
            ),
            vocab_size=VOCAB,
        )

    def cloud(self) -> CountingCloud:
        script = hashed(self.seed + 1000, vocab_size=VOCAB, end_id=END)
        return CountingCloud(ScriptedModel(script, vocab_size=VOCAB), self.stopping)


@dataclass
class Run:
    """What came of decoding."""

    commits: list[Commit]
    stop: StopReason
    trace: Trace
    edge_caches: list[tuple[int, ...]] = field(default_factory=list)
    """What the edge's cache held after each commit."""

    @property
    def tokens(self) -> list[int]:
        return [token for commit in self.commits for token in commit.tokens]

    @property
    def origins(self) -> list[str]:
        return [origin for commit in self.commits for origin in commit.origins]


def _follow(
    commits: Generator[Commit, None, StopReason], recorder: Recorder, edge: ScriptedModel | None
) -> Run:
    run = Run([], "token_limit", Trace(()))
    while True:
        try:
            run.commits.append(next(commits))
        except StopIteration as end:
            run.stop = end.value
            recorder.finish(run.stop)
            run.trace = recorder.trace()
            return run
        if edge is not None:
            run.edge_caches.append(edge.sequence)


def run_speculative(case: Case, edge: ScriptedModel, cloud: CloudModel) -> Run:
    local = LocalEdge(edge, case.sampling)
    return _speculative(case, Recorder(WallClock()), edge, local, cloud)


MODELLED = HardwareProfile(
    "test",
    EdgeCosts(prefill_s=2.0, step_s=0.4),
    CloudCosts(prefill_s=0.5, step_s=0.05, verify_s=0.06),
    LinkCosts(round_trip_s=0.1),
    source="made up",
)


def run_modelled(
    case: Case, edge: ScriptedModel, cloud: CloudModel, hardware: HardwareProfile = MODELLED
) -> Run:
    """The same in modelled time."""
    clock = ModelledClock()
    timed = TimedEdge(LocalEdge(edge, case.sampling), clock, hardware.edge)
    return _speculative(case, Recorder(clock), edge, timed, TimedCloud(cloud, clock, hardware))


def run_recorded(case: Case, trace: Trace, hardware: HardwareProfile = MODELLED) -> Run:
    """The request of ``trace`` in modelled time, without models."""
    clock = ModelledClock()
    edge = TimedEdge(RecordedEdge(trace), clock, hardware.edge)
    cloud = TimedCloud(RecordedCloud(trace), clock, hardware)
    return _speculative(case, Recorder(clock), None, edge, cloud)


def _speculative(
    case: Case, recorder: Recorder, edge: ScriptedModel | None, timed: EdgeModel, cloud: CloudModel
) -> Run:
    decode = cascade if case.settings.whole_captions else speculative
    commits = decode(
        PROMPT,
        edge=timed,
        cloud=cloud,
        settings=case.settings,
        stopping=case.stopping,
        recorder=recorder,
        sampling=case.sampling,
    )
    return _follow(commits, recorder, edge)


def run_cloud(case: Case) -> Run:
    recorder = Recorder(WallClock())
    commits = cloud_only(
        PROMPT,
        cloud=case.cloud(),
        stopping=case.stopping,
        recorder=recorder,
        sampling=case.sampling,
    )
    return _follow(commits, recorder, None)


def run_edge(case: Case) -> Run:
    recorder = Recorder(WallClock())
    commits = edge_only(
        PROMPT,
        edge=LocalEdge(case.edge(), case.sampling),
        stopping=case.stopping,
        recorder=recorder,
    )
    return _follow(commits, recorder, None)


def assert_every_origin_is_true(case: Case, run: Run) -> None:
    """Every token is one that whoever is said to have chosen it would have chosen there."""
    edge, cloud = case.edge(), case.cloud().model
    regret = 0.0
    for place, (token, origin) in enumerate(zip(run.tokens, run.origins, strict=True)):
        output = run.tokens[:place]
        by_edge, by_cloud = (
            torch.tensor(model._script([*PROMPT.token_ids, *output])) for model in (edge, cloud)
        )
        if not case.sampling.greedy:
            _assert_drawn(case.sampling, output, token, origin, by_edge, by_cloud)
            continue
        if origin in ("edge", "verified"):
            assert token == int(by_edge.argmax())
        rank = int((by_cloud > by_cloud[token]).sum())
        if origin in ("corrected", "bonus", "cloud"):
            assert rank == 0
        if origin == "verified":
            rule = case.settings.acceptance
            lost = float(by_cloud.max() - by_cloud[token])
            regret += lost
            assert rank < (1 if rule.rule in ("exact", "rejection") else rule.rank_threshold)
            if rule.rule == "bounded":
                assert lost <= -math.log(rule.probability_ratio) + 1e-6
                assert regret <= rule.regret_nats + 1e-5


def _assert_drawn(
    sampling: Sampling,
    output: list[int],
    token: int,
    origin: str,
    by_edge: torch.Tensor,
    by_cloud: torch.Tensor,
) -> None:
    drafted, q = draw(by_edge, sampling, output)
    p = warp(by_cloud, sampling)
    keeps = chance(sampling.seed, "keep", output) / 2**64 < p[drafted] / q.probability_of(drafted)
    if origin in ("edge", "verified"):
        assert token == drafted
    if origin in ("verified", "corrected"):
        assert keeps == (origin == "verified")
    if origin == "corrected":
        assert residual(p, q)[token] > 0
    if origin in ("bonus", "cloud"):
        assert token == pick(by_cloud, sampling, output)


acceptances = st.builds(
    Acceptance,
    rule=st.sampled_from(["rank", "exact", "bounded"]),
    rank_threshold=st.integers(1, VOCAB),
    probability_ratio=st.floats(0.01, 1),
    regret_nats=st.floats(0, 5) | st.just(math.inf),
)
samplings = st.builds(
    Sampling,
    temperature=st.just(0.0) | st.floats(0.2, 3),
    top_p=st.floats(0.05, 1) | st.just(1.0),
    seed=st.integers(0, 2**63 - 1),
)
thresholds = st.builds(
    Thresholds, entropy=st.floats(0, 2.5), margin=st.floats(0, 1), logprob=st.floats(-4, 0)
)


ideas: dict[str, st.SearchStrategy[Any]] = {
    "gate_scope": st.sampled_from(["block", "token"]),
    "verify_scope": st.sampled_from(["block", "since-last-call"]),
    "final_check": st.booleans(),
    "continuation": st.integers(0, 5),
    "adaptive_k": st.booleans(),
    "draft_ahead": st.booleans(),
    "parallel_prefill": st.booleans(),
    "seed_tokens": st.integers(0, 4),
    "hand_off": st.booleans(),
    "expected_tokens": st.integers(1, 40),
    "budget": st.builds(
        CloudBudget,
        busy_s=st.just(math.inf) | st.floats(0, 3),
        tokens=st.just(math.inf) | st.integers(0, 20),
    ),
}
"""Everything else that can be set."""


def cases(
    gate: st.SearchStrategy[str] | None = None,
    acceptance: st.SearchStrategy[Acceptance] | None = None,
    sampling: st.SearchStrategy[Sampling] | None = None,
    **others: st.SearchStrategy[Any],
) -> st.SearchStrategy[Case]:
    """Cases of any rule, or with the ``acceptance`` given; at temperature 0, unless the rule is
    rejection, or a ``sampling`` is given."""
    greedy = st.tuples(acceptances if acceptance is None else acceptance, st.just(GREEDY))
    drawn = st.tuples(st.just(REJECTION), samplings if sampling is None else sampling)
    either = greedy | drawn if acceptance is None and sampling is None else greedy
    ways = drawn if sampling is not None else either
    gates = st.sampled_from(["never", "always", "entropy", "margin", "logprob"])
    cases = st.builds(
        Case,
        seed=st.integers(0, 500),
        every=st.integers(1, 6),
        settings=st.builds(
            Speculation,
            k=st.integers(1, 6),
            gate=gates if gate is None else gate,
            thresholds=thresholds,
            **others,
        ),
        limits=st.builds(
            StopLimits,
            max_new_tokens=st.integers(1, 40),
            max_sentences=st.none() | st.integers(1, 4),
        ),
    )
    return st.builds(_deciding, cases, ways)


def _deciding(case: Case, way: tuple[Acceptance, Sampling]) -> Case:
    acceptance, sampling = way
    return replace(case, settings=replace(case.settings, acceptance=acceptance), sampling=sampling)
