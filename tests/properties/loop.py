"""Speculative decoding on scripted models, with everything that can be counted."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from edgecloud.cloud.local import LocalSession
from edgecloud.contracts import (
    Acceptance,
    CloudChunk,
    CloudModel,
    CloudSession,
    Commit,
    Prompt,
    StopLimits,
    StopReason,
    Trace,
    Verdict,
)
from edgecloud.decoding.autoregressive import cloud_only, edge_only
from edgecloud.decoding.gates import Thresholds
from edgecloud.decoding.recorder import Recorder
from edgecloud.decoding.speculative import Speculation, speculative
from edgecloud.decoding.stopping import Stopping
from edgecloud.hardware.clock import WallClock
from edgecloud.models.scripted import ScriptedModel, hashed

VOCAB = 12
END, STOP = 0, 1
PROMPT = Prompt((7, 8, 9))


@dataclass
class CountingCloud:
    """A cloud whose sessions stay at hand after they are closed."""

    model: ScriptedModel
    stopping: Stopping
    opened: list[ScriptedModel] = field(default_factory=list)
    calls: list[tuple[tuple[int, ...], tuple[int, ...], Verdict]] = field(default_factory=list)
    closed: int = 0
    fail_at: int | None = None

    def open(self, prompt: Prompt) -> CloudSession:
        model = self.model.fresh()
        self.opened.append(model)
        return _CountingSession(self, LocalSession(model, prompt, self.stopping))


class _CountingSession:
    def __init__(self, cloud: CountingCloud, session: LocalSession) -> None:
        self._cloud = cloud
        self._session = session

    def verify(
        self, committed: Sequence[int], draft: Sequence[int], acceptance: Acceptance
    ) -> Verdict:
        if len(self._cloud.calls) == self._cloud.fail_at:
            raise RuntimeError("the cloud is gone")
        verdict = self._session.verify(committed, draft, acceptance)
        self._cloud.calls.append((tuple(committed), tuple(draft), verdict))
        return verdict

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
    recorder = Recorder(WallClock())
    commits = speculative(
        PROMPT,
        edge=edge,
        cloud=cloud,
        settings=case.settings,
        stopping=case.stopping,
        recorder=recorder,
    )
    return _follow(commits, recorder, edge)


def run_cloud(case: Case) -> Run:
    recorder = Recorder(WallClock())
    commits = cloud_only(PROMPT, cloud=case.cloud(), stopping=case.stopping, recorder=recorder)
    return _follow(commits, recorder, None)


def run_edge(case: Case) -> Run:
    recorder = Recorder(WallClock())
    edge = case.edge()
    return _follow(
        edge_only(PROMPT, edge=edge, stopping=case.stopping, recorder=recorder), recorder, None
    )


acceptances = st.builds(
    Acceptance, rule=st.sampled_from(["rank", "exact"]), rank_threshold=st.integers(1, VOCAB)
)
thresholds = st.builds(
    Thresholds, entropy=st.floats(0, 2.5), margin=st.floats(0, 1), logprob=st.floats(-4, 0)
)


def cases(
    gate: st.SearchStrategy[str] | None = None,
    acceptance: st.SearchStrategy[Acceptance] = acceptances,
) -> st.SearchStrategy[Case]:
    gates = st.sampled_from(["never", "always", "entropy", "margin", "logprob"])
    return st.builds(
        Case,
        seed=st.integers(0, 500),
        every=st.integers(1, 6),
        settings=st.builds(
            Speculation,
            k=st.integers(1, 6),
            gate=gates if gate is None else gate,
            thresholds=thresholds,
            acceptance=acceptance,
        ),
        limits=st.builds(
            StopLimits,
            max_new_tokens=st.integers(1, 40),
            max_sentences=st.none() | st.integers(1, 4),
        ),
    )
