"""The report as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from edgecloud import __version__
from edgecloud.embedded.pair import EDGE_CHECKPOINT
from edgecloud.report.comparison import Group, clock_name, groups
from edgecloud.report.html import plots, tables, timeline
from edgecloud.report.html.audio import Recordings, recordings
from edgecloud.report.html.explorer import LETTERS, group_data, script_json
from edgecloud.report.html.theme import DARK, LIGHT, Look, looks
from edgecloud.report.notices import group_name, notices
from edgecloud.report.sources import Source
from edgecloud.report.summary import Finding, decimals, number, percent, quality_text, summarize
from edgecloud.report.texts import Texts, UiLanguage
from edgecloud.report.tokens import first_tokenizer
from edgecloud.results.result import Result
from edgecloud.results.statistics import Interval

__all__ = ["to_html"]

_TEMPLATES = Path(__file__).parent / "templates"
_SECTIONS = (
    "summary",
    "warnings",
    "comparison",
    "figures",
    "distributions",
    "timeline",
    "samples",
    "environment",
)


@dataclass(frozen=True, slots=True)
class _KeyFigure:
    """``clear`` says that the interval excludes "no difference"."""

    label: str
    value: str
    interval: str
    clear: bool


@dataclass(frozen=True, slots=True)
class _Key:
    """The key figures of one speculative series."""

    arm: str
    look: Look
    figures: list[_KeyFigure]


@dataclass(frozen=True, slots=True)
class _Series:
    """A series among those that are shown or hidden."""

    name: str
    look: Look


@dataclass(frozen=True, slots=True)
class _Paragraph:
    """Plain sentences; ``number`` is that of the series they are about, 0 for all."""

    text: str
    number: int


@dataclass(frozen=True, slots=True)
class _View:
    """Data of a group for the template."""

    name: str
    count: str
    series: list[_Series]
    keys: list[_Key]
    paragraphs: list[_Paragraph]
    headline: tables.Table
    paired: tables.Table | None
    metrics: tables.Table
    essentials: tables.Table
    environment: tables.Table
    tradeoffs: list[plots.Figure]
    distributions: list[plots.Figure]
    timelines: list[plots.Figure]
    timeline_absent: str


def to_html(
    sources: Sequence[Source],
    *,
    language: UiLanguage = "en",
    embed_audio: bool = False,
    tokenizer: Path | None = None,
) -> str:
    """The page, in English or Chinese.

    Recordings of the embedded corpus are always inside, others with ``embed_audio``. ``tokenizer``
    (a checkpoint folder or ``tokenizer.json``) goes before those that the results name.

    Raises:
        DataError: ``tokenizer`` holds none.
    """
    texts = Texts(language)
    by_result = {id(source.result): source for source in sources}
    audio: list[str] = []
    views, data, said = [], [], []
    for position, group in enumerate(groups(source.result for source in sources)):
        its = {arm: by_result[id(result)] for arm, result in group.arms.items()}
        found = recordings(group, texts, embed=embed_audio)
        numbers = _numbers(found, audio)
        view, part, notes = _group(
            group, its, texts, prefix=f"g{position}", audio=numbers, tokenizer=tokenizer
        )
        views.append(view)
        data.append(part)
        said += [*notes, *_about_audio(found, group, texts)]
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Templates include the style and the script as they are: they hold no values of a result.
    page = environment.get_template("page.html.jinja").render(
        t=texts,
        html_lang="en" if language == "en" else "zh-Hans",
        version=__version__,
        subtitle=_subtitle(sources, texts),
        sections=[name for name in _SECTIONS if name != "warnings" or said],
        groups=views,
        notices=list(dict.fromkeys(said)),
        origins=list(LETTERS.items()),
        sorts=_sorts(data, texts),
        light=LIGHT,
        dark=DARK,
        texts_json=Markup(script_json(_script_texts(texts))),
        light_json=Markup(script_json(LIGHT)),
        data_json=Markup(script_json(data)),
        audio_json=Markup(script_json(audio)),
    )
    return page + "\n"


def _group(
    group: Group,
    sources: Mapping[str, Source],
    texts: Texts,
    *,
    prefix: str,
    audio: Mapping[str, int],
    tokenizer: Path | None,
) -> tuple[_View, dict[str, Any], list[str]]:
    """Data of a group for the template and for the explorer, and its warnings."""
    traces = {arm: source.traces for arm, source in sources.items()}
    doubts = {arm: source.doubts for arm, source in sources.items()}
    tokenizers = {
        arm: first_tokenizer(_folders(result), required=tokenizer)
        for arm, result in group.arms.items()
    }
    data, whole = group_data(group, doubts=doubts, tokenizers=tokenizers, audio=audio)
    name = group_name(group, texts)
    summary = summarize(group, texts)
    known = looks(list(group.arms), group.specs)
    data |= {
        "name": name,
        "lang": "en" if group.language == "english" else "zh",
        "arms": [
            {
                "id": arm,
                "name": texts.arm(arm),
                "role": known[arm].role,
                "mark": known[arm].mark,
                "number": known[arm].number,
                "mode": result.mode,
                "clock": clock_name(result),
            }
            for arm, result in group.arms.items()
        ],
    }
    view = _View(
        name=name,
        count=texts("samples_count", n=len(data["samples"])),
        series=[_Series(texts.arm(arm), look) for arm, look in known.items()],
        keys=[_key(finding, group, texts) for finding in summary.findings],
        paragraphs=[
            _Paragraph(text, 0 if arm is None else known[arm].number)
            for arm, text in summary.by_arm(texts)
        ],
        headline=tables.headline_table(group, texts, name=f"{prefix}-headline"),
        paired=tables.paired_table(group, texts, name=f"{prefix}-paired"),
        metrics=tables.metric_table(group, texts, name=f"{prefix}-metrics"),
        essentials=tables.environment_table(
            group, texts, name=f"{prefix}-essentials", essential=True
        ),
        environment=tables.environment_table(group, texts, name=f"{prefix}-environment"),
        tradeoffs=plots.tradeoffs(group, texts, prefix=prefix),
        distributions=plots.distributions(group, texts, prefix=prefix),
        timelines=timeline.timelines(group, traces, texts, prefix=prefix),
        timeline_absent=_absent(sources, texts),
    )
    said = notices(group, texts)
    if whole:
        said.append(texts("warn_tokens", group=name))
    return view, data, said


def _sorts(data: Sequence[Mapping[str, Any]], texts: Texts) -> list[tuple[str, str]]:
    """The orders of the explorer, each with its words; total times are compared within one clock."""
    clocks = list(dict.fromkeys(arm["clock"] for group in data for arm in group["arms"]))
    found = [(name, texts(f"sort_{name}")) for name in ("order", "gain", "loss", "time")]
    if len(clocks) < 2:
        return found
    _, words = found.pop()
    return found + [
        (f"time:{clock}", words + texts("of_clock", clock=texts.clock(clock))) for clock in clocks
    ]


def _key(finding: Finding, group: Group, texts: Texts) -> _Key:
    figures = [
        _figure(
            texts("key_gap", quality=quality_text(finding.quality, texts)).strip(),
            finding.gap,
            null=0.0,
        ),
        _figure(texts("key_factor"), finding.factor, null=1.0, factor=True),
        _figure(texts("key_over_cloud"), finding.over_cloud, null=1.0, factor=True),
        _figure(texts("key_busy"), finding.busy, null=1.0),
    ]
    look = looks(list(group.arms), group.specs)[finding.arm]
    return _Key(texts.arm(finding.arm), look, figures)


def _figure(
    label: str, interval: Interval | None, *, null: float, factor: bool = False
) -> _KeyFigure:
    if interval is None or interval.estimate is None:
        return _KeyFigure(label, "–", "", clear=False)
    digits = decimals(interval)

    def form(value: float) -> str:
        return number(value) if factor else percent(value, digits)

    value = ("× " if factor else "") + form(interval.estimate)
    if interval.low is None or interval.high is None:
        return _KeyFigure(label, value, "", clear=False)
    clear = not interval.low <= null <= interval.high
    return _KeyFigure(label, value, f"{form(interval.low)} – {form(interval.high)}", clear)


def _absent(sources: Mapping[str, Source], texts: Texts) -> str:
    missing = [source for source in sources.values() if source.missing is not None]
    reasons = [
        texts("journal_foreign" if s.foreign else "journal_missing", path=s.missing)
        for s in missing
    ]
    return texts("timeline_absent", reason="; ".join(dict.fromkeys(reasons))) if missing else ""


def _numbers(found: Recordings, audio: list[str]) -> dict[str, int]:
    """The number of each sample's recording in ``audio``, which is added to; one that two groups
    share is there once."""
    number_of = {uri: position for position, uri in enumerate(audio)}
    numbers = {}
    for file_id, key in found.keys.items():
        uri = found.files[key]
        if uri not in number_of:
            number_of[uri] = len(audio)
            audio.append(uri)
        numbers[file_id] = number_of[uri]
    return numbers


def _about_audio(found: Recordings, group: Group, texts: Texts) -> list[str]:
    if found.reason is None:
        return []
    return [texts("warn_audio", group=group_name(group, texts), reason=found.reason)]


def _folders(result: Result) -> list[Path]:
    """Folders in which the tokenizer of a result may lie: with its models, or with the embedded pair."""
    own = result.experiment_config
    folders = [Path(name) for name in (own.edge_model, own.cloud_model) if name]
    return [folder for folder in folders if folder.is_dir()] or [EDGE_CHECKPOINT]


def _subtitle(sources: Sequence[Source], texts: Texts) -> str:
    """Dates of the runs, from the first day to the last, and their number."""
    started = ((source.result.run.started_at or "")[:10] for source in sources)
    days = sorted({day for day in started if day})
    period = [" – ".join(dict.fromkeys([days[0], days[-1]]))] if days else []
    return " · ".join([*period, texts("results_count", n=len(sources))])


def _script_texts(texts: Texts) -> dict[str, str]:
    return texts.starting(
        "origin_",
        "tip_",
        "emotion_",
        "shown",
        "none_found",
        "references",
        "no_",
        "play",
        "failed",
        "degraded",
        "tokens_unknown",
        "caption_of",
    )
