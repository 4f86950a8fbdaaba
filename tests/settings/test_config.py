"""The configuration: layers, checks that list everything at once, and what makes a run the same."""

from __future__ import annotations

import json
import time
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.errors import ConfigError
from edgecloud.settings.config import Config, load_file, resolve
from edgecloud.settings.options import OPTIONS
from edgecloud.settings.presets import PRESETS

NAMES = [option.name for option in OPTIONS]


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(flags: dict[str, Any], **layers: Any) -> list[str]:
    """What ``resolve`` finds wrong, line by line."""
    with pytest.raises(ConfigError) as info:
        resolve(flags, **layers)
    first, *rest = str(info.value).splitlines()
    assert first == "settings are wrong:"
    return [line.strip() for line in rest]


def test_nothing_given_is_the_defaults() -> None:
    config = resolve()
    assert (config.draft.k, config.gate.entropy_threshold, config.data.path) == (3, 1.5, None)
    assert (config.acceptance.rule, config.acceptance.rank_threshold) == ("rank", 20)
    # The defaults are the run guide's loop: every idea beyond it is off.
    assert (config.gate.scope, config.draft.verify_scope, config.cloud.continuation) == (
        "block",
        "block",
        0,
    )


@pytest.mark.parametrize("text", ["0.8s", "12t", "3s", "0t"])
def test_a_budget_is_in_seconds_or_tokens(text: str) -> None:
    assert resolve({"cloud_budget": text}).cloud.budget == text


@pytest.mark.parametrize("text", ["0.8", "12 t", "t", "-1s", "1.5t", "fast"])
def test_another_budget_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"cloud_budget.*neither busy seconds"):
        resolve({"cloud_budget": text})


@pytest.mark.parametrize("rule", ["exact", "rank", "bounded"])
def test_a_greedy_rule_at_a_temperature_is_refused_in_one_line(rule: str) -> None:
    (found,) = problems({"acceptance": rule, "temperature": "0.7"})
    assert found == (
        f"acceptance: {rule} is for temperature 0; with --temperature 0.7 give --acceptance rejection"
    )
    assert resolve({"acceptance": "rejection", "temperature": "0.7"}).sampling.temperature == 0.7
    assert resolve({"acceptance": "rejection"}).sampling.temperature == 0.0


def test_a_flag_wins_over_a_preset_over_a_file_over_the_default(tmp_path: Path) -> None:
    file = write(tmp_path, "k: 7\nentropy_threshold: 0.5\nrank_threshold: 3\n")
    config = resolve({"k": "9"}, preset="high-acceptance", file=file)
    assert config.draft.k == 9
    assert config.gate.entropy_threshold == 2.0
    assert config.acceptance.rank_threshold == 3
    assert config.gate.margin_threshold == 0.1


def test_a_flag_that_is_none_was_not_given() -> None:
    assert resolve({"k": None}, preset="quick").draft.k == 5


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_sets_what_it_names_and_nothing_else(name: str) -> None:
    changed = {**resolve().to_json(), **PRESETS[name]}
    assert resolve(preset=name).to_json() == changed


def test_a_setting_in_a_file_may_be_spelled_both_ways(tmp_path: Path) -> None:
    assert resolve(file=write(tmp_path, "max-samples: 3\nmax_cpu_cores: 0\n")).data.max_samples == 3


def test_a_file_may_leave_a_nullable_setting_open_again(tmp_path: Path) -> None:
    assert resolve(file=write(tmp_path, "max_sentences: null\n")).generation.max_sentences is None
    assert resolve({"max_sentences": "null"}).generation.max_sentences is None


def test_everything_wrong_is_listed_at_once_with_its_source(tmp_path: Path) -> None:
    file = write(tmp_path, "colour: red\nlanguage: klingon\nk: 0\nresume: 1\n")
    found = problems(
        {"max_new_tokens": "many", "margin_threshold": "1.5", "nonsense": "1"}, file=file
    )
    assert len(found) == 7
    for source, word in [
        (str(file), "'colour'"),
        (str(file), "language: 'klingon' is not one of chinese, english"),
        (str(file), "k: 0 is below 1"),
        (str(file), "resume: 1 is not true or false"),
        ("flag", "max_new_tokens: 'many' is not a whole number"),
        ("flag", "margin_threshold: 1.5 is above 1"),
        ("flag", "unknown setting 'nonsense'"),
    ]:
        assert any(line.startswith(source) and word in line for line in found), word


