"""The pages on the wire, on deployment and on privacy say what the code does."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgecloud.cli import fleet, profile, serve
from edgecloud.cloud.engine.local import LocalCloud
from edgecloud.cloud.loopback import Loopback
from edgecloud.cloud.pipe_server import MessageServer
from edgecloud.cloud.protocol import wire
from edgecloud.cloud.protocol.remote import RemoteCloud
from edgecloud.contracts import Acceptance
from edgecloud.settings.options import OPTIONS
from tests.cloud.message_schema import ANSWERS, RECORDING_REQUESTS, REQUESTS
from tests.cloud.message_schema import VERSIONS as SCHEMA_VERSIONS
from tests.properties.loop import PROMPT, Case

DOCS = Path(__file__).parents[2] / "docs"
WIRE = (DOCS / "wire.md").read_text("utf-8")
DEPLOYMENT = (DOCS / "deployment.md").read_text("utf-8")
COMPOSE = (DOCS / "examples" / "compose-service.yaml").read_text("utf-8")


def fields_of(kind: str) -> list[str]:
    """The first column of the table under a message's heading."""
    section = WIRE.partition(f"## {kind}\n")[2].partition("\n#")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_page_schema_and_code_speak_of_one_version() -> None:
    assert f"**Versions {' and '.join(map(str, wire.VERSIONS))}.**" in WIRE
    assert SCHEMA_VERSIONS == wire.VERSIONS


@pytest.mark.parametrize("kind", [*REQUESTS, *ANSWERS])
def test_the_page_lists_each_messages_fields_in_order(kind: str) -> None:
    schema = REQUESTS.get(kind) or ANSWERS.get(kind) or {}
    assert fields_of(kind) == list(schema)


def test_a_recording_has_a_table_of_its_own() -> None:
    assert fields_of("open with a recording") == list(RECORDING_REQUESTS["open"])
    assert {kind: RECORDING_REQUESTS[kind] for kind in REQUESTS if kind != "open"} == {
        kind: REQUESTS[kind] for kind in REQUESTS if kind != "open"
    }


def test_the_page_lists_every_message() -> None:
    assert re.findall(r"^### (\w+)", WIRE, re.MULTILINE) == [*REQUESTS, *ANSWERS]
    assert set(REQUESTS) == set(wire.OPERATIONS)


def test_a_verification_takes_about_the_bytes_that_the_page_says() -> None:
    case = Case()
    channel = Loopback(MessageServer(LocalCloud(case.cloud().model, case.stopping)))
    session = RemoteCloud(channel, deadline_s=5).open(PROMPT)
    verdict = session.verify([], [2, 3, 4], Acceptance("rank"))
    again = session.verify(verdict.output([2, 3, 4]), [5, 6, 7], Acceptance("rank"))
    assert 45 <= again.cost.bytes_up <= 75
    assert again.cost.bytes_down < 200


def flags_of(name: str, add: Callable[[Any], None], part: str | None = None) -> set[str]:
    """The flags of a command, or of a part of it."""
    commands = argparse.ArgumentParser().add_subparsers()
    add(commands)
    parser = commands.choices[name]
    if part is not None:
        (parts,) = (each for each in parser._actions if each.choices and part in each.choices)
        assert isinstance(parts.choices, dict)
        parser = parts.choices[part]
    return {flag for flag in parser._option_string_actions if flag[:2] == "--"}


def serve_flags() -> set[str]:
    return flags_of("serve", serve.add)


def run_flags() -> set[str]:
    return {flag for option in OPTIONS for flag in option.flags}


def test_the_flags_on_the_page_of_deployment_are_those_of_the_commands() -> None:
    """Whatever vLLM's own command takes; tests/test_site.py reads each of our commands."""
    ours = re.sub(r"^vllm serve (?:.*\\\n)*.*$", "", DEPLOYMENT, flags=re.MULTILINE)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", ours))
    assert "--tls-cert" in named
    assert named <= serve_flags() | run_flags() | flags_of("fleet", fleet.add) | flags_of(
        "profile", profile.add, "measure"
    )


def test_every_setting_of_serve_is_on_the_page() -> None:
    assert serve_flags() - {"--help"} <= set(re.findall(r"--[a-z][a-z-]*[a-z]", DEPLOYMENT))


def test_the_metrics_on_the_page_are_those_of_a_service() -> None:
    pytest.importorskip("prometheus_client", reason="the extra serve is not installed")
    from edgecloud.cloud.http.telemetry import Telemetry
    from edgecloud.contracts import CloudCost

    telemetry = Telemetry(sessions=lambda: 0, memory_bytes=lambda: 0, waiting=lambda: 0)
    telemetry.batch(1)
    telemetry.answered("verify", 200, 0.1)
    telemetry.spent(CloudCost(1, 1, 1, 1))
    page = telemetry.page().decode()
    told = set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE))
    named = set(re.findall(r"`(edgecloud_\w+)", DEPLOYMENT))
    assert named == {name for name in told if not name.endswith("_created")}


def test_the_compose_file_starts_a_service_with_real_flags_and_watches_it() -> None:
    content: dict[str, Any] = yaml.safe_load(COMPOSE)
    service = content["services"]["service"]
    shell, _, script = service["command"]
    assert shell == "sh"
    words = shlex.split(script.partition("exec ")[2])
    assert words[:2] == ["edgecloud", "serve"]
    assert {word for word in words if word.startswith("--")} <= serve_flags()
    parser = argparse.ArgumentParser()
    serve.add(parser.add_subparsers())
    parsed = parser.parse_args(words[1:])
    assert f"{parsed.port}:{parsed.port}" in service["ports"]
    assert int(service["stop_grace_period"].rstrip("s")) > parsed.drain_s
    (job,) = yaml.safe_load(content["configs"]["prometheus"]["content"])["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"service:{parsed.port}"]}]
    token = Path(job["authorization"]["credentials_file"])
    assert token.name in content["services"]["prometheus"]["secrets"]
    assert content["secrets"][token.name]["environment"] in service["environment"]


def test_the_pages_link_to_pages_that_are_there() -> None:
    for page in ("wire.md", "privacy.md", "deployment.md"):
        text = (DOCS / page).read_text("utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("http") or (DOCS / target).is_file(), (page, target)


def test_the_option_that_sends_text_says_so() -> None:
    (option,) = (option for option in OPTIONS if option.name == "input_modality")
    assert "to the cloud" in option.help
    assert "`--input-modality audio_text` sends text" in (DOCS / "privacy.md").read_text("utf-8")
