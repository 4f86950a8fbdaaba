"""The verifier on vLLM: sessions and acceptance are here, the model is on servers that stay private.

vLLM keeps no sessions. Each request names the whole text, and its prefix cache has what was computed
before (on one server, and under the session's own ``cache_salt``). A draft of ``n`` tokens is scored as
``n + 1`` prompts, each one drafted token longer than the one before, that are to go on for one token:
where prompt ``i`` goes on is where draft ``i`` stands. (``prompt_logprobs`` would give the same from one
prompt, but is computed without the prefix cache.) docs/vllm.md tells how to run it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from edgecloud.cloud.engine.local import Given, Pause, Step, SteppedSession, Steps
from edgecloud.cloud.vllm.replicas import Replica, Replicas, VllmSettings
from edgecloud.cloud.vllm.requests import Heard, Requests, Row, Written
from edgecloud.contracts import Acceptance, CloudChunk, CloudCost, Prompt, StopLimits
from edgecloud.contracts.sampling import GREEDY, Distribution, Sampling
from edgecloud.decoding.acceptance import TokenScore
from edgecloud.decoding.draft_scores import MOST_REGRET, DraftScores, accept_draft
from edgecloud.decoding.drafting import common_prefix
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import CloudUnavailable, ModelError, WireError

__all__ = ["VllmCloud", "VllmSession", "Vocabulary"]

_ATTEMPTS = 4
_RANKLESS = ("exact", "rejection")
"""Rules that ask only, at temperature 0, whether a token is the first choice."""
_AT_ONCE = 64
"""Requests under way for recordings, over all sessions: one text each."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The gateway's knowledge of the model: its tokenizer's length, the ends of a text, and
    the placeholder of audio, if there is one."""

    size: int
    stopping: Stopping
    audio_id: int | None = None


class VllmCloud:
    """A :class:`edgecloud.contracts.CloudModel` on vLLM servers."""

    def __init__(self, settings: VllmSettings, vocabulary: Vocabulary) -> None:
        self._settings = settings
        self._vocabulary = vocabulary
        self._replicas = Replicas(settings)
        self._together = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="edgecloud-vllm")

    def open(self, prompt: Prompt, sampling: Sampling = GREEDY) -> VllmSession:
        """Raises ModelError where the prompt holds what this gateway cannot use, or tokens are to be
        drawn."""
        settings, vocabulary = self._settings, self._vocabulary
        if not sampling.greedy:
            raise ModelError(
                f"a cloud on vLLM knows the first {settings.logprobs} choices of its model, and drawn "
                "tokens are verified against all of them: run with --temperature 0, or on a cloud "
                "without vLLM"
            )
        if not sampling.unpenalized:
            raise ModelError(
                "a cloud on vLLM judges drafts by its model's own logits, without penalties: run without "
                "--repetition-penalty and --no-repeat-ngram, or on a cloud without vLLM"
            )
        if prompt.arrays:
            first = "run" if settings.recordings else "start the gateway and run"
            raise ModelError(
                f"vLLM computes features itself and needs the recording: {first} with "
                "--upload-audio, if recordings may leave the edge"
            )
        if prompt.recording is None:
            written = Written(prompt, logprobs=settings.logprobs)
            return VllmSession(self._replicas, written, prompt, settings, vocabulary)
        if not settings.recordings:
            raise ModelError(
                "this gateway takes no recordings; start it with --upload-audio if it may"
            )
        heard = Heard(
            prompt,
            audio_id=vocabulary.audio_id,
            logprobs=settings.logprobs,
            together=self._together,
        )
        # The request holds the recording; a second copy would be kept for nothing.
        return VllmSession(
            self._replicas, heard, replace(prompt, recording=None), settings, vocabulary
        )

    def healthy(self) -> bool:
        """True when a vLLM server says that it can work; asks them."""
        return self._replicas.healthy()

    def close(self) -> None:
        """Ask vLLM no more. (The threads of ``together`` end with this object.)"""
        self._replicas.close()


class VllmSession(SteppedSession):
    """One request. It moves to another server when its own fails: all it needs is here."""

    def __init__(
        self,
        replicas: Replicas,
        requests: Requests,
        prompt: Prompt,
        settings: VllmSettings,
        vocabulary: Vocabulary,
    ) -> None:
        self._replicas = replicas
        self._requests = requests
        self._prompt = prompt
        self._settings = settings
        self._vocabulary = vocabulary
        self._replica: Replica | None = None
        self._prefilled = False
        """True when the session's server has had the prompt."""
        self._known: list[int] = []
        """Output tokens that it has had."""

    @property
    def memory_bytes(self) -> int:
        """Bytes held here: the request as vLLM is given it, and the tokens. The KV cache is vLLM's own."""
        return self._requests.size_bytes + 8 * (self._prompt.length + len(self._known))

    def memory_for(self, tokens: int, computed: int = 0) -> int:
        """Most bytes it takes here while its output grows to ``tokens``; the KV cache is vLLM's own."""
        return self._requests.size_bytes + 8 * (self._prompt.length + tokens + computed)

    def verifying(
        self,
        committed: Sequence[int],
        draft: Sequence[int],
        acceptance: Acceptance,
        continuation: int = 0,
        draft_probabilities: Sequence[Distribution] = (),
    ) -> Steps:
        """The steps of a verification, each a wait for vLLM; the generator returns the :class:`Verdict`.

        Raises:
            WireError: no draft, or tokens outside the vocabulary.
        """
        if not draft:
            raise WireError("a verification needs at least one drafted token")
        if draft_probabilities:
            raise WireError("verify: at temperature 0 nothing is drawn")
        self._check(committed, draft)
        self._check_rank(acceptance)
        end_ids = self._vocabulary.stopping.end_ids
        deadline_s = time.monotonic() + self._settings.timeout_s
        # Nothing is asked about what follows an end of text.
        scored = len(draft) + (draft[-1] not in end_ids)
        rows = yield from self._rows(
            [[*committed, *draft[:count]] for count in range(scored)], deadline_s
        )
        cost = self._ingested(committed)
        most = self._settings.logprobs
        scores = DraftScores(
            tuple(_token_score(row, token, most) for row, token in zip(rows, draft, strict=False)),
            tops=tuple(_choice(row) for row in rows),
            top_probs=tuple(math.exp(max(row.values())) for row in rows[: len(draft)]),
        )
        verdict = accept_draft(draft, scores, acceptance, end_ids=end_ids)
        output = [*committed, *verdict.output(draft)]
        chosen = [] if verdict.token is None else [verdict.token]
        self._known = output[: len(output) - len(chosen)]
        if continuation and chosen and chosen[-1] not in end_ids:
            chosen += yield from self._continued(output, continuation, deadline_s)
        return replace(
            verdict,
            continuation=tuple(chosen[1:]),
            cost=replace(cost, verified_tokens=len(draft), generated_tokens=len(chosen)),
        )

    def generating(self, committed: Sequence[int], limits: StopLimits) -> Steps:
        """The steps of a generation after ``committed``; yields a :class:`CloudChunk` as tokens arrive.

        Raises:
            WireError: the limit leaves no room for a token.
        """
        self._check(committed)
        stopping = replace(self._vocabulary.stopping, limits=limits)
        output = list(committed)
        deadline_s = time.monotonic() + self._settings.timeout_s
        if not limits.max_new_tokens and not output:
            yield from self._rows([[]], deadline_s)
            yield CloudChunk((), self._ingested(()), last=True)
            return None
        if stopping.room(committed) < 1:
            raise WireError("generate: the token limit leaves no room for a token")
        cost: CloudCost | None = None
        for attempt in _tries():
            yield Pause()
            # After a failure it goes on where it was.
            decoded = self._decoded(output, stopping.room(output), deadline_s)
            with attempt, closing(decoded):
                for new in decoded:
                    tokens, reason = stopping.cut(output, new)
                    cost = CloudCost() if cost else self._ingested(output)
                    output += tokens
                    self._known = output[:-1]
                    cost = replace(cost, generated_tokens=len(tokens))
                    yield CloudChunk(tokens, cost, last=reason is not None)
                    if reason is not None:
                        return None
                raise ModelError("vLLM ended the text early; raise its --max-model-len")
        return None

    def abandon(self) -> None:
        """End what the server is asked for this session; from any thread."""
        replica = self._replica
        if replica is not None:
            replica.abandon(self._requests.session)

    def close(self) -> None:
        """Forget the text and release the server; vLLM drops its own cache when it likes."""
        self._known = []
        self._leave()

    def _rows(
        self, texts: Sequence[Sequence[int]], deadline_s: float
    ) -> Generator[Step, Given, list[Row]]:
        """Log-probabilities of the tokenizer's tokens after each of ``texts``."""
        found: list[Row] = []
        for attempt in _tries():
            yield Pause()
            with attempt:
                found = self._requests.rows(self._server(), texts, deadline_s)
        size = self._vocabulary.size
        # The model's vocabulary is padded beyond the tokenizer's.
        rows = [{token: value for token, value in row.items() if token < size} for row in found]
        if not all(rows):
            raise ModelError("vLLM tells of no token that the tokenizer has: is it another model?")
        return rows

    def _continued(
        self, output: Sequence[int], count: int, deadline_s: float
    ) -> Generator[Step, Given, list[int]]:
        """Up to ``count`` tokens after ``output``, and not beyond an end of text."""
        tokens: list[int] = []
        for attempt in _tries():
            yield Pause()
            tokens = []
            decoded = self._decoded(output, count, deadline_s)
            with attempt, closing(decoded):
                for new in decoded:
                    tokens += new
                    yield Pause()
        self._known = [*output, *tokens[:-1]]
        return tokens

    def _decoded(
        self, output: Sequence[int], count: int, deadline_s: float
    ) -> Generator[list[int], None, None]:
        """Up to ``count`` tokens after ``output``, as vLLM comes to them."""
        end_ids = sorted(self._vocabulary.stopping.end_ids)
        limits = {"max_tokens": count, "stop_token_ids": end_ids}
        for new in self._requests.decoded(self._server(), output, limits, deadline_s):
            if not all(0 <= token < self._vocabulary.size for token in new):
                raise ModelError("vLLM chose a token that the tokenizer does not have")
            yield new

    def _server(self) -> Replica:
        """The session's server; another one where its own rests after failures."""
        if self._replica is not None and self._replica.breaker.resting:
            self._leave()
        if self._replica is None:
            self._replica = self._replicas.take()
            self._requests.moved()
            self._prefilled, self._known = False, []
        return self._replica

    def _leave(self) -> None:
        if self._replica is not None:
            self._replicas.leave(self._replica)
            self._replica = None

    def _ingested(self, committed: Sequence[int]) -> CloudCost:
        """The cost of what the session's server was given and had not had. (What it has dropped from its
        cache since, and computes again, it does not tell.)"""
        prefill = 0 if self._prefilled else self._prompt.length
        self._prefilled = True
        return CloudCost(
            prefill_tokens=prefill,
            ingested_tokens=len(committed) - common_prefix(self._known, committed),
        )

    def _check(self, *texts: Sequence[int]) -> None:
        size = self._vocabulary.size
        if not all(
            0 <= token < size for text in (self._prompt.token_ids, *texts) for token in text
        ):
            raise WireError(f"a token is outside the vocabulary of {size}")

    def _check_rank(self, acceptance: Acceptance) -> None:
        """Raises ModelError for a rule that needs ranks which vLLM does not tell."""
        most = self._settings.logprobs
        if acceptance.rule not in _RANKLESS and acceptance.rank_threshold > most:
            raise ModelError(
                f"this gateway knows ranks up to {most}: run with a --rank-threshold of at most that, "
                "or start it with more --vllm-logprobs, and vLLM with as many --max-logprobs"
            )


def _tries() -> Retrying:
    """Another try where a server fails, at once or on another server; not when time is up."""
    return Retrying(
        retry=retry_if_exception_type(CloudUnavailable),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.02, max=0.5),
        reraise=True,
    )


def _choice(row: Row) -> int:
    """The token that greedy decoding takes; of equally likely ones, the one with the lowest id."""
    best = max(row.values())
    return min(token for token, value in row.items() if value == best)


def _token_score(row: Row, token: int, most: int) -> TokenScore:
    """The score of a draft token from vLLM's first choices. One that is not among its first ``most``
    choices ranks after all of them, and has all the regret there is: no rule that may ask here keeps
    it."""
    if token not in row:
        return TokenScore(most, is_top=False, regret=MOST_REGRET)
    own, best = row[token], max(row.values())
    return TokenScore(
        rank=sum(value > own for value in row.values()),
        is_top=token == _choice(row),
        regret=min(best - own, MOST_REGRET),
    )
