"""How a system is put together; running ones are in tests/system."""

from __future__ import annotations

import pytest

from edgecloud.config import resolve
from edgecloud.errors import ConfigError, ModelError, WorkerError
from edgecloud.harness.system import System, _check_pair, model_of
from edgecloud.models.reference import CLOUD_CHECKPOINT, EDGE_CHECKPOINT


def test_without_a_path_the_embedded_pair_is_taken() -> None:
    assert model_of(None, "edge") == ("embedded-edge", str(EDGE_CHECKPOINT))
    assert model_of(None, "cloud") == ("embedded-cloud", str(CLOUD_CHECKPOINT))


def test_a_model_is_called_by_its_folder() -> None:
    assert model_of("/models/Omni-3B/", "edge") == ("Omni-3B", "/models/Omni-3B/")


def test_two_sides_must_speak_the_same_tokens() -> None:
    edge = {"tokenizer_sha256": "a"}
    _check_pair(edge, None)
    _check_pair(edge, {"tokenizer_sha256": "a"})
    with pytest.raises(ModelError, match="different tokenizers"):
        _check_pair(edge, {"tokenizer_sha256": "b"})


def test_an_unknown_profile_is_found_before_any_process_starts() -> None:
    caps = {"max_cpu_cores": 2, "max_memory_gb": 16.0}
    config = resolve({"clock": "modelled", "hardware_profile": "abacus", **caps})
    system = System("spec", config)
    with pytest.raises(ConfigError, match="abacus"), system:
        raise AssertionError("it must not start")


def test_a_system_must_be_entered_before_it_is_used() -> None:
    with pytest.raises(WorkerError, match="enter the system first"):
        _ = System("edge", resolve()).edge_pid
