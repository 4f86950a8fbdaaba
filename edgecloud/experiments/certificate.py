"""A threshold that keeps a risk: learn then test (Angelopoulos et al. 2021, arXiv:2110.01052).

A calibration set of samples drawn like the later ones, written by the cloud alone and with the gate at several
thresholds, gives each threshold a mean loss. That a threshold's true mean loss exceeds the risk is a hypothesis with a
valid p-value (:func:`p_value`); hypotheses are tested in an order fixed beforehand, from the threshold that asks most to
the one that asks least, until one cannot be rejected (fixed-sequence testing, which needs no correction). The last one
rejected keeps the risk with the confidence asked for. No torch: what decodes is in :mod:`edgecloud.experiments.certify`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecloud.contracts import Language, Sample
from edgecloud.edge.gate_calibration import calibration, content
from edgecloud.errors import ConfigError
from edgecloud.jsontypes import Mismatch, read
from edgecloud.quality.attributes import KNOWN
from edgecloud.quality.metrics.attributes import attribute_scores
from edgecloud.quality.metrics.cider import cider
from edgecloud.quality.tokenize import LANGUAGE_TOKENIZERS, Tokens, segment
from edgecloud.results.certificate import Certified, Difference
from edgecloud.settings.config import Config
from edgecloud.settings.options import OPTIONS
from edgecloud.settings.parts import unused_settings

__all__ = [
    "CIDER_SCALE",
    "LOSSES",
    "Chosen",
    "Frequencies",
    "certified_in",
    "differences",
    "fewest",
    "has_loss",
    "learn_then_test",
    "losses",
    "p_value",
    "policy_of",
    "statement",
]

LOSSES = ("attributes", "tokens", "cider")
CIDER_SCALE = 10.0
"""The most CIDEr that a caption can lose, its range: losses of CIDEr are divided by it."""
_SHUFFLED_BY = 0
"""The seed of the order in which samples are bet on: fixed, and thus none that losses chose."""
_MOST_COUNTED = 1_000_000
_SAID = {
    "attributes": "the share of attributes that the cloud alone has right and the caption has not",
    "tokens": "the share of tokens that do not match those of the cloud alone",
    "cider": f"the CIDEr that the caption has less than the cloud alone, divided by {CIDER_SCALE:g}",
}

Floats = NDArray[np.float64]
Row = Mapping[str, Any]
"""A caption: its ``text`` and ``tokens``."""


def p_value(losses: ArrayLike, *, risk: float, confidence: float) -> Floats:
    """P-values, one for each row of ``losses (…, n)`` in [0, 1], of the hypothesis that the true mean exceeds ``risk``.

    By betting (Waudby-Smith and Ramdas 2024, arXiv:2010.09686; as a bound on a risk Bates et al. 2021,
    arXiv:2101.02703, proposition 5): whoever bets a share of the capital, chosen before each loss is seen, on losses
    below ``risk`` cannot expect to win while the hypothesis holds. By Ville's inequality 1 over the most capital ever held is
    a p-value, for losses drawn independently. ``confidence`` only sets how boldly is bet.

    >>> round(float(p_value([0.0] * 250, risk=0.02, confidence=0.95)), 4)  # about 1.02 ** -250
    0.0078
    >>> float(p_value([1.0] * 250, risk=0.02, confidence=0.95))
    1.0
    """
    own = np.asarray(losses, dtype=np.float64)
    n = own.shape[-1]
    count = np.arange(2, n + 2)
    means = (0.5 + own.cumsum(-1)) / count
    variances = (0.25 + ((own - means) ** 2).cumsum(-1)) / count
    before = np.concatenate([np.full((*own.shape[:-1], 1), 0.25), variances[..., :-1]], axis=-1)
    bets = np.minimum(1.0, np.sqrt(2 * math.log(1 / (1 - confidence)) / (n * before)))
    capital = np.log1p(bets * (risk - own)).cumsum(-1)
    p: Floats = np.exp(-np.maximum(0.0, capital.max(-1)))
    return p


def fewest(*, risk: float, confidence: float) -> int:
    """The least number of samples with which a threshold without any loss is certified (of more than a million a lower
    bound).

    >>> fewest(risk=0.02, confidence=0.95)
    154
    """
    count = math.ceil(math.log(1 / (1 - confidence)) / math.log1p(risk))
    while count < _MOST_COUNTED and (
        p_value(np.zeros(count), risk=risk, confidence=confidence) > 1 - confidence
    ):
        count += 1
    return count


@dataclass(frozen=True, slots=True)
class Chosen:
    """P-values of thresholds in the order of testing, and the ``index`` of the last one that keeps the risk;
    ``None``: not even the first does."""

    p_values: tuple[float, ...]
    index: int | None


def learn_then_test(losses: Floats, *, risk: float, confidence: float) -> Chosen:
    """Test the thresholds of ``losses (thresholds, samples)``, whose rows are ordered from the one that asks most.

    >>> none, half = [0.0] * 250, [0.0, 1.0] * 125
    >>> learn_then_test(np.array([none, none, half, none]), risk=0.02, confidence=0.95).index
    1
    """
    order = np.random.default_rng(_SHUFFLED_BY).permutation(losses.shape[1])
    found = p_value(losses[:, order], risk=risk, confidence=confidence)
    kept = found <= 1 - confidence
    rejected = len(kept) if kept.all() else int(kept.argmin())
    return Chosen(tuple(map(float, found)), rejected - 1 if rejected else None)


# --- losses


@dataclass(frozen=True, slots=True)
class Frequencies:
    """The references, by sample, that CIDEr's document frequencies are counted over, and where they are from. They are
    fixed beforehand: counted over the calibration set, they would make each sample's loss hang on the others."""

    references: Mapping[str, Sequence[str]]
    source: str

    def to_json(self) -> dict[str, Any]:
        """What a certificate says of them."""
        text = json.dumps([[*some] for some in self.references.values()], ensure_ascii=False)
        return {
            "source": self.source,
            "samples": len(self.references),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }


