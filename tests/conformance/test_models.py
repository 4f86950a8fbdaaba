"""Every model of this project under the same laws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from edgecloud.contracts import Model, Prompt
from edgecloud.embedded.pair import EDGE_CHECKPOINT
from edgecloud.models.audio_lm import AudioLM
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.loading import Loaded, load
from edgecloud.models.processor import Processor
from edgecloud.models.quantized.loading import load_quantized
from edgecloud.models.quantized.model import QuantizedLM
from edgecloud.models.scripted import ScriptedModel, hashed
from edgecloud.models.stages import StagedDecoder
from edgecloud.testing import MODEL_LAWS, Law, ModelCase, check_model
from tests.conformance.model_conformance import ModelConformance
from tests.models.quantized.runs import RUNS


class TestScriptedModel(ModelConformance):
    tolerance = 0.0

    @pytest.fixture
    def model(self) -> Model:
        return ScriptedModel(hashed(5, vocab_size=11, end_id=0), vocab_size=11)

    @pytest.fixture
    def prompt(self) -> Prompt:
        return Prompt((7, 8, 9))


class TestThinkerWithText(ModelConformance):
    @pytest.fixture
    def model(self, tiny_model: AudioLM) -> Model:
        return tiny_model.new_sequence()

    @pytest.fixture
    def prompt(self) -> Prompt:
        return Prompt((10, 20, 30, 40))


class TestThinkerWithAudio(ModelConformance):
    @pytest.fixture
    def model(self, tiny_model: AudioLM) -> Model:
        return tiny_model.new_sequence()

    @pytest.fixture
    def prompt(self, tiny_processor: Processor, tone: NDArray[np.float32]) -> Prompt:
        features = tiny_processor.features(tone)
        return tiny_processor.prompt(features, language="chinese", prompt_type="concise")


@pytest.fixture(scope="module")
def embedded_edge() -> tuple[Checkpoint, Processor]:
    checkpoint = Checkpoint.open(EDGE_CHECKPOINT)
    return checkpoint, Processor(checkpoint)


@pytest.fixture(scope="module", params=RUNS)
def quantized(
    request: pytest.FixtureRequest,
    embedded_edge: tuple[Checkpoint, Processor],
    tmp_path_factory: pytest.TempPathFactory,
) -> QuantizedLM:
    checkpoint, processor = embedded_edge
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        bits, kernels = request.param
        return load_quantized(
            checkpoint, bits=bits, vocab_size=processor.vocab_size, kernels=kernels
        )


class TestQuantisedWithText(ModelConformance):
    @pytest.fixture
    def model(self, quantized: QuantizedLM) -> Model:
        return quantized.new_sequence()

    @pytest.fixture
    def prompt(self) -> Prompt:
        return Prompt((10, 20, 30, 40))


class TestQuantisedWithAudio(ModelConformance):
    @pytest.fixture
    def model(self, quantized: QuantizedLM) -> Model:
        return quantized.new_sequence()

    @pytest.fixture
    def prompt(
        self, embedded_edge: tuple[Checkpoint, Processor], tone: NDArray[np.float32]
    ) -> Prompt:
        processor = embedded_edge[1]
        features = processor.features(tone)
        return processor.prompt(features, language="chinese", prompt_type="concise")


@pytest.fixture(scope="module")
def qwen2_audio(audio_folder: Path) -> Loaded:
    return load("m", str(audio_folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def qwen2_text(text_folder: Path) -> Loaded:
    return load("m", str(text_folder), device="cpu", dtype="float32")


class TestQwen2AudioWithAudio(ModelConformance):
    @pytest.fixture
    def model(self, qwen2_audio: Loaded) -> Model:
        return qwen2_audio.model.new_sequence()

    @pytest.fixture
    def prompt(self, qwen2_audio: Loaded, tone: NDArray[np.float32]) -> Prompt:
        processor = qwen2_audio.processor
        features = processor.features(tone)
        return processor.prompt(features, language="chinese", prompt_type="concise")


class TestQwen2Text(ModelConformance):
    @pytest.fixture
    def model(self, qwen2_text: Loaded) -> Model:
        return qwen2_text.model.new_sequence()

    @pytest.fixture
    def prompt(self, qwen2_text: Loaded) -> Prompt:
        return qwen2_text.processor.text_prompt("the voice.")


class TestLayersInStages(ModelConformance):
    """As they run where layers lie on several devices; here all of them are the processor."""

    @pytest.fixture
    def model(self, qwen2_text: Loaded) -> Model:
        network = qwen2_text.model._thinker
        decoder = StagedDecoder(network.model, [slice(0, 1), slice(1, 2), slice(2, None)])
        return AudioLM(network, decoder, vocab_size=qwen2_text.processor.vocab_size)

    @pytest.fixture
    def prompt(self) -> Prompt:
        return Prompt((10, 20, 30, 40))


class _Wrong(ScriptedModel):
    """Breaks one law."""

    def new_sequence(self) -> ScriptedModel:
        return type(self)(self._script, vocab_size=self._vocab_size)


class _Double(_Wrong):
    def extend(self, tokens: Sequence[int]) -> Tensor:
        return super().extend(tokens).double()


class _Changing(_Wrong):
    def prefill(self, prompt: Prompt) -> Tensor:
        self.first = super().prefill(prompt)
        return self.first

    def rollback(self, length: int) -> None:
        super().rollback(length)
        self.first += 1


class _Impatient(_Wrong):
    def prefill_in_parts(self, prompt: Prompt, most: int) -> Iterator[Tensor | None]:
        yield self.prefill(prompt)


class _Foreseeing(_Wrong):
    def extend(self, tokens: Sequence[int]) -> Tensor:
        rows = super().extend(tokens)
        return rows[-1].expand_as(rows)


class _Forgetful(_Wrong):
    def rollback(self, length: int) -> None:
        super().rollback(length)
        self._sequence[-1:] = [5]


class _Sharing(_Wrong):
    def new_sequence(self) -> ScriptedModel:
        return self


class _Lenient(_Wrong):
    def rollback(self, length: int) -> None:
        del self._sequence[max(1, length) :]


WRONG = {
    "rows": _Double,
    "repeats": _Changing,
    "parts": _Impatient,
    "at once": _Foreseeing,
    "rollback": _Forgetful,
    "sequences": _Sharing,
    "refusals": _Lenient,
}


@pytest.mark.parametrize("law", MODEL_LAWS, ids=lambda law: law.name)
def test_a_model_that_breaks_a_law_is_found_by_that_law(law: Law[ModelCase]) -> None:
    model = WRONG[law.name](hashed(5, vocab_size=11, end_id=0), vocab_size=11)
    case = ModelCase(model, Prompt((7, 8, 9)), tolerance=0.0)
    with pytest.raises(AssertionError):
        law.check(case, ())
    with pytest.raises(AssertionError, match="broken by"):
        check_model(case)
