"""Runs of any number of samples, made up by a seeded generator: a manifest's references, journals and results
as edge, speculation and cloud leave them. For measurements of what reads, scores and reports them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecloud.contracts import Sample, Trace
from edgecloud.datasets.manifest import embedded_manifest
from edgecloud.results.journal import SCHEMA
from edgecloud.results.recorded_run import facts
from edgecloud.results.records import Record
from edgecloud.settings.config import Config, resolve

__all__ = ["ARMS", "Run", "captions", "samples_of", "write_journal", "write_result_of"]

ARMS = ("edge", "spec", "cloud")
_TOKENS = 26
_BLOCK = 3


@dataclass(frozen=True, slots=True)
class Run:
    """The outcome of a made-up run, with the attributes of a real one's."""

    mode: str
    config: Config
    samples: tuple[Sample, ...]
    corpus: tuple[Sample, ...]
    records: Sequence[Record]
    setup: dict[str, Any]


def captions(language: str, count: int, *, seed: int = 0) -> Iterator[str]:
    """Captions of clauses of the embedded corpus, put together anew."""
    entries = json.loads(embedded_manifest(language, "default").read_text("utf-8"))  # type: ignore[arg-type]
    stop, comma, between = ("。", "，", "") if language == "chinese" else (".", ",", " ")
    clauses = sorted(
        {
            clause.strip().rstrip(stop)
            for entry in entries
            for caption in entry["caption"]
            for clause in caption.split(comma)
            if clause.strip()
        }
    )
    draw = random.Random(f"{language}-{seed}")
    for _ in range(count):
        yield (comma + between).join(draw.sample(clauses, draw.randint(2, 4))) + stop


def samples_of(language: str, count: int) -> tuple[Sample, ...]:
    """Samples with one reference each."""
    return tuple(
        Sample(
            file_id=f"recording-{index:06}",
            index=index,
            dataset="generated",
            audio_path=Path(f"{index:06}.wav"),
            references=(text,),
            reference_language=language,  # type: ignore[arg-type]
        )
        for index, text in enumerate(captions(language, count))
    )


def config_of(language: str) -> Config:
    """The settings of a made-up run."""
    return resolve({"language": language, "clock": "modelled"})


def rows(mode: str, samples: Sequence[Sample], language: str) -> Iterator[dict[str, Any]]:
    """The journal's rows of a run, one a sample."""
    draw = random.Random(f"{mode}-{language}")
    texts = captions(language, len(samples), seed=1 + ARMS.index(mode))
    for sample, text in zip(samples, texts, strict=True):
        trace = Trace.from_json(_trace(mode, draw))
        yield Record(
            sample.file_id,
            index=sample.index,
            dataset=sample.dataset,
            audio_s=3.0,
            input_tokens=60,
            text=text,
            stop="end_of_text",
            trace=trace,
            references=sample.references,
            reference_language=sample.reference_language,
            resources={"samples": 0, "reasons": {"cpu_percent": "the clock is modelled"}},
        ).to_json()


def _trace(mode: str, draw: random.Random) -> list[dict[str, Any]]:
    """Rows of a trace of 26 tokens: single steps of the edge, blocks of which some are verified, or single
    tokens of the cloud."""
    events: list[dict[str, Any]] = []
    now = 0.0

    def add(kind: str, took_s: float, **data: Any) -> None:
        nonlocal now
        events.append({"kind": kind, "start_s": now, "end_s": now + took_s, **data})
        now += took_s

    add("features", 0.01)
    add("prefill", draw.uniform(0.1, 0.3), side="cloud" if mode == "cloud" else "edge")
    written = 0
    while written < _TOKENS:
        count = min(_BLOCK, _TOKENS - written) if mode == "spec" else 1
        tokens = [draw.randrange(3, 300) for _ in range(count)]
        origins = ["cloud" if mode == "cloud" else "edge"] * count
        cost = {"busy_s": 0.01, "generated_tokens": 1, "bytes_up": 60, "bytes_down": 80}
        if mode == "cloud":
            add("generate", draw.uniform(0.005, 0.01), tokens=tokens, **cost)
        elif mode == "edge":
            now += draw.uniform(0.02, 0.05)
        else:
            numbers = [draw.uniform(0.0, 3.0) for _ in tokens]
            own = {"tokens": tokens, "entropies": numbers, "margins": numbers, "logprobs": numbers}
            asked = max(numbers) > 2.0
            add("draft", draw.uniform(0.02, 0.05), **own, escalated=asked)
            if asked:
                ranks = [draw.randrange(9) for _ in tokens]
                verdict = {"drafted": count, "kept": count - 1, "token": draw.randrange(3, 300)}
                add("verify", draw.uniform(0.03, 0.06), **verdict, ranks=ranks, **cost)
                tokens, origins = [*tokens[:-1], verdict["token"]], ["verified"] * count
                origins[-1] = "corrected"
        add("commit", 0.0, tokens=tokens, origins=origins)
        written += count
    add("finish", 0.001, stop="end_of_text")
    return events


def setup() -> dict[str, Any]:
    """On what a made-up run ran."""
    return {
        "limits": {"summary": "none"},
        "models": {"edge": {"name": "made-up", "device": "cpu"}, "cloud": None},
        "data": {"manifest": "generated.json", "samples": 0, "sha256": "0" * 64},
        "hardware_profile": None,
    }


def write_journal(path: Path, mode: str, samples: Sequence[Sample], language: str) -> Path:
    """The journal of a run of ``samples`` that has ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    own = facts(
        config=config_of(language),
        corpus=samples,
        samples=samples,
        setup=setup(),
        environment={},
        floors=None,
    )
    header = {"schema": SCHEMA, "mode": mode, "identity": {}, "facts": own}
    with path.open("w", encoding="utf-8") as file:
        for row in (header, *rows(mode, samples, language)):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def write_result_of(journal: Path, path: Path) -> Path:
    """The result of a journal's run, with scores that nobody computed."""
    from edgecloud.quality.describe import score_names
    from edgecloud.quality.score import Scores
    from edgecloud.quality.tokenize import LANGUAGE_TOKENIZERS
    from edgecloud.results.journal import read
    from edgecloud.results.recorded_run import recorded_run
    from edgecloud.results.result_file import build_result, write_result

    run = recorded_run(*read(journal), path=journal)
    language = run.config.data.language
    names = score_names(language, LANGUAGE_TOKENIZERS[language], extended=True)
    draw = random.Random(run.mode)
    per_sample: list[dict[str, float | None]] = [
        {name: draw.random() for name in names} for _ in run.records
    ]
    scores = Scores(
        corpus=dict.fromkeys(names, 0.5),
        per_sample=per_sample,
        notes={},
        sample_notes=[None] * len(run.records),
        info={},
        scored=len(run.records),
    )
    result = build_result(run, scores, environment={}, run_block={"run_id": "generated"})
    return write_result(path, result)
