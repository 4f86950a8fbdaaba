"""Requests to vLLM and the meaning of its answers, for a text and for a recording with a text.

Shapes are those of vLLM 0.32, read from a running server.
"""

from __future__ import annotations

import base64
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Protocol

from edgecloud.cloud.vllm.replicas import Replica
from edgecloud.contracts import Prompt
from edgecloud.errors import CloudUnavailable, ModelError

__all__ = ["Heard", "Requests", "Row", "Written"]

Row = dict[int, float]
"""Log-probabilities of vLLM's first choices at one position, by token."""

_PLAIN = {
    # A checkpoint's generation_config may ask for something else.
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    # What ends a text is said in stop_token_ids, whatever the checkpoint thinks.
    "ignore_eos": True,
}


class Requests(Protocol):
    """Questions about one prompt. Each session has its own, and asks one at a time; ``session`` is the name
    under which it does."""

    session: str

    @property
    def size_bytes(self) -> int:
        """Bytes that they hold in memory."""
        ...

    def moved(self) -> None:
        """The next one goes to a server that has seen none of them."""
        ...

    def rows(
        self, replica: Replica, texts: Sequence[Sequence[int]], deadline_s: float
    ) -> list[Row]:
        """Log-probabilities after the prompt and each of ``texts``, each of which continues the one
        before."""
        ...

    def decoded(
        self, replica: Replica, text: Sequence[int], limits: Mapping[str, Any], deadline_s: float
    ) -> Iterator[list[int]]:
        """Token ids of greedy decoding after the prompt and ``text``, as they arrive. ``limits``:
        ``max_tokens``, and ``stop_token_ids``, which are part of what comes."""
        ...


class Written:
    """A prompt of text alone, through ``/v1/completions``."""

    _PATH = "/v1/completions"

    def __init__(self, prompt: Prompt, *, logprobs: int) -> None:
        self._ids = prompt.token_ids
        self._logprobs = logprobs
        self._salt = secrets.token_urlsafe(32)
        self.session = secrets.token_hex(16)

    @property
    def size_bytes(self) -> int:
        """Bytes of the prompt as it is held here."""
        return 8 * len(self._ids)

    def moved(self) -> None:
        """Every request holds the whole prompt."""

    def rows(
        self, replica: Replica, texts: Sequence[Sequence[int]], deadline_s: float
    ) -> list[Row]:
        """Log-probabilities of the first choices after the prompt and each of ``texts``; one request."""
        body = {
            "prompt": [[*self._ids, *text] for text in texts],
            "max_tokens": 1,
            "logprobs": self._logprobs,
            "return_tokens_as_token_ids": True,
            "cache_salt": self._salt,
            **_PLAIN,
        }
        found = replica.post(self._PATH, body, session=self.session, deadline_s=deadline_s)
        with _understood():
            choices = {choice["index"]: choice for choice in found["choices"]}
            tops = [choices[index]["logprobs"]["top_logprobs"][0] for index in range(len(texts))]
            return [
                _row({int(name.removeprefix("token_id:")): top[name] for name in top})
                for top in tops
            ]

    def decoded(
        self, replica: Replica, text: Sequence[int], limits: Mapping[str, Any], deadline_s: float
    ) -> Iterator[list[int]]:
        """Token ids generated after ``text`` within ``limits`` (vLLM's own fields), as they arrive."""
        body = {
            "prompt": [*self._ids, *text],
            "return_token_ids": True,
            "cache_salt": self._salt,
            **_PLAIN,
            **limits,
        }
        for event in replica.stream(self._PATH, body, session=self.session, deadline_s=deadline_s):
            yield from _streamed(event)


