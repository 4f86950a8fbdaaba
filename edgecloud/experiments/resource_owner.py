"""Owner of resources that are started piece by piece, and ended again whatever happens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from types import TracebackType
from typing import Self

__all__ = ["ResourceOwner"]


class ResourceOwner(ABC):
    """A context manager made of others: ``_start`` enters them into ``_stack``.

    They end in reverse order at exit, or at once when ``_start`` fails halfway.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    @abstractmethod
    def _start(self) -> None:
        """Start everything; what has to end again goes on ``self._stack``."""

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._stack.close)
            self._start()
            undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
