"""One table of settings; the configuration, the defaults and the flags are made from it."""

from __future__ import annotations

import argparse
import typing
from dataclasses import fields
from importlib import resources
from typing import Any

import pytest
import yaml

from edgecloud import contracts
from edgecloud.decoding.acceptance import RULES
from edgecloud.decoding.gates import GATES
from edgecloud.settings.config import Config, resolve
from edgecloud.settings.options import OPTIONS, Option, add_options
from edgecloud.settings.presets import PRESETS

TYPES = typing.get_type_hints(Config)
TEXT = resources.files("edgecloud").joinpath("default.yaml").read_text(encoding="utf-8")
DEFAULTS: dict[str, Any] = yaml.safe_load(TEXT)


def by_name(option: Option) -> str:
    return option.name


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser()
    add_options(found.add_argument)
    return found


def test_table_configuration_and_defaults_name_the_same_settings_in_the_same_order() -> None:
    names = [option.name for option in OPTIONS]
    assert len(set(names)) == len(names)
    # Besides, a configuration knows which of them were given.
    assert [field.name for field in fields(Config)] == [*names, "given"]
    assert list(DEFAULTS) == names


@pytest.mark.parametrize("option", OPTIONS, ids=by_name)
def test_the_configuration_types_a_setting_as_the_table_does(option: Option) -> None:
    hint = TYPES[option.name]
    parts = set(typing.get_args(hint)) if type(None) in typing.get_args(hint) else {hint}
    assert (type(None) in parts) is option.nullable
    (kind,) = parts - {type(None)}
    if typing.get_origin(kind) is typing.Literal:
        assert set(typing.get_args(kind)) == set(option.choices)
        kind = str
    assert kind is option.kind


@pytest.mark.parametrize("option", OPTIONS, ids=by_name)
def test_a_default_has_its_type_and_passes_its_own_check(option: Option) -> None:
    value = DEFAULTS[option.name]
    if value is None:
        assert option.nullable
        return
    assert type(value) is option.kind
    assert getattr(resolve({option.name: value}), option.name) == value
    if option.choices:
        assert value in option.choices


@pytest.mark.parametrize("option", OPTIONS, ids=by_name)
def test_both_spellings_of_a_flag_mean_the_same(option: Option) -> None:
    dashed, underscored = ("--" + option.name.replace("_", "-"), "--" + option.name)
    assert set(option.flags) == {dashed, underscored}
    value = [] if option.kind is bool else ["text"]
    parsed = [parser().parse_args([flag, *value]) for flag in (dashed, underscored)]
    assert parsed[0] == parsed[1]
    assert getattr(parsed[0], option.name) == (True if option.kind is bool else "text")


def test_what_is_not_given_is_none_so_that_a_flag_can_be_told_from_a_default() -> None:
    assert set(vars(parser().parse_args([])).values()) == {None}


def test_every_setting_says_what_it_means_and_belongs_to_a_group() -> None:
    assert all(option.help for option in OPTIONS)
    assert {option.group for option in OPTIONS} == {"what", "how", "where", "run"}


def test_flags_of_the_run_guide_are_there() -> None:
    guide = [
        "dataset_type",
        "dataset_path",
        "output_name",
        "max_samples",
        "caption_type",
        "language",
        "prompt_type",
        "entropy_threshold",
        "k",
        "max_cpu_cores",
        "max_memory_gb",
        "gate_type",
        "margin_threshold",
        "logprob_threshold",
        "rank_threshold",
        "input_modality",
    ]
    flags = {flag for option in OPTIONS for flag in option.flags}
    assert {"--" + name for name in guide} <= flags
    assert {"--" + name.replace("_", "-") for name in guide} <= flags


def test_defaults_of_the_run_guide() -> None:
    guide = {
        "dataset_type": "unified",
        "max_samples": None,
        "caption_type": "original",
        "language": "chinese",
        "prompt_type": "default",
        "entropy_threshold": 1.5,
        "k": 3,
        "max_cpu_cores": 2,
        "max_memory_gb": 16.0,
        "margin_threshold": 0.1,
        "logprob_threshold": -2.0,
        "rank_threshold": 20,
        "gate_type": "entropy",
        "acceptance": "rank",
    }
    assert {name: DEFAULTS[name] for name in guide} == guide


def test_presets_of_the_run_guide() -> None:
    guide = [name for name in PRESETS if not name.startswith("frontier")]
    assert {name: (PRESETS[name]["entropy_threshold"], PRESETS[name]["k"]) for name in guide} == {
        "recommended": (1.5, 3),
        "quick": (1.45, 5),
        "high-acceptance": (2.0, 5),
        "high-precision": (1.0, 3),
        "cpu-limited": (4.0, 5),
    }
    assert PRESETS["cpu-limited"]["max_cpu_cores"] == 2
    assert PRESETS["cpu-limited"]["max_memory_gb"] == 16.0


def test_choices_follow_the_registered_gates_and_rules_and_the_vocabulary() -> None:
    table = {option.name: set(option.choices) for option in OPTIONS}
    assert table["gate_type"] == set(GATES)
    assert table["acceptance"] == set(RULES)
    assert table["language"] == set(typing.get_args(contracts.Language))
    assert table["prompt_type"] == set(typing.get_args(contracts.PromptType))


def test_groups_come_in_order_each_under_its_heading() -> None:
    groups = [option.group for option in OPTIONS]
    assert groups == sorted(groups, key=["what", "how", "where", "run"].index)
    assert sum(line.startswith("# ") for line in TEXT.splitlines()) >= 4


def test_the_frontier_preset_hands_no_whole_caption_off() -> None:
    assert "hand_off" not in PRESETS["frontier"]
    assert PRESETS["frontier"]["gate_type"] == "calibrated"
