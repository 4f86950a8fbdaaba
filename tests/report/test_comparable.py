"""What is compared with what: a ratio only between runs that compare, and the reference named."""

from __future__ import annotations

import re
from typing import Any

import pytest

from edgecloud.report.comparison import Group, groups
from edgecloud.report.markdown import to_markdown
from edgecloud.report.notices import notices
from edgecloud.report.summary import summarize
from edgecloud.report.texts import Texts
from tests.report.test_table import result, row, table, typed

EN, ZH = Texts("en"), Texts("zh")


def group(*results: Any) -> Group:
    found = groups(typed(results))
    assert len(found) == 1
    return found[0]


def said(*results: Any, texts: Texts = EN) -> str:
    return "\n".join(summarize(group(*results), texts).paragraphs(texts))


def busy(result_: Any, seconds: float) -> Any:
    for entry in result_["detailed_results"]:
        entry["cost_metrics"]["cloud_busy_time"] = seconds
    return result_


def profile(name: str, **edge: float) -> dict[str, Any]:
    costs = {"prefill_s": 7.3, "step_s": 0.415, **edge}
    return {"name": name, "edge": costs, "cloud": {"step_s": 0.041}, "link": {"round_trip_s": 0.1}}


def test_busy_seconds_of_two_clocks_make_no_share() -> None:
    edge, spec = result("edge"), busy(result("spec", clock="modelled"), 0.72)
    wall, modelled = busy(result("cloud"), 0.14), busy(result("cloud", clock="modelled"), 0.92)
    text = said(edge, spec, wall)
    assert "of what the cloud alone needs" not in text
    assert "not compared with the cloud alone (not comparable with cloud: different clocks" in text
    assert "78% of what the cloud alone needs" in said(edge, spec, wall, modelled)
    assert "78% of what the cloud alone needs" in said(modelled, wall, spec, edge)


def test_wall_clock_is_said_of_the_arms_that_it_timed_alone() -> None:
    text = said(result("edge"), result("spec", clock="modelled"), result("cloud", clock="modelled"))
    assert "Times of edge are wall-clock measurements." in text
    assert "Times of spec rank, cloud are computed from the hardware profile" in text


def test_a_capped_run_is_compared_with_the_capped_edge_whatever_the_names_are() -> None:
    free = result("edge", output_name="a", max_cpu_cores=0)
    capped = result("edge", output_name="b", max_cpu_cores=2)
    spec = result("spec", max_cpu_cores=2)
    assert group(free, capped, spec).reference("spec rank", "edge").name == "edge (b)"
    alone = group(free, spec).reference("spec rank", "edge")
    assert alone.name is None
    assert alone.reason is not None
    assert "different limits" in alone.reason
    assert "– [" in row(table([free, spec]), "total time over edge")
    assert "edge (b)" in row(table([free, capped, spec]), "edge compared with")


@pytest.mark.parametrize(
    "flags, name",
    [
        ({"clock": "modelled"}, "clocks"),
        ({"link": "lte"}, "links"),
        ({"edge_quantization": "int8"}, "precisions"),
        ({"max_memory_gb": 0.0}, "limits"),
        ({"input_modality": "audio_text"}, "prompts"),
        ({"max_new_tokens": 12}, "decoding settings"),
    ],
)
def test_what_the_edge_alone_uses_must_be_shared(flags: dict[str, Any], name: str) -> None:
    reference = group(result("edge", **flags), result("spec")).reference("spec rank", "edge")
    assert reference.reason is not None
    assert f"different {name}" in reference.reason


def test_of_one_name_the_parts_that_differ_are_said_in_words() -> None:
    """Never a tuple: two networks called `office`, and caps that only one machine could put in force."""
    edge, spec = result("edge", link="office"), result("spec", link="office")
    for one, delay_s in ((edge, 0.1), (spec, 0.25)):
        one["run"]["facts"] = {}
        one["setup"] = {"link": {"name": "office", "costs": {"round_trip_s": delay_s}, "loss": 0.0}}
    reason = group(edge, spec).reference("spec rank", "edge").reason
    assert reason is not None
    assert "different links (office: round trip 0.25 s / office: round trip 0.1 s)" in reason
    edge, spec = result("edge", max_cpu_cores=2), result("spec", max_cpu_cores=3)
    for one in (edge, spec):
        one["limits"] = {"summary": "cores uncapped"}
    reason = group(edge, spec).reference("spec rank", "edge").reason
    assert reason is not None
    assert "asked for 3 cores" in reason
    assert not set("'[{") & set(reason)


