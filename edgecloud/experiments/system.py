"""The running system: an edge process, a cloud process where one is needed, and their facts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from edgecloud.cloud import process as cloud_process
from edgecloud.contracts import Sample
from edgecloud.decoding.acceptance import RULES
from edgecloud.edge import edge_process
from edgecloud.edge.messages import EdgeSetup, Failed, Mode, Request, Response, Streamed
from edgecloud.edge.nursery import CLOUD, EDGE, Nursery, allowed, nursery
from edgecloud.edge.speculation_policy import sampling_of
from edgecloud.edge.worker import At, Said, Worker, pass_on, pipe, speaking
from edgecloud.errors import ConfigError, WorkerError
from edgecloud.experiments.checking import check_models, known_good, model_of, remote_facts
from edgecloud.experiments.resource_owner import ResourceOwner
from edgecloud.hardware.cgroups import CgroupCap
from edgecloud.hardware.gpu import gpu_facts
from edgecloud.hardware.limits import BYTES_PER_GB, LimitsReport
from edgecloud.hardware.link import link
from edgecloud.hardware.probes import resident_bytes
from edgecloud.hardware.profiles import profile
from edgecloud.hardware.shaping import ShapingProxy
from edgecloud.models.families import FAMILIES
from edgecloud.models.pairing import TEMPLATE, check_pair
from edgecloud.models.quantized.cache import sweep
from edgecloud.settings.config import Config
from edgecloud.stages import stage
from edgecloud.textfiles import cache_folder

__all__ = ["System", "cache_dir", "model_of"]


_COMPARED = ("shared", "chat_template", "rules", "protocols")
"""Facts about a model that two are compared by, and that are none of a result."""


class System(ResourceOwner):
    """Context manager: starts what ``mode`` needs, ends it at exit.

    Raises, on entering:
        EdgeCloudError: a model cannot be loaded, the two do not fit together, a process died.
    """

    def __init__(
        self, mode: Mode, config: Config, *, first_core: int = 0, samples: Sequence[Sample] = ()
    ) -> None:
        """``samples`` are what it will be asked, where that is known: models are checked by it."""
        super().__init__()
        self._mode = mode
        self._samples = samples
        self._first_core = first_core
        self._config = config
        self._edge: Worker | None = None
        self._cap: CgroupCap | None = None
        self.facts: dict[str, Any] = {}
        """JSON: ``limits``, ``models``, ``hardware_profile``."""
        self.load_s: dict[str, float] = {}
        """Seconds each side took to load its model."""
        self.stopping: dict[str, Any] = {}
        """What ends a caption (JSON)."""
        self.cloud_gpu: int | None = None
        """CUDA index of the cloud's device, when it has one."""

    @property
    def edge_pid(self) -> int:
        """Process id of the edge."""
        return self._running.pid

    @property
    def _running(self) -> Worker:
        if self._edge is None:
            raise WorkerError("the edge process is not running; enter the system first")
        return self._edge

    def caption(
        self,
        request: Request,
        on_commit: Callable[[Streamed], None] | None = None,
    ) -> Response | Failed:
        """Caption one recording. Waits at most twice the deadline: for the edge, and for the cloud.

        Raises:
            WorkerError: the edge process died or said nothing in time.
        """
        self._running.send(request)
        while True:
            message = self._received(self._running, 2 * self._config.run.deadline_s)
            if isinstance(message, At | Said):
                pass_on(message, self._running.name)
                continue
            if isinstance(message, Streamed):
                if on_commit is not None:
                    on_commit(message)
                continue
            if isinstance(message, Response | Failed):
                return message
            raise WorkerError(f"the edge process said something unforeseen: {message!r:.200}")

    def _start(self) -> None:
        config, mode = self._config, self._mode
        stage("starting")
        sweep()
        hardware = profile(config.hardware.profile) if config.hardware.clock == "modelled" else None
        between = link(config.hardware.link) if config.hardware.link is not None else None
        # Only what is loaded here is fetched.
        ours = mode == "cloud" or (mode == "spec" and config.service.url == "local")
        edge_name, edge_path = model_of(config.models.edge if mode != "cloud" else None, "edge")
        cloud_name, cloud_path = model_of(config.models.cloud if ours else None, "cloud")
        check_models([(mode, config)], samples=self._samples)
        cloud: Worker | None = None
        theirs = None
        remote = mode != "edge" and config.service.url != "local"
        cloud_facts = remote_facts(config) if remote else None
        own_draft = config.own_draft.tokens if mode != "edge" else 0
        if own_draft and remote:
            raise ConfigError(
                "--cloud-draft-tokens is for --cloud-url local: a service has no draft model"
            )
        if mode != "edge":
            _check_audio(config, cloud_facts or {})
            _check_sampling(config, cloud_facts or {})
        if mode == "spec":
            _check_rule(config, cloud_facts or {})
        if (
            config.hardware.link is not None
            and config.hardware.clock == "wall"
            and mode != "edge"
            and not remote
        ):
            raise ConfigError(
                "in measured time --link lies between the edge and --cloud-url; give both, "
                "or --clock modelled"
            )
        nurseries = self._nurseries(here=mode != "edge" and not remote)
        if mode != "edge" and not remote:
            theirs, end = pipe()
            # Only the two processes may hold the ends, so that each sees the other's death.
            self._stack.callback(theirs.close)
            cloud = Worker(
                "cloud",
                _serve_cloud,
                end,
                {
                    "name": cloud_name,
                    "path": cloud_path,
                    "placement": config.models.placement("cloud"),
                    "seed": config.generation.seed,
                    "verify": config.service.verify_weights,
                    "draft": model_of(config.models.edge, "edge") if own_draft else None,
                    "draft_tokens": own_draft,
                },
                nursery=nurseries.get("cloud"),
            )
            self._stack.callback(cloud.close)
            end.close()
        setup = EdgeSetup(
            mode=mode,
            config=self._shaped() if remote else config,
            model=cloud_name if mode == "cloud" else edge_name,
            path=cloud_path if mode == "cloud" else edge_path,
            cloud_path=self._cloud_folder(cloud_path) if mode == "spec" else None,
            cache_dir=cache_dir(),
            first_core=self._first_core,
        )
        self._edge = Worker("edge", edge_process.main, theirs, setup, nursery=nurseries.get("edge"))
        self._stack.callback(self._edge.close)
        if theirs is not None:
            theirs.close()
        cap = self._cap = self._stack.enter_context(
            CgroupCap(
                self._edge.pid,
                max_cpu_cores=config.caps.cpu_cores,
                max_memory_gb=config.caps.memory_gb,
            )
        )
        ready = self._all_ready([self._edge] if cloud is None else [self._edge, cloud])
        edge_facts = ready[self._edge]
        if cloud is not None:
            cloud_facts = ready[cloud]
        if known_good(mode, config):
            _check_pair(edge_facts, cloud_facts)
        else:
            # Chat templates were compared before, by what they make of the requests.
            _check_pair(
                _without_template(edge_facts), cloud_facts and _without_template(cloud_facts)
            )
        self.stopping = edge_facts["stopping"]
        self._describe(edge_facts, cloud_facts, cap)
        self.facts["hardware_profile"] = hardware.to_json() if hardware else None
        if between is not None:
            self.facts["link"] = between.to_json()

    def _nurseries(self, *, here: bool) -> dict[str, Nursery]:
        """What the processes are forked from, by side, already importing; empty where each starts afresh.
        ``here``: the cloud is a process of this machine.

        For the embedded pair without a GPU alone. There seconds matter; a cap of memory, to which pages that
        processes share do not count, is far away; and there is no driver, which would not bear being forked.
        """
        config = self._config
        if not allowed() or not known_good(self._mode, config) or gpu_facts()[0]:
            return {}
        caps = (config.caps.cpu_cores, config.caps.memory_gb, self._first_core)
        found = {"edge": nursery(EDGE if self._mode == "cloud" else (*EDGE, *CLOUD), caps)}
        if here:
            found["cloud"] = nursery(CLOUD)
        for its in found.values():
            with suppress(OSError):
                its.start()
        return found

    def _cloud_folder(self, loaded: str) -> str | None:
        """The folder of a cloud that need not be of the edge's family: the one ``loaded`` here, or where
        ``--cloud-model`` says what a service runs."""
        config = self._config
        if known_good(self._mode, config):
            return None
        if config.service.url == "local":
            return loaded
        return model_of(config.models.cloud, "cloud")[1] if config.models.cloud else None

    def _shaped(self) -> Config:
        """The configuration for an edge behind the link that was asked for, in measured time.

        Raises:
            ConfigError: a link cannot be put in front of this cloud.
        """
        config = self._config
        if config.hardware.link is None or config.hardware.clock == "modelled":
            return config
        address = urlsplit(config.service.url)
        if address.scheme != "http" or address.hostname is None:
            raise ConfigError("--link shapes plain HTTP; give --cloud-url http://HOST:PORT")
        over = ShapingProxy(
            address.hostname,
            address.port or 80,
            link(config.hardware.link),
            seed=config.generation.seed,
        )
        port = self._stack.enter_context(over).port
        return config.changed(cloud_url=f"http://127.0.0.1:{port}")

    def _received(self, worker: Worker, timeout_s: float) -> Any:
        """The worker's next message.

        Raises:
            WorkerError: it died or said nothing; where its memory cap ended it, that is what it says.
        """
        try:
            return worker.receive(timeout_s)
        except WorkerError as error:
            if worker is not self._edge or self._cap is None or not self._cap.memory_kills:
                raise
            cap_gb = self._config.caps.memory_gb
            outer_gb = self._cap.in_force.get("outer_memory_gb")
            if outer_gb is not None:
                raise WorkerError(
                    f"the edge went over the {outer_gb:.3g} GB that the cgroup around it allows, less than "
                    f"--max-memory-gb {cap_gb:g}, and was ended; give the container or job more, or use a "
                    "smaller model or precision"
                ) from error
            raise WorkerError(
                f"the edge went over its memory cap of {cap_gb:g} GB and was "
                "ended; raise --max-memory-gb, or use a smaller model or precision"
            ) from error

    def _all_ready(self, workers: list[Worker]) -> dict[Worker, dict[str, Any]]:
        """Each worker's metadata once it is ready; their stages are shown meanwhile."""
        deadline_s = time.monotonic() + self._config.run.start_deadline_s
        at = {worker: At("starting") for worker in workers}
        ready: dict[Worker, dict[str, Any]] = {}
        _tell(at)
        while at:
            for worker in speaking(list(at), within_s=deadline_s - time.monotonic()):
                if worker is None:
                    _tell(at)
                    continue
                message = self._received(worker, self._config.run.start_deadline_s)
                if isinstance(message, At):
                    at[worker] = message
                if isinstance(message, At | Said):
                    pass_on(message, worker.name)
                    continue
                ready[worker] = _facts(message)
                del at[worker]
                break
            else:
                if at:
                    raise WorkerError(
                        f"the {next(iter(at)).name} process was not ready within "
                        f"{self._config.run.start_deadline_s:.0f} s; raise --start-deadline, or use a smaller "
                        "model"
                    )
        return ready

    def _describe(self, edge: dict[str, Any], cloud: dict[str, Any] | None, cap: CgroupCap) -> None:
        config = self._config
        limits = LimitsReport.of(
            config.caps.cpu_cores,
            config.caps.memory_gb,
            child=edge["limits"],
            cgroup=cap.in_force,
            watched=config.hardware.clock == "wall",
        ).with_resident(resident_bytes(self.edge_pid) / BYTES_PER_GB)
        models = {"edge": edge["model"], "cloud": cloud}
        self.facts["limits"] = limits.to_json()
        self.load_s = {
            side: facts.pop("load_s")
            for side, facts in models.items()
            if facts is not None and "load_s" in facts
        }
        # What was compared is no fact of a result.
        self.facts["models"] = {
            side: facts and {name: fact for name, fact in facts.items() if name not in _COMPARED}
            for side, facts in models.items()
        }
        device = cloud["device"] if cloud and config.service.url == "local" else "cpu"
        if device.startswith("cuda"):
            self.cloud_gpu = int(device.partition(":")[2] or 0)


