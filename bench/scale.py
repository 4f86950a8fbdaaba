"""What many samples cost: seconds of CPU and memory of what reads, scores and reports them, each in a process of its own.

    python -m bench.scale [--samples 10000] [CASE ...]

Each case's time is also given in units of a loop that the same process runs before it, so that figures of two machines
can be compared. The runs are made up (bench/generated.py); METEOR's Java program is left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

__all__ = ["CASES", "Cost", "measured", "write"]

SAMPLES = 10_000
CAPTIONS = 8
RESOLVED = 100
LANGUAGE: Final = "chinese"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a case took: CPU seconds, the same in units of the reference loop, and memory."""

    cpu_s: float
    loops: float
    peak_mb: float
    above_start_mb: float


def report(folder: Path) -> None:
    """The page of three runs with their journals."""
    from edgecloud.cli.main import main

    output = ["-o", str(folder / "report.html")]
    assert main(["report", str(folder / "results"), *output]) == 0


def captions(folder: Path) -> None:
    """Eight captions scored beside the whole manifest's references."""
    from bench.generated import captions as texts
    from bench.generated import samples_of
    from edgecloud.quality import METEOR_FROM, corpus_references_of, score

    count = int((folder / "samples").read_text(encoding="utf-8"))
    corpus = samples_of(LANGUAGE, count)
    some = corpus[:CAPTIONS]
    found = score(
        language=LANGUAGE,
        ids=[sample.file_id for sample in some],
        hypotheses=list(texts(LANGUAGE, CAPTIONS, seed=9)),
        references=[sample.references for sample in some],
        reference_languages=[LANGUAGE] * CAPTIONS,
        corpus_references=corpus_references_of(corpus, LANGUAGE),
        extended=True,
        meteor_from=METEOR_FROM,
    )
    assert found.scored == CAPTIONS


def rescore(folder: Path) -> None:
    """A run's result made again from its journal."""
    from edgecloud.cli.main import main

    journal = folder / "journals" / "spec.jsonl"
    assert main(["rescore", str(journal), "-o", str(folder / "rescored.json")]) == 0


def resume(folder: Path) -> None:
    """What a run with ``--resume`` does that finds all its samples done, beside starting its models: the journal opened
    to go on, the captions scored, the result written."""
    from edgecloud.cli.rescore import write as write_result
    from edgecloud.results.aggregate import measured as kept
    from edgecloud.results.journal import Journal, stream
    from edgecloud.results.recorded_run import recorded_run

    path = folder / "journals" / "spec.jsonl"
    with Journal.open(
        path, mode="spec", identity={}, resume=True, kept=partial(kept, k=3)
    ) as journal:
        records = journal.records.values()
        found = recorded_run(stream(path)[0], records, path=path, traces=False)
    assert write_result(found, folder / "resumed.json", {}) == 0


def journal(folder: Path) -> None:
    """A journal read."""
    from edgecloud.results.journal import read

    assert read(folder / "journals" / "spec.jsonl")[1]


def interval(folder: Path) -> None:
    """One paired interval."""
    import numpy as np

    from edgecloud.results.statistics import mean_difference

    count = int((folder / "samples").read_text(encoding="utf-8"))
    draw = np.random.default_rng(0)
    assert mean_difference(list(draw.random(count)), list(draw.random(count))).low is not None


def settings(folder: Path) -> None:
    """The settings of a file put together a hundred times, as those of a sweep's points are."""
    from edgecloud.settings.config import resolve
    from edgecloud.settings.pages import as_yaml

    file = folder / "settings.yaml"
    file.write_text(as_yaml(), encoding="utf-8")
    for _ in range(RESOLVED):
        resolve({"k": 4}, file=file)


CASES: dict[str, Callable[[Path], None]] = {
    case.__name__: case for case in (report, captions, rescore, resume, journal, interval, settings)
}


def loop_s() -> float:
    """CPU seconds of the reference loop: JSON written and read, strings counted, the best of five."""
    row = {"tokens": list(range(300)), "text": "abc " * 60, "numbers": [n / 7 for n in range(300)]}
    taken = []
    for _ in range(5):
        begin = time.process_time()
        seen: dict[str, int] = {}
        for _ in range(200):
            for word in json.loads(json.dumps(row))["text"].split():
                seen[word] = seen.get(word, 0) + 1
        taken.append(time.process_time() - begin)
    return min(taken)


def write(folder: Path, samples: int) -> None:
    """The manifest's size, and journals and results of three runs."""
    from bench.generated import ARMS, samples_of, write_journal, write_result_of

    corpus = samples_of(LANGUAGE, samples)
    (folder / "samples").write_text(str(samples), encoding="utf-8")
    (folder / "results").mkdir()
    for mode in ARMS:
        written = write_journal(folder / "journals" / f"{mode}.jsonl", mode, corpus, LANGUAGE)
        write_result_of(written, folder / "results" / f"{mode}.json")


def measured(case: str, folder: Path) -> Cost:
    """What a case costs in a new process."""
    command = [sys.executable, "-m", "bench.scale", "--in", str(folder), case]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Cost(**json.loads(found.stdout.splitlines()[-1]))


def _peak_mb() -> float:
    """The most memory that this process has held; what ``getrusage`` says begins with its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _measure(case: str, folder: Path) -> Cost:
    loop = loop_s()
    start, begin = _peak_mb(), time.process_time()
    with redirect_stdout(sys.stderr):
        CASES[case](folder)
    taken, peak = time.process_time() - begin, _peak_mb()
    return Cost(taken, taken / loop, peak, peak - start)


def main() -> int:
    """Write runs and measure the cases. Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--in", type=Path, dest="folder", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.folder is not None:
        print(json.dumps(asdict(_measure(parsed.cases[0], parsed.folder))))
        return 0
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), parsed.samples)
        for case in parsed.cases or CASES:
            cost = measured(case, Path(name))
            print(
                f"{case:9} {cost.cpu_s:8.2f} s {cost.loops:8.1f} loops "
                f"{cost.peak_mb:7.0f} MB, {cost.above_start_mb:.0f} above the start",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
