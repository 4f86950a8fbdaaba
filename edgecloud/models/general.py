"""The general adapter: a model of transformers, by its own forward, as a :class:`edgecloud.contracts.Model`.

Slower than :mod:`edgecloud.models.decoder` and right for whatever transformers has: positions, masks and
attention are the family's own code. Its cache is held in full, also where attention slides over a window, so
that it can be cut back; the mask says what a token sees.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    DynamicCache,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)
from transformers.utils import logging
from transformers.utils.import_utils import is_peft_available

from edgecloud.contracts import Prompt
from edgecloud.errors import CheckpointError, ModelError
from edgecloud.models.assembly import check_rows, on_meta
from edgecloud.models.cached import CachedModel, cache_argument
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.checks import check_prompt, check_started, check_vocabulary
from edgecloud.models.computing import computing
from edgecloud.models.families.general import unsupported, whole_config
from edgecloud.models.families.general_audio import GeneralAudioFamily
from edgecloud.models.general_audio import check_arrays, entry_of
from edgecloud.models.memory import check_memory, memory_advice
from edgecloud.models.networks import Network
from edgecloud.models.parts import in_parts
from edgecloud.models.placing import AUTO_MAP, Placement
from edgecloud.models.ropes import context_of, longest_of
from edgecloud.stages import stage

__all__ = ["GeneralLM", "GeneralNetwork", "check_weights"]


class GeneralNetwork(Network):
    """A whole model of transformers; its parameters have the names that transformers gives them."""

    def __init__(
        self, model_type: str, config: dict[str, Any], hears: GeneralAudioFamily | None = None
    ) -> None:
        """Without weights, where new tensors have no memory; ``hears`` is the family of one that takes
        recordings.

        Raises:
            ModelError: transformers has no such model, or one whose state cannot be cut back, or what its adapter
                needs is not installed.
        """
        super().__init__()
        self.hears = hears
        self._adapted = hears is not None and hears.adapted(config)
        self._adapting: bool | None = None
        if self._adapted and not is_peft_available():
            raise ModelError(
                f"models of model_type {model_type!r} have an adapter for recordings, for which the extra 'adapters' "
                "is needed: pip install 'edgecloud[adapters]'"
            )
        if model_type not in {
            **MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            **MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
        }:
            raise ModelError(unsupported(model_type))
        try:
            self.whole: Any = _auto(model_type, hears).from_config(
                whole_config(model_type, config), dtype=torch.get_default_dtype()
            )
        except ImportError as error:
            raise ModelError(
                f"models of model_type {model_type!r} need what is not installed here "
                f"({' '.join(str(error).split())[:200]})"
            ) from error
        if self.whole._is_stateful:
            raise ModelError(
                f"models of model_type {model_type!r} keep a state that cannot be taken back to an earlier "
                "token, as rejected drafts ask for; give a model with attention alone"
            )

    @property
    def writer(self) -> Any:
        """The part of the whole that writes text."""
        inside = "" if self.hears is None else self.hears.inside
        return getattr(self.whole, inside) if inside else self.whole

    @property
    def lm_head(self) -> nn.Linear:  # type: ignore[override]
        """The output layer."""
        found: nn.Linear = self.writer.get_output_embeddings()
        return found

    def check(self, prompt: Prompt) -> None:
        """Raises ModelError for a prompt whose features are not the family's own
        (:func:`edgecloud.models.general_audio.check_arrays`)."""
        if self.hears is None:
            if prompt.arrays:
                raise ModelError("this model takes text alone; give --dataset-type text")
            return
        check_arrays(prompt, self.hears, self.writer.config, self._audio_id)

    def heard(self, prompt: Prompt) -> int:
        """Tokens up to the last of the audio; 0 without any."""
        if not prompt.arrays:
            return 0
        return prompt.length - prompt.token_ids[::-1].index(self._audio_id)

    @property
    def _audio_id(self) -> int:
        """The placeholder's token."""
        assert self.hears is not None
        return entry_of(self.writer.config, self.hears.audio_entry)

    def adapt(self, *, hearing: bool) -> None:
        """Switch the adapter on for a sequence with a recording, off for one of text, as the families'
        own ``generate`` does; nothing where there is none."""
        if self._adapted and hearing != self._adapting:
            from peft.tuners.tuners_utils import BaseTunerLayer
            from peft.utils import ModulesToSaveWrapper

            # transformers' own switches do this, but refuse releases of peft with which its loading works.
            for layer in self.whole.modules():
                if isinstance(layer, BaseTunerLayer | ModulesToSaveWrapper):
                    layer.enable_adapters(enabled=hearing)
            self._adapting = hearing

    @property
    def text_config(self) -> Any:
        """The configuration of the text model."""
        return self.writer.config.get_text_config(decoder=True)

    def given(self, prompt: Prompt) -> dict[str, Tensor]:
        """The features as the forward takes them: real numbers in the precision of the weights."""
        if self.hears is None or not prompt.arrays:
            return {}
        weight = self.lm_head.weight
        arrays = {**prompt.arrays, **self.hears.derived(prompt.arrays)}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return {
            name: tensor.to(weight.device, weight.dtype if tensor.is_floating_point() else None)
            for name, tensor in tensors.items()
        }

    def embed(self, prompt: Prompt) -> Tensor:
        """Embeddings of the prompt's tokens, ``(1, n, hidden)``.

        Raises:
            ModelError: a prompt with audio.
        """
        if prompt.arrays:
            raise ModelError("the general adapter embeds recordings within its forward alone")
        ids = torch.tensor([prompt.token_ids], device=self.lm_head.weight.device)
        found: Tensor = self.writer.get_input_embeddings()(ids)
        return found