def test_the_models_by_their_hashes_the_machine_and_the_in_force_limits_must_be_shared() -> None:
    changes: list[tuple[str, Any]] = [
        ("models", {"edge": {"name": "mini-edge", "sha256": "2", "device": "cpu"}, "cloud": None}),
        ("environment", {"cpu": {"model": "another", "logical_cores": 64}}),
        ("limits", {"summary": "cores uncapped, memory uncapped"}),
    ]
    for key, value in changes:
        edge, spec = result("edge"), result("spec")
        edge["environment"] = spec["environment"] = {"cpu": {"model": "one", "logical_cores": 2}}
        edge["models"] = {"edge": {"name": "mini-edge", "sha256": "1", "device": "cpu"}}
        spec["models"] = edge["models"]
        assert group(edge, spec).reference("spec rank", "edge").name == "edge"
        edge[key] = value
        assert group(edge, spec).reference("spec rank", "edge").name is None, key


def test_the_cloud_alone_uses_neither_the_edges_precision_nor_its_limits_nor_its_profile() -> None:
    cloud = result("cloud", clock="modelled", hardware_profile="paper")
    spec = result(
        "spec",
        clock="modelled",
        hardware_profile="paper-int8",
        edge_quantization="int8",
        max_cpu_cores=0,
    )
    cloud["hardware_profile"] = profile("paper")
    spec["hardware_profile"] = profile("paper-int8", step_s=0.05)
    assert group(cloud, spec).reference("spec rank", "cloud").name == "cloud"
    edge = result("edge", clock="modelled", hardware_profile="paper", edge_quantization="int8")
    edge["hardware_profile"] = profile("paper")
    reference = group(edge, cloud, spec).reference("spec rank", "edge")
    assert reference.reason is not None
    assert "different hardware profiles (paper-int8 / paper)" in reference.reason


def test_a_cloud_in_another_precision_is_no_reference() -> None:
    cloud, spec = result("cloud"), result("spec", cloud_quantization="int8")
    reason = group(cloud, spec).reference("spec rank", "cloud").reason
    assert reason is not None
    assert "different precisions" in reason


def test_a_cloud_of_another_model_or_device_is_no_reference() -> None:
    for changed in ({"sha256": "2"}, {"device": "cuda:0"}, {"dtype": "float16"}):
        model = {"name": "mini-cloud", "sha256": "1", "device": "cpu", "dtype": "float32"}
        cloud, spec = result("cloud"), result("spec")
        cloud["models"] = {"edge": None, "cloud": {**model, **changed}}
        spec["models"] = {"edge": None, "cloud": model}
        assert group(cloud, spec).reference("spec rank", "cloud").name is None, changed


def test_of_several_references_the_one_of_the_same_run_comes_first() -> None:
    some = [result("edge", run=run, output_name=run) for run in ("old", "same", "new")]
    for order in (some, some[::-1]):
        found = group(*order, result("spec", run="same"))
        assert found.reference("spec rank", "edge").name == "edge (same)"
    nearer, spec = result("edge", run="x", output_name="x"), result("spec", run="z")
    farther = result("edge", run="y", output_name="y")
    farther["run"]["started_at"] = "2026-01-01T00:00:00+00:00"
    nearer["run"]["started_at"] = "2026-01-02T00:00:00+00:00"
    spec["run"]["started_at"] = "2026-01-02T01:00:00+00:00"
    assert group(farther, nearer, spec).reference("spec rank", "edge").name == "edge (x)"


def test_the_reference_is_named_in_sentences_and_tables() -> None:
    edge = result("edge", output_name="mine")
    some = [edge, result("spec", shift=0.1, output_name="s"), result("cloud", shift=0.4)]
    assert "Ratios are over edge (mine) and cloud." in said(*some)
    assert "参照为 端侧 (mine)、云端" in said(*some, texts=ZH)
    assert "edge (mine)" in row(table(some), "edge compared with")
    assert "edge (mine)" in to_markdown(typed(some))


def test_a_reason_is_given_in_the_reports_language() -> None:
    some = [result("edge"), result("spec", clock="modelled")]
    assert "与 端侧 不可比：时钟不同 (modelled / wall)" in said(*some, texts=ZH)


