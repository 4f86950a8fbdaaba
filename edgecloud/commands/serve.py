"""``edgecloud serve``: the verifier behind HTTP."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from edgecloud.errors import ConfigError

__all__ = ["add"]


def add(commands: Any) -> None:
    serve = commands.add_parser("serve", help="the verifier behind HTTP")
    serve.add_argument("--model", metavar="PATH", help="checkpoint; the embedded cloud by default")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8765, help="0: any that is free")
    serve.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    serve.add_argument(
        "--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16")
    )
    serve.add_argument(
        "--token-file",
        metavar="FILE",
        help="what clients must bear; or EDGECLOUD_TOKEN. Needed beyond loopback",
    )
    serve.add_argument("--tls-cert", metavar="FILE")
    serve.add_argument("--tls-key", metavar="FILE")
    serve.add_argument("--max-sessions", type=_count, default=64)
    serve.add_argument(
        "--max-memory-gb", type=_positive, default=4.0, help="of all sessions' caches"
    )
    serve.add_argument("--idle-s", type=_positive, default=60.0, help="when a session expires")
    serve.add_argument("--max-batch", type=_count, default=16, help="sessions that share a forward")
    serve.add_argument(
        "--batch-window-ms",
        type=float,
        default=0.0,
        help="how long a lone request waits for others",
    )
    serve.add_argument("--max-body-mb", type=_positive, default=8.0)
    serve.add_argument("--answer-s", type=_positive, default=60.0, help="most time to an answer")
    serve.add_argument("--drain-s", type=_positive, default=10.0, help="for requests at the end")
    serve.set_defaults(command=_serve)


def _serve(parsed: argparse.Namespace) -> int:
    try:
        from edgecloud.cloud.registry import Bounds
        from edgecloud.cloud.service import ServiceSettings
        from edgecloud.cloud.serving import Listening, serve
    except ImportError as error:
        raise ConfigError(
            f"serving needs the extra 'serve' ({error.name} is missing): pip install 'edgecloud[serve]'"
        ) from error
    from edgecloud.models.reference import CLOUD_CHECKPOINT

    settings = ServiceSettings(
        token=_token(parsed.token_file),
        bounds=Bounds(parsed.max_sessions, int(parsed.max_memory_gb * (1 << 30)), parsed.idle_s),
        max_batch=parsed.max_batch,
        window_s=parsed.batch_window_ms / 1000,
        max_body_bytes=int(parsed.max_body_mb * (1 << 20)),
        answer_s=parsed.answer_s,
    )
    name = "embedded-cloud" if parsed.model is None else Path(parsed.model).name
    serve(
        name,
        parsed.model or str(CLOUD_CHECKPOINT),
        device=parsed.device,
        dtype=parsed.dtype,
        listening=Listening(
            parsed.host, parsed.port, parsed.tls_cert, parsed.tls_key, parsed.drain_s
        ),
        settings=settings,
        on_ready=lambda address: print(f"edgecloud: {name} at {address}", flush=True),
    )
    return 0


def _token(file: str | None) -> str | None:
    if file is None:
        return os.environ.get("EDGECLOUD_TOKEN") or None
    try:
        token = Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"token file {file} cannot be read ({error})") from error
    if not token:
        raise ConfigError(f"token file {file} is empty")
    return token


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("a number above 0")
    return value
