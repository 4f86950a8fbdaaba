"""``edgecloud tune``, from a manifest and a goal to the content of a preset file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecloud import __version__
from edgecloud.contracts import Sample
from edgecloud.datasets.corpus import in_own_language, load_corpus
from edgecloud.edge.gate_calibration import to_json
from edgecloud.errors import ConfigError
from edgecloud.experiments.reporting import machine
from edgecloud.experiments.run import data_of, identity_of
from edgecloud.experiments.tuning import (
    FOLDS,
    RULES,
    Choice,
    Goal,
    Signal,
    candidates,
    choose,
    fixed_of,
    folds_of,
)
from edgecloud.experiments.tuning_quality import Quality, default_quality, qualities
from edgecloud.files import held
from edgecloud.hardware.link import link
from edgecloud.hardware.profiles import profile
from edgecloud.results.journal import Journal
from edgecloud.settings.config import Config
from edgecloud.settings.presets import PRESET_SCHEMA

if TYPE_CHECKING:
    from edgecloud.experiments.tuned import Bench

__all__ = ["Tuned", "check", "tune"]


@dataclass(frozen=True, slots=True)
class Tuned:
    """A preset file's content, and what to say about it: of the ``asked`` answers of models ``computed`` were."""

    content: dict[str, Any]
    choice: Choice
    tried: int
    asked: int
    computed: int


def check(config: Config) -> tuple[Config, tuple[Sample, ...]]:
    """Check what can be without a model; the settings in modelled time, and the samples to tune on.

    Raises:
        ConfigError: a setting that a preset cannot be chosen with.
        DataError: too few samples.
    """
    if config.preset is not None:
        raise ConfigError("tune makes a preset and takes none; give single settings to keep them")
    for name, refused in {
        "temperature": config.sampling.temperature > 0,
        "regret_budget": config.acceptance.regret_budget is not None,
        "cloud_budget": config.cloud.budget is not None,
        "hand_off": config.cloud.hand_off,
        "calibration": config.gate.calibration is not None,
    }.items():
        if refused:
            raise ConfigError(f"tune chooses among greedy candidates without {name}; leave it out")
    gates = ("calibrated", "entropy", "margin", "logprob")
    if "gate_type" in config.given and config.gate.name not in gates:
        raise ConfigError(
            f"tune knows thresholds for {', '.join(gates)}, not for {config.gate.name}"
        )
    if "acceptance" in config.given and config.acceptance.rule not in RULES:
        raise ConfigError(f"tune knows acceptance {' and '.join(RULES)}")
    config = in_own_language(config.changed(clock="modelled"))
    corpus, _ = load_corpus(config)
    samples = corpus[: config.data.max_samples]
    folds_of(len(samples))
    return config, samples


def tune(
    config: Config,
    samples: Sequence[Sample],
    goal: Goal,
    folder: Path,
    *,
    quality: Quality | None = None,
    told: Callable[[str, int, int], None] = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
    loaded: Callable[[Config, Sequence[Sample]], Bench] | None = None,
) -> Tuned:
    """Choose a preset for the pair of ``config`` on ``samples`` (both :func:`check`'s). ``folder`` keeps what is done,
    so that another call goes on with it, for another goal too; ``loaded`` gives a pair that is loaded already.

    Raises:
        EdgeCloudError: the pair cannot be used, or no candidate reaches the goal.
    """
    from edgecloud.experiments.tuned import load_bench, signals_of

    folds = folds_of(len(samples))
    corpus, manifest = load_corpus(config)
    measure = quality or default_quality(samples, config.data.language)
    rules = (config.acceptance.rule,) if "acceptance" in config.given else RULES
    with held(folder / "journal.jsonl", flag="-o"):
        bench = (loaded or load_bench)(config, samples)
        setup = {
            "data": data_of(config, corpus, manifest),
            "models": bench.facts,
            "hardware_profile": profile(config.hardware.profile).to_json(),
        }
        identity = identity_of(config, setup)
        with Journal.open(
            folder / "journal.jsonl", mode="tune", identity=identity, resume=True
        ) as journal:
            for note in journal.notes:
                say(note)
            first = bench.alone(samples, rules, journal, told)
        signals = signals_of(first, rules, folds, config)
        for signal in signals.values():
            if signal.note:
                say(signal.note)
        tried = candidates(signals, fixed_of(config))
        measured = bench.measured(samples, folds, tried, signals, first, folder, told)
    text = config.data.kind == "text"
    scored = qualities(
        measure,
        {name: [row["text"] for row in rows] for name, rows in measured.items()},
        samples=samples,
        corpus=corpus,
        languages=[
            record.language(text=text, default=config.data.language) for record in first["cloud"]
        ],
    )
    choice = choose(tried, measured, scored, folds, goal)
    signal = signals[choice.candidate.rule]
    return Tuned(
        _content(config, goal, measure, choice, signal, setup, samples, len(tried)),
        choice,
        len(tried),
        bench.memory.asked,
        bench.memory.computed,
    )


def _content(
    config: Config,
    goal: Goal,
    measure: Quality,
    choice: Choice,
    signal: Signal,
    setup: Mapping[str, Any],
    samples: Sequence[Sample],
    tried: int,
) -> dict[str, Any]:
    """The preset file."""
    environment = machine()
    candidate = choice.candidate
    fitted = {}
    if candidate.calibrated:
        fitted = {
            "calibration": to_json(
                signal.whole,
                tokens=signal.tokens,
                rejected=signal.rejected,
                recordings=len(samples),
                acceptance=[candidate.rule],
                auc=signal.auc,
                plain={"gate": signal.plain, "auc": signal.plain_auc},
            )
        }
    between = config.hardware.link
    return {
        "schema": PRESET_SCHEMA,
        "settings": dict(candidate.settings),
        "goal": asdict(goal),
        "quality": measure,
        "expected": {
            "how": f"the same choice made {FOLDS} times, without a fold of the samples, measured on that fold",
            "folds_that_chose_these_settings": choice.agreed,
            **choice.expected,
        },
        "on_the_samples_chosen_by": choice.seen,
        "samples": len(samples),
        "candidates": tried,
        "tuned_on": {
            "data": setup["data"],
            "language": config.data.language,
            "prompt_type": config.data.prompt_type,
            "models": setup["models"],
            "hardware_profile": setup["hardware_profile"],
            "link": None if between is None else link(between).to_json(),
        },
        "versions": {"edgecloud": __version__, **environment.get("versions", {})},
        **fitted,
    }
