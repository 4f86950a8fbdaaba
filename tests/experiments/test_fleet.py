"""Fleets: queues against the formulas, one edge against its journal, and what is refused."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from edgecloud.contracts import CloudCost, Commit, Draft, Finish, Generate, Prefill, Trace, Verify
from edgecloud.errors import ConfigError
from edgecloud.experiments.fleet import Load, Objective, Policy, fleet, script
from edgecloud.experiments.fleet_simulation import (
    Call,
    Join,
    Script,
    Send,
    Work,
    chooser,
    closed,
    poisson,
    simulate,
)
from edgecloud.hardware.costs import BatchCosts, CloudCosts, LinkCosts
from edgecloud.hardware.link import LINKS, Link
from edgecloud.report.fleet import asked_of_the_gpu, in_short, table
from edgecloud.results.records import Record

SERVER = CloudCosts(0.0, 0.041, 0.05, prefill_per_token_s=1e-4)
NO_LINK = Link("none", LinkCosts(0.0))
EDGES = 2000
"""So many that none of them ever has two captions at once: a queue is the cloud's alone."""
RHO, CAPTIONS = 0.7, 20_000


def ask(tokens: int) -> Script:
    return Send(Call(prefill_tokens=tokens)), Join()


def mean_wait_s(scripts: list[Script]) -> float:
    """Of a cloud whose calls take a second in the mean and come RHO a second; wait and service."""
    found = simulate(
        chooser(scripts, 1),
        poisson(RHO / EDGES, EDGES, 1),
        edges=EDGES,
        captions=CAPTIONS,
        costs=SERVER,
        link=NO_LINK,
    )
    assert found.busy_s[-1] / found.ended_s[-1] == pytest.approx(RHO, rel=0.03)
    return sum(found.latencies_s) / CAPTIONS


TOLERANCE_S = 3.5 * (RHO * (2 + 5 * RHO - 4 * RHO**2 + RHO**3) / (1 - RHO) ** 4 / CAPTIONS) ** 0.5
"""Three and a half standard errors of the mean wait in M/M/1 (Daley 1968); that in M/D/1 is smaller."""


def test_at_random_times_it_is_the_queue_m_m_1() -> None:
    random = Random(3)
    scripts = [ask(max(1, round(random.expovariate(1e-4)))) for _ in range(20_000)]
    assert mean_wait_s(scripts) == pytest.approx(1 / (1 - RHO), abs=TOLERANCE_S + 0.03)


def test_with_equal_calls_it_is_the_queue_m_d_1() -> None:
    assert mean_wait_s([ask(10_000)]) == pytest.approx(1 + RHO / (2 * (1 - RHO)), abs=TOLERANCE_S)


def spec_record() -> Record:
    """A seeded start beside the edge's prefill, a verification with a continuation; paper's costs, no link."""
    return Record(
        "a",
        input_tokens=50,
        trace=Trace(
            (
                Prefill(0.0, 1.0, "edge", 50),
                Generate(0.0, 0.472, (1, 2, 3), cost=CloudCost(prefill_tokens=50)),
                Commit(0.472, 0.472, (1, 2, 3), ("cloud",) * 3),
                Draft(1.0, 1.6, (4, 5), escalated=True),
                Verify(
                    1.6,
                    1.732,
                    2,
                    2,
                    6,
                    (7, 8),
                    cost=CloudCost(ingested_tokens=3, verified_tokens=2),
                ),
                Commit(
                    1.732, 1.732, (4, 5, 6, 7, 8), ("verified",) * 2 + ("bonus",) + ("cloud",) * 2
                ),
                Draft(1.732, 2.2, (9,)),
                Commit(2.2, 2.2, (9,), ("edge",)),
                Finish(2.2, 2.2, "end_of_text"),
            )
        ),
    )


PAPER = CloudCosts(0.39, 0.041, 0.05)


def test_one_edge_takes_what_its_trace_says() -> None:
    one = script(spec_record())
    arrivals, think_s = closed(1)
    found = simulate(
        lambda _: one, arrivals, edges=1, captions=3, costs=PAPER, link=NO_LINK, think_s=think_s
    )
    assert found.latencies_s == pytest.approx([2.2] * 3)
    assert found.busy_s[0] == pytest.approx(0.39 + 2 * 0.041 + 0.05 + 2 * 0.041)


def test_sessions_share_forwards_and_prefills_do_not() -> None:
    """Two at once: prompts one after the other, and the first's steps beside the second's prompt."""
    both: Script = (Send(Call(prefill_tokens=1, steps=10)), Join())
    arrivals, think_s = closed(2, think_s=100.0)
    costs = CloudCosts(1.0, 0.1, 0.1)
    found = simulate(
        lambda _: both, arrivals, edges=2, captions=2, costs=costs, link=NO_LINK, think_s=think_s
    )
    # 1 s; then a prefill and ten steps, a second of work each, at half speed; then ten steps of the second alone.
    assert found.ended_s == pytest.approx([3.0, 4.0])
    assert found.busy_s[-1] == pytest.approx(4.0)


def test_a_full_forward_takes_turns() -> None:
    step: Script = (Send(Call(steps=1)), Join())
    costs = CloudCosts(1.0, 1.0, 1.0, batch=BatchCosts(step=((1, 1.0), (2, 1.5))))
    arrivals, think_s = closed(3, think_s=100.0)
    found = simulate(
        lambda _: step,
        arrivals,
        edges=3,
        captions=3,
        costs=costs,
        link=NO_LINK,
        max_batch=2,
        think_s=think_s,
    )
    assert found.ended_s == pytest.approx([1.0, 2.5, 2.5])  # the first came alone


