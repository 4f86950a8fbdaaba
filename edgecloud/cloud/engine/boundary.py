"""The boundary of a request: whatever goes wrong in one ends that one, and nobody else's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from edgecloud.errors import CloudError, EdgeCloudError
from edgecloud.models.memory import out_of_memory

__all__ = ["contained"]

Found = TypeVar("Found")
_LOG = logging.getLogger("edgecloud.service")


def contained(
    work: Callable[..., Found], *given: object, log: bool = True
) -> Found | EdgeCloudError:
    """The result of ``work(*given)``, or the error in which it ended: one of our tree, also where nobody
    foresaw it. The traceback of such a one is logged, unless ``log`` leaves that to whoever tries again.

    This is the one place that may catch everything: many requests share a thread, and what one of them
    raises must not end it for the others. The error keeps no frames, so that nothing of the work (its
    tensors, after it ran out of memory) outlives it.
    """
    try:
        return work(*given)
    except EdgeCloudError as error:
        failed = error
    except Exception as error:  # noqa: BLE001 - the one place that may
        if log:
            _LOG.exception("a request failed in a way that nobody foresaw")
        failed = out_of_memory(error) or CloudError(
            f"the cloud failed at this request ({type(error).__name__}); its log has the traceback"
        )
    failed.__cause__ = failed.__context__ = None
    return failed.with_traceback(None)
