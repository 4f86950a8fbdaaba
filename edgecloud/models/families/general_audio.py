"""Models that hear and have no fast path here: transformers' own forward takes their features by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from edgecloud.contracts import Arrays
from edgecloud.models.families.general import GeneralFamily

if TYPE_CHECKING:
    from edgecloud.models.networks import Network

__all__ = ["GeneralAudioFamily"]


class GeneralAudioFamily(GeneralFamily):
    """A model of ``AutoModelForMultimodalLM``, with text and recordings."""

    accepts_audio = True
    arrays: ClassVar[Mapping[str, tuple[str, tuple[int | str, ...]]]]
    """The features by name: type and shape. A mask is of ``int32`` and zeros and ones; a size that is a path
    stands in config.json, one that is a word is the recording's own, the same in each array."""
    inside: ClassVar[str] = ""
    """The part of config.json, and of the model, that writes text; empty: the whole."""
    overrides: ClassVar[Mapping[str, Any]] = {}
    """Entries of config.json that are others here, so that parts which write no text are not built."""
    audio_entry: ClassVar[str] = "audio_token_id"
    """The entry, as a path, with the placeholder's id."""
    adapter: ClassVar[str | None] = None
    """The folder, within a checkpoint's, of an adapter that is on for recordings and off for text; None: the family
    has none."""

    def audio_tokens(self, arrays: Arrays) -> int:
        """Placeholders, one for each embedding, that a prompt with these features has."""
        raise NotImplementedError

    def derived(self, arrays: Arrays) -> Arrays:
        """What the forward takes besides, and follows from the features: none of it is sent."""
        return {}

    def adapted(self, config: Mapping[str, Any]) -> bool:
        """True when a checkpoint has the family's adapter beside its weights: a config.json that says
        ``"has_lora_adapter": false`` is of one into whose weights it was merged."""
        return self.adapter is not None and config.get("has_lora_adapter") is not False

    def beside(self, config: Mapping[str, Any]) -> Sequence[str]:
        """As declared: the adapter's."""
        if self.adapter is None or not self.adapted(config):
            return ()
        return (str(PurePosixPath(self.adapter, "adapter_model.safetensors")),)

    def audio_id(self, config: Mapping[str, Any]) -> int | None:
        """As declared: the configuration's own."""
        found: Any = config.get(f"{self.inside}_config") or config
        for name in self.audio_entry.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        return found if isinstance(found, int) else None

    def network(self, config: Mapping[str, Any]) -> Network:
        """The network of its config.json, as :class:`Family` declares.

        Raises:
            ModelError: transformers has no such model, or one whose state cannot be rolled back.
        """
        from edgecloud.models.general import GeneralNetwork

        return GeneralNetwork(self.model_type, {**config, **self.overrides}, hears=self)
