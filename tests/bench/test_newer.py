"""What the newest releases differ by from those that are pinned."""

from __future__ import annotations

from importlib.metadata import version

from bench.newer import differing


def test_only_other_versions_of_what_is_installed_are_told() -> None:
    pins = f"# pytest==0\npytest==0.1\nnumpy=={version('numpy')}\nnobody-has-this==1.0\n"
    assert differing(pins) == [f"pytest 0.1 -> {version('pytest')}"]
    assert differing(f"torch=={version('torch').partition('+')[0]}") == []
