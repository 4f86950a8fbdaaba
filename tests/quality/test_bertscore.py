"""BERTScore: from a model folder, or null with the reason."""

from __future__ import annotations

import json
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from edgecloud.errors import MetricError
from edgecloud.quality import bertmodel
from edgecloud.quality.metrics.bertscore import (
    NAMES,
    BertScoreSettings,
    _tokenizer,
    bertscore,
    bertscore_settings,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two tiny layers with random weights: enough to run, not to judge."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bert-score's plotting dependencies, at import
        pytest.importorskip("bert_score", reason="the extra bertscore is not installed")
    path = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "calm", "happy", "sad", "voice"]
    (path / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=512,
    )
    transformers.BertModel(config).save_pretrained(path)
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return path


def test_without_a_model_it_is_null_and_says_which_option_to_give() -> None:
    result = bertscore(["a"], [["a"]], settings=None)
    assert result.corpus == dict.fromkeys(NAMES)
    assert result.per_sample == (dict.fromkeys(NAMES),)
    assert "--bertscore-model-zh" in result.notes["bertscore_f1"]


def test_a_folder_that_is_not_a_checkpoint_is_null_with_the_reason(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", "../not/an/id"):
        result = bertscore(["a"], [["a"]], settings=BertScoreSettings(path))
        assert set(result.corpus.values()) == {None}
        assert "is not a checkpoint folder" in result.notes["bertscore_f1"]


def test_a_broken_checkpoint_is_null_with_the_reason(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    result = bertscore(["a"], [["a"]], settings=BertScoreSettings(tmp_path))
    assert "cannot be used" in result.notes["bertscore_f1"]
    result = bertscore(["a"], [["a"]], settings=BertScoreSettings(folder, layers=3))
    assert "has 2 layers, not 3" in result.notes["bertscore_f1"]


def test_without_bert_score_it_is_null_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "bert_score", None)
    result = bertscore(["a"], [["a"]], settings=BertScoreSettings(tmp_path))
    assert "pip install 'edgecloud[bertscore]'" in result.notes["bertscore_f1"]


def test_the_best_reference_counts_and_long_and_empty_captions_are_handled(folder: Path) -> None:
    result = bertscore(
        ["a calm voice", "", "calm " * 2000, "a sad voice"],
        [["a happy voice", "a calm voice"], ["sad"], ["calm"], ["", "a happy voice"]],
        settings=BertScoreSettings(folder),
    )
    first, empty, long, other = result.per_sample
    assert first["bertscore_f1"] == pytest.approx(1.0, abs=1e-4)
    assert set(empty.values()) == {0.0}
    assert long["bertscore_f1"] is not None
    assert other["bertscore_f1"] is not None
    assert other["bertscore_f1"] < 1.0
    assert result.corpus["bertscore_f1"] is not None
    assert "layer 2 (the last" in result.notes["bertscore_f1"]
    assert result.info["model"] == folder.name


def test_captions_that_are_all_empty_need_no_model(tmp_path: Path) -> None:
    result = bertscore(["", " "], [["a"], ["a"]], settings=BertScoreSettings(tmp_path))
    assert set(result.corpus.values()) == {0.0}


def test_lengths_must_agree() -> None:
    with pytest.raises(MetricError):
        bertscore(["a"], [], settings=None)


def test_a_model_that_does_not_know_the_language_is_refused(folder: Path) -> None:
    result = bertscore(["语气平静"], [["语气开心"]], settings=BertScoreSettings(folder))
    assert set(result.corpus.values()) == {None}
    assert "does not know 100% of the text's tokens" in result.notes["bertscore_f1"]
    assert "give a model of this language" in result.notes["bertscore_f1"]


def test_the_model_is_named_beside_its_values(folder: Path) -> None:
    result = bertscore(["a calm voice"], [["a voice"]], settings=BertScoreSettings(folder, 1))
    assert result.info["model"] == folder.name
    assert result.info["layer"] == "layer 1 (as asked)"
    assert len(result.info["sha256"]) == 64
    assert "values of this model and layer only" in result.notes["bertscore_f1"]


def test_values_do_not_depend_on_how_texts_fall_into_batches(folder: Path) -> None:
    texts = ["calm", "a sad voice " * 9, "a happy voice", "sad", "", "voice a " * 30]
    references = [["a calm voice", "calm"], ["a voice"], ["happy"], ["calm"], ["a"], ["voice"]]
    whole = bertscore(texts, references, settings=BertScoreSettings(folder))
    single = bertscore(texts, references, settings=BertScoreSettings(folder, batch_size=1))
    for one, other in zip(whole.per_sample, single.per_sample, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_hub_id_without_a_network_is_null_with_the_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_ENDPOINT", "HTTPS_PROXY", "https_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    result = bertscore(["a"], [["a"]], settings=BertScoreSettings("someone/no-model"))
    assert set(result.corpus.values()) == {None}
    assert "huggingface.co cannot be reached" in result.notes["bertscore_f1"]


def test_a_hub_id_is_looked_for_in_the_cache_when_the_hub_is_off(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    asked: list[str] = []

    def from_pretrained(name: str) -> Any:
        asked.append(name)
        raise OSError("it is not in the cache")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", from_pretrained)
    result = bertscore(["a"], [["a"]], settings=BertScoreSettings("someone/no-model"))
    assert asked == ["someone/no-model"]
    assert "it is not in the cache" in result.notes["bertscore_f1"]


def test_a_roberta_reads_the_first_word_as_a_word(tmp_path: Path) -> None:
    """transformers 5 ignores the leading space that bert-score asks for at each call."""
    pytest.importorskip("bert_score", reason="the extra bertscore is not installed")
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    words = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words.train_from_iterator(
        ["a calm voice"] * 9, vocab_size=300, special_tokens=special, show_progress=False
    )
    words.save_model(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}')
    config = transformers.RobertaConfig(
        vocab_size=300,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=514,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    transformers.RobertaModel(config).save_pretrained(tmp_path)
    found = _tokenizer(str(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path))
    assert found.tokenize("calm voice")[0] == "Ġcalm"
    assert found.model_max_length == 512
    result = bertscore(
        ["calm voice", "calm " * 2000],
        [["a calm voice"], ["calm"]],
        settings=BertScoreSettings(tmp_path),
    )
    assert all(row["bertscore_f1"] is not None for row in result.per_sample)


def test_english_without_a_model_takes_the_one_of_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert bertscore_settings("english", "given", 3) == BertScoreSettings("given", 3)
    assert bertscore_settings("chinese", None, None) is None
    monkeypatch.setattr(bertmodel, "_BUNDLED_PACKAGE", "no_such_package")
    assert bertscore_settings("english", None, None) is None


def test_the_extras_model_scores_english_and_refuses_chinese() -> None:
    pytest.importorskip("bert_score", reason="the extra bertscore is not installed")
    if (model := bertmodel.bundled_english_model()) is None:
        pytest.skip("the extra bertscore-minilm is not installed")
    settings = bertscore_settings("english", None, None)
    assert settings == BertScoreSettings(model)
    result = bertscore(
        ["a calm voice", "the man is furious"],
        [["a calm voice"], ["a quiet lake"]],
        settings=settings,
    )
    same, other = (row["bertscore_f1"] for row in result.per_sample)
    assert same == pytest.approx(1.0, abs=1e-4)
    assert other is not None
    assert other < 0.6
    assert result.info["model"] == "all-MiniLM-L6-v2"
    chinese = bertscore(["语气平静，情绪低落"], [["他非常开心"]], settings=settings)
    assert chinese.corpus["bertscore_f1"] is None
