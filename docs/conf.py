"""Configuration of the documentation: `uv run --group docs sphinx-build -W docs docs/_build`."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the generated tables
import tables

project = "fmnist-hpo"
author = "The fmnist-hpo authors"
release = metadata.version("fmnist-hpo")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_generated"]
html_theme = "furo"
html_title = "fmnist-hpo"
default_role = "code"  # docstrings write code in single backquotes
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = True
nitpicky = False


def setup(app: object) -> None:  # noqa: ARG001 - Sphinx's hook
    """Write the generated tables before the pages are read."""
    tables.write(Path(__file__).parent / "_generated")
