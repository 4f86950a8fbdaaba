"""Summary of a group's runs, in numbers with their intervals and in plain sentences.

A sentence claims what its interval supports and no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgecloud.quality.metric import value_of_key, values
from edgecloud.report.comparison import Group
from edgecloud.report.paired import EQUAL, is_known, qualities
from edgecloud.report.texts import Texts
from edgecloud.results.result import Result
from edgecloud.results.statistics import Interval, mean_difference, mean_ratio

__all__ = [
    "Finding",
    "Summary",
    "decimals",
    "headline",
    "headlines",
    "identical",
    "number",
    "percent",
    "quality_text",
    "summarize",
]

FACTOR = "total time over edge (factor)"
OVER_CLOUD = "total time over cloud (factor)"

Headline = tuple[str, str, str, str]
"""Label, name of the per-sample value (or of a corpus score), format, which way is better."""

_MEASURES: tuple[Headline, ...] = (
    ("TTFT (s)", "ttft", ".3f", "down"),
    ("TPOT (s)", "tpot", ".4f", "down"),
    ("total time (s)", "total_time", ".3f", "down"),
    ("cloud busy (s)", "cloud_busy_time", ".3f", "down"),
    ("cloud token share", "cloud_token_share", ".3f", ""),
    ("bytes up", "bytes_up", ".0f", "down"),
)
_BETTER = {True: "up", False: "down", None: ""}


@dataclass(frozen=True, slots=True)
class Finding:
    """One speculative series against edge and cloud; ``gap`` is in ``quality``. An interval is ``None`` where no series
    is the edge or the cloud alone; where there is none to compare with, it has the reason."""

    arm: str
    quality: str
    gap: Interval | None
    factor: Interval | None
    over_cloud: Interval | None
    busy: Interval | None
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """``context`` comes first: what is compared, on how many samples, by which clock."""

    context: tuple[str, ...]
    findings: tuple[Finding, ...]

    def paragraphs(self, texts: Texts) -> list[str]:
        """The context, then one paragraph for each finding."""
        return [paragraph for _, paragraph in self.by_arm(texts)]

    def by_arm(self, texts: Texts) -> list[tuple[str | None, str]]:
        """The paragraphs, each with the series that it is about; ``None``: all of them."""
        gap = " " if texts.language == "en" else ""
        some: list[tuple[str | None, tuple[str, ...]]] = [(None, self.context)]
        some += [(finding.arm, finding.sentences) for finding in self.findings]
        return [(arm, gap.join(sentences)) for arm, sentences in some if sentences]


def headlines(group: Group) -> list[Headline]:
    """What decides: the scores whose metrics are registered as headlines, those that need the truth where a run knows
    it, then times and costs."""
    results = [*group.arms.values()]
    some = [
        value
        for value in values().values()
        if value.headline is not None and is_known(value, results)
    ]
    scores = [
        (
            value.label(),
            value.key if value.pooled or not value.per_sample else value.name,
            f".{value.decimals}f",
            _BETTER[value.higher_is_better],
        )
        for value in sorted(some, key=lambda value: value.headline or 0)
    ]
    return [*scores, *_MEASURES]


def headline(result: Result, name: str) -> Interval:
    """The mean of a per-sample value with its bootstrap interval; a corpus score has none."""
    metrics, value = result.metrics, value_of_key(name)
    if value is not None and (value.pooled or not value.per_sample):
        note = metrics.notes.get(name, "a corpus score has no interval by sample")
        return Interval(metrics.value(name), None, None, metrics.num_completed, reason=note)
    values = list(result.per_sample(name).values())
    return mean_difference(values, [0.0] * len(values))


def summarize(group: Group, texts: Texts) -> Summary:
    """The summary of a group's runs, in the report's language."""
    columns, rows = group.paired()
    cells = {label: dict(zip(columns, row, strict=True)) for label, row in rows}
    context = [*_context(group, texts), *_clocks(group, texts)]
    for arm, result in group.arms.items():
        factor = cells.get(FACTOR, {}).get(arm)
        if result.mode == "cloud" and factor is not None:
            text = _factor_text(factor, texts)
            several = sum(other.mode == "cloud" for other in group.arms.values())
            key = "cloud_sentence_of" if several > 1 else "cloud_sentence"
            context.append(texts(key, arm=texts.arm(arm), factor=text))
    if rows:
        context.append(texts("intervals_are", level="95%"))
    findings = [_finding(group, arm, cells, texts) for arm in group.specs]
    return Summary(tuple(context), tuple(findings))


def percent(value: float, digits: int | None = None) -> str:
    """A share as a percentage; without ``digits``, one decimal under 10% and none above."""
    scaled = value * 100
    if digits is None:
        digits = 1 if abs(scaled) < 9.95 and scaled != round(scaled) else 0
    rounded = round(scaled, digits) + 0.0  # no negative zero
    return f"{rounded:.{digits}f}".replace("-", "−") + "%"


def number(value: float) -> str:
    """Three significant digits or so, for a sentence."""
    text = (
        f"{value:.0f}"
        if abs(value) >= 100
        else f"{value:.3g}"
        if abs(value) < 1
        else f"{value:.2f}"
    )
    return text.replace("-", "−")


def _finding(
    group: Group, arm: str, cells: Mapping[str, Mapping[str, Interval | None]], texts: Texts
) -> Finding:
    first, *others = qualities(group.arms).values()
    gap = cells.get(f"{first} gap closed", {}).get(arm)
    factor = cells.get(FACTOR, {}).get(arm)
    busy = _busy(group, arm)
    name = texts("spec_arm", rule=group.arms[arm].experiment_config.acceptance)
    if "(" in arm:  # what tells it from another series of its kind
        name += f" {texts.arm(arm[arm.index('(') :])}"
    comparable = {side: group.reference(arm, side).name is not None for side in group.sides}
    parts = []
    if gap is not None and all(comparable.values()):
        parts.append(_gap_text(gap, quality_text(first, texts), texts))
    if factor is not None:
        parts.append(_factor_text(factor, texts))
    sentences = []
    if len(parts) == 2:
        sentences.append(texts("sentence", arm=name, first=parts[0], second=parts[1]))
    elif parts:
        sentences.append(f"{name} {parts[0]}{'.' if texts.language == 'en' else '。'}")
    if len(_pairs(group)) > 1:
        sentences += _references(group, arm, texts)
    over = cells.get(OVER_CLOUD, {}).get(arm)
    if over is not None and over.estimate is not None:
        sentences.append(_over_cloud(over, texts))
    sentences += _identical(group, arm, texts)
    for label in others:
        other = cells.get(f"{label} gap closed", {}).get(arm)
        if other is not None and other.estimate is not None and other.low is not None:
            value, quality = percent(other.estimate, decimals(other)), quality_text(label, texts)
            share = texts("gap_share", quality=quality, value=value, interval=_shares(other, texts))
            sentences.append(share)
    sentences += _detectable([first, *others], cells, arm, texts)
    sentences += _cost_sentences(group.arms[arm], busy, texts)
    equal = cells.get(EQUAL, {}).get(arm)
    if equal is not None and equal.estimate is not None and equal.estimate < 1:
        sentences.append(texts("equal_share", value=_not_all(equal.estimate)))
    return Finding(arm, first, gap, factor, over, busy, tuple(sentences))


def _over_cloud(factor: Interval, texts: Texts) -> str:
    """A sentence on a series' time beside that of the cloud alone."""
    assert factor.estimate is not None
    value = number(factor.estimate)
    if factor.low is None or factor.high is None:
        return texts("over_cloud_point", value=value)
    interval = texts("interval", low=number(factor.low), high=number(factor.high))
    if factor.low <= 1 <= factor.high:
        return texts("over_cloud_equal", value=value, interval=interval)
    return texts("over_cloud", value=value, interval=interval)


