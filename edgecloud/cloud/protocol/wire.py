"""Messages between edge and cloud: msgpack, versioned, closed.

Requests and answers are lists: short, and with no room for anything that is not foreseen here.

====================  ==============================================================================
request               ``[version, seq, op, session, *arguments]``; sessions are 16 random bytes
``open``              ``ids``: int32 little-endian bytes; ``[n_mels, T]``; features: float16
                      little-endian, bytes of equal significance together, deflated; in version 3
                      also several arrays, as ``[[name, type, shape], …]`` in the shape's place,
                      sorted by name, and their bytes one after the other;
                      ``[temperature, top_p, seed]``, in version 3 with penalties
                      ``[…, repetition penalty, no-repeat n-gram]``. With the edge's ``--upload-audio`` alone: nil
                      and nil in the features' place, and a fifth: ``recording``, FLAC
``verify``            ``shared``: how many output tokens both sides know; ``new`` committed tokens
                      after those; ``draft``; acceptance: ``[rule, rank threshold, probability
                      ratio, regret in nats]``; how many tokens to go on for; what each
                      drafted token was drawn from (:mod:`edgecloud.cloud.protocol.sampling`), none at
                      temperature 0
``generate``          ``shared``; ``new``; most tokens of the output (0 at its start: prefill
                      alone); most sentences or nil
``close``             (none); not answered
answer                ``[version, seq, kind, session, *values]``
``verdict``           kept; token or nil; ranks; top-1 probabilities (float32); continuation;
                      regret in nats; cost
``chunk``             tokens; cost; whether it is the last; how many output tokens come before it
``error``             name of the exception; its text
cost                  prefill, verified, ingested, generated tokens; busy seconds
====================  ==============================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import msgpack
import numpy as np

from edgecloud.cloud.protocol.opening import (
    is_plain,
    pack_open,
    pack_prompt,
    unpack_open,
    unpack_prompt,
)
from edgecloud.cloud.protocol.sampling import draft_probabilities_of, pack_drawn_from
from edgecloud.contracts import Acceptance, CloudChunk, CloudCost, StopLimits, Verdict
from edgecloud.errors import EdgeCloudError, WireError

__all__ = [
    "OPERATIONS",
    "VERSION",
    "VERSIONS",
    "acceptance_of",
    "counted",
    "draft_probabilities_of",
    "is_plain",
    "limits_of",
    "pack",
    "pack_acceptance",
    "pack_chunk",
    "pack_cost",
    "pack_drawn_from",
    "pack_error",
    "pack_frames",
    "pack_open",
    "pack_prompt",
    "pack_verdict",
    "unpack",
    "unpack_chunk",
    "unpack_frames",
    "unpack_open",
    "unpack_prompt",
    "unpack_verdict",
]

VERSION = 2
VERSIONS = (2, 3)
"""What this side understands. 3 is 2 with penalties and with features of several arrays; it is spoken where
there are such, and nowhere else."""
OPERATIONS = ("open", "verify", "generate", "close")
_MOST_OWN = 32
"""Numbers that an acceptance rule alone knows, at most."""


def pack(seq: int, what: str, *values: Any, version: int = VERSION) -> bytes:
    """One message as bytes."""
    return cast(
        "bytes",
        msgpack.packb([version, seq, what, *values], use_bin_type=True, use_single_float=False),
    )


def unpack(message: bytes) -> tuple[int, str, list[Any]]:
    """``(seq, what, values)`` of a message.

    Raises:
        WireError: not a message, or of another version.
    """
    try:
        _check_whole(message)
        content = msgpack.unpackb(message, raw=False, strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(f"not a message of this protocol: {error}") from error
    if not isinstance(content, list) or len(content) < 3:
        raise WireError("not a message of this protocol")
    version, seq, what, *values = content
    if type(version) is not int or version not in VERSIONS:
        spoken = " and ".join(map(str, VERSIONS))
        raise WireError(f"protocol version {version!r}; this side speaks {spoken}")
    if type(seq) is not int or not isinstance(what, str):
        raise WireError("not a message of this protocol")
    return seq, what, values


def _check_whole(message: bytes) -> None:
    """Raises as msgpack does where ``message`` holds less than it says. Nothing is set aside for what it
    says until then: lists within lists may each say that they are as long as the whole message."""
    reader = msgpack.Unpacker(max_buffer_size=max(1, len(message)))
    reader.feed(message)
    reader.skip()


def pack_cost(cost: CloudCost) -> list[Any]:
    """The five numbers of a cost as in an answer: four counts of tokens, then seconds."""
    return [
        cost.prefill_tokens,
        cost.verified_tokens,
        cost.ingested_tokens,
        cost.generated_tokens,
        cost.busy_s,
    ]


def _cost(values: Any, bytes_up: int, bytes_down: int) -> CloudCost:
    if not (
        isinstance(values, list)
        and len(values) == 5
        and all(type(value) is int and value >= 0 for value in values[:4])
        and isinstance(values[4], float)
        and 0 <= values[4] < math.inf
    ):
        raise WireError("cost: four token counts and busy seconds were expected")
    prefill, verified, ingested, generated, busy_s = values
    return CloudCost(prefill, verified, ingested, generated, busy_s, bytes_up, bytes_down)


def pack_verdict(seq: int, session: bytes, verdict: Verdict) -> bytes:
    """The answer to a ``verify`` request; ``top_probs`` travel as float32."""
    top_probs = np.asarray(verdict.top_probs, dtype="<f4").tobytes()
    return pack(
        seq,
        "verdict",
        session,
        verdict.kept,
        verdict.token,
        list(verdict.ranks),
        top_probs,
        list(verdict.continuation),
        verdict.regret,
        pack_cost(verdict.cost),
    )


def unpack_verdict(
    values: Sequence[Any], *, drafted: int, continuation: int, bytes_up: int, bytes_down: int
) -> Verdict:
    """The verdict on ``drafted`` tokens, with at most ``continuation`` tokens after its own.

    Raises:
        WireError: it does not fit a draft of that length.
    """
    if len(values) != 7:
        raise WireError("verdict: wrong number of values")
    kept, token, ranks, top_probs, more, regret, cost = values
    if not (
        counted(kept)
        and kept <= drafted
        and (token is None or counted(token))
        and isinstance(ranks, list)
        and len(ranks) == drafted
        and all(counted(rank) for rank in ranks)
        and isinstance(top_probs, bytes)
        and len(top_probs) == 4 * drafted
        and bool(np.isfinite(np.frombuffer(top_probs, dtype="<f4")).all())
        and (token is not None or (kept == drafted and more == []))
        and isinstance(more, list)
        and len(more) <= continuation
        and all(counted(token) for token in more)
        and isinstance(regret, float)
        and 0 <= regret < math.inf
    ):
        raise WireError(f"verdict does not fit a draft of {drafted} tokens")
    return Verdict(
        kept=kept,
        token=token,
        ranks=tuple(ranks),
        top_probs=tuple(np.frombuffer(top_probs, dtype="<f4").tolist()),
        continuation=tuple(more),
        regret=regret,
        cost=_cost(cost, bytes_up, bytes_down),
    )


def pack_chunk(seq: int, session: bytes, chunk: CloudChunk, *, at: int) -> bytes:
    """``at``: how many output tokens come before it."""
    cost = pack_cost(chunk.cost)
    return pack(seq, "chunk", session, list(chunk.tokens), cost, chunk.last, at)


def unpack_chunk(
    values: Sequence[Any], *, bytes_up: int, bytes_down: int
) -> tuple[CloudChunk, int]:
    """Tokens the cloud decoded by itself, and how many of the output come before them.

    Raises:
        WireError: not a chunk.
    """
    if not (
        len(values) == 4
        and isinstance(values[0], list)
        and all(counted(token) for token in values[0])
        and isinstance(values[2], bool)
        and counted(values[3])
    ):
        raise WireError("chunk: tokens, cost, a flag and a place were expected")
    tokens, cost, last, at = values
    return CloudChunk(tuple(tokens), _cost(cost, bytes_up, bytes_down), last), at


def pack_error(seq: int, session: bytes, error: EdgeCloudError) -> bytes:
    """The answer to a request that failed: the error's class and text."""
    return pack(seq, "error", session, type(error).__name__, str(error))


