"""Converters of datasets: one file a dataset, registered under the name that ``edgecloud data`` knows it by."""

from __future__ import annotations

from edgecloud.datasets.converters.contract import CONVERTERS, Converter, Noted, Progress, converter
from edgecloud.registry import import_all

__all__ = ["CONVERTERS", "Converter", "Noted", "Progress", "converter"]

import_all(__name__, __path__)
