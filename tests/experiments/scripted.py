"""A system without models or processes, so that the runner, its journal and its results are tested
in milliseconds. What it answers depends on the recording's name alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from edgecloud.contracts import Sample
from edgecloud.edge.messages import Failed, Mode, Request, Response
from edgecloud.errors import WorkerError
from edgecloud.settings.config import Config, resolve
from tests.results import synthetic

__all__ = ["ScriptedSystem", "config", "manifest"]

_EMOTIONS = ("开心", "悲伤", "愤怒", "平静")


def manifest(folder: Path, n: int) -> Path:
    """A manifest of ``n`` samples whose recordings are a byte each; every seventh cannot be used."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for index in range(n):
        (folder / f"s{index:03d}.wav").write_bytes(b"x")
        emotion = _EMOTIONS[index % 4]
        captions = [f"说话人十分{emotion}，语速很快。", f"听起来{emotion}的第{index}段语音。"]
        entries.append(
            {
                "file_id": f"s{index:03d}",
                "index": index,
                "dataset": "scripted",
                "audio_path": f"s{index:03d}.wav",
                "caption": captions,
            }
        )
    path = folder / "manifest.json"
    path.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return path


def config(data: Path, out: Path, **flags: Any) -> Config:
    return resolve(
        {"dataset_path": str(data), "output_dir": str(out), "clock": "modelled", **flags}
    )


class ScriptedSystem:
    """Stands in for :class:`edgecloud.experiments.system.System`."""

    delay_s = 0.0
    dies_at: str | None = None

    def __init__(
        self, mode: Mode, config: Config, *, first_core: int = 0, samples: Sequence[Sample] = ()
    ) -> None:
        self._mode = mode
        self.first_core = first_core
        self.facts: dict[str, Any] = {
            "limits": {"summary": "2 cores", "notes": ["made up"]},
            "models": {"edge": {"name": "e", "sha256": "1"}, "cloud": {"name": "c", "sha256": "2"}},
            "hardware_profile": {"name": config.hardware.profile},
        }
        self.load_s = {"edge": 0.1}
        self.stopping: dict[str, Any] = {"end_ids": [0], "sentence_ids": []}
        self.cloud_gpu: int | None = None
        self.edge_pid = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing runs."""

    def caption(
        self,
        request: Request,
        on_commit: Callable[[Any], None] | None = None,
    ) -> Response | Failed:
        name = Path(request.audio_path).stem
        time.sleep(self.delay_s)
        if name == self.dies_at:
            raise WorkerError(f"the edge process died at {name}")
        index = int(name[1:])
        if index % 7 == 6:
            return Failed("AudioError", f"{name} is silent")
        trace = synthetic.trace(self._mode, seed=index)
        commits = [row for row in trace if row["kind"] == "commit"]
        return Response(
            audio_s=1.0 + index % 5,
            input_tokens=50,
            tokens=tuple(token for row in commits for token in row["tokens"]),
            origins=tuple(origin for row in commits for origin in row["origins"]),
            text=f"说话人有点{_EMOTIONS[index % 3]}，语速很快。",
            stop="end_of_text",
            trace=trace,
        )
