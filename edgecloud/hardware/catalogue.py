"""The hardware profiles that ship with the package: constants, and devices computed from their memory.

**Devices** (phones, laptops) are modelled, never measured. A decode step reads every weight once, so
its time is set by memory bandwidth, and all times of a device are those measured on a machine of
known bandwidth, scaled::

    time(device) = time(machine) × bandwidth(machine) / bandwidth(device)

with the machine's bandwidth as measured and the device's as specified. Prefill is bound by
arithmetic instead; that it scales alike is an assumption.

**Clouds** are modelled by a roofline for the 7B model in float16, which reaches 60% of the specified
bandwidth in a step and 40% of the specified arithmetic in a prefill (both assumed)::

    step = verification = weight bytes / (0.6 × bandwidth)
    prefill token = (2 × text weights + 4 × audio weights) / (0.4 × operations a second)

(two frames go through the audio tower for each of its tokens). A forward of B sessions with n tokens each takes the
longer of reading the weights and of B × n tokens' arithmetic, at the same two shares; and reads each session's cache
besides (``_SESSION_BYTES``, of 400 tokens)::

    forward(B, n) = max(weight bytes / bandwidth, B × n × 2 × text weights / arithmetic) + B × cache bytes / bandwidth

A verification is reckoned at n = 8. Prefills are bound by arithmetic at one session already: they share the fixed part,
which is the reading of the weights, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgecloud.hardware.costs import (
    BatchCosts,
    Caps,
    CloudCosts,
    EdgeCosts,
    HardwareProfile,
    LinkCosts,
    Points,
)

__all__ = [
    "CLOUDS",
    "CONSTANTS",
    "DEVICES",
    "SPECULATING",
    "CloudDevice",
    "Device",
    "cloud_costs",
    "edge_costs",
    "speculating",
]


@dataclass(frozen=True, slots=True)
class Device:
    """An edge by its public specification. ``cores`` are the performance cores, ``bandwidth_gb_s``
    the bus width times the transfer rate of its memory."""

    cores: int
    memory_gb: float
    bandwidth_gb_s: float
    source: str


DEVICES: dict[str, Device] = {
    "iphone-15-plus": Device(
        2, 16.0, 51.2, "Apple A16: 2 performance cores; 64-bit LPDDR5-6400; the phone has 6 GB"
    ),
    "galaxy-s24": Device(
        6, 8.0, 76.8, "Snapdragon 8 Gen 3: 1 + 5 performance cores; 64-bit LPDDR5X-9600; 8 GB"
    ),
    "raspberry-pi-5": Device(
        4, 8.0, 17.1, "BCM2712: four Cortex-A76; 32-bit LPDDR4X-4267; the 8 GB model"
    ),
    "macbook-air-m2": Device(
        4, 16.0, 100.0, "Apple M2: 4 performance cores; 100 GB/s; the 16 GB configuration"
    ),
    "laptop-core-ultra-7": Device(
        6, 32.0, 119.5, "Core Ultra 7 155H: 6 performance cores; 128-bit LPDDR5X-7467; 32 GB"
    ),
}


@dataclass(frozen=True, slots=True)
class CloudDevice:
    """A GPU by its public specification: bandwidth, and float16 operations a second (dense)."""

    bandwidth_gb_s: float
    tflops: float


CLOUDS: dict[str, CloudDevice] = {
    "a100": CloudDevice(1555.0, 312.0),
    "a100-80gb": CloudDevice(2039.0, 312.0),
    "h100": CloudDevice(3350.0, 989.0),
    "l4": CloudDevice(300.0, 121.0),
}
"""The SXM models of A100 (40 GB unless said) and H100."""

_TEXT_WEIGHTS = 7.07e9
"""Of the 7B model's layers and output layer: what a step reads."""
_AUDIO_WEIGHTS = 0.64e9
_BANDWIDTH_REACHED, _ARITHMETIC_REACHED = 0.6, 0.4


_SESSION_BYTES = 400 * 57_344
"""Of a session's cache: keys and values of 28 layers, 4 heads of 128, float16, for 400 tokens."""
_SESSIONS = (1, 2, 4, 8, 16, 32, 64)
_PROMPT_TOKENS = 290
"""Of a prompt with ten seconds of audio: where what prefills share is reckoned."""
_VERIFIED_TOKENS = 8


