"""What a metric is, and the registry of metrics: whoever lists scores reads it.

A metric is one pure function in one file, registered by :func:`metric`::

    @metric("overlap", labels={"english": "overlap", "chinese": "重合率"}, tolerance=0.02)
    def overlap(hypotheses, references):
        ...
        return of_samples("overlap", values)

Its registration says everything that scores, results, tables, reports and the regression gate need to
know of it; none of them knows a metric by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from numbers import Real
from types import MappingProxyType
from typing import Any, Final, Literal, TypedDict, TypeVar, Unpack, get_args

from edgecloud.contracts import Language
from edgecloud.errors import MetricError, PluginError
from edgecloud.quality.coco import check_tokens
from edgecloud.quality.result import MetricResult, undefined
from edgecloud.quality.tokenize import LANGUAGE_TOKENIZERS
from edgecloud.registry import BUILT_IN, Part, Registry, outcome

__all__ = [
    "CODES",
    "METRICS",
    "Metric",
    "Need",
    "Takes",
    "Value",
    "ValueFields",
    "metric",
    "score_sign",
    "value_of_key",
    "values",
]

CODES: Final[Mapping[Language, str]] = MappingProxyType({"chinese": "zh", "english": "en"})

Takes = Literal["tokens", "primary tokens", "texts"]
"""What the function is handed: tokens by each tokenizer of the run (or those that the metric names),
tokens by the language's first tokenizer alone, or texts."""

Need = Literal["language", "corpus", "attributes", "bert_model", "java"]
"""``language`` is handed to the function as ``language=``; ``corpus`` as ``ids=`` (of the samples) and
``corpus_references=`` (of the whole manifest, by id); ``attributes`` as ``attributes=``, by name the truth
about each sample (empty where it is not known), and such a metric is handed every caption, with and without
references; ``bert_model`` as ``settings=``, ``None`` where
there is no model. ``java``: it starts a Java program, which takes seconds, so that it runs beside the
others, and in runs from some number of captions on."""

_LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)


class ValueFields(TypedDict, total=False):
    """The fields of :class:`Value` besides its name."""

    range: tuple[float, float] | None
    unit: str
    higher_is_better: bool | None
    labels: Mapping[Language, str]
    decimals: int
    tolerance: float | None
    per_sample: bool
    pooled: bool
    shown: bool
    headline: int | None
    paired: bool
    of_truth: bool
    fault: bool
    tokenizer: str | Mapping[Language, str]
    key: str
    aliases: tuple[str, ...]
    table_key: str


