"""``edgecloud serve``: the verifier behind HTTP."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgecloud.cloud.protocol.bearer_tokens import ONLY_CLIENT, authorization, read_token_file
from edgecloud.ending import end_on_sigterm
from edgecloud.errors import CloudUnavailable, ConfigError

if TYPE_CHECKING:
    from edgecloud.cloud.vllm.replicas import VllmSettings

__all__ = ["add"]

_STARTS_WITHIN_S = 600.0
_ENDS_WITHIN_S = 5.0
"""Beyond --drain-s."""
_COMMAND_ENDS_WITHIN_S = 30.0
_MOST = 1_000_000_000


def add(commands: Any) -> None:
    """Add ``edgecloud serve`` to ``commands``, the subparsers of the command line."""
    serve = commands.add_parser("serve", help="the verifier behind HTTP")
    serve.add_argument(
        "--model",
        metavar="MODEL",
        help="folder or hub's ORG/NAME@REVISION; the embedded cloud by default",
    )
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=_port, default=8765, help="0: any that is free")
    serve.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or auto-map")
    serve.add_argument(
        "--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16")
    )
    serve.add_argument(
        "--quantization",
        default="none",
        choices=("none", "int8", "int4"),
        help="on a CPU: own kernels or OpenVINO",
    )
    serve.add_argument(
        "--token-file",
        metavar="FILE",
        help="lines `name bearer-token`, one for each client, or one token; or EDGECLOUD_TOKEN. Needed "
        "beyond loopback",
    )
    serve.add_argument("--tls-cert", metavar="FILE")
    serve.add_argument("--tls-key", metavar="FILE")
    serve.add_argument("--max-sessions", type=_count, default=64)
    serve.add_argument(
        "--max-memory-gb", type=_positive, default=4.0, help="of all sessions' caches"
    )
    serve.add_argument(
        "--max-context",
        type=_count,
        metavar="TOKENS",
        help="of one session: prompt, output and what is asked for; by default the model's own",
    )
    serve.add_argument("--idle-s", type=_positive, default=60.0, help="when a session expires")
    serve.add_argument("--max-batch", type=_count, default=16, help="sessions that share a forward")
    serve.add_argument(
        "--batch-window-ms",
        type=_not_negative,
        default=0.0,
        help="how long a lone request waits for others",
    )
    serve.add_argument(
        "--max-connections",
        type=_count,
        help="open at once; by default two for each session and 128",
    )
    serve.add_argument(
        "--head-s", type=_positive, default=10.0, help="most time to the head of a request"
    )
    serve.add_argument("--max-body-mb", type=_positive, default=8.0)
    serve.add_argument("--answer-s", type=_positive, default=60.0, help="most time to an answer")
    serve.add_argument(
        "--drain-s", type=_positive, default=10.0, help="most time to the end after SIGTERM"
    )
    _add_vllm(serve.add_argument_group("on vLLM", "the model on vLLM servers; see docs/vllm.md"))
    serve.add_argument("--log-level", choices=("info", "warning"), default="info")
    serve.add_argument(
        "run",
        nargs="*",
        metavar="COMMAND",
        help="after --: run this, with {url} replaced by the service's address, and end with it",
    )
    serve.set_defaults(command=_serve)


def _add_vllm(group: Any) -> None:
    group.add_argument(
        "--vllm-url",
        action="append",
        metavar="URL",
        help="a vLLM server of the model in --model; once for each of several equal ones",
    )
    group.add_argument(
        "--vllm-model", metavar="NAME", help="its name there; by default the only one"
    )
    group.add_argument(
        "--vllm-ranks", type=_count, default=1, help="data-parallel ranks behind each URL"
    )
    group.add_argument(
        "--vllm-logprobs",
        type=_count,
        default=20,
        help="ranks to ask for; at most vLLM's --max-logprobs",
    )
    group.add_argument(
        "--upload-audio",
        action="store_true",
        help="take recordings from edges that say --upload-audio, too: vLLM cannot use features",
    )


def _vllm(parsed: argparse.Namespace) -> VllmSettings | None:
    """The settings of vLLM; None where it is not used.

    Raises:
        ConfigError: a setting needs another one, or is no address.
    """
    from edgecloud.cloud.vllm.replicas import VllmSettings

    if not parsed.vllm_url:
        if parsed.upload_audio:
            raise ConfigError("--upload-audio is for --vllm-url; a model here works on features")
        return None
    if parsed.quantization != "none":
        raise ConfigError(
            "--quantization is for a model here; a vLLM server has options of its own"
        )
    for url in parsed.vllm_url:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ConfigError(f"--vllm-url {url}: http://HOST:PORT was expected")
    return VllmSettings(
        urls=tuple(parsed.vllm_url),
        ranks=parsed.vllm_ranks,
        model=parsed.vllm_model,
        key=os.environ.get("EDGECLOUD_VLLM_KEY") or None,
        logprobs=parsed.vllm_logprobs,
        timeout_s=parsed.answer_s,
        recordings=parsed.upload_audio,
    )


def _serve(parsed: argparse.Namespace) -> int:
    # Edges on the same machine take turns with the model: its threads must not spin while they wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if parsed.run:
        return _beside(parsed.run, parsed.drain_s + _ENDS_WITHIN_S)
    try:
        from edgecloud.cloud.engine.session_registry import Bounds
        from edgecloud.cloud.http.app import ServiceSettings
        from edgecloud.cloud.run_server import Listening, serve
    except ImportError as error:
        raise ConfigError(
            f"serving needs the extra 'serve' ({error.name} is missing): pip install 'edgecloud[serve]'"
        ) from error
    from edgecloud.experiments.checking import check_cloud, model_of

    settings = ServiceSettings(
        clients=_clients(parsed.token_file),
        bounds=Bounds(
            parsed.max_sessions,
            int(parsed.max_memory_gb * (1 << 30)),
            parsed.idle_s,
            parsed.max_context,
        ),
        max_batch=parsed.max_batch,
        window_s=parsed.batch_window_ms / 1000,
        max_body_bytes=int(parsed.max_body_mb * (1 << 20)),
        answer_s=parsed.answer_s,
    )
    name, path = model_of(parsed.model, "cloud")
    serve(
        name,
        path,
        device=parsed.device,
        dtype=parsed.dtype,
        quantization=parsed.quantization,
        listening=Listening(
            parsed.host,
            parsed.port,
            parsed.tls_cert,
            parsed.tls_key,
            parsed.drain_s,
            parsed.max_connections or 2 * parsed.max_sessions + 128,
            parsed.head_s,
        ),
        settings=settings,
        log_level=parsed.log_level,
        check_model=lambda: check_cloud(
            path,
            device=parsed.device,
            dtype=parsed.dtype,
            quantization=parsed.quantization,
            caches=settings.bounds.memory_bytes,
        ),
        on_ready=lambda address: print(f"edgecloud: {name} at {address}", flush=True),
        vllm=_vllm(parsed),
    )
    return 0


def _beside(command: list[str], ends_within_s: float) -> int:
    """Run ``command`` beside a service of its own, which ends within ``ends_within_s`` afterwards; returns
    its status."""
    if "--" not in sys.argv:
        raise ConfigError(f"put -- before the command: edgecloud serve … -- {command[0]}")
    end_on_sigterm()
    own = sys.argv[1 : sys.argv.index("--")]
    service = subprocess.Popen(
        [sys.executable, "-m", "edgecloud", *own, "--log-level", "warning"],
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C of a terminal reaches the command, not the service that it still needs.
        process_group=0,
    )
    try:
        url = _address(service)
        with subprocess.Popen([part.replace("{url}", url) for part in command]) as beside:
            try:
                return beside.wait()
            except KeyboardInterrupt:
                # The terminal told the command too: it ends by itself, and says how to go on.
                return _ended(beside, told=True)
            finally:
                _ended(beside)
    except OSError as error:
        raise ConfigError(f"cannot run {command[0]} ({error.strerror})") from error
    finally:
        _ended(service, ends_within_s)


def _ended(
    process: subprocess.Popen[Any], within_s: float = _COMMAND_ENDS_WITHIN_S, *, told: bool = False
) -> int:
    """End a process; its status. It has some seconds to do so by itself, once it is ``told``."""
    if process.poll() is None and not told:
        process.terminate()
    try:
        return process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _address(service: subprocess.Popen[str]) -> str:
    """The address in the service's own line, once it has written it.

    Raises:
        CloudUnavailable: it ended, or did not say so in time.
    """
    if service.stdout is None:
        raise CloudUnavailable("the service has no output to read its address from")
    giving_up = threading.Timer(_STARTS_WITHIN_S, service.kill)
    giving_up.start()
    try:
        line = service.stdout.readline()
    finally:
        giving_up.cancel()
    if not line:
        raise CloudUnavailable("the service did not start; its last words are above")
    return line.split()[-1]


def _clients(file: str | None) -> dict[str, str]:
    """Names of clients by their tokens; empty where no token is asked for."""
    if file is not None:
        return read_token_file(file)
    token = os.environ.get("EDGECLOUD_TOKEN", "").strip()
    if token:
        authorization(token)
    return {token: ONLY_CLIENT} if token else {}


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= _MOST:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {_MOST}")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError("a port is from 0 to 65535")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= _MOST:
        raise argparse.ArgumentTypeError(f"a number above 0 and up to {_MOST}")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value <= _MOST:
        raise argparse.ArgumentTypeError(f"a number from 0 to {_MOST}")
    return value


_count.__name__ = "whole number"
_port.__name__ = "port"
_positive.__name__ = _not_negative.__name__ = "number"
