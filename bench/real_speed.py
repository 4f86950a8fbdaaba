"""A real pair's speed on this processor: the cloud alone, exact speculation, and transformers' own ways.

    python -m bench.real_speed FOLDER --precision int8 [--prompts 5] [--tokens 24] [--k 3,4]
    python -m bench.real_speed FOLDER --precision float32

``FOLDER`` is :mod:`bench.real_pair`'s. Both models are of one precision, on one thread, in one process; every way
answers the first prompt, then the second, in an order that turns; processor seconds. ``generate`` and assisted
generation of transformers are beside ours: in float32 on the same weights, in int8 on the same products too
(:mod:`bench.products`: its layers are multiplied by our own kernels), or with ``--rival dynamic`` on torch's dynamic
int8. Whether a way's tokens are the cloud's alone is said. Then what forwards over a few tokens take, in steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from bench.assisted import Ours, Way
from bench.products import Product, dynamic, with_products
from edgecloud.contracts import Prompt, StopLimits
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.loading import load

PROMPTS = Path(__file__).parent / "real_prompts"
COUNTS = (1, 2, 4, 5, 6, 8)
SIDES = ("edge", "cloud")


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", choices=["int8", "float32", "bfloat16"], default="int8")
    parser.add_argument("--prompts", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--k", default="3,4", help="drafted tokens a verification")
    parser.add_argument("--rival", choices=["products", "dynamic", "none"], default="products")
    given = parser.parse_args()
    torch.set_num_threads(1)
    paths = {side: str(given.folder / side) for side in SIDES}
    processor = Checkpoint.open(paths["cloud"]).processor()
    models = {side: _model(path, given.precision) for side, path in paths.items()}
    entries = json.loads((PROMPTS / "english.json").read_text(encoding="utf-8"))
    prompts = [processor.text_prompt(entry["prompt"]) for entry in entries[:: 30 // given.prompts]]
    ours = Ours(models["edge"], models["cloud"], processor.stopping(StopLimits(given.tokens)))
    ways: dict[str, Way] = {"edge alone": ours.edge, "cloud alone": ours.cloud}
    for k in map(int, given.k.split(",")):
        ways[f"exact, k = {k}"] = ours.speculative(k)
    if given.precision == "float32":
        ways |= _family(paths, given.tokens, "float32")
    elif given.precision == "int8" and given.rival != "none":
        ways |= _family(paths, given.tokens, given.rival)
    _print(ways, prompts[: given.prompts])
    _print_steps(models, prompts[0])


def _model(path: str, precision: str) -> Any:
    if precision != "int8":
        return load(path, path, device="cpu", dtype=precision).model
    from edgecloud.models.quantized.loading import load_quantized

    checkpoint = Checkpoint.open(path)
    return load_quantized(checkpoint, bits=8, vocab_size=checkpoint.processor().vocab_size)


def _family(paths: dict[str, str], tokens: int, form: str) -> dict[str, Way]:
    """``generate`` of transformers, without a repetition penalty; ``form`` of the linear layers."""
    edge, cloud = (_transformers(paths[side], form) for side in SIDES)
    for model in (edge, cloud):
        settings: Any = model.generation_config
        settings.repetition_penalty, settings.do_sample = 1.0, False
        settings.temperature = settings.top_p = settings.top_k = None
    default: Any = edge.generation_config

    def written(prompt: Prompt, **more: Any) -> list[int]:
        ids = torch.tensor([prompt.token_ids])
        with torch.inference_mode():
            found = cloud.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, **more
            )
        tail: list[int] = found[0, ids.shape[1] :].tolist()
        return tail

    def assisted(prompt: Prompt) -> list[int]:
        return written(prompt, assistant_model=edge)

    def in_threes(prompt: Prompt) -> list[int]:
        threes = {
            "num_assistant_tokens": 3,
            "num_assistant_tokens_schedule": "constant",
            "assistant_confidence_threshold": 0.0,
        }
        before = {name: getattr(default, name) for name in threes}
        default.update(**threes)
        try:
            return written(prompt, assistant_model=edge)
        finally:
            default.update(**before)

    return {
        f"generate, {form}": written,
        f"assisted generation, {form}": assisted,
        f"assisted generation by 3, {form}": in_threes,
    }


def _transformers(path: str, form: str) -> Any:
    import transformers

    hub: Any = transformers
    hub.logging.disable_progress_bar()
    # A second copy in float32 would not fit beside the others.
    dtype = torch.float32 if form == "float32" else torch.bfloat16
    family: Any = hub.AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()
    if form != "float32":
        with_products(family, Product.of if form == "products" else dynamic)
    return family.float()


def _print(ways: dict[str, Way], prompts: Sequence[Prompt]) -> None:
    names = list(ways)
    taken: dict[str, list[float]] = {name: [] for name in names}
    texts: dict[str, list[list[int]]] = {name: [] for name in names}
    for way in ways.values():
        way(prompts[0])
    for turn, prompt in enumerate(prompts):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            began_s = time.process_time()
            texts[name].append(ways[name](prompt))
            taken[name].append(time.process_time() - began_s)
    alone_s = sum(taken["cloud alone"])
    rows = [
        [
            name,
            f"{sum(seconds):.1f}",
            f"{sum(seconds) / alone_s:.2f}",
            f"{1e3 * sum(seconds) / sum(map(len, texts[name])):.0f}",
            sum(map(len, texts[name])),
            f"{sum(a == b for a, b in zip(texts[name], texts['cloud alone'], strict=True))} of {len(prompts)}",
        ]
        for name, seconds in taken.items()
    ]
    heads = ["way", "CPU s", "over cloud alone", "CPU ms a token", "tokens", "the cloud's answer"]
    sys.stdout.write(
        f"{tabulate(rows, headers=heads, tablefmt='github', disable_numparse=True)}\n\n"
    )


def _print_steps(models: dict[str, Any], prompt: Prompt) -> None:
    rows = []
    for side, model in models.items():
        sequence = model.new_sequence()
        sequence.prefill(prompt)
        readings: dict[int, list[float]] = {count: [] for count in COUNTS}
        for turn in range(6):
            for count in COUNTS:
                began_s = time.process_time()
                sequence.extend([7] * count)
                if turn:
                    readings[count].append(time.process_time() - began_s)
                sequence.rollback(prompt.length)
        times = {count: statistics.median(some) for count, some in readings.items()}
        steps = [f"{times[count] / times[1]:.2f}" for count in COUNTS[1:]]
        rows.append([side, f"{1e3 * times[1]:.0f}", *steps])
    heads = ["", "step, ms", *(f"{count} tokens" for count in COUNTS[1:])]
    sys.stdout.write(f"{tabulate(rows, headers=heads, tablefmt='github', disable_numparse=True)}\n")


if __name__ == "__main__":
    main()
