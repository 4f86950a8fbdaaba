"""What tests do with nurseries."""

from __future__ import annotations

from typing import Any

from edgecloud.edge import nursery as nurseries
from edgecloud.edge.nursery import Nursery

__all__ = ["stop"]


def stop(nursery: Nursery) -> None:
    """End a nursery that runs, so that the next of the same is another."""
    server: Any = nurseries._Servers.running.pop(nursery)
    server._stop()
