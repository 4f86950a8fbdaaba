"""The verifier on vLLM: the same answers as the verifier in this process, from a fake server always, and
from a real one where vLLM is installed (``tox -e vllm``).

``EDGECLOUD_VLLM_PYTHON`` names an interpreter that has vLLM, where this one has not.
"""

from __future__ import annotations

import importlib.util
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import torch

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.contracts import Acceptance, CloudSession, Prompt, StopLimits, Verdict
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import ModelError
from tests.cloud.vllm.tiny_qwen import QwenText, make_text_checkpoint
from tests.conftest import byte_tokenizer

pytest.importorskip("starlette", reason="the extra serve is not installed")
from edgecloud.cloud.engine.thread_runner import Threads
from edgecloud.cloud.http.client import HttpChannel
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.cloud.vllm.gateway import VllmCloud, Vocabulary
from edgecloud.cloud.vllm.replicas import VllmSettings
from tests.cloud.running import running
from tests.cloud.vllm.fake_vllm import FakeVllm

PYTHON = os.environ.get("EDGECLOUD_VLLM_PYTHON", sys.executable)
INSTALLED = "EDGECLOUD_VLLM_PYTHON" in os.environ or importlib.util.find_spec("vllm") is not None
STARTS_WITHIN_S = 400
TIE_NATS = 2e-3
"""Two tokens that the model likes as nearly equally as this may change places: other kernels round
otherwise. Probabilities are compared to the same tolerance."""


@dataclass(frozen=True)
class Served:
    """A vLLM at ``url``, and the same model here. ``verifications`` are how many it is asked for."""

    url: str
    name: str
    model: QwenText
    verifications: int

    @property
    def stopping(self) -> Stopping:
        return Stopping(StopLimits(40), frozenset({271, 270}), frozenset({13}))

    @property
    def settings(self) -> VllmSettings:
        return VllmSettings((self.url,))

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.model.vocab_size, self.stopping)

    def local(self) -> LocalCloud:
        return LocalCloud(self.model.new_sequence(), self.stopping)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_checkpoint(tmp_path_factory.mktemp("qwen"), byte_tokenizer(), seed=1)


@pytest.fixture(
    scope="module",
    params=[
        "fake",
        pytest.param(
            "real",
            marks=pytest.mark.skipif(not INSTALLED, reason="vLLM is not installed: tox -e vllm"),
        ),
    ],
)
def served(request: pytest.FixtureRequest, checkpoint: Path) -> Iterator[Served]:
    model = QwenText.load(checkpoint)
    if request.param == "fake":
        with FakeVllm(model).running() as url:
            yield Served(url, "tiny", model, verifications=60)
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = checkpoint / "server.log"
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"]
    command += ["--model", str(checkpoint), "--served-model-name", "tiny", "--port", str(port)]
    command += ["--block-size", "32", "--enforce-eager", "--generation-config", "vllm"]
    # vLLM would take bfloat16, in which this model has more ties than clear choices.
    command += ["--dtype", "float32"]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url, server, log)
            yield Served(url, "tiny", model, verifications=500)
        finally:
            server.terminate()
            server.wait(60)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until_s:
        if server.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    pytest.fail("vLLM did not start: " + log.read_text(errors="replace")[-3000:])


def accepted(dice: random.Random) -> Acceptance:
    return dice.choice(
        [
            Acceptance("exact"),
            Acceptance("rank", dice.choice([1, 2, 5, 20])),
            Acceptance("bounded", 20, dice.choice([0.1, 0.5]), dice.choice([0.5, 3.0])),
        ]
    )


def drafted(
    served: Served, prompt: Prompt, committed: Sequence[int], dice: random.Random
) -> list[int]:
    """A draft that is good in places: the model's own choices, its lesser ones, and any token."""
    model = served.model.new_sequence()
    logits = model.prefill(prompt)
    if committed:
        logits = model.extend(committed)[-1]
    draft: list[int] = []
    for _ in range(dice.randint(1, 6)):
        likely = logits.topk(24).indices.tolist()
        token = dice.choice([likely[0]] * 6 + likely[1:4] + [likely[23]])
        draft.append(int(token))
        if token in served.stopping.end_ids:
            break
        logits = model.extend([token])[-1]
    return draft


def tied(
    served: Served, prompt: Prompt, committed: Sequence[int], verdict: Verdict, draft: Sequence[int]
) -> bool:
    """Whether the model likes two tokens nearly equally, where that decides the verdict."""
    model = served.model.new_sequence()
    text = [*committed, *draft, *verdict.continuation]
    output = [*committed, *verdict.output(draft)]
    for tokens in (text, output):
        rows = torch.cat((model.prefill(prompt)[None], model.extend(tokens))).log_softmax(dim=-1)
        for row, token in zip(rows[len(committed) :], [*tokens[len(committed) :], 0], strict=False):
            gaps = (row - row[token]).abs()
            gaps[token] = 1.0
            first, second = row.topk(2).values.tolist()
            if first - second < TIE_NATS or float(gaps.min()) < TIE_NATS:
                return True
    return False


