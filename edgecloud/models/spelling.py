"""The bytes that each token of a vocabulary stands for: what two vocabularies can be compared by."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from edgecloud.errors import ModelError

__all__ = ["Vocabulary", "spelled"]

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"
"""Stands for a space in the tokens of SentencePiece."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the tokens of one model spell.

    ``spellings``: the bytes of each token id, perhaps a part of a character; ``None`` for special tokens.
    ``ends``: ids and names of the tokens that end an answer.
    """

    spellings: tuple[bytes | None, ...]
    ends: tuple[tuple[int, str], ...]

    @property
    def texts(self) -> int:
        """Tokens that stand for text."""
        return sum(spelling is not None for spelling in self.spellings)


def spelled(tokenizer: Any, end_ids: Sequence[int], *, size: int | None = None) -> Vocabulary:
    """The first ``size`` tokens of a tokenizer of transformers that has a ``backend_tokenizer``; all without
    one. ``end_ids`` are those that end an answer.

    Byte-level tokenizers (GPT-2, Qwen, Llama 3) write each byte as a character of its own; those of
    SentencePiece (Llama 2, Gemma) write text, a space as U+2581 and single bytes as ``<0x0A>``.

    Raises:
        ModelError: it writes its tokens in neither way.
    """
    decoder = json.dumps(json.loads(tokenizer.backend_tokenizer.to_str())["decoder"])
    if '"ByteLevel"' in decoder:
        spell = _of_bytes
    elif '"ByteFallback"' in decoder or '"Metaspace"' in decoder:
        spell = _of_text
    else:
        raise ModelError(
            "the tokenizer is neither byte-level nor SentencePiece's, so what its tokens stand for cannot be "
            "told; give two models of one vocabulary"
        )
    added = tokenizer.added_tokens_decoder
    spellings: list[bytes | None] = []
    tokens = tokenizer.convert_ids_to_tokens(list(range(size or len(tokenizer))))
    for index, token in enumerate(tokens):
        if token is None or (index in added and added[index].special):
            spellings.append(None)
        elif index in added:
            spellings.append(added[index].content.encode())
        else:
            spellings.append(spell(token))
    return Vocabulary(tuple(spellings), tuple((index, tokens[index]) for index in end_ids))


def _byte_characters() -> dict[str, int]:
    """The byte of each character of byte-level tokens: printable ones stand for themselves, the others for
    the characters from U+0100 on, in order."""
    alphabet = ByteLevel.alphabet()
    others = iter(sorted(character for character in alphabet if ord(character) > 0xFF))
    return {chr(byte) if chr(byte) in alphabet else next(others): byte for byte in range(256)}


_CHARACTERS = _byte_characters()


def _of_bytes(token: str) -> bytes:
    # A character that is no byte's comes in tokens that were added to the vocabulary as they are read.
    if all(character in _CHARACTERS for character in token):
        return bytes(_CHARACTERS[character] for character in token)
    return token.encode()


def _of_text(token: str) -> bytes:
    if found := _BYTE.fullmatch(token):
        return bytes([int(found[1], 16)])
    return token.replace(_SPACE, " ").encode()