@dataclass(frozen=True, slots=True)
class Value:
    """One named value that a metric gives.

    Attributes:
        name: letters, digits and underscores; it stands in results and on the gate's rows.
        range: least and greatest value; ``None`` where it has no bounds.
        unit: what it counts, where it has no range; else ``""``.
        higher_is_better: ``False`` where a lower value is better, ``None`` where neither is.
        labels: what tables and reports call it, by language; its name where there is none.
        decimals: digits after the point in tables.
        tolerance: the least mean loss that counts as a regression where ``gate.toml`` says nothing;
            ``None``: the gate does not look at it.
        per_sample: a sample has a value of its own.
        pooled: the corpus value is not the mean of the samples' values.
        shown: it is a row of the side-by-side table.
        headline: its place among the headlines of a report; ``None``: it is none of them.
        paired: arms are compared by it sample by sample, with the share of the gap that is closed.
        of_truth: only some data have the truth that it needs; headlines and comparisons leave it out
            where no run has a value.
        fault: it is of what is wrong in a caption: an empty one has the best value.
        tokenizer: how it cuts texts up, where it does so itself; by language where that differs.
        key: its name in the ``metrics`` of a result, if not ``name``.
        aliases: further names there.
        table_key: the name there that tables show, if not ``key``.
    """

    name: str
    range: tuple[float, float] | None = (0.0, 1.0)
    unit: str = ""
    higher_is_better: bool | None = True
    labels: Mapping[Language, str] = field(default_factory=dict)
    decimals: int = 3
    tolerance: float | None = None
    per_sample: bool = True
    pooled: bool = False
    shown: bool = True
    headline: int | None = None
    paired: bool = False
    of_truth: bool = False
    fault: bool = False
    tokenizer: str | Mapping[Language, str] = ""
    key: str = ""
    aliases: tuple[str, ...] = ()
    table_key: str = ""

    def __post_init__(self) -> None:
        """Complete the names. Raises :class:`~edgecloud.errors.PluginError` for a value that cannot be."""
        if not self.name.isidentifier():
            raise PluginError(
                f"a score cannot be called {self.name!r}: letters, digits, underscores"
            )
        if self.range is not None and not self.range[0] < self.range[1]:
            raise PluginError(f"{self.name}: range {self.range} is empty")
        if self.tolerance is not None and not (
            isfinite(self.tolerance) and self.tolerance >= 0 and self.higher_is_better is not None
        ):
            raise PluginError(
                f"{self.name}: a tolerance is a number from 0 on, of a score that has a better side"
            )
        if self.paired and not self.per_sample:
            raise PluginError(f"{self.name}: without values of samples nothing is paired")
        object.__setattr__(self, "key", self.key or self.name)
        object.__setattr__(self, "table_key", self.table_key or self.key)

    @property
    def keys(self) -> tuple[str, ...]:
        """Every name that it has in the ``metrics`` of a result."""
        return (*self.aliases, self.key)

    @property
    def sign(self) -> float:
        """-1 where a lower value is better, else 1: a value times its sign is the better, the higher."""
        return -1.0 if self.higher_is_better is False else 1.0

    def label(self, language: Language = "english") -> str:
        """What tables and reports in ``language`` call it."""
        return (
            self.labels.get(language) or self.labels.get("english") or self.name.replace("_", " ")
        )

    def extent(self) -> str:
        """Its range in words: ``0..1``, or its unit."""
        if self.range is None:
            return self.unit or "any number"
        return "{:g}..{:g}".format(*self.range)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A registered metric.

    Attributes:
        name: of the registration.
        compute: the function, ``(hypotheses, references, **extras) -> MetricResult``: one caption and
            one list of references a sample, at least one sample and at least one reference each (see
            ``reference_free``), none of the references empty. Pure.
        values: what it gives, in the order in which tables show it.
        takes: what it is handed, see :data:`Takes`. Values of tokens go by ``<tokenizer>.<name>``.
        tokenizers: those whose tokens it takes; ``None``: those of the run.
        languages: of the captions that it can score.
        needs: see :data:`Need`.
        by_language: values go by ``<language's code>.<name>``.
        main: it is computed where only the main scores are asked for, too, as in sweeps.
        reference_free: it is computed of captions without a reference, too; their lists are empty.
        libraries: the packages that compute it, whose versions results name.
        source: what computes it, where that is no package.
        title: what it is called while it is worked at.
    """

    name: str
    compute: Callable[..., MetricResult]
    values: tuple[Value, ...]
    takes: Takes = "tokens"
    tokenizers: tuple[str, ...] | None = None
    languages: tuple[Language, ...] = _LANGUAGES
    needs: tuple[Need, ...] = ()
    by_language: bool = False
    main: bool = False
    reference_free: bool = False
    libraries: tuple[str, ...] = ()
    source: str = ""
    title: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its values."""
        return tuple(value.name for value in self.values)

    @property
    def optional(self) -> bool:
        """It needs more than every installation has: a model or a program."""
        return bool({"bert_model", "java"} & set(self.needs))

    def tokenizers_of(self, language: Language, chosen: Sequence[str] | None = None) -> list[str]:
        """The tokenizers whose tokens it takes; none where it takes texts, or not this language."""
        if language not in self.languages or self.takes == "texts":
            return []
        if self.takes == "primary tokens":
            return [LANGUAGE_TOKENIZERS[language][0]]
        if self.tokenizers is not None:
            return [name for name in self.tokenizers if name.startswith(f"{CODES[language]}.")]
        return list(LANGUAGE_TOKENIZERS[language] if chosen is None else chosen)

    def prefix(self, language: Language, tokenizer: str | None) -> str:
        """What its values' full names begin with."""
        if tokenizer is not None and self.takes == "tokens":
            return f"{tokenizer}."
        return f"{CODES[language]}." if self.by_language else ""

    def plain_prefix(self, language: Language) -> str:
        """What the full names begin with of those values that also go by their plain names."""
        tokenizers = self.tokenizers_of(language)
        return self.prefix(language, tokenizers[0] if tokenizers else None)

    def score(
        self, hypotheses: Sequence[Any], references: Sequence[Sequence[Any]], **extras: Any
    ) -> MetricResult:
        """Its result, checked: named as registered, a row a sample, plain finite numbers.

        What goes wrong in a metric of other people is ``None`` with the reason: no run is lost by it.

        Raises:
            MetricError: lists differ in length, texts are not cut up, or by two tokenizers; or
                whatever a built-in metric refuses.
        """
        if not hypotheses or len(hypotheses) != len(references):
            raise MetricError(
                f"{len(hypotheses)} hypotheses but {len(references)} lists of references"
            )
        if self.takes != "texts":
            check_tokens(hypotheses, references)

        def computed() -> tuple[MetricResult, str | None]:
            found = self.compute(hypotheses, references, **extras)
            return found, self._problem(found, len(hypotheses))

        built_in = self.name in METRICS and METRICS.part(self.name).origin == BUILT_IN
        given, why = (computed(), None) if built_in else outcome(computed)
        found, problem = given or (None, why)
        if found is None or problem is not None:
            return undefined(self.names, len(hypotheses), f"metric {self.name} failed: {problem}")
        return _plain(found)

    def _problem(self, found: object, count: int) -> str | None:
        """What keeps a result on ``count`` samples from being this metric's; ``None``: nothing."""
        if not isinstance(found, MetricResult):
            return f"it gave {type(found).__name__}, not MetricResult"
        if set(found.corpus) != set(self.names):
            return f"it gave {', '.join(found.corpus)} of the corpus, not {', '.join(self.names)}"
        each = {value.name for value in self.values if value.per_sample}
        if len(found.per_sample) != (count if each else 0):
            return f"it gave {len(found.per_sample)} rows for {count} samples"
        if any(set(row) != each for row in found.per_sample):
            return f"a sample has other values than {', '.join(sorted(each))}"
        for row in (found.corpus, *found.per_sample):
            for name, value in row.items():
                number: Any = value  # a metric of other people may give anything
                if number is None:
                    continue
                if isinstance(number, bool) or not (isinstance(number, Real) and isfinite(number)):
                    return f"{name} is {value!r}, not a finite number or None"
        return None


