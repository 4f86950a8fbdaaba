"""The samples that a configuration names, whatever format they are kept in."""

from __future__ import annotations

from pathlib import Path

from edgecloud.contracts import Sample
from edgecloud.datasets.manifest import embedded_manifest, load_manifest
from edgecloud.datasets.prompts import load_prompts
from edgecloud.errors import ConfigError
from edgecloud.settings.config import Config

__all__ = ["load_corpus"]


def load_corpus(config: Config) -> tuple[tuple[Sample, ...], Path]:
    """The manifest that ``config`` names, or the embedded corpus in its language, and its path.

    Raises:
        ManifestError: it is missing, broken or empty.
        ConfigError: its prompts say that they are all in another language than the run's.
    """
    if config.dataset_path is None:
        path = embedded_manifest(config.language, config.prompt_type)
    else:
        path = Path(config.dataset_path)
    if config.dataset_type == "text":
        prompts = load_prompts(path, language=config.language)
        # A prompt's own language decides how its answer is scored: none would be.
        languages = {sample.reference_language for sample in prompts}
        if config.language not in languages:
            raise ConfigError(
                f"dataset manifest {path}: its prompts say they are in {languages.pop()}, and the run "
                f"generates {config.language}; give --language {prompts[0].reference_language}"
            )
        return prompts, path
    corpus = load_manifest(path, language=config.language, caption_type=config.caption_type)
    return corpus, path
