"""The cloud as a process of its own on this machine, or on its CUDA device."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from typing import Any

from edgecloud.registry import load_plugins

__all__ = ["main"]


def main(
    control: Connection,
    requests: Connection,
    *,
    name: str,
    path: str,
    placement: dict[str, Any],
    seed: int,
    verify: bool = False,
    draft: tuple[str, str] | None = None,
    draft_tokens: int = 0,
) -> None:
    """Load the model with the ``placement`` of :meth:`edgecloud.settings.subjects.Models.placement`, and beside it the ``draft`` (name and folder) that writes ``draft_tokens`` at a time for
    it; say ``("ready", facts)`` on ``control``, then answer ``requests``.

    Ends when either end is closed.

    Raises:
        ModelError: the model cannot be loaded.
    """
    import torch  # here, so that the parent can import this module without it

    from edgecloud.cloud.engine.self_drafting import local_cloud
    from edgecloud.cloud.pipe_server import MessageServer, answer_all
    from edgecloud.models.precision import load_model

    load_plugins()
    began = time.perf_counter()
    torch.manual_seed(seed)
    loaded = load_model(name, path, verify=verify, **placement)
    own = None if draft is None else load_model(*draft, verify=verify, **placement)
    server = MessageServer(local_cloud(loaded, own, draft_tokens))
    facts: dict[str, Any] = {**loaded.facts, "load_s": time.perf_counter() - began}
    control.send(("ready", facts))
    answer_all(requests, server)
