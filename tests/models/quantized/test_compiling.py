"""What numba keeps of the kernels holds until a source of their folder changes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

from edgecloud.models.quantized.own import compiling

INNER = "from kept.compiling import compiled\n\n\n@compiled\ndef inner():\n    return {}\n"
OUTER = (
    "from kept.compiling import releasing\n"
    "from kept.inner import inner\n\n\n"
    "@releasing\ndef outer():\n    return inner()\n"
)
RUN = "from kept.outer import outer; print(outer(), sum(outer.stats.cache_hits.values()))"


def _run(folder: Path) -> list[str]:
    """What the outer function returns in a process of its own, and how often it came from the cache."""
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.system
def test_a_kernel_is_compiled_anew_when_a_function_in_another_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    package = tmp_path / "kept"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copy(compiling.__file__, package / "compiling.py")
    (package / "outer.py").write_text(OUTER)
    (package / "inner.py").write_text(INNER.format(1))
    assert _run(tmp_path) == ["1", "0"]
    assert _run(tmp_path) == ["1", "1"]
    # Of another length, for Python's own cache of modules goes by seconds and length.
    (package / "inner.py").write_text(INNER.format(22))
    assert _run(tmp_path) == ["22", "0"]