@pytest.mark.parametrize(
    "name, value",
    [
        ("k", "2.5"),
        ("k", 2.5),
        ("k", True),
        ("k", [3]),
        ("k", {"a": 1}),
        ("k", ""),
        ("k", None),
        ("k", float("inf")),
        ("k", float("nan")),
        ("k", 10**400),
        ("k", 65),
        ("entropy_threshold", "nan"),
        ("entropy_threshold", "inf"),
        ("entropy_threshold", -0.1),
        ("entropy_threshold", 10**400),
        ("logprob_threshold", 0.5),
        ("max_samples", 0),
        ("max_samples", "-1"),
        ("rank_threshold", 0),
        ("warmup", 1),
        ("edge_device", ""),
        ("edge_device", ["cpu"]),
        ("edge_device", {"cpu": 0}),
        ("edge_device", True),
        ("dataset_path", False),
        ("gate_type", "sometimes"),
        ("acceptance", "fuzzy"),
        ("temperature", -0.1),
        ("temperature", "nan"),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("dataset_type", "secap"),
        ("clock", "sundial"),
        ("edge_dtype", "int8"),
        ("resume", "yes"),
        ("max_memory_gb", "16GB"),
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_range_is_refused(
    tmp_path: Path, name: str, value: Any
) -> None:
    if value is not None:
        (found,) = problems({name: value})
        assert name in found
    if not isinstance(value, int) or value < 10**300:
        (found,) = problems({}, file=write(tmp_path, yaml.safe_dump({name: value})))
        assert name in found


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("k", "5", 5),
        ("k", 5.0, 5),
        ("entropy_threshold", 2, 2.0),
        ("entropy_threshold", "1e-1", 0.1),
        ("max_cpu_cores", "0", 0),
        ("max_memory_gb", "0", 0.0),
        ("output_name", 2024, "2024"),
        ("resume", True, True),
        ("logprob_threshold", "-3", -3.0),
    ],
)
def test_values_arrive_as_their_type(name: str, value: Any, expected: Any) -> None:
    found = resolve({name: value}).to_json()[name]
    assert found == expected
    assert type(found) is type(expected)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), anything, max_size=4))
def test_any_values_are_a_valid_configuration_or_a_clear_error(flags: dict[str, Any]) -> None:
    try:
        config = resolve(flags)
    except ConfigError:
        return
    json.dumps(config.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    "content",
    ["- a\n- b\n", "just words", "k: [1\n", "k: 1\n\t\n:::", "3"],
    ids=["list", "text", "open-bracket", "tabs", "number"],
)
def test_a_file_that_holds_no_settings_is_one_clear_line(tmp_path: Path, content: str) -> None:
    file = write(tmp_path, content)
    with pytest.raises(ConfigError) as info:
        resolve(file=file)
    assert str(file) in str(info.value)
    assert "\n" not in str(info.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    for content in (b"\xff\xfe\x00k", b"k: \x00", b"\x89PNG\r\n"):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"settings\.yaml") as info:
            load_file(file)
        assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "content",
    [
        "k: " + "[" * 20_000,
        "k: " + "[" * 20_000 + "]" * 20_000,
        "{a: " * 20_000,
        "- " * 20_000 + "1",
        "? " * 20_000 + "1",
        "".join(f"{' ' * n}a:\n" for n in range(400)),
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
            for old, new in zip("abcdefghi", "bcdefghij", strict=True)
        ),
        "a: &a\n  b: *a\n",
        "a: &a {k: 3}\n<<: *a\n",
        "k: 2001-99-99",
        "k: !!int x",
        "k: !!int ''",
        "k: !!bool maybe",
        "k: !!timestamp x",
        "k: !!float []",
        "k: !!python/object/apply:os.system [true]",
        "k: *nobody",
        "k: 1\n---\nk: 2",
        "k: 0x" + "f" * 20_000,
        "#" * 200_000,
    ],
    ids=range(20),
)
def test_yaml_made_to_do_harm_ends_at_once_in_one_error(tmp_path: Path, content: str) -> None:
    file = write(tmp_path, content)
    began = time.process_time()
    with pytest.raises(ConfigError) as info:
        resolve(file=file)
    assert str(file) in str(info.value)
    assert time.process_time() - began < 5


def test_aliases_of_single_values_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    file = write(tmp_path, "\ufeffk: &n 4\nrank_threshold: *n\n")
    assert resolve(file=file).acceptance.rank_threshold == 4


def test_a_missing_file_says_which_and_how_to_mend_it(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=r"check --config") as info:
            load_file(path)
        assert str(path) in str(info.value)


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert resolve(file=write(tmp_path, "# only a comment\n")) == resolve()


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    target = tmp_path / "made"
    file = write(tmp_path, f"k: !!python/object/apply:os.mkdir ['{target}']\n")
    with pytest.raises(ConfigError):
        resolve(file=file)
    assert not target.exists()


