"""Identities of weights in journals and results, those of the former scheme among them.

Weights above 1 GiB were once known by their files' headers alone (``headers:…``). Beside the sha256 of
their content, newer files hold that former identity as well, so that both can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["FORMER", "former_alike", "without_former"]

FORMER = "headers:"
"""Prefix of a former identity."""

Json = Mapping[str, Any]


def former_alike(one: Json, other: Json) -> bool:
    """True when two models' facts agree as far as a former identity tells: at least one of them is known
    by nothing else, and their headers are the same. That says that names and shapes are equal; of the
    weights' values it says nothing.

    >>> old, new = {"sha256": "headers:1"}, {"sha256": "ab", "headers_sha256": "headers:1"}
    >>> former_alike(old, new), former_alike(old, old), former_alike(new, new)
    (True, True, False)
    """
    ids = [facts.get("sha256") for facts in (one, other)]
    if not any(isinstance(found, str) and found.startswith(FORMER) for found in ids):
        return False
    headers = [
        facts["sha256"] if str(facts["sha256"]).startswith(FORMER) else facts.get("headers_sha256")
        for facts in (one, other)
    ]
    return headers[0] == headers[1]


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
            {"sha256": found.get(side), "headers_sha256": (block.get("headers") or {}).get(side)}
            for found, block in ((mine, one), (theirs, other))
        ]
        if former_alike(facts[0], facts[1]):
            sides.append(side)
            plain[0]["models"] = {**plain[0]["models"], side: theirs[side]}
    return plain[0], plain[1], sides
