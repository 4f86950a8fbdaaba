"""Scores of captions in several languages, each scored in its own, as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from edgecloud.contracts import Language
from edgecloud.quality.metric import CODES
from edgecloud.quality.score import Scores

__all__ = ["by_language", "join"]


def by_language(
    languages: Sequence[Language], scored: Callable[[Language, list[int]], Scores]
) -> Scores | None:
    """The scores of captions in these ``languages``, one each. ``scored`` gives those of one language's, at the
    positions it is handed. ``None``: there is no caption."""
    positions: dict[Language, list[int]] = {}
    for position, language in enumerate(languages):
        positions.setdefault(language, []).append(position)
    found = {language: scored(language, positions[language]) for language in sorted(positions)}
    return join(found, positions) if len(found) > 1 else next(iter(found.values()), None)


def join(found: Mapping[Language, Scores], positions: Mapping[Language, Sequence[int]]) -> Scores:
    """The scores of every language together; ``positions`` says where its captions stand in the whole.

    A corpus value that more than one language has (BERTScore, lengths in tokens) is no one number: it is
    kept as ``zh.NAME`` and ``en.NAME``, and ``NAME`` is ``None`` with that reason. Every sample has the
    names of all languages, with values for its own.
    """
    names = dict.fromkeys(name for scores in found.values() for name in scores.info)
    several = {name for name in names if sum(name in scores.info for scores in found.values()) > 1}
    count = sum(len(some) for some in positions.values())
    rows: list[dict[str, float | None]] = [dict.fromkeys(names) for _ in range(count)]
    sample_notes: list[str | None] = [None] * count
    corpus: dict[str, float | None] = dict.fromkeys(names)
    notes: dict[str, str] = {}
    info = {}
    for language, scores in found.items():

        def named(name: str, code: str = CODES[language]) -> str:
            return f"{code}.{name}" if name in several else name

        corpus.update({named(name): scores.corpus.get(name) for name in scores.info})
        info.update({named(name): about for name, about in scores.info.items()})
        for name, note in scores.notes.items():
            if name in names:
                notes[named(name)] = note
            else:  # of all its samples
                notes[name] = "; ".join(filter(None, [notes.get(name), f"{language}: {note}"]))
        for place, row, why in zip(
            positions[language], scores.per_sample, scores.sample_notes, strict=True
        ):
            rows[place].update(row)
            sample_notes[place] = why
    for name in several:
        own = ", ".join(f"{CODES[language]}.{name}" for language in found)
        notes[name] = f"the captions are in {' and '.join(found)}: see {own}"
        info[name] = next(scores.info[name] for scores in found.values() if name in scores.info)
    scored = sum(scores.scored for scores in found.values())
    return Scores(corpus, rows, notes, sample_notes, info, scored)
