"""What 8 and 4 bits do to a real edge: its choices at the places of float32's own texts, and what a token costs.

    python -m bench.real_precision FOLDER [--prompts 8] [--tokens 24]

``FOLDER`` is :mod:`bench.real_pair`'s. Each precision is given what float32 wrote, token by token, on one thread;
divergence is that of its distribution from float32's, in nats.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor

from edgecloud.contracts import Model, Prompt, StopLimits
from edgecloud.models.precision import load_model

PROMPTS = Path(__file__).parent / "real_prompts"
PRECISIONS = ("none", "bf16", "int8", "int4")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=8, help="of each language")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--only", default=",".join(PRECISIONS[1:]), help="beside float32")
    given = parser.parse_args()
    torch.set_num_threads(1)
    prompts: list[Prompt] = []
    texts: list[list[int]] = []
    exact: list[Tensor] = []
    rows = []
    for precision in (PRECISIONS[0], *given.only.split(",")):
        edge = load_model(
            "edge",
            str(given.folder / "edge"),
            device="cpu",
            dtype="auto",
            quantization=precision,
        )
        ends = edge.processor.stopping(StopLimits()).end_ids
        prompts = prompts or [edge.processor.text_prompt(text) for text in _texts(given.prompts)]
        found: list[Tensor] = []
        spent_s = 0.0
        for number, prompt in enumerate(prompts):
            text = texts[number] if number < len(texts) else None
            tokens, logits, taken_s = _followed(edge.model, prompt, text, ends, given.tokens)
            if text is None:
                texts.append(tokens)
            found.append(logits)
            spent_s += taken_s
        exact = exact or found
        steps = sum(len(text) - 1 for text in texts)
        rows.append([precision, *_beside(found, exact), f"{1e3 * spent_s / steps:.0f}"])
        del edge
        gc.collect()
    heads = [
        "precision",
        "places",
        "same first choice",
        "divergence, mean",
        "largest",
        "CPU ms a step",
    ]
    told = tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True)
    sys.stdout.write(f"{told}\n")


def _texts(each: int) -> list[str]:
    """Prompts of both languages, spread over the kinds."""
    found = []
    for language in ("chinese", "english"):
        entries = json.loads((PROMPTS / f"{language}.json").read_text(encoding="utf-8"))
        found += [entry["prompt"] for entry in entries[:: len(entries) // each][:each]]
    return found


def _followed(
    model: Model, prompt: Prompt, text: Sequence[int] | None, ends: frozenset[int], most: int
) -> tuple[list[int], Tensor, float]:
    """The tokens of ``text``, or of a greedy one; the logits before each of them, ``(n, V)``, and the processor
    seconds of all steps but the prefill."""
    sequence = model.new_sequence()
    row = sequence.prefill(prompt)
    tokens: list[int] = []
    logits: list[Tensor] = []
    spent_s = 0.0
    while True:
        logits.append(row.float().cpu())
        tokens.append(int(row.argmax()) if text is None else text[len(tokens)])
        if len(tokens) == (most if text is None else len(text)) or tokens[-1] in ends:
            return tokens, torch.stack(logits), spent_s
        began_s = time.process_time()
        row = sequence.extend(tokens[-1:])[0]
        spent_s += time.process_time() - began_s


def _beside(found: Sequence[Tensor], exact: Sequence[Tensor]) -> list[Any]:
    """Places, the share with float32's first choice, and the divergence from float32."""
    ours, theirs = (torch.cat(list(some)) for some in (found, exact))
    same = (ours.argmax(-1) == theirs.argmax(-1)).double().mean()
    logp, logq = theirs.double().log_softmax(-1), ours.double().log_softmax(-1)
    divergence = (logp.exp() * (logp - logq)).sum(-1)
    return [len(ours), f"{same:.1%}", f"{divergence.mean():.4f}", f"{divergence.max():.3f}"]


if __name__ == "__main__":
    main()
