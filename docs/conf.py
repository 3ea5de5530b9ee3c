import sys
from pathlib import Path

import torch

import daynight

sys.path.insert(0, str(Path(__file__).parent))
import measured

torch.set_num_threads(1)  # which is the fastest for networks as small as those of the tutorials

project = "daynight"
author = copyright = "The daynight developers"
release = daynight.__version__

# A draft for writers (CONTRIBUTING.md) runs no tutorial and makes no figure anew.
IS_DRAFT = "draft" in tags  # noqa: F821  (Sphinx defines it)

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    *([] if IS_DRAFT else ["sphinx.ext.viewcode"]),
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "tutorials"]
sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "learn",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "pages.in_order",  # and not of this module, which is read twice if it is named
    "abort_on_example_error": True,
    "download_all_examples": False,
    "capture_repr": (),
    "remove_config_comments": True,
    "write_computation_times": False,
    "parallel": True,  # as many as sphinx-build's -j says
    "copyfile_regex": r".*README\.rst",
}
plot_gallery = str(not IS_DRAFT)  # which Sphinx-Gallery reads as text
html_theme = "furo"
html_title = "daynight"
html_static_path = ["_static"]
html_css_files = ["side.css"]
default_role = "literal"
nitpicky = True
#: Names of other projects, whose documentation is not at hand, and names of types.
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|datetime|matplotlib|np|numpy|nn|os|pathlib|torch)\..*"),
    (r"py:class", r"[A-Z]\w*"),
    (r"py:.*", r"daynight\.nights\.cycle\.Measured"),
    (r"py:.*", r"daynight\.data\.splits\.LazyInputs"),
    (r"py:.*", r"daynight\.study\.paper\.setups\.Setup"),
    (r"py:.*", r"daynight\.loggers\.mlflow\.Driver"),
]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Links to other projects are for those who build with a network; a build without one has no inventories.
intersphinx_mapping = {}

if not IS_DRAFT or not measured.is_written():
    measured.write_all()
