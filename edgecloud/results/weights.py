"""Identities of weights in journals and results, those of the former scheme among them.

Weights above 1 GiB were once known by their files' headers alone (``headers:…``). Beside the sha256 of
their content, newer files hold that former identity as well, so that both can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["FORMER", "Identity", "Weights", "former_alike", "without_former"]

FORMER = "headers:"
"""Prefix of a former identity."""

Json = Mapping[str, Any]


class Weights(Protocol):
    """A model's identity: the sha256 of its weights, and their former identity where they are large."""

    @property
    def sha256(self) -> str | None:
        """Of their content, or the former identity where nothing else is known."""

    @property
    def headers_sha256(self) -> str | None:
        """The former identity."""


@dataclass(frozen=True, slots=True)
class Identity:
    """:class:`Weights`, and no more."""

    sha256: str | None = None
    headers_sha256: str | None = None


def former_alike(one: Weights, other: Weights) -> bool:
    """True when two models' facts agree as far as a former identity tells: at least one of them is known
    by nothing else, and their headers are the same. That says that names and shapes are equal; of the
    weights' values it says nothing.

    >>> old, new = Identity("headers:1"), Identity("ab", headers_sha256="headers:1")
    >>> former_alike(old, new), former_alike(old, old), former_alike(new, new)
    (True, True, False)
    """
    if not _is_former(one) and not _is_former(other):
        return False
    headers = [
        weights.sha256 if _is_former(weights) else weights.headers_sha256
        for weights in (one, other)
    ]
    return headers[0] == headers[1]


def _is_former(weights: Weights) -> bool:
    """True when the headers are all that is known of them."""
    return isinstance(weights.sha256, str) and weights.sha256.startswith(FORMER)


def without_former(one: Json, other: Json) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Two identities of journals as they are to be compared, and the sides ("edge", "cloud") of which
    only a former identity tells that they are the same.

    An identity holds ``models`` (``sha256`` by side) and, where weights are above 1 GiB, ``headers``
    (their former identity by side), which is never compared by itself.
    """
    plain = [{k: v for k, v in block.items() if k != "headers"} for block in (one, other)]
    mine, theirs = (block.get("models") for block in (one, other))
    if not isinstance(mine, Mapping) or not isinstance(theirs, Mapping):
        return plain[0], plain[1], []
    sides = []
    for side in mine:
        facts = [
            Identity(found.get(side), (block.get("headers") or {}).get(side))
            for found, block in ((mine, one), (theirs, other))
        ]
        if former_alike(facts[0], facts[1]):
            sides.append(side)
            plain[0]["models"] = {**plain[0]["models"], side: theirs[side]}
    return plain[0], plain[1], sides
