"""Out of memory on a device fails the sample with advice, not the run."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest
import torch

from edgecloud.datasets.manifest import embedded_manifest, load_manifest
from edgecloud.edge import edge_process
from edgecloud.edge.messages import EdgeSetup, Failed, Request
from edgecloud.embedded.pair import EDGE_CHECKPOINT
from edgecloud.errors import OutOfMemoryError
from edgecloud.models.memory import memory_advice
from edgecloud.models.thinker import Thinker
from edgecloud.settings.config import resolve


def test_a_devices_want_of_memory_becomes_one_line_of_advice() -> None:
    with pytest.raises(OutOfMemoryError, match="--cloud-dtype float16"), memory_advice("cuda:0"):
        raise torch.OutOfMemoryError


@pytest.mark.parametrize(
    "work",
    [
        lambda: torch.empty(1 << 50),
        lambda: torch.zeros(1 << 33, 1 << 33),
        lambda: np.empty(1 << 50),
        lambda: bytearray(1 << 60),
    ],
    ids=["torch", "torch, beyond counting", "numpy", "python"],
)
def test_a_processors_want_of_memory_is_one_too(work: Callable[[], object]) -> None:
    with pytest.raises(OutOfMemoryError, match="cpu is out of memory"), memory_advice("cpu"):
        work()


def test_what_is_no_want_of_memory_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="must match"), memory_advice("cpu"):
        torch.ones(2) + torch.ones(3)


def test_the_edge_goes_on_after_a_sample_that_did_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0
    embed = Thinker.embed

    def short_of_memory_at_first(self: Thinker, prompt: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise torch.OutOfMemoryError
        return embed(self, prompt)

    monkeypatch.setattr(Thinker, "embed", short_of_memory_at_first)
    config = resolve({"max_cpu_cores": 0, "max_memory_gb": 0, "clock": "modelled"})
    ours, theirs = Pipe()
    samples = load_manifest(
        embedded_manifest("chinese"), language="chinese", caption_type="original"
    )
    for sample in samples[:2]:
        ours.send(Request(audio_path=str(sample.audio_path)))
    setup = EdgeSetup(mode="edge", config=config, model="edge", path=str(EDGE_CHECKPOINT))

    class Closing:
        """A connection that ends the process's loop after two answers."""

        def __init__(self) -> None:
            self.sent: list[Any] = []

        def send(self, message: Any) -> None:
            self.sent.append(message)

        def recv(self) -> Any:
            if len(self.sent) == 3:
                raise EOFError
            return theirs.recv()

    connection = Closing()
    with pytest.raises(EOFError):
        edge_process.main(connection, None, setup)  # type: ignore[arg-type]
    _, first, second = connection.sent
    assert isinstance(first, Failed)
    assert first.kind == "OutOfMemoryError"
    assert second.text.endswith("。")
