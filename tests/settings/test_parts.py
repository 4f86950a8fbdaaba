"""Which parts a configuration uses, and what is said of those that are nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from edgecloud import registry
from edgecloud.contracts import Acceptance
from edgecloud.decoding.acceptance import RULES, TokenScore, kept
from edgecloud.decoding.gates import GATES
from edgecloud.edge.speculation_policy import speculation
from edgecloud.errors import ConfigError, PluginError, WireError
from edgecloud.experiments.run import identity_of
from edgecloud.experiments.system import _check_rule
from edgecloud.settings.config import resolve
from edgecloud.settings.declaration import MODES
from edgecloud.settings.options import OPTIONS
from edgecloud.settings.parts import PARTS, plugins_in_use, settings_of, unused_settings


def mine(*_: Any) -> bool:
    """Of this module, which is no part of the package."""
    return True


def test_built_in_parts_are_no_plugins() -> None:
    assert plugins_in_use("spec", resolve().to_json()) == []


def test_plugins_are_in_use_in_speculation_alone() -> None:
    with GATES.replaced("mine", mine), RULES.replaced("mine", mine):
        settings = resolve({"gate_type": "mine", "acceptance": "mine"}).to_json()
        found = plugins_in_use("spec", settings)
        assert [part["kind"] for part in found] == ["gate", "acceptance rule"]
        assert {part["origin"] for part in found} == {f"module {__name__}"}
        assert all(len(part["sha256"] or "") == 64 for part in found)
        assert plugins_in_use("edge", settings) == plugins_in_use("cloud", settings) == []


def test_a_setting_that_a_plugin_looks_at_still_counts_for_the_others() -> None:
    with GATES.replaced("mine", mine, options=("k", "entropy_threshold")):
        assert "k" not in unused_settings("spec", {"gate_type": "margin", "acceptance": "rank"})
        unused = unused_settings("spec", {"gate_type": "mine", "acceptance": "exact"})
    assert "entropy_threshold" not in unused
    assert {"margin_threshold", "rank_threshold"} <= unused


@pytest.mark.parametrize("mode", MODES)
def test_a_setting_counts_in_the_modes_and_beside_the_parts_of_its_declaration(mode: str) -> None:
    unused = unused_settings(mode, {"gate_type": "margin", "acceptance": "exact"})
    for option in OPTIONS:
        used_by = {"gate_type": "margin", "acceptance": "exact"}.get(option.chosen_by or "")
        counts = mode in option.modes and (not option.used_by or used_by in option.used_by)
        assert (option.name not in unused) is counts, option.name
    assert unused_settings("spec", {}) == unused_settings("spec", resolve().to_json())


def test_parts_look_at_settings_that_there_are() -> None:
    names = {option.name for option in OPTIONS}
    for choice, parts in PARTS.items():
        for name in parts:
            assert settings_of(choice, name) <= names
    assert settings_of("acceptance", "bounded") > settings_of("acceptance", "rank") > set()


def test_choices_are_read_when_a_value_is_checked() -> None:
    with pytest.raises(ConfigError, match="for a gate of your own give --plugin MODULE"):
        resolve({"gate_type": "mine"})
    with GATES.replaced("mine", mine):
        assert resolve({"gate_type": "mine"}).gate.name == "mine"


def test_a_setting_that_asks_for_a_broken_plugin_fails_with_its_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = registry.Broken("gates", "mine", "a-wreck 1.2", "KeyError: 'x'")
    monkeypatch.setattr(registry, "_BROKEN", [broken])
    with pytest.raises(ConfigError) as caught:
        resolve({"gate_type": "mine"})
    assert str(caught.value).endswith(f"; {broken}")
    resolve({"gate_type": "margin"})


def test_what_one_process_registered_by_itself_is_told_in_the_other_that_has_it_not() -> None:
    with GATES.replaced("mine", mine):
        config = resolve({"gate_type": "mine"})
        assert speculation(config).gate == "mine"
    with pytest.raises(ConfigError, match="this process has no gate 'mine'"):
        speculation(config)


def test_a_cloud_without_the_rule_says_so_in_a_line() -> None:
    with pytest.raises(WireError, match=r"'mine'; known: .*rank.*--plugin MODULE") as caught:
        kept([TokenScore(0, True)], Acceptance("mine"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "rules, why",
    [
        (
            {"rank": None},
            "has no acceptance rule 'mine'; it has rank. Start it with --plugin MODULE",
        ),
        ({"mine": "0" * 64}, "another version of the acceptance rule 'mine'"),
        ({"mine": None}, "another version"),
    ],
)
def test_a_service_that_has_not_the_same_rule_is_refused_before_the_first_sample(
    rules: dict[str, str | None], why: str
) -> None:
    with RULES.replaced("mine", mine):
        config = resolve({"acceptance": "mine", "cloud_url": "http://far:1"})
        with pytest.raises(ConfigError, match=why):
            _check_rule(config, {"rules": rules})
        _check_rule(config, {"rules": {"mine": RULES.part("mine").sha256}})
        _check_rule(config, {})  # an older service does not say which it has


def test_a_journal_knows_its_plugins_and_one_without_is_as_it_was() -> None:
    setup: dict[str, Any] = {"models": {}, "data": {}, "hardware_profile": None}
    config = resolve()
    assert "plugins" not in identity_of(config, {**setup, "plugins": []})
    assert identity_of(config, {**setup, "plugins": [{"name": "x"}]})["plugins"] == [{"name": "x"}]


def test_numbers_of_its_own_have_defaults_and_are_given_by_name() -> None:
    numbers = {"floor": -2, "ceiling": 0.5}
    with (
        GATES.replaced("mine", mine, own=numbers),
        RULES.replaced("mine", mine, own={"nats": 1.0}),
    ):
        chosen = {"gate_type": "mine", "acceptance": "mine"}
        found = speculation(resolve(chosen))
        assert found.thresholds.own == {"floor": -2.0, "ceiling": 0.5}
        assert found.acceptance.own == {"nats": 1.0}
        given = {"gate_options": "floor=-3, ceiling = 1e-3", "acceptance_options": "nats=0.25"}
        found = speculation(resolve({**chosen, **given}))
        assert found.thresholds.own == {"floor": -3.0, "ceiling": 0.001}
        assert found.acceptance.own == {"nats": 0.25}


@pytest.mark.parametrize(
    "given, says",
    [
        ({"gate_options": "roof=1"}, r"gate 'mine' has no 'roof' of its own; it has floor"),
        ({"gate_options": "floor"}, r"floor is '', which is not a finite number"),
        ({"gate_options": "floor=inf"}, r"floor is 'inf', which is not a finite number"),
        (
            {"acceptance_options": "a=1"},
            r"acceptance rule 'rank' has no 'a' of its own; it has none",
        ),
    ],
)
def test_numbers_that_nobody_knows_are_refused_before_a_run(
    given: dict[str, str], says: str
) -> None:
    with (
        GATES.replaced("mine", mine, own={"floor": -2.0}),
        pytest.raises(ConfigError, match=says),
    ):
        resolve({"gate_type": "mine", **given})


@pytest.mark.parametrize("own", [{"two words": 1.0}, {"a": float("nan")}, {"a": "1"}])
def test_an_own_number_has_a_name_and_a_finite_default(own: Any) -> None:
    with pytest.raises(PluginError, match="of letters"):
        GATES.add("mine", mine, own=own)
    assert "mine" not in GATES
