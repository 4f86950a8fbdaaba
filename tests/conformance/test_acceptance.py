"""What every acceptance rule obeys; those of a new one, and of a plug-in, are found by their registration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecloud.cloud.protocol import wire
from edgecloud.contracts import Acceptance
from edgecloud.decoding.acceptance import RULES, Rule, TokenScore, kept
from edgecloud.decoding.speculative import Speculation
from edgecloud.errors import WireError
from edgecloud.settings.parts import settings_of
from edgecloud.testing import RULE_LAWS, Law, check_acceptance_rule
from edgecloud.testing.acceptance import acceptances, tokens, with_numbers
from tests.properties.loop import Case, run_cloud, run_speculative

NAMES = sorted(RULES)


@pytest.mark.parametrize("law", RULE_LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("name", NAMES)
def test_every_rule_obeys(name: str, law: Law[Rule]) -> None:
    law.check(
        with_numbers(RULES[name], RULES.part(name).own), sorted(settings_of("acceptance", name))
    )


def moody() -> Rule:
    moods: Iterator[bool] = cycle([True, False])
    return lambda token, _: token.is_top or next(moods)


@pytest.mark.parametrize(
    "rule, law",
    [
        (lambda token, _: int(token.rank < 20), "answers"),
        (moody(), "pure"),
        (lambda token, _: not token.is_top and token.rank < 20, "first choice"),
        (lambda token, _: token.is_top or token.rank >= 20, "better"),
        (lambda token, _: token.is_top or token.regret > 1, "better"),
        # They are registered without what they look at.
        (lambda token, acceptance: token.rank < acceptance.rank_threshold, "settings"),
        (lambda token, acceptance: token.regret <= acceptance.regret_nats, "settings"),
        (lambda token, acceptance: token.regret <= acceptance.probability_ratio, "settings"),
    ],
)
def test_a_rule_that_breaks_a_law_is_found_by_that_law(rule: Rule, law: str) -> None:
    (broken,) = (some for some in RULE_LAWS if some.name == law)
    with pytest.raises(AssertionError):
        broken.check(rule, ())
    with pytest.raises(AssertionError, match="broken by"):
        check_acceptance_rule(rule)


def test_every_law_is_broken_by_a_rule_above() -> None:
    (marked,) = test_a_rule_that_breaks_a_law_is_found_by_that_law.pytestmark  # type: ignore[attr-defined]
    assert {law for _, law in marked.args[1]} == {law.name for law in RULE_LAWS}


@pytest.mark.parametrize("name", NAMES)
@given(draft=st.lists(tokens, max_size=8), acceptance=acceptances)
def test_tokens_are_kept_from_the_first_on(
    name: str, draft: list[TokenScore], acceptance: Acceptance
) -> None:
    acceptance = replace(acceptance, rule=name, own=RULES.part(name).own)
    count = kept(draft, acceptance)
    assert 0 <= count <= len(draft)
    # Whatever follows what is rejected: a draft that ends there is kept as far, and not farther.
    assert kept(draft[:count], acceptance) == count
    assert kept(draft[: count + 1], acceptance) == count


@pytest.mark.parametrize("name", NAMES)
def test_a_draft_that_is_the_clouds_own_text_is_never_corrected(name: str) -> None:
    accepting = Acceptance(
        name,
        rank_threshold=1,
        probability_ratio=1.0,
        regret_nats=0.0,
        own=RULES.part(name).own,
    )
    case = Case(settings=Speculation(gate="always", acceptance=accepting))
    run = run_speculative(case, case.cloud().model, case.cloud())
    assert run.tokens == run_cloud(case).tokens
    assert set(run.origins) <= {"verified", "bonus"}


@pytest.mark.parametrize("name", NAMES)
def test_the_rule_and_its_settings_travel_to_the_cloud(name: str) -> None:
    acceptance = Acceptance(name, rank_threshold=7, probability_ratio=0.25, regret_nats=1.5)
    assert wire.acceptance_of(wire.pack_acceptance(acceptance)) == acceptance
    acceptance = replace(acceptance, own={"nats": 0.5})
    assert wire.acceptance_of(wire.pack_acceptance(acceptance)) == acceptance


@pytest.mark.parametrize(
    "own", [{"nats": "a lot"}, {1: 0.5}, [0.5], {str(n): 0.5 for n in range(33)}]
)
def test_numbers_that_a_rule_cannot_have_are_refused(own: object) -> None:
    packed = [*wire.pack_acceptance(Acceptance()), own]
    with pytest.raises(WireError, match="numbers by name"):
        wire.acceptance_of(packed)
