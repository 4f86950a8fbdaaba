"""What needs no weights is checked before any file with weights is opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgecloud.errors import (
    CheckpointError,
    ConfigError,
    EdgeCloudError,
    ModelError,
    OutOfMemoryError,
)
from edgecloud.experiments import preflight
from edgecloud.experiments.preflight import Arm, Side, examine
from edgecloud.models import memory
from edgecloud.models.checkpoint import Checkpoint
from edgecloud.models.processor import Processor
from edgecloud.models.prompts import prompt_messages, text_messages
from edgecloud.models.quantized.convert import convert
from edgecloud.settings.config import resolve
from tests.models.miniatures import mistral_checkpoint

REQUEST = prompt_messages("chinese", "default")
FOR_TOOLS = "{%- if tools %}{{- 'Tools: ' }}{% endif -%}"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    preflight._open.cache_clear()


def unreadable(folder: Path, to: Path) -> Path:
    """A copy whose weights are there and cannot be opened, by whomever: folders in their place would
    not count as files, links into nothing not as there."""
    copy = Path(shutil.copytree(folder, to))
    for shard in Checkpoint.open(folder).shards:
        (copy / shard.name).unlink()
        (copy / shard.name).write_bytes(b"not to be opened")
    return copy


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, **values}), "utf-8")


def template_of(folder: Path, change: Callable[[str], str]) -> None:
    path = folder / "chat_template.jinja"
    if path.exists():
        path.write_text(change(path.read_text("utf-8")), "utf-8")
        return
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    settings["chat_template"] = change(settings["chat_template"])
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")


def hop(folder: Path, to: Path) -> Path:
    """The model in ``folder`` with another step between its frames."""
    shutil.rmtree(to)
    other = Path(shutil.copytree(folder, to))
    change(other / "preprocessor_config.json", hop_length=128)
    return other


def side(folder: Path, role: Any = "edge", **changes: Any) -> Side:
    return replace(Side(role, str(folder), "cpu", "auto", flags=f"--{role}-"), **changes)


def run(
    *sides: Side,
    remote: dict[str, Any] | None = None,
    conversations: Any = (REQUEST,),
    **settings: Any,
) -> list[str]:
    said: list[str] = []
    config = resolve({"max_memory_gb": 0.0, **settings})
    asked = [conversations for _ in sides]
    examine([Arm(config, sides, remote, asked)], together=False, say=said.append)
    return said


def test_a_pair_in_order_is_told_its_plan_and_is_hashed(
    omni_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run(side(omni_folder), side(omni_folder, "cloud", dtype="bfloat16"))
    (line,) = said
    assert line.startswith("memory: edge float32 0.00026 GB + cloud bfloat16 0.00013 GB of ")
    # Whoever loads it finds it remembered.
    monkeypatch.setattr("edgecloud.models.identity._read", None)
    assert len(Checkpoint.open(omni_folder).fingerprint()) == 64


def scaled(folder: Path) -> Path:
    """The folder, with a tower that the engines of 8 and 4 bits do not know."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["audio_config"]["scale_embedding"] = True
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "make, error, message",
    [
        (
            lambda a, b: [side(a), side(hop(a, b), "cloud")],
            ModelError,
            "do not fit together: audio: hop_length is 160 on the edge, 128 in the cloud",
        ),
        (lambda a, _: [side(a, device="cuda:7")], ModelError, "cuda:7 is not available"),
        (lambda a, _: [side(a, device="tpu9")], ModelError, "unknown device"),
        (lambda a, _: [side(a, "cloud", device="cuda:7")], ModelError, "not available"),
        (
            lambda a, _: [side(a, quantization="int8", device="cuda")],
            ConfigError,
            "runs on a CPU",
        ),
        (
            lambda a, _: [side(a, quantization="int4", dtype="float16")],
            ConfigError,
            "leave out --edge-dtype",
        ),
        (
            lambda a, _: [side(a, "cloud", quantization="int8", device="cuda")],
            ConfigError,
            "--cloud-quantization int8 runs on a CPU; give --cloud-device cpu",
        ),
        (
            lambda a, _: [side(a, "cloud", quantization="int8", dtype="float16", flags="--")],
            ConfigError,
            "--quantization int8 decides the precision; leave out --dtype",
        ),
        (lambda _, b: [side(scaled(b), quantization="int8")], ModelError, "can be quantised"),
    ],
)
def test_what_needs_no_weights_is_found_though_no_shard_can_be_read(
    omni_folder: Path,
    audio_folder: Path,
    tmp_path: Path,
    make: Any,
    error: type[EdgeCloudError],
    message: str,
) -> None:
    a, b = unreadable(omni_folder, tmp_path / "a"), unreadable(audio_folder, tmp_path / "b")
    with pytest.raises(error, match=message) as info:
        run(*make(a, b))
    assert "\n" not in str(info.value)


