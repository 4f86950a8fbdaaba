"""Names of an experiment: what tells runs apart in tables, floors, benchmark rows and baselines."""

from __future__ import annotations

from typing import Any

__all__ = ["kind", "row"]


def kind(mode: str, acceptance: Any) -> str:
    """``edge``, ``cloud``, or ``spec`` with its acceptance rule.

    >>> kind("spec", "rank"), kind("edge", "rank")
    ('spec rank', 'edge')
    """
    return f"spec {acceptance}" if mode == "spec" else mode


def row(mode: str, *, language: str, prompt_type: str, acceptance: Any) -> str:
    """The key of comparison of a benchmark's row, frozen: ``english-default``, with the rule where it counts.

    >>> row("spec", language="chinese", prompt_type="default", acceptance="rank")
    'chinese-default-rank'
    """
    rule = f"-{acceptance}" if mode == "spec" else ""
    return f"{language}-{prompt_type}{rule}"