def _tell(at: dict[Worker, At]) -> None:
    """Show the stages of the processes."""
    for worker, doing in at.items():
        pass_on(doing, worker.name)


def _facts(message: Any) -> dict[str, Any]:
    word, facts = message if isinstance(message, tuple) and len(message) == 2 else (message, None)
    if word != "ready" or not isinstance(facts, dict):
        raise WorkerError(f"a process started with {word!r:.200} instead of 'ready'")
    return facts


def _serve_cloud(control: Any, requests: Any, settings: dict[str, Any]) -> None:
    cloud_process.main(control, requests, **settings)


def _without_template(facts: dict[str, Any]) -> dict[str, Any]:
    if "shared" not in facts:
        return facts
    shared = {name: part for name, part in facts["shared"].items() if name != TEMPLATE}
    return {**facts, "shared": shared}


def _check_audio(config: Config, cloud: dict[str, Any]) -> None:
    """Check that the cloud takes the audio in the form that may leave the edge.

    Raises:
        ConfigError: it is not.
    """
    if config.data.kind == "text":
        return
    accepts_audio = cloud.get("hears", "features")
    family = FAMILIES.get(str(cloud.get("shared", {}).get("family")))
    takes_waveform = family is not None and family.takes_waveform
    if accepts_audio == "nothing":
        raise ConfigError(
            f"the cloud at {config.service.url} runs on vLLM, which needs recordings, and takes none; "
            "start it with --upload-audio, and run with --upload-audio, if they may leave the edge"
        )
    if accepts_audio == "recordings" and not config.service.upload_audio:
        raise ConfigError(
            f"the cloud at {config.service.url} runs on vLLM, which needs recordings, not features; "
            "run with --upload-audio if they may leave this machine"
        )
    if accepts_audio == "recordings" and takes_waveform:
        raise ConfigError(
            f"the cloud at {config.service.url} runs on vLLM, to which the waveform of this family "
            "cannot be handed on; serve it without --vllm-url"
        )
    if accepts_audio == "features" and takes_waveform and not config.service.upload_audio:
        raise ConfigError(
            f"the cloud at {config.service.url} takes the waveform itself, not features of it; run with "
            "--upload-audio if recordings may leave this machine, or bench/test_edge.py alone"
        )
    if accepts_audio == "features" and config.service.upload_audio and not takes_waveform:
        raise ConfigError(
            "--upload-audio: this cloud works on features, so no recording has to leave this "
            "machine; run without it"
        )


