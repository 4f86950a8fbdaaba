"""Compatibility of two models: whether they have one vocabulary, and what keeps those that do from decoding
together. Two of different families or vocabularies decode through :mod:`edgecloud.models.translation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from edgecloud.errors import ModelError

__all__ = ["TEMPLATE", "check_pair", "differences", "have_own_vocabularies"]

TEMPLATE = "chat template"
"""The part of the compatibility that is compared by what it renders."""
_VOCABULARY = ("family", "vocabulary", "special ids")
_AROUND = 12
_PIECE = 32

_TEMPLATES_DIFFER = "the chat templates differ"
_SHOWN = 4
"""Settings of one part that a message names; of the others it says how many."""


class Renderer(Protocol):
    """A processor that renders a conversation as text, by its own chat template or by another."""

    def rendered(self, messages: list[dict[str, Any]], *, template: str | None = None) -> str:
        """The text of ``messages`` by ``template``, or by the model's own chat template."""


def have_own_vocabularies(edge: Mapping[str, Any], cloud: Mapping[str, Any]) -> bool:
    """True when two models, by their :meth:`edgecloud.models.processor.Processor.shared`, need prompts and
    tokens of their own: their families, vocabularies or special tokens differ."""
    return any(edge.get(part) != cloud.get(part) for part in _VOCABULARY)


def check_pair(
    edge: Mapping[str, Any],
    cloud: Mapping[str, Any],
    renderer: Renderer | None = None,
    conversations: Sequence[list[dict[str, Any]]] = (),
) -> None:
    """Check by their metadata that both sides have the same tokens and take the same audio.

    Chat templates whose text differs may still be of one mind about all that is asked: where ``cloud``
    has its ``chat_template``, they are compared by what they make of ``conversations``, which
    ``renderer``, the edge's processor, renders in both.

    Raises:
        ModelError: they do not; says what differs.
    """
    if "shared" not in cloud:  # a cloud that says no more of itself
        same = edge["tokenizer_sha256"] == cloud["tokenizer_sha256"]
        found = [] if same else ["different tokenizers or chat templates"]
    else:
        found = differences(edge["shared"], cloud["shared"])
        template = cloud.get("chat_template")
        if _TEMPLATES_DIFFER in found and renderer is not None and isinstance(template, str):
            at = found.index(_TEMPLATES_DIFFER)
            found[at : at + 1] = _rendered_differently(renderer, template, conversations)
    if found:
        other = "shared" in cloud and have_own_vocabularies(edge["shared"], cloud["shared"])
        raise ModelError(
            f"edge and cloud do not fit together: {'; '.join(found)}; "
            + (
                "give --cloud-model, a folder with the cloud's configuration and tokenizer, to decode in the "
                "cloud's vocabulary"
                if other
                else "give --edge-model and --cloud-model of one family"
            )
        )


def _rendered_differently(
    renderer: Renderer, template: str, conversations: Sequence[list[dict[str, Any]]]
) -> list[str]:
    for messages in conversations:
        one, other = renderer.rendered(messages), renderer.rendered(messages, template=template)
        if one != other:
            parted = next(
                (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
                min(len(one), len(other)),
            )
            piece = slice(max(0, parted - _AROUND), parted + _PIECE)
            return [
                f"{_TEMPLATES_DIFFER} in this run's requests ({one[piece]!r} on the edge, "
                f"{other[piece]!r} in the cloud)"
            ]
    # Without a conversation nothing shows that they agree.
    return [] if conversations else [_TEMPLATES_DIFFER]


def differences(edge: Mapping[str, Any], cloud: Mapping[str, Any]) -> list[str]:
    """The differences between two :meth:`edgecloud.models.processor.Processor.shared`, in words.

    >>> differences({"family": "a", "audio": {"n_fft": 400}}, {"family": "a", "audio": {"n_fft": 512}})
    ['audio: n_fft is 400 on the edge, 512 in the cloud']
    """
    found = []
    for part in {**edge, **cloud}:
        one, other = edge.get(part), cloud.get(part)
        if one == other:
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found.append(f"{part}: {_entries(one, other)}")
        elif part == TEMPLATE:
            found.append(_TEMPLATES_DIFFER)
        else:
            found.append(f"{part}: {_both(one, other)}")
    return found


def _entries(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    told = [name for name in names if name != "sha256"]
    if not told:
        return "as many entries, but other ones"
    said = [f"{name} is {_both(one.get(name), other.get(name))}" for name in told[:_SHOWN]]
    more = len(told) - _SHOWN
    return ", ".join(said) + (f", and {more} more" if more > 0 else "")


def _both(one: Any, other: Any) -> str:
    return f"{_one(one)} on the edge, {_one(other)} in the cloud"


def _one(value: Any) -> str:
    return "absent" if value is None else str(value)