def alike(ours: Verdict, theirs: Verdict) -> bool:
    """Whether two verdicts say the same. A rank of 20 from vLLM is 20 or more."""
    return (
        (ours.kept, ours.token, ours.continuation)
        == (theirs.kept, theirs.token, theirs.continuation)
        and tuple(min(rank, 20) for rank in ours.ranks) == theirs.ranks
        and ours.top_probs == pytest.approx(theirs.top_probs, abs=TIE_NATS)
        and ours.regret == pytest.approx(theirs.regret, abs=TIE_NATS * (1 + len(ours.ranks)))
        and replace(ours.cost, busy_s=0.0)
        == replace(theirs.cost, busy_s=0.0, bytes_up=0, bytes_down=0)
    )


def test_verdicts_through_the_gateway_are_those_of_the_verifier_in_this_process(
    served: Served, record_testsuite_property: Callable[[str, object], None]
) -> None:
    dice = random.Random(5)
    cloud = VllmCloud(served.settings, served.vocabulary)
    runner = Threads(cloud.healthy, cloud.close)
    same = ties = 0
    with running(cloud, runner=runner) as url, closing(HttpChannel(url)) as channel:
        remote = RemoteCloud(channel, deadline_s=600)
        while same + ties < served.verifications:
            prompt = Prompt(tuple(dice.randrange(260) for _ in range(dice.randint(3, 150))))
            theirs, ours = remote.open(prompt), served.local().open(prompt)
            committed: list[int] = []
            for _ in range(min(5, served.verifications - same - ties)):
                committed += [dice.randrange(260) for _ in range(dice.choice([0, 0, 1, 3]))]
                draft = drafted(served, prompt, committed, dice)
                asked = (committed, draft, accepted(dice), dice.choice([0, 0, 3]))
                expected, found = ours.verify(*asked), theirs.verify(*asked)
                if alike(expected, found):
                    same += 1
                else:
                    assert tied(served, prompt, committed, expected, draft), (expected, found)
                    ties += 1
                committed = [*committed, *expected.output(draft)]
                if committed[-1] in served.stopping.end_ids or (ties and expected != found):
                    break
            theirs.close()
            ours.close()
    record_testsuite_property("verdicts alike", same)
    record_testsuite_property("verdicts with ties", ties)
    assert ties <= 0.05 * served.verifications


def test_sessions_at_once_do_not_mix(served: Served) -> None:
    cloud = VllmCloud(served.settings, served.vocabulary)
    prompts = [Prompt(tuple(range(5 + n, 45 + n))) for n in range(8)]

    def decoded(session: CloudSession) -> list[int]:
        return [t for chunk in session.generate([], StopLimits(12)) for t in chunk.tokens]

    with closing(cloud), ThreadPoolExecutor(8) as pool:
        found = list(pool.map(decoded, [cloud.open(prompt) for prompt in prompts]))
    assert found == [decoded(served.local().open(prompt)) for prompt in prompts]


def test_generation_ends_where_the_verifier_in_this_process_ends(served: Served) -> None:
    prompt = Prompt(tuple(range(30, 70)))
    free = [t for c in served.local().open(prompt).generate([], StopLimits(12)) for t in c.tokens]
    stopping = Stopping(StopLimits(40), frozenset({free[5]}), frozenset({free[3]}))
    local = LocalCloud(served.model.new_sequence(), stopping)
    vocabulary = Vocabulary(served.model.vocab_size, stopping)
    with closing(VllmCloud(served.settings, vocabulary)) as cloud:
        for limits in (StopLimits(3), StopLimits(40), StopLimits(40, 1), StopLimits(40, 2)):
            ours, theirs = (
                [(chunk.tokens, chunk.last) for chunk in one.open(prompt).generate([], limits)]
                for one in (local, cloud)
            )
            assert theirs == ours
        session = cloud.open(prompt)
        assert session.start(0).result().cost.prefill_tokens == prompt.length
        assert session.start(2).result().tokens == tuple(free[:2])
        verdict = session.verify(free[:2], free[2:3], Acceptance("exact"), 30)
        assert verdict.output(free[2:3]) == free[2:6]


@pytest.mark.parametrize(
    ("change", "acceptance", "reason"),
    [
        ({}, Acceptance("rank", 21), "ranks up to 20"),
        ({}, Acceptance("bounded", 21), "ranks up to 20"),
        ({"logprobs": 21}, Acceptance("rank", 21), "greater than max allowed: 20"),
        ({"model": "another"}, Acceptance("exact"), "does not exist"),
    ],
)
def test_what_vllm_cannot_do_is_refused_with_the_reason(
    served: Served, change: dict[str, object], acceptance: Acceptance, reason: str
) -> None:
    settings = replace(served.settings, **change)  # type: ignore[arg-type]
    with closing(VllmCloud(settings, served.vocabulary)) as cloud:
        session = cloud.open(Prompt((5, 6, 7)))
        with pytest.raises(ModelError, match=reason):
            session.verify([], [8], acceptance)
        assert session.verify([], [8], Acceptance("exact"), 0) if not change else True


def test_a_text_beyond_the_context_is_refused_with_the_reason(served: Served) -> None:
    with closing(VllmCloud(served.settings, served.vocabulary)) as cloud:
        with pytest.raises(ModelError, match="maximum context length"):
            cloud.open(Prompt((5,) * 2100)).verify([], [8], Acceptance("exact"))
        assert cloud.healthy()
