"""Running costs and acceptance of one request: they choose the draft length and keep the cloud's budget."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from edgecloud.contracts import CloudCost
from edgecloud.contracts.ranges import Unbounded, check_fields

__all__ = ["CloudBudget", "SpeculationController"]


@dataclass(frozen=True, slots=True)
class CloudBudget:
    """Most that one request may take of the cloud: seconds it is busy, tokens of its own choice.

    Raises, when made:
        ConfigError: less than nothing.
    """

    busy_s: Unbounded = math.inf
    tokens: Unbounded = math.inf

    def __post_init__(self) -> None:
        """Check the budget."""
        check_fields(self)

    @classmethod
    def parse(cls, text: str) -> CloudBudget:
        """The budget written as ``0.8s`` or ``12t``. Raises ValueError for anything else."""
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)s|([0-9]+)t", text)
        if not found:
            raise ValueError(
                f"{text!r} is neither busy seconds, such as 0.8s, nor tokens, such as 12t"
            )
        return cls(busy_s=float(found[1])) if found[1] else cls(tokens=int(found[2]))


@dataclass(slots=True)
class SpeculationController:
    """Running figures of one request, in seconds of its clock.

    The rate of agreement starts from a prior of 4 tokens kept in 5.
    """

    budget: CloudBudget
    agreed: float = 4.0
    scored: float = 5.0
    drafted: int = 0
    drafting_s: float = 0.0
    calls: int = 0
    waiting_s: float = 0.0
    busy_s: float = 0.0
    tokens: int = 0
    step_s: float = 0.0
    """Upper bound of the cloud's seconds a token: the last call's busy time over its tokens."""

    def drew(self, tokens: int, took_s: float) -> None:
        """Count ``tokens`` that the edge drafted in ``took_s``."""
        self.drafted += tokens
        self.drafting_s += took_s

    def called(self, cost: CloudCost, waited_s: float, *, kept: int, rejected: bool) -> None:
        """Count a verification that was answered after ``waited_s``, and its ``cost``."""
        self.agreed += kept
        self.scored += kept + rejected
        self.calls += 1
        self.waiting_s += waited_s
        self.paid(cost)

    def paid(self, cost: CloudCost) -> None:
        """Count what the cloud did for this request."""
        self.busy_s += cost.busy_s
        self.tokens += cost.generated_tokens
        if not cost.prefill_tokens:
            self.step_s = cost.busy_s / max(1, cost.generated_tokens)

    @property
    def affordable(self) -> bool:
        """True while the budget has room for one more token of the cloud's, its verification included."""
        return (
            self.busy_s + self.step_s <= self.budget.busy_s
            and self.tokens + 1 <= self.budget.tokens
        )

    def continuation(self, wanted: int) -> int:
        """The part of ``wanted`` that the budget has room for, after a verification and its own token."""
        by_tokens = self.budget.tokens - self.tokens - 1
        left_s = self.budget.busy_s - self.busy_s
        by_time = left_s / self.step_s - 1 if self.step_s else math.inf
        return max(0, int(min(wanted, by_tokens, by_time)))

    def hands_off(self, remaining: int) -> bool:
        """True when the cloud should finish the output: its step is faster, and the budget has room for
        ``remaining`` tokens. False until its step has been timed.
        """
        edge_step_s = self.drafting_s / self.drafted if self.drafted else 0.0
        return 0 < self.step_s < edge_step_s and self.continuation(remaining) == remaining

    def best_k(self, most: int, continuation: int) -> int:
        """The draft length, at most ``most``, that gives the most tokens a second.

        With rate of agreement ``a``, a round of ``k`` drafted tokens gives ``(1 - a^(k+1)) / (1 - a)``
        tokens on average, the cloud's own one among them (Leviathan et al. 2023), and takes ``k``
        steps and one call.
        """
        if not self.calls or not self.drafted:
            return most
        a = min(0.999, self.agreed / self.scored)
        step_s, call_s = self.drafting_s / self.drafted, self.waiting_s / self.calls

        def rate(k: int) -> float:
            took_s = k * step_s + call_s
            return ((1 - a ** (k + 1)) / (1 - a) + continuation) / took_s if took_s else k

        return max(range(1, most + 1), key=rate)