def test_a_pair_of_two_families_is_told_what_its_vocabularies_share(
    omni_folder: Path, audio_folder: Path, tmp_path: Path
) -> None:
    said = run(side(omni_folder), side(audio_folder, "cloud"))
    assert said[0] == (
        "edge and cloud have vocabularies of their own: 269 of the cloud's 269 tokens of text can be drafted"
    )
    facts = Processor(Checkpoint.open(audio_folder))
    remote = {"shared": facts.shared(), "tokenizer_sha256": facts.fingerprint()}
    assert (
        run(side(omni_folder), side(audio_folder, "cloud", weights=False), remote=remote)[0]
        == said[0]
    )
    with pytest.raises(
        ModelError, match="give --cloud-model, a folder with the cloud's configuration"
    ):
        run(side(omni_folder), remote=remote)


def test_what_a_published_model_asks_of_generate_is_said_unless_it_is_done(
    omni_folder: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(omni_folder, tmp_path / "m"))
    (other / "generation_config.json").write_text('{"repetition_penalty": 1.1}', "utf-8")
    pair = side(omni_folder), side(other, "cloud")
    (said,) = [line for line in run(*pair) if line.startswith("note: ")]
    assert "--repetition-penalty 1.1 (generation_config.json)" in said
    assert not any(line.startswith("note: ") for line in run(*pair, repetition_penalty=1.1))
    (other / "generation_config.json").write_text('{"repetition_penalty": 1.0}', "utf-8")
    assert not any(line.startswith("note: ") for line in run(*pair, repetition_penalty=1.3))


def test_weights_are_opened_only_when_all_else_is_in_order(
    omni_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="is broken"):
        run(side(unreadable(omni_folder, tmp_path / "a")))


