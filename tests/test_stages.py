"""What a process is at: who is told, how often, and how a stream shows it."""

from __future__ import annotations

import io

import pytest

from edgecloud.stages import Lines, listening, say, stage
from tests.told import Told


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_within_a_stage_is_passed_on_now_and_then_and_its_end_always() -> None:
    told = Told()
    with listening(told):
        for share in (0.0, 0.1, 0.2, 1.0):
            stage("loading", share)
        stage("warming up")
        say("a sentence")
    assert told.stages == [("loading", 0.0), ("loading", 1.0), ("warming up", None)]
    assert told.said == ["a sentence"]
    assert told.closed


def test_what_is_over_at_once_is_no_line_and_what_goes_on_is_one_each_ten_seconds() -> None:
    clock, out = Clock(), io.StringIO()
    lines = Lines(out, now=clock)
    for now, what in [(0.0, "a"), (0.9, "b"), (2.0, "c"), (5.0, "c"), (12.0, "c"), (12.5, "d")]:
        clock.now = now
        lines.stage(what, None if what == "d" else now / 20)
    assert out.getvalue().splitlines() == [
        "edgecloud: c, 10%",
        "edgecloud: c, 60%",
        "edgecloud: d",
    ]


def test_a_stage_that_goes_on_in_the_same_words_is_one_line_until_it_begins_anew() -> None:
    clock, out = Clock(), io.StringIO()
    lines = Lines(out, patience_s=0.0, now=clock)
    for now in range(60):
        clock.now = float(now)
        lines.stage("edge: starting", None)
        lines.stage("cloud: starting", None)
    lines.stage("cloud: loading weights", 0.0)
    lines.stage("cloud: starting", None)
    clock.now = 80.0
    lines.stage("cloud: starting", None)
    assert out.getvalue().splitlines() == [
        "edgecloud: edge: starting",
        "edgecloud: cloud: starting",
        "edgecloud: cloud: loading weights, 0%",
        "edgecloud: cloud: starting",
    ]


def test_a_terminal_has_one_line_that_is_cleared_for_what_stays() -> None:
    out = Terminal()
    lines = Lines(out, now=Clock())
    lines.stage("loading", 0.5)
    lines.say("converted")
    lines.stage("loading", 1.0)
    lines.close()
    clear = "\r\x1b[2K"
    assert out.getvalue() == (
        f"{clear}edgecloud: loading, 50%{clear}edgecloud: converted\n"
        f"{clear}edgecloud: loading, 100%{clear}"
    )


def test_a_terminal_that_cannot_write_over_a_line_gets_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    lines = Lines(out, patience_s=0.0, now=Clock())
    lines.stage("starting", None)
    lines.stage("loading", 0.5)
    lines.close()
    assert out.getvalue() == "edgecloud: starting\nedgecloud: loading, 50%\n"
