"""What a model family is, and where families are registered.

A family is a class in one file: facts about its checkpoints, its network, and what it does differently
around it. Importing one imports no torch: what it builds is imported where it is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from edgecloud.errors import PluginError
from edgecloud.models.prompts import Language, PromptType, prompt_messages, text_messages
from edgecloud.registry import Part, Registry

if TYPE_CHECKING:
    from edgecloud.models.checkpoint import Checkpoint
    from edgecloud.models.features import FeatureExtractor
    from edgecloud.models.networks import Network
    from edgecloud.models.processor import Processor

__all__ = ["FAMILIES", "Family", "family", "published_context"]

Messages = list[dict[str, Any]]


class Family:
    """Checkpoints of one ``model_type``. Subclasses say what they are; a family that differs little from
    another is a subclass of that."""

    title: ClassVar[str] = "model"
    """Name of its network in messages."""
    parts: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Beginnings of the published tensor names, and those of the network's parameters that they become. A
    tensor under none of them (a vision tower, a talker, a vocoder) is never read."""
    needed: ClassVar[Sequence[tuple[str, ...]]] = ()
    """The entries, as paths, that config.json must have: left out, the family's own sizes would be taken,
    gigabytes of the wrong shape."""
    accepts_audio: ClassVar[bool] = True
    """True when it takes recordings; otherwise it takes text alone."""
    pads_audio: ClassVar[bool] = False
    """True when recordings are padded to the whole window of its feature extractor (30 s)."""
    tower: ClassVar[Mapping[str, int]] = MappingProxyType({})
    """Settings of the audio tower that both sides must share, with the family's defaults."""
    audio_token: ClassVar[str] = "<|AUDIO|>"
    """The placeholder that a prompt repeats, once for each embedding of the audio."""
    around_audio: ClassVar[Sequence[str]] = ()
    """The tokens before and behind the placeholders, where the template leaves them out."""
    takes_waveform: ClassVar[bool] = False
    """True when its arrays are the recording itself, or it can be made of them again: they leave the machine
    where ``--upload-audio`` says that recordings may, and nowhere else."""
    end_tokens: ClassVar[Sequence[str]] = ("<|im_end|>", "<|endoftext|>")
    """The tokens that end an answer; none: those that the checkpoint names (generation_config.json, or its
    tokenizer)."""

    fast: ClassVar[bool] = True
    """True when its layers run on :mod:`edgecloud.models.decoder`; otherwise transformers runs them."""

    def __init__(self, model_type: str) -> None:
        self.model_type = model_type

    def fits(self, config: Mapping[str, Any]) -> bool:
        """True when a config.json of its ``model_type`` has the layers that the family's network has; others
        run on the general adapter, where transformers has one."""
        return True

    def network(self, config: Mapping[str, Any]) -> Network:
        """The network that the content of a config.json describes. It is called where new tensors have no
        memory; what is wrong with ``config`` may be any error of the libraries that read it.

        Raises:
            PluginError: the family has none.
        """
        raise PluginError(
            f"model family {self.model_type!r} has no network: override Family.network"
        )

    def context(self, config: Mapping[str, Any]) -> int | None:
        """Tokens, prompt and answer together, that a model of this config.json takes here; None where it does not say.
        What is wrong with ``config`` may be any error of the libraries that read it."""
        return published_context(config)

    def processor(self, checkpoint: Checkpoint) -> Processor:
        """What surrounds the network: waveform and words in, prompt; tokens out, text.

        Raises:
            CheckpointError: tokenizer, template or feature settings are missing or broken.
        """
        from edgecloud.models.processor import Processor

        return Processor(checkpoint)

    def beside(self, config: Mapping[str, Any]) -> Sequence[str]:
        """Files with weights that a checkpoint of this config.json has besides those of its index, as paths."""
        return ()

    def audio_id(self, config: Mapping[str, Any]) -> int | None:
        """The placeholder's token id where a config.json says it; None: it is ``audio_token``'s."""
        return None

    def tokenizer(self, folder: Path) -> Any:
        """The tokenizer of a checkpoint's folder, one of transformers; by default of the class that the
        checkpoint names."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)

    def feature_extractor(self, folder: Path) -> FeatureExtractor:
        """The feature extractor of a checkpoint's folder; by default Whisper's."""
        from edgecloud.models.features import LogMel

        return LogMel(folder, pads=self.pads_audio)

    def messages(
        self, language: Language, prompt_type: PromptType, transcription: str | None = None
    ) -> Messages:
        """The request for one recording, as chat messages for its template."""
        return prompt_messages(language, prompt_type, transcription)

    def text_messages(self, text: str) -> Messages:
        """A request of text alone, as chat messages."""
        return text_messages(text)

    def tower_settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """``tower`` as a config.json has them."""
        audio = config.get("thinker_config", config).get("audio_config", {})
        return {name: audio.get(name, default) for name, default in self.tower.items()}

    def parameter(self, stored: str) -> str | None:
        """The network's name of a stored tensor; None when the network has no such part."""
        for begins, part in self.parts.items():
            if stored.startswith(begins):
                return part + stored[len(begins) :]
        return None


def published_context(config: Mapping[str, Any]) -> int | None:
    """Tokens that a model was made for, as its config.json says; None where it does not."""
    found: Any = config
    for part in ("thinker_config", "text_config"):
        found = found.get(part, found)
    context = found.get("max_position_embeddings")
    return context if isinstance(context, int) and context > 0 else None


class _Families(Registry[Family]):
    """Takes subclasses of :class:`Family` alone: an entry point may name anything."""

    def add(self, name: str, item: Family | type[Family], **more: Any) -> Part[Family]:
        if not (isinstance(item, type) and issubclass(item, Family)):
            raise PluginError(
                f"model family {name!r} is no subclass of edgecloud.models.families.Family"
            )
        return super().add(name, item(name), **{**more, "source": item})


FAMILIES: Final[Registry[Family]] = _Families("model family", group="families")
"""Every family by the ``model_type`` of its checkpoints' config.json."""

Kind = TypeVar("Kind", bound=type[Family])


def family(model_type: str) -> Callable[[Kind], Kind]:
    """Register a subclass of :class:`Family` for checkpoints of ``model_type``.

    Raises:
        PluginError: the name is taken or cannot be one, or the class is no subclass.
    """

    def register(kind: Kind) -> Kind:
        FAMILIES.add(model_type, kind)  # type: ignore[arg-type]
        return kind

    return register
