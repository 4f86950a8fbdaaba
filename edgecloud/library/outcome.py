"""What came of one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgecloud.contracts import Origin, StopReason, Trace
from edgecloud.edge.messages import Mode, Response
from edgecloud.results.cost import Cost, cost
from edgecloud.results.latency import Latency, latency
from edgecloud.results.records import Loss
from edgecloud.results.speculation import Speculation, speculation
from edgecloud.settings.config import Config

__all__ = ["Outcome", "RequestMetrics"]


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """The blocks of numbers of a sample in a result, under the same names."""

    latency_metrics: Latency
    speculative_decoding_metrics: Speculation
    cost_metrics: Cost


@dataclass(frozen=True, slots=True)
class Outcome:
    """A caption or an answer, how it came about, and what it took.

    ``tokens`` and who chose each (``origins``); ``trace``, the timed list of what happened, in seconds after the
    request's start; ``metrics``, computed from it. ``audio_s`` is None for a prompt of text; ``audio_notes`` say
    what about the recording cannot be right. ``degraded`` says when and why the cloud was lost, and is None where it
    was not.
    """

    text: str
    tokens: tuple[int, ...]
    origins: tuple[Origin, ...] = field(repr=False)
    stop: StopReason
    mode: Mode
    trace: Trace = field(repr=False)
    metrics: RequestMetrics = field(repr=False)
    audio_s: float | None
    input_tokens: int
    audio_notes: Mapping[str, str]
    degraded: Loss | None
    config: Config = field(repr=False)

    @classmethod
    def of(cls, response: Response, mode: Mode, config: Config) -> Outcome:
        """The outcome of a finished request that was made with ``config``."""
        trace = Trace.from_json(response.trace)
        return cls(
            text=response.text,
            tokens=response.tokens,
            origins=response.origins,
            stop=response.stop,
            mode=mode,
            trace=trace,
            metrics=RequestMetrics(
                latency(trace, audio_s=response.audio_s, input_tokens=response.input_tokens),
                speculation(trace, k=config.draft.k),
                cost(trace),
            ),
            audio_s=response.audio_s,
            input_tokens=response.input_tokens,
            audio_notes=response.audio_notes,
            degraded=Loss.of(trace),
            config=config,
        )
