"""How a system is put together; running ones are in tests/system."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecloud.embedded.pair import CLOUD_CHECKPOINT, EDGE_CHECKPOINT, OTHER_CHECKPOINT
from edgecloud.errors import ConfigError, ModelError, WorkerError
from edgecloud.experiments.system import (
    System,
    _check_audio,
    _check_pair,
    _check_sampling,
    model_of,
)
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.folder import same_vocabulary
from edgecloud.models.processor import Processor
from edgecloud.models.quantized.cache import root
from edgecloud.settings.config import resolve


def test_without_a_path_the_embedded_pair_is_taken() -> None:
    assert model_of(None, "edge") == ("embedded-edge", str(EDGE_CHECKPOINT))
    assert model_of(None, "cloud") == ("embedded-cloud", str(CLOUD_CHECKPOINT))
    assert model_of("embedded-cloud", "edge") == ("embedded-cloud", str(CLOUD_CHECKPOINT))
    assert model_of("embedded-qwen2-audio", "edge")[1] == str(OTHER_CHECKPOINT)
    assert same_vocabulary(EDGE_CHECKPOINT, CLOUD_CHECKPOINT)
    assert not same_vocabulary(EDGE_CHECKPOINT, OTHER_CHECKPOINT)


def test_a_model_is_called_by_its_folder() -> None:
    assert model_of("/models/Omni-3B/", "edge") == ("Omni-3B", "/models/Omni-3B/")


def test_two_sides_must_speak_the_same_tokens() -> None:
    edge = {"tokenizer_sha256": "a", "shared": {}}
    _check_pair(edge, None)
    _check_pair(edge, {"tokenizer_sha256": "a"})
    with pytest.raises(ModelError, match="different tokenizers"):
        _check_pair(edge, {"tokenizer_sha256": "b"})


def test_a_pair_that_does_not_fit_is_told_what_differs(
    text_folder: Path, audio_folder: Path, omni_folder: Path
) -> None:
    text, audio, omni = (
        {"shared": Processor(Checkpoint.open(folder)).shared()}
        for folder in (text_folder, audio_folder, omni_folder)
    )
    _check_pair(omni, omni)
    with pytest.raises(ModelError, match=r"qwen2 on the edge, qwen2_audio in the cloud") as info:
        _check_pair(text, audio)
    for part in ("do not fit together", "the chat templates differ", "--cloud-model"):
        assert part in str(info.value)
    with pytest.raises(ModelError, match="n_window is 100 on the edge, absent in the cloud"):
        _check_pair(omni, audio)


VLLM = {"hears": "nothing", "draws": False}


def test_what_a_cloud_on_vllm_needs_is_asked_before_the_first_sample(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes none"):
        _check_audio(resolve(), VLLM)
    with pytest.raises(ConfigError, match="not features"):
        _check_audio(resolve(), {"hears": "recordings"})
    with pytest.raises(ConfigError, match="no recording has to leave"):
        _check_audio(resolve({"upload_audio": True}), {})
    _check_audio(resolve(), {})
    _check_audio(resolve({"upload_audio": True}), {"hears": "recordings"})
    text = {"dataset_type": "text", "dataset_path": str(tmp_path / "prompts.json")}
    _check_audio(resolve(text), VLLM)


def test_a_cloud_on_vllm_is_asked_for_no_drawn_tokens() -> None:
    drawn = resolve({"temperature": 0.7, "acceptance": "rejection"})
    with pytest.raises(ConfigError, match="--temperature 0"):
        _check_sampling(drawn, VLLM)
    for penalty in ({"repetition_penalty": 1.1}, {"no_repeat_ngram": 3}):
        with pytest.raises(ConfigError, match="cannot verify with penalties"):
            _check_sampling(resolve(penalty), VLLM)
        with pytest.raises(ConfigError, match="of a version that knows no penalties"):
            _check_sampling(resolve(penalty), {"protocol": 2})
        _check_sampling(resolve(penalty), {"protocol": 2, "protocols": [2, 3]})
    _check_sampling(drawn, {})
    _check_sampling(resolve(), VLLM)


def test_an_unknown_profile_is_found_before_any_process_starts() -> None:
    caps = {"max_cpu_cores": 2, "max_memory_gb": 16.0}
    config = resolve({"clock": "modelled", "hardware_profile": "abacus", **caps})
    system = System("spec", config)
    with pytest.raises(ConfigError, match="abacus"), system:
        raise AssertionError("it must not start")


def test_a_system_must_be_entered_before_it_is_used() -> None:
    with pytest.raises(WorkerError, match="enter the system first"):
        _ = System("edge", resolve()).edge_pid


def test_what_a_killed_conversion_left_goes_at_the_start_of_a_run_without_a_quantised_edge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    part = root() / "0a1b-int8" / "model.safetensors.999999999.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    caps = {"max_cpu_cores": 2, "max_memory_gb": 16.0}
    config = resolve({"clock": "modelled", "hardware_profile": "abacus", **caps})
    with pytest.raises(ConfigError, match="abacus"):
        System("edge", config).__enter__()
    assert not part.parent.exists()
