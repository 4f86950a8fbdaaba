"""Wall time beside transformers: plain decoding beside ``generate``, speculation beside assisted
generation, sample by sample in turn; and what our loops take outside the models' forwards.

``EDGECLOUD_ASSISTED=full`` measures the last also at the 3B shape (4 GB of memory).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tabulate import tabulate

from bench.assisted import TIE, Family, Ours, check_comparable, interleaved
from bench.conftest import CONFIG, TABLES
from bench.outside import LAYERS, Outside, outside, shape_3b
from bench.rows import REPLAY, add_no_row, add_rows
from edgecloud.contracts import Prompt, StopLimits
from edgecloud.datasets.audio import load_audio
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import EdgeCloudError
from edgecloud.experiments.run import load_corpus
from edgecloud.experiments.system import model_of
from edgecloud.models.loading import Loaded, load
from edgecloud.models.networks import SMALL
from edgecloud.results.statistics import Interval, median_log_ratio

if TYPE_CHECKING:
    from edgecloud.contracts import Sample
    from edgecloud.settings.config import Config

COUNTS = (2, 3, 4, 5, 6, 8)
"""Constant numbers of assistant tokens for ``generate``; the best of them is found afterwards."""
ASSISTED = ("assisted-default", *(f"assisted-{count}" for count in COUNTS))
WAYS = ("generate-edge", "edge", "generate-cloud", "cloud", *ASSISTED, "speculative")
WANTED = {"edge": 1.2, "cloud": 1.2, "speculative": 1.5}
"""How many times faster than transformers each of our ways is meant to be."""


@dataclass(frozen=True)
class Measured:
    """Seconds and tokens by way and sample; texts that are not ``generate``'s: ``ties``, and the ids of
    those ``different``; ``ratios`` by the two ways compared, as logarithms of theirs over ours."""

    samples: list[Sample]
    times: dict[str, list[float]]
    outputs: dict[str, list[list[int]]]
    ties: dict[str, int]
    different: dict[str, list[str]]
    ratios: dict[tuple[str, str], Interval]
    outside: dict[str, Outside]


@pytest.fixture(scope="module")
def measured(pytestconfig: pytest.Config) -> Iterator[Measured]:
    """The whole run, of which each test below reports a part."""
    config = pytestconfig.stash[CONFIG]
    try:
        paths = [model_of(config.models.edge, "edge")[1], model_of(config.models.cloud, "cloud")[1]]
        check_comparable(*paths, of_text=config.data.kind == "text")
    except EdgeCloudError as error:
        pytest.exit(str(error), 4)
    edge, edge_path = _loaded("edge", config.models.edge)
    cloud, cloud_path = _loaded("cloud", config.models.cloud)
    if max(edge.model.parameters, cloud.model.parameters) < SMALL:
        torch.set_num_threads(1)  # as ours take; transformers is faster so, too
    stopping = edge.processor.stopping(StopLimits(config.generation.max_new_tokens))
    samples = list(load_corpus(config)[0][: config.data.max_samples])
    prompts = [_prompt(edge, sample, config) for sample in samples]
    ours = Ours(edge.model, cloud.model, stopping)
    family = Family(
        edge_path,
        cloud_path,
        max_new_tokens=config.generation.max_new_tokens,
        end_ids=stopping.end_ids,
    )
    ways = {
        "generate-edge": family.edge,
        "edge": ours.edge,
        "generate-cloud": family.cloud,
        "cloud": ours.cloud,
        "assisted-default": family.assisted(),
        **{f"assisted-{count}": family.assisted(count) for count in COUNTS},
        "speculative": ours.speculative(config.draft.k),
    }
    times, outputs = interleaved(ways, prompts)
    ties, different = _parted(family, samples, prompts, outputs)
    found = Measured(
        samples=samples,
        times=times,
        outputs=outputs,
        ties=ties,
        different=different,
        ratios={
            (theirs, name): median_log_ratio(times[theirs], times[name])
            for theirs, name in _compared(times)
        },
        outside=outside(edge.model, cloud.model, stopping, prompts, k=config.draft.k),
    )
    yield found
    pytestconfig.stash[TABLES].append(_tables(found, config))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.benchmark(group="assisted", timer=REPLAY)
def test_way(way: str, measured: Measured, pytestconfig: pytest.Config, benchmark: Any) -> None:
    """One row a way, one value a sample; a text that is not ``generate``'s fails it, ties apart."""
    info: dict[str, Any] = {
        "sample_ids": [sample.file_id for sample in measured.samples],
        "tokens": [len(tokens) for tokens in measured.outputs[way]],
        "ties": measured.ties[way],
        "different": measured.different[way],
        "threads": torch.get_num_threads(),
        "times_faster_than": {
            theirs: _factors(ratio)
            for (theirs, name), ratio in measured.ratios.items()
            if name == way
        },
    }
    if way in measured.outside:
        info["outside_us_per_token"] = measured.outside[way].per_token_us
        info["outside_us_per_call"] = measured.outside[way].per_call_us
    add_rows(benchmark, pytestconfig, total_times=measured.times[way], others={}, extra_info=info)
    assert not measured.different[way], "other tokens than generate's, and no tie"


