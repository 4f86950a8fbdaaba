"""What a law of a conformance suite is, and how what breaks it is searched for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from edgecloud.errors import ConfigError

try:
    from hypothesis import HealthCheck, given, settings
    from hypothesis.strategies import SearchStrategy
except ImportError as error:
    raise ConfigError(
        "the conformance suites need hypothesis: pip install 'edgecloud[testing]'"
    ) from error

__all__ = ["Law", "check", "searched"]

_EXAMPLES = 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Law(Generic[T]):
    """A law: its ``name``, what it ``says``, and ``check(part, options)``, which raises AssertionError for a
    ``part`` that breaks it; ``options`` are the names of the settings that it was registered with."""

    name: str
    says: str
    check: Callable[[T, Sequence[str]], None]


def check(laws: Sequence[Law[T]], part: T, options: Sequence[str]) -> None:
    """Hold ``part`` to every law.

    Raises:
        AssertionError: it breaks one; the message has the law and what it was broken by.
    """
    for law in laws:
        try:
            law.check(part, options)
        except AssertionError as error:
            raise AssertionError(f"{law.name}: {law.says}; broken by {error}") from error


def searched(holds: Callable[..., None], **values: SearchStrategy[Any]) -> None:
    """Call ``holds`` with many ``values``, always the same ones, and with the simplest that fail."""
    quiet = settings(
        max_examples=_EXAMPLES,
        database=None,
        deadline=None,
        derandomize=True,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    quiet(given(**values)(holds))()