def test_a_model_of_text_is_refused_recordings(text_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes text alone"):
        run(side(unreadable(text_folder, tmp_path / "a")))


def test_an_output_layer_without_room_for_the_tokenizer_is_found(
    text_folder: Path, tmp_path: Path
) -> None:
    folder = unreadable(text_folder, tmp_path / "a")
    change(folder / "config.json", vocab_size=7)
    prompts = {"dataset_type": "text", "dataset_path": str(tmp_path / "p.json")}
    with pytest.raises(ModelError, match="its output layer only 7"):
        run(side(folder), conversations=[text_messages("hello")], **prompts)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantised_folder_without_its_flag_is_told_which(
    tiny_checkpoint: Path, tmp_path: Path, bits: int
) -> None:
    convert(Checkpoint.open(tiny_checkpoint), tmp_path / "q", bits=bits)
    folder = unreadable(tmp_path / "q", tmp_path / "a")
    for quantization in ("none", "bf16", f"int{12 - bits}"):
        with pytest.raises(CheckpointError, match=f"give --edge-quantization int{bits}"):
            run(side(folder, quantization=quantization))
    with pytest.raises(
        CheckpointError, match=f"give --cloud-quantization int{bits}, or the checkpoint"
    ):
        run(side(folder, "cloud"))
    assert run(side(tmp_path / "q", "cloud", quantization=f"int{bits}"))[0].startswith(
        f"memory: cloud int{bits} "
    )
    assert run(side(tmp_path / "q", quantization=f"int{bits}"))[0].startswith(
        f"memory: edge int{bits} "
    )


def test_templates_that_differ_only_where_this_run_does_not_ask_are_alike(
    omni_folder: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(omni_folder, tmp_path / "m"))
    template_of(other, lambda text: FOR_TOOLS + text)
    run(side(omni_folder), side(other, "cloud"))
    facts = Processor(Checkpoint.open(other))
    remote = {
        "shared": facts.shared(),
        "chat_template": facts.chat_template,
        "tokenizer_sha256": facts.fingerprint(),
    }
    run(side(omni_folder), remote=remote)
    del remote["chat_template"]
    with pytest.raises(ModelError, match="the chat templates differ"):
        run(side(omni_folder), remote=remote)


def test_templates_that_render_a_request_of_this_run_differently_are_told_with_both(
    text_folder: Path, tmp_path: Path
) -> None:
    other = unreadable(text_folder, tmp_path / "m")
    template_of(
        other, lambda text: text + "{% if 'x' in messages[-1]['content'] %}{{ ' !' }}{% endif %}"
    )
    edge = unreadable(text_folder, tmp_path / "e")
    prompts = {"dataset_type": "text", "dataset_path": str(tmp_path / "p.json")}
    asked = [text_messages("a"), text_messages("axb")]
    with pytest.raises(
        ModelError, match=r"templates differ in this run's requests \('.* !'"
    ) as info:
        run(side(edge), side(other, "cloud"), conversations=asked, **prompts)
    assert "give --edge-model and --cloud-model of one family" in str(info.value)
    with pytest.raises(CheckpointError, match="is broken"):
        run(side(edge), side(other, "cloud"), conversations=asked[:1], **prompts)


def test_a_template_that_fails_on_the_requests_is_one_line(
    omni_folder: Path, tmp_path: Path
) -> None:
    folder = unreadable(omni_folder, tmp_path / "a")
    template_of(folder, lambda _: "{{ raise_exception('no system role') }}")
    with pytest.raises(ModelError, match=r"cannot take this run's requests .*no system role"):
        run(side(folder))


@pytest.fixture
def weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is planned for but weights, which are small here beside all else."""
    monkeypatch.setattr(preflight, "with_room", lambda need, *_, **__: need)


def test_a_pair_that_does_not_fit_memory_together_is_refused_before_it_is_hashed(
    omni_folder: Path, monkeypatch: pytest.MonkeyPatch, weights_alone: None
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _: 300_000)
    monkeypatch.setattr(Checkpoint, "fingerprint", None)
    with pytest.raises(OutOfMemoryError, match="do not fit into memory together"):
        run(side(omni_folder), side(omni_folder, "cloud"))


def test_arms_together_share_the_room_and_arms_in_turn_do_not(
    omni_folder: Path, monkeypatch: pytest.MonkeyPatch, weights_alone: None
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _: 400_000)
    arms = [Arm(resolve(), (side(omni_folder),), None, [[REQUEST]]) for _ in range(2)]
    examine(arms, together=False, say=lambda _: None)
    with pytest.raises(OutOfMemoryError):
        examine(arms, together=True, say=lambda _: None)


def test_a_cap_below_the_weights_is_refused(omni_folder: Path) -> None:
    with pytest.raises(OutOfMemoryError, match=r"more than its cap of 0\.0001 GB"):
        run(side(omni_folder), max_memory_gb=0.0001)


def test_a_cap_just_above_the_weights_is_refused_and_one_with_room_is_not(
    omni_folder: Path,
) -> None:
    said = r"0\.00026 GB and 0\.\d GB for caches and libraries as float32, more than its cap of 0\.01 GB"
    with pytest.raises(OutOfMemoryError, match=said):
        run(side(omni_folder), max_memory_gb=0.01)
    (line,) = run(side(omni_folder), max_memory_gb=1.1 * memory.RUNTIME_BYTES / 1e9)
    assert line.endswith(" GB for caches and libraries")


def test_the_plan_holds_the_caches_of_a_services_sessions(
    omni_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _: 4 << 30)
    run(side(omni_folder, "cloud", caches=1 << 30))
    with pytest.raises(OutOfMemoryError, match="a smaller --max-memory-gb"):
        run(side(omni_folder, "cloud", caches=4 << 30))


@pytest.mark.parametrize(
    "given, units, hinted",
    [
        ({}, False, True),
        ({}, True, True),
        ({"quantization": "bf16"}, False, True),
        ({"quantization": "bf16"}, True, False),
        ({"quantization": "int8"}, False, False),
    ],
)
def test_a_large_edge_in_a_slow_precision_is_told_the_faster_one(
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    units: bool,
    hinted: bool,
) -> None:
    monkeypatch.setattr(preflight, "_SLOW_BYTES", 1000)
    monkeypatch.setattr(preflight, "_has_bfloat16", lambda: units)
    hints = run(side(tiny_checkpoint, **given))[1:]
    assert len(hints) == hinted
    if hinted:
        assert "4 to 17 times slower than --edge-quantization int8" in hints[0]


def test_layers_that_cannot_be_quantised_get_no_such_hint(
    audio_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_SLOW_BYTES", 1000)
    assert len(run(side(audio_folder))) == 2
    copied = tmp_path / "copy"
    shutil.copytree(audio_folder, copied)
    assert len(run(side(scaled(copied)))) == 1


def test_a_quantised_window_that_a_request_and_its_answer_pass_is_said_before_the_run(
    mistral_folder: Path, tmp_path: Path
) -> None:
    wider = mistral_checkpoint(tmp_path / "wider", window=40)
    flags = {"dataset_type": "text", "dataset_path": "p.json", "edge_quantization": "int8"}
    config = resolve({**flags, "max_new_tokens": 30})
    for folder, said in (
        (mistral_folder, "its last 12 tokens.*leave out --edge-quantization"),
        (wider, "its last 40 tokens.*give --max-new-tokens"),
    ):
        side = Side("edge", str(folder), "cpu", "auto", "int8")
        with pytest.raises(ConfigError, match=said):
            examine([Arm(config, (side,), None, [[text_messages("a")]])], together=False, say=str)
