"""Ways of decoding the same prompts in one process: ours, and transformers' own ``generate``.

Every way gets the same :class:`~edgecloud.contracts.Prompt`: log-mel features are computed before any
clock starts, the audio tower and the prefill of each model are inside. The same weights in the same
precision, the same threads, the same limits, greedy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2_5OmniThinkerForConditionalGeneration
from transformers.utils import logging

from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.loopback import Loopback
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import Acceptance, CloudModel, Commit, Model, Prompt, StopReason
from edgecloud.decoding.autoregressive import cloud_only, edge_only
from edgecloud.decoding.local_edge import LocalEdge
from edgecloud.decoding.recorder import Recorder
from edgecloud.decoding.speculative import Speculation, speculative
from edgecloud.decoding.stopping import Stopping
from edgecloud.hardware.clock import WallClock

__all__ = ["TIE", "Family", "Ours", "Way", "interleaved"]

TIE = 1e-3
"""Where a thinker's logits of two tokens are closer than this, either may come: batched and single-token
products round differently."""

Way = Callable[[Prompt], list[int]]


class Ours:
    """Our loops on a pair of models of this process."""

    def __init__(self, edge: Model, cloud: Model, stopping: Stopping) -> None:
        self._edge = edge
        self._stopping = stopping
        self.local = LocalCloud(cloud, stopping)

    def edge(self, prompt: Prompt) -> list[int]:
        return _tokens(
            edge_only(
                prompt,
                edge=LocalEdge(self._edge.new_sequence()),
                stopping=self._stopping,
                recorder=_recorder(),
            )
        )

    def cloud(self, prompt: Prompt) -> list[int]:
        return _tokens(
            cloud_only(prompt, cloud=self.local, stopping=self._stopping, recorder=_recorder())
        )

    def speculative(self, k: int, *, messages: bool = False) -> Way:
        """Blocks of ``k``, each verified, exact acceptance: the cloud's own greedy tokens. With
        ``messages`` every request and answer is packed and unpacked, as for a cloud elsewhere."""
        settings = Speculation(k=k, gate="always", acceptance=Acceptance("exact"))
        cloud: CloudModel = self.local
        if messages:
            cloud = RemoteCloud(Loopback(MessageServer(self.local)), deadline_s=600.0)

        def run(prompt: Prompt) -> list[int]:
            return _tokens(
                speculative(
                    prompt,
                    edge=LocalEdge(self._edge.new_sequence()),
                    cloud=cloud,
                    settings=settings,
                    stopping=self._stopping,
                    recorder=_recorder(),
                )
            )

        return run


class Family:
    """The pair as the family's own classes, behind ``generate``."""

    def __init__(self, edge: str, cloud: str, *, max_new_tokens: int) -> None:
        self._edge, self._cloud = _thinker(edge), _thinker(cloud)
        self._max_new_tokens = max_new_tokens
        default = self._edge.generation_config
        self._default = (
            default.num_assistant_tokens,
            default.num_assistant_tokens_schedule,
            default.assistant_confidence_threshold,
        )

    def edge(self, prompt: Prompt) -> list[int]:
        return self._generate(self._edge, prompt)

    def cloud(self, prompt: Prompt) -> list[int]:
        return self._generate(self._cloud, prompt)

    def assisted(self, count: int | None = None) -> Way:
        """With ``count`` assistant tokens a round; ``None``: as ``generate`` does by itself, up to 20
        as long as the assistant is confident enough."""

        def run(prompt: Prompt) -> list[int]:
            assistant = self._edge.generation_config
            (
                assistant.num_assistant_tokens,
                assistant.num_assistant_tokens_schedule,
                assistant.assistant_confidence_threshold,
            ) = self._default if count is None else (count, "constant", 0.0)
            return self._generate(self._cloud, prompt, assistant_model=self._edge)

        return run

    def tied(self, prompt: Prompt, one: Sequence[int], other: Sequence[int], *, side: str) -> bool:
        """Whether two texts part at two tokens that the model holds equally good, within :data:`TIE`."""
        pairs = zip(one, other, strict=False)
        place = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        if place is None:
            return False  # one ends where the other goes on
        thinker = self._edge if side == "edge" else self._cloud
        with torch.inference_mode():
            logits = thinker(**_inputs(prompt, one[:place])).logits[0, -1]
        return abs(float(logits[one[place]] - logits[other[place]])) < TIE

    def _generate(self, thinker: Any, prompt: Prompt, **more: Any) -> list[int]:
        found = thinker.generate(
            **_inputs(prompt), max_new_tokens=self._max_new_tokens, do_sample=False, **more
        )
        tokens: list[int] = found[0, prompt.length :].tolist()
        return tokens


def interleaved(
    ways: dict[str, Way], prompts: Sequence[Prompt]
) -> tuple[dict[str, list[float]], dict[str, list[list[int]]]]:
    """Every way on the first prompt, then every way on the second, and so on, each time beginning with
    another: seconds and tokens by way and prompt. The first prompt warms all of them up unseen."""
    names = list(ways)
    times: dict[str, list[float]] = {name: [] for name in names}
    outputs: dict[str, list[list[int]]] = {name: [] for name in names}
    for way in ways.values():
        way(prompts[0])
    for turn, prompt in enumerate(prompts):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            tokens = ways[name](prompt)
            times[name].append(time.perf_counter() - began)
            outputs[name].append(tokens)
    return times, outputs


def _thinker(folder: str) -> Any:
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    thinker = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    return thinker.train(mode=False)


def _inputs(prompt: Prompt, answer: Sequence[int] = ()) -> dict[str, Tensor]:
    ids = torch.tensor([[*prompt.token_ids, *answer]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if prompt.features is not None:
        features = torch.from_numpy(prompt.features).float()[None]
        inputs["input_features"] = features
        inputs["feature_attention_mask"] = torch.ones(1, features.shape[2], dtype=torch.long)
    return inputs


def _recorder() -> Recorder:
    return Recorder(WallClock())


def _tokens(commits: Generator[Commit, None, StopReason]) -> list[int]:
    return [token for commit in commits for token in commit.tokens]
