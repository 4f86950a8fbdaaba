"""The options of `edgecloud serve` that put vLLM behind it."""

from __future__ import annotations

import pytest

from edgecloud.cli.main import main


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--upload-audio"], "--upload-audio is for --vllm-url"),
        (
            ["--vllm-url", "http://a:1", "--quantization", "int8"],
            "--quantization is for a model here",
        ),
        (["--vllm-url", "vllm:8000"], "http://HOST:PORT was expected"),
        (["--vllm-url", "http://"], "http://HOST:PORT was expected"),
        (["--vllm-url", "http://a:1", "--host", "0.0.0.0"], "can be reached from outside"),
        (["--vllm-url", "http://a:1", "--port", "0", "--model", "/nowhere"], "no such folder"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(
    flags: list[str],
    reason: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("EDGECLOUD_TOKEN", raising=False)
    assert main(["serve", *flags]) != 0
    assert reason in capsys.readouterr().err
