"""Decoding as a configuration says, on its clock: whatever the edge and the cloud are made of."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from edgecloud.contracts import (
    Clock,
    CloudModel,
    Commit,
    EdgeModel,
    Language,
    Prompt,
    StopReason,
)
from edgecloud.contracts.sampling import GREEDY, Sampling
from edgecloud.decoding.autoregressive import cloud_only, edge_only
from edgecloud.decoding.cascade import cascade
from edgecloud.decoding.recorder import Recorder
from edgecloud.decoding.speculative import speculative
from edgecloud.decoding.stopping import Stopping
from edgecloud.edge.speculation_policy import policies
from edgecloud.errors import ConfigError, EdgeCloudError
from edgecloud.hardware.clock import ModelledClock, TimedCloud, TimedEdge, WallClock
from edgecloud.hardware.link import link
from edgecloud.hardware.profiles import profile
from edgecloud.settings.config import Config

__all__ = ["Decoding"]


class Decoding:
    """Decodes one request after the other: with an edge, with a cloud, or by speculation with both. In
    modelled time edge and cloud take the time of ``config``'s profile and link; ``reads`` is
    :class:`edgecloud.hardware.clock.TimedEdge`'s.

    Raises:
        ConfigError: the profile, the link or the gate's calibration cannot be used.
    """

    def __init__(
        self, config: Config, stopping: Stopping, *, reads: Callable[[Sequence[int]], int] = len
    ) -> None:
        self._config = config
        self._stopping = stopping
        self._reads = reads
        self._policies = policies(config)
        self._modelled = ModelledClock() if config.hardware.clock == "modelled" else None
        self._clock: Clock = self._modelled or WallClock()
        if self._modelled is not None:
            self._hardware = profile(config.hardware.profile)
            self._link = link(config.hardware.link) if config.hardware.link else None
            if config.own_draft.tokens and self._hardware.cloud.draft_step_s is None:
                raise ConfigError(
                    f"--cloud-draft-tokens: the hardware profile {self._hardware.name} does not say what the "
                    "cloud's own draft takes (cloud.draft_step_s); paper-drafted does"
                )

    def begin(self) -> Recorder:
        """A request begins now: its recorder."""
        if self._modelled is not None:
            self._modelled.restart()
        return Recorder(self._clock)

    def commits(
        self,
        prompt: Prompt,
        recorder: Recorder,
        *,
        edge: EdgeModel | None,
        cloud: CloudModel | None,
        sampling: Sampling = GREEDY,
        language: Language | None = None,
        gate: str | None = None,
    ) -> Generator[Commit, None, StopReason]:
        """The request's commits; returns why it ended. The cloud chooses as ``sampling`` says; of
        ``language`` is the gate's calibration, and ``gate`` replaces the configured one.

        Raises:
            EdgeCloudError: there is neither edge nor cloud.
        """
        edge, cloud = self._timed(edge, cloud)
        stopping = self._stopping
        if edge is not None and cloud is not None:
            settings = self._policies[language or self._config.data.language]
            decode = cascade if settings.whole_captions else speculative
            return decode(
                prompt,
                edge=edge,
                cloud=cloud,
                settings=settings if gate is None else replace(settings, gate=gate),
                stopping=stopping,
                recorder=recorder,
                sampling=sampling,
            )
        if cloud is not None:
            return cloud_only(
                prompt, cloud=cloud, stopping=stopping, recorder=recorder, sampling=sampling
            )
        if edge is not None:
            return edge_only(prompt, edge=edge, stopping=stopping, recorder=recorder)
        raise EdgeCloudError("an edge process needs a model or a cloud")

    def _timed(
        self, edge: EdgeModel | None, cloud: CloudModel | None
    ) -> tuple[EdgeModel | None, CloudModel | None]:
        """In modelled time, edge and cloud that take the profile's time."""
        clock, config = self._modelled, self._config
        if clock is None:
            return edge, cloud
        return (
            edge and TimedEdge(edge, clock, self._hardware.edge, reads=self._reads),
            cloud
            and TimedCloud(
                cloud,
                clock,
                self._hardware,
                link=self._link,
                seed=config.generation.seed,
                deadline_s=config.run.deadline_s,
            ),
        )
