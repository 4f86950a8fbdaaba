"""Makes the embedded edge of another family: a Qwen2-Audio in miniature, trained on the synthetic corpus.

    python -m edgecloud.embedded.factory.qwen2_audio --out build/qwen2-audio

Nothing of it is the pair's but the corpus: the family, the tokenizer (merges, size and special tokens), the
template and the features (80 mel bins, padded to 30 s) are its own. A build that was interrupted goes on where it
stopped when it is started again with the same folder. `--install` copies the result into the package.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Cache, Qwen2AudioConfig, Qwen2AudioProcessor, Qwen2Model
from transformers.models.qwen2_audio.modeling_qwen2_audio import (
    Qwen2AudioEncoder,
    Qwen2AudioMultiModalProjector,
)
from transformers.models.whisper.modeling_whisper import sinusoids

from edgecloud.embedded.factory import tokenizer as tok
from edgecloud.embedded.factory.card import CARD_NAME
from edgecloud.embedded.factory.corpus import make_corpus
from edgecloud.embedded.factory.evaluate import as_row, score
from edgecloud.embedded.factory.layout import (
    EDGE_SIZE,
    WEIGHTS_NAME,
    Size,
    save_parts,
    write_ends,
    write_feature_settings,
    write_json,
)
from edgecloud.embedded.factory.manifests import SEED
from edgecloud.embedded.factory.miniature import PromptIds, Trainable
from edgecloud.embedded.factory.sentences import Split
from edgecloud.embedded.factory.tokenizer import save_tokenizer, train_tokenizer
from edgecloud.embedded.factory.train import Schedule, train
from edgecloud.embedded.pair import OTHER_CHECKPOINT
from edgecloud.errors import EdgeCloudError
from edgecloud.models.cached import cache_argument
from edgecloud.models.features import CONTEXT_FRAMES, audio_token_count, padded
from edgecloud.models.prompts import LANGUAGES

MEL_BINS: Final = 80
WINDOW_S: Final = 30
VOCABULARY_SIZE: Final = 1152
SPECIAL_TOKENS: Final = (
    tok.END_OF_TEXT,
    "<|im_start|>",
    tok.END_OF_TURN,
    tok.AUDIO_START,
    tok.AUDIO,
    tok.AUDIO_END,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides what a build makes."""

    seed: int
    training_clips: int
    test_clips: int
    size: Size
    schedule: Schedule


PLAN: Final = Plan(
    seed=SEED + 1,
    training_clips=2400,
    test_clips=128,
    size=EDGE_SIZE,
    schedule=Schedule(
        steps=300, clips=16, texts=3, peak_rate=3e-3, warmup_steps=15, listening_weight=0.1
    ),
)


class Qwen2AudioPromptIds(PromptIds):
    """The request as Qwen2-Audio's own template writes it."""

    before = "Audio 1: "
    after = "\n"
    context_frames = CONTEXT_FRAMES


