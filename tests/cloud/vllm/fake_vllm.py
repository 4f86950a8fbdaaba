"""A server that answers as vLLM 0.32 does, on any model of ours: the same shapes, limits and refusals,
read from the real one. tests/cloud/vllm/test_vllm.py runs against both."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from edgecloud.contracts import Model, Prompt
from tests.cloud.running import listening

__all__ = ["Asked", "FakeVllm"]


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


Fault = Callable[[Asked, int], Response | None]
"""What to answer in vLLM's place to a request of that number; ``None``: what it would."""


@dataclass
class FakeVllm:
    """``padding``: tokens that the model has beyond the tokenizer, more likely than all others."""

    model: Model
    name: str = "tiny"
    max_logprobs: int = 20
    max_model_len: int = 2048
    key: str | None = None
    padding: int = 0
    audio_id: int | None = None
    fault: Fault | None = None
    healthy: bool = True
    asked: list[Asked] = field(default_factory=list)
    hear: Callable[[list[int], NDArray[np.float32]], Prompt] | None = None
    """What the model makes of token ids with one placeholder, and a waveform at 16 kHz."""
    recordings: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """The recordings in the cache, by name."""
    closed_early: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def running(self, *, port: int = 0) -> Iterator[str]:
        app = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._models),
                Route("/v1/completions", self._completions, methods=["POST"]),
                Route("/inference/v1/generate", self._generate, methods=["POST"]),
            ]
        )
        with listening(app, port=port) as address:
            yield address

    async def _health(self, _: Request) -> Response:
        return Response(status_code=200 if self.healthy else 503)

    async def _models(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        entry = {"id": self.name, "object": "model", "max_model_len": self.max_model_len}
        return JSONResponse({"object": "list", "data": [entry]})

    async def _completions(self, request: Request) -> Response:
        body = await request.json()
        if refused := self._refused(request) or self._fault(request, body):
            return refused
        asked = body["prompt"]
        prompts = asked if isinstance(asked[0], list) else [asked]
        logprobs = body.get("logprobs")
        if wrong := self._wrong(body, prompts, logprobs):
            return wrong
        if body.get("stream"):
            return self._streamed(Prompt(tuple(prompts[0])), body)
        choices = []
        for index, prompt in enumerate(prompts):
            tokens, tops = self._greedy(Prompt(tuple(prompt)), body, logprobs)
            named = [{f"token_id:{t}": value for t, value in top} for top in tops]
            found = {
                "text_offset": [0] * len(tokens),
                "token_logprobs": [top[0][1] for top in tops],
                "tokens": [f"token_id:{token}" for token in tokens],
                "top_logprobs": named,
            }
            ids = tokens if body.get("return_token_ids") else None
            choices.append(
                {"index": index, "text": "?", "logprobs": found, "token_ids": ids}
                | {"finish_reason": "length", "stop_reason": None}
            )
        # In the order in which they were ready.
        answer = {"id": "cmpl-1", "object": "text_completion", "choices": choices[::-1]}
        return JSONResponse({**answer, "model": self.name, "usage": {}})

    async def _generate(self, request: Request) -> Response:
        body = await request.json()
        if refused := self._refused(request) or self._fault(request, body):
            return refused
        sampling = body["sampling_params"]
        prompt = body["token_ids"]
        if wrong := self._wrong(body, [prompt], sampling.get("logprobs")):
            return wrong
        (part,) = body["content_parts"]
        if wrong := self._unheard(part, prompt):
            return wrong
        waveform = self.recordings[part["uuid"]]
        heard = self.hear(prompt, waveform) if self.hear else Prompt(tuple(prompt))
        if body.get("stream"):
            return self._streamed(heard, sampling)
        tokens, tops = self._greedy(heard, sampling, sampling.get("logprobs"))
        content = [
            {"token_id": token, "logprob": top[0][1], "rank": 1, "top_logprobs": entries}
            for token, top in zip(tokens, tops, strict=True)
            for entries in [
                [{"token_id": t, "logprob": v, "rank": r} for r, (t, v) in _from_1(top)]
            ]
        ]
        choice = {"index": 0, "finish_reason": "length", "stop_reason": None, "token_ids": tokens}
        return JSONResponse(
            {
                "request_id": "generate-tokens-1",
                "model": self.name,
                "output_mode": "tokens",
                "choices": [{**choice, "logprobs": {"content": content}}],
            }
        )

    def _unheard(self, part: dict[str, Any], prompt: list[int]) -> Response | None:
        """Hear a recording, or find it again."""
        if prompt.count(self.audio_id or -1) != 1:
            return _error(400, "Failed to apply prompt replacement for mm_items['audio'][0]")
        name = part["uuid"]
        if "url" in part:
            kind, _, data = part["url"].partition(";base64,")
            assert kind == "data:audio/flac"
            samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float32")
            assert rate == 16_000
            self.recordings[name] = samples
        elif name not in self.recordings:
            return _error(400, "Cache miss for audio at index 0 but data is not provided.")
        return None

    def _streamed(self, prompt: Prompt, limits: dict[str, Any]) -> Response:
        tokens, _ = self._greedy(prompt, limits, None)
        stopped = tokens[-1] in limits.get("stop_token_ids", ())

        def events() -> Iterator[str]:
            done = False
            try:
                for count, token in enumerate(tokens, start=1):
                    end = ("stop" if stopped else "length") if count == len(tokens) else None
                    choice = {"index": 0, "text": "?", "finish_reason": end, "token_ids": [token]}
                    yield f"data: {json.dumps({'choices': [choice]})}\n\n"
                yield "data: [DONE]\n\n"
                done = True
            finally:
                self.closed_early += not done

        return StreamingResponse(events(), media_type="text/event-stream")

    def _greedy(
        self, prompt: Prompt, limits: dict[str, Any], logprobs: int | None
    ) -> tuple[list[int], list[list[tuple[int, float]]]]:
        """The tokens that are chosen, and the first choices at each, the chosen one first."""
        with self._lock:
            model = self.model.new_sequence()
            logits = model.prefill(prompt)
            tokens: list[int] = []
            tops = []
            while True:
                padded = torch.cat((logits, logits.max() + 1 + torch.arange(self.padding)))
                values = torch.log_softmax(padded, dim=-1)
                tokens.append(int(logits.argmax()))
                order = values.sort(descending=True, stable=True).indices[: logprobs or 0].tolist()
                order = [tokens[-1], *(token for token in order if token != tokens[-1])]
                tops.append([(token, float(values[token])) for token in order])
                ended = tokens[-1] in limits.get("stop_token_ids", ())
                if ended or len(tokens) == limits["max_tokens"]:
                    return tokens, tops
                logits = model.extend([tokens[-1]])[-1]

    def _fault(self, request: Request, body: dict[str, Any]) -> Response | None:
        asked = Asked(request.url.path, dict(request.headers), body)
        self.asked.append(asked)
        return self.fault(asked, len(self.asked)) if self.fault else None

    def _refused(self, request: Request) -> Response | None:
        borne = request.headers.get("authorization")
        if self.key is not None and borne != f"Bearer {self.key}":
            return JSONResponse({"error": "Unauthorized"}, status_code=401)
        return None

    def _wrong(
        self, body: dict[str, Any], prompts: list[list[int]], logprobs: int | None
    ) -> Response | None:
        assert isinstance(body["cache_salt"], str)
        assert body["cache_salt"]
        if body["model"] != self.name:
            return _error(404, f"The model `{body['model']}` does not exist.")
        if logprobs is not None and logprobs > self.max_logprobs:
            return _error(
                400,
                f"Requested sample logprobs of {logprobs}, which is greater than max allowed: "
                f"{self.max_logprobs}",
            )
        for prompt in prompts:
            if len(prompt) >= self.max_model_len:
                return _error(
                    400, f"This model's maximum context length is {self.max_model_len} tokens."
                )
            for token in prompt:
                if token >= self.model.vocab_size + self.padding:
                    return _error(400, f"Token id {token} is out of vocabulary")
        return None


def _from_1(top: list[tuple[int, float]]) -> Iterator[tuple[int, tuple[int, float]]]:
    return enumerate(top, start=1)


def _error(status: int, text: str) -> Response:
    said = {"message": text, "type": "BadRequestError", "param": None, "code": status}
    return JSONResponse({"error": said}, status_code=status)
