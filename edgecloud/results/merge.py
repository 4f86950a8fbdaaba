"""Journals of shards put together to the journal of the whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgecloud.errors import JournalError
from edgecloud.jsontypes import write
from edgecloud.results.journal import differences
from edgecloud.results.records import Facts, Record
from edgecloud.results.weights import without_former

__all__ = ["Merged", "Part", "merge"]

Json = Mapping[str, Any]
_OWN = ("output_name", "shard")
"""Settings that each shard has to itself."""


@dataclass(frozen=True)
class Part:
    """One shard's journal, read."""

    path: Path
    header: Json
    records: Sequence[Record]

    @cached_property
    def facts(self) -> Facts:
        """What its run says of itself.

        Raises:
            JournalError: it says nothing.
        """
        found = Facts.of(self.header)
        if found is None:
            raise JournalError(
                f"the journal {self.path} does not say what it ran on; go on with it by --resume"
            )
        return found


@dataclass(frozen=True, slots=True)
class Merged:
    """Header and records as the journal of one run would hold them. ``parts`` says what came from
    where and in what, besides its samples, a part differs from the first (JSON)."""

    header: dict[str, Any]
    records: list[Record]
    parts: list[dict[str, Any]]


def merge(parts: Sequence[Part]) -> Merged:
    """Put the parts together; whatever is said of the whole is what the first part says.

    Raises:
        JournalError: a part is of another run (the differences are listed), a sample is in two
            parts, or none has it.
    """
    if not parts:
        raise JournalError("there is nothing to merge; name the journals of the shards")
    first = parts[0]
    for part in parts:
        _check_same_run(first, part)
    facts = first.facts
    records = _records(parts)
    wanted = [row.file_id for row in facts.corpus][: facts.config["max_samples"]]
    left = [name for name in wanted if name not in records]
    if left:
        shown = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        raise JournalError(
            f"{len(left)} of {len(wanted)} samples are in none of the journals ({shown}); "
            "name every shard, and finish each with --resume"
        )
    config = {**facts.config, "shard": None}
    whole = replace(facts, config=config, samples=tuple(wanted))
    header = {**first.header, "facts": write(whole)}
    return Merged(header, [records[name] for name in wanted], [_said(first, p) for p in parts])


def _check_same_run(first: Part, part: Part) -> None:
    names = (f"in {first.path.name}", f"in {part.path.name}")
    one, other, _ = without_former(*(p.header.get("identity") or {} for p in (first, part)))
    lines = differences(
        {"mode": first.header.get("mode"), "identity": one},
        {"mode": part.header.get("mode"), "identity": other},
        names=names,
    )
    one, other = ({"max_samples": p.facts.config["max_samples"]} for p in (first, part))
    lines += differences(one, other, names=names)
    if lines:
        raise JournalError(f"{part.path} is of another run than {first.path}: {'; '.join(lines)}")


def _records(parts: Sequence[Part]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    source: dict[str, Path] = {}
    for part in parts:
        wanted = set(part.facts.samples)
        for record in part.records:
            name = record.file_id
            if name not in wanted:
                continue
            if name in found:
                raise JournalError(f"sample {name} is in {source[name]} and in {part.path}")
            found[name], source[name] = record, part.path
    return found


def _said(first: Part, part: Part) -> dict[str, Any]:
    """Entry of one part in the result."""
    one, own = first.facts, part.facts
    names = (f"in {first.path.name}", f"in {part.path.name}")
    return {
        "journal": part.path.name,
        "shard": own.config["shard"],
        "samples": len(own.samples),
        "cold": own.setup.get("cold"),
        "differences": differences(_still(one), _still(own), names=names),
    }


def _still(facts: Facts) -> dict[str, Any]:
    """Without the times of the first requests, which differ always, and what each shard has to itself."""
    setup = {key: value for key, value in facts.setup.items() if key != "cold"}
    config = {key: value for key, value in facts.config.items() if key not in _OWN}
    return {"environment": facts.environment, "setup": setup, "config": config}
