"""Gates: should this drafted block go to the cloud?

A gate is a pure function of what the edge knows about its own draft: one file of this folder, in which it is
registered under its name. By that it is in ``--gate-type``, in sweeps and in reports.
"""

from __future__ import annotations

from edgecloud.decoding.gates.contract import (
    FEATURES,
    GATES,
    TERMS,
    Calibration,
    Gate,
    Thresholds,
    gate,
    terms,
)
from edgecloud.registry import import_all

__all__ = ["FEATURES", "GATES", "TERMS", "Calibration", "Gate", "Thresholds", "gate", "terms"]

import_all(__name__, __path__)
