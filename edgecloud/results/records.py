"""A sample's record in a journal, and the ``facts`` of a journal's first line: their types, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from edgecloud.contracts import Degrade, Language, Origin, Trace
from edgecloud.jsontypes import Mismatch, read, unless, write
from edgecloud.results.floors import unusable_floors

__all__ = ["CorpusRow", "Facts", "Failure", "Loss", "Record"]

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a sample failed: the error's class and its message."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Loss:
    """The end of the cloud's use in a request that had asked for a verdict: the cloud failed it ``at_s``
    seconds after its start, and the edge went on alone."""

    at_s: float
    error: str
    reason: str

    @classmethod
    def of(cls, trace: Trace) -> Loss | None:
        """The loss in a trace; ``None``: there was none. A caption that does without the cloud by its own
        settings (its budget is spent, it was handed off) has none."""
        lost = next(iter(trace.of(Degrade)), None)
        return None if lost is None else cls(lost.end_s, lost.error, lost.reason)


@dataclass(frozen=True, slots=True)
class Record:
    """A line of a journal: what one sample gave, and its trace.

    ``tokens`` and ``origins`` stand in the file, too; they are those of the trace's commits. ``audio_notes`` are
    sentences by kind, ``audio_s`` is the recording's length, ``resources`` holds the probes' readings;
    ``prompt_digest`` is :meth:`edgecloud.contracts.Prompt.digest`.
    """

    file_id: str
    index: int | None = None
    dataset: str | None = None
    status: Literal["ok", "failed"] = "ok"
    error: Failure | None = None
    audio_s: float | None = None
    audio_notes: Mapping[str, str] = field(default_factory=dict)
    input_tokens: int | None = None
    text: str | None = None
    stop: str | None = None
    trace: Trace = field(default_factory=Trace)
    references: tuple[str, ...] = ()
    reference_language: Language | None = None
    resources: Mapping[str, Any] | None = None
    prompt_digest: str | None = None

    @property
    def ok(self) -> bool:
        """True when the sample was completed."""
        return self.status == "ok"

    @property
    def tokens(self) -> tuple[int, ...]:
        """The output's tokens."""
        return self.trace.tokens

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Who chose each token."""
        return self.trace.origins

    @property
    def loss(self) -> Loss | None:
        """The end of the cloud's use, where the cloud failed the sample."""
        return Loss.of(self.trace)

    def language(self, *, text: bool, default: Language) -> Language:
        """The language that the sample was generated in: the run's, and of a prompt of ``text`` its own."""
        own = self.reference_language if text else None
        languages: tuple[Language, ...] = get_args(Language)
        return next((language for language in languages if language == own), default)

    @property
    def unfinished(self) -> str | None:
        """The reason why no result can be made of a completed sample's record; ``None``: it has all."""
        if self.ok and self.text is None:
            return "text is missing"
        if self.ok and not self.trace.events:
            return "trace is missing"
        return None

    def to_json(self) -> dict[str, Any]:
        """The record as a line of a journal holds it."""
        return {
            "file_id": self.file_id,
            "index": self.index,
            "dataset": self.dataset,
            "status": self.status,
            "error": write(self.error),
            "audio_s": self.audio_s,
            "audio_notes": dict(self.audio_notes),
            "input_tokens": self.input_tokens,
            "tokens": list(self.tokens),
            "origins": list(self.origins),
            "text": self.text,
            "stop": self.stop,
            "trace": self.trace.to_json(),
            "references": list(self.references),
            "reference_language": self.reference_language,
            "resources": write(self.resources),
            "prompt_digest": self.prompt_digest,
        }

    @classmethod
    def from_json(cls, row: Json) -> Record:
        """The record in a line of a journal. What is missing is ``None`` or empty.

        Raises:
            Mismatch: it names no sample, a field is of another type, or the tokens are not those of the
                trace.

        >>> Record.from_json({"file_id": ["a"], "status": "ok"})
        Traceback (most recent call last):
        edgecloud.jsontypes.Mismatch: file_id is not text
        """
        found = read(cls, row)
        written = read(_Output, row)
        for name in ("tokens", "origins") if found.trace.events else ():
            its = getattr(written, name)
            if its is not None and its != getattr(found, name):
                raise Mismatch("are not those of the trace's commits", name)
        return found


@dataclass(frozen=True, slots=True)
class _Output:
    """What a line says of the output besides its trace."""

    tokens: tuple[int, ...] | None = None
    origins: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CorpusRow:
    """A sample of the manifest, as a journal's first line knows it. ``attributes``: the truth about it, if known."""

    file_id: str
    references: tuple[str, ...]
    language: Language
    attributes: Mapping[str, str] | None = unless(None)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a result needs besides the samples: settings, what the run was set up with and where it ran, its
    quality floors, the ids of its ``samples``, and the references of the manifest, from which CIDEr has its
    document frequencies.

    ``corpus`` are the samples that the run, or all shards of it, may ask for; ``others`` the language and the
    references of each of the manifest's other samples, without an id. ``stopping`` are the tokens that end a
    text or a sentence (``end_ids``, ``sentence_ids``), in journals that say it.
    """

    config: Mapping[str, Any]
    setup: Mapping[str, Any]
    environment: Mapping[str, Any]
    floors: Mapping[str, Any] | None
    samples: tuple[str, ...]
    corpus: tuple[CorpusRow, ...]
    others: tuple[tuple[str, ...], ...] | None = None
    stopping: Mapping[str, tuple[int, ...]] | None = unless(None)

    @classmethod
    def from_json(cls, row: Any) -> Facts:
        """The facts in a journal's first line.

        Raises:
            Mismatch: a field is missing or of another type, or the floors are not.
        """
        found = read(cls, row)
        if found.floors is not None and (wrong := unusable_floors(found.floors)) is not None:
            raise Mismatch(wrong, "floors")
        return found

    @classmethod
    def of(cls, header: Json) -> Facts | None:
        """The facts in a journal's first line; ``None``: its run ended before it had written them, or an older
        version wrote it.

        Raises:
            Mismatch: as :meth:`from_json`.
        """
        if "facts" not in header:
            return None
        try:
            return cls.from_json(header["facts"])
        except Mismatch as error:
            raise error.under("facts") from None
