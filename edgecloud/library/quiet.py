"""Who is told what a call is at: nobody, unless progress is asked for."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager

from edgecloud.stages import Lines, listening

__all__ = ["watched"]

_LOG = logging.getLogger("edgecloud")


class _Quiet:
    """Shows nothing; sentences go to the log."""

    def stage(self, what: str, share: float | None) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        _LOG.info(text)

    def close(self) -> None:
        """Nothing was opened."""


def watched(progress: bool) -> AbstractContextManager[None]:
    """Meanwhile stages are shown on standard error with ``progress``; without it what would be said goes to the
    logger ``edgecloud``, as information."""
    return listening(Lines() if progress else _Quiet())
