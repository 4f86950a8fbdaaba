"""The runs of ``tox -e edge``, ``cloud``, ``spec`` and ``gate``: one pytest run each, one after the other in one process,
so that what is imported and what the scorers load is loaded once, and the models' processes are forked from some that
have imported torch (:mod:`edgecloud.edge.nursery`).

    python -m bench.series spec --cloud-url http://127.0.0.1:8000 --max-samples 3

is ``pytest bench/test_spec.py --language chinese --acceptance rank --output-name spec-chinese-rank …`` and so on; what
follows the name goes to every run. Ends with the highest status of any; Ctrl-C and SIGTERM end all.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from edgecloud.edge.nursery import allow
from edgecloud.ending import TERMINATED

__all__ = ["SERIES", "commands", "main"]

LANGUAGES = ("chinese", "english")
SERIES: dict[str, dict[str, tuple[str, ...]]] = {
    "edge": {"": ()},
    "cloud": {"": ()},
    "spec": {
        "-rank": ("--acceptance", "rank"),
        "-exact": ("--acceptance", "exact"),
        "-frontier": ("--preset", "frontier"),
    },
    "gate": {
        "": ("--clock", "modelled", "--hardware-profile", "paper", "--output-dir", "reports/gate")
    },
}
"""By experiment, or for all three of them on the gate's clock: what a run's name ends with, and its options."""
_ENDS_ALL = (int(pytest.ExitCode.INTERRUPTED), int(pytest.ExitCode.USAGE_ERROR), TERMINATED)


def commands(experiment: str, options: Sequence[str] = ()) -> Iterator[list[str]]:
    """The arguments of pytest for each run of an experiment; ``options`` come last.

    >>> next(commands("edge", ["-v"]))[:5]
    ['bench/test_edge.py', '--language', 'chinese', '--output-name', 'edge-chinese']
    """
    for language in LANGUAGES:
        for end, own in SERIES[experiment].items():
            name = f"{experiment}-{language}{end}"
            timed = experiment != "gate"
            yield [
                f"bench/test_{experiment}.py" if timed else "bench",
                *("--language", language, "--output-name", name, *own),
                *([f"--benchmark-json=reports/benchmarks/{name}.json"] if timed else ["-q"]),
                *options,
            ]


def main(arguments: Sequence[str]) -> int:
    """Run a series; the status to end with."""
    experiment, *options = arguments or ("",)
    if experiment not in SERIES:
        sys.stderr.write(f"usage: python -m bench.series {'|'.join(SERIES)} [OPTIONS]\n")
        return int(pytest.ExitCode.USAGE_ERROR)
    allow()
    Path("reports/benchmarks").mkdir(parents=True, exist_ok=True)
    statuses: list[int] = []
    for command in commands(experiment, options):
        print(f"pytest {' '.join(command)}", flush=True)  # noqa: T201 - what runs, as one would type it
        # What hypothesis has to say of its tests at the end, of which there are none, takes two seconds to import.
        statuses.append(int(pytest.main(["-p", "no:hypothesispytest", *command])))
        if statuses[-1] in _ENDS_ALL:
            break
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
