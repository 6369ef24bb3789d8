"""Sphinx: the manual, with pages and pictures that the package itself makes while it is built."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import torch  # noqa: E402, F401, I001  (before openmm: else TorchForce's kernels are not found)
from blocks import run_page  # noqa: E402
from reference import write_reference  # noqa: E402

GENERATED = HERE / "generated"

project = "openmm-allegro"
copyright = "the openmm-allegro developers"  # noqa: A001
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "generated/*/**"]
default_role = "code"
nitpicky = False
napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
html_theme = "furo"
html_title = "openmm-allegro"

write_reference(GENERATED)
if not (GENERATED / "structure.html").exists():  # the last of the gallery
    run_page(HERE / "gallery.md", GENERATED)
