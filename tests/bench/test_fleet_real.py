"""The bench of a fleet on a real service: what it reads, and that it finds a service's own costs again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from bench.fleet_real import Caption, Condition, predicted, tokens_of, with_service
from bench.traffic import exchange
from edgecloud.cloud.protocol import wire
from edgecloud.contracts import CloudChunk
from edgecloud.experiments.fleet_simulation import Call, Join, Send, Work
from edgecloud.hardware.costs import BatchCosts, CloudCosts, LinkCosts
from edgecloud.hardware.link import Link

COSTS = CloudCosts(0.04, 0.005, 0.006, batch=BatchCosts(step=((1, 1.0), (16, 4.0))))
WRITTEN = (Send(Call(prefill_tokens=9, steps=20, streamed=21)), Join())
VERIFIED = (
    *(Work(0.4), Send(Call(prefill_tokens=9, verify_tokens=5)), Join()),
    *(Work(0.4), Send(Call(verify_tokens=5, steps=3)), Join()),
)


def test_the_costs_of_a_service_are_found_again_from_how_busy_it_was() -> None:
    captions = {
        name: [Caption(script, b"", (), b"")]
        for name, script in (("cloud", WRITTEN), ("frontier", VERIFIED))
    }
    link = Link("none", LinkCosts(0.0))
    true = replace(COSTS, batch=replace(COSTS.batch, request_s=0.004, token_s=0.001))
    busy = {
        name: predicted(Condition(name, "closed"), these, true, link, count=200, seed=0)[
            "busy_s_per_caption"
        ]
        for name, these in captions.items()
    }
    found = with_service(COSTS, link, captions, busy, count=200).batch
    assert found.request_s == pytest.approx(0.004, rel=0.15)
    assert found.token_s == pytest.approx(0.001, rel=0.15)


def test_an_answer_in_chunks_is_read_whole() -> None:
    class Writer:
        sent = b""

        def write(self, data: bytes) -> None:
            self.sent += data

    async def exchanged() -> tuple[int, bytes]:
        reader, writer = asyncio.StreamReader(), Writer()
        reader.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        reader.feed_data(b"3\r\na\r\n\r\n1\r\nb\r\n0\r\n\r\n")
        return await exchange(reader, cast("Any", writer), b"ask")

    assert asyncio.run(exchanged()) == (200, b"a\r\nb")


def test_tokens_are_those_of_all_chunks() -> None:
    chunks = [
        wire.pack_chunk(1, b"s" * 16, CloudChunk(tokens, last=at == 2), at=at)
        for at, tokens in ((0, (5, 6)), (2, (7,)))
    ]
    assert tokens_of(chunks) == (5, 6, 7)
