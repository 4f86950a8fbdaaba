"""What exact speculation gives with a real pair in modelled time, by the edge's model alone.

    python -m bench.real_exact FOLDER [--language english] [--hardware-profile paper]

With exact acceptance a text is the cloud's own, so that the answers of the cloud alone, which
:mod:`bench.real_pair` journalled in ``FOLDER``, say what every verification keeps and every continuation writes. Only
the edge's drafts are computed, of all prompts in one forward (:mod:`bench.lockstep`).
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from bench.lockstep import Lockstep, Remembering
from bench.real_pair import LANGUAGES, alike
from edgecloud.cloud.loopback import Loopback
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import CloudSession, Prompt, Sample, StopLimits, Verify
from edgecloud.contracts.sampling import GREEDY, Sampling
from edgecloud.datasets.corpus import load_corpus
from edgecloud.decoding.remembered import Memory
from edgecloud.edge.request_handler import RequestHandler
from edgecloud.experiments.run import journalled, request_of
from edgecloud.hardware.probes import null_readings
from edgecloud.models.loading import LoadedModel
from edgecloud.models.precision import load_model
from edgecloud.results.frontier import Scored, measures
from edgecloud.results.journal import read
from edgecloud.results.records import Record
from edgecloud.settings.config import Config, resolve

_LISTENING = {"gate_scope": "token", "verify_scope": "since-last-call", "k": 16}
_SEEDED = {"parallel_prefill": True, "cloud_seed_tokens": 4}


def main() -> None:
    """Decode, and print a table for each language."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--language", choices=LANGUAGES, action="append")
    parser.add_argument("--hardware-profile", default="paper")
    parser.add_argument("--every", type=int, default=1, help="take every n-th prompt")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder: Path = given.folder.resolve()
    edge = load_model(
        "edge", str(folder / "edge"), device="cpu", dtype="float32", quantization="none"
    )
    for language in given.language or LANGUAGES:
        table = _table(folder, edge, language, given.hardware_profile, given.every)
        sys.stdout.write(f"{language}\n{table}\n")
        sys.stdout.flush()


def policies() -> dict[str, dict[str, Any]]:
    """The settings of each, all of exact acceptance; a call verifies all that was written since the last one, so that
    only what follows the last call may differ from the cloud's text."""
    found: dict[str, dict[str, Any]] = {
        "everything verified, k = 4": {"gate_type": "always", "k": 4}
    }
    for threshold, more in itertools.product((0.5, 1.0, 2.0), (0, 3, 6)):
        name = f"entropy {threshold}, token by token, continuation {more}"
        found[name] = {"entropy_threshold": threshold, **_LISTENING, "continuation": more}
    name = "entropy 1.0, token by token, continuation 3, started by the cloud"
    found[name] = {"entropy_threshold": 1.0, **_LISTENING, "continuation": 3, **_SEEDED}
    return found


def _table(folder: Path, edge: LoadedModel, language: str, hardware: str, every: int) -> str:
    base = {
        "language": language,
        "dataset_type": "text",
        "dataset_path": str(folder / f"{language}.json"),
        "edge_model": str(folder / "edge"),
        "cloud_model": str(folder / "cloud"),
        "max_new_tokens": 48,
        "clock": "modelled",
        "hardware_profile": hardware,
    }
    samples = load_corpus(resolve(base))[0][::every]
    lockstep = Lockstep()
    shared = Remembering(edge.model, lockstep)  # type: ignore[arg-type]
    answers = written(folder, [sample.file_id for sample in samples], language)
    memories = [Memory(edge.processor.stopping(StopLimits()).end_ids) for _ in samples]
    for memory, record in zip(memories, answers, strict=True):
        memory.learn(record.prompt_digest or "", record.trace, None)
    found: dict[str, list[Record]] = {}
    modes: dict[str, tuple[Any, Config]] = {
        "edge": ("edge", resolve(base)),
        "cloud": ("cloud", resolve(base)),
        **{
            name: ("spec", resolve({**base, **own, "acceptance": "exact"}))
            for name, own in policies().items()
        },
    }
    for name, (mode, config) in modes.items():
        began_s = time.process_time()

        def one(work: tuple[Sample, Memory], mode: Any = mode, config: Config = config) -> Record:
            sample, memory = work
            handler = _handler(mode, config, edge, shared.new_sequence(), memory)
            answer = handler.caption(request_of(config, sample))
            return journalled(sample, answer, null_readings("the clock is modelled"))

        found[name] = lockstep.map(one, zip(samples, memories, strict=True))
        sys.stderr.write(f"{language}, {name}: {time.process_time() - began_s:.0f} CPU s\n")
        sys.stderr.flush()
    return _told(found)


class _Nobody:
    """A cloud that is not there."""

    def open(self, prompt: Prompt, sampling: Sampling = GREEDY) -> CloudSession:
        """Nothing is left to be asked of it."""
        raise AssertionError("the cloud's own answer does not say what comes here")


def _handler(
    mode: Any, config: Config, edge: LoadedModel, sequence: Any, memory: Memory
) -> RequestHandler:
    remote = RemoteCloud(Loopback(MessageServer(memory.cloud(_Nobody()))), deadline_s=30.0)
    return RequestHandler(
        config,
        edge.processor,
        edge=None if mode == "cloud" else sequence,
        cloud=None if mode == "edge" else remote,
        around=memory.edge,
    )


def written(folder: Path, names: Sequence[str], language: str) -> list[Record]:
    """The records of the cloud alone, in the order of ``names``."""
    for path in sorted((folder / "frontier" / "journals").glob("cloud-*.jsonl")):
        header, records = read(path)
        settings = header["identity"]["settings"]
        if Path(settings["dataset_path"]).name in (f"{language}.json", f"{language}-plain.json"):
            by_name = {record.file_id: record for record in records}
            if by_name.keys() >= set(names):
                return [by_name[name] for name in names]
    raise SystemExit(f"no complete journal of the cloud alone in {language}: run bench.real_pair")


def _told(found: dict[str, list[Record]]) -> str:
    cloud = found["cloud"]
    own = {name: measures(records, [Scored(0.0)] * len(records)) for name, records in found.items()}
    rows = []
    for name, records in found.items():
        its = own[name]
        checks = [event for record in records for event in record.trace.of(Verify)]
        drafted, kept = sum(e.drafted for e in checks), sum(e.kept for e in checks)
        same = [a.trace.tokens == b.trace.tokens for a, b in zip(records, cloud, strict=True)]
        rows.append(
            [
                name,
                f"{np.mean(its.total_s) / np.mean(own['edge'].total_s):.2f}",
                f"{np.mean(its.total_s) / np.mean(own['cloud'].total_s):.2f}",
                f"{np.mean(its.busy_s) / np.mean(own['cloud'].busy_s):.2f}",
                f"{np.mean(its.calls):.1f}",
                f"{sum(its.cloud_tokens) / sum(its.tokens):.2f}",
                f"{kept / drafted:.2f}" if drafted else "",
                f"{np.mean([alike(a, b) for a, b in zip(records, cloud, strict=True)]):.3f}",
                f"{sum(same)} of {len(same)}",
            ]
        )
    heads = ["policy", "time / edge", "time / cloud", "busy / cloud", "calls"]
    heads += ["cloud's share of tokens", "kept of drafted"]
    heads += ["agreement, tokens", "the cloud's answer"]
    return tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    main()