def quality_text(label: str, texts: Texts) -> str:
    """A score's label as it stands in a sentence."""
    found = texts.label(label)
    return f" {found} " if texts.language == "zh" and found.isascii() else found


def _detectable(
    labels: Sequence[str],
    cells: Mapping[str, Mapping[str, Interval | None]],
    arm: str,
    texts: Texts,
) -> list[str]:
    """The differences to the cloud that resampling the recordings tells from none."""
    told, counts = [], set()
    for label in labels:
        found = cells.get(f"{label} minus cloud", {}).get(arm)
        if found is not None and found.detectable is not None:
            least, quality = number(found.detectable), texts.label(label)
            told.append(texts("detectable_in", quality=quality, value=least))
            counts.add(found.n)
    if not told:
        return []
    return [texts("detectable", n=min(counts), values=texts.listed(told))]


def _not_all(share: float) -> str:
    """A share below 1 as a percentage that does not read 100%."""
    return next(
        text for digits in (0, 1, 2, 6) if (text := percent(share, digits)) != percent(1.0, digits)
    )


def _identical(group: Group, arm: str, texts: Texts) -> list[str]:
    """A sentence for each reference whose captions are the series' own, word for word."""
    found = []
    for side in group.sides:
        name = group.reference(arm, side).name
        count = identical(group, arm, name) if name is not None else None
        if name is not None and count is not None:
            found.append(texts("identical", n=count, other=texts.arm(group.named(name))))
    return found


def identical(group: Group, arm: str, other: str) -> int | None:
    """Number of samples that two runs completed, where their captions are all equal; ``None``: they
    differ."""
    one, two = (_captions(group.arms[name]) for name in (arm, other))
    shared = one.keys() & two.keys()
    same = bool(shared) and all(one[file_id] == two[file_id] for file_id in shared)
    return len(shared) if same else None


def _captions(result: Result) -> dict[str, str | None]:
    return {sample.file_id: sample.generated_text for sample in result.completed}


def _references(group: Group, arm: str, texts: Texts) -> list[str]:
    """With which runs of the edge and the cloud alone a series is compared, by name."""
    names = [group.reference(arm, side).name for side in group.sides]
    named = [texts.arm(group.named(name)) for name in names if name is not None]
    joined = (" and " if texts.language == "en" else "、").join(named)
    return [texts("references_are", names=joined)] if named else []


def _cost_sentences(result: Result, busy: Interval | None, texts: Texts) -> list[str]:
    found = []
    own = result.metrics.value("cost_metrics.cloud_busy_time_mean")
    if own is not None and busy is not None and busy.estimate is not None and busy.low is not None:
        share = percent(busy.estimate, decimals(busy))
        found.append(
            texts("busy_share", own=number(own), value=share, interval=_shares(busy, texts))
        )
    elif own is not None:
        found.append(texts("busy_point", own=number(own)))
    if busy is not None and busy.estimate is None:
        found.append(texts("cloud_undefined", reason=texts.note(busy.reason or "")))
    share_of_tokens = result.metrics.speculative_decoding_metrics.cloud_token_share
    if share_of_tokens is not None:
        found.append(texts("tokens_share", value=percent(share_of_tokens)))
    return found


def _busy(group: Group, arm: str) -> Interval | None:
    """The series' cloud busy time as a share of the cloud's own, over the samples both completed."""
    if "cloud" not in group.sides:
        return None
    cloud = group.reference(arm, "cloud")
    if cloud.name is None:
        return Interval(None, None, None, 0, reason=cloud.reason)
    own = group.arms[arm].per_sample("cloud_busy_time")
    other = group.arms[cloud.name].per_sample("cloud_busy_time")
    shared = [file_id for file_id in own if file_id in other]
    if not shared:
        return Interval(None, None, None, 0, reason="no paired samples")
    return mean_ratio([own[i] for i in shared], [other[i] for i in shared])


def _pairs(group: Group) -> list[tuple[str | None, str | None]]:
    """The runs of edge and cloud alone that series are compared with; those of speculative series, if any."""
    arms = group.specs or group.compared
    found = ((group.reference(a, "edge").name, group.reference(a, "cloud").name) for a in arms)
    return list(dict.fromkeys(found))