class FullCache:
    """Keys and values of one sequence, of every token in every layer."""

    def __init__(self) -> None:
        self.held = DynamicCache()

    @property
    def length(self) -> int:
        """Tokens held."""
        return int(self.held.get_seq_length())

    @length.setter
    def length(self, length: int) -> None:
        """Keep the first ``length`` tokens in every layer."""
        for layer in self._layers():
            layer.keys, layer.values = layer.keys[..., :length, :], layer.values[..., :length, :]

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self._layers())

    def _layers(self) -> list[Any]:
        """Those that hold something: some share another's keys and values."""
        layers: list[Any] = self.held.layers
        return [layer for layer in layers if layer.is_initialized]


class GeneralLM(CachedModel[FullCache]):
    """One sequence on a model of transformers.

    ``vocab_size`` is the tokenizer's real length; logits beyond it (padding) are never seen.
    """

    def __init__(self, network: GeneralNetwork, *, vocab_size: int, token_bytes: int = 0) -> None:
        super().__init__(FullCache(), vocab_size=vocab_size)
        self._network = network
        self._token_bytes = token_bytes
        self._hearing = False
        self._longest = longest_of(network.text_config)
        forward = inspect.signature(network.writer.forward).parameters
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in forward else {}
        self._cache_name = cache_argument(network.writer)

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, *, vocab_size: int, device: str, dtype: torch.dtype
    ) -> GeneralLM:
        """The model of ``checkpoint`` on ``device``, ready to compute.

        Raises:
            CheckpointError: weights missing, broken or of other shapes.
            ModelError: the tokenizer has more entries than the output layer, or a map of devices is asked for.
            OutOfMemoryError: the weights do not fit.
        """
        network = on_meta(checkpoint, dtype)
        assert isinstance(network, GeneralNetwork)
        check_rows(checkpoint, vocab_size, network.lm_head.out_features)
        check_weights(checkpoint, device)
        check_memory(checkpoint, dtype, Placement({"": device}))
        stage("loading weights")
        with memory_advice(device):
            network.whole = _loaded(checkpoint, _told, dtype=dtype)[0].to(device).eval()
            network.requires_grad_(requires_grad=False)
            tried = cls(network, vocab_size=vocab_size)
            # What a token's keys and values take, and whether the cache is one that can be cut back.
            tried.prefill(Prompt((0,)))
        return cls(network, vocab_size=vocab_size, token_bytes=tried.cache_bytes)

    @property
    def parameters(self) -> int:
        """Number of parameters that are loaded."""
        return sum(parameter.numel() for parameter in self._network.parameters())

    @property
    def device(self) -> str:
        """The device of the weights, as torch writes it."""
        return str(self._network.lm_head.weight.device)

    @property
    def dtype(self) -> str:
        """Precision of the weights: ``float32``, ``bfloat16``."""
        return str(self._network.lm_head.weight.dtype).removeprefix("torch.")

    @property
    def context(self) -> int | None:
        """Context length, tokens, as :attr:`edgecloud.models.checkpoint.Checkpoint.context` foresees it."""
        return context_of(self._network.text_config)

    def cache_bytes_for(self, prompt_length: int, length: int) -> int:
        """See :class:`edgecloud.contracts.Sized`."""
        return length * self._token_bytes

    def prefill(self, prompt: Prompt) -> Tensor:
        """As :meth:`edgecloud.contracts.Model.prefill`, in one forward."""
        *_, last = self.prefill_in_parts(prompt, prompt.length)
        assert last is not None
        return last

    def prefill_in_parts(self, prompt: Prompt, most: int) -> Iterator[Tensor | None]:
        """As :meth:`edgecloud.contracts.Model.prefill_in_parts`; all audio is heard in one forward, that of the
        part in which it ends, with all before it."""
        check_prompt(prompt)
        self._network.check(prompt)
        self._cache = FullCache()
        self._prompt_length = prompt.length
        self._hearing = bool(prompt.arrays)
        given = self._network.given(prompt)
        begin, heard = 0, self._network.heard(prompt)
        for part in in_parts(prompt.length, most):
            if part.stop < heard:
                yield None
                continue
            rows = self._forward(prompt.token_ids[begin : part.stop], **self._last, **given)
            begin, given = part.stop, {}
            yield rows[-1] if part.stop == prompt.length else None

    def extend(self, tokens: Sequence[int]) -> Tensor:
        """As :meth:`edgecloud.contracts.Model.extend`."""
        check_started(tokens, self.length)
        check_vocabulary(tokens, self._vocab_size)
        return self._forward(tokens)

    def new_sequence(self) -> GeneralLM:
        """A new sequence on the same weights."""
        return GeneralLM(self._network, vocab_size=self._vocab_size, token_bytes=self._token_bytes)

    def _forward(self, tokens: Sequence[int], **more: Any) -> Tensor:
        """The logits ``(n, V) float32`` of the next ``tokens``, or of as many of the last as asked for.
        Where it raises, the cache holds what it held."""
        before = self.length
        if self._longest is not None and before + len(tokens) > self._longest:
            raise ModelError(
                f"prompt and answer are over {self._longest} tokens, from where on this model's rotary embeddings are "
                "others for all tokens; give a shorter one"
            )
        self._network.adapt(hearing=self._hearing)
        try:
            with computing(self._network, self.device):
                ids = torch.tensor([list(tokens)], device=self._network.lm_head.weight.device)
                more[self._cache_name] = self._cache.held
                found = self._network.writer(input_ids=ids, use_cache=True, **more)
                logits: Tensor = found.logits[0, :, : self._vocab_size].float()
                return logits
        except BaseException:
            self._cache.length = before
            raise


