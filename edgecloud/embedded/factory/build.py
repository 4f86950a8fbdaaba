"""Makes the embedded corpus and the miniature pair again, from PyPI packages alone.

    python -m edgecloud.embedded.factory.build --out build/reference

A build that was interrupted goes on where it stopped when it is started again with the same
folder. `--install` then copies the results into the package.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from edgecloud.embedded import corpus as embedded
from edgecloud.embedded.factory.card import CARD_NAME, Facts, ModelFacts, card_text
from edgecloud.embedded.factory.corpus import Corpus, make_corpus
from edgecloud.embedded.factory.evaluate import Scores, score
from edgecloud.embedded.factory.layout import (
    CLOUD_SIZE,
    EDGE_SIZE,
    Size,
    checkpoint_config,
    save_weights,
    write_feature_settings,
    write_settings,
)
from edgecloud.embedded.factory.manifests import SEED, write_split
from edgecloud.embedded.factory.miniature import Miniature, PromptIds, load_miniature
from edgecloud.embedded.factory.sentences import Split
from edgecloud.embedded.factory.tokenizer import train_tokenizer
from edgecloud.embedded.factory.train import Schedule, train
from edgecloud.embedded.pair import CLOUD_CHECKPOINT, EDGE_CHECKPOINT
from edgecloud.errors import EdgeCloudError
from edgecloud.models.prompts import LANGUAGES, PROMPT_TYPES, PromptType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides what a build makes."""

    seed: int
    training_clips: int
    dev_clips: int
    test_clips: int
    unseen_clips: int
    edge_size: Size
    edge_schedule: Schedule
    cloud_size: Size
    cloud_schedule: Schedule


PLAN: Final = Plan(
    seed=SEED,
    training_clips=4000,
    dev_clips=192,
    test_clips=128,
    unseen_clips=128,
    edge_size=EDGE_SIZE,
    edge_schedule=Schedule(
        steps=205, clips=16, texts=3, peak_rate=3e-3, warmup_steps=10, listening_weight=0.1
    ),
    cloud_size=CLOUD_SIZE,
    cloud_schedule=Schedule(steps=1300, clips=16, texts=3, peak_rate=1.5e-3, warmup_steps=60),
)


class _Timings:
    """Seconds spent in each part, over all the runs that a build took."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.monotonic() - start
            self._path.write_text(json.dumps(self.seconds))


def build(plan: Plan, out: Path, *, workers: int) -> None:
    """Make everything that `plan` says in `out`: corpus, tokenizer, both models and the card."""
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    timings = _Timings(work / "timings.json")
    write_feature_settings(work / "features")
    sizes: dict[Split, int] = {
        "train": plan.training_clips,
        "dev": plan.dev_clips,
        "test": plan.test_clips,
        "unseen": plan.unseen_clips,
    }
    with timings.measure("corpus"):
        corpora = {
            split: make_corpus(
                split,
                count,
                seed=plan.seed,
                folder=work / "clips",
                checkpoint=work / "features",
                workers=workers,
            )
            for split, count in sizes.items()
        }
        write_split(corpora["test"], "test", out / "embedded", work / "clips", seed=plan.seed)
    with timings.measure("tokenizer"):
        tokenizer = train_tokenizer(seed=plan.seed)
    pair = (
        ("edge", plan.edge_size, plan.edge_schedule),
        ("cloud", plan.cloud_size, plan.cloud_schedule),
    )
    for name, size, schedule in pair:
        folder = out / name
        if (folder / "model.safetensors").exists():
            continue
        with timings.measure(name):
            model = _train_model(
                size, schedule, corpora["train"], tokenizer, work=work, name=name, seed=plan.seed
            )
            write_settings(folder, size=size, tokenizer=tokenizer)
            save_weights(folder, audio_tower=model.audio_tower, language_model=model.language_model)
    held_out: dict[Split, Corpus] = {
        split: corpus for split, corpus in corpora.items() if split != "train"
    }
    with timings.measure("evaluation"):
        models = [
            ModelFacts(
                name=name,
                folder=out / name,
                parameters=load_miniature(out / name).parameter_count(),
                size=size,
                schedule=schedule,
                scores=_all_scores(out / name, held_out, tokenizer),
            )
            for name, size, schedule in pair
        ]
    facts = Facts(
        seed=plan.seed,
        clips={str(split): len(corpus.clips) for split, corpus in corpora.items()},
        hours={str(split): _hours(corpus) for split, corpus in corpora.items()},
        models=models,
        seconds=timings.seconds,
        threads=torch.get_num_threads(),
    )
    (out / CARD_NAME).write_text(card_text(facts), encoding="utf-8")


def _train_model(
    size: Size,
    schedule: Schedule,
    corpus: Corpus,
    tokenizer: Tokenizer,
    *,
    work: Path,
    name: str,
    seed: int,
) -> Miniature:
    torch.manual_seed(seed)
    model = Miniature(checkpoint_config(size, tokenizer))
    train(
        model,
        corpus,
        PromptIds(tokenizer),
        schedule,
        seed=seed,
        title=name,
        checkpoint=work / f"{name}.pt",
    )
    return model


def _all_scores(folder: Path, corpora: dict[Split, Corpus], tokenizer: Tokenizer) -> list[Scores]:
    """The default type on every split; the other types on the dev split, for their lengths."""
    model = load_miniature(folder)
    kinds: list[tuple[Split, PromptType]] = [(split, "default") for split in corpora]
    kinds += [("dev", kind) for kind in PROMPT_TYPES if kind != "default"]
    return [
        score(model, corpora[split], tokenizer, split=split, language=language, prompt_type=kind)
        for split, kind in kinds
        for language in LANGUAGES
    ]


def _hours(corpus: Corpus) -> float:
    return sum(corpus.length(index) for index in range(len(corpus.clips))) / 100 / 3600


def install(out: Path) -> None:
    """Copy the weights, the card and the test corpus of a finished build into the package."""
    package = EDGE_CHECKPOINT.parent
    shutil.copytree(out / "edge", EDGE_CHECKPOINT, dirs_exist_ok=True)
    shutil.copytree(out / "cloud", CLOUD_CHECKPOINT, dirs_exist_ok=True)
    shutil.copytree(out / "embedded", embedded.FOLDER, dirs_exist_ok=True)
    shutil.copy2(out / CARD_NAME, package / CARD_NAME)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m edgecloud.embedded.factory.build", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("build/reference"))
    parser.add_argument("--fresh", action="store_true", help="drop what an earlier build left")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--install", action="store_true", help="copy the results into the package")
    options = parser.parse_args(arguments)
    if options.fresh and options.out.exists():
        shutil.rmtree(options.out)
    torch.set_num_threads(options.threads)
    try:
        build(PLAN, options.out, workers=options.threads)
        if options.install:
            install(options.out)
    except (EdgeCloudError, OSError) as error:
        sys.stderr.write(f"build failed: {error}\n")
        return 1
    sys.stderr.write(f"done: {options.out / CARD_NAME}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
