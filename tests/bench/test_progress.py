"""The progress line: how far, how long still, and not too often."""

from __future__ import annotations

from bench.progress import Progress, duration
from tests.results.synthetic import failed, record, samples


class Terminal:
    def __init__(self, *, isatty: bool) -> None:
        self.isatty = isatty
        self.lines: list[str] = []
        self.rewritten: list[str] = []

    def ensure_newline(self) -> None:
        pass

    def write_line(self, line: str) -> None:
        self.lines.append(line)

    def rewrite(self, line: str, *, erase: bool) -> None:
        assert erase
        self.rewritten.append(line)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_elsewhere_than_on_a_terminal_a_line_comes_every_ten_seconds() -> None:
    clock, terminal = Clock(), Terminal(isatty=False)
    progress = Progress(terminal, "edge", now=clock)
    sample = samples(1)[0]
    progress(0, 10, None)
    for done in range(1, 11):
        clock.now = 4.0 * done
        progress(done, 10, record("edge", sample))
    assert terminal.lines == [
        "edge: 0/10 samples",
        "edge: 3/10 samples, 4.00 s each, about 28 s left",
        "edge: 6/10 samples, 4.00 s each, about 16 s left",
        "edge: 9/10 samples, 4.00 s each, about 4 s left",
        "edge: 10/10 samples, 4.00 s each",
    ]


def test_a_resumed_run_estimates_from_what_it_did_itself() -> None:
    clock, terminal = Clock(), Terminal(isatty=True)
    progress = Progress(terminal, "spec", now=clock)
    progress(90, 100, None)
    clock.now = 2.0
    progress(91, 100, record("spec", samples(1)[0]))
    assert terminal.rewritten[-1] == "spec: 91/100 samples, 2.00 s each, about 18 s left"


def test_verbose_adds_a_line_for_each_sample() -> None:
    terminal = Terminal(isatty=True)
    progress = Progress(terminal, "edge", verbose=True, now=Clock())
    progress(0, 2, None)
    progress(1, 2, record("edge", samples(1)[0]))
    progress(2, 2, failed(samples(2)[1]))
    assert "edge says a voice 0" in terminal.lines[0]
    assert terminal.lines[1] == "  s001: failed: AudioError: s001.flac: not audio"


def test_durations_read_like_people_say_them() -> None:
    assert [duration(s) for s in (0.4, 59.4, 61, 3700)] == ["0 s", "59 s", "1 min 1 s", "1 h 1 min"]


def test_stages_are_a_line_each_and_one_each_ten_seconds_of_progress_where_there_is_no_terminal() -> (
    None
):
    clock, terminal = Clock(), Terminal(isatty=False)
    progress = Progress(terminal, "spec", now=clock)
    for second in range(0, 25, 5):
        clock.now = float(second)
        progress.stage("edge: loading weights", second / 25)
        progress.stage("cloud: starting", None)
    progress.say("a sentence")
    assert terminal.lines == [
        "spec: edge: loading weights, 0%",
        "spec: cloud: starting",
        "spec: edge: loading weights, 40%",
        "spec: edge: loading weights, 80%",
        "a sentence",
    ]


def test_stages_write_over_one_line_on_a_terminal() -> None:
    terminal = Terminal(isatty=True)
    progress = Progress(terminal, "spec", now=Clock())
    progress.stage("edge: converting to int8", 0.25)
    progress.stage("edge: converting to int8", 0.5)
    assert terminal.rewritten == [
        "spec: edge: converting to int8, 25%",
        "spec: edge: converting to int8, 50%",
    ]
