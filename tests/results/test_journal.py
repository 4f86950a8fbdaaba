"""The journal: on disk at once, resumed after a kill, never mixed with another run."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgecloud.contracts import Trace
from edgecloud.errors import JournalError, OutputError
from edgecloud.results.journal import Journal, read, record_at, stream
from edgecloud.results.records import Record
from edgecloud.settings.config import resolve
from tests.results import synthetic

IDENTITY: dict[str, Any] = {"settings": {"k": 3, "language": "english"}, "data": "abc"}


def row(file_id: str, status: Any = "ok", **more: Any) -> dict[str, Any]:
    return {"file_id": file_id, "status": status, **more}


def record(file_id: str, status: Any = "ok", **more: Any) -> Record:
    return Record.from_json(row(file_id, status, **more))


def opened(path: Path, *, resume: bool = False, **changes: Any) -> Journal:
    return Journal.open(path, mode="spec", identity={**IDENTITY, **changes}, resume=resume)


def test_a_record_is_readable_before_the_journal_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.jsonl"
    with opened(path) as journal:
        journal.append(record("a", text="平静"))
        header, records = read(path)
    assert header["mode"] == "spec"
    assert records == [record("a", text="平静")]


def test_resuming_brings_back_completed_samples_and_retries_failed_ones(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with opened(path) as journal:
        journal.append(record("a"))
        journal.append(record("b", "failed"))
    with opened(path, resume=True) as journal:
        assert list(journal.records) == ["a"]
        journal.append(record("b"))
        assert list(journal.records) == ["a", "b"]
    assert read(path)[1] == [record("a"), record("b")]


def test_what_is_held_of_a_record_is_what_the_opener_keeps_of_it(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"

    def text_alone(one: Record) -> Record:
        return Record(one.file_id, text=one.text)

    for name in ("a", "b"):
        with Journal.open(
            path, mode="spec", identity=IDENTITY, resume=True, kept=text_alone
        ) as journal:
            held = journal.append(record(name, text="calm", audio_s=2.0))
            assert held == journal.records[name] == record(name, text="calm")
    assert journal.records["a"] == record("a", text="calm")
    assert [one.audio_s for one in read(path)[1]] == [2.0, 2.0]


@pytest.mark.parametrize("torn", [b'{"file_id": "b", "sta', b'{"file_id": "b"}', b"\xff\xfe\n"])
def test_a_torn_last_line_is_cut_away(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "run.jsonl"
    with opened(path) as journal:
        journal.append(record("a"))
    with path.open("ab") as handle:
        handle.write(torn)
    with opened(path, resume=True) as journal:
        assert list(journal.records) == ["a"]
        journal.append(record("b"))
    assert [json.loads(line)["file_id"] for line in path.read_text().splitlines()[1:]] == ["a", "b"]


def test_every_cut_of_a_journal_can_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with opened(path) as journal:
        journal.append(record("a"))
        journal.append(record("b"))
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        with opened(path, resume=True) as journal:
            assert set(journal.records) <= {"a", "b"}
            journal.append(record("c"))
        assert read(path)[1][-1] == record("c")


def test_a_journal_of_another_run_is_refused_with_the_difference(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    opened(path).close()
    with pytest.raises(JournalError, match=r"settings\.k: 3 in the journal, 5 now"):
        opened(path, resume=True, settings={"k": 5, "language": "english"})
    with pytest.raises(JournalError, match="mode"):
        Journal.open(path, mode="edge", identity=IDENTITY, resume=True)


def test_tuples_in_the_identity_are_the_lists_they_become(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    opened(path, extra=(1, 2)).close()
    opened(path, resume=True, extra=(1, 2)).close()


def test_without_resume_an_old_journal_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with opened(path) as journal:
        journal.append(record("a"))
    with opened(path, data="other") as journal:
        assert journal.records == {}
    assert read(path)[1] == []
    assert [child.name for child in tmp_path.iterdir()] == ["run.jsonl"]


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with opened(path) as journal:
        journal.append(record("a"))
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"a') + b'{"file_id": "b"}\n')
    with pytest.raises(JournalError, match="line 2"):
        opened(path, resume=True)


def test_an_unwritable_place_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--output-dir") as caught:
        opened(tmp_path / "file" / "run.jsonl")
    assert "\n" not in str(caught.value)


def test_a_missing_or_empty_journal_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot read"):
        read(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(JournalError, match="is empty"):
        read(tmp_path / "empty.jsonl")


FORMER = {"models": {"edge": "headers:1", "cloud": "c"}}
"""As journals were before the content of weights above 1 GiB was hashed."""


@pytest.mark.parametrize("former", ["headers:1", "headers:2"])
def test_weights_known_by_their_headers_are_recognised_and_it_is_said(
    tmp_path: Path, former: str
) -> None:
    path = tmp_path / "run.jsonl"
    with opened(path, **FORMER) as journal:
        journal.append(record("a"))
    models = {"models": {"edge": "content", "cloud": "c"}, "headers": {"edge": former}}
    if former != "headers:1":
        with pytest.raises(
            JournalError, match=r"models\.edge: 'headers:1' in the journal, 'content'"
        ):
            opened(path, resume=True, **models)
        return
    with opened(path, resume=True, **models) as journal:
        assert list(journal.records) == ["a"]
        (note,) = journal.notes
        assert "weights of the edge by their headers alone" in note
        assert "run without --resume to be sure" in note
        journal.describe({})
    # From then on it is the content that counts.
    with opened(path, resume=True, **models) as journal:
        assert journal.notes == ()
    other = {**models, "models": {"edge": "other content", "cloud": "c"}}
    with pytest.raises(JournalError, match="other content"):
        opened(path, resume=True, **other)


def test_equal_headers_are_no_reason_to_mix_weights_whose_content_is_known(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    headers = {"headers": {"edge": "headers:1"}}
    with opened(path, models={"edge": "a", "cloud": None}, **headers) as journal:
        journal.append(record("a"))
    with pytest.raises(JournalError, match=r"models\.edge: 'a' in the journal, 'b' now"):
        opened(path, resume=True, models={"edge": "b", "cloud": None}, **headers)


LOST = [
    {
        "kind": "degrade",
        "start_s": 0.5,
        "end_s": 1.0,
        "error": "CloudTimeout",
        "reason": "no answer",
    }
]


@pytest.mark.parametrize("keep", [False, True])
def test_resuming_runs_samples_that_lost_the_cloud_again_unless_they_are_kept(
    tmp_path: Path, keep: bool
) -> None:
    path = tmp_path / "run.jsonl"
    with opened(path) as journal:
        journal.append(record("a"))
        journal.append(record("b", trace=LOST))
    with Journal.open(
        path, mode="spec", identity=IDENTITY, resume=True, keep_degraded=keep
    ) as journal:
        assert list(journal.records) == (["a", "b"] if keep else ["a"])
    # Until it has run again, the earlier record is still there to be rescored.
    assert [record.file_id for record in read(path)[1]] == ["a", "b"]


EVENT = {"kind": "commit", "start_s": 0.0, "end_s": 1.0, "tokens": [1], "origins": ["edge"]}


@pytest.mark.parametrize(
    "bad",
    [
        {"file_id": ["a"], "status": "ok"},
        {"file_id": {"a": 1}, "status": "ok"},
        {"file_id": 3, "status": "ok"},
        {"file_id": None, "status": "ok"},
        {"status": "ok"},
        row("b", ["ok"]),
        row("b", text=["a"]),
        row("b", tokens="12"),
        row("b", tokens=[True]),
        row("b", references="text"),
        row("b", trace={}),
        row("b", trace=["event"]),
        row("b", trace=[{}]),
        row("b", trace=[{**EVENT, "kind": ["commit"]}]),
        row("b", trace=[{**EVENT, "end_s": "1"}]),
        row("b", trace=[{**EVENT, "tokens": None}]),
        row("b", trace=[{**EVENT, "kind": "verify", "kept": "1"}]),
        row("b", trace=[{**EVENT, "kind": "nap"}]),
        row("b", trace=[EVENT], tokens=[2]),
        row("b", trace=[EVENT], origins=["cloud"]),
        row("b", audio_s=10**400),
        row("b", resources=[]),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_a_row_of_another_shape_is_one_line_that_names_it(
    tmp_path: Path, bad: dict[str, Any], last: bool
) -> None:
    path = tmp_path / "run.jsonl"
    with opened(path) as journal:
        journal.append(record("a", trace=[EVENT]))
    rows = [bad] if last else [bad, row("c")]
    with path.open("a") as handle:
        handle.write("".join(json.dumps(one) + "\n" for one in rows))
    for use in (lambda: read(path), lambda: opened(path, resume=True)):
        with pytest.raises(JournalError, match="damaged in line 3") as caught:
            use()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '{"file_id": "b", "status": "ok", "x": ' + "[" * 50_000 + "]" * 50_000 + "}",
        '{"file_id": "b", "status": "ok", "x": ' + '{"a":' * 200 + "1" + "}" * 200 + "}",
        '{"file_id": "b", "audio_s": NaN}',
        '{"file_id": "b", "audio_s": 1e999}',
        '{"file_id": "\\ud83d"}',
        "[1]",
        "7",
    ],
)
def test_a_row_that_json_cannot_mean_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.jsonl"
    with opened(path) as journal:
        journal.append(record("a"))
    path.write_bytes(path.read_bytes() + text.encode() + b"\n" + b'{"file_id": "c"}\n')
    for use in (lambda: read(path), lambda: opened(path, resume=True)):
        with pytest.raises(JournalError, match="damaged in line 3") as caught:
            use()
        assert "\n" not in str(caught.value)


def test_a_journal_with_a_byte_order_mark_is_read_and_resumed(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with opened(path) as journal:
        journal.append(record("a"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(path)[1] == [record("a")]
    with opened(path, resume=True) as journal:
        journal.describe({"samples": ["a"]})
        assert list(journal.records) == ["a"]


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"schema": ["edgecloud-journal/1"]},
        {"schema": "edgecloud-journal/1"},
        {"schema": "edgecloud-journal/1", "mode": "spec", "identity": []},
        {"schema": "edgecloud-journal/1", "mode": "spec", "identity": {}, "facts": 3},
        {"schema": "edgecloud-journal/1", "mode": "spec", "identity": {}, "facts": {"config": 3}},
    ],
)
def test_a_first_line_of_another_shape_is_one_line(tmp_path: Path, header: Any) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(json.dumps(header) + "\n")
    for use in (lambda: read(path), lambda: opened(path, resume=True)):
        with pytest.raises(JournalError):
            use()


def test_a_setting_that_an_older_journal_does_not_know_had_its_default(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    now = resolve().identity()
    older = {key: value for key, value in now.items() if key != "draft_ahead"}
    opened(path, settings=older).close()
    opened(path, resume=True, settings=now).close()
    with pytest.raises(JournalError, match="draft_ahead: False in the journal, True now"):
        opened(path, resume=True, settings={**now, "draft_ahead": True})


@pytest.mark.parametrize("mode", ["edge", "spec", "cloud"])
def test_records_read_without_their_traces_have_the_same_output(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "j.jsonl"
    odd: dict[str, Any] = {"text": '"trace": [{ }], "references": ', "audio_notes": {"trace": "[{"}}
    kept = [replace(synthetic.record(mode, one), **odd) for one in synthetic.samples(3)]
    failed = replace(kept[0], file_id="z", status="failed")
    with opened(path) as journal:
        for one in [*kept, failed]:
            journal.append(one)
    found = [one for _, one in stream(path, whole=lambda _: False)[1]]
    assert [replace(one, trace=Trace()) for one in found] == [
        replace(one, trace=Trace()) for one in [*kept, failed]
    ]
    assert [(one.tokens, one.origins) for one in found] == [
        (one.tokens, one.origins) for one in [*kept, failed]
    ]
    assert {len(one.trace.events) for one in found} == {1}
    begins = [begin for begin, _ in stream(path)[1]]
    assert [record_at(path, begin) for begin in begins] == [*kept, failed]
    path.write_bytes(path.read_bytes().replace(b'"kind"', b'"kin"'))
    with pytest.raises(JournalError, match="damaged in the line at byte"):
        record_at(path, begins[0])


def test_no_garbage_is_collected_while_much_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.jsonl"
    with opened(path) as journal:
        for name in ("a", "b", "c"):
            journal.append(record(name))
    collecting: list[bool] = []
    whole = Record.from_json

    def looked(row: Any) -> Record:
        collecting.append(gc.isenabled())
        return whole(row)

    monkeypatch.setattr(Record, "from_json", looked)
    read(path)
    with opened(path, resume=True):
        pass
    assert collecting == [False] * 6
    assert gc.isenabled()
