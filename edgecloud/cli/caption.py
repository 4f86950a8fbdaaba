"""``edgecloud caption``: caption a user's own recordings, streaming."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from edgecloud.cli.settings_of import settings_of
from edgecloud.ending import end_on_sigterm
from edgecloud.errors import ConfigError
from edgecloud.settings.config import Config
from edgecloud.settings.declaration import MODES
from edgecloud.settings.options import add_options
from edgecloud.stages import Lines, listening, stage

if TYPE_CHECKING:
    from edgecloud.edge.messages import Streamed
    from edgecloud.library.outcome import Outcome

__all__ = ["add"]

_COLORS = {"edge": "", "verified": "32", "corrected": "31", "bonus": "34", "cloud": "35"}
"""SGR codes by who chose a token; the edge's own stay in the terminal's colour."""

_GUESSES = (
    "the embedded miniature models learned from synthetic speech alone: what they say of a real recording is a "
    "guess; --edge-model and --cloud-model take checkpoints that know better"
)


def add(commands: Any) -> None:
    """Add ``edgecloud caption`` to ``commands``, the subparsers of the command line."""
    caption = commands.add_parser(
        "caption",
        help="caption recordings, streaming",
        # Argparse would name all sixty settings before it says what is wrong.
        usage="edgecloud caption [--mode edge|cloud|spec] [SETTINGS] (AUDIO [AUDIO ...] | --example)",
    )
    caption.add_argument(
        "audio",
        nargs="*",
        metavar="AUDIO",
        help="WAV, FLAC, MP3, OGG; with the extra phone m4a, webm, amr, …",
    )
    caption.add_argument(
        "--example",
        action="store_true",
        help="a recording of synthetic speech that is here already",
    )
    caption.add_argument("--mode", choices=MODES, default="spec")
    add_options(caption.add_argument)
    caption.set_defaults(command=_caption)


def _caption(parsed: argparse.Namespace) -> int:
    config = settings_of(parsed)
    if config.data.input_modality == "audio_text":
        raise ConfigError("caption takes recordings without transcriptions; use audio_only")
    recordings: list[str] = [*parsed.audio, *([_example(config)] if parsed.example else [])]
    if not recordings:
        raise ConfigError("give recordings to caption, or --example")
    paint = _painter(sys.stdout)

    def show(streamed: Streamed) -> None:
        for origin, text in streamed.pieces:
            print(paint(origin, text), end="", flush=True)

    failures = lost = 0
    heard: list[Mapping[str, str]] = []
    end_on_sigterm()
    with ExitStack() as stack:
        with listening(Lines(patience_s=0.0)):
            stage("starting")  # first: what is imported takes a while, too
            from edgecloud.edge.messages import Failed, Request
            from edgecloud.experiments.system import System
            from edgecloud.library.outcome import Outcome
            from edgecloud.results.audio_notes import sentence

            system = stack.enter_context(System(parsed.mode, config))
        if parsed.audio and _miniature(parsed.mode, config):
            print(f"edgecloud: note: {_GUESSES}", file=sys.stderr)
        for name in recordings:
            if len(recordings) > 1 or parsed.example:
                print(name)
            answer = system.caption(Request(audio_path=name, stream=True), show)
            if isinstance(answer, Failed):
                failures += 1
                print(f"edgecloud: {name}: {answer.message}", file=sys.stderr)
                continue
            outcome = Outcome.of(answer, parsed.mode, config)
            print()
            print(_timings(outcome))
            heard.append(outcome.audio_notes)
            for note in outcome.audio_notes.values():
                print(f"edgecloud: {name}: note: {note}", file=sys.stderr)
            if (why := outcome.degraded) is not None:
                lost += 1
                print(
                    f"edgecloud: {name}: lost the cloud after {why.at_s:.2f} s and went on with the "
                    f"edge alone: {why.reason}",
                    file=sys.stderr,
                )
    legend = [paint(origin, origin) for origin in _COLORS]
    if parsed.mode == "spec" and legend != list(_COLORS):
        print("tokens: " + " ".join(legend))
    if len(heard) > 1 and (noted := sentence(heard)) is not None:
        print(f"edgecloud: note: {noted}", file=sys.stderr)
    # Whoever captions has read the line above; a script asks for a status with --max-degraded.
    allowed = len(recordings) if parsed.max_degraded is None else config.run.max_degraded
    return 1 if failures or lost > allowed else 0


def _example(config: Config) -> str:
    """The embedded corpus's first recording in the language of ``config``."""
    from edgecloud.datasets.corpus import load_corpus

    embedded = config.changed(dataset_path=None, dataset_type="unified")
    return str(load_corpus(embedded)[0][0].audio_path)


def _miniature(mode: str, config: Config) -> bool:
    """Whether a model that captions is an embedded one; which a service holds is its own affair."""
    own = [] if mode == "cloud" else [config.models.edge]
    if mode != "edge" and config.service.url == "local":
        own.append(config.models.cloud)
    return None in own


def _painter(stream: Any) -> Callable[[str, str], str]:
    """Colours text by origin, on a terminal that wants it (https://no-color.org)."""
    colored = stream.isatty() and not os.environ.get("NO_COLOR")

    def paint(origin: str, text: str) -> str:
        code = _COLORS[origin] if colored else ""
        return f"\x1b[{code}m{text}\x1b[0m" if code else text

    return paint


def _timings(outcome: Outcome) -> str:
    """One line: times, who chose how many tokens, what the cloud did."""
    times = outcome.metrics.latency_metrics
    spent = outcome.metrics.cost_metrics
    counts = {origin: outcome.origins.count(origin) for origin in _COLORS}
    chosen = ", ".join(f"{origin} {count}" for origin, count in counts.items() if count)
    parts = [
        f"{outcome.audio_s:.1f} s of audio",
        f"first token {times.ttft:.3f} s",
        f"total {times.total_time:.3f} s",
        f"{times.otps:.1f} tokens/s",
        f"{len(outcome.tokens)} tokens ({chosen})",
    ]
    calls = outcome.metrics.speculative_decoding_metrics.cloud_calls
    if calls:
        parts.append(f"{calls} cloud calls")
    if spent.cloud_busy_time:
        parts.append(f"cloud busy {spent.cloud_busy_time:.3f} s, {spent.bytes_up} bytes up")
    modelled = outcome.config.hardware.clock == "modelled"
    return " · ".join(parts) + (" · modelled time" if modelled else "")
