"""When the models of a run are checked, and with which requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgecloud.contracts import Sample
from edgecloud.datasets.corpus import load_corpus
from edgecloud.edge.nursery import CLOUD, EDGE, Nursery, _Servers
from edgecloud.errors import ModelError
from edgecloud.experiments import checking, system
from edgecloud.experiments.checking import check_models, known_good
from edgecloud.experiments.system import System
from edgecloud.settings.config import Config, resolve


@pytest.fixture(autouse=True)
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is sent to the process that checks."""
    found: list[Any] = []
    monkeypatch.setattr(checking, "_CHECKED", set())
    monkeypatch.setattr(checking, "_examined", lambda arms, **how: found.append((arms, how)))
    return found


def given(**settings: Any) -> Config:
    return resolve({"edge_model": "/none/edge", **settings})


def test_the_embedded_pair_as_it_was_made_needs_no_check(checks: list[Any]) -> None:
    check_models([("spec", resolve()), ("edge", resolve()), ("cloud", resolve())])
    assert checks == []


@pytest.mark.parametrize(
    "mode, settings, good",
    [
        ("spec", {}, True),
        ("spec", {"cloud_model": "m"}, False),
        ("edge", {"cloud_model": "m"}, True),
        ("cloud", {"cloud_model": "m"}, False),
        ("cloud", {"edge_model": "m"}, True),
        ("spec", {"cloud_url": "http://h:1", "cloud_model": "m"}, False),
        ("spec", {"cloud_url": "http://h:1", "edge_model": "m"}, False),
        ("edge", {"edge_device": "cuda:3"}, False),
        ("edge", {"edge_quantization": "int8"}, False),
        ("cloud", {"cloud_quantization": "int8"}, False),
    ],
)
def test_whatever_else_is_loaded_is_checked(mode: Any, settings: Any, good: bool) -> None:
    assert known_good(mode, resolve(settings)) is good


def test_equal_arms_are_checked_once_and_other_ones_again(checks: list[Any]) -> None:
    for _ in range(2):
        check_models([("edge", given())])
    check_models([("edge", given(edge_dtype="bfloat16"))])
    check_models([("edge", given()), ("edge", given(edge_dtype="bfloat16"))], together=True)
    assert [len(arms) for arms, _ in checks] == [1, 1]


def test_what_fails_is_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(arms: Any, **how: Any) -> None:
        raise ModelError("no")

    monkeypatch.setattr(checking, "_examined", refuse)
    for _ in range(2):
        with pytest.raises(ModelError):
            check_models([("edge", given())])


def test_templates_are_compared_by_what_this_run_asks(checks: list[Any]) -> None:
    config = given(input_modality="audio_text")
    corpus, _ = load_corpus(config)
    samples: list[Sample] = [*corpus[:3], corpus[0]]
    check_models([("edge", config)], samples=samples)
    ((arm,), _) = checks[0]
    said = [conversation[1]["content"][1]["text"] for conversation in arm["conversations"][0]]
    assert len(said) == len({sample.transcription for sample in samples})
    for sample, text in zip(samples, said, strict=False):
        assert str(sample.transcription) in text


def test_a_system_checks_its_models_before_it_starts_a_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(arms: Any, **how: Any) -> None:
        raise ModelError("they do not fit")

    monkeypatch.setattr(checking, "_examined", refuse)
    monkeypatch.setattr(system, "Worker", None)
    with pytest.raises(ModelError, match="they do not fit"), System("spec", given()):
        raise AssertionError("it must not start")


def test_processes_are_forked_for_the_embedded_pair_without_a_gpu_and_where_it_is_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[Nursery] = []
    monkeypatch.setattr(Nursery, "start", lambda its: started.append(its))
    monkeypatch.setattr(system, "gpu_facts", lambda: ({}, {}))

    def asked(mode: Any, **changes: Any) -> dict[str, Nursery]:
        its = System(mode, resolve({"max_cpu_cores": 3, **changes}), first_core=1)
        return its._nurseries(here=mode == "cloud")

    monkeypatch.setattr(system, "allowed", lambda: False)
    assert asked("edge") == {}
    monkeypatch.setattr(system, "allowed", lambda: True)
    alone, both = asked("edge"), asked("cloud")
    # An edge's process is capped as it will be, and beside a cloud alone it imports no network.
    assert alone == {"edge": Nursery((*EDGE, *CLOUD), (3, 16.0, 1))}
    assert both == {"edge": Nursery(EDGE, (3, 16.0, 1)), "cloud": Nursery(CLOUD)}
    assert started == [*alone.values(), *both.values()]
    # Where one runs that has all it needs, there is no other; caps are never shared.
    monkeypatch.setattr(_Servers, "running", dict.fromkeys(alone.values()))
    assert asked("cloud") == {**alone, "cloud": Nursery(CLOUD)}
    assert asked("edge", max_memory_gb=8.0)["edge"].caps == (3, 8.0, 1)
    assert asked("spec", edge_model=str(tmp_path)) == {}
    monkeypatch.setattr(system, "gpu_facts", lambda: ({"gpus": ["a GPU"]}, {}))
    assert asked("edge") == {}