def has_loss(loss: str, sample: Sample, language: Language) -> bool:
    """Whether a sample has what the loss is measured by; those that have not are outside the population."""
    if loss == "attributes":
        return any(value in KNOWN.get(name, ()) for name, value in sample.attributes)
    if loss == "cider":
        return bool(sample.references) and sample.reference_language == language
    return True


def losses(
    loss: str,
    own: Sequence[Row],
    cloud: Sequence[Row],
    *,
    samples: Sequence[Sample],
    language: Language,
    frequencies: Frequencies | None = None,
) -> Floats:
    """The loss of each caption against the cloud's, in [0, 1]; each hangs on its own sample alone.

    - ``attributes``: the share of the sample's attributes that the cloud's caption has right, less the caption's; at
      least 0: what a caption has right beyond the cloud makes up for no other.
    - ``tokens``: 1 less the share of tokens in matching runs of both (Ratcliff and Obershelp, :mod:`difflib`).
    - ``cider``: the CIDEr that the caption has less than the cloud's over :data:`CIDER_SCALE`, at least 0; document
      frequencies are those of ``frequencies``.
    """
    if loss == "tokens":
        return np.array(
            [_unlike(one["tokens"], its["tokens"]) for one, its in zip(own, cloud, strict=True)]
        )
    if loss == "attributes":
        ours, theirs = (_right(rows, samples, language) for rows in (own, cloud))
        return np.clip(theirs - ours, 0.0, 1.0)
    if frequencies is None:
        raise ValueError("losses of CIDEr need document frequencies")
    ours, theirs = (_cider(rows, samples, language, frequencies) for rows in (own, cloud))
    return np.clip((theirs - ours) / CIDER_SCALE, 0.0, 1.0)


def _unlike(one: Sequence[int], other: Sequence[int]) -> float:
    return 1.0 - SequenceMatcher(None, one, other, autojunk=False).ratio()


def _right(rows: Sequence[Row], samples: Sequence[Sample], language: Language) -> Floats:
    """The share of each sample's attributes that its caption has right."""
    scored = attribute_scores(
        [row["text"] for row in rows],
        [sample.references for sample in samples],
        language=language,
        attributes=[dict(sample.attributes) for sample in samples],
    )
    names = [f"attribute_accuracy_{name}" for name in KNOWN]
    known = [[v for name in names if (v := row[name]) is not None] for row in scored.per_sample]
    return np.array([sum(values) / len(values) for values in known])


