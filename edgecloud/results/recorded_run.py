"""A run read back from its journal, as it was when it ended.

The journal's first line holds what a result needs besides the samples; :func:`facts` makes that
part, and :func:`recorded_run` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecloud.contracts import Sample
from edgecloud.errors import JournalError
from edgecloud.jsontypes import Mismatch, write
from edgecloud.results.aggregate import measured
from edgecloud.results.records import CorpusRow, Facts, Record
from edgecloud.settings.config import Config, resolve
from edgecloud.textfiles import uncollected

__all__ = ["RecordedRun", "facts", "recorded_run"]

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """The outcome of a run from its journal alone: the attributes of a run's outcome, and where it ran.

    ``samples`` and ``corpus`` know ids, references and attributes, not recordings; ``missing`` are the ids of
    samples that the run meant to do and the journal does not hold; ``floors`` its quality floors;
    ``stopping`` the tokens that end a text or a sentence, where the journal says it.
    """

    mode: str
    config: Config
    samples: tuple[Sample, ...]
    corpus: tuple[Sample, ...]
    records: tuple[Record, ...]
    setup: Json
    environment: Json
    floors: Json | None
    stopping: Mapping[str, Sequence[int]] | None
    missing: tuple[str, ...]


def facts(
    *,
    config: Config,
    corpus: Sequence[Sample],
    samples: Sequence[Sample],
    setup: Json,
    environment: Json,
    floors: Json | None,
    stopping: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any]:
    """The :class:`~edgecloud.results.records.Facts` of a run, as a journal's first line holds them."""
    asked = len(corpus) if config.data.max_samples is None else config.data.max_samples
    found = Facts(
        config=config.to_json(),
        setup=setup,
        environment=environment,
        floors=floors,
        samples=tuple(sample.file_id for sample in samples),
        corpus=tuple(
            CorpusRow(
                sample.file_id,
                sample.references,
                sample.reference_language,
                dict(sample.attributes) or None,
            )
            for sample in corpus[:asked]
        ),
        others=tuple(
            (sample.reference_language, *sample.references) if sample.references else ()
            for sample in corpus[asked:]
        ),
        stopping=None if stopping is None else {name: tuple(ids) for name, ids in stopping.items()},
    )
    row: dict[str, Any] = write(found)
    return row


def recorded_run(
    header: Json, records: Iterable[Record], *, path: str | Path, traces: bool = True
) -> RecordedRun:
    """The run whose journal this is; its records, of each sample the last, in the manifest's order. ``path`` is for
    messages.

    Records of samples that the run did not ask for (an earlier, longer part of it did) are left out. Without
    ``traces`` the records are measured one by one and do without them: all that a result needs.

    Raises:
        JournalError: the journal does not hold what a result needs, or ``records`` raises it.
        ConfigError: its settings are not this version's.
    """
    try:
        found = Facts.of(header)
        language = "" if found is None else found.config["language"]
    except (KeyError, Mismatch) as error:
        raise JournalError(f"the journal {path} is damaged in its first line: {error}") from error
    if found is None:
        raise JournalError(
            f"the journal {path} does not say what it ran on: its run ended before the first sample, "
            "or an older version wrote it; go on with it by --resume"
        )
    corpus = tuple(_sample(index, row) for index, row in enumerate(found.corpus))
    # An older journal has all of its manifest in ``corpus``.
    others = tuple(
        _other(index, row or (language,))
        for index, row in enumerate(found.others or (), start=len(corpus))
    )
    wanted = set(found.samples)
    config = resolve(dict(found.config))
    with uncollected():
        by_id = {
            record.file_id: record if traces else measured(record, k=config.draft.k)
            for record in records
        }
    samples = tuple(sample for sample in corpus if sample.file_id in wanted)
    for name in wanted & by_id.keys():
        if (wrong := by_id[name].unfinished) is not None:
            raise JournalError(
                f"the journal {path} is damaged at sample {name} ({wrong}); go on with its run by "
                "--resume, or take the sample's line out"
            )
    return RecordedRun(
        mode=header["mode"],
        config=config,
        samples=samples,
        corpus=(*corpus, *others),
        records=tuple(by_id[s.file_id] for s in samples if s.file_id in by_id),
        setup=found.setup,
        environment=found.environment,
        floors=found.floors,
        stopping=found.stopping,
        missing=tuple(s.file_id for s in samples if s.file_id not in by_id),
    )


def _other(index: int, row: Sequence[Any]) -> Sample:
    """A sample that no record is of; its id is none that a manifest gives."""
    spoken, *references = row
    return _sample(index, CorpusRow(f"\0{index}", tuple(references), spoken))


def _sample(index: int, row: CorpusRow) -> Sample:
    return Sample(
        file_id=row.file_id,
        index=index,
        dataset="",
        audio_path=Path(),
        references=row.references,
        reference_language=row.language,
        attributes=tuple((row.attributes or {}).items()),
    )
