"""Every option, declared once, by subject: its type, range, choices, default, meaning, and what uses it.

Flags, YAML files, presets, results, journals, the regression check and the tables of the pages are all made
from these declarations, in this order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from edgecloud.contracts import Language, PromptType
from edgecloud.contracts.ranges import (
    DraftLength,
    ExpectedLength,
    GateScope,
    LogProbability,
    Nats,
    NgramLength,
    OwnDraftLength,
    Probability,
    RankThreshold,
    RepetitionPenalty,
    SentenceLimit,
    Share,
    TokenCount,
    VerifyScope,
)
from edgecloud.decoding.acceptance import RULES
from edgecloud.decoding.gates import GATES
from edgecloud.decoding.speculation_controller import CloudBudget
from edgecloud.settings.declaration import Mode, Option, options_of, setting, subject

__all__ = ["OPTIONS", "Caps", "Config"]

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def shard_of(text: str) -> tuple[int, int]:
    """``(i, n)`` of ``i/n``, counted from 1. Raises ValueError for anything else."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"{text!r} is not i/n with i from 1 to n, such as 1/4")
    return int(found[1]), int(found[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The samples, and what is asked about them."""

    kind: Literal["unified", "text"] = setting(
        "unified", "unified: recordings; text: prompts of text alone", option="dataset_type"
    )
    path: str | None = setting(
        None,
        "manifest file; null: the embedded corpus in the language to generate",
        chinese="清单文件；不给则为内置语料",
        option="dataset_path",
    )
    caption_type: Literal["original", "audio_only"] = setting(
        "original",
        "reference: the entry's caption, or (audio_only) the language's own",
        chinese="参考描述：条目自带的，或该语言的",
    )
    language: Language = setting("chinese", "language to generate", chinese="生成的语言")
    prompt_type: PromptType = setting(
        "default",
        "concise: a phrase; default: a sentence; detailed: two or three",
        chinese="一个短语、一句话、两到三句话",
    )
    input_modality: Literal["audio_only", "audio_text"] = setting(
        "audio_only",
        "audio alone, or audio and its transcription, whose words then go to the cloud",
        chinese="是否附带转写文本（其文字会发往云端）",
    )
    max_samples: int | None = setting(None, "most samples, from the first on; null: all", minimum=1)
    max_audio_s: float = setting(
        30.0, "longest recording in seconds; a longer one is refused", minimum=0.1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """When the cloud is asked."""

    name: str = setting(
        "entropy",
        "when to ask the cloud",
        choices=GATES,
        chinese="何时询问云端",
        option="gate_type",
    )
    entropy_threshold: Nats = setting(
        1.5,
        "entropy gate, nats: higher means fewer cloud calls",
        used_by=("entropy",),
        chinese="nat；越高，云端调用越少",
    )
    margin_threshold: Probability = setting(
        0.1,
        "margin gate: ask when the top two probabilities are closer",
        used_by=("margin",),
    )
    logprob_threshold: LogProbability = setting(
        -2.0,
        "logprob gate, nats: ask when a token is less likely",
        used_by=("logprob", "mean-logprob"),
    )
    calibrated_threshold: Probability = setting(
        0.3,
        "calibrated gate: ask when the cloud is likelier than this to reject a token",
        used_by=("calibrated",),
    )
    calibration: str | None = setting(
        None,
        "calibrated gate: a file of `edgecloud calibrate`; null: the embedded pair's own",
        used_by=("calibrated",),
    )
    scope: GateScope = setting(
        "block",
        "ask the gate about each block, at each token, drafting on while it is sure, or once: about the first k "
        "tokens (start) or the whole caption, and then the cloud writes all of it or nothing",
        chinese="按整块判断；在第一个没把握的词元处停止起草；或只问一次（前 k 个词元或整句），由云端整句重写或完全不用",
        option="gate_scope",
    )
    options: str | None = setting(
        None,
        "numbers that another package's gate alone knows: NAME=NUMBER,…; null: its defaults",
        option="gate_options",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The edge's drafts, and what of them is verified."""

    k: DraftLength = setting(3, "draft tokens per round", chinese="每轮起草的词元数")
    adaptive_k: bool = setting(
        False, "draft as many tokens, up to k, as pay by the caption's own acceptance and times"
    )
    verify_scope: VerifyScope = setting(
        "block",
        "verify the block, or all that was accepted locally since the last call",
        chinese="一次验证覆盖的范围",
    )
    final_check: bool = setting(False, "verify what is unverified at the end of the caption, too")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """The draft tokens that the cloud keeps."""

    rule: str = setting(
        "rank",
        "which drafted tokens the cloud keeps",
        choices=RULES,
        chinese="云端保留哪些草稿词元",
        option="acceptance",
    )
    rank_threshold: RankThreshold = setting(
        20,
        "rank, bounded: keep what is among the cloud's top N",
        used_by=("rank", "bounded"),
        chinese="`rank`、`bounded`：保留云端前 N 名之内的词元",
    )
    probability_ratio: Share = setting(
        0.3,
        "bounded acceptance: at least this share of the cloud's top probability",
        minimum=0.001,
        used_by=("bounded",),
    )
    regret_budget: Nats | None = setting(
        None,
        "bounded acceptance: most log probability given away in a caption, nats; null: any",
        used_by=("bounded",),
    )
    options: str | None = setting(
        None,
        "numbers that another package's rule alone knows: NAME=NUMBER,…; null: its defaults",
        option="acceptance_options",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Drawing at random, and penalties on what is repeated."""

    temperature: float = setting(
        0.0,
        "draw tokens at random, with --acceptance rejection; 0: take the likeliest",
        minimum=0.0,
        maximum=100.0,
    )
    top_p: Share = setting(
        1.0,
        "at a temperature: draw from the likeliest tokens that together have this probability",
        minimum=0.001,
    )
    repetition_penalty: RepetitionPenalty = setting(
        1.0,
        "make tokens that prompt and text already have less likely, as transformers does; 1: do not",
    )
    no_repeat_ngram: NgramLength = setting(
        0, "let no sequence of so many tokens come twice in prompt and text; 0: let them"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """The cloud's work beyond verification, and what the edge does meanwhile."""

    continuation: TokenCount = setting(
        0,
        "tokens the cloud goes on for after each verification",
        chinese="云端验证之后继续写多少词元",
    )
    seed_tokens: TokenCount = setting(
        0,
        "first tokens of the caption that the cloud writes while the edge prefills",
        chinese="端侧预填充时由云端先写多少词元",
        option="cloud_seed_tokens",
    )
    parallel_prefill: bool = setting(False, "let the cloud prefill while the edge does")
    draft_ahead: bool = setting(False, "let the edge draft on while it waits for a verdict")
    hand_off: bool = setting(
        False, "let the cloud finish the caption when that is faster and within --cloud-budget"
    )
    expected_tokens: ExpectedLength = setting(32, "length of a caption --hand-off reckons with")
    budget: str | None = setting(
        None,
        "most that a caption may take of the cloud: busy seconds (0.8s) or its own tokens (12t)",
        check=CloudBudget.parse,
        option="cloud_budget",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnDraft:
    """The cloud's own speculation, where it writes by itself."""

    tokens: OwnDraftLength = setting(
        0,
        "tokens that the cloud drafts at a time for itself, where it writes a caption, by the edge's model "
        "beside its own; 0: none",
        option="cloud_draft_tokens",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The end of a caption, and its randomness."""

    max_new_tokens: int = setting(128, "most tokens in a caption", minimum=1, maximum=4096)
    max_sentences: SentenceLimit | None = setting(
        None, "most sentences in a caption; null: no limit"
    )
    seed: int = setting(0, "seed of everything drawn at random", minimum=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The checkpoints, their devices and their precisions."""

    edge: str | None = setting(
        None,
        "edge checkpoint: a folder or a hub's ORG/NAME@REVISION; null: the embedded miniature",
        chinese="端侧检查点：文件夹或 hub 的 ORG/NAME@REVISION；不给则为内置模型",
        option="edge_model",
    )
    cloud: str | None = setting(
        None,
        "cloud checkpoint: a folder or a hub's ORG/NAME@REVISION; null: the embedded miniature",
        chinese="云端检查点，同上",
        option="cloud_model",
    )
    edge_device: str = setting("cpu", "cpu, cuda or cuda:N", chinese="端侧在哪里运行")
    cloud_device: str = setting(
        "auto",
        "auto (CUDA where there is one), cpu, cuda, cuda:N or auto-map (all CUDA devices)",
        chinese="云端在哪里运行",
    )
    edge_dtype: Dtype = setting("auto", "precision of the edge; auto is float32")
    edge_quantization: Literal["none", "bf16", "int8", "int4"] = setting(
        "none", "int8, int4: own kernels or OpenVINO", chinese="端侧的精度"
    )
    cloud_dtype: Dtype = setting(
        "auto", "precision of the cloud; auto is float16 on CUDA, float32 on a CPU"
    )
    cloud_quantization: Literal["none", "int8", "int4"] = setting(
        "none",
        "int8, int4: a cloud on this machine's processor, as the edge's",
        chinese="本机 CPU 上云端的精度，同端侧",
    )

    def placement(self, side: Literal["edge", "cloud"]) -> dict[str, Any]:
        """Device and precision of a side, as :func:`edgecloud.models.precision.load_model` takes them."""
        names = ("device", "dtype", "quantization")
        return {
            **{name: getattr(self, f"{side}_{name}") for name in names},
            "flags": f"--{side}-",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Limits of the edge process alone."""

    cpu_cores: int = setting(
        2,
        "cap of the edge process; 0 is uncapped",
        minimum=0,
        chinese="端侧进程的上限；0 为不限",
        option="max_cpu_cores",
    )
    memory_gb: float = setting(
        16.0,
        "cap of the edge process; 0 is uncapped",
        minimum=0.0,
        chinese="同上",
        option="max_memory_gb",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The clock, and the hardware that it reckons with."""

    clock: Literal["wall", "modelled"] = setting(
        "wall",
        "measured time, or time computed from a hardware profile",
        chinese="实测时间，或由 `--hardware-profile` 计算的时间",
    )
    profile: str = setting(
        "paper",
        "caps, and constants of modelled time: a name of `edgecloud profile list`, or a file",
        chinese="建模时钟的耗时，以及设备的上限：`edgecloud profile list` 中的名称，或文件",
        option="hardware_profile",
    )
    link: str | None = setting(
        None,
        "the link to the cloud: lan, wifi, lte, 3g, satellite, or a trace file; null: the profile's own "
        "(modelled time) or the real one",
        chinese="端云之间的链路：lan、wifi、lte、3g、satellite 或轨迹文件",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BertScore:
    """BERTScore's models."""

    model_zh: str | None = setting(
        None,
        "BERTScore's model for Chinese: a folder, or a hub id when online; null: no BERTScore",
        option="bertscore_model_zh",
    )
    model_en: str | None = setting(
        None,
        "BERTScore's model for English: a folder, or a hub id when online; null: that of the extra "
        "bertscore-minilm, where it is installed",
        option="bertscore_model_en",
    )
    layers: int | None = setting(
        None, "layer of the BERTScore model to read", minimum=1, option="bertscore_layers"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The cloud as a service."""

    url: str = setting(
        "local",
        "where `edgecloud serve` answers (its token in EDGECLOUD_TOKEN); local: on this machine, without HTTP",
        chinese="`edgecloud serve` 提供的云端（http://…）；local 为本机",
        option="cloud_url",
    )
    verify_weights: bool = setting(False, "compare weights with their published sha256 first")
    upload_audio: bool = setting(
        False,
        "let recordings leave this machine, for a cloud on vLLM or one that takes the waveform",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The files that a run writes."""

    name: str | None = setting(
        None,
        "prefix of the result file; null: edge_results, cloud_results, spec_results",
        option="output_name",
    )
    folder: str = setting("reports", "folder of results and journals", option="output_dir")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a run goes on, and when it counts as failed."""

    warmup: int = setting(2, "discarded requests per model first", minimum=2)
    deadline_s: float = setting(
        300.0,
        "most seconds to wait for the edge or the cloud in one caption",
        minimum=0.1,
        option="deadline",
    )
    start_deadline_s: float = setting(
        600.0, "most seconds to wait for a model to load", minimum=1.0, option="start_deadline"
    )
    probe_period_s: float = setting(
        0.05,
        "seconds between readings of CPU, memory and GPU",
        minimum=0.005,
        option="probe_period",
    )
    max_failures: int = setting(
        0,
        "failed samples allowed before the run exits non-zero",
        minimum=0,
        chinese="允许失败的样本数，超过则以非零状态退出",
    )
    max_degraded: int = setting(
        0,
        "samples allowed that lost the cloud and went on without it before the run exits non-zero",
        minimum=0,
        chinese="允许失去云端后仅由端侧完成的样本数；`--resume` 会重跑这些样本，除非给出 `--keep-degraded`",
    )
    keep_degraded: bool = setting(
        False, "with --resume: keep samples that lost the cloud instead of running them again"
    )
    interleave: bool = setting(False, "run the suites together, taking turns sample by sample")
    shard: str | None = setting(
        None,
        "run the i-th of n equal parts of the samples alone, as i/n; see `edgecloud merge`",
        check=shard_of,
        chinese="样本 n 份中的第 i 份（i/n）；`edgecloud merge` 把它们合并",
    )
    workers: int = setting(
        1,
        "samples at a time, each by processes of its own; modelled time only",
        minimum=1,
        maximum=256,
        chinese="同时处理的样本数，仅限建模时间",
    )
    resume: bool = setting(False, "go on with this run's journal instead of starting over")

    @property
    def shard_slice(self) -> slice:
        """The samples of the run that this shard takes: every ``n``-th, from the ``i``-th on."""
        if self.shard is None:
            return slice(None)
        part, count = shard_of(self.shard)
        return slice(part - 1, None, count)


_SPEC: tuple[Mode, ...] = ("spec",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of a run, by subject. It is printed into every result, flat."""

    data: Data = subject(Data, "what")
    gate: Gate = subject(Gate, "how", modes=_SPEC)
    draft: Draft = subject(Draft, "how", modes=_SPEC)
    acceptance: Acceptance = subject(Acceptance, "how", modes=_SPEC)
    sampling: Sampling = subject(Sampling, "how")
    cloud: Cloud = subject(Cloud, "how", modes=_SPEC)
    own_draft: OwnDraft = subject(OwnDraft, "how", modes=("cloud", "spec"))
    generation: Generation = subject(Generation, "how")
    models: Models = subject(Models, "where")
    caps: Caps = subject(Caps, "where")
    hardware: Hardware = subject(Hardware, "where")
    bertscore: BertScore = subject(BertScore, "where")
    service: Service = subject(Service, "run")
    output: Output = subject(Output, "run")
    run: Run = subject(Run, "run")
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """The settings that a flag, a preset or a file gave: no setting itself, and part of no result."""
    preset: str | None = field(default=None, compare=False, repr=False)
    """The preset that some of them are of: no setting itself, either."""

    @classmethod
    def from_flat(
        cls,
        values: Mapping[str, Any],
        *,
        given: frozenset[str] = frozenset(),
        preset: str | None = None,
    ) -> Config:
        """The configuration of checked ``values`` by name; a missing one is its default."""
        found: dict[str, dict[str, Any]] = {option.subject: {} for option in OPTIONS}
        for option in OPTIONS:
            found[option.subject][option.field] = option.value_in(values)
        made: dict[str, Any] = {each.name: each.default_factory for each in fields(cls)}
        return cls(
            **{name: made[name](**own) for name, own in found.items()}, given=given, preset=preset
        )

    def changed(self, **values: Any) -> Config:
        """A copy with other (checked) values, by the settings' names.

        Raises:
            TypeError: one is no setting's.
        """
        before = self.to_json()
        if unknown := values.keys() - before.keys():
            raise TypeError(f"no setting is called {', '.join(sorted(unknown))}")
        return Config.from_flat({**before, **values}, given=self.given, preset=self.preset)

    def to_json(self) -> dict[str, Any]:
        """All settings as they stand in a result, flat."""
        return {option.name: option.value_of(self) for option in OPTIONS}

    def identity(self) -> dict[str, Any]:
        """The settings that decide a sample's result, for journals and comparisons: everything but those of
        group ``run`` and the number of samples. It is what makes two runs the same run."""
        return {
            option.name: option.value_of(self)
            for option in OPTIONS
            if option.group != "run" and option.name != "max_samples"
        }


OPTIONS: tuple[Option, ...] = options_of(Config)
"""Every option, in the order of files and results."""
