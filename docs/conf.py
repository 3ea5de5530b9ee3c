import sys
from pathlib import Path

import daynight

sys.path.insert(0, str(Path(__file__).parent))
import measured

project = "daynight"
author = copyright = "The daynight developers"
release = daynight.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "tutorials"]
sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "learn",
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "capture_repr": (),
    "remove_config_comments": True,
    "copyfile_regex": r".*README\.rst",
}
html_theme = "furo"
html_title = "daynight"
default_role = "literal"
nitpicky = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Links to other projects are for those who build with a network; a build without one has no inventories.
intersphinx_mapping = {}

measured.write_all()
