"""Journals timed anew: what decoding again gives, byte for byte, and refusals where that cannot be known."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from edgecloud.cli.main import main
from edgecloud.contracts import Sample
from edgecloud.edge.messages import Failed, Mode, Request, Response
from edgecloud.experiments import run as arm
from edgecloud.experiments import swept
from edgecloud.experiments.sweep import Point
from edgecloud.hardware.link import link
from edgecloud.hardware.profiles import profile
from edgecloud.results.journal import read
from edgecloud.settings.config import Config

EARLIER = Path(__file__).parents[1] / "earlier" / "journals"
BASE = {"hardware_profile": "paper"}
PLACES: list[dict[str, Any]] = [
    {"hardware_profile": "galaxy-s24@int8+h100", "link": "wifi"},
    {"hardware_profile": "paper-int8", "link": "lan"},
]
"""Another edge and another cloud, over a link with chances and over one without."""
POLICIES: dict[str, tuple[Mode, dict[str, Any]]] = {
    "edge": ("edge", {}),
    "cloud": ("cloud", {}),
    "blocks": ("spec", {"k": 5, "continuation": 4, "cloud_budget": "6t"}),
    "frontier": ("spec", {"preset": "frontier"}),
    "last check": ("spec", {"preset": "frontier-light", "final_check": True, "regret_budget": 1.0}),
    "drawn": (
        "spec",
        {"temperature": 0.8, "acceptance": "rejection", "gate_type": "always", "seed": 3},
    ),
    "one sentence": ("spec", {"gate_type": "never", "cloud_seed_tokens": 4, "max_sentences": 1}),
}


def point(name: str, place: dict[str, Any]) -> Point:
    mode, policy = POLICIES[name]
    where = {"language": "english", "prompt_type": "detailed", "max_samples": 2, **place}
    return Point(mode, name, where, policy)


def decoded(points: list[Point], folder: Path) -> list[tuple[Path, str]]:
    """The journals of points that share their tokens, and how each came about."""
    paths = [(point, folder / f"{point.key}.jsonl") for point in points]
    return [(path, how) for path, how, _ in swept.complete(paths, None, {"machine": "this"})]


@pytest.mark.parametrize("name", POLICIES)
def test_a_grid_timed_anew_is_the_grid_decoded_again(name: str, tmp_path: Path) -> None:
    points = [point(name, place) for place in (BASE, *PLACES)]
    found = decoded(points, tmp_path / "once")
    assert [how for _, how in found] == ["decoded", "retimed", "retimed"]
    times = []
    for one, (path, how) in zip(points, found, strict=True):
        times.append([record.trace.events[-1].end_s for record in read(path)[1]])
        if how == "retimed":
            ((again, how),) = decoded([one], tmp_path / "each")
            assert how == "decoded"
            assert again.read_bytes() == path.read_bytes()
    assert times[0] != times[1] != times[2]


class InProcess:
    """Stands in for :class:`edgecloud.experiments.system.System`: the embedded pair, without processes."""

    def __init__(
        self, mode: Mode, config: Config, *, first_core: int = 0, samples: tuple[Sample, ...] = ()
    ) -> None:
        self._handler = swept.handler_for(mode, config)
        modelled = config.hardware.clock == "modelled"
        between = config.hardware.link
        self.facts: dict[str, Any] = {
            "limits": {"summary": "2 cores"},
            "models": swept.models_of(mode, config, self._handler),
            "hardware_profile": profile(config.hardware.profile).to_json() if modelled else None,
            **({"link": link(between).to_json()} if between else {}),
        }
        self.load_s: dict[str, float] = {}
        self.stopping = self._handler.stopping.to_json()
        self.cloud_gpu: int | None = None
        self.edge_pid = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing runs."""

    def caption(self, request: Request, on_commit: Any = None) -> Response | Failed:
        return self._handler.caption(request)


def still(path: Path) -> str:
    """A result without what may vary, the order of its fields included."""
    found = json.loads(path.read_text("utf-8"))
    return json.dumps({name: block for name, block in found.items() if name != "run"})


