"""The devices of a network's parts: one for all, or the layers spread over several."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch

from edgecloud.errors import ModelError
from edgecloud.models.networks import Network

__all__ = ["AUTO_MAP", "Placement", "placed"]

AUTO_MAP = "auto-map"
"""The device's name that lets accelerate spread a network over every CUDA device there is."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Devices by the names of modules; ``""`` is the whole network. The longest name that fits counts."""

    devices: Mapping[str, str]

    def __call__(self, name: str) -> str:
        """The device of a parameter, buffer or module.

        >>> place = Placement({"": "cuda:0", "model.layers.7": "cuda:1"})
        >>> place("model.layers.7.mlp.up_proj.weight"), place("model.layers.70.mlp.up_proj.weight")
        ('cuda:1', 'cuda:0')
        """
        while name and name not in self.devices:
            name = name.rpartition(".")[0]
        return self.devices[name]

    def parts(self, layers: int) -> list[slice]:
        """Runs of the ``layers`` that lie on one device, in order; the last is open-ended.

        >>> Placement({"": "a", "model.layers.2": "b"}).parts(3)
        [slice(0, 2, None), slice(2, None, None)]
        """
        devices = [self(f"model.layers.{number}") for number in range(layers)]
        starts = [0, *(i for i in range(1, layers) if devices[i] != devices[i - 1])]
        return [slice(begin, end) for begin, end in pairwise([*starts, None])]


def placed(
    network: Network,
    device: str,
    dtype: torch.dtype,
    *,
    room: Mapping[int | str, int] | None = None,
) -> Placement:
    """The device of each part of ``network``, all of it to ``device`` unless that is :data:`AUTO_MAP`.

    ``room`` is the memory that a map may take, in bytes by CUDA index or ``"cpu"``; by default what is
    free now, balanced over the CUDA devices. No layer is split.

    Raises:
        ModelError: accelerate is not installed, or the network does not fit even so.
    """
    if device != AUTO_MAP:
        return Placement({"": device})
    try:
        from accelerate import infer_auto_device_map
        from accelerate.utils import get_balanced_memory
    except ImportError as error:
        raise ModelError(
            f"--cloud-device {AUTO_MAP} needs the extra 'devices': pip install 'edgecloud[devices]'"
        ) from error
    whole = {type(network.model.layers[0]).__name__}
    # Embeddings and recordings come in at one place: the audio encoder is not spread out.
    whole |= {
        type(m).__name__ for n, m in network.named_children() if n not in ("model", "lm_head")
    }
    limits = room or get_balanced_memory(network, dtype=dtype, no_split_module_classes=[*whole])
    with warnings.catch_warnings():
        # Of what would have to lie on a disk: that is an error here.
        warnings.simplefilter("ignore", UserWarning)
        found = infer_auto_device_map(
            network, max_memory=dict(limits), dtype=dtype, no_split_module_classes=[*whole]
        )
    devices = {name: f"cuda:{at}" if isinstance(at, int) else str(at) for name, at in found.items()}
    if "disk" in devices.values():
        raise ModelError("the weights do not fit on all devices together; choose a smaller model")
    return Placement(devices)
