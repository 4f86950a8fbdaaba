"""Drafting in another model's vocabulary: what is shared, how the rest is read, and that nothing gets lost."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers import models as token_models
from transformers import PreTrainedTokenizerFast

from edgecloud.contracts import Prompt
from edgecloud.errors import ModelError
from edgecloud.models.spelling import Vocabulary, spelled
from edgecloud.models.translation import TranslatedModel, Translation
from tests.conftest import byte_tokenizer

BYTES = tuple(bytes([value]) for value in range(256))
WORDS = "一种平静的声音 she speaks calmly, 高兴 and ünder 🙂"
END = "</s>"


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def sentencepiece() -> Tokenizer:
    """As Llama 2 and Gemma have it: a mark for spaces, single bytes for what no token spells."""
    tokenizer = Tokenizer(token_models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\u2581", behavior="merged_with_next")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    single = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=["<unk>", END, *single], show_progress=False
    )
    tokenizer.train_from_iterator(["she speaks calmly and in a calm voice"] * 4, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = []  # the trainer knows no other way to have bytes in the vocabulary
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_special_tokens([AddedToken(END, special=True), AddedToken("<unk>", special=True)])
    return tokenizer


def vocabulary(*texts: bytes) -> Vocabulary:
    return Vocabulary((*texts, None), ((len(texts), END),))


@pytest.mark.parametrize("make", [byte_tokenizer, lambda: byte_tokenizer(WORDS), sentencepiece])
@pytest.mark.parametrize("text", [WORDS, "calm voice", "é", "🙂🙃", " two  spaces"])
def test_tokens_spell_the_text_they_were_made_of(make: object, text: str) -> None:
    tokenizer = wrapped(make())  # type: ignore[operator]
    found = spelled(tokenizer, [])
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert b"".join(found.spellings[token] or b"" for token in ids).decode() == text


def test_single_bytes_of_sentencepiece_give_way_to_characters() -> None:
    tokenizer = wrapped(sentencepiece())
    own = spelled(tokenizer, [tokenizer.get_vocab()[END]])
    other = vocabulary(b"a", b" voice", b"\n")
    found = Translation.between(own, other)
    read = [tokenizer.convert_ids_to_tokens(int(token)) for token in found.sources]
    assert read == ["a", "\u2581voice", "<0x0A>", END]


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    words = Tokenizer(token_models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    words.decoder = decoders.WordPiece()
    with pytest.raises(ModelError, match="neither byte-level nor SentencePiece's"):
        spelled(wrapped(words), [])


def test_vocabularies_without_a_text_in_common_are_refused() -> None:
    with pytest.raises(ModelError, match="have no text in common"):
        Translation.between(vocabulary(b"a"), vocabulary(b"b"))
    with pytest.raises(ModelError, match="no end of text"):
        Translation.between(vocabulary(b"a"), Vocabulary((b"a",), ()))


def test_the_end_of_text_is_drafted_as_the_clouds_own() -> None:
    edge = Vocabulary((b"a", None, None, None), ((1, "<eos>"), (2, "<turn>"), (3, "<pad>")))
    cloud = Vocabulary((None, b"a", None, None), ((2, "<stop>"), (0, "<turn>"), (3, "<other>")))
    found = Translation.between(edge, cloud)
    assert found.sources.tolist() == [2, 0, 1, -1]
    assert (found.shared, found.end, found.edge_ends) == (1, 2, (1, 3))
    alike = Translation.between(edge, edge)
    assert alike.sources.tolist() == [0, 1, 2, 3]
    assert (alike.end, alike.edge_ends) == (1, (1,))


def test_any_end_of_the_edge_is_drafted_as_the_one_that_the_cloud_has() -> None:
    edge = Vocabulary((*BYTES, None, None), ((256, "<eos>"), (257, "<turn>")))
    found = Translation.between(edge, vocabulary(*BYTES))
    logits = torch.zeros(1, 258)
    logits[0, 257] = 3.0
    model = TranslatedModel(Counting(), found)  # type: ignore[arg-type]
    assert model._drafted(logits)[0, 256] == 3.0


some = st.lists(st.binary(min_size=1, max_size=4), max_size=40, unique=True)


@given(edge=some, cloud=some, written=st.lists(st.integers(0, 295), max_size=12))
def test_what_the_cloud_writes_is_read_byte_for_byte(
    edge: list[bytes], cloud: list[bytes], written: list[int]
) -> None:
    one, other = (vocabulary(*dict.fromkeys((*BYTES, *texts))) for texts in (edge, cloud))
    found = Translation.between(one, other)
    tokens = [token for token in written if token < other.texts]
    read = [token for written in tokens for token in found.readings[written]]
    assert b"".join(one.spellings[token] or b"?" for token in read) == b"".join(
        other.spellings[token] or b"?" for token in tokens
    )
    for token, source in enumerate(found.sources.tolist()):
        if source >= 0 and other.spellings[token] is not None:
            assert one.spellings[source] == other.spellings[token]
            assert found.readings[token] == (source,)


class Counting:
    """Logits that say which tokens the cache holds: the last token, and how many."""

    vocab_size = 257
    cache_bytes = 0

    def __init__(self) -> None:
        self.held: list[int] = []
        self.prompt = 0

    @property
    def length(self) -> int:
        return len(self.held)

    def prefill(self, prompt: Prompt) -> torch.Tensor:
        self.held = list(prompt.token_ids)
        self.prompt = len(self.held)
        return self._row()

    def extend(self, tokens: Sequence[int]) -> torch.Tensor:
        rows = []
        for token in tokens:
            self.held.append(token)
            rows.append(self._row())
        return torch.stack(rows)

    def rollback(self, length: int) -> None:
        assert self.prompt <= length <= len(self.held)
        del self.held[length:]

    def _row(self) -> torch.Tensor:
        row = torch.zeros(self.vocab_size)
        row[self.held[-1]] = float(len(self.held))
        return row


@given(data=st.data())
def test_cache_and_logits_follow_any_course_of_drafts_and_corrections(data: st.DataObject) -> None:
    edge = vocabulary(*BYTES)
    cloud = vocabulary(*BYTES, b"ab", "声".encode(), b"calm")
    model = Counting()
    translated = TranslatedModel(model, Translation.between(edge, cloud))  # type: ignore[arg-type]
    own = Prompt(tuple(b"the edge's own request"))
    translated.prefill(Prompt((1, 2, 3), edge=own))
    text: list[int] = []
    for _ in range(data.draw(st.integers(1, 6))):
        keep = data.draw(st.integers(0, len(text)))
        translated.rollback(3 + keep)
        del text[keep:]
        new = data.draw(st.lists(st.sampled_from([65, 97, 200, 256, 257, 258, 259]), min_size=1))
        logits = translated.extend(new)
        text += new
        assert logits.shape == (len(new), len(cloud.spellings))
        assert translated.length == 3 + len(text)
        said = b"".join(cloud.spellings[token] or b" " for token in text)
        assert bytes(t for t in model.held[own.length :] if t < 256) == said.replace(b" ", b"")
        last = model.held[-1]
        assert logits[-1, cloud.spellings.index(BYTES[last]) if last < 256 else 259] == len(
            model.held
        )
    assert torch.isneginf(logits[:, 256:259]).all()
    with pytest.raises(ValueError, match="is outside"):
        translated.rollback(2)


def test_a_prompt_in_the_clouds_form_alone_is_refused() -> None:
    found = Translation.between(vocabulary(*BYTES), vocabulary(*BYTES))
    with pytest.raises(ValueError, match="in the cloud's form alone"):
        TranslatedModel(Counting(), found).prefill(Prompt((1,)))  # type: ignore[arg-type]
