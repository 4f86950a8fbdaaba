"""``edgecloud profile``: hardware profiles, listed, shown, and measured on the machine at hand."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from edgecloud.errors import ConfigError
from edgecloud.settings.subjects import Caps

__all__ = ["add"]

_DTYPES = ("float32", "bfloat16", "float16")
_QUANTIZED = ("int8", "int4", "int8-openvino", "int4-openvino")


def add(commands: Any) -> None:
    """Add ``edgecloud profile`` and its actions to ``commands``, the subparsers of the command line."""
    profile = commands.add_parser("profile", help="hardware profiles").add_subparsers(
        required=True, metavar="ACTION"
    )
    listed = profile.add_parser("list", help="the profiles that ship with the package")
    listed.set_defaults(command=_list)
    show = profile.add_parser(
        "show", help="one profile, as JSON: a file of it is one for --hardware-profile"
    )
    show.add_argument("name", metavar="NAME", help="a name, NAME@PRECISION, EDGE+CLOUD, or a file")
    show.set_defaults(command=_show)
    measure = profile.add_parser(
        "measure",
        help="measure this machine and write a profile",
        description="Times prefill, step, and forwards over 1 to 16 tokens (ingestion, verification) "
        "of a model, and writes the medians as a hardware profile for --hardware-profile FILE.",
    )
    what = measure.add_mutually_exclusive_group()
    what.add_argument("--model", metavar="PATH", help="checkpoint folder")
    what.add_argument("--shape", help="3b or 7b, with random weights", default=None)
    measure.add_argument(
        "--layers", type=int, help="build so many, and compute what all would take"
    )
    measure.add_argument(
        "--dtype", default="float32", help="none, or one or more of " + ", ".join(_DTYPES)
    )
    measure.add_argument(
        "--quantization", default="none", help="none, or one or more of " + ", ".join(_QUANTIZED)
    )
    measure.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    measure.add_argument("--side", choices=("edge", "cloud"), default="edge")
    measure.add_argument(
        "--batches",
        default="none",
        metavar="1,4,16,64",
        help="--side cloud: time forwards that so many sessions share, too, by the wall clock (none); without it a "
        "profile's batches are assumed",
    )
    measure.add_argument("--rounds", type=int, default=7, help="readings of each forward")
    measure.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time over threads, where others use the machine meanwhile",
    )
    measure.add_argument("--max-cpu-cores", type=int, default=Caps().cpu_cores, help="0: all")
    measure.add_argument(
        "--max-memory-gb", type=float, default=Caps().memory_gb, help="recorded; 0: no cap"
    )
    measure.add_argument("--name", help="the profile's name; the file's when not given")
    measure.add_argument("-o", "--output", type=Path, default=Path("reports/profiles/machine.json"))
    measure.set_defaults(command=_measure)


def _list(parsed: argparse.Namespace) -> int:
    from edgecloud.hardware.profiles import names, profile_file

    for name in names():
        found = profile_file(name)
        caps = found.caps
        cap = "" if caps is None else f"{caps.cpu_cores} cores, {caps.memory_gb:g} GB; "
        edges = ", ".join(found.edges) or "cloud only"
        print(f"{name:22} {cap}{edges}\n{'':22} {found.source}")
    return 0


def _show(parsed: argparse.Namespace) -> int:
    from edgecloud.hardware.profiles import complete_file

    # In a file, ASCII alone: whatever encoding the shell writes it in, it is read back.
    readable = sys.stdout.isatty()
    print(json.dumps(complete_file(parsed.name).to_json(), ensure_ascii=not readable, indent=1))
    return 0


def _measure(parsed: argparse.Namespace) -> int:
    precisions = _chosen("--dtype", parsed.dtype, _DTYPES)
    precisions += _chosen("--quantization", parsed.quantization, _QUANTIZED)
    if not precisions:
        raise ConfigError("--dtype none and --quantization none leave nothing to measure")
    if parsed.rounds < 1 or (parsed.layers is not None and parsed.layers < 1):
        raise ConfigError("--rounds and --layers count from 1")
    if parsed.model is not None and parsed.layers is not None:
        raise ConfigError("--layers cuts a --shape; a --model is measured whole")
    sessions = _sessions(parsed.batches)
    if sessions and parsed.side != "cloud":
        raise ConfigError("--batches are a cloud's: give --side cloud")
    # Not above: caps come before torch is imported.
    from edgecloud.hardware.limits import apply_in_child, apply_torch_threads

    limits = apply_in_child(parsed.max_cpu_cores, 0.0)
    apply_torch_threads(parsed.max_cpu_cores)
    from edgecloud.hardware.profile_files import write_profile
    from edgecloud.profiling.measure import Request, measure

    request = Request(
        name=parsed.name or parsed.output.stem,
        precisions=tuple(precisions),
        side=parsed.side,
        device=parsed.device,
        clock=parsed.clock,
        rounds=parsed.rounds,
        model=parsed.model,
        shape=parsed.shape or ("3b" if parsed.side == "edge" else "7b"),
        layers=parsed.layers,
        max_cpu_cores=parsed.max_cpu_cores,
        max_memory_gb=parsed.max_memory_gb,
        affinity=limits["affinity"],
        sessions=sessions,
    )
    found = measure(request, lambda line: print(line, file=sys.stderr))
    write_profile(parsed.output, found)
    for precision, times in found.provenance["measured"].items():
        shown = ", ".join(f"{key} {value:.1f}" for key, value in times["full_ms"].items())
        print(f"{precision}, ms: {shown}")
    print(f"profile: {parsed.output}")
    return 0


def _sessions(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    words = [word.strip() for word in text.split(",")]
    counts = sorted({int(word) for word in words if word.isascii() and word.isdecimal()} - {0})
    if len(counts) != len(words):
        raise ConfigError(f"--batches {text}: none, or different numbers of sessions from 1 on")
    return tuple(sorted({1, *counts}))


def _chosen(flag: str, text: str, known: tuple[str, ...]) -> list[str]:
    if text == "none":
        return []
    chosen = [word.strip() for word in text.split(",")]
    unknown = [word for word in chosen if word not in known]
    if unknown:
        raise ConfigError(f"{flag} {', '.join(unknown)}: choose from {', '.join(known)}")
    return chosen
