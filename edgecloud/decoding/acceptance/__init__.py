"""Acceptance: which drafted tokens does the cloud keep?

A rule is a pure function of how the cloud sees one drafted token: one file of this folder, in which it is
registered under its name. Tokens are kept from the first on, up to the first that fails.
"""

from __future__ import annotations

from edgecloud.decoding.acceptance.contract import RULES, Rule, TokenScore, kept, rule
from edgecloud.registry import import_all

__all__ = ["RULES", "Rule", "TokenScore", "kept", "rule"]

import_all(__name__, __path__)
