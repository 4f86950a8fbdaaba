"""Every setting, once: its name, type, choices, range and meaning. Standard library only.

The pytest options, the command line's flags, ``default.yaml`` and :class:`edgecloud.settings.config.Config`
are all made from, or tested against, this table. A flag is spelled ``--two-words`` or
``--two_words``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from edgecloud.decoding.acceptance import RULES
from edgecloud.decoding.gates import GATES
from edgecloud.settings.presets import PRESETS

__all__ = ["OPTIONS", "Option", "add_options", "add_plugin_option"]


@dataclass(frozen=True, slots=True)
class Option:
    """One setting. ``kind`` is the type of its value; ``group`` says what it belongs to:

    ``what`` is decoded, ``how`` it is decoded, ``where`` it runs (these three make up a run's
    identity), or ``run``: how this run is carried out, which changes no result. ``choices`` may be a
    registry: it is read whenever a value is checked, so that what plug-ins bring is a choice, too.
    """

    name: str
    kind: type[bool] | type[int] | type[float] | type[str]
    group: str
    help: str
    choices: Collection[str] = ()
    minimum: float | None = None
    maximum: float | None = None
    nullable: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """``--two-words`` and ``--two_words``; one flag where they are the same."""
        dashed = "--" + self.name.replace("_", "-")
        return tuple(dict.fromkeys((dashed, "--" + self.name)))


_DTYPES = ("auto", "float32", "bfloat16", "float16")
_QUANTIZATIONS = ("none", "bf16", "int8", "int4")

OPTIONS: tuple[Option, ...] = (
    Option("dataset_type", str, "what", "recordings, or text alone", choices=("unified", "text")),
    Option(
        "dataset_path",
        str,
        "what",
        "manifest file; the embedded corpus when not given",
        nullable=True,
    ),
    Option(
        "caption_type",
        str,
        "what",
        "reference: the entry's caption, or the language's own",
        choices=("original", "audio_only"),
    ),
    Option("language", str, "what", "language to generate", choices=("chinese", "english")),
    Option(
        "prompt_type",
        str,
        "what",
        "a phrase, a sentence, or two to three",
        choices=("default", "detailed", "concise"),
    ),
    Option(
        "input_modality",
        str,
        "what",
        "audio alone, or audio and its transcription, whose words then go to the cloud",
        choices=("audio_only", "audio_text"),
    ),
    Option("max_samples", int, "what", "most samples, from the first on", minimum=1, nullable=True),
    Option("max_audio_s", float, "what", "longest recording accepted, seconds", minimum=0.1),
    Option("gate_type", str, "how", "when to ask the cloud", choices=GATES),
    Option(
        "entropy_threshold",
        float,
        "how",
        "entropy gate, nats: higher means fewer cloud calls",
        minimum=0.0,
    ),
    Option(
        "margin_threshold",
        float,
        "how",
        "margin gate: ask when the top two probabilities are closer",
        minimum=0.0,
        maximum=1.0,
    ),
    Option(
        "logprob_threshold",
        float,
        "how",
        "logprob gate, nats: ask when a token is less likely",
        maximum=0.0,
    ),
    Option(
        "calibrated_threshold",
        float,
        "how",
        "calibrated gate: ask when the cloud is likelier than this to reject a token",
        minimum=0.0,
        maximum=1.0,
    ),
    Option(
        "calibration",
        str,
        "how",
        "calibrated gate: a file of `edgecloud calibrate`; the embedded pair's own when not given",
        nullable=True,
    ),
    Option(
        "gate_scope",
        str,
        "how",
        "ask the gate about the whole block, or at each token, drafting on while it is sure",
        choices=("block", "token"),
    ),
    Option("k", int, "how", "draft tokens per round", minimum=1, maximum=64),
    Option(
        "adaptive_k",
        bool,
        "how",
        "draft as many tokens, up to k, as pay by the caption's own acceptance and times",
    ),
    Option(
        "verify_scope",
        str,
        "how",
        "verify the block, or all that was accepted locally since the last call",
        choices=("block", "since-last-call"),
    ),
    Option("final_check", bool, "how", "verify what is unverified at the end of the caption, too"),
    Option("acceptance", str, "how", "which drafted tokens the cloud keeps", choices=RULES),
    Option(
        "rank_threshold",
        int,
        "how",
        "rank acceptance: keep what is among the cloud's top N",
        minimum=1,
    ),
    Option(
        "probability_ratio",
        float,
        "how",
        "bounded acceptance: at least this share of the cloud's top probability",
        minimum=0.001,
        maximum=1.0,
    ),
    Option(
        "regret_budget",
        float,
        "how",
        "bounded acceptance: most log probability given away in a caption, nats",
        minimum=0.0,
        nullable=True,
    ),
    Option(
        "temperature",
        float,
        "how",
        "draw tokens at random, with --acceptance rejection; 0: take the likeliest",
        minimum=0.0,
        maximum=100.0,
    ),
    Option(
        "top_p",
        float,
        "how",
        "at a temperature: draw from the likeliest tokens that together have this probability",
        minimum=0.001,
        maximum=1.0,
    ),
    Option(
        "continuation",
        int,
        "how",
        "tokens the cloud goes on for after each verification",
        minimum=0,
        maximum=4096,
    ),
    Option(
        "cloud_seed_tokens",
        int,
        "how",
        "first tokens of the caption that the cloud writes while the edge prefills",
        minimum=0,
        maximum=4096,
    ),
    Option("parallel_prefill", bool, "how", "let the cloud prefill while the edge does"),
    Option("draft_ahead", bool, "how", "let the edge draft on while it waits for a verdict"),
    Option(
        "hand_off",
        bool,
        "how",
        "let the cloud finish the caption when that is faster and within --cloud-budget",
    ),
    Option("expected_tokens", int, "how", "length of a caption --hand-off reckons with", minimum=1),
    Option(
        "cloud_budget",
        str,
        "how",
        "most that a caption may take of the cloud: busy seconds (0.8s) or its own tokens (12t)",
        nullable=True,
    ),
    Option("max_new_tokens", int, "how", "most tokens in a caption", minimum=1, maximum=4096),
    Option("max_sentences", int, "how", "most sentences in a caption", minimum=1, nullable=True),
    Option("seed", int, "how", "seed of everything drawn at random", minimum=0),
    Option(
        "edge_model",
        str,
        "where",
        "edge checkpoint: a folder or a hub's ORG/NAME@REVISION; the embedded miniature when not given",
        nullable=True,
    ),
    Option(
        "cloud_model",
        str,
        "where",
        "cloud checkpoint: a folder or a hub's ORG/NAME@REVISION; the embedded miniature when not given",
        nullable=True,
    ),
    Option("edge_device", str, "where", "cpu, cuda or cuda:N"),
    Option("cloud_device", str, "where", "auto, cpu, cuda, cuda:N or auto-map (all CUDA devices)"),
    Option("edge_dtype", str, "where", "precision of the edge; auto is float32", choices=_DTYPES),
    Option(
        "edge_quantization",
        str,
        "where",
        "int8, int4: own kernels or OpenVINO",
        choices=_QUANTIZATIONS,
    ),
    Option(
        "cloud_dtype",
        str,
        "where",
        "precision of the cloud; auto is float16 on CUDA, float32 on a CPU",
        choices=_DTYPES,
    ),
    Option("max_cpu_cores", int, "where", "cap of the edge process; 0 is uncapped", minimum=0),
    Option("max_memory_gb", float, "where", "cap of the edge process; 0 is uncapped", minimum=0.0),
    Option(
        "clock",
        str,
        "where",
        "measured time, or time computed from a hardware profile",
        choices=("wall", "modelled"),
    ),
    Option(
        "hardware_profile", str, "where", "caps, and constants of modelled time: a name or a file"
    ),
    Option(
        "link",
        str,
        "where",
        "the link to the cloud: lan, wifi, lte, 3g, satellite, or a trace file; the profile's own "
        "(modelled time) or the real one when not given",
        nullable=True,
    ),
    Option(
        "bertscore_model_zh",
        str,
        "where",
        "BERTScore's model for Chinese: a folder, or a hub id when online",
        nullable=True,
    ),
    Option(
        "bertscore_model_en",
        str,
        "where",
        "BERTScore's model for English: a folder, or a hub id when online",
        nullable=True,
    ),
    Option(
        "bertscore_layers",
        int,
        "where",
        "layer of the BERTScore model to read",
        minimum=1,
        nullable=True,
    ),
    Option(
        "cloud_url",
        str,
        "run",
        "where `edgecloud serve` answers (its token in EDGECLOUD_TOKEN); local: on this machine, without HTTP",
    ),
    Option("verify_weights", bool, "run", "compare weights with their published sha256 first"),
    Option("upload_audio", bool, "run", "let recordings leave this machine, for a cloud on vLLM"),
    Option("output_name", str, "run", "prefix of the result file", nullable=True),
    Option("output_dir", str, "run", "folder of results and journals"),
    Option("warmup", int, "run", "discarded requests per model first", minimum=2),
    Option(
        "deadline",
        float,
        "run",
        "most seconds to wait for the edge or the cloud in one caption",
        minimum=0.1,
    ),
    Option("start_deadline", float, "run", "most seconds to wait for a model to load", minimum=1.0),
    Option(
        "probe_period",
        float,
        "run",
        "seconds between readings of CPU, memory and GPU",
        minimum=0.005,
    ),
    Option("max_failures", int, "run", "failed samples before the run exits non-zero", minimum=0),
    Option(
        "max_degraded",
        int,
        "run",
        "samples that lost the cloud and went on without it before the run exits non-zero",
        minimum=0,
    ),
    Option(
        "keep_degraded",
        bool,
        "run",
        "with --resume: keep samples that lost the cloud instead of running them again",
    ),
    Option("interleave", bool, "run", "run the suites together, taking turns sample by sample"),
    Option(
        "shard",
        str,
        "run",
        "run the i-th of n equal parts of the samples alone, as i/n; see `edgecloud merge`",
        nullable=True,
    ),
    Option(
        "workers",
        int,
        "run",
        "samples at a time, each by processes of its own; modelled time only",
        minimum=1,
        maximum=256,
    ),
    Option("resume", bool, "run", "go on with this run's journal instead of starting over"),
)


def add_plugin_option(add: Callable[..., Any]) -> None:
    """Add ``--plugin`` through ``add``: modules that bring parts, for
    :func:`edgecloud.registry.load_plugins`. It is no setting: what a run uses of them is in its result."""
    add(
        "--plugin",
        dest="plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that brings gates, acceptance rules, … and is not installed; may come again",
    )


def add_options(add: Callable[..., Any]) -> None:
    """Add every option through ``add``, pytest's ``addoption`` or argparse's ``add_argument``.

    Values arrive as text and defaults are ``None``: :func:`edgecloud.settings.config.resolve` converts and
    checks them, so that a flag, a file and a preset are checked alike and "not given" stays visible.
    """
    add("--config", dest="config", default=None, metavar="FILE", help="YAML file of settings")
    add(
        "--preset", dest="preset", default=None, metavar="NAME", help="one of " + ", ".join(PRESETS)
    )
    for option in OPTIONS:
        extra: dict[str, Any] = {"dest": option.name, "default": None}
        if option.kind is bool:
            extra["action"] = "store_true"
        else:
            extra["metavar"] = "|".join(option.choices) or option.kind.__name__.upper()
        add(*option.flags, help=option.help, **extra)
