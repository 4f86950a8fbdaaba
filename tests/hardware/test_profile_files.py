"""Profiles as files: what is read back, what is refused, and what their names may say."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecloud.cli.main import main
from edgecloud.errors import ConfigError, OutputError
from edgecloud.hardware.catalogue import CLOUDS, DEVICES
from edgecloud.hardware.costs import ASSUMED, BatchCosts, Caps, CloudCosts, EdgeCosts, LinkCosts
from edgecloud.hardware.profile_files import ProfileFile, read_profile, write_profile
from edgecloud.hardware.profiles import names, profile, profile_file
from edgecloud.settings.config import resolve

WHOLE = ProfileFile(
    name="desk",
    source="made up",
    edges={
        "float32": EdgeCosts(1.0, 0.5, 0.01, ((1, 1.0), (4, 1.5), (16, 3.0))),
        "int8": EdgeCosts(0.25, 0.1),
    },
    default_edge="float32",
    cloud=CloudCosts(
        0.2,
        0.03,
        0.04,
        0.001,
        ((1, 1.0), (16, 2.0)),
        BatchCosts(step=((1, 1.0), (64, 1.5)), request_s=0.001, source="measured"),
    ),
    link=LinkCosts(0.02, 1e6),
    caps=Caps(4, 8.0),
    provenance={"date": "2026-01-01"},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "deep" / "desk.json"
    write_profile(target, WHOLE)
    return target


def test_what_is_written_is_read_back(path: Path) -> None:
    assert read_profile(path) == WHOLE


def test_a_file_is_a_profile_and_names_its_default_edge(path: Path) -> None:
    found = profile(str(path))
    assert (found.name, found.edge.step_s, found.cloud.verify(16)) == ("desk", 0.5, 0.08)
    assert found.caps == Caps(4, 8.0)
    assert json.loads(json.dumps(found.to_json()))["provenance"] == {"date": "2026-01-01"}


SHOWN = [*names(), "iphone-15-plus@int8", "epyc-2-cores+a100", "galaxy-s24@int8+h100", "h100+l4"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("name", SHOWN)
def test_what_profile_show_prints_is_a_file_of_the_same_profile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, encoding: str
) -> None:
    """Whatever encoding a shell writes ``profile show NAME > mine.json`` in."""
    assert main(["profile", "show", name]) == 0
    mine = tmp_path / "mine.json"
    mine.write_text(capsys.readouterr().out, encoding=encoding)
    assert json.dumps(profile(str(mine)).to_json()) == json.dumps(profile(name).to_json())
    assert resolve({"hardware_profile": str(mine)}).caps.cpu_cores == (
        resolve({"hardware_profile": name}).caps.cpu_cores
    )
    edges = profile_file(name).edges
    assert {key: profile(f"{mine}@{key}").edge for key in edges} == edges


def test_another_edge_and_another_cloud_are_named_after_it(path: Path) -> None:
    found = profile(f"{path}@int8+a100")
    assert found.name == "desk@int8+a100"
    assert found.edge == WHOLE.edges["int8"]
    assert found.cloud == profile("a100").cloud
    assert found.link == profile("paper").link
    with pytest.raises(ConfigError, match=r"no edge 'int3'; choose one of float32, int8"):
        profile(f"{path}@int3")


def test_a_cloud_alone_has_the_edge_of_paper(path: Path) -> None:
    content = json.loads(path.read_text())
    for key in ("edges", "default_edge", "caps", "link"):
        del content[key]
    path.write_text(json.dumps(content))
    found = profile(str(path))
    assert (found.edge, found.link) == (profile("paper").edge, profile("paper").link)
    assert found.caps is None


Change = Callable[[dict[str, Any]], Any]
WRONG: dict[str, Change] = {
    "unknown key 'color'": lambda c: c.update(color="red"),
    "name: text": lambda c: c.update(name=""),
    "source: text": lambda c: c.pop("source"),
    r"default_edge: 'int2' is none of the edges float32, int8": lambda c: c.update(
        default_edge="int2"
    ),
    "edges: an object": lambda c: c.update(edges=[]),
    "edges.int8.step_s: a number above 0": lambda c: c["edges"]["int8"].update(step_s=0),
    "edges.int8.prefill_s: a number from 0": lambda c: c["edges"]["int8"].update(prefill_s=-1),
    "edges.int8.speed: unknown": lambda c: c["edges"]["int8"].update(speed=1),
    "cloud.verify_s: a number above 0": lambda c: c["cloud"].pop("verify_s"),
    "cloud.step_s: a number above 0": lambda c: c["cloud"].update(step_s=float("nan")),
    "cloud.batch: an object": lambda c: c["cloud"].update(batch=4),
    "cloud.batch.source: one of": lambda c: c["cloud"]["batch"].pop("source"),
    "cloud.batch.width: unknown": lambda c: c["cloud"]["batch"].update(width=1),
    "cloud.batch.step: pairs": lambda c: c["cloud"]["batch"].update(step=[[2, 1.0]]),
    "cloud.batch.request_s: a number": lambda c: c["cloud"]["batch"].update(request_s=-1),
    "link: an object": lambda c: c.update(link="wifi"),
    "caps.cpu_cores: a whole number": lambda c: c["caps"].update(cpu_cores=1.5),
    "caps.memory_gb: a number": lambda c: c["caps"].update(memory_gb=True),
    "caps.disk: unknown": lambda c: c["caps"].update(disk=1),
    "edges, cloud: one of them": lambda c: [c.pop(k) for k in ("edges", "default_edge", "cloud")],
}
POINTS = [[], [[2, 1.0]], [[1, 2.0]], [[1, 1.0], [1, 2.0]], [[1, 1.0], [4, 0.5]], [[1, 1.0], 4], 7]


@pytest.mark.parametrize("words", WRONG)
def test_what_is_wrong_is_named(path: Path, words: str) -> None:
    content = copy.deepcopy(WHOLE.to_json())
    WRONG[words](content)
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=words):
        profile(str(path))


@pytest.mark.parametrize("points", POINTS, ids=str)
def test_points_rise_from_one_token_and_one_step(path: Path, points: object) -> None:
    content = copy.deepcopy(WHOLE.to_json())
    content["edges"]["int8"]["ingest_steps"] = points
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"edges.int8.ingest_steps: pairs"):
        read_profile(path)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": "edgecloud-profile/2"}', "\udcff"])
def test_what_is_no_profile_is_refused(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=r"not JSON|not of schema|not UTF-8"):
        read_profile(path)


def test_a_file_that_is_not_there_and_one_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_profile(tmp_path / "none.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_profile(tmp_path / "file" / "desk.json", WHOLE)


@pytest.mark.parametrize("name", names())
def test_every_name_is_a_profile_with_a_source(name: str) -> None:
    found = profile(name)
    assert found.name == name
    assert found.source
    json.dumps(found.to_json(), allow_nan=False)
    assert profile_file(name).source == found.source


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_is_scaled_by_bandwidth_and_says_that_it_is_modelled(name: str) -> None:
    measured = profile_file("epyc-2-cores")
    slower = measured.provenance["bandwidth_gb_s"] / DEVICES[name].bandwidth_gb_s
    for precision in set(measured.edges) - {"float32"}:
        edge, model = profile(f"{name}@{precision}").edge, measured.edges[precision]
        assert edge.step_s == pytest.approx(model.step_s * slower)
        assert edge.prefill(200) == pytest.approx(model.prefill(200) * slower)
        assert edge.ingest_steps == model.ingest_steps
    found = profile(name)
    assert "modelled" in found.source
    assert found.caps == Caps(DEVICES[name].cores, DEVICES[name].memory_gb)


def test_the_simulated_phone_has_the_originals_times() -> None:
    assert profile("iphone-15-plus").edge == profile("paper").edge


def test_a_cloud_is_its_roofline() -> None:
    found = profile("a100-80gb").cloud
    assert found.step_s == pytest.approx(14.14 / (0.6 * 2039))
    assert found.prefill(100) == pytest.approx(found.step_s + 100 * 16.7e9 / (0.4 * 312e12))
    assert all("modelled" in profile(name).source for name in CLOUDS)


def test_batches_are_assumed_where_a_profile_says_nothing_and_modelled_of_a_cloud() -> None:
    for name in ("paper", "epyc-2-cores", "h100-measured"):
        assert profile(name).cloud.batch == ASSUMED
        assert "batch" not in profile(name).to_json()["cloud"]
    for name in CLOUDS:
        batch = profile(name).cloud.batch
        assert batch.source == "modelled"
        assert 1.0 < batch.step_factor(32) < 1.1 < batch.verify_factor(64)
        assert 20 < batch.prefill_factor(64) < 64


def test_what_sessions_share_is_linear_between_points_and_in_proportion_beyond() -> None:
    batch = BatchCosts(step=((1, 1.0), (4, 2.5)), source="measured")
    assert [batch.step_factor(n) for n in (1, 2, 4, 8)] == pytest.approx([1.0, 1.5, 2.5, 5.0])
    assert [batch.prefill_factor(n) for n in (1, 7)] == [1.0, 7.0]


def test_measured_profiles_say_where_they_come_from() -> None:
    found = profile_file("epyc-2-cores")
    told = found.provenance
    assert told["bandwidth_gb_s"] > 0
    assert set(told["measured"]) == set(found.edges)
    assert {"cpu", "threads"} <= set(told["machine"])
    assert {"date", "versions", "what", "clock", "modelled"} <= set(told)
    assert found.source.startswith("measured on")
