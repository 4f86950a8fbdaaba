"""What a law of a conformance suite is, and how what breaks it is searched for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from edgecloud.errors import ConfigError

try:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Flaky
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


def searched(
    holds: Callable[..., None], *, simplify: bool = True, **values: SearchStrategy[Any]
) -> None:
    """Call ``holds`` with many ``values``, always the same ones, and then with the simplest that fail; without
    ``simplify`` with the first: what answers now so, now so, would be simplified for minutes.

    Raises:
        AssertionError: ``holds`` does for some.
    """
    phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if simplify else [])]
    quiet = settings(
        phases=phases,
        max_examples=_EXAMPLES,
        database=None,
        deadline=None,
        derandomize=True,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    try:
        quiet(given(**values)(holds))()
    except Flaky as error:
        raise AssertionError("other answers to the same question, asked again") from error
