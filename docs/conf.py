"""Sphinx's settings for the site: ``tox -e docs``."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

import generated

from edgecloud import __version__

project = "edgecloud"
copyright = "the authors of edgecloud"  # noqa: A001 - Sphinx's name
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["examples"]
highlight_language = "none"
myst_heading_anchors = 4
suppress_warnings = [
    "myst.header",  # a page that another page holds begins at a heading of any level
    "misc.highlighting_failure",  # "…" in an example is no JSON
]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
napoleon_custom_sections = [("Raises, when made", "returns_style"), ("Raises, on entering", "returns_style")]  # fmt: skip
python_maximum_signature_line_length = 88

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"edgecloud {__version__}"
html_copy_source = html_show_sourcelink = html_show_sphinx = False
_FONTS = {
    # What the reader's system has, Chinese included: nothing is fetched.
    "font-stack": 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "PingFang SC", '
    '"Microsoft YaHei", "Noto Sans CJK SC", sans-serif',
    "font-stack--monospace": 'ui-monospace, "SFMono-Regular", Menlo, Consolas, "Liberation Mono", monospace',
}
html_theme_options = {"light_css_variables": _FONTS, "dark_css_variables": _FONTS}


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = generated.page(docname, source[0])


def _speaks(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, object], doctree: object
) -> None:
    if pagename.endswith(".zh"):
        context["language"] = "zh-CN"


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill in what is generated, and say which pages are Chinese."""
    app.connect("source-read", _read)
    app.connect("html-page-context", _speaks)
    return {"parallel_read_safe": True}
