"""Records as the runner writes them, made up by a seeded generator: consistent, and instant.

The traces obey the rules of the real ones: times rise, a commit follows its draft or its verdict,
origins fit the verdict, the counts of a call fit its tokens.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecloud.contracts import Degrade, Sample, Trace
from edgecloud.results.records import Failure, Record
from edgecloud.results.result_file import PRIMARY_TOKENIZER
from edgecloud.settings.config import Config, resolve

Row = dict[str, Any]
END = 2


def config(**flags: Any) -> Config:
    return resolve(flags)


def samples(n: int, *, language: str = "english") -> tuple[Sample, ...]:
    words = ("calm", "angry", "glad", "tired")
    return tuple(
        Sample(
            file_id=f"s{index:03d}",
            index=index,
            dataset="synthetic",
            audio_path=Path(f"s{index:03d}.flac"),
            references=(
                f"a {words[index % 4]} voice speaks",
                f"a voice that is {words[index % 4]}",
            ),
            reference_language=language,  # type: ignore[arg-type]
        )
        for index in range(n)
    )


def trace(mode: str, *, seed: int = 0, k: int = 3, length: int = 12) -> list[Row]:
    """The JSON of a trace of ``length`` output tokens at most, the last one end-of-text."""
    draw = random.Random(f"{mode}-{seed}")
    events: list[Row] = [_event("features", 0.0, 0.01)]
    if mode == "cloud":
        return events + _cloud(draw, length)
    now = 0.01 + draw.uniform(0.1, 0.3)
    events.append(_event("prefill", 0.01, now, side="edge", input_tokens=60))
    written = 0
    first_call = True
    while written < length:
        block = min(k, length - written) if mode == "spec" else 1
        tokens = [draw.randrange(3, 99) for _ in range(block)]
        start, now = now, now + block * draw.uniform(0.01, 0.03)
        origins = ["edge"] * block
        if mode == "spec":
            entropies = [draw.uniform(0.0, 3.0) for _ in tokens]
            escalated = max(entropies) > 1.5
            events.append(_draft(start, now, tokens, entropies, escalated=escalated))
            if escalated:
                verify, tokens, origins = _verify(
                    draw, now, tokens, length - written, written=written, first=first_call
                )
                first_call = False
                events.append(verify)
                now = verify["end_s"]
        written += len(tokens)
        if written >= length:
            tokens = [*tokens[:-1], END]
        events.append(_event("commit", now, now, tokens=tokens, origins=origins))
    events.append(_event("finish", now, now + 0.001, stop="end_of_text"))
    return events


def _event(kind: str, start_s: float, end_s: float, **data: Any) -> Row:
    return {"kind": kind, "start_s": start_s, "end_s": end_s, **data}


def _draft(start: float, end: float, tokens: list[int], entropies: list[float], **data: Any) -> Row:
    margins = [0.2] * len(tokens)
    logprobs = [-1.0] * len(tokens)
    return _event(
        "draft",
        start,
        end,
        tokens=tokens,
        entropies=entropies,
        margins=margins,
        logprobs=logprobs,
        **data,
    )


def _verify(
    draw: random.Random, start: float, draft: list[int], room: int, *, written: int, first: bool
) -> tuple[Row, list[int], list[str]]:
    """A call, and the tokens and origins that it puts into the output."""
    kept = draw.randint(0, len(draft))
    choice = draw.randrange(3, 99)
    tokens = [*draft[:kept], choice][:room]
    last = "corrected" if kept < len(draft) else "bonus"
    origins = (["verified"] * kept + [last])[:room]
    busy = draw.uniform(0.01, 0.05)
    event = _event(
        "verify",
        start,
        start + busy + 0.02,
        drafted=len(draft),
        kept=kept,
        token=choice,
        ranks=[draw.randrange(0, 40) for _ in draft],
        top_probs=[draw.random() for _ in draft],
        accepted_into_output=min(kept, room),
        prefill_tokens=60 if first else 0,
        verified_tokens=len(draft),
        ingested_tokens=written,
        generated_tokens=1,
        busy_s=busy,
        bytes_up=5000 if first else 60,
        bytes_down=80,
    )
    return event, tokens, origins


def _cloud(draw: random.Random, length: int) -> list[Row]:
    now = 0.01 + draw.uniform(0.02, 0.05)
    events = [_event("prefill", 0.01, now, side="cloud", input_tokens=60)]
    for number in range(length):
        tokens = [END if number == length - 1 else draw.randrange(3, 99)]
        start, now = now, now + draw.uniform(0.005, 0.01)
        events.append(
            _event(
                "generate",
                start,
                now,
                tokens=tokens,
                prefill_tokens=0 if number else 60,
                verified_tokens=0,
                ingested_tokens=0,
                generated_tokens=1,
                busy_s=now - start,
                bytes_up=0 if number else 5000,
                bytes_down=20,
            )
        )
        events.append(_event("commit", now, now, tokens=tokens, origins=["cloud"]))
    events.append(_event("finish", now, now + 0.001, stop="end_of_text"))
    return events


def record(mode: str, sample: Sample, *, seed: int = 0, modelled: bool = False) -> Record:
    """The journal record of a sample that went well."""
    reason = "time is modelled" if modelled else "there is no GPU"
    readings: dict[str, Any] = {
        "cpu_percent": None if modelled else 150.0 + sample.index,
        "ram_gb": None if modelled else 0.5,
        "ram_gb_peak": None if modelled else 0.6,
        "gpu_util": None,
        "gpu_memory_gb": None,
        "memory_over_cap": None if modelled else False,
        "gpu_memory_gb_peak": None,
        "energy_j": None,
        "cpu_energy_j": None,
        "samples": 0 if modelled else 20,
    }
    fields = [name for name, value in readings.items() if value is None]
    return Record(
        sample.file_id,
        index=sample.index,
        dataset=sample.dataset,
        audio_s=2.0 + sample.index % 3,
        input_tokens=60,
        text=f"{mode} says a voice {sample.index}",
        stop="end_of_text",
        trace=Trace.from_json(trace(mode, seed=1000 * seed + sample.index)),
        references=sample.references,
        reference_language=sample.reference_language,
        resources={**readings, "reasons": dict.fromkeys(fields, reason)},
    )


def failed(sample: Sample) -> Record:
    """The journal record of a sample that failed before anything was decoded."""
    return Record(
        sample.file_id,
        index=sample.index,
        dataset=sample.dataset,
        status="failed",
        error=Failure("AudioError", f"{sample.audio_path}: not audio"),
        references=sample.references,
        reference_language=sample.reference_language,
        resources={
            "cpu_percent": None,
            "samples": 0,
            "reasons": {"cpu_percent": "the sample failed"},
        },
    )


class FakeOutcome:
    """What the runner returns, with the same attributes."""

    def __init__(
        self, mode: str, n: int = 6, *, bad: tuple[int, ...] = (), seed: int = 0, **flags: Any
    ) -> None:
        self.mode = mode
        self.config = replace(config(**{"language": "english", **flags}))
        self.samples = samples(n)
        self.corpus = samples(n)
        self.records = tuple(
            failed(sample)
            if sample.index in bad
            else record(mode, sample, seed=seed, modelled=self.config.hardware.clock == "modelled")
            for sample in self.samples
        )
        self.setup: dict[str, Any] = {
            "limits": {"summary": "2 cores, 16 GB (watched)"},
            "models": {"edge": {"name": "mini-edge", "device": "cpu"}, "cloud": None},
            "cold": {"edge_s": [0.4, 0.2]},
            "data": {"manifest": "embedded", "samples": n, "sha256": "abc"},
            "hardware_profile": None,
        }


class FakeScores:
    """What ``edgecloud.quality.score`` returns, with the same attributes."""

    def __init__(self, outcome: Any, *, shift: float = 0.0) -> None:
        ok = [record for record in outcome.records if record.ok]
        prefix = PRIMARY_TOKENIZER[outcome.config.data.language]
        bertscore = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
        self.per_sample: list[dict[str, float | None]] = [
            {
                f"{prefix}.bleu_4": 0.2 + shift,
                f"{prefix}.cider": 0.5 + shift + 0.01 * row.index,
                **dict.fromkeys(bertscore),
                "emotion_accuracy": float(row.index % 2),
                "caption_length": 7.0,
            }
            for row in ok
        ]
        self.corpus: dict[str, float | None] = {
            f"{prefix}.bleu_1": 0.5 + shift,
            f"{prefix}.bleu_4": 0.2 + shift,
            f"{prefix}.rouge_l": 0.4,
            f"{prefix}.cider": 0.55 + shift,
            **dict.fromkeys(bertscore),
            "emotion_accuracy": 0.5,
            "caption_length": 7.0,
            "reference_length": 8.0,
        }
        self.notes: dict[str, str] = dict.fromkeys(bertscore, "no model folder was given")
        self.sample_notes: list[str | None] = [None] * len(ok)
        self.info: dict[str, Any] = {f"{prefix}.cider": {"range": "0..10"}}
        self.scored = len(ok)


def degraded(trace: Trace) -> Trace:
    """The trace of a request that lost the cloud just before it ended."""
    *others, last = trace.events
    lost = Degrade(last.start_s, last.start_s, "CloudUnavailable", "no cloud answers")
    return Trace((*others, lost, last))
