"""The laws of model families, of which one has a miniature: a checkpoint of a few thousand weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgecloud.contracts import Prompt, StopLimits
from edgecloud.errors import EdgeCloudError
from edgecloud.models.assembly import on_meta
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.families import FAMILIES
from edgecloud.models.general import check_weights
from edgecloud.models.loading import load
from edgecloud.models.processor import Processor
from edgecloud.models.prompts import LANGUAGES, PROMPT_TYPES
from edgecloud.testing.laws import Law, check
from edgecloud.testing.models import ModelCase, check_model

__all__ = ["FAMILY_LAWS", "FamilyCase", "check_family"]

_RATE_HZ = 16_000
_TEXT = "the voice."


@dataclass(frozen=True)
class FamilyCase:
    """A family by its ``model_type``, and the ``folder`` of its miniature."""

    model_type: str
    folder: Path
    processor: Processor = field(init=False)

    def __post_init__(self) -> None:
        """Open the miniature. Raises AssertionError where it cannot be."""
        assert self.model_type in FAMILIES, f"no family is registered as {self.model_type!r}"
        try:
            checkpoint = Checkpoint.open(self.folder)
            object.__setattr__(self, "processor", checkpoint.processor())
        except EdgeCloudError as error:
            raise AssertionError(f"the miniature cannot be opened: {error}") from error
        found = checkpoint.family.model_type
        assert found == self.model_type, f"the miniature is of {found!r}"

    def prompts(self) -> dict[str, Prompt]:
        """A prompt of text and, where the family takes recordings, some of each language and kind."""
        found = {"text": self.processor.text_prompt(_TEXT)}
        if self.processor.accepts_audio:
            for seconds in (0.4, 1.3):
                features = self.processor.features(_waveform(seconds))
                for language, kind in product(LANGUAGES, PROMPT_TYPES):
                    found[f"{language} {kind}, {seconds} s"] = self.processor.prompt(
                        features, language=language, prompt_type=kind
                    )
        return found


def _waveform(seconds: float) -> Any:
    drawn = np.random.default_rng(3).normal(scale=0.1, size=int(_RATE_HZ * seconds))
    return drawn.astype(np.float32)


def _tensors(case: FamilyCase, options: Sequence[str]) -> None:
    checkpoint = Checkpoint.open(case.folder)
    try:
        network = on_meta(checkpoint, torch.float32)
        if checkpoint.family.fast:
            checkpoint.check(network)
        else:
            check_weights(checkpoint, "cpu")
    except EdgeCloudError as error:
        raise AssertionError(str(error)) from error


def _prompts(case: FamilyCase, options: Sequence[str]) -> None:
    for (name, prompt), again in zip(case.prompts().items(), case.prompts().values(), strict=True):
        assert prompt.token_ids == again.token_ids, f"{name}: another prompt the second time"
        assert prompt.token_ids, f"{name}: an empty prompt"
        outside = [i for i in prompt.token_ids if not 0 <= i < case.processor.vocab_size]
        assert not outside, f"{name}: tokens {outside[:3]} are outside the vocabulary"
        heard = bool(prompt.arrays)
        holds = prompt.token_ids.count(case.processor.audio_id) if case.processor.audio_id else 0
        assert heard == bool(holds), f"{name}: {holds} audio placeholders"


def _spelling(case: FamilyCase, options: Sequence[str]) -> None:
    prompt = case.prompts()["text"]
    spelled = case.processor.text(prompt.token_ids)
    assert _TEXT in spelled, f"the request {_TEXT!r} is {spelled!r}"


def _ends(case: FamilyCase, options: Sequence[str]) -> None:
    stopping = case.processor.stopping(StopLimits(max_sentences=1))
    assert stopping.end_ids, "there is none"
    for name, ids in (("end", stopping.end_ids), ("sentence", stopping.sentence_ids)):
        outside = [i for i in ids if not 0 <= i < case.processor.vocab_size]
        assert not outside, f"{name} ids {outside[:3]} are outside the vocabulary"
        assert case.processor.audio_id not in ids, f"the audio placeholder is an {name} id"


def _compatibility(case: FamilyCase, options: Sequence[str]) -> None:
    found = case.processor.shared()
    assert json.loads(json.dumps(found)) == found, f"{found} is not JSON"
    again = Checkpoint.open(case.folder).processor()
    assert again.shared() == found, "another compatibility the second time"
    assert again.fingerprint() == case.processor.fingerprint(), "another fingerprint"
    assert found["family"] == case.model_type, f"the family is {found['family']!r}"


def _model(case: FamilyCase, options: Sequence[str]) -> None:
    try:
        loaded = load("miniature", str(case.folder), device="cpu", dtype="float32")
        for name, prompt in [*case.prompts().items()][:2]:
            try:
                check_model(ModelCase(loaded.model, prompt))
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
    except EdgeCloudError as error:
        raise AssertionError(str(error)) from error


FAMILY_LAWS: tuple[Law[FamilyCase], ...] = (
    Law("tensors", "every parameter of the network is among the miniature's tensors", _tensors),
    Law(
        "prompts",
        "a prompt is the same each time, within the vocabulary, and has placeholders where there is audio",
        _prompts,
    ),
    Law("spelling", "the words of a request of text are in its prompt", _spelling),
    Law("ends", "some token ends a text, and none of those is the audio placeholder", _ends),
    Law(
        "compatibility",
        "what two models are compared by is JSON, the same each time, and names the family",
        _compatibility,
    ),
    Law(
        "model",
        "the miniature obeys the laws of models, with as many embeddings as placeholders",
        _model,
    ),
)
"""What every family obeys."""


def check_family(model_type: str, folder: Path | str) -> None:
    """Hold a registered family to :data:`FAMILY_LAWS`, with its miniature in ``folder``.

    Raises:
        AssertionError: it breaks one; the message has the law and what it was broken by.
    """
    check(FAMILY_LAWS, FamilyCase(model_type, Path(folder)), ())
