"""Models that hear and have no fast path here: transformers' own forward takes their features by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from edgecloud.contracts import Arrays
from edgecloud.models.families.general import GeneralFamily

if TYPE_CHECKING:
    from edgecloud.models.networks import Network

__all__ = ["GeneralAudioFamily"]


class GeneralAudioFamily(GeneralFamily):
    """A model of ``AutoModelForMultimodalLM``, with text and recordings. Its placeholder is the checkpoint's
    ``audio_token_id``."""

    accepts_audio = True
    arrays: ClassVar[Mapping[str, tuple[str, tuple[int | str, ...]]]]
    """The features by name: type and shape. A mask is of ``int32`` and zeros and ones; a size that is a path
    stands in config.json, one that is a word is the recording's own, the same in each array."""
    inside: ClassVar[str] = ""
    """The part of config.json, and of the model, that writes text; empty: the whole."""
    overrides: ClassVar[Mapping[str, Any]] = {}
    """Entries of config.json that are others here, so that parts which write no text are not built."""

    def audio_tokens(self, arrays: Arrays) -> int:
        """Placeholders, one for each embedding, that a prompt with these features has."""
        raise NotImplementedError

    def audio_id(self, config: Mapping[str, Any]) -> int | None:
        """As declared: the configuration's own."""
        found = (config.get(f"{self.inside}_config") or config).get("audio_token_id")
        return found if isinstance(found, int) else None

    def network(self, config: Mapping[str, Any]) -> Network:
        """The network of its config.json, as :class:`Family` declares.

        Raises:
            ModelError: transformers has no such model, or one whose state cannot be rolled back.
        """
        from edgecloud.models.general import GeneralNetwork

        return GeneralNetwork(self.model_type, {**config, **self.overrides}, hears=self)
