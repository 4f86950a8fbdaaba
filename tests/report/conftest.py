"""What tests of pages share."""

from __future__ import annotations

import pytest

from edgecloud.report.html import plots, timeline


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without figures, for tests of words and data: drawing takes most of a page's time."""
    for room, name in (
        (plots, "tradeoffs"),
        (plots, "distributions"),
        (timeline, "timelines"),
    ):
        monkeypatch.setattr(room, name, lambda *_, **__: [])
