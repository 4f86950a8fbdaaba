"""The samples of a manifest, or of the embedded corpus."""

from __future__ import annotations

from typing import Any

from edgecloud.contracts import Sample
from edgecloud.datasets.corpus import in_own_language, load_corpus
from edgecloud.library.settings import settings_of
from edgecloud.settings.options import OPTIONS

__all__ = ["samples"]

_DATA = tuple(option.name for option in OPTIONS if option.subject == "data")


def samples(**settings: Any) -> tuple[Sample, ...]:
    """The samples that an experiment with these ``settings`` runs over (``dataset_path``, ``language``,
    ``max_samples``, …), checked: those of the embedded corpus without a ``dataset_path``.

    Raises:
        ConfigError: a setting is unknown or wrong.
        ManifestError: the manifest is missing, broken or empty.
    """
    config = settings_of(settings, by="samples", allowed=_DATA, instead="give it to what decodes")
    config = in_own_language(config)
    return load_corpus(config)[0][: config.data.max_samples]