def cloud_costs(device: CloudDevice) -> CloudCosts:
    """The roofline above. A prefill takes a step at least, which is its fixed part."""
    bytes_per_s = _BANDWIDTH_REACHED * device.bandwidth_gb_s * 1e9
    step_s = 2 * _TEXT_WEIGHTS / bytes_per_s
    operations = 2 * _TEXT_WEIGHTS + 4 * _AUDIO_WEIGHTS
    per_token_s = operations / (_ARITHMETIC_REACHED * device.tflops * 1e12)
    text_token_s = 2 * _TEXT_WEIGHTS / (_ARITHMETIC_REACHED * device.tflops * 1e12)
    prefill_s = step_s + _PROMPT_TOKENS * per_token_s

    def forwards(tokens: int) -> Points:
        took_s = [
            max(step_s, sessions * tokens * text_token_s) + sessions * _SESSION_BYTES / bytes_per_s
            for sessions in _SESSIONS
        ]
        return tuple(
            (sessions, found / took_s[0]) for sessions, found in zip(_SESSIONS, took_s, strict=True)
        )

    return CloudCosts(
        prefill_s=step_s,
        step_s=step_s,
        verify_s=step_s,
        prefill_per_token_s=per_token_s,
        batch=BatchCosts(
            prefill=tuple(
                (sessions, (step_s + sessions * _PROMPT_TOKENS * per_token_s) / prefill_s)
                for sessions in _SESSIONS
            ),
            step=forwards(1),
            verify=forwards(_VERIFIED_TOKENS),
            source="modelled",
        ),
    )


def edge_costs(device: Device, measured: EdgeCosts, *, bandwidth_gb_s: float) -> EdgeCosts:
    """``measured`` on a machine that reads ``bandwidth_gb_s``, as the device would take it."""
    return measured.slower(bandwidth_gb_s / device.bandwidth_gb_s)


_ONE_BY_ONE = ((1, 1.0), (64, 64.0))
_FLOAT32 = ((1, 1.0), (2, 1.84), (4, 2.07), (6, 2.61), (10, 2.83))
_CLOUD = CloudCosts(prefill_s=0.39, step_s=0.041, verify_s=0.05)
_LINK = LinkCosts(round_trip_s=0.05)
_EAGLE3 = 1.65
_DRAFT_SHARE = 3.09e9 / _TEXT_WEIGHTS
"""Weights that a step of the 3B model reads, its layers and its output layer, over those of the 7B."""
SPECULATING: dict[str, str] = {
    "eagle3": "a cloud that writes 1.65 times as fast, continuations and first tokens too: EAGLE-3 on "
    "Qwen2-Audio-7B, one H100, greedy (SGLang's pull request 33051); its prefill and its verification of the "
    "edge's drafts take as long as before",
    "drafted": "the 3B model as a draft beside the cloud's 7B for --cloud-draft-tokens: its times are the 7B's by "
    "their weights in float16 (3.09 / 7.07), not measured",
}
"""How a cloud speculates itself, by the name behind that of the cloud (``a100-eagle3``), and where that is from."""


def speculating(cloud: CloudCosts, how: str) -> CloudCosts:
    """The costs of ``cloud`` where it speculates itself in one of the ways of :data:`SPECULATING`."""
    if how == "eagle3":
        return replace(cloud, step_s=cloud.step_s / _EAGLE3)
    return replace(
        cloud,
        draft_prefill_s=_DRAFT_SHARE * cloud.prefill(_PROMPT_TOKENS),
        draft_step_s=_DRAFT_SHARE * cloud.step_s,
    )


_PAPER = HardwareProfile(
    name="paper",
    edge=EdgeCosts(prefill_s=7.3, step_s=0.415),
    cloud=_CLOUD,
    link=_LINK,
    source="the original project's measurements: 3B float32 on 2 CPU cores, 7B on an A100; "
    "prefill whatever its length, ingestion of n known tokens one step",
)

CONSTANTS: dict[str, HardwareProfile] = {
    found.name: found
    for found in (
        _PAPER,
        replace(
            _PAPER,
            name="paper-original",
            edge=EdgeCosts(prefill_s=7.3, step_s=0.415, ingest_steps=_ONE_BY_ONE),
            cloud=CloudCosts(prefill_s=0.0, step_s=0.041, verify_s=0.44),
            source="paper, with the original's own handling of caches: the cloud prefills again at "
            "each verification, the edge ingests token by token. For speculation alone",
        ),
        replace(
            _PAPER,
            name="paper-measured",
            edge=EdgeCosts(prefill_s=7.3, step_s=0.415, ingest_steps=_FLOAT32),
            source="paper, with ingestion as float32 was measured at the 3B text shape on 2 cores",
        ),
        replace(
            _PAPER,
            name="paper-int8",
            edge=EdgeCosts(prefill_s=7.3 / 4, step_s=0.415 / 8),
            source="paper, with edge steps eight times and prefill four times faster, as measured for "
            "int8 weights at the 3B shape on 2 cores",
        ),
        *(
            replace(
                _PAPER,
                name=f"paper-{how}",
                cloud=speculating(_CLOUD, how),
                source=f"paper, with {source}",
            )
            for how, source in SPECULATING.items()
        ),
        replace(
            _PAPER,
            name="unlimited",
            caps=Caps(cpu_cores=0, memory_gb=0.0),
            source="paper's times, and no cap on the edge's cores and memory",
        ),
    )
}
