"""A run read back from its journal, as it was when it ended.

The journal's first line holds what a result needs besides the samples; :func:`facts` makes that
part, and :func:`replay` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecloud.contracts import Sample
from edgecloud.errors import JournalError
from edgecloud.results.records import unusable
from edgecloud.settings.config import Config, resolve

__all__ = ["Replay", "facts", "replay"]

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The outcome of a run from its journal alone: the attributes of a run's outcome, and where it ran.

    ``samples`` and ``corpus`` know ids and references, not recordings; ``missing`` are the ids of
    samples that the run meant to do and the journal does not hold; ``floors`` its quality floors.
    """

    mode: str
    config: Config
    samples: tuple[Sample, ...]
    corpus: tuple[Sample, ...]
    records: tuple[dict[str, Any], ...]
    setup: Json
    environment: Json
    floors: Json | None
    missing: tuple[str, ...]


def facts(
    *,
    config: Config,
    corpus: Sequence[Sample],
    samples: Sequence[Sample],
    setup: Json,
    environment: Json,
    floors: Json | None,
) -> dict[str, Any]:
    """The ``facts`` of a journal: settings, what it ran on, the ids of this run's samples, and the
    references of the whole manifest, from which CIDEr has its document frequencies.

    ``corpus`` are the samples that the run, or all shards of it, may ask for; ``others`` the language and the
    references of each of the manifest's other samples, without an id."""
    asked = len(corpus) if config.data.max_samples is None else config.data.max_samples
    return {
        "config": config.to_json(),
        "setup": dict(setup),
        "environment": dict(environment),
        "floors": None if floors is None else dict(floors),
        "samples": [sample.file_id for sample in samples],
        "corpus": [
            {
                "file_id": sample.file_id,
                "references": list(sample.references),
                "language": sample.reference_language,
            }
            for sample in corpus[:asked]
        ],
        "others": [
            [sample.reference_language, *sample.references] if sample.references else []
            for sample in corpus[asked:]
        ],
    }


def replay(header: Json, records: Sequence[dict[str, Any]], *, path: str | Path) -> Replay:
    """The run whose journal this is; its records in the manifest's order. ``path`` is for messages.

    Records of samples that the run did not ask for (an earlier, longer part of it did) are left out.

    Raises:
        JournalError: the journal does not hold what a result needs.
        ConfigError: its settings are not this version's.
    """
    found = header.get("facts")
    if not isinstance(found, Mapping):
        raise JournalError(
            f"the journal {path} does not say what it ran on: its run ended before the first sample, "
            "or an older version wrote it; go on with it by --resume"
        )
    try:
        corpus = tuple(_sample(index, row) for index, row in enumerate(found["corpus"]))
        # An older journal has all of its manifest in ``corpus``.
        others = tuple(
            _other(index, row, language=found["config"]["language"])
            for index, row in enumerate(found.get("others") or (), start=len(corpus))
        )
        wanted = set(found["samples"])
        by_id = {record["file_id"]: record for record in records}
        samples = tuple(sample for sample in corpus if sample.file_id in wanted)
        for record in records:
            if record["file_id"] in wanted and (wrong := unusable(record, whole=True)) is not None:
                raise JournalError(
                    f"the journal {path} is damaged at sample {record['file_id']} ({wrong}); go on with "
                    "its run by --resume, or take the sample's line out"
                )
        return Replay(
            mode=str(header["mode"]),
            config=resolve(found["config"]),
            samples=samples,
            corpus=(*corpus, *others),
            records=tuple(by_id[s.file_id] for s in samples if s.file_id in by_id),
            setup=dict(found["setup"]),
            environment=dict(found["environment"]),
            floors=found["floors"],
            missing=tuple(s.file_id for s in samples if s.file_id not in by_id),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise JournalError(f"the journal {path} is damaged in its first line: {error!r}") from error


def _other(index: int, row: Sequence[str], *, language: str) -> Sample:
    """A sample that no record is of; its id is none that a manifest gives."""
    spoken, *references = row or (language,)
    return _sample(index, {"file_id": f"\0{index}", "references": references, "language": spoken})


def _sample(index: int, row: Json) -> Sample:
    return Sample(
        file_id=row["file_id"],
        index=index,
        dataset="",
        audio_path=Path(),
        references=tuple(row["references"]),
        reference_language=row["language"],
    )
