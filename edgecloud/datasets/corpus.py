"""The samples that a configuration names, whatever format they are kept in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgecloud.contracts import Sample
from edgecloud.datasets.manifest import embedded_manifest, load_manifest
from edgecloud.datasets.prompts import load_prompts, stated_languages
from edgecloud.errors import ConfigError
from edgecloud.settings.config import Config

__all__ = ["in_own_language", "load_corpus"]


def in_own_language(config: Config) -> Config:
    """``config`` in the language that all prompts of its text manifest say they are in, where no
    language was given; as it is where they say none, or several.

    Raises:
        ManifestError: the manifest is missing, broken or empty.
    """
    if config.dataset_type != "text" or config.dataset_path is None or "language" in config.given:
        return config
    stated = stated_languages(config.dataset_path)
    return replace(config, language=next(iter(stated))) if len(stated) == 1 else config


def load_corpus(config: Config) -> tuple[tuple[Sample, ...], Path]:
    """The manifest that ``config`` names, or the embedded corpus in its language, and its path.

    Raises:
        ManifestError: it is missing, broken or empty.
        ConfigError: a language was given, and prompts say that they are in another.
    """
    if config.dataset_path is None:
        path = embedded_manifest(config.language, config.prompt_type)
    else:
        path = Path(config.dataset_path)
    if config.dataset_type == "text":
        prompts = load_prompts(path, language=config.language)
        others = [prompt for prompt in prompts if prompt.reference_language != config.language]
        if others and "language" in config.given:
            raise ConfigError(
                f"dataset manifest {path}: {len(others)} of {len(prompts)} prompts, "
                f"{others[0].file_id!r} the first, say they are in {others[0].reference_language}, not "
                f"in {config.language}; leave out --language: each prompt's own decides"
            )
        return prompts, path
    corpus = load_manifest(path, language=config.language, caption_type=config.caption_type)
    return corpus, path
