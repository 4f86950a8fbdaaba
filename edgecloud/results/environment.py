"""Environment of a result: what stays the same between two runs on one machine, and what may vary.

:func:`environment` goes into a result's body, :func:`run_block` into its ``run`` block, the one part
in which two modelled runs may differ. What cannot be read is ``None`` with its reason.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from edgecloud import __version__

__all__ = ["PACKAGES", "RUN_ID_VARIABLE", "commit_of", "environment", "run_block", "run_id"]

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
    "librosa",
    "soundfile",
    "pycocoevalcap",
    "jieba",
    "bert-score",
    "sacrebleu",
    "psutil",
    "pytest",
    "pytest-benchmark",
)
RUN_ID_VARIABLE = "EDGECLOUD_RUN_ID"
_GIT_DEADLINE_S = 10.0
_VECTOR = re.compile(r"avx|amx|fma|f16c|sse4|asimd|sve|bf16|i8mm")


def environment(*, devices: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Facts that do not change between two runs on one machine with one installation.

    ``devices`` is put in as it is given (JSON values): names of the GPUs. Imports none of the
    packages it names.
    """
    reasons: dict[str, str] = {}
    versions: dict[str, str | None] = {
        "python": platform.python_version(),
        "edgecloud": __version__,
    }
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
            reasons[f"versions.{package}"] = "not installed"
    cpu_model = _cpu_model()
    if cpu_model is None:
        reasons["cpu.model"] = "this system does not name its processor"
    instruction_sets = _instruction_sets()
    if instruction_sets is None:
        reasons["cpu.instruction_sets"] = "this system does not list them in /proc/cpuinfo"
    return {
        "versions": versions,
        "platform": {
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "implementation": platform.python_implementation(),
        },
        "cpu": {
            "model": cpu_model,
            "instruction_sets": instruction_sets,
            "logical_cores": psutil.cpu_count(logical=True),
            "physical_cores": psutil.cpu_count(logical=False),
        },
        "memory_total_gb": psutil.virtual_memory().total / 1e9,
        "devices": dict(devices or {}),
        "reasons": reasons,
    }


def run_block(*, repo: Path | None = None) -> dict[str, Any]:
    """Facts that may vary: time, host, load, commit, run id. To be
    taken before a run begins: then the load is that of others.

    ``repo`` is the checkout to name the commit of; the one this package lies in when not given.
    """
    reasons: dict[str, str] = {}
    commit, dirty = commit_of(repo, reasons)
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    if load is None:
        reasons["load_average"] = f"{sys.platform} keeps none"
    return {
        "run_id": run_id(),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "load_average": None if load is None else list(load),
        "memory_available_gb": psutil.virtual_memory().available / 1e9,
        "commit": commit,
        "dirty": dirty,
        "cpu_frequency_mhz": _cpu_frequency(reasons),
        "cpu_governor": _text(
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "cpu_governor", reasons
        ),
        "affinity": _affinity(reasons),
        "cgroup": _cgroup(reasons),
        "reasons": reasons,
    }


def run_id() -> str:
    """Names what asked for this run, so that its results can be told from earlier ones.

    ``EDGECLOUD_RUN_ID`` when it is set. Otherwise the process that started this one and when that
    process started, ``"<pid>-<start>"``: all that one tox process runs shares it, and so does what
    is typed into one shell. Under tox a shell or launcher between is looked through.
    """
    given = os.environ.get(RUN_ID_VARIABLE)
    if given:
        return given
    try:
        parents = psutil.Process().parents()
        caller = parents[0]
        if "TOX_ENV_NAME" in os.environ:
            caller = next((process for process in parents if _is_tox(process)), caller)
        return f"{caller.pid}-{_started(caller)}"
    except (psutil.Error, IndexError):  # started by the system itself, or not ours to look at
        return f"{os.getppid()}-unknown"


def _is_tox(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()[:4]
    except psutil.Error:
        return False
    names = {re.split(r"[\\/]", word)[-1].removesuffix(".exe") for word in words}
    return "tox" in names


def _started(process: psutil.Process) -> str:
    stat = Path(f"/proc/{process.pid}/stat")
    if stat.exists():
        # Ticks since boot: psutil's date moves when the system's clock is corrected.
        return stat.read_text().rpartition(")")[2].split()[19]
    return f"{process.create_time():.0f}"


def _cpu_model() -> str | None:
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or None


def _instruction_sets() -> str | None:
    """The vector instructions, sorted: they choose the kernels, where a virtual machine's processor
    has a name that says nothing."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return None
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
    if not found:
        return None
    return " ".join(sorted(flag for flag in found[1].split() if _VECTOR.match(flag)))


def _cpu_frequency(reasons: dict[str, str]) -> float | None:
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError, AttributeError) as error:
        reasons["cpu_frequency_mhz"] = f"not readable: {error}"
        return None
    if frequency is None or not frequency.current:
        reasons["cpu_frequency_mhz"] = "this system does not show it"
        return None
    return float(frequency.current)


def _affinity(reasons: dict[str, str]) -> list[int] | None:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    reasons["affinity"] = f"{sys.platform} has no call for it"
    return None


def _cgroup(reasons: dict[str, str]) -> list[str] | None:
    text = _text("/proc/self/cgroup", "cgroup", reasons)
    return None if text is None else text.splitlines()


def _text(path: str, name: str, reasons: dict[str, str]) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        reasons[name] = f"{path}: {error.strerror}"
        return None


def commit_of(repo: Path | None, reasons: dict[str, str]) -> tuple[str | None, bool | None]:
    """The commit of the checkout that the folder ``repo`` lies in (``None``: that of this package),
    and whether files differ from it (ignored ones aside); ``None`` with an entry in ``reasons``."""
    package = Path(__file__).resolve().parents[1] / "__init__.py"
    try:
        if repo is None:
            repo = package.parent
            # An installed copy may lie inside the checkout of another project.
            _git(repo, "ls-files", "--error-unmatch", package.name)
        commit = _git(repo, "rev-parse", "HEAD").strip()
        return commit, bool(_git(repo, "status", "--porcelain").strip())
    except FileNotFoundError:
        reason = "git is not installed"
    except subprocess.TimeoutExpired:
        reason = f"git did not answer in {_GIT_DEADLINE_S:g} s"
    except subprocess.CalledProcessError as error:
        words = str(error.stderr).strip().splitlines()
        reason = words[0] if words else f"git ended with {error.returncode}"
    reasons.update(commit=reason, dirty=reason)
    return None, None


def _git(repo: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(repo), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=_GIT_DEADLINE_S,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout
