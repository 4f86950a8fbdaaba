"""Results and journals on disk, as runs leave them, for tests of reports."""

from __future__ import annotations

import json
import math
import struct
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models

from edgecloud.results.journal import SCHEMA
from edgecloud.results.result_file import build_result
from tests.results.synthetic import FakeOutcome, FakeScores

Row = dict[str, Any]
ARMS = (
    ("edge", "rank", 0.0),
    ("spec", "rank", 0.1),
    ("spec", "exact", 0.3),
    ("cloud", "rank", 0.4),
)


def words() -> Tokenizer:
    """A byte-level tokenizer whose token ``n`` reads `` wn``; 2 is the end of text."""
    vocabulary = {f"Ġw{number}": number for number in range(100) if number != 2} | {"<end>": 2}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="Ġw0"))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return tokenizer


def write_tokenizer(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    words().save(str(folder / "tokenizer.json"))
    return folder


def write_runs(folder: Path, n: int = 8, *, texts: bool = True, **flags: Any) -> Path:
    """Four arms with journals under ``folder``; returns the folder of the results.

    With ``texts`` the captions are those of the tokens, as :func:`words` reads them.
    """
    language = flags.get("language", "english")
    for mode, acceptance, shift in ARMS:
        bad = (1,) if mode == "edge" and n > 4 else ()
        outcome = FakeOutcome(mode, n, bad=bad, acceptance=acceptance, **flags)
        tokenizer = words()
        outcome.records = tuple(
            replace(record, text=tokenizer.decode(list(record.tokens)).strip())
            if texts and record.ok
            else record
            for record in outcome.records
        )
        result = build_result(
            outcome,
            FakeScores(outcome, shift=shift),
            environment={"versions": {"python": "3.11"}, "cpu": {"logical_cores": 2}},
            run_block={"run_id": "r", "host": "here", "started_at": "2026-01-02T03:04:05+00:00"},
        ).to_json()
        name = f"{mode}-{acceptance}-{language}"
        write_result(folder / "results" / f"{name}.json", result)
        header = {"schema": SCHEMA, "mode": mode, "identity": {}}
        rows = [record.to_json() for record in outcome.records]
        lines = [json.dumps(row, ensure_ascii=False) for row in (header, *rows)]
        journal = folder / "journals" / f"{name}.jsonl"
        journal.parent.mkdir(parents=True, exist_ok=True)
        journal.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "results"


def write_result(path: Path, result: Row) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")
    return path


def change(path: Path, **fields: Any) -> None:
    """Change fields of a result file's first sample."""
    result = json.loads(path.read_text(encoding="utf-8"))
    result["detailed_results"][0].update(fields)
    write_result(path, result)


def two_clocks(folder: Path) -> list[Path]:
    """Folders of measured and of modelled results; ``s003`` takes longest by the wall clock, ``s005`` by
    the modelled one, and less than any by the wall clock."""
    found = []
    for clock, slowest, total_s in (("wall", 3, 90.0), ("modelled", 5, 9.0)):
        results = write_runs(folder / clock, clock=clock, hardware_profile="paper")
        for path in results.glob("spec-*.json"):
            result = json.loads(path.read_text(encoding="utf-8"))
            for number, entry in enumerate(result["detailed_results"]):
                entry["latency_metrics"]["total_time"] = total_s if number == slowest else 1.0
            write_result(path, result)
        found.append(results)
    return found


def write_manifest(folder: Path, n: int) -> Path:
    """A manifest of the synthetic samples with recordings of a tone, 0.2 s each."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for index in range(n):
        name = f"s{index:03d}"
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            tone = (round(9000 * math.sin(time * (0.2 + index / 50))) for time in range(1600))
            file.writeframes(b"".join(struct.pack("<h", value) for value in tone))
        entries.append({"file_id": name, "audio_path": f"{name}.wav", "caption": "a calm voice"})
    path = folder / "manifest.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path