class Qwen2AudioMiniature(Trainable):
    """Whisper's encoder, a projection, Qwen2's text model and an output layer of its own."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Random weights; `config` is the content of a checkpoint's config.json."""
        super().__init__()
        whole = Qwen2AudioConfig(**config)
        text: Any = whole.text_config
        self.audio_tower = Qwen2AudioEncoder._from_config(  # type: ignore[no-untyped-call]
            whole.audio_config, attn_implementation="sdpa"
        )
        positions = self.audio_tower.embed_positions.weight
        positions.data.copy_(sinusoids(*positions.shape))
        self.projector = Qwen2AudioMultiModalProjector(whole)
        self.language_model = Qwen2Model._from_config(text, attn_implementation="sdpa")  # type: ignore[no-untyped-call]
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        nn.init.normal_(self.lm_head.weight, std=text.initializer_range)
        self.audio_id = int(whole.audio_token_index)

    def encode_audio(self, features: Sequence[npt.NDArray[np.float16]]) -> tuple[Tensor, list[int]]:
        """As declared, of features (T, bands) with their two frames of context.

        The family pads to 30 s and lets nothing attend to the silence, so padding to the longest clip gives the
        same; its encoder takes 30 s alone, hence its parts one by one.
        """
        tower = self.audio_tower
        window = max(map(len, features))
        window += window % 2
        device = tower.conv1.weight.device
        mel = torch.from_numpy(np.stack([padded(clip.T, window) for clip in features])).float()
        frames = [len(clip) - CONTEXT_FRAMES for clip in features]
        hidden = nn.functional.gelu(tower.conv1(mel.to(device)))
        hidden = nn.functional.gelu(tower.conv2(hidden)).permute(0, 2, 1)
        hidden = hidden + tower.embed_positions.weight[: hidden.shape[1]]
        heard = torch.tensor([(count - 1) // 2 + 1 for count in frames], device=device)
        places = torch.arange(hidden.shape[1], device=device)
        mask = (places < heard[:, None])[:, None, None]
        for layer in tower.layers:
            hidden = layer(hidden, mask)
        pooled = tower.avg_pooler(hidden.permute(0, 2, 1)).permute(0, 2, 1)
        audio = self.projector(tower.layer_norm(pooled))
        counts = [audio_token_count(count) for count in frames]
        return torch.cat([row[:count] for row, count in zip(audio, counts, strict=True)]), counts

    def think(
        self,
        embeddings: Tensor,
        positions: Tensor,
        mask: Tensor | Mapping[str, Tensor] | None,
        *,
        cache: Cache | None = None,
    ) -> Tensor:
        """Last hidden states (B, L, hidden), as declared."""
        hidden: Tensor = self.language_model(
            inputs_embeds=embeddings,
            position_ids=positions,
            attention_mask=mask,
            use_cache=cache is not None,
            **{cache_argument(self.language_model): cache},
        ).last_hidden_state
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (…, V) over the vocabulary, from last hidden states (…, hidden)."""
        scores: Tensor = self.lm_head(hidden)
        return scores


def checkpoint_config(size: Size, tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of config.json, as Qwen2-Audio publishes it."""
    return {
        "architectures": ["Qwen2AudioForConditionalGeneration"],
        "model_type": "qwen2_audio",
        "audio_token_index": tokenizer.token_to_id(tok.AUDIO),
        "audio_config": {
            "model_type": "qwen2_audio_encoder",
            "num_mel_bins": MEL_BINS,
            "encoder_layers": size.audio_layers,
            "encoder_attention_heads": size.audio_heads,
            "encoder_ffn_dim": size.audio_feed_forward,
            "d_model": size.audio_width,
            "max_source_positions": 50 * WINDOW_S,
            "dropout": 0.0,
        },
        "text_config": {
            "model_type": "qwen2",
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": size.hidden,
            "intermediate_size": size.feed_forward,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.key_value_heads,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "initializer_range": 0.02,
        },
        "torch_dtype": "float16",
    }


def write_settings(folder: Path, *, size: Size, tokenizer: Tokenizer) -> None:
    """Write everything but the weights: configuration, tokenizer and feature settings."""
    # The template is a property that asks nothing of the processor it is of.
    published: Any = Qwen2AudioProcessor.default_chat_template
    template: str = published.fget(None)
    save_tokenizer(tokenizer, folder, special=SPECIAL_TOKENS, template=template)
    write_json(folder / "config.json", checkpoint_config(size, tokenizer))
    write_ends(folder, tokenizer)
    write_feature_settings(folder, bins=MEL_BINS, window_s=WINDOW_S)


def build(plan: Plan, out: Path, *, workers: int) -> None:
    """Make the checkpoint that `plan` says in `out`, with its card; what is there is not made again."""
    started = time.monotonic()
    work, folder = out / "work", out / "qwen2-audio"
    tokenizer = train_tokenizer(seed=plan.seed, size=VOCABULARY_SIZE, special=SPECIAL_TOKENS)
    write_settings(folder, size=plan.size, tokenizer=tokenizer)
    sizes: dict[Split, int] = {"train": plan.training_clips, "test": plan.test_clips}
    corpora = {
        split: make_corpus(
            split,
            count,
            # The clips of the pair: what differs is the model.
            seed=SEED,
            folder=work,
            checkpoint=folder,
            workers=workers,
            pads=True,
        )
        for split, count in sizes.items()
    }
    torch.manual_seed(plan.seed)
    model = Qwen2AudioMiniature(checkpoint_config(plan.size, tokenizer))
    train(
        model,
        corpora["train"],
        Qwen2AudioPromptIds(tokenizer),
        plan.schedule,
        seed=plan.seed,
        title="qwen2-audio",
        checkpoint=work / "qwen2-audio.pt",
    )
    save_parts(
        folder,
        {
            "audio_tower.": model.audio_tower,
            "multi_modal_projector.": model.projector,
            "language_model.model.": model.language_model,
            "language_model.lm_head.": model.lm_head,
        },
    )
    rows = [
        as_row(
            score(
                model,
                corpora["test"],
                tokenizer,
                split="test",
                language=language,
                prompts=Qwen2AudioPromptIds,
            )
        )
        for language in LANGUAGES
    ]
    card = _card(plan, model, folder, rows, minutes=(time.monotonic() - started) / 60)
    (folder / CARD_NAME).write_text(card, encoding="utf-8")


def _card(
    plan: Plan,
    model: Trainable,
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    minutes: float,
) -> str:
    weights = folder / WEIGHTS_NAME
    files = sorted(path for path in folder.iterdir() if path.name != CARD_NAME)
    lines = [
        "# Model card: the embedded edge of another family",
        "",
        "A miniature Qwen2-Audio in the published layout, with a tokenizer, special tokens, a template and",
        "features of its own, trained from random weights on the corpus of the embedded pair (its card says",
        "more of that). It exists so that two families and two vocabularies can be decoded together with no",
        "download: `--edge-model embedded-qwen2-audio`.",
        "",
        f"{model.parameter_count():,} parameters, {weights.stat().st_size:,} bytes of weights in float16; a",
        f"vocabulary of {VOCABULARY_SIZE:,}; {MEL_BINS} mel bins, padded to {WINDOW_S} s.",
        "",
        f"Training clips {plan.training_clips}; " + _listed(asdict(plan.size)) + "; seed "
        f"{plan.seed}; "
        + _listed(asdict(plan.schedule))
        + f". The build took {minutes:.1f} minutes,",
        f"{torch.get_num_threads()} threads, others on the machine.",
        "",
        "Scores of greedy captions of the embedded corpus, by the same model in float32:",
        "",
        "| " + " | ".join(rows[0]) + " |",
        "| " + " | ".join("---" for _ in rows[0]) + " |",
        *("| " + " | ".join(map(str, row.values())) + " |" for row in rows),
        "",
        "| file | sha256 |",
        "| --- | --- |",
        *(f"| {path.name} | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |" for path in files),
        "",
        "    python -m edgecloud.embedded.factory.qwen2_audio --out build/qwen2-audio --install",
        "",
        "makes it again; another processor or library version rounds differently.",
    ]
    return "\n".join(lines) + "\n"


def _listed(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m edgecloud.embedded.factory.qwen2_audio",
        description=__doc__.split("\n\n")[0],
    )
    parser.add_argument("--out", type=Path, default=Path("build/qwen2-audio"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=PLAN.schedule.steps)
    parser.add_argument("--install", action="store_true", help="copy the result into the package")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    plan = replace(PLAN, schedule=replace(PLAN.schedule, steps=options.steps))
    try:
        build(plan, options.out, workers=options.threads)
        if options.install:
            shutil.copytree(options.out / "qwen2-audio", OTHER_CHECKPOINT, dirs_exist_ok=True)
    except (EdgeCloudError, OSError) as error:
        sys.stderr.write(f"build failed: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
