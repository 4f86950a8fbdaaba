"""Packing, training, storing and loading of a tiny thinker."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from edgecloud.embedded.factory.corpus import Corpus, make_corpus
from edgecloud.embedded.factory.evaluate import cider, decode, score
from edgecloud.embedded.factory.layout import checkpoint_config, save_weights, write_settings
from edgecloud.embedded.factory.miniature import Miniature, PromptIds, load_miniature, pack
from edgecloud.embedded.factory.train import Schedule, train
from edgecloud.models.features import audio_token_count
from edgecloud.models.prompts import instruction
from tests.embedded.conftest import TINY

pytest.importorskip("espeakng_loader")

SCHEDULE = Schedule(steps=6, clips=4, texts=2, peak_rate=3e-3, warmup_steps=2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, feature_settings: Path) -> Corpus:
    folder: Path = tmp_path_factory.mktemp("corpus")
    return make_corpus("train", 16, seed=1, folder=folder, checkpoint=feature_settings, workers=1)


def tiny(tokenizer: Tokenizer) -> Miniature:
    torch.manual_seed(3)
    return Miniature(checkpoint_config(TINY, tokenizer))


def test_packed_texts_do_not_see_each_other(tokenizer: Tokenizer, corpus: Corpus) -> None:
    model, ids = tiny(tokenizer).eval(), PromptIds(tokenizer)
    features = corpus.features(0)
    prefix = ids.prefix(len(features))
    texts = [
        ids.text(instruction("english", "concise"), "a sad man"),
        ids.text(instruction("chinese", "default"), "一位男士语速缓慢。"),
    ]

    def logits(row: list[object]) -> torch.Tensor:
        packed = pack([prefix], [row], pad_id=0)  # type: ignore[list-item]
        audio, _ = model.encode_audio([features])
        hidden = model.think(
            model.embed(packed.ids, audio), packed.positions, {"full_attention": packed.mask}
        )
        return model.logits(hidden[0, len(prefix) :])

    with torch.inference_mode():
        both = logits(list(texts))
        second = logits([texts[1]])
    torch.testing.assert_close(both[-len(second) :], second, rtol=1e-4, atol=1e-5)


def test_labels_are_the_caption_and_its_end(tokenizer: Tokenizer) -> None:
    ids = PromptIds(tokenizer)
    example = ids.text("say", "a man")
    packed = pack([ids.prefix(100)], [[example]], pad_id=0)
    labels = packed.labels[packed.labels >= 0].tolist()
    assert labels == list(example.caption_ids)
    assert labels[-1] == ids.end_of_turn
    assert int((packed.ids == ids.audio).sum()) == audio_token_count(100)


def test_interrupted_training_ends_where_unbroken_training_does(
    tokenizer: Tokenizer, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecloud.embedded.factory.train._CHECKPOINT_STEPS", 2)
    ids = PromptIds(tokenizer)

    class Killed(Exception):
        pass

    def kill_after_five(step: int, _loss: float) -> None:
        if step == 5:
            raise Killed

    unbroken = tiny(tokenizer)
    seen: list[float] = []
    train(
        unbroken,
        corpus,
        ids,
        SCHEDULE,
        seed=1,
        title="a",
        checkpoint=tmp_path / "a.pt",
        on_step=lambda _, loss: seen.append(loss),
    )
    assert seen[-1] < seen[0]
    with pytest.raises(Killed):
        train(
            tiny(tokenizer),
            corpus,
            ids,
            SCHEDULE,
            seed=1,
            title="b",
            checkpoint=tmp_path / "b.pt",
            on_step=kill_after_five,
        )
    resumed = tiny(tokenizer)
    steps: list[int] = []
    train(
        resumed,
        corpus,
        ids,
        SCHEDULE,
        seed=1,
        title="b",
        checkpoint=tmp_path / "b.pt",
        on_step=lambda step, _: steps.append(step),
    )
    assert steps == [5, 6]
    for one, other in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_familys_class_gives_the_same_logits(
    tokenizer: Tokenizer, corpus: Corpus, tmp_path: Path
) -> None:
    model, ids = tiny(tokenizer), PromptIds(tokenizer)
    write_settings(tmp_path, size=TINY, tokenizer=tokenizer)
    save_weights(tmp_path, audio_tower=model.audio_tower, language_model=model.language_model)
    ours = load_miniature(tmp_path)
    theirs = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        tmp_path, dtype=torch.float32
    )
    theirs.eval()  # type: ignore[no-untyped-call]
    features = corpus.features(1)
    tokens = [*ids.prefix(len(features)), *ids.text(instruction("english", "default")).prompt_ids]
    input_ids = torch.tensor([tokens])
    positions = torch.arange(len(tokens)).unsqueeze(0)
    with torch.inference_mode():
        audio, _ = ours.encode_audio([features])
        expected = ours.logits(ours.think(ours.embed(input_ids, audio), positions, None))
        output = theirs(
            input_ids=input_ids,
            input_features=torch.from_numpy(features.T.copy()).float().unsqueeze(0),
            feature_attention_mask=torch.ones(1, len(features), dtype=torch.long),
            attention_mask=torch.ones_like(input_ids),
        )
    torch.testing.assert_close(output.logits, expected, rtol=1e-4, atol=1e-4)


def test_batched_decoding_agrees_with_one_by_one(tokenizer: Tokenizer, corpus: Corpus) -> None:
    model, ids = tiny(tokenizer).eval(), PromptIds(tokenizer)
    text = instruction("english", "concise")
    together = decode(model, corpus, range(4), ids, text, max_tokens=5)
    alone = [decode(model, corpus, [i], ids, text, max_tokens=5)[0] for i in range(4)]
    assert [d.token_ids for d in together] == [d.token_ids for d in alone]


def test_scores_are_in_range(tokenizer: Tokenizer, corpus: Corpus) -> None:
    scores = score(tiny(tokenizer).eval(), corpus, tokenizer, split="train", language="english")
    assert 0 <= scores.emotion_accuracy <= 1
    assert [threshold for threshold, _ in scores.call_rates] == [1.0, 1.5, 2.0, 4.0]


@pytest.mark.parametrize("language", ["chinese", "english"])
def test_a_reference_scores_higher_than_another_clips(language: str) -> None:
    texts = {
        "chinese": ["一位男士语速缓慢，声音微弱", "一位女士语速很快，声音洪亮", "听起来很开心的人"],
        "english": ["a man speaks slowly", "one woman talks very fast", "somebody sounds happy"],
    }[language]
    references = [[text] for text in texts]
    right = cider(texts, references, language)  # type: ignore[arg-type]
    wrong = cider(texts[1:] + texts[:1], references, language)  # type: ignore[arg-type]
    assert right > 5 * wrong