@pytest.mark.parametrize("clock", ["modelled", "wall"])
@pytest.mark.parametrize("name", ["cloud", "frontier"])
def test_the_command_writes_the_result_that_decoding_again_gives(
    name: str, clock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arm, "System", InProcess)
    config = point(name, BASE).config.changed(
        clock=clock, output_dir=str(tmp_path), output_name="first", prompt_type="concise"
    )
    mode = POLICIES[name][0]
    with arm.Arm(mode, config) as running:
        assert len(list(running.run())) == 2
    journal = tmp_path / "journals" / "first.jsonl"
    command = ["retime", str(journal), "--hardware-profile", "paper-int8", "--link", "wifi", "-o"]
    timed, again = tmp_path / "results" / "timed.json", tmp_path / "results" / "again.json"
    assert main([*command, str(timed)]) == 0
    assert main([*command, str(again), "--decode"]) == 0
    assert still(timed) == still(again)
    one, other = (tmp_path / "journals" / f"{path.stem}.jsonl" for path in (timed, again))
    assert one.read_bytes().splitlines()[1:] == other.read_bytes().splitlines()[1:]
    headers = [json.loads(path.read_bytes().splitlines()[0]) for path in (one, other)]
    assert headers[0]["identity"] == headers[1]["identity"]
    block = json.loads(timed.read_text("utf-8"))["run"]["retimed_from"]
    assert block == {
        "journal": "first.jsonl", "clock": clock, "hardware_profile": "paper", "link": None
    }  # fmt: skip
    # What was timed anew can be timed anew: back to where it was.
    command = ["retime", str(one), "--hardware-profile", "paper", "--link", "null", "-o"]
    assert main([*command, str(tmp_path / "back.json")]) == 0
    if clock == "modelled":
        back = (tmp_path / "journals" / "back.jsonl").read_bytes()
        assert back.splitlines()[1:] == journal.read_bytes().splitlines()[1:]


@pytest.mark.parametrize("name", ["modelled-edge", "modelled-cloud", "modelled-spec"])
def test_an_earlier_journal_on_its_own_profile_is_as_it_was(name: str, tmp_path: Path) -> None:
    journal = EARLIER / f"{name}.jsonl"
    command = ["retime", str(journal), "--hardware-profile", "paper", "-o"]
    assert main([*command, str(tmp_path / "again.json")]) == 0
    assert read(tmp_path / "journals" / "again.jsonl")[1] == read(journal)[1]


Change = Callable[[dict[str, Any], list[dict[str, Any]]], object]


def setting(**values: Any) -> Change:
    return lambda header, _: header["facts"]["config"].update(values)


def of_first(**values: Any) -> Change:
    return lambda _, rows: rows[0].update(values)


def planted(kind: str, **values: Any) -> Change:
    return lambda _, rows: next(e for e in rows[0]["trace"] if e["kind"] == kind).update(values)


