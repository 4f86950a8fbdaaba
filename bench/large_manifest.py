"""Time and memory of reading and checking a manifest of many entries, in a run of one of its samples.

    python -m bench.large_manifest [--entries 200000] [--distinct 200000] [--suites 3]

Writes a manifest with ``--entries`` entries over ``--distinct`` small recordings, then does what a run with
``--max-samples 1`` does before its first sample: checks it, reads it, and for each of its ``--suites`` hashes
its data and writes the journal's first line. Wanted for 200,000: at most 10 s to read and check them, and 300 MB
above the process's start in all. Exits 1 where it takes more.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from edgecloud.settings.declaration import MODES

MOST_S = 10.0
MOST_MB = 300.0


def main() -> int:
    """Write the manifest and measure in a process of its own. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--entries", type=int, default=200_000)
    parser.add_argument("--distinct", type=int, default=1000)
    parser.add_argument("--suites", type=int, default=1, choices=(1, 2, 3))
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.read is not None:
        return read(parsed.read, parsed.suites)
    with tempfile.TemporaryDirectory() as folder:
        manifest = written(Path(folder), parsed.entries, parsed.distinct)
        # In a process of its own, so that what was taken for writing it is not counted.
        command = [sys.executable, "-m", "bench.large_manifest", "--read", str(manifest)]
        command += ["--suites", str(parsed.suites)]
        return subprocess.run(command, check=False).returncode


def written(folder: Path, count: int, distinct: int) -> Path:
    """A manifest of ``count`` entries over ``distinct`` recordings, both new in ``folder``."""
    (folder / "wavs").mkdir()
    for number in range(distinct):
        (folder / "wavs" / f"{number:06}.wav").write_bytes(b"RIFF" + number.to_bytes(996, "little"))
    entries = [
        {
            "file_id": f"recording-{number:06}",
            "dataset": "large",
            "audio_path": f"wavs/{number % distinct:06}.wav",
            "caption": f"说话人语气平静，语速适中，声音低沉，这是第{number}段录音。",
        }
        for number in range(count)
    ]
    path = folder / "manifest.json"
    path.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return path


def read(manifest: Path, suites: int) -> int:
    """Do what a run does before its first sample, and print what it took. Returns the exit status."""
    from bench.preflight import check_run
    from edgecloud.experiments.run import data_of, identity_of, load_corpus
    from edgecloud.results.journal import Journal
    from edgecloud.results.recorded_run import facts
    from edgecloud.settings.config import resolve

    output = manifest.parent / "out"
    config = resolve({"dataset_path": str(manifest), "max_samples": 1, "output_dir": str(output)})
    start_mb, began = peak_mb(), time.perf_counter()
    with ExitStack() as holding:
        named = {mode: config.changed(output_name=mode) for mode in MODES[:suites]}
        check_run(named, holding=holding)
    read_s = time.perf_counter() - began
    for mode in MODES[:suites]:
        corpus, path = load_corpus(config)
        setup = {
            "data": data_of(config, corpus, path),
            "models": {"edge": None, "cloud": None},
            "hardware_profile": None,
        }
        journal_path = output / "journals" / f"{mode}.jsonl"
        identity = identity_of(config, setup)
        with Journal.open(journal_path, mode=mode, identity=identity) as journal:
            journal.describe(
                facts(
                    config=config,
                    corpus=corpus,
                    samples=corpus[:1],
                    setup=setup,
                    environment={},
                    floors=None,
                )
            )
    took_s, took_mb = time.perf_counter() - began, peak_mb() - start_mb
    size_mb = journal_path.stat().st_size / 1e6
    sys.stdout.write(
        f"{len(corpus)} entries: read and checked in {read_s:.1f} s of {MOST_S:g}, {took_mb:.0f} MB of {MOST_MB:g}; "
        f"ready for the first sample of {suites} of 3 suites in {took_s:.1f} s, journals of {size_mb:.1f} MB\n"
    )
    return 0 if read_s <= MOST_S and took_mb <= MOST_MB else 1


def peak_mb() -> float:
    """The most memory that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    sys.exit(main())
