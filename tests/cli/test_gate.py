"""``edgecloud gate`` and ``edgecloud baseline``: exit status, formats, files written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edgecloud.cli.main import main
from edgecloud.regression.model import Check, Report
from edgecloud.regression.wording import (
    error_annotation,
    github_annotations,
    junit,
    markdown,
    text,
)
from tests.regression.gate_cases import modelled_outcome, result, slowed, write

ODD = Check(
    "odd|name\x00 <&>",
    "ti,me",
    "regression",
    "50% slower:\nwhy",
    baseline=1.0,
    new=1.5,
    change="+50.00%",
    interval="exact",
    n=3,
    source=Path("a,b:c.json"),
)
NOTED = Check("plain", "texts", "note", "tokens differ")
ODD_REPORT = Report(
    (ODD, NOTED, Check("plain", "ttft", "undecided", "too few", n=2)), "a", "b", "p"
)


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A baseline, and a new run that is 3% slower; in a folder without a policy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    outcome = modelled_outcome(5)
    write(tmp_path / "old.json", result(outcome))
    write(tmp_path / "new.json", result(slowed(outcome, [1.03] * 5)))
    return "old.json", "new.json"


def test_exit_status_is_0_for_as_good_1_for_worse_2_for_broken(
    sides: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = sides
    assert main(["gate", old, old]) == 0
    assert "passed" in capsys.readouterr().out
    assert main(["gate", old, new]) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert "+3.00% in total, tolerance 0.50%" in out
    Path("torn.json").write_text('{"schema": "edgecloud-res', encoding="utf-8")
    assert main(["gate", old, "torn.json"]) == 2
    assert "torn.json is not valid JSON" in capsys.readouterr().err


def test_an_older_schema_is_status_2(
    sides: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    older = json.loads(Path(sides[0]).read_text(encoding="utf-8")) | {
        "schema": "edgecloud-result/0"
    }
    write(Path("older.json"), older)
    assert main(["gate", "older.json", sides[1]]) == 2
    assert "edgecloud-result/0" in capsys.readouterr().err


def test_a_policy_file_and_allow_are_heeded(
    sides: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = sides
    Path("p.toml").write_text("[modelled]\ntolerance = 0.1\n", encoding="utf-8")
    assert main(["gate", old, new, "--policy", "p.toml"]) == 0
    Path("bench").mkdir()
    Path("bench/gate.toml").write_text("[modelled]\ntolerance = 0.1\n", encoding="utf-8")
    assert main(["gate", old, new]) == 0
    assert "policy: bench/gate.toml" in capsys.readouterr().out
    content = json.loads(Path(old).read_text(encoding="utf-8"))
    content["experiment_config"]["seed"] = 7
    write(Path("seed.json"), content)
    assert main(["gate", old, "seed.json"]) == 1
    assert main(["gate", old, "seed.json", "--allow", "settings.seed"]) == 0
    assert main(["gate", old, "seed.json", "--allow", "everything"]) == 2
    assert main(["gate", old, new, "--policy", "none.toml"]) == 2


def test_github_gets_annotations_and_a_job_summary(
    sides: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    Path("summary.md").write_text("before\n", encoding="utf-8")
    assert main(["gate", *sides, "--format", "github"]) == 1
    lines = capsys.readouterr().out.splitlines()
    errors = [line for line in lines if line.startswith("::error file=new.json,title=")]
    assert len(errors) == 3
    summary = Path("summary.md").read_text(encoding="utf-8")
    assert summary.startswith("before\n### edgecloud gate: FAILED")
    assert "| spec[english-default-rank]" in summary
    assert main(["gate", "none.json", sides[1], "--format", "github"]) == 2
    assert "::error file=new.json,title=edgecloud gate::none.json" in capsys.readouterr().out


def test_junit_is_xml_that_counts_its_cases(sides: tuple[str, str]) -> None:
    assert main(["gate", *sides, "--format", "junit", "--output", "out/gate.xml"]) == 1
    suite = ElementTree.parse("out/gate.xml").getroot()[0]
    cases = suite.findall("testcase")
    assert int(suite.get("tests", "")) == len(cases)
    assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure")) == 3


def test_odd_names_survive_every_format() -> None:
    suite = ElementTree.fromstring(junit(ODD_REPORT))[0]
    assert suite[0].get("classname") == "odd|name� <&>"
    assert [len(suite.findall(f"testcase/{kind}")) for kind in ("failure", "skipped")] == [1, 1]
    first = github_annotations(ODD_REPORT).splitlines()[0]
    assert first.startswith("::error file=a%2Cb%3Ac.json,title=odd|name\x00 <&> ti%2Cme::")
    assert "50%25 slower:%0Awhy" in first
    row = next(line for line in markdown(ODD_REPORT).splitlines() if "odd" in line)
    assert row.replace("\\|", "").count("|") == 5
    assert "Reasons" in text(ODD_REPORT)
    assert error_annotation("a\nb", "f") == "::error file=f,title=edgecloud gate::a%0Ab"


def test_accepting_a_change_makes_the_gate_pass(
    sides: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = sides
    assert main(["baseline", "accept", old, "--reason", "first", "--to", "b"]) == 0
    assert main(["gate", "b", new]) == 1
    assert main(["baseline", "accept", new, "--reason", "a slower edge", "--to", "b"]) == 0
    assert main(["gate", "b", new]) == 0
    assert "history: b/history.jsonl" in capsys.readouterr().out
    assert main(["baseline", "accept", new, "--reason", " ", "--to", "b"]) == 2


def test_results_that_lost_the_cloud_are_no_baseline_unless_that_is_asked_for(
    sides: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(sides[0])
    content = json.loads(path.read_text("utf-8"))
    for entry in content["detailed_results"][1:3]:
        entry["degraded"] = {"at_s": 0.1, "error": "CloudTimeout", "reason": "no answer in 2 s"}
    path.write_text(json.dumps(content), "utf-8")
    command = ["baseline", "accept", str(path), "--reason", "first", "--to", "b"]
    assert main(command) == 2
    said = capsys.readouterr().err
    names = ", ".join(entry["file_id"] for entry in content["detailed_results"][1:3])
    assert f"2 of {len(content['detailed_results'])} samples lost the cloud ({names})" in said
    assert "--resume" in said
    assert "--allow-degraded" in said
    assert not Path("b").exists()
    assert main([*command, "--allow-degraded"]) == 0


def test_a_reason_is_required(sides: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["baseline", "accept", sides[0]])
    assert ended.value.code == 2
    assert "--reason" in capsys.readouterr().err


def test_what_cannot_be_written_is_status_2(
    sides: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("", encoding="utf-8")
    wrong: list[list[Any]] = [
        ["gate", *sides, "--output", "file/x"],
        ["baseline", "accept", sides[0], "--reason", "x", "--to", "file"],
    ]
    for arguments in wrong:
        assert main(arguments) == 2
        assert "cannot write" in capsys.readouterr().err