@pytest.mark.skipif(
    os.environ.get("EDGECLOUD_ASSISTED") != "full", reason="EDGECLOUD_ASSISTED is not full"
)
def test_outside_at_the_3b_shape(pytestconfig: pytest.Config, benchmark: Any) -> None:
    """At most 5% of a request outside the forwards. Drafter and verifier are the same model, so every
    draft is kept."""
    add_no_row(benchmark)
    config = pytestconfig.stash[CONFIG]
    model = shape_3b()
    prompts = [Prompt(tuple(range(1000 * turn, 1000 * turn + 128))) for turn in (1, 2)]
    stopping = Stopping(StopLimits(16), end_ids=frozenset({0}))
    found = outside(model, model.new_sequence(), stopping, prompts, k=config.draft.k)
    title = (
        f"Outside the forwards at the 3B shape, {LAYERS} of its 36 layers (an upper bound of the "
        f"share), float32, {torch.get_num_threads()} threads"
    )
    pytestconfig.stash[TABLES].append(f"{title}\n{_outside_table(found)}")
    assert all(way.share <= 0.05 for way in found.values())


def _loaded(side: str, folder: str | None) -> tuple[Loaded, str]:
    name, path = model_of(folder, side)
    return load(name, path, device="cpu", dtype="float32"), path


def _prompt(edge: Loaded, sample: Sample, config: Config) -> Prompt:
    if sample.prompt is not None:
        return edge.processor.text_prompt(sample.prompt)
    waveform = load_audio(sample.audio_path, max_audio_s=config.data.max_audio_s)
    return edge.processor.prompt(
        edge.processor.features(waveform),
        language=config.data.language,
        prompt_type=config.data.prompt_type,
    )


def _parted(
    family: Family,
    samples: list[Sample],
    prompts: list[Prompt],
    outputs: dict[str, list[list[int]]],
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """By way: how many texts part from ``generate``'s at a tie, and the samples where they do so
    elsewhere."""
    ties = dict.fromkeys(outputs, 0)
    different: dict[str, list[str]] = {name: [] for name in outputs}
    for name, texts in outputs.items():
        side = "edge" if name.endswith("edge") else "cloud"
        rows = zip(samples, prompts, outputs[f"generate-{side}"], texts, strict=True)
        for sample, prompt, expected, text in rows:
            if text == expected:
                continue
            if family.tied(prompt, expected, text, side=side):
                ties[name] += 1
            else:
                different[name].append(sample.file_id)
    return ties, different


def _compared(times: dict[str, list[float]]) -> list[tuple[str, str]]:
    """Theirs and ours: assisted generation as it is by default, and with the constant number of tokens
    that turned out best for it."""
    best = min(ASSISTED[1:], key=lambda name: median(times[name]))
    return [
        ("generate-edge", "edge"),
        ("generate-cloud", "cloud"),
        ("assisted-default", "speculative"),
        (best, "speculative"),
        ("generate-cloud", "speculative"),
        ("cloud", "speculative"),
    ]


def _factors(ratio: Interval) -> dict[str, float | None]:
    """``times``, ``low`` and ``high`` of a logarithm with its interval."""
    values = {"times": ratio.estimate, "low": ratio.low, "high": ratio.high}
    return {name: None if value is None else math.exp(value) for name, value in values.items()}


def _tables(found: Measured, config: Config) -> str:
    count = len(found.samples)
    title = (
        f"One process, {torch.get_num_threads()} threads, float32, {config.data.language} "
        f"{config.data.prompt_type} prompts, {count} samples in turn; features excluded, audio tower and "
        f"prefill included; k = {config.draft.k}, gate always, exact acceptance"
    )
    ways = [
        [
            way,
            1e3 * median(found.times[way]),
            sum(map(len, found.outputs[way])) / count,
            count - found.ties[way] - len(found.different[way]),
            found.ties[way],
            len(found.different[way]),
        ]
        for way in WAYS
    ]
    ratios = []
    for (theirs, way), ratio in found.ratios.items():
        times, low, high = _factors(ratio).values()
        beside = WANTED[way] if theirs.startswith(("generate-edge", "assisted")) else None
        beside = WANTED[way] if (theirs, way) == ("generate-cloud", "cloud") else beside
        ratios.append([way, theirs, times, low, high, beside])
    return "\n\n".join(
        (
            title,
            tabulate(
                ways,
                headers=[
                    "way",
                    "median ms",
                    "tokens",
                    "as generate",
                    f"ties ({TIE:g})",
                    "different",
                ],
                floatfmt=".1f",
            ),
            tabulate(
                ratios,
                headers=["way", "beside", "times faster", "low", "high", "wanted"],
                floatfmt=".2f",
                missingval="",
            ),
            f"Outside the forwards\n{_outside_table(found.outside)}",
        )
    )


def _outside_table(found: dict[str, Outside]) -> str:
    return tabulate(
        [
            [
                name,
                way.per_token_us,
                way.per_call_us,
                f"{way.share:.2%}",
                1e3 * way.request_s,
                way.tokens,
            ]
            for name, way in found.items()
        ],
        headers=["way", "us a token", "us a call", "of a request", "request ms", "tokens"],
        floatfmt=".1f",
    )