def _check_sampling(config: Config, cloud: dict[str, Any]) -> None:
    """Check that the cloud can verify sampled tokens and apply penalties, where that is asked for.

    Raises:
        ConfigError: it is not.
    """
    sampling, on_vllm = sampling_of(config), not cloud.get("draws", True)
    if not sampling.greedy and on_vllm:
        raise ConfigError(
            f"the cloud at {config.service.url} runs on vLLM, which cannot verify drawn tokens; run with "
            "--temperature 0, or on a cloud without vLLM"
        )
    if sampling.unpenalized:
        return
    if on_vllm:
        raise ConfigError(
            f"the cloud at {config.service.url} runs on vLLM, which cannot verify with penalties; run without "
            "--repetition-penalty and --no-repeat-ngram, or on a cloud without vLLM"
        )
    if "protocol" in cloud and 3 not in cloud.get("protocols", ()):
        raise ConfigError(
            f"the cloud at {config.service.url} is of a version that knows no penalties; update it, or run "
            "without --repetition-penalty and --no-repeat-ngram"
        )


def _check_rule(config: Config, cloud: dict[str, Any]) -> None:
    """The cloud must know the acceptance rule, where it says which it knows, as it is here.

    Raises:
        ConfigError: it does not.
    """
    known = cloud.get("rules")
    name = config.acceptance.rule
    if not isinstance(known, dict):
        return
    if name not in known:
        raise ConfigError(
            f"the cloud at {config.service.url} has no acceptance rule {name!r}; it has "
            f"{', '.join(map(str, known))}. Start it with --plugin MODULE, or install the rule's package there"
        )
    if known[name] != RULES.part(name).sha256:
        raise ConfigError(
            f"the cloud at {config.service.url} has another version of the acceptance rule {name!r}; install "
            "the same one on both sides"
        )


def _check_pair(edge: dict[str, Any], cloud: dict[str, Any] | None) -> None:
    """Check that both sides have the same tokens and take the same audio.

    Raises:
        ModelError: they do not; says what differs.
    """
    if cloud is not None:
        check_pair(edge, cloud)


def cache_dir() -> str | None:
    """The folder of features kept between modelled runs; None when none can be written."""
    folder = cache_folder() / "features"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return str(folder) if os.access(folder, os.W_OK) else None
