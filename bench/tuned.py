"""How near `edgecloud tune` comes, from 32 samples, to the best that a sweep finds with hindsight.

    edgecloud data synthetic dev DIR
    python -m bench.tuned DIR/chinese.json DIR/english.json

For each manifest it tunes on blocks of its samples, 32 at a time, and decodes every chosen preset and every policy of
the default grid on the embedded corpus of that language, which shares no sentence with them. The best of the grid is
the policy that meets the goal *there* at the least cost: nobody could have known it beforehand. In modelled time.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from edgecloud.contracts import Sample
from edgecloud.datasets.corpus import load_corpus
from edgecloud.errors import DataError
from edgecloud.experiments.sweep import DEFAULT_GRID, read_grid
from edgecloud.experiments.tune import check, tune
from edgecloud.experiments.tuned import Bench, load_bench
from edgecloud.experiments.tuning import Goal, means_of, numbers, row_of
from edgecloud.experiments.tuning_quality import qualities
from edgecloud.results.result_file import write_result
from edgecloud.settings.config import Config, resolve

GOALS = (
    Goal(gap=0.95),
    Goal(gap=0.95, busy=0.8),
    Goal(gap=0.9, busy=0.55),
    Goal(gap=0.95, time=0.7),
    Goal(busy=0.6, time=0.8),
)
BLOCK = 32


def policies(language: str) -> dict[str, Config]:
    """The default grid's policies at its first place: the default prompt on `paper`, without a link."""
    found = {}
    for point in read_grid(DEFAULT_GRID):
        config = point.config
        place = (config.hardware.profile, config.hardware.link, config.data.language)
        usual = point.mode == "spec" and config.data.prompt_type == "default"
        if usual and place == ("paper", None, language) and not _hangs(config):
            found[point.name] = config
    return found


def _hangs(config: Config) -> bool:
    """What the memory does not know: budgets."""
    return config.cloud.hand_off or config.acceptance.regret_budget is not None


def standings(
    bench: Bench, samples: Sequence[Sample], configs: Mapping[str, Config], measure: Any
) -> dict[str, dict[str, float]]:
    """Gap closed, busy time and time of each configuration over ``samples``."""
    first = bench.alone(samples, (), None)
    rows: dict[str, list[dict[str, Any]]] = {
        side: [row_of(record) for record in first[side]] for side in ("edge", "cloud")
    }
    rows.update({name: [] for name in configs})
    handlers = {name: bench.handler("spec", config) for name, config in configs.items()}
    for number, sample in enumerate(samples):
        for name, config in configs.items():
            rows[name].append(row_of(bench.decoded(handlers[name], config, sample)))
        _told("presets and policies on the embedded corpus", number + 1, len(samples))
    languages = [bench.config.data.language] * len(samples)
    scored = qualities(
        measure,
        {name: [row["text"] for row in its] for name, its in rows.items()},
        samples=samples,
        corpus=samples,
        languages=languages,
    )
    return {name: means_of(numbers(rows, name, scored)) for name in configs}


def compared(manifest: Path, folder: Path, *, blocks: int, quality: Any) -> list[list[Any]]:
    """A row for each block and goal."""
    language = "chinese" if "chinese" in manifest.stem else "english"
    settings = {"language": language, "dataset_path": str(manifest), "clock": "modelled"}
    presets: dict[str, tuple[Goal, Any]] = {}
    configs = policies(language)
    for block in range(blocks):
        part = folder / f"{manifest.stem}-{block}.json"
        write_part(manifest, part, block)
        config, samples = check(resolve({**settings, "dataset_path": str(part)}))
        for number, goal in enumerate(GOALS):
            name = f"{block} {number}"
            try:
                found = tune(
                    config, samples, goal, part.with_suffix(".tune"), quality=quality, told=_told
                )
            except DataError as error:
                presets[name] = goal, str(error)
                continue
            path = folder / f"preset-{manifest.stem}-{block}-{number}.json"
            write_result(path, found.content)
            presets[name] = goal, found.content
            configs[name] = resolve({"language": language, "clock": "modelled"}, preset=str(path))
    here = resolve({"language": language, "clock": "modelled"})
    test, _ = load_corpus(here)
    standing = standings(load_bench(here, test), test, configs, "references")
    grid = {name: its for name, its in standing.items() if name not in presets}
    return [
        _row(language, name.split()[0], goal, said, standing.get(name), grid)
        for name, (goal, said) in presets.items()
    ]


def write_part(manifest: Path, part: Path, block: int) -> None:
    """A manifest of a block of another one's samples."""
    content = json.loads(manifest.read_text("utf-8"))
    entries = content if isinstance(content, list) else content["samples"]
    kept = entries[block * BLOCK : (block + 1) * BLOCK]
    for entry in kept:
        for key, value in entry.items():
            if key.endswith("path") and isinstance(value, str):
                entry[key] = str((manifest.parent / value).resolve())
    part.parent.mkdir(parents=True, exist_ok=True)
    new = kept if isinstance(content, list) else {**content, "samples": kept}
    part.write_text(json.dumps(new, ensure_ascii=False), "utf-8")


def _told(what: str, done: int, total: int) -> None:
    print(f"{what}: {done}/{total}", file=sys.stderr, flush=True)  # noqa: T201


def _row(
    language: str,
    block: str,
    goal: Goal,
    said: Any,
    own: Mapping[str, float] | None,
    grid: Mapping[str, Mapping[str, float]],
) -> list[Any]:
    wanted = " ".join(f"{k} {v:g}" for k in ("gap", "busy", "time") if (v := getattr(goal, k)))
    meets = {name: its for name, its in grid.items() if not goal.missed(its)}
    best = min(meets, key=lambda name: goal.cost(meets[name])) if meets else None
    sweep = f"{goal.cost(meets[best]):.3f} ({best})" if best else "none"
    if own is None:
        return [language, block, wanted, "refused", "", "", "", sweep, "", said[:60]]
    expected = said["expected"]
    told = " / ".join(f"{expected[k]['estimate']:.2f}" for k in ("gap_closed", "busy", "time"))
    ratio = f"{goal.cost(own) / goal.cost(meets[best]):.3f}" if best else ""
    missed = ", ".join(f"{name} by {value:.1%}" for name, value in goal.missed(own).items())
    figures = [f"{own[name]:.3f}" for name in ("gap", "busy", "time")]
    return [language, block, wanted, *figures, f"{goal.cost(own):.3f}", sweep, ratio, missed, told]


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--blocks", type=int, default=3, help="of 32 samples, from each manifest")
    parser.add_argument("--quality", choices=("references", "agreement"))
    parser.add_argument("-o", "--output", type=Path, default=Path("reports/tuned"))
    parsed = parser.parse_args()
    rows = []
    for manifest in parsed.manifests:
        rows += compared(manifest, parsed.output, blocks=parsed.blocks, quality=parsed.quality)
    heads = ["language", "block", "goal", "gap", "busy", "time", "cost", "sweep's best", "cost ÷"]
    print(tabulate(rows, headers=[*heads, "missed", "expected"], disable_numparse=True))  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