class Heard:
    """A prompt with a recording, through ``/inference/v1/generate``.

    vLLM encodes the recording once, under a name that only this session knows; later requests give the
    name alone. It puts as many placeholders as its own features need, in place of one. ``together`` runs
    the requests of one verification: this endpoint takes one text at a time.
    """

    _PATH = "/inference/v1/generate"

    def __init__(
        self, prompt: Prompt, *, audio_id: int | None, logprobs: int, together: ThreadPoolExecutor
    ) -> None:
        recording = prompt.recording or b""
        self._url = f"data:audio/flac;base64,{base64.b64encode(recording).decode('ascii')}"
        self._ids = [
            token
            for token, run in groupby(prompt.token_ids)
            for _ in ([token] if token == audio_id else run)
        ]
        self._logprobs = logprobs
        self._together = together
        self._salt = secrets.token_urlsafe(32)
        self.session = secrets.token_hex(16)
        self._name = secrets.token_hex(16)
        self._sent = False

    @property
    def size_bytes(self) -> int:
        """Bytes of prompt and recording as they are held here."""
        return 8 * len(self._ids) + len(self._url)

    def moved(self) -> None:
        """The session moved to another server, which has to be sent the recording."""
        self._sent = False

    def rows(
        self, replica: Replica, texts: Sequence[Sequence[int]], deadline_s: float
    ) -> list[Row]:
        """Log-probabilities of the first choices after the prompt and each of ``texts``; a request each."""
        sampling = {"max_tokens": 1, "logprobs": self._logprobs}
        if not self._sent:
            # Alone at first: the others then find recording and prompt in vLLM's caches.
            found = [self._row(replica, texts[0], sampling, deadline_s)]
            return [*found, *self.rows(replica, texts[1:], deadline_s)] if texts[1:] else found

        def row(text: Sequence[int]) -> Row:
            return self._row(replica, text, sampling, deadline_s)

        return list(self._together.map(row, texts))

    def decoded(
        self, replica: Replica, text: Sequence[int], limits: Mapping[str, Any], deadline_s: float
    ) -> Iterator[list[int]]:
        """Token ids generated after ``text`` within ``limits`` (vLLM's own fields), as they arrive."""

        def stream() -> Iterator[dict[str, Any]]:
            body = self._body(text, limits)
            yield from replica.stream(self._PATH, body, session=self.session, deadline_s=deadline_s)

        events = stream()
        try:
            first = next(events, None)
        except ModelError as error:
            self._forgotten(error)
            events = stream()
            first = next(events, None)
        self._sent = True
        yield from _streamed(first or {"choices": []})
        for event in events:
            yield from _streamed(event)

    def _row(
        self,
        replica: Replica,
        text: Sequence[int],
        sampling: Mapping[str, Any],
        deadline_s: float,
    ) -> Row:
        def ask() -> dict[str, Any]:
            body = self._body(text, sampling)
            return replica.post(self._PATH, body, session=self.session, deadline_s=deadline_s)

        try:
            found = ask()
        except ModelError as error:
            self._forgotten(error)
            found = ask()
        self._sent = True
        with _understood():
            (choice,) = found["choices"]
            tops = choice["logprobs"]["content"][0]["top_logprobs"]
            return _row({int(top["token_id"]): top["logprob"] for top in tops})

    def _forgotten(self, error: ModelError) -> None:
        """Send the recording again where vLLM has dropped it. Raises ``error`` if that is not it."""
        if "Cache miss" not in str(error):
            raise error
        self._sent = False

    def _body(self, text: Sequence[int], sampling: Mapping[str, Any]) -> dict[str, Any]:
        part = {"type": "audio_url", "uuid": self._name}
        return {
            "token_ids": [*self._ids, *text],
            "content_parts": [part if self._sent else {**part, "url": self._url}],
            "cache_salt": self._salt,
            "sampling_params": {**_PLAIN, **sampling, "detokenize": False},
        }


def _row(found: Mapping[int, float]) -> Row:
    row = {token: float(value) for token, value in found.items()}
    if not row or not all(math.isfinite(value) and value < 0.01 for value in row.values()):
        raise ValueError("log probabilities were expected")
    return row


def _streamed(event: Mapping[str, Any]) -> Iterator[list[int]]:
    """The new tokens of one event; both endpoints tell them alike."""
    with _understood():
        new = [int(t) for choice in event["choices"] for t in choice.get("token_ids") or ()]
    if new:
        yield new


@contextmanager
def _understood() -> Iterator[None]:
    """Whatever is missing in an answer, or of another type."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CloudUnavailable(
            f"vLLM answered something else than was asked ({type(error).__name__}: {error}); "
            "is it a version that docs/vllm.md names?"
        ) from error