class _Metrics(Registry[Metric]):
    """Takes metrics alone: an entry point may name anything."""

    def add(self, name: str, item: Metric, **more: Any) -> Part[Metric]:
        if not isinstance(item, Metric):
            raise PluginError(f"metric {name!r} is not registered: put @edgecloud.metric above it")
        return super().add(name, item, **more)


METRICS: Final[Registry[Metric]] = _Metrics("metric", group="metrics")
"""Every metric, in the order in which tables show their values."""

Function = TypeVar("Function", bound=Callable[..., MetricResult])


def metric(
    name: str,
    *,
    values: Sequence[Value] = (),
    takes: Takes = "tokens",
    tokenizers: Sequence[str] | None = None,
    languages: Sequence[Language] = _LANGUAGES,
    needs: Sequence[Need] = (),
    by_language: bool = False,
    main: bool = False,
    reference_free: bool = False,
    libraries: Sequence[str] = (),
    source: str = "",
    title: str = "",
    **fields: Unpack[ValueFields],
) -> Callable[[Function], Function]:
    """Register a function as a metric; it stays as it is.

    A metric that gives one value, called as itself, has what :class:`Value` takes among its own
    arguments (``range``, ``higher_is_better``, ``labels``, ``tolerance``, …); one that gives several
    has them in ``values``. The other arguments are those of :class:`Metric`.

    Raises:
        PluginError: a name is taken or cannot be one, a language, need or tokenizer is unknown, or a
            field of a value is wrong.
    """

    def register(function: Function) -> Function:
        its = tuple(values) or (Value(name, **fields),)
        if values and fields:
            raise PluginError(f"metric {name!r}: {', '.join(fields)} belong to its values")
        made = Metric(
            name=name,
            compute=function,
            values=its,
            takes=takes,
            tokenizers=None if tokenizers is None else tuple(tokenizers),
            languages=tuple(languages),
            needs=tuple(needs),
            by_language=by_language,
            main=main,
            reference_free=reference_free,
            libraries=tuple(libraries),
            source=source,
            title=title or its[0].label(),
        )
        _refuse(made)
        METRICS.add(name, made, source=function)
        return function

    return register


def values() -> dict[str, Value]:
    """Every value of every metric, by name, in the order in which tables show them."""
    return {value.name: value for metric in METRICS.values() for value in metric.values}


def value_of_key(key: str) -> Value | None:
    """The value that goes by ``key`` in the ``metrics`` of a result."""
    return next((value for value in values().values() if key in (value.name, *value.keys)), None)


def score_sign(name: str) -> float:
    """-1 where a lower value of the score called ``name`` is better, else 1."""
    value = values().get(name)
    return 1.0 if value is None else value.sign


def _plain(found: MetricResult) -> MetricResult:
    """The result with plain floats for whatever numbers it holds, as JSON needs them."""

    def row(values: Mapping[str, float | None]) -> dict[str, float | None]:
        return {name: None if value is None else float(value) for name, value in values.items()}

    return replace(
        found, corpus=row(found.corpus), per_sample=tuple(row(some) for some in found.per_sample)
    )


def _refuse(made: Metric) -> None:
    """Raise :class:`~edgecloud.errors.PluginError` for what is unknown or taken."""
    for what, given, known in (
        ("takes", (made.takes,), get_args(Takes)),
        ("language", made.languages, _LANGUAGES),
        ("need", made.needs, get_args(Need)),
    ):
        for item in given:
            if item not in known:
                raise PluginError(
                    f"metric {made.name!r}: {what} {item!r} is not one of {', '.join(known)}"
                )
    taken = {key: value.name for value in values().values() for key in (value.name, *value.keys)}
    own: list[str] = []
    for value in made.values:
        own += dict.fromkeys((value.name, *value.keys))
    clash = [key for key in own if key in taken] + [key for key in own if own.count(key) > 1]
    if clash:
        raise PluginError(f"metric {made.name!r}: a score {clash[0]!r} is there already")
