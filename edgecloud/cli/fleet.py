"""``edgecloud fleet``: how many edges one cloud serves within an objective, from journals."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edgecloud.errors import ConfigError

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``edgecloud fleet`` to ``commands``, the subparsers of the command line."""
    fleet = commands.add_parser(
        "fleet",
        help="many edges on one cloud, simulated from journals: latency, goodput, GPUs and cost",
        description="Times journals anew on a hardware profile and lets many edges do their captions on one cloud "
        "that batches continuously (docs/fleet.md). A journal of the cloud alone gives the self-speculating cloud, "
        "too.",
    )
    fleet.add_argument("journals", nargs="+", metavar="[NAME=]JOURNAL.jsonl")
    fleet.add_argument("--edges", default="1,4,16,64,256", metavar="N,N,…", help="numbers of edges")
    fleet.add_argument(
        "--load",
        default="closed",
        help="closed; poisson:RATE, captions a second at each edge; or a CSV file with arrival_s and edge",
    )
    fleet.add_argument(
        "--slo", default="p95=3s", help="the objective: a percentile and a time (p95=3s)"
    )
    fleet.add_argument(
        "--hardware-profile",
        "--hardware_profile",
        dest="hardware_profile",
        default="paper",
        metavar="NAME",
    )
    fleet.add_argument("--link", metavar="NAME", help="as in retime; the journal's when not given")
    fleet.add_argument(
        "--max-batch", type=int, default=16, help="sessions that share a forward (16)"
    )
    fleet.add_argument("--captions", type=int, default=100, help="captions of each edge (100)")
    fleet.add_argument(
        "--gpu-hour",
        type=float,
        metavar="DOLLARS",
        help="price of a GPU-hour (2.69: an H100, docs/fleet.md)",
    )
    fleet.add_argument("--seed", type=int, default=0)
    fleet.add_argument("-o", "--output", type=Path, metavar="FLEET.json")
    fleet.add_argument("--page", type=Path, metavar="PAGE.md", help="tables and a plot beside it")
    fleet.set_defaults(command=_fleet)


def _fleet(parsed: argparse.Namespace) -> int:
    from edgecloud.experiments.fleet import GPU_HOUR, Load, Objective, fleet, policy
    from edgecloud.report.fleet import in_short, table, write_page
    from edgecloud.results.result_file import write_result

    edges = _counts(parsed.edges)
    price = GPU_HOUR[0] if parsed.gpu_hour is None else parsed.gpu_hour
    if parsed.max_batch < 1 or parsed.captions < 1 or not 0 < price < 1e6:
        raise ConfigError("--max-batch and --captions count from 1, --gpu-hour is above 0")
    load, objective = Load.parse(parsed.load), Objective.parse(parsed.slo)
    policies = []
    for given in parsed.journals:
        name, _, path = given.rpartition("=") if not Path(given).is_file() else ("", "", given)
        found = policy(
            path, hardware_profile=parsed.hardware_profile, link=parsed.link, name=name or None
        )
        policies.append(found)
        if found.mode == "cloud":
            policies.append(found.self_speculating())
    content = fleet(
        policies,
        edges=edges,
        load=load,
        objective=objective,
        hardware_profile=parsed.hardware_profile,
        link=None if parsed.link == "null" else parsed.link,
        max_batch=parsed.max_batch,
        captions=parsed.captions,
        gpu_hour=price,
        seed=parsed.seed,
    )
    print(f"{table(content)}\n\n{in_short(content)}")
    if parsed.output is not None:
        print(write_result(parsed.output, content, flag="-o"))
    if parsed.page is not None:
        for path in write_page(content, parsed.page):
            print(path)
    return 0


def _counts(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() and int(word) > 0 for word in words):
        raise ConfigError(f"--edges {text}: numbers from 1 on were expected, such as 1,4,16")
    return sorted({int(word) for word in words})
