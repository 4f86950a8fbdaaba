"""What an acceptance rule is, where rules are registered, and how one is applied to a draft."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from edgecloud.contracts import Acceptance
from edgecloud.errors import WireError
from edgecloud.registry import Registry, guarded

__all__ = ["RULES", "Rule", "TokenScore", "kept", "rule"]


@dataclass(frozen=True, slots=True)
class TokenScore:
    """One drafted token as the cloud sees it.

    ``rank`` counts the tokens the cloud likes strictly better; ``is_top`` says whether it is the one
    token greedy decoding would choose (of several equally likely ones, the one with the lowest id);
    ``regret`` how much less likely it is than that one, in nats of log probability.

    Where tokens are drawn at random, ``ratio`` is the cloud's probability of it over the one it was
    drawn with, and ``drawn`` a random number from 0 up to 1; ``None`` where decoding is greedy.
    """

    rank: int
    is_top: bool
    regret: float = 0.0
    ratio: float | None = None
    drawn: float = 0.0


Rule = Callable[[TokenScore, Acceptance], bool]
"""``(token, settings) -> keep?``"""

RULES: Registry[Rule] = Registry("acceptance rule", group="acceptance")
"""Every acceptance rule by its name."""


def rule(
    name: str, *, options: Sequence[str] = (), own: Mapping[str, float] = MappingProxyType({})
) -> Callable[[Rule], Rule]:
    """Register an acceptance rule, ``(token, acceptance) -> bool``, under ``name``. It must be known where the
    cloud runs, too. ``options`` names settings of other rules that it looks at, such as
    ``rank_threshold``: they count beside it, too. Its own are declared in
    :mod:`edgecloud.settings.subjects`.

    ``own`` are numbers that it alone knows, with their defaults: it finds them in ``acceptance.own``, and
    ``--acceptance-options`` sets them.

    Raises:
        PluginError: a name is taken or cannot be one, or a default is no number.
    """
    return RULES.named(name, options=options, own=own)


def kept(draft: Iterable[TokenScore], acceptance: Acceptance) -> int:
    """Number of draft tokens that are kept: all before the first that fails.

    Ranks 0, 2, 25, 0 under ``rank`` with threshold 20 keep 2: what follows a rejected token is void.
    Each kept token takes its regret from what ``acceptance`` allows the rest.

    Raises:
        WireError: no rule has the name ``acceptance.rule``.
    """
    try:
        keep = guarded(RULES.part(acceptance.rule), RULES[acceptance.rule])
    except KeyError:
        raise WireError(
            f"unknown acceptance rule {acceptance.rule!r:.60}; known: {', '.join(RULES)}; a plug-in's rule "
            "must be where the cloud runs, too: install its package there, or give --plugin MODULE"
        ) from None
    count = 0
    for token in draft:
        if not keep(token, acceptance):
            break
        count += 1
        if token.regret:
            left = max(0.0, acceptance.regret_nats - token.regret)
            acceptance = replace(acceptance, regret_nats=left)
    return count
