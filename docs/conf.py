"""How Sphinx builds this site; nothing is fetched while it does."""

from importlib.metadata import version as version_of
from typing import Any

project = "flowgen"
author = "The flowgen authors"
copyright = "The flowgen authors, Apache-2.0"
version = release = version_of("flowgen")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"flowgen {version}"
html_show_sourcelink = False

autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "special-members": "__call__",
}
# Shapes such as Float[Tensor, "b *d"] read best where the argument stands.
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Source", "notes_style")]

# The colours of a terminal in light and dark.
pygments_style = "friendly"
pygments_dark_style = "monokai"


def _signature(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: Any
) -> tuple[str | None, Any]:
    """Return a signature that reads well: protocols have none, default factories are dots."""
    del app, what, name, options
    if getattr(thing, "_is_protocol", False):
        return "", None
    if signature == "(*args: Any, **kwargs: Any)":  # torch's, where a module has none of its own
        return "()", returns
    return signature and signature.replace("<factory>", "..."), returns


def setup(app: Any) -> None:
    """Register what this file adds to Sphinx."""
    app.connect("autodoc-process-signature", _signature)