def test_a_group_is_titled_with_its_data_set() -> None:
    one, other = result("edge"), result("edge")
    other["data"] = {"manifest": "mine.json", "samples": 8, "sha256": "0123456789ab"}
    text = table([one, other])
    assert "English, default prompt, embedded\n" in text
    assert "English, default prompt, mine.json\n" in text
    again = result("edge")
    again["data"] = {"manifest": "mine.json", "samples": 8, "sha256": "fedcba9876543210"}
    text = table([one, other, again])
    assert "default prompt, mine.json 01234567\n" in text
    assert "default prompt, mine.json fedcba98\n" in text
    assert "English captions, default prompt, mine.json" in to_markdown(typed([other]))


def test_one_arm_of_few_samples_does_not_make_all_pairs_share_few() -> None:
    some = [
        result("edge", 40),
        result("spec", 40),
        result("spec", 3, acceptance="exact"),
        result("cloud", 40),
    ]
    told = notices(group(*some), EN)
    few = [text for text in told if "samples; intervals are wide" in text]
    assert len(few) == 1
    assert "spec exact: only 3 samples" in few[0]
    shared = [text for text in told if "cover different samples" in text]
    assert len(shared) == 2
    assert all("spec exact: it and" in text and "use the 3" in text for text in shared)


def test_equal_texts_are_called_identical() -> None:
    edge, spec, cloud = result("edge"), result("spec", shift=0.1), result("cloud", shift=0.4)
    for other in (spec, cloud):
        for own, its in zip(edge["detailed_results"], other["detailed_results"], strict=True):
            its |= {name: own[name] for name in ("generated_text", "tokens", "origins")}
    text = said(edge, spec, cloud)
    assert "All 8 captions of edge and cloud are identical." in text
    assert "All 8 captions are identical to those of cloud." in text
    assert "identical" in row(table([edge, spec, cloud]), "captions equal to the cloud's")
    assert "完全相同" in said(edge, spec, cloud, texts=ZH)
    spec["detailed_results"][0] |= {"generated_text": "another", "tokens": [1], "origins": ["edge"]}
    assert "identical to those" not in said(edge, spec, cloud)


def test_almost_all_is_not_called_all() -> None:
    edge, spec, cloud = (result(mode, 400) for mode in ("edge", "spec", "cloud"))
    for own, its in zip(spec["detailed_results"], cloud["detailed_results"], strict=True):
        its |= {name: own[name] for name in ("tokens", "origins")}
    cloud["detailed_results"][0] |= {"tokens": [1], "origins": ["cloud"]}
    assert re.search(r"99\.\d+% of its captions are the cloud’s own", said(edge, spec, cloud))


def test_times_of_two_clocks_share_no_axis() -> None:
    pytest.importorskip("matplotlib")
    from edgecloud.report.html.plots import by_clock

    some = [result("edge"), result("edge", clock="modelled"), result("cloud", clock="modelled")]
    found = by_clock(group(*some), EN, "g0")
    assert found == [
        ("g0", ", clock: wall", ["edge (wall)"]),
        ("g0-1", ", clock: modelled: paper", ["edge (modelled: paper)", "cloud"]),
    ]
    assert by_clock(group(some[0]), EN, "g0") == [("g0", "", ["edge"])]


def test_of_two_clouds_that_compare_the_one_of_the_same_profile_is_taken() -> None:
    others = [result("cloud", output_name=name) for name in ("a", "b")]
    spec = result("spec")
    for name, content in zip(("drafted", "plain"), others, strict=True):
        content["experiment_config"]["hardware_profile"] = name
    spec["experiment_config"]["hardware_profile"] = "plain"
    found = group(result("edge"), spec, *others)
    assert found.reference("spec rank", "cloud").name == "cloud (b)"


def test_many_series_are_counted_in_sentences_not_listed() -> None:
    runs = [result("spec", 4, output_name=f"run{n:02d}") for n in range(19)]
    many = group(result("edge", 4), *runs, result("cloud", 4, clock="modelled"))
    (few,) = (text for text in notices(many, EN) if "only 4 samples" in text)
    assert few.startswith("English captions, default prompt, ")
    assert "all 21 arms: only 4 samples" in few
    clocks = "\n".join(summarize(many, EN).context)
    assert (
        "Times of edge, spec rank (run00), spec rank (run01) and 17 others are wall-clock" in clocks
    )
    assert "另外 17 个方案" in "\n".join(summarize(many, ZH).context)
