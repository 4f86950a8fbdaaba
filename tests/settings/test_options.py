"""Options are declared once; flags, files and checks are made from the declarations."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal, get_args

import pytest

from edgecloud import contracts
from edgecloud.decoding.acceptance import RULES
from edgecloud.decoding.gates import GATES
from edgecloud.settings.config import resolve
from edgecloud.settings.declaration import Group, Option, options_of, setting, subject
from edgecloud.settings.options import OPTIONS, add_options
from edgecloud.settings.presets import PRESETS

DEFAULTS = {option.name: option.default for option in OPTIONS}


def by_name(option: Option) -> str:
    return option.name


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser()
    add_options(found.add_argument)
    return found


def test_names_are_told_apart() -> None:
    names = [option.name for option in OPTIONS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("option", OPTIONS, ids=by_name)
def test_a_default_has_its_type_and_passes_its_own_check(option: Option) -> None:
    value = DEFAULTS[option.name]
    if value is None:
        assert option.nullable
        return
    assert type(value) is option.kind
    assert resolve({option.name: value}).to_json()[option.name] == value
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
    groups = [option.group for option in OPTIONS]
    assert groups == sorted(groups, key=get_args(Group).index)


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
    assert table["language"] == set(get_args(contracts.Language))
    assert table["prompt_type"] == set(get_args(contracts.PromptType))


@dataclass(frozen=True)
class Declared:
    """A subject that declares one option of each kind."""

    text: Literal["a", "b"] = setting("a", "one of two", option="long_name")
    number: float | None = setting(None, "none or more", minimum=0.0, used_by=("exact",))
    part: str = setting("exact", "a part", choices=RULES)


@dataclass(frozen=True)
class Whole:
    """A configuration of that subject."""

    own: Declared = subject(Declared, "how", modes=("spec",))  # noqa: RUF009 - it is a field


def test_a_declaration_says_all_that_there_is_to_know() -> None:
    text, number, part = options_of(Whole)
    assert (text.subject, text.field, text.name, text.group) == ("own", "text", "long_name", "how")
    assert (text.kind, text.choices, text.nullable) == (str, ("a", "b"), False)
    assert (number.kind, number.minimum, number.nullable, number.default) == (
        float,
        0.0,
        True,
        None,
    )
    assert (number.used_by, number.chosen_by, number.modes) == (("exact",), "part", ("spec",))
    assert part.convert("exact") == "exact"
    assert (text.value_of(Whole()), text.value_in({})) == ("a", "a")
    assert text.value_in({"long_name": "b"}) == "b"


@pytest.mark.parametrize("option", OPTIONS, ids=by_name)
def test_parts_that_use_a_setting_are_registered(option: Option) -> None:
    if option.used_by:
        (registry,) = (other.choices for other in OPTIONS if other.name == option.chosen_by)
        assert set(option.used_by) <= set(registry)


def test_the_frontier_preset_hands_no_whole_caption_off() -> None:
    assert "hand_off" not in PRESETS["frontier"]
    assert PRESETS["frontier"]["gate_type"] == "calibrated"
