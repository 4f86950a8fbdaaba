"""Reading a checkpoint folder in the layout that the families are published in.

``config.json``, ``*.safetensors`` (with an index when sharded), tokenizer and feature extractor files.
Of the weights only what the network uses is read, tensor by tensor: no vision tower, talker or vocoder
ever comes into memory, and never more than one tensor besides the network itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from edgecloud.errors import CheckpointError
from edgecloud.models.families import FAMILIES, Family
from edgecloud.models.folder import QUANTIZED_KEY, family_of, needed_shards, read_json
from edgecloud.models.identity import identity_of
from edgecloud.registry import guarded
from edgecloud.stages import stage

if TYPE_CHECKING:
    from edgecloud.models.networks import Network
    from edgecloud.models.processor import Processor

__all__ = ["Checkpoint", "Stored"]

Given = ParamSpec("Given")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as it lies in a shard: its name there, and its shape."""

    name: str
    shard: Path
    shape: tuple[int, ...]


_PROCESSING = (
    "features",
    "prompt",
    "rendered",
    "shared",
    "stopping",
    "text",
    "text_prompt",
    "vocabulary",
)
"""Methods of a processor, which are another package's code where its family is."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder that was found to be complete. Make one with :meth:`open`."""

    path: Path
    config: dict[str, Any]
    shards: tuple[Path, ...]
    family: Family
    """By the ``model_type`` of its config.json."""

    @property
    def quantized(self) -> dict[str, Any] | None:
        """The quantization that ``edgecloud quantize`` wrote to config.json; None: none."""
        found = self.config.get(QUANTIZED_KEY)
        return found if isinstance(found, dict) else None

    def processor(self) -> Processor:
        """What surrounds the weights, as the family has it.

        Raises:
            CheckpointError: tokenizer, template or feature settings are missing or broken.
            PluginError: the family is of another package, and fails.
        """
        processor = self.guarded(self.family.processor)(self)
        for name in _PROCESSING:
            method = getattr(processor, name)
            if (own := self.guarded(method)) is not method:
                setattr(processor, name, own)
        return processor

    def network(self) -> Network:
        """The network that config.json describes, as the family makes it; it has no weights yet.

        Raises:
            PluginError: the family is of another package, and fails.
        """
        return self.guarded(self.family.network)(self.config)

    def guarded(self, call: Callable[Given, Found]) -> Callable[Given, Found]:
        """A method of the family, which may be another package's (:func:`edgecloud.registry.guarded`)."""
        if not self.family.fast:
            return call
        return guarded(FAMILIES.part(self.family.model_type), call)

    @classmethod
    def open(cls, path: str | Path) -> Checkpoint:
        """Check the folder and read its configuration.

        Raises:
            CheckpointError: folder or file missing, unreadable, or of another family.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise CheckpointError(f"model {path}: no such folder; give the folder of a checkpoint")
        config = read_json(folder / "config.json")
        family = family_of(folder, config)
        for needed in family.needed:
            _check_entry(folder, config, needed)
        shards = tuple(folder / name for name in needed_shards(folder, family, config))
        missing = [str(shard.relative_to(folder)) for shard in shards if not shard.is_file()]
        if missing or not shards:
            raise CheckpointError(
                f"model {path}: weights missing: {', '.join(missing) or 'the index lists none'}"
            )
        return cls(folder, config, shards, family)

    @contextmanager
    def described(self) -> Iterator[None]:
        """What the families' classes say of config.json in the block, which may be any error, is one line.

        Raises:
            CheckpointError: config.json describes no model of its family.
        """
        try:
            yield
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RuntimeError,
            StrictDataclassError,
            TypeError,
            ValueError,
        ) as error:
            raise CheckpointError(
                f"model {self.path}: config.json does not describe a {self.family.title} "
                f"({type(error).__name__}: {' '.join(str(error).split())})"
            ) from error

    @property
    def context(self) -> int | None:
        """Tokens, prompt and answer together, that its model takes once it is loaded; None where config.json does not
        say. No weight is read.

        Raises:
            CheckpointError: config.json describes no model of its family.
        """
        with self.described():
            return self.guarded(self.family.context)(self.config)

    @property
    def rows(self) -> int | None:
        """Rows of the output layer of a model on the general adapter, where config.json says so: tokenizers of
        some have a token more, for images. None: the tokenizer's entries count."""
        found = self.config.get("text_config", self.config).get("vocab_size")
        return found if not self.family.fast and isinstance(found, int) else None

    @property
    def generation(self) -> dict[str, Any]:
        """What its generation_config.json says; nothing where there is none.

        Raises:
            CheckpointError: it cannot be read.
        """
        path = self.path / "generation_config.json"
        return read_json(path) if path.is_file() else {}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor that the network has a place for, by its parameter's name, one at a time.

        Raises:
            CheckpointError: a shard is broken.
        """
        for shard in self.shards:
            with self._opened(shard) as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    parameter = self.family.parameter(name)
                    if parameter is not None:
                        yield parameter, file.get_tensor(name)

    def kind(self, parameter: str) -> str | None:
        """The type of a parameter's tensor as safetensors names it (``BF16``), from headers alone; None:
        there is no such tensor.

        Raises:
            CheckpointError: a shard is broken.
        """
        stored = self.stored().get(parameter)
        if stored is None:
            return None
        with self._opened(stored.shard) as file:
            return str(file.get_slice(stored.name).get_dtype())

    def stored(self) -> dict[str, Stored]:
        """Entries of the shards by the network's parameter names; only headers are read.

        Raises:
            CheckpointError: a shard is broken or cut off.
        """
        found: dict[str, Stored] = {}
        for shard in self.shards:
            with self._opened(shard) as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    parameter = self.family.parameter(name)
                    if parameter is not None:
                        shape = tuple(file.get_slice(name).get_shape())
                        found[parameter] = Stored(name, shard, shape)
        return found

    def check(self, network: nn.Module, *, ignore: tuple[str, ...] = ()) -> None:
        """Check that the shards hold every parameter of ``network`` in its shape; only headers are read.

        ``ignore`` names parameters the checkpoint may lack.

        Raises:
            CheckpointError: a shard is broken or cut off, or a parameter missing or of another shape.
        """
        stored = self.stored()
        wanted = {name: p for name, p in network.named_parameters() if name not in ignore}
        for name, parameter in wanted.items():
            if name in stored and tuple(parameter.shape) != stored[name].shape:
                raise CheckpointError(
                    f"model {self.path}: {stored[name].name} has shape {stored[name].shape}, "
                    f"config.json asks for {tuple(parameter.shape)}"
                )
        missing = [self.published(name) for name in wanted if name not in stored]
        if missing:
            raise CheckpointError(
                f"model {self.path}: {len(missing)} tensors missing, the first is {missing[0]}"
            )

    def load_into(
        self, network: nn.Module, *, dtype: torch.dtype, place: Callable[[str], str]
    ) -> None:
        """Give ``network`` its parameters as ``dtype``, each on the device that ``place`` names for it.

        The network's own parameters are replaced; they may be on the meta device. One tensor at a time
        is in memory besides them. :meth:`check` comes first.

        Raises:
            CheckpointError: a shard is broken.
        """
        wanted = dict(network.named_parameters())
        total, done = sum(parameter.numel() for parameter in wanted.values()), 0
        for shard in self.shards:
            with self._opened(shard) as file:
                for stored in file.keys():  # noqa: SIM118 - not a mapping
                    name = self.family.parameter(stored)
                    if name is None or name not in wanted:
                        continue
                    stage("loading weights", done / max(1, total))
                    tensor = file.get_tensor(stored)
                    done += tensor.numel()
                    target = torch.empty(tensor.shape, dtype=dtype, device=place(name))
                    target.copy_(tensor)
                    owner, _, leaf = name.rpartition(".")
                    parameter = nn.Parameter(target, requires_grad=False)
                    setattr(network.get_submodule(owner), leaf, parameter)

    def fingerprint(self) -> str:
        """The identity of the weights, by their content.

        Raises:
            CheckpointError: a shard cannot be read, or is not the file that a hub published.
        """
        return self.identity()["sha256"]

    def identity(self) -> dict[str, str]:
        """As :func:`edgecloud.models.identity.identity_of` says: read once, then remembered."""
        return identity_of(self.path, self.shards)

    def published(self, parameter: str) -> str:
        """The name under which the family publishes a parameter."""
        for begins, part in self.family.parts.items():
            if parameter.startswith(part):
                return begins + parameter[len(part) :]
        return parameter

    @contextmanager
    def _opened(self, shard: Path) -> Iterator[Any]:
        try:
            with safe_open(shard, framework="pt", device="cpu") as file:
                yield file
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"model {self.path}: {shard.name} is broken ({error}); fetch it again"
            ) from error


def _check_entry(folder: Path, config: dict[str, Any], needed: tuple[str, ...]) -> None:
    found: Any = config
    for name in needed:
        found = found.get(name) if isinstance(found, dict) else None
    # Sections are named by what they configure; everything else is a size.
    if not isinstance(found, dict if needed[-1].endswith("_config") else int):
        raise CheckpointError(f"model {folder}: config.json has no {'.'.join(needed)}")
