"""Threads of a forward: one for a small network, whatever torch has, which has it again afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from edgecloud.contracts import Prompt
from edgecloud.embedded.pair import CLOUD_CHECKPOINT, EDGE_CHECKPOINT
from edgecloud.errors import OutOfMemoryError
from edgecloud.models.computing import computing
from edgecloud.models.decoder import Decoder
from edgecloud.models.loading import load
from edgecloud.models.networks import SMALL, Network


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class _Network(Network):
    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.lm_head = nn.Linear(parameters, 1, bias=False, device="meta")


@pytest.mark.parametrize(
    "parameters, device, threads",
    [(SMALL - 1, "cpu", 1), (SMALL, "cpu", 2), (SMALL - 1, "cuda:0", 2)],
)
def test_a_small_network_computes_on_one_thread_of_a_processor(
    parameters: int, device: str, threads: int
) -> None:
    with computing(_Network(parameters), device):
        assert torch.get_num_threads() == threads
        assert torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == 2


def test_torch_has_its_threads_again_after_a_failure_which_is_told_as_ever() -> None:
    with pytest.raises(OutOfMemoryError), computing(_Network(1), "cpu"):
        raise MemoryError
    assert torch.get_num_threads() == 2


def test_both_embedded_models_are_small_and_their_forwards_take_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[int] = []
    forward = Decoder.__call__

    def noted(*given: object, **more: object) -> object:
        found.append(torch.get_num_threads())
        return forward(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "__call__", noted)
    for folder in (EDGE_CHECKPOINT, CLOUD_CHECKPOINT):
        model = load("embedded", str(folder), device="cpu", dtype="float32").model
        model.prefill(Prompt((1, 2, 3)))
        model.extend([4])
    assert found == [1] * 4
    assert torch.get_num_threads() == 2