def check_weights(checkpoint: Checkpoint, device: str) -> None:
    """Check, by transformers' own rules and from headers alone, that the shards hold every parameter.

    Raises:
        CheckpointError: a parameter is missing or of another shape, or a shard is broken.
        ModelError: the device is a map of several.
    """
    if device == AUTO_MAP:
        raise ModelError(
            f"model {checkpoint.path} runs on the general adapter, which knows one device; give --cloud-device "
            "cuda, or a family of the fast path"
        )
    checkpoint.stored()  # says which shard is broken
    info = _loaded(checkpoint, device_map={"": "meta"}, ignore_mismatched_sizes=True)[1]
    for name, stored, wanted in sorted(info["mismatched_keys"]):
        raise CheckpointError(
            f"model {checkpoint.path}: {name} has shape {tuple(stored)}, config.json asks for {tuple(wanted)}"
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise CheckpointError(
            f"model {checkpoint.path}: {len(missing)} tensors missing, the first is {missing[0]}"
        )


def _auto(model_type: str, hears: GeneralAudioFamily | None) -> Any:
    """The class of transformers that makes a model of ``model_type``."""
    text = hears is None and model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return AutoModelForCausalLM if text else AutoModelForMultimodalLM


def _told(factory: Any, given: Sequence[Any], named: dict[str, Any]) -> Any:
    """transformers' progress as ours: each of its steps is a tensor."""
    if not given or named.get("desc") != "Loading weights":
        return factory(*given, **named)
    items = list(given[0])

    def steps() -> Iterator[Any]:
        for done, item in enumerate(items):
            stage("loading weights", done / len(items))
            yield item

    return steps()


def _loaded(
    checkpoint: Checkpoint, progress: Any = None, **more: Any
) -> tuple[Any, dict[str, Any]]:
    """The model that transformers loads of the folder, and what it says of that; its own progress bar and
    report are not shown, its ``progress`` is told."""
    family = checkpoint.family
    hears = family if isinstance(family, GeneralAudioFamily) else None
    verbosity, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    quiet: Any = logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    hook = quiet.set_tqdm_hook(progress)
    try:
        found: Any = _auto(family.model_type, hears).from_pretrained(
            str(checkpoint.path),
            local_files_only=True,
            output_loading_info=True,
            # An adapter comes afterwards: with both, what is said of the weights would be lost.
            adapter_kwargs={"subfolder": "none"},
            **({} if hears is None else hears.overrides),
            **more,
        )
        quiet.set_tqdm_hook(hook)
        if hears is not None and hears.adapted(checkpoint.config):
            _adapt(checkpoint, hears, *found, **more)
    except (KeyError, OSError, ValueError) as error:
        raise CheckpointError(
            f"model {checkpoint.path}: transformers cannot load it ({' '.join(str(error).split())[:300]})"
        ) from error
    finally:
        quiet.set_verbosity(verbosity)
        quiet.set_tqdm_hook(hook)
        if shown:
            quiet.enable_progress_bar()
    model, info = found
    return model, info


def _adapt(
    checkpoint: Checkpoint, hears: GeneralAudioFamily, model: Any, info: dict[str, Any], **more: Any
) -> None:
    """Give ``model`` its adapter, and add to ``info`` what is said of that.

    Raises:
        CheckpointError: the adapter has tensors for which the model has no place.
    """
    more.pop("device_map", None)
    said = model.load_adapter(
        str(checkpoint.path),
        adapter_kwargs={"subfolder": hears.adapter, "local_files_only": True},
        **more,
    )
    if said.unexpected_keys:
        raise CheckpointError(
            f"model {checkpoint.path}: its adapter has {len(said.unexpected_keys)} tensors for which a {hears.title} "
            f"has no place, the first is {min(said.unexpected_keys)}"
        )
    for kind in ("missing_keys", "mismatched_keys"):
        info[kind] = {*info[kind], *getattr(said, kind)}
