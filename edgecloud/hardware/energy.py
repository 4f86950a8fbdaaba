"""Energy of this machine's processor packages, from the RAPL counters Linux shows."""

from __future__ import annotations

from pathlib import Path

__all__ = ["RAPL_ROOT", "RaplMeter"]

RAPL_ROOT = Path("/sys/class/powercap")


class RaplMeter:
    """Joules between ``start()`` and ``stop()``; ``reason`` says why ``stop()`` returned ``None``.

    Counts whole packages: other processes on the machine are in it.
    """

    def __init__(self, root: Path = RAPL_ROOT) -> None:
        # intel-rapl:0 is a package; intel-rapl:0:0 is a part of it and would count twice.
        self._zones = sorted(root.glob("intel-rapl:[0-9]"))
        self._start_uj: list[tuple[int, int]] = []
        self.reason = "this machine shows no RAPL energy counters" if not self._zones else ""

    def start(self) -> None:
        """Read the counters: the interval begins now."""
        self._start_uj = self._read()

    def stop(self) -> float | None:
        """Joules since ``start()``, counters that wrapped around included."""
        end_uj = self._read()
        if not self._start_uj or len(end_uj) != len(self._start_uj):
            return None
        total_uj = 0
        for (start, largest), (end, _) in zip(self._start_uj, end_uj, strict=True):
            total_uj += end - start + (largest if end < start else 0)
        return total_uj / 1e6

    def _read(self) -> list[tuple[int, int]]:
        """The counter of each package and the largest value before it begins again, microjoules."""
        try:
            return [
                (
                    int((zone / "energy_uj").read_text()),
                    int((zone / "max_energy_range_uj").read_text()),
                )
                for zone in self._zones
            ]
        except OSError as error:
            self.reason = f"the RAPL energy counters are not readable: {error.strerror}"
            return []
