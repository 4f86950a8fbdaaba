"""The embedded corpus: synthetic test utterances with captions in two languages and of three types."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Final, get_args

from edgecloud.contracts import Language, PromptType

FOLDER: Final = Path(__file__).parent
ATTRIBUTES: Final = FOLDER / "attributes.json"
"""Audible attributes of each clip, by file id."""


def manifest_name(language: Language, prompt_type: PromptType) -> str:
    """``chinese.json``; ``chinese-detailed.json`` where the captions are not of the default type."""
    suffix = "" if prompt_type == "default" else f"-{prompt_type}"
    return f"{language}{suffix}.json"


MANIFESTS: Final = tuple(
    FOLDER / manifest_name(language, prompt_type)
    for language, prompt_type in product(get_args(Language), get_args(PromptType))
)
"""Every manifest; all of them list every clip."""