def measured(change: Change) -> Change:
    """The journal of a run that was timed by the clock on the wall, and ``change``."""

    def both(header: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        setting(clock="wall")(header, rows)
        change(header, rows)

    return both


def in_two_vocabularies(header: dict[str, Any], _: object) -> None:
    shared = {"shared_tokens": 1, "edge_tokens": 2, "cloud_tokens": 3}
    header["facts"]["setup"]["models"]["edge"]["shared_vocabulary"] = shared


def two_in_a_message(_: object, rows: list[dict[str, Any]]) -> None:
    events = [event for event in rows[0]["trace"] if event["kind"] == "generate"]
    events[1]["tokens"] += events[2]["tokens"]


@pytest.mark.parametrize(
    "name, change, link_name, says",
    [
        ("spec", setting(draft_ahead=True), "lan", "with draft_ahead, other times"),
        ("spec", setting(adaptive_k=True), "lan", "with adaptive_k, other times"),
        ("spec", setting(hand_off=True), "lan", "with hand_off, other times"),
        ("spec", setting(cloud_budget="1.25s"), "lan", "with cloud_budget 1.25s, other times"),
        ("spec", setting(deadline=0.2), "satellite.csv", "would lose the cloud (CloudTimeout"),
        ("cloud", setting(deadline=0.2), "satellite.csv", "would fail (CloudTimeout"),
        ("spec", setting(), "wifi", "the chances of the link wifi are drawn"),
        ("spec", setting(max_sentences=2), "lan", "does not say which tokens end a sentence"),
        ("spec", lambda _, rows: rows.pop(), "lan", "holds 2 of the run's 3 samples"),
        ("spec", planted("verify", kept=0), "lan", "sample test-00000: its trace has no draft"),
        ("spec", planted("draft", entropies=[]), "lan", "its trace is damaged"),
        ("spec", setting(entropy_threshold=0.0), "lan", "its trace"),
        ("spec", in_two_vocabularies, "lan", "those of a vocabulary of its own"),
        ("cloud", measured(two_in_a_message), "lan", "sent several tokens in a message"),
        (
            "spec",
            measured(planted("verify", prefill_tokens=0)),
            "lan",
            "computed its prompt before",
        ),
        (
            "spec",
            of_first(status="failed", error={"type": "CloudTimeout", "message": "late"}),
            "lan",
            "it failed (CloudTimeout: late)",
        ),
    ],
)
def test_what_cannot_be_known_without_decoding_is_refused_in_one_line(
    name: str,
    change: Change,
    link_name: str,
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if link_name.endswith(".csv"):
        slow = tmp_path / link_name
        slow.write_text("time_s,bytes_per_s,delay_s\n0,1e6,0.3\n9,1e6,0.3\n", encoding="utf-8")
        link_name = str(slow)
    journal, output = changed(EARLIER / f"modelled-{name}.jsonl", change, tmp_path), tmp_path / "r"
    command = ["retime", str(journal), "--hardware-profile", "paper-int8", "-o", str(output)]
    assert main([*command, "--link", link_name]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert said.endswith("--decode decodes it again\n")
    assert not output.exists()
    assert not (tmp_path / "journals").exists()


def changed(journal: Path, change: Change, folder: Path) -> Path:
    header, *rows = map(json.loads, journal.read_text("utf-8").splitlines())
    change(header, rows)
    path = folder / "changed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (header, *rows)), encoding="utf-8")
    return path


def test_a_sample_that_failed_for_a_reason_of_its_own_stays_failed(tmp_path: Path) -> None:
    why = {"type": "AudioError", "message": "no audio"}
    change = of_first(status="failed", error=why, trace=[], tokens=[], origins=[], text=None)
    journal = changed(EARLIER / "modelled-spec.jsonl", change, tmp_path)
    output = tmp_path / "results" / "again.json"
    assert (
        main(["retime", str(journal), "--hardware-profile", "paper-int8", "-o", str(output)]) == 0
    )
    first, *others = json.loads(output.read_text("utf-8"))["detailed_results"]
    assert (first["status"], first["error"]) == ("failed", why)
    assert [entry["status"] for entry in others] == ["ok", "ok"]


@pytest.mark.parametrize(
    "name, given, says",
    [
        ("degraded", ("paper", "again.json"), "it lost the cloud"),
        ("modelled-edge", ("nowhere", "again.json"), "unknown hardware profile"),
        ("modelled-edge", ("paper", "results/first.json"), "which is read"),
    ],
)
def test_what_is_asked_wrongly_is_said(
    name: str,
    given: tuple[str, str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    journal = tmp_path / "journals" / "first.jsonl"
    journal.parent.mkdir()
    before = (EARLIER / f"{name}.jsonl").read_bytes()
    journal.write_bytes(before)
    hardware, output = given
    command = ["retime", str(journal), "--hardware-profile", hardware, "-o"]
    assert main([*command, str(tmp_path / output)]) == 2
    assert says in capsys.readouterr().err
    assert journal.read_bytes() == before
