"""Output tokens with their texts, who chose them, and how unsure the edge was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from edgecloud.contracts import Commit, Draft, Origin, Trace, Verify
from edgecloud.errors import DataError
from edgecloud.textfiles import parse_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Decode", "Doubt", "decoder", "doubts", "first_tokenizer", "pieces"]

_DRAFTED = ("edge", "verified")


@dataclass(frozen=True, slots=True)
class Doubt:
    """The trace's knowledge of one output token: the edge's ``entropy`` in nats where it drafted,
    the draft's ``rank`` at the cloud, and ``proposed``, the token that a correction replaced."""

    entropy: float | None = None
    rank: int | None = None
    proposed: int | None = None


def doubts(trace: Trace) -> list[Doubt]:
    """One for each output token, in order.

    >>> draft = Draft(0.0, 1.0, tokens=(5, 6), entropies=(0.1, 2.0))
    >>> call = Verify(1.0, 2.0, drafted=2, kept=1, token=9, ranks=(0, 31))
    >>> done = Commit(2.0, 2.0, tokens=(5, 9), origins=("verified", "corrected"))
    >>> [(doubt.entropy, doubt.rank, doubt.proposed) for doubt in doubts(Trace((draft, call, done)))]
    [(0.1, 0, None), (2.0, 31, 6)]
    """
    found: list[Doubt] = []
    draft: Draft | None = None
    call: Verify | None = None
    for event in trace.events:
        if isinstance(event, Draft):
            draft, call = event, None
        elif isinstance(event, Verify):
            call = event
        elif isinstance(event, Commit):
            found += [
                _doubt(draft, call, position, token, origin)
                for position, (token, origin) in enumerate(
                    zip(event.tokens, event.origins, strict=True)
                )
            ]
            draft = call = None
    return found


def _doubt(
    draft: Draft | None, call: Verify | None, position: int, token: int, origin: Origin
) -> Doubt:
    if draft is None or position >= min(len(draft.tokens), len(draft.entropies)):
        return Doubt()
    proposed, entropy = draft.tokens[position], draft.entropies[position]
    rank = call.ranks[position] if call is not None and position < len(call.ranks) else None
    if origin in _DRAFTED and proposed == token:
        return Doubt(entropy, rank)
    if origin == "corrected":
        return Doubt(entropy, rank, proposed)
    return Doubt()


def first_tokenizer(folders: Iterable[Path], *, required: Path | None = None) -> Tokenizer | None:
    """The tokenizer of the first of ``folders`` that has one.

    ``required``, a checkpoint folder or a ``tokenizer.json``, goes before them.

    Raises:
        DataError: ``required`` holds no tokenizer.
    """
    from tokenizers import Tokenizer

    if required is not None:
        file = required / "tokenizer.json" if required.is_dir() else required
        if not file.is_file():
            raise DataError(f"--tokenizer {required}: there is no tokenizer.json")
        return _open(file)
    for folder in folders:
        file = folder / "tokenizer.json"
        if file.is_file():
            return Tokenizer.from_str(file.read_text(encoding="utf-8"))
    return None


def _open(file: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        content = parse_json(text)
    except ValueError as error:
        raise DataError(f"--tokenizer {file} is not JSON: {error}") from error
    if not isinstance(content, dict) or "model" not in content:
        raise DataError(f"--tokenizer {file} is not a tokenizer of the tokenizers library")
    return Tokenizer.from_str(text)


Decode = Callable[[tuple[int, ...]], str]
"""The text of tokens without special ones."""


def decoder(tokenizer: Tokenizer) -> Decode:
    """What decodes tokens by ``tokenizer``, those that come again once."""

    @lru_cache(maxsize=65536)
    def decode(tokens: tuple[int, ...]) -> str:
        return sys.intern(tokenizer.decode(tokens, skip_special_tokens=True))

    return decode


def pieces(decode: Decode | None, tokens: Sequence[int], text: str | None) -> list[str] | None:
    """The text of each token; together they are ``text``. A character spread over several tokens
    stands with the last of them, and a special token is empty.

    ``None`` when there is no tokenizer, or it gives another text: then it is not the run's own.
    """
    if decode is None or text is None:
        return None
    found: list[str] = []
    pending: tuple[int, ...] = ()
    for token in tokens:
        pending = (*pending, token)
        piece = decode(pending)
        if piece.endswith("\ufffd"):
            found.append("")
            continue
        found.append(piece)
        pending = ()
    return found if "".join(found).strip() == text.strip() else None