def _cider(
    rows: Sequence[Row], samples: Sequence[Sample], language: Language, frequencies: Frequencies
) -> Floats:
    def cut(text: str) -> Tokens:
        return segment(text, LANGUAGE_TOKENIZERS[language][0])

    found = cider(
        {s.file_id: cut(row["text"]) for s, row in zip(samples, rows, strict=True)},
        {s.file_id: [cut(text) for text in s.references] for s in samples},
        counted={
            name: [cut(text) for text in some] for name, some in frequencies.references.items()
        },
    )
    return np.array([row["cider"] or 0.0 for row in found.per_sample])


def statement(
    *,
    loss: str,
    gate: str,
    threshold: float | None,
    samples: int,
    left_out: Mapping[str, int],
    failed: int,
    risk: float,
    confidence: float,
) -> str:
    """What a certificate says: in one sentence, and one more where samples were left out (by reason) or failed."""
    among = "".join(
        f" {n} samples {why} are not of that population." for why, n in left_out.items()
    )
    among += f" {failed} that failed count as lost whole." if failed else ""
    if threshold is None:
        return (
            f"Nothing is certified: on {samples} samples no threshold of the {gate} gate was found to keep the mean loss "
            f"({_SAID[loss]}) at {risk:.4g} at most with {confidence:.4g} confidence.{among}"
        )
    return (
        f"With these models and settings and the {gate} gate at threshold {threshold:g}, on data drawn as the {samples} "
        f"samples of the calibration were, the mean loss ({_SAID[loss]}) is at most {risk:.4g}, with {confidence:.4g} "
        f"confidence.{among}"
    )


# --- what is certified, and whether a run is that


_NO_TOKEN = {"calibration", "seed"}
"""Settings of decoding of which greedy tokens do not hang on the value; a fit is compared by its content."""


def policy_of(config: Config, models: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a policy's tokens what they are, by name (JSON): settings that count, weights and precision of both
    models (facts by side), and the gate's fit."""
    settings = config.to_json()
    skipped = unused_settings("spec", settings) | _NO_TOKEN
    asked = ("language", "prompt_type", "input_modality", "dataset_type")
    names = [option.name for option in OPTIONS if option.group == "how"]
    found = {name: settings[name] for name in (*asked, *names) if name not in skipped}
    for side, facts in models.items():
        found[f"{side} weights"] = facts and facts.get("sha256")
        found[f"{side} precision"] = facts and facts.get("dtype")
    if config.gate.name == "calibrated":
        fit = calibration(
            config.gate.calibration,
            language=config.data.language,
            prompt_type=config.data.prompt_type,
        )
        text = json.dumps([fit.intercept, *fit.weights])
        found["gate's fit"] = hashlib.sha256(text.encode()).hexdigest()
    return found


def certified_in(config: Config) -> Certified | None:
    """The certificate in the calibration file of ``config``; ``None``: no file is given, or it has none.

    Raises:
        ConfigError: the file cannot be used, or its certificate is damaged.
    """
    path = config.gate.calibration
    found = None if path is None else content(path).get("certificate")
    if found is None:
        return None
    try:
        return read(Certified, found)
    except Mismatch as error:
        raise ConfigError(
            f"calibration {path}: its certificate is damaged ({error}); make it again with `edgecloud certify`"
        ) from error


def differences(
    certified: Certified, config: Config, models: Mapping[str, Any]
) -> list[Difference]:
    """In what a run of ``config`` with these models (facts by side) is not the policy that was certified."""
    own, other = policy_of(config, models), certified.policy
    return [
        Difference(name, _shown(own.get(name)), _shown(other.get(name)))
        for name in {**other, **own}
        if own.get(name) != other.get(name)
    ]


def _shown(value: Any) -> str:
    """A setting's value in a sentence; of a hash its beginning."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{text[:12]}…" if len(text) > 40 else text