def test_an_unknown_preset_is_named_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"'slow'; choose one of recommended, quick"):
        resolve(preset="slow")


def test_identity_leaves_out_how_a_run_is_carried_out_and_how_many_samples() -> None:
    run = {option.name for option in OPTIONS if option.group == "run"}
    assert {"resume", "output_name", "output_dir", "deadline", "warmup"} <= run
    assert set(resolve().identity()) == set(NAMES) - run - {"max_samples"}


def test_runs_that_differ_in_their_carrying_out_alone_are_the_same_run() -> None:
    other = resolve(
        {"resume": True, "output_name": "x", "max_samples": 3, "max_failures": 2, "deadline": 9}
    )
    assert other.identity() == resolve().identity()
    assert resolve({"k": 4}).identity() != resolve().identity()
    assert resolve({"seed": 4}).identity() != resolve().identity()
    assert resolve({"edge_model": "a"}).identity() != resolve().identity()


def test_a_changed_copy_knows_what_was_given_and_takes_settings_alone() -> None:
    config = resolve({"k": 4})
    assert config.changed(seed=7) == resolve({"k": 4, "seed": 7})
    assert config.changed(seed=7).given == {"k"}
    with pytest.raises(TypeError, match="no setting is called sed"):
        config.changed(sed=7)


def test_what_an_older_file_does_not_know_has_its_default() -> None:
    settings = resolve({"k": 4}).to_json()
    del settings["top_p"]
    assert Config.from_flat(settings) == resolve({"k": 4})


def test_a_configuration_is_frozen_and_json() -> None:
    config = resolve({"dataset_path": "数据/清单.json"})
    assert Config.from_flat(json.loads(json.dumps(config.to_json(), allow_nan=False))) == config
    with pytest.raises(FrozenInstanceError):
        config.draft.k = 4  # type: ignore[misc]


@pytest.fixture
def capped(tmp_path: Path) -> str:
    """A hardware profile of three cores and 7 GB."""
    content = {
        "schema": "edgecloud-profile/1",
        "name": "three",
        "source": "made up",
        "caps": {"cpu_cores": 3, "memory_gb": 7.0},
        "cloud": {"prefill_s": 0.1, "step_s": 0.1, "verify_s": 0.1},
    }
    path = tmp_path / "three.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def test_a_profile_sets_caps_that_no_other_layer_gives(capped: str, tmp_path: Path) -> None:
    found = resolve({"hardware_profile": capped})
    assert (found.caps.cpu_cores, found.caps.memory_gb) == (3, 7.0)
    assert resolve({"hardware_profile": capped, "max_cpu_cores": 1}).caps.cpu_cores == 1
    assert resolve({"hardware_profile": capped}, preset="cpu-limited").caps.cpu_cores == 2
    file = tmp_path / "settings.yaml"
    file.write_text(f"hardware_profile: {capped}\nmax_memory_gb: 5\n", encoding="utf-8")
    found = resolve(file=file)
    assert (found.caps.cpu_cores, found.caps.memory_gb) == (3, 5.0)


def test_a_profile_without_caps_leaves_the_defaults() -> None:
    assert resolve({"hardware_profile": "paper-int8"}) == resolve().changed(
        hardware_profile="paper-int8"
    )


def test_the_simulated_phone_and_unlimited_are_one_word_each() -> None:
    phone, free = (resolve({"hardware_profile": name}) for name in ("iphone-15-plus", "unlimited"))
    assert (phone.caps.cpu_cores, phone.caps.memory_gb) == (2, 16.0)
    assert (free.caps.cpu_cores, free.caps.memory_gb) == (0, 0.0)


def test_an_unknown_profile_is_one_of_the_wrong_settings() -> None:
    with pytest.raises(ConfigError, match="unknown hardware profile 'abacus'"):
        resolve({"hardware_profile": "abacus"})


def test_a_run_is_read_back_when_its_profile_is_gone(capped: str) -> None:
    found = resolve({"hardware_profile": capped})
    Path(capped).unlink()
    assert resolve(found.to_json()) == found


def test_the_same_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = Mock(wraps=yaml.safe_load)
    monkeypatch.setattr(yaml, "safe_load", parsed)
    file = tmp_path / "own.yaml"
    for k in (2, 5):
        file.write_text(f"k: {k}  # {tmp_path}\n", encoding="utf-8")
        assert {resolve({"top_p": 0.5}, file=file).draft.k for _ in range(3)} == {k}
    assert parsed.call_count == 2