def test_the_host_is_busy_once_a_request_and_for_each_streamed_token() -> None:
    """A generation: its prefill with the first token, then two steps; a verification after a prefill of its own."""
    costs = CloudCosts(1.0, 0.1, 0.2, batch=BatchCosts(request_s=0.01, token_s=0.001))
    written = Call(prefill_tokens=1, steps=2, streamed=3)
    verified = Call(prefill_tokens=1, verify_tokens=4, steps=1)
    for call, due in ((written, 1.0 + 0.2 + 0.013), (verified, 1.0 + 0.2 + 0.1 + 0.01)):
        arrivals, think_s = closed(1)
        found = simulate(
            lambda _, call=call: (Send(call), Join()),
            arrivals,
            edges=1,
            captions=2,
            costs=costs,
            link=NO_LINK,
            think_s=think_s,
        )
        assert found.latencies_s == pytest.approx([due] * 2)


def test_the_same_seed_gives_the_same_fleet_and_another_one_another() -> None:
    policies = [Policy("spec", "spec", (script(spec_record()), ask(9)))]

    def run(seed: int) -> object:
        return fleet(
            policies, edges=[1, 8], load=Load.parse("poisson:0.2"), objective=Objective(0.95, 3.0),
            hardware_profile="paper", link="wifi", seed=seed,
        )  # fmt: skip

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_the_most_edges_within_the_objective_are_found_and_compared() -> None:
    cloud = Policy("cloud alone", "cloud", ((Send(Call(prefill_tokens=1, steps=20)), Join()),))
    spec = Policy(
        "spec",
        "spec",
        ((Work(0.5), Send(Call(prefill_tokens=1, verify_tokens=4)), Join()), (Work(1.0),)),
    )
    found = fleet(
        [cloud, cloud.self_speculating(), spec], edges=[1, 4], load=Load.parse("closed"),
        objective=Objective.parse("p95=3s"), hardware_profile="paper", captions=20,
    )  # fmt: skip
    assert found["batch_costs"] == "assumed"
    alone, quicker, other = found["policies"]
    assert alone["over_cloud_alone"] == 1.0
    for block in (alone, quicker, other):
        assert block["most"]["met"]
        assert block["most"]["p95_s"] <= 3.0
    assert quicker["most"]["edges"] >= alone["most"]["edges"]
    assert "1.65" in quicker["note"]
    assert other["over_cloud_alone"] > 1.5  # every second caption asks no cloud
    day = 1e6 / 86400 / other["most"]["captions_per_gpu_s"]
    assert 0 <= other["most"]["gpus_for_a_million_a_day"] - day < 1
    # Of two captions one asks the cloud, for a prefill of 0.39 s and a verification of 0.05 s: at most 1 / 0.195 a second.
    assert other["alone"] == pytest.approx(
        {
            "prefills": 0.5,
            "prefill_s": 0.195,
            "verifications": 0.5,
            "verify_s": 0.025,
            "steps": 0.0,
            "step_s": 0.0,
        }
    )
    bound = [row for row in asked_of_the_gpu(found).splitlines() if row.startswith("| spec")]
    assert "5.13" in bound[0]
    short = in_short(found)
    assert f"spec: **{other['most']['edges']}** (" in short
    assert f"{other['over_cloud_alone']:.2f} times the cloud alone" in short


def test_in_an_open_load_the_most_edges_are_of_those_given() -> None:
    """Three seconds of the GPU a caption, one in 20 s at each edge: two edges need 0.3 of it, eight more than there is."""
    cloud = Policy("cloud", "cloud", ((Send(Call(prefill_tokens=1, steps=64)), Join()),))
    edge = Policy("edge", "edge", ((Work(9.0),),))
    found = fleet(
        [cloud, edge], edges=[1, 2, 8], load=Load.parse("poisson:0.05"), objective=Objective.parse("p50=4s"),
        hardware_profile="paper", max_batch=1, captions=20,
    )  # fmt: skip
    assert [row["met"] for row in found["policies"][0]["at"]] == [True, True, False]
    assert found["policies"][0]["most"]["edges"] == 2
    short = in_short(found)
    assert "each of which asks every 20 s in the mean" in short
    assert "cloud: **2** (" in short
    assert "edge: needs no GPU, p95 is" in short
    assert "(too long whatever a GPU does)" in short
    assert "of those numbers" in table(found)


@pytest.mark.parametrize("text", ["3s", "p95=0s", "p0=3s", "p95=3", "p100=3s"])
def test_an_objective_is_a_percentile_and_a_time(text: str) -> None:
    with pytest.raises(ConfigError, match="such as p95=3s"):
        Objective.parse(text)


def test_loads_are_read_or_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,edge\n0,5\n0.5,1\n")
    arrivals, think_s = Load.parse(str(trace)).arrivals(4, 0)
    assert (list(arrivals), think_s) == ([(0.0, 1), (0.5, 1)], None)
    trace.write_text("arrival_s\n1\n0\n")
    for text in (str(trace), "poisson:0", "poisson:x", "open", str(tmp_path)):
        with pytest.raises(ConfigError, match="--load"):
            Load.parse(text)


def test_links_by_chance_are_of_each_edge() -> None:
    arrivals, think_s = closed(4)
    found = simulate(
        lambda _: ask(1),
        arrivals,
        edges=4,
        captions=40,
        costs=PAPER,
        link=LINKS["lte"],
        think_s=think_s,
    )
    assert len(set(found.latencies_s)) > 10
