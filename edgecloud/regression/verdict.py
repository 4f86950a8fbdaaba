"""Two sets of benchmarks, compared: what is missing, failed, different, and worse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

from edgecloud.errors import DataError
from edgecloud.regression.conditions import beside_conditions
from edgecloud.regression.decide import Comparison, decide, pair, row_level
from edgecloud.regression.identity import (
    differences,
    other_processor,
    other_scorers,
    software_differs,
)
from edgecloud.regression.model import (
    Benchmark,
    Check,
    Report,
    Scores,
    Series,
    Summary,
    Verdict,
)
from edgecloud.regression.plugin_rows import TIME
from edgecloud.regression.tolerances import Policy

__all__ = ["judge"]

Pair = tuple[Benchmark, Benchmark]


def judge(
    baseline: Sequence[Benchmark],
    new: Sequence[Benchmark],
    policy: Policy,
    *,
    names: tuple[str, str],
) -> Report:
    """Compare two sides; ``names`` are theirs, for the report.

    Raises:
        DataError: the sides are of different kinds, or hold several benchmarks of one name.
    """
    _check_kinds(baseline, new)
    pairs, checks = _match(baseline, new)
    checks += _circumstances(pairs)
    comparisons: list[Comparison] = []
    for old, now in pairs:
        found = [*_state(old, now), *differences(old, now, policy)]
        checks += found
        different = {check.what for check in found if check.verdict == "different"}
        if different - {"hardware"}:
            continue
        texts, other = _texts(old, now, policy)
        checks += texts
        some, lacking = _comparisons(old, now, policy, other, scores_alone=bool(different))
        comparisons += some
        checks += lacking
    rows = sum(comparison.may_alarm for comparison in comparisons)
    level = row_level(policy.wall_level, rows)
    decided = [decide(comparison, policy, level=level) for comparison in comparisons]
    checks += beside_conditions(decided, pairs)
    if policy.undecided == "fail":
        checks = [replace(check, fatal=check.verdict == "undecided") for check in checks]
    return Report(_in_order(checks), *names, policy.source)


def _check_kinds(baseline: Iterable[Benchmark], new: Iterable[Benchmark]) -> None:
    kinds = [{benchmark.kind for benchmark in side} for side in (baseline, new)]
    if not kinds[0] & kinds[1]:
        raise DataError(
            f"the baseline holds {'/'.join(kinds[0])} rows, the new side {'/'.join(kinds[1])}: "
            "compare results with results, pytest-benchmark files with pytest-benchmark files"
        )


def _match(
    baseline: Sequence[Benchmark], new: Sequence[Benchmark]
) -> tuple[list[Pair], list[Check]]:
    """Benchmarks of one name on both sides, and checks for those that have no counterpart."""
    old, now = _named(baseline, baseline, new), _named(new, baseline, new)
    fresh = {name: benchmark for name, benchmark in now.items() if name not in old}
    checks = [_missing(benchmark, fresh) for name, benchmark in old.items() if name not in now]
    checks += [
        Check(name, "", "note", "has no baseline yet: edgecloud baseline accept", source=b.source)
        for name, b in fresh.items()
    ]
    return [(old[name], now[name]) for name in old if name in now], checks


def _named(side: Sequence[Benchmark], *sides: Sequence[Benchmark]) -> dict[str, Benchmark]:
    """By name; where a name comes twice on any side, the file's name is added on every side."""
    twice = {
        name
        for one in sides
        for name, count in Counter(benchmark.name for benchmark in one).items()
        if count > 1
    }
    named: dict[str, Benchmark] = {}
    for benchmark in side:
        name = benchmark.name
        if name in twice:
            name = f"{name} ({benchmark.source.stem})"
        if name in named:
            raise DataError(
                f"{benchmark.source} and {named[name].source} both hold {name}; give one of them"
            )
        named[name] = replace(benchmark, name=name)
    return named


def _missing(old: Benchmark, fresh: Mapping[str, Benchmark]) -> Check:
    twins = [name for name, other in fresh.items() if other.identity == old.identity]
    close = get_close_matches(old.name, list(fresh), n=1, cutoff=0.6)
    likely = (twins if len(twins) == 1 else []) or close
    renamed = f"; renamed to {likely[0]}?" if likely else ""
    return Check(old.name, "", "missing", f"not on the new side{renamed}", source=old.source)


def _state(old: Benchmark, new: Benchmark) -> list[Check]:
    """Failed as a whole, samples that failed, samples that are gone."""
    found: list[Check] = []
    if new.problem is not None:
        found.append(Check(new.name, "outcome", "failed", new.problem, source=new.source))
    failed = [name for name in new.failed if name not in old.failed]
    if failed:
        message = f"{len(failed)} of {len(new.samples)} samples failed: {_some(failed)}"
        found.append(Check(new.name, "samples", "failed", message, source=new.source))
    before = [name for name in new.failed if name in old.failed]
    if before:
        message = f"{len(before)} samples fail as in the baseline: {_some(before)}"
        found.append(Check(new.name, "samples", "note", message, source=new.source))
    found += _degraded(old, new)
    present = set(new.samples)
    gone = [name for name in old.samples if name not in present]
    if gone:
        message = f"{len(gone)} samples of the baseline are missing: {_some(gone)}"
        found.append(Check(new.name, "samples", "missing", message, source=new.source))
    return found


def _degraded(old: Benchmark, new: Benchmark) -> list[Check]:
    """A row where samples lost the cloud on either side: it fails where others did than in the baseline."""
    if not (old.degraded or new.degraded):
        return []
    more = set(new.degraded) - set(old.degraded)
    message = f"{len(new.degraded)} of {len(new.samples)} samples lost the cloud"
    message += f": {_some(new.degraded)}" if new.degraded else ""
    return [
        Check(
            new.name,
            "degraded",
            "failed" if more else "better" if len(new.degraded) < len(old.degraded) else "same",
            message,
            baseline=len(old.degraded),
            new=len(new.degraded),
            n=len(new.samples),
            source=new.source,
        )
    ]


