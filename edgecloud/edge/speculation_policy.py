"""The speculation settings of a configuration."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from typing import get_args

from edgecloud.contracts import Acceptance, Language
from edgecloud.contracts.sampling import Sampling
from edgecloud.decoding.gates import Calibration, Thresholds
from edgecloud.decoding.speculation_controller import CloudBudget
from edgecloud.decoding.speculative import Speculation
from edgecloud.edge.gate_calibration import calibration
from edgecloud.errors import ConfigError
from edgecloud.settings.config import Config
from edgecloud.settings.parts import PARTS, own_numbers
from edgecloud.settings.presets import TUNE

__all__ = ["policies", "sampling_of", "speculation"]


def sampling_of(config: Config) -> Sampling:
    """How ``config`` lets tokens be chosen; a request's seed is its own."""
    chosen = config.sampling
    return Sampling(
        chosen.temperature,
        chosen.top_p,
        repetition_penalty=chosen.repetition_penalty,
        no_repeat_ngram=chosen.no_repeat_ngram,
    )


def policies(config: Config) -> dict[Language, Speculation]:
    """``config``'s policy by the language of a request: the run's, and for prompts of text, each of which
    may say its own, every language.

    Raises:
        ConfigError: as for :func:`speculation`.
    """
    text = config.data.kind == "text"
    languages: tuple[Language, ...] = get_args(Language) if text else (config.data.language,)
    return {language: speculation(config.changed(language=language)) for language in languages}


def speculation(config: Config) -> Speculation:
    """``config``'s policy.

    Raises:
        ConfigError: the calibrated gate's file cannot be used, or there is none for these models; or this
            process has no part of a name that another one knows.
    """
    settings = config.to_json()
    for setting, registry in PARTS.items():
        if settings[setting] not in registry:
            raise ConfigError(
                f"{setting}: this process has no {registry.kind} {settings[setting]!r}: what a program "
                "registers by itself is its alone; put it into a module and give that as --plugin MODULE"
            )
    fitted = Calibration()
    if config.gate.name == "calibrated":
        if config.gate.calibration is None and (config.models.edge or config.models.cloud):
            raise ConfigError(
                "the calibrated gate is fitted to a pair of models: make one for these with "
                "`edgecloud calibrate` and give it as --calibration; or let "
                f"`{TUNE}` choose a whole preset for them"
            )
        fitted = calibration(
            config.gate.calibration,
            language=config.data.language,
            prompt_type=config.data.prompt_type,
        )
    thresholds = {
        each.name: getattr(config.gate, f"{each.name}_threshold")
        for each in fields(Thresholds)
        if each.name not in ("calibration", "own")
    }
    spent, regret_nats = config.cloud.budget, config.acceptance.regret_budget
    return Speculation(
        gate=config.gate.name,
        gate_scope=config.gate.scope,
        thresholds=Thresholds(
            **thresholds, calibration=fitted, own=own_numbers("gate_type", settings)
        ),
        acceptance=Acceptance(
            rule=config.acceptance.rule,
            rank_threshold=config.acceptance.rank_threshold,
            probability_ratio=config.acceptance.probability_ratio,
            regret_nats=math.inf if regret_nats is None else regret_nats,
            own=own_numbers("acceptance", settings),
        ),
        # Each setting of these subjects is one of the loop's.
        **asdict(config.draft),
        **{
            **asdict(config.cloud),
            "budget": CloudBudget() if spent is None else CloudBudget.parse(spent),
        },
    )
