"""Every registered family obeys the laws of ``edgecloud.testing.families``, and a planted violation of each is
caught."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from edgecloud.contracts import StopLimits
from edgecloud.decoding.stopping import Stopping
from edgecloud.errors import PluginError
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.families import FAMILIES
from edgecloud.models.families.qwen2 import Qwen2
from edgecloud.models.networks import Network
from edgecloud.models.processor import Processor
from edgecloud.registry import BUILT_IN
from edgecloud.testing import FAMILY_LAWS, Law, check_family
from edgecloud.testing.families import FamilyCase
from tests.models.miniatures import FAST
from tests.models.test_general_audio import KINDS
from tests.system.test_family_suites import AUDIO, TEXT


def test_every_family_has_a_miniature() -> None:
    """Those of the fast path are also those that are quantised, measured and compared."""
    built_in = [part.name for part in FAMILIES.parts() if part.origin == BUILT_IN]
    assert [name for name in built_in if FAMILIES[name].fast] == sorted(FAST)
    assert [name for name in built_in if not FAMILIES[name].fast] == sorted(KINDS)
    assert {*built_in} <= {*AUDIO, *TEXT}  # as in tox -e families


@pytest.mark.parametrize("name", FAST)
def test_a_family_obeys_every_law(name: str, request: pytest.FixtureRequest) -> None:
    check_family(name, request.getfixturevalue(FAST[name]))


class _Wider(Qwen2):
    def network(self, config: Mapping[str, Any]) -> Network:
        network = super().network(config)
        network.more = nn.Linear(3, 3)
        return network


class _Outside(Qwen2):
    def processor(self, checkpoint: Checkpoint) -> Processor:
        class Outside(Processor):
            def text_prompt(self, text: str) -> Any:
                prompt = super().text_prompt(text)
                return replace(prompt, token_ids=(*prompt.token_ids, self.vocab_size))

        return Outside(checkpoint)


class _Deaf(Qwen2):
    def text_messages(self, text: str) -> list[dict[str, Any]]:
        return super().text_messages("something else")


class _Endless(Qwen2):
    def processor(self, checkpoint: Checkpoint) -> Processor:
        class Endless(Processor):
            def stopping(self, limits: StopLimits) -> Stopping:
                return replace(super().stopping(limits), end_ids=frozenset())

        return Endless(checkpoint)


class _Nameless(Qwen2):
    def processor(self, checkpoint: Checkpoint) -> Processor:
        class Nameless(Processor):
            def shared(self) -> dict[str, Any]:
                return {**super().shared(), "family": "qwen2"}

        return Nameless(checkpoint)


class _Shaky(Qwen2):
    def network(self, config: Mapping[str, Any]) -> Network:
        network = super().network(config)
        network.lm_head.register_forward_hook(lambda *given: given[-1].cumsum(0))
        return network


WRONG = {
    "tensors": _Wider,
    "prompts": _Outside,
    "spelling": _Deaf,
    "ends": _Endless,
    "compatibility": _Nameless,
    "model": _Shaky,
}


@pytest.fixture
def miniature(text_folder: Path, tmp_path: Path) -> Path:
    """The text model's, under a model_type of its own."""
    for path in text_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    config = json.loads((text_folder / "config.json").read_text())
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "wrong"}))
    return tmp_path


@pytest.mark.parametrize("law", FAMILY_LAWS, ids=lambda law: law.name)
def test_a_family_that_breaks_a_law_is_found_by_that_law(
    law: Law[FamilyCase], miniature: Path
) -> None:
    with FAMILIES.replaced("wrong", WRONG[law.name]("wrong")):
        with pytest.raises(AssertionError):
            law.check(FamilyCase("wrong", miniature), ())
        with pytest.raises(AssertionError, match="broken by"):
            check_family("wrong", miniature)


def test_a_miniature_of_another_family_is_none(text_folder: Path) -> None:
    with pytest.raises(AssertionError, match="is of 'qwen2'"):
        check_family("qwen2_audio", text_folder)


class _Faulty(Qwen2):
    def tokenizer(self, folder: Path) -> Any:
        return 1 / 0


class _Speechless(Qwen2):
    def processor(self, checkpoint: Checkpoint) -> Processor:
        class Speechless(Processor):
            def text(self, tokens: list[int] | tuple[int, ...]) -> str:
                return str(1 / 0)

        return Speechless(checkpoint)


def test_a_processor_of_another_package_that_fails_later_is_one_line_too(miniature: Path) -> None:
    with FAMILIES.replaced("wrong", _Speechless("wrong")):
        processor = Checkpoint.open(miniature).processor()
        assert processor.text_prompt("the voice.").length > 3
        with pytest.raises(PluginError, match=r"^model family 'wrong' of .* failed: ZeroDivision"):
            processor.text([1, 2])


def test_what_nobody_foresaw_of_another_packages_family_is_one_line(miniature: Path) -> None:
    with (
        FAMILIES.replaced("wrong", _Faulty("wrong")),
        pytest.raises(
            PluginError,
            match=r"^model family 'wrong' of .* failed: ZeroDivisionError: division by zero$",
        ),
    ):
        Checkpoint.open(miniature).processor()
