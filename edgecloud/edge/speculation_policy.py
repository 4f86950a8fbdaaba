"""The speculation settings of a configuration."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import get_args

from edgecloud.contracts import Acceptance, Language
from edgecloud.decoding.gates import Calibration, Thresholds
from edgecloud.decoding.speculation_controller import CloudBudget
from edgecloud.decoding.speculative import Speculation
from edgecloud.edge.gate_calibration import calibration
from edgecloud.errors import ConfigError
from edgecloud.settings.config import Config
from edgecloud.settings.parts import PARTS

__all__ = ["policies", "speculation"]


def policies(config: Config) -> dict[Language, Speculation]:
    """``config``'s policy by the language of a request: the run's, and for prompts of text, each of which
    may say its own, every language.

    Raises:
        ConfigError: as for :func:`speculation`.
    """
    text = config.dataset_type == "text"
    languages: tuple[Language, ...] = get_args(Language) if text else (config.language,)
    return {language: speculation(replace(config, language=language)) for language in languages}


def speculation(config: Config) -> Speculation:
    """``config``'s policy.

    Raises:
        ConfigError: the calibrated gate's file cannot be used, or there is none for these models; or this
            process has no part of a name that another one knows.
    """
    for setting, registry in PARTS.items():
        if getattr(config, setting) not in registry:
            raise ConfigError(
                f"{setting}: this process has no {registry.kind} {getattr(config, setting)!r}: what a program "
                "registers by itself is its alone; put it into a module and give that as --plugin MODULE"
            )
    fitted = Calibration()
    if config.gate_type == "calibrated":
        if config.calibration is None and (config.edge_model or config.cloud_model):
            raise ConfigError(
                "the calibrated gate is fitted to a pair of models: make one for these with "
                "`edgecloud calibrate` and give it as --calibration"
            )
        fitted = calibration(
            config.calibration, language=config.language, prompt_type=config.prompt_type
        )
    thresholds = {
        each.name: getattr(config, f"{each.name}_threshold")
        for each in fields(Thresholds)
        if each.name != "calibration"
    }
    return Speculation(
        k=config.k,
        gate=config.gate_type,
        thresholds=Thresholds(**thresholds, calibration=fitted),
        acceptance=Acceptance(
            rule=config.acceptance,
            rank_threshold=config.rank_threshold,
            probability_ratio=config.probability_ratio,
            regret_nats=math.inf if config.regret_budget is None else config.regret_budget,
        ),
        gate_scope=config.gate_scope,
        verify_scope=config.verify_scope,
        final_check=config.final_check,
        continuation=config.continuation,
        adaptive_k=config.adaptive_k,
        draft_ahead=config.draft_ahead,
        parallel_prefill=config.parallel_prefill,
        seed_tokens=config.cloud_seed_tokens,
        hand_off=config.hand_off,
        expected_tokens=config.expected_tokens,
        budget=CloudBudget()
        if config.cloud_budget is None
        else CloudBudget.parse(config.cloud_budget),
    )