def _context(group: Group, texts: Texts) -> list[str]:
    """Results of edge and cloud by themselves, for each pair that runs are compared with."""
    if len(group.arms) == 1:
        return [texts("nothing_to_compare")]
    if "edge" not in group.sides:
        return [texts("no_edge")]
    pairs = _pairs(group)
    found = []
    for edge, cloud in pairs:
        if edge is not None and cloud is not None:
            names = {"edge_name": group.named(edge), "cloud_name": group.named(cloud)}
            names = {key: texts.arm(name) for key, name in names.items()}
            found += _pair(group, edge, cloud, texts, names, several=len(pairs) > 1)
    if len(pairs) == 1 and group.compared:
        found += _references(group, (group.specs or group.compared)[0], texts)
    return found


def _pair(
    group: Group, edge: str, cloud: str, texts: Texts, names: Mapping[str, str], *, several: bool
) -> list[str]:
    found = []
    for name, key in (("attribute_accuracy", "truth_context"), ("cider", "context")):
        values = [group.arms[arm].per_sample(name) for arm in (edge, cloud)]
        shared = [file_id for file_id in values[0] if file_id in values[1]]
        if shared:
            own, other = (number(sum(some[i] for i in shared) / len(shared)) for some in values)
            key += "_of" if several else ""
            found.append(texts(key, n=len(shared), cloud=other, edge=own, **names))
    count = identical(group, edge, cloud)
    if count is not None:
        found.append(texts("identical_pair", n=count, **names))
    return found


def _clocks(group: Group, texts: Texts) -> list[str]:
    """By which clock which series were timed."""
    clocks = group.clocks()
    found = []
    for arms in clocks.values():
        config = group.arms[arms[0]].experiment_config
        names = texts.arms(arms, of=len(group.arms))
        key = "time_modelled" if config.modelled else "time_wall"
        if len(clocks) > 1:
            key += "_of"
        found.append(texts(key, profile=config.hardware_profile, arms=names))
    return found


def _gap_text(gap: Interval, quality: str, texts: Texts) -> str:
    if gap.estimate is None:
        return texts("gap_undefined", quality=quality, reason=texts.note(gap.reason or ""))
    value = percent(gap.estimate, decimals(gap))
    if gap.low is None or gap.high is None:
        return texts("gap_point", quality=quality, value=value)
    if gap.high < 0:
        key = "gap_below"
    elif gap.low <= 0:
        key = "gap_none"
    elif gap.low > 1:
        key = "gap_above"
    else:
        key = "gap_whole" if gap.high >= 1 else "gap_part"
    return texts(key, quality=quality, value=value, interval=_shares(gap, texts))


def _factor_text(factor: Interval, texts: Texts) -> str:
    if factor.estimate is None:
        return texts("factor_undefined", reason=texts.note(factor.reason or ""))
    value = number(factor.estimate)
    if factor.low is None or factor.high is None:
        return texts("factor_point", value=value)
    interval = texts("interval", low=number(factor.low), high=number(factor.high))
    if factor.low <= 1 <= factor.high:
        return texts("factor_equal", value=value, interval=interval)
    if factor.estimate > 1:
        return texts("factor_slower", value=value, interval=interval)
    shares, digits = _shares(factor, texts), decimals(factor)
    whole, gain = (percent(part, digits) for part in (factor.estimate, 1 - factor.estimate))
    return texts("factor_faster", value=whole, gain=gain, interval=shares)


def _shares(interval: Interval, texts: Texts) -> str:
    digits = decimals(interval)
    low, high = (percent(end or 0.0, digits) for end in (interval.low, interval.high))
    return texts("interval", low=low, high=high)


def decimals(interval: Interval) -> int:
    """Decimals of a percentage that its interval's width leaves some meaning."""
    if interval.low is None or interval.high is None:
        return 0
    return 1 if 1e-9 < interval.high - interval.low < 0.03 else 0
