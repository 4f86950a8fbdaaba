"""Families of models: one file a family, registered under the ``model_type`` of its checkpoints' config.json."""

from __future__ import annotations

from edgecloud.models.families.contract import FAMILIES, Family, family
from edgecloud.registry import import_all

__all__ = ["FAMILIES", "Family", "family"]

import_all(__name__, __path__)
