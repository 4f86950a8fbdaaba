"""Why ours and transformers' ``generate`` may part in bfloat16: both along the same texts, and which roundings differ.

    python -m bench.real_rounding FOLDER [--side edge] [--prompts 2] [--tokens 24]

``FOLDER`` is :mod:`bench.real_pair`'s, with the journal of the cloud alone, whose answers every form is given: our
bfloat16, transformers' with its two forms of attention, transformers' with our norm, and with our norm and rotation.
Logits of the places are set beside those of our float32 and of transformers; where first choices differ, the two
tokens' logits are printed in all forms, with their distance in steps of bfloat16. Then single operations of the first
layer, on the same numbers.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor
from torch.nn import functional

from bench.real_exact import written
from edgecloud.contracts import Prompt
from edgecloud.models.loading import load, look_at

PROMPTS = Path(__file__).parent / "real_prompts"
LANGUAGE = "english"
Texts = list[tuple[Prompt, list[int]]]
Rows = list[Tensor]
"""Of each text the logits before each token of the answer, ``(n, V) float32``."""


def main() -> None:
    """Print three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", choices=["edge", "cloud"], default="edge")
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=24)
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = str(given.folder / given.side)
    processor: Any = look_at(given.side, path)[0]
    entries = json.loads((PROMPTS / f"{LANGUAGE}.json").read_text(encoding="utf-8"))
    entries = entries[:: len(entries) // given.prompts][: given.prompts]
    answers = written(given.folder, [entry["file_id"] for entry in entries], LANGUAGE)
    texts: Texts = [
        (processor.text_prompt(entry["prompt"]), list(record.trace.tokens)[: given.tokens])
        for entry, record in zip(entries, answers, strict=True)
    ]
    found = {"our float32": _ours(path, "float32", texts), "ours": _ours(path, "bfloat16", texts)}
    family = _transformers(path)
    found |= _theirs(family, texts)
    _say(_compared(found))
    _say(_parted(found, processor.tokenizer, [entry["file_id"] for entry in entries]))
    _say(_operations(family, texts[0][0]))


def _ours(path: str, dtype: str, texts: Texts) -> Rows:
    model: Any = load("side", path, device="cpu", dtype=dtype).model
    rows = []
    for prompt, answer in texts:
        sequence = model.new_sequence()
        first = sequence.prefill(prompt)[None]
        rows.append(torch.cat([first, sequence.extend(answer[:-1])]).float())
    del model, sequence
    gc.collect()
    return rows


def _transformers(path: str) -> Any:
    import transformers

    hub: Any = transformers
    hub.logging.disable_progress_bar()
    return hub.AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval()


def _theirs(family: Any, texts: Texts) -> dict[str, Rows]:
    def rows() -> Rows:
        found = []
        for prompt, answer in texts:
            ids = torch.tensor([[*prompt.token_ids, *answer[:-1]]])
            with torch.inference_mode():
                logits = family(ids, logits_to_keep=len(answer)).logits
            found.append(logits[0].float())
        return found

    found = {"transformers": rows()}
    family.set_attn_implementation("eager")
    found["transformers, eager attention"] = rows()
    family.set_attn_implementation("sdpa")
    with _with(family, norm=True):
        found["transformers, our norm"] = rows()
    with _with(family, norm=True, rotation=True):
        found["transformers, our norm and rotation"] = rows()
    return found


@contextmanager
def _with(family: Any, *, norm: bool = False, rotation: bool = False) -> Iterator[None]:
    """Transformers' model with our order of roundings in its norms and rotations."""
    module: Any = sys.modules[type(family.model).__module__]
    kind = type(family.model.norm)
    before = kind.forward, module.apply_rotary_pos_emb
    if norm:
        kind.forward = lambda own, x: _norm(x, own.weight, own.variance_epsilon)
    if rotation:
        module.apply_rotary_pos_emb = lambda q, k, cos, sin, *_, **__: (
            _rotated(q, cos, sin),
            _rotated(k, cos, sin),
        )
    try:
        yield
    finally:
        kind.forward, module.apply_rotary_pos_emb = before


def _norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """As :class:`edgecloud.models.decoder.Decoder` has it: rounded once, after the weight."""
    return torch.rms_norm(x, (x.shape[-1],), weight, epsilon)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As the decoder has it: the second product is added before it is rounded."""
    half = x.shape[-1] // 2
    signed = torch.cat((-sin[..., :half], sin[..., half:]), -1)[:, None]
    return (x * cos[:, None]).addcmul_(x.roll(half, -1), signed)


def _compared(found: dict[str, Rows]) -> str:
    together = {name: torch.cat(rows) for name, rows in found.items()}
    exact, theirs, ours = (together[name] for name in ("our float32", "transformers", "ours"))
    rows = []
    for name, logits in together.items():
        same = [(logits.argmax(-1) != other.argmax(-1)).sum() for other in (exact, theirs, ours)]
        far = [(logits - other).square().mean().sqrt() for other in (exact, theirs, ours)]
        rows.append([name, *(f"{one:.4f}" for one in far), *(f"{int(one)}" for one in same)])
    heads = ["", "rms from our float32", "from transformers", "from ours"]
    heads += ["other first choices than our float32", "than transformers", "than ours"]
    return f"{len(exact)} places\n{_table(rows, heads)}"


def _parted(found: dict[str, Rows], tokenizer: Any, names: Sequence[str]) -> str:
    rows = []
    for number, name in enumerate(names):
        ours, theirs = found["ours"][number], found["transformers"][number]
        for place in (ours.argmax(-1) != theirs.argmax(-1)).nonzero()[:, 0].tolist():
            one, other = int(ours[place].argmax()), int(theirs[place].argmax())
            said = f"{tokenizer.decode([one])!r}, {tokenizer.decode([other])!r}"
            for form, logits in found.items():
                a, b = logits[number][place, [one, other]].tolist()
                step = 2.0 ** (math.floor(math.log2(abs(max(a, b)))) - 7)
                rows.append(
                    [name, place, said, form, f"{a:.4f}", f"{b:.4f}", f"{(a - b) / step:+.1f}"]
                )
    heads = [
        "prompt",
        "token",
        "ours, transformers'",
        "form",
        "logit",
        "other",
        "steps of bfloat16",
    ]
    return _table(rows, heads)


def _operations(family: Any, prompt: Prompt) -> str:
    """Single operations of the first layer on the prompt, ours beside transformers' own."""
    layer, attention = family.model.layers[0], family.model.layers[0].self_attn
    module: Any = sys.modules[type(family.model).__module__]
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    with torch.inference_mode():
        hidden = family.model.embed_tokens(torch.tensor([prompt.token_ids]))
        normed = layer.input_layernorm(hidden)
        norm = layer.input_layernorm
        pairs["norm: rounded after the weight; before it and after it"] = (
            _norm(hidden, norm.weight, norm.variance_epsilon),
            normed,
        )
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
        apart = [part(normed) for part in parts]
        pairs["queries, keys, values: one product; three"] = (
            functional.linear(
                normed,
                torch.cat([part.weight for part in parts]),
                torch.cat([part.bias for part in parts]),
            ),
            torch.cat(apart, -1),
        )
        heads = [one.view(*one.shape[:2], -1, attention.head_dim).transpose(1, 2) for one in apart]
        cos, sin = family.model.rotary_emb(hidden, torch.arange(hidden.shape[1])[None])
        turned = module.apply_rotary_pos_emb(heads[0], heads[1], cos, sin)
        pairs["rotation: one product rounded; both"] = (_rotated(heads[0], cos, sin), turned[0])
        shared = heads[0].shape[1] // heads[1].shape[1]
        keys, values = (one.repeat_interleave(shared, 1) for one in (turned[1], heads[2]))
        dense = functional.scaled_dot_product_attention(turned[0], keys, values, is_causal=True)
        pairs["attention: keys shared; repeated"] = (
            functional.scaled_dot_product_attention(
                turned[0], turned[1], heads[2], is_causal=True, enable_gqa=True
            ),
            dense,
        )
        scores = turned[0] @ keys.transpose(2, 3) * attention.head_dim**-0.5
        hiding = torch.full(scores.shape[-2:], float("-inf")).triu(1)
        shares = (scores + hiding.bfloat16()).float().softmax(-1).bfloat16()
        pairs["attention, transformers' two forms: eager; sdpa"] = (shares @ values, dense)
        mlp = layer.mlp
        pairs["gate and up: one product; two"] = (
            functional.linear(normed, torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])),
            torch.cat([mlp.gate_proj(normed), mlp.up_proj(normed)], -1),
        )
    rows = []
    for name, (own, other) in pairs.items():
        differ = (own != other).double().mean()
        relative = (own.float() - other.float()).norm() / other.float().norm()
        rows.append([name, f"{differ:.1%}", f"{relative:.1e}"])
    return _table(rows, ["first layer", "numbers that differ", "difference, relative"])


def _table(rows: Sequence[Sequence[Any]], heads: Sequence[str]) -> str:
    return tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