def _circumstances(pairs: Iterable[Pair]) -> list[Check]:
    """Other versions and options beside measured times: a note for all that have the same to say."""
    found: dict[str, list[Benchmark]] = {}
    for old, new in pairs:
        if not new.modelled and (told := software_differs(old, new)):
            found.setdefault(told, []).append(new)
    return [
        Check(_all_of(some), "environment", "note", f"differs: {told}", source=some[0].source)
        for told, some in found.items()
    ]


def _all_of(some: Sequence[Benchmark]) -> str:
    return some[0].name if len(some) == 1 else f"{some[0].name} and {len(some) - 1} more"


def _texts(old: Benchmark, new: Benchmark, policy: Policy) -> tuple[list[Check], frozenset[str]]:
    """Notes on samples whose tokens differ, and those that another processor changed: their
    times are left out, and scores are compared by intervals."""
    shared = [name for name in old.texts if name in new.texts]
    other = [name for name in shared if old.texts[name] != new.texts[name]]
    if not other:
        return [], frozenset()
    count = f"tokens differ in {len(other)} of {len(shared)} samples ({_some(other)})"
    processor = other_processor(old, new)
    if not processor or not new.modelled:
        where = (
            f"; the processor differs too: {processor}" if processor else " on the same processor"
        )
        versions = software_differs(old, new)
        where += f", with other versions: {versions}" if versions else ""
        return [Check(new.name, "texts", "note", count + where, source=new.source)], frozenset()
    if len(other) > policy.modelled_other_texts * len(shared):
        message = (
            f"{count}: too many to tell another processor's kernels from a change of the code "
            f"({processor}); times are compared where tokens are the same, quality by intervals; "
            "compare on the baseline's processor"
        )
        return [Check(new.name, "texts", "undecided", message, source=new.source)], frozenset(other)
    message = (
        f"{count}: environment CPU differs ({processor}), whose kernels round differently; "
        "not a regression of the code, their times are left out, quality is compared by intervals"
    )
    return [Check(new.name, "texts", "note", message, source=new.source)], frozenset(other)


def _comparisons(
    old: Benchmark, new: Benchmark, policy: Policy, other: frozenset[str], *, scores_alone: bool
) -> tuple[list[Comparison], list[Check]]:
    """Every quantity that the policy names and the baseline has; ``scores_alone`` where the machines
    differ, whose times do not compare. ``other`` are the samples that another processor changed."""
    known = bool(old.texts and new.texts)
    alike = frozenset(
        name for name in new.samples if not known or old.texts.get(name) == new.texts.get(name)
    )
    found: list[Comparison] = []
    lacking: list[Check] = []
    by_chance = bool(other) or scores_alone or (not known and bool(other_processor(old, new)))
    nothing_alike = bool(other) and {name for name in old.texts if name in new.texts} <= other
    times = [] if scores_alone or nothing_alike else _times(old, new, policy)
    for side in [*times, *_scores(old, new, policy)]:
        comparison = None
        if side.new is not None:
            exact = new.modelled or side.of_corpus
            way: Literal["exact", "paired", "corpus"] = "exact" if exact else "paired"
            if side.is_score and by_chance:
                way = "corpus" if side.of_corpus else "paired"
            comparison = pair(
                side.what,
                side.old,
                side.new,
                benchmark=new,
                is_score=side.is_score,
                way=way,
                leave_out=frozenset() if side.is_score else other,
                alike=alike,
            )
        if comparison is None:
            message = "the baseline has it, the new side has no value to compare"
            optional = side.is_score and policy.optional(side.what)
            verdict: Verdict = "note" if optional else "missing"
            lacking.append(Check(new.name, side.what, verdict, message, source=new.source))
        else:
            found.append(comparison)
    return found, lacking


@dataclass(frozen=True, slots=True)
class _Sides:
    what: str
    old: Series | Summary
    new: Series | Summary | None
    is_score: bool = False
    of_corpus: bool = False


def _times(old: Benchmark, new: Benchmark, policy: Policy) -> list[_Sides]:
    wanted = {TIME, *(policy.modelled_quantities if new.modelled else policy.wall_quantities)}
    return [
        _Sides(name, old.times[name], new.times.get(name)) for name in old.times if name in wanted
    ]


def _scores(old: Benchmark, new: Benchmark, policy: Policy) -> list[_Sides]:
    """By sample where both sides have that, else of the corpus, whose one value is compared as it is."""
    found: list[_Sides] = []
    other = {name for name in other_scorers(old, new) if policy.optional(name)}
    for name in (name for name in old.scores if policy.judges(name) and name not in other):
        before, after = old.scores[name], new.scores.get(name, Scores(None))
        if before.samples is not None and (after.samples is not None or after.corpus is None):
            found.append(_Sides(name, before.samples, after.samples, is_score=True))
        elif before.corpus is not None:
            sides = (_alone(before.corpus), None if after.corpus is None else _alone(after.corpus))
            found.append(_Sides(name, *sides, is_score=True, of_corpus=True))
    return found


def _alone(value: float) -> Series:
    return Series((value,), ("corpus",))


def _in_order(checks: Iterable[Check]) -> tuple[Check, ...]:
    """By benchmark, in the order they came up."""
    listed = list(checks)
    order = {name: index for index, name in enumerate(dict.fromkeys(c.benchmark for c in listed))}
    return tuple(sorted(listed, key=lambda check: order[check.benchmark]))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