def pack_frames(messages: Sequence[bytes]) -> bytes:
    """Several messages in one body, each behind its length (uint32, little-endian)."""
    return b"".join(len(message).to_bytes(4, "little") + message for message in messages)


def unpack_frames(body: bytes, most: int | None = None) -> tuple[list[bytes], bytes]:
    """The whole messages at the start of ``body``, up to ``most`` of them, and what is left: as a rule of
    one that is not whole yet."""
    messages: list[bytes] = []
    begin = 0
    while len(body) - begin >= 4 and len(messages) != most:
        end = begin + 4 + int.from_bytes(body[begin : begin + 4], "little")
        if end > len(body):
            break
        messages.append(body[begin + 4 : end])
        begin = end
    return messages, body[begin:]


def counted(value: Any) -> bool:
    """True when ``value`` is a whole number from 0 on that a token or a count may be."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def limits_of(max_new_tokens: Any, max_sentences: Any) -> StopLimits:
    """The limits of a ``generate`` request.

    Raises:
        WireError: not whole numbers, or no sentence at all.
    """
    sentences = 1 if max_sentences is None else max_sentences
    if not counted(max_new_tokens) or not counted(sentences) or sentences < 1:
        raise WireError("generate: limits are whole numbers, and of sentences at least one")
    return StopLimits(max_new_tokens, max_sentences)


def pack_acceptance(acceptance: Acceptance) -> list[Any]:
    """The acceptance rule and its thresholds as in a ``verify`` request."""
    return [
        acceptance.rule,
        acceptance.rank_threshold,
        acceptance.probability_ratio,
        acceptance.regret_nats,
        *([dict(acceptance.own)] if acceptance.own else []),
    ]


def acceptance_of(values: Any) -> Acceptance:
    """The acceptance of a ``verify`` request.

    Raises:
        WireError: not a rule's name and its settings.
    """
    if not (
        isinstance(values, list)
        and len(values) in (4, 5)
        and isinstance(values[0], str)
        and counted(values[1])
        and values[1] >= 1
        and isinstance(values[2], float)
        and 0 < values[2] <= 1
        and isinstance(values[3], float)
        and values[3] >= 0
        and (len(values) == 4 or _numbers_by_name(values[4]))
    ):
        raise WireError(
            "verify: a rule's name, a rank threshold from 1 on, a ratio above 0 and up to 1, and nats "
            "from 0 on, and the rule's own numbers by name were expected"
        )
    return Acceptance(*values)


def _numbers_by_name(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= _MOST_OWN
        and all(isinstance(name, str) and isinstance(found, float) for name, found in value.items())
    )
