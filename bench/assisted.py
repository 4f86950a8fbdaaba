"""Ways of decoding the same prompts in one process: ours, and transformers' own ``generate``.

Every way gets the same :class:`~edgecloud.contracts.Prompt`: log-mel features are computed before any
clock starts, the audio tower and the prefill of each model are inside. The same weights in the same
precision, the same threads, the same limits, greedy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
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
from edgecloud.errors import ConfigError
from edgecloud.hardware.clock import WallClock
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.features import CONTEXT_FRAMES, padded
from edgecloud.models.folder import read_json
from edgecloud.models.translation import of_pair

__all__ = ["TIE", "Family", "Ours", "Way", "check_comparable", "interleaved"]

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


def check_comparable(edge: str, cloud: str, *, of_text: bool) -> None:
    """Check that transformers can decode two checkpoints as a pair, and otherwise than we do; no weight is read.

    Raises:
        ConfigError: it cannot, or not what is asked (``of_text``: prompts, else recordings).
    """
    one, other = (Checkpoint.open(folder) for folder in (edge, cloud))
    for checkpoint in (one, other):
        if not checkpoint.family.fast:
            raise ConfigError(
                f"model {checkpoint.path} runs on the general adapter, which is transformers' own forward: there "
                "is nothing to compare; give a family of the fast path"
            )
        if not (of_text or checkpoint.family.accepts_audio):
            raise ConfigError(
                f"model {checkpoint.path} takes text alone; give --dataset-type text and a manifest of prompts"
            )
    if of_pair(one.processor(), other.processor())[1] is not None:
        raise ConfigError(
            "edge and cloud have vocabularies of their own, and assisted generation takes the same recording in "
            "one form alone; give --edge-model and --cloud-model of one family and vocabulary"
        )


class Family:
    """The pair as the family's own classes, behind ``generate``. Answers end at ``end_ids``, as ours do, and
    without penalties, whatever generation_config.json says."""

    def __init__(
        self, edge: str, cloud: str, *, max_new_tokens: int, end_ids: frozenset[int]
    ) -> None:
        self._edge, self._cloud = _model(edge, end_ids), _model(cloud, end_ids)
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
            logits = thinker(**_inputs(thinker, prompt, one[:place])).logits[0, -1]
        return abs(float(logits[one[place]] - logits[other[place]])) < TIE

    def _generate(self, thinker: Any, prompt: Prompt, **more: Any) -> list[int]:
        found = thinker.generate(
            **_inputs(thinker, prompt),
            max_new_tokens=self._max_new_tokens,
            do_sample=False,
            **more,
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


def _model(folder: str, end_ids: frozenset[int]) -> Any:
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config = read_json(Path(folder) / "config.json")
    kind: Any = (
        Qwen2_5OmniThinkerForConditionalGeneration
        if config["model_type"] == "qwen2_5_omni"
        else getattr(transformers, config["architectures"][0])
    )
    model = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    settings = model.generation_config
    settings.eos_token_id = sorted(end_ids)
    settings.pad_token_id = min(end_ids)
    settings.repetition_penalty, settings.no_repeat_ngram_size = 1.0, 0
    return model.train(mode=False)


def _inputs(model: Any, prompt: Prompt, answer: Sequence[int] = ()) -> dict[str, Tensor]:
    """The arguments of ``model`` for a prompt of which ``answer`` is written."""
    ids = torch.tensor([[*prompt.token_ids, *answer]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if prompt.features is None:
        return inputs
    features, frames = prompt.features, prompt.features.shape[1]
    kind = model.config.model_type
    if kind in ("qwen2_audio", "audioflamingo3"):
        frames -= CONTEXT_FRAMES
        features = padded(features, 2 * model.config.audio_config.max_source_positions)
    elif kind == "qwen3_asr":
        features = np.pad(features, ((0, 0), (0, -frames % 100)))
    mask = torch.zeros(1, features.shape[1], dtype=torch.long)
    mask[:, :frames] = 1
    named = (
        "input_features_mask"
        if kind in ("audioflamingo3", "qwen3_asr")
        else "feature_attention_mask"
    )
    return {**inputs, "input_features": torch.from_numpy(features).float()[None], named: mask}


def _recorder() -> Recorder:
    return Recorder(WallClock())


def _tokens(commits: Generator[Commit, None, StopReason]) -> list[int]:
    return [token for commit in commits for token in commit.tokens]
