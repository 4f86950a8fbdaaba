"""A real pair beside ``generate`` of transformers, token for token, and the logits wherever they part.

    python -m bench.real_parity FOLDER [--only edge|cloud] [--dtype float32|bfloat16] [--tokens 24]

``FOLDER`` is :mod:`bench.real_pair`'s. Every fourth of the prompts, eight of each language, is answered greedily by
``generate(do_sample=False)``, one at a time, without a repetition penalty and with that of the checkpoint's
``generation_config.json``; then by our own forward: in float32 all sixteen in each forward, in bfloat16 one at a
time. Where two answers part, the two tokens' logits on both sides are printed, with those of our float32. Exits with
1 where they part in float32.
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
from torch import Tensor

from bench.lockstep import Lockstep, Remembering
from bench.real_weights import greedy
from edgecloud.contracts import Model, Prompt
from edgecloud.contracts.sampling import Sampling
from edgecloud.decoding.penalties import penalized
from edgecloud.models.loading import load, look_at

PROMPTS = Path(__file__).parent / "real_prompts"
EACH = 8
Answers = list[tuple[list[int], list[Tensor]]]
"""Of each prompt the tokens, and for each the largest logits before penalties, as :func:`_kept` keeps them."""


def main() -> int:
    """Print a line for each comparison. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=["edge", "cloud"])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--tokens", type=int, default=24)
    given = parser.parse_args()
    torch.set_num_threads(1)
    parted = 0
    for side in [given.only] if given.only else ["edge", "cloud"]:
        parted += _compared(str(given.folder / side), side, given.dtype, given.tokens)
    return int(parted > 0 and given.dtype == "float32")


def _compared(path: str, side: str, dtype: str, tokens: int) -> int:
    penalty = json.loads((Path(path) / "generation_config.json").read_text())["repetition_penalty"]
    processor: Any = look_at(side, path)[0]
    prompts = [processor.text_prompt(text) for text in _texts()]
    theirs = {each: _generated(path, prompts, dtype, each, tokens) for each in (1.0, penalty)}
    model: Any = load(side, path, device="cpu", dtype=dtype).model
    parted = 0
    for each, expected in theirs.items():
        began_s = time.process_time()
        found = _decoded(model, prompts, Sampling(repetition_penalty=each), dtype, expected)
        equal = [a[0] == b[0] for a, b in zip(found, expected, strict=True)]
        parted += equal.count(False)
        _say(
            f"{side}, {dtype}, penalty {each:g}: {sum(equal)} of {len(equal)} answers are generate's, "
            f"{sum(len(one[0]) for one in expected)} tokens ({time.process_time() - began_s:.0f} CPU s)"
        )
        places = [
            (prompt, *_parting(own, other))
            for prompt, own, other, same in zip(prompts, found, expected, equal, strict=True)
            if not same
        ]
        if places:
            same = dtype == "float32"
            exact: Any = model if same else load(side, path, device="cpu", dtype="float32").model
            _explain(places, exact, tokenizer=processor.tokenizer)
            del exact
    del model
    gc.collect()
    return parted


def _texts() -> list[str]:
    return [
        entry["prompt"]
        for language in ("chinese", "english")
        for entry in json.loads((PROMPTS / f"{language}.json").read_text(encoding="utf-8"))[
            : 4 * EACH : 4
        ]
    ]


def _generated(
    path: str, prompts: Sequence[Prompt], dtype: str, penalty: float, tokens: int
) -> Answers:
    """The answers of ``generate``, greedy."""
    from transformers import AutoModelForCausalLM

    family: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
    answers: Answers = []
    for prompt in prompts:
        found, rows = greedy(
            family,
            prompt.token_ids,
            tokens,
            repetition_penalty=penalty,
            temperature=None,
            top_p=None,
            top_k=None,
        )
        answers.append((found, _kept(rows)))
    return answers


def _kept(rows: Sequence[Tensor]) -> list[Tensor]:
    """Of each row of logits ``(V,)`` the 64 largest: ``(2, 64)``, tokens and values."""
    kept = []
    for row in rows:
        values, ids = row.float().topk(64)
        kept.append(torch.stack((ids.double(), values.double())))
    return kept


def _decoded(
    model: Any, prompts: Sequence[Prompt], sampling: Sampling, dtype: str, expected: Answers
) -> Answers:
    def one(work: tuple[Model, Prompt, int]) -> tuple[list[int], list[Tensor]]:
        own, prompt, most = work
        rows, output = [own.prefill(prompt)], list[int]()
        while True:
            context = [*prompt.token_ids, *output]
            output.append(int(penalized(rows[-1][None], sampling, context)[0].argmax()))
            if len(output) == most:
                return output, _kept(rows)
            rows.append(own.extend(output[-1:])[-1])

    counts = [len(answer) for answer, _ in expected]
    if dtype == "float32":
        lockstep = Lockstep()
        shared = Remembering(model, lockstep)
        work = [(shared.new_sequence(), *rest) for rest in zip(prompts, counts, strict=True)]
        return lockstep.map(one, work)
    return [one((model.new_sequence(), *rest)) for rest in zip(prompts, counts, strict=True)]


Parting = tuple[list[int], int, int, Tensor, Tensor]


def _parting(own: tuple[list[int], list[Tensor]], other: tuple[list[int], list[Tensor]]) -> Parting:
    """What both wrote before they part, the two tokens, and both rows of logits there."""
    place = next(
        number for number, (a, b) in enumerate(zip(own[0], other[0], strict=True)) if a != b
    )
    return own[0][:place], own[0][place], other[0][place], own[1][place], other[1][place]


def _explain(places: Sequence[tuple[Any, ...]], exact: Any, *, tokenizer: Any) -> None:
    for prompt, before, own, other, ours, theirs in places:
        model = exact.new_sequence()
        row = model.prefill(prompt)
        if before:
            row = model.extend(before)[-1]
        values = row[[own, other]].tolist()
        _say(
            f"  token {len(before)}: ours {tokenizer.decode([own])!r}, generate's "
            f"{tokenizer.decode([other])!r}; logits of the two: ours {_of(ours, own, other)}, "
            f"generate's {_of(theirs, own, other)}, our float32 {values[0]:.4f} and {values[1]:.4f}"
        )


def _of(row: Tensor, one: int, other: int) -> str:
    values = {int(token): value for token, value in zip(*row.tolist(), strict=True)}
    return " and ".join(f"{values[token]:.4f}" for token in (one, other))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
