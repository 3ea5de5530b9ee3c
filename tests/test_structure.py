"""The shape of the package: which way imports point, what an import costs, and what no file does to another."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import daynight

PACKAGE = Path(daynight.__file__).parent
ROOT = PACKAGE.parent
sys.path.append(str(ROOT / "docs"))
from layout import EXCEPTIONS, LAYERS, row_of  # noqa: E402

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
#: Which import the package itself: its public names, and its entry.
ABOVE_ALL = ("__init__", "__main__", "_version")


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


KNOWN = {name_of(path): path for path in PACKAGE.rglob("*.py")}
LAID_OUT = {name for names, _ in LAYERS for name in names}


def imported(path):
    """Yield the modules of daynight that a module imports, whole or names from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide which way they point"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module else []
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("daynight."):
                yield module_of(name.removeprefix("daynight."))


def module_of(name):
    """Return the module that a name is in."""
    while name and name not in KNOWN:
        name = name.rpartition(".")[0]
    return name or "__init__"


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p) not in ABOVE_ALL], ids=name_of)
def test_packages_import_downwards_only(path):
    own = name_of(path)
    if own.partition(".")[0] not in LAID_OUT:
        return  # has not been moved yet
    for name in imported(path):
        first = name.partition(".")[0]
        if name in ("_version", "__init__") or first == own.partition(".")[0] or first not in LAID_OUT:
            continue
        assert row_of(name) < row_of(own) or (own, name) in EXCEPTIONS, f"{own} imports {name}, which is not below it"


def test_no_circle_between_files():
    below = {name: set(imported(path)) - {name} for name, path in KNOWN.items() if name not in ABOVE_ALL}
    for own, name in EXCEPTIONS:
        below[own].discard(name)
    while below:
        leaves = [name for name, names in below.items() if not names & below.keys()]
        assert leaves, f"these import each other: {sorted(below)}"
        for name in leaves:
            del below[name]


def test_import_loads_nothing_that_only_some_users_need():
    code = "import sys, torch; before = set(sys.modules); import daynight; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.split(".")[0] for name in loaded} <= {"daynight", "attr", "attrs"}


def test_all_public_names_exist_and_are_documented():
    for name in daynight.__all__:
        assert getattr(daynight, name).__doc__
    with pytest.raises(AttributeError, match="module 'daynight' has no attribute 'nothing'"):
        _ = daynight.nothing


def born_outside_init(path):
    """Yield the attributes that a class with a state, of which `restore` takes over what `state` returns, first sets
    elsewhere than in its ``__init__``."""
    for kind in ast.walk(ast.parse(path.read_text())):
        if not isinstance(kind, ast.ClassDef):
            continue
        methods = {item.name: item for item in kind.body if isinstance(item, ast.FunctionDef)}
        if not {"state", "restore", "__init__"} <= methods.keys():
            continue
        own = {item.target.id for item in kind.body if isinstance(item, ast.AnnAssign)}
        born = {name: set(assigned(method)) for name, method in methods.items()}
        known = own | born.pop("__init__")
        yield from (f"{kind.name}.{name}" for names in born.values() for name in names - known)


def assigned(method):
    """Yield the attributes of ``self`` that a method sets."""
    for node in ast.walk(method):
        is_set = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if is_set and isinstance(node.value, ast.Name) and node.value.id == "self":
            yield node.attr


@pytest.mark.parametrize("folder", ["training", "nights", "data", "networks", "."])
def test_what_has_a_state_sets_all_its_attributes_in_init(folder):
    paths = (PACKAGE / folder).glob("*.py")
    assert not [name for path in paths for name in born_outside_init(path)]


def test_no_state_is_all_that_an_object_has():
    found = [name for name, path in KNOWN.items() if "vars(self)" in path.read_text()]
    assert found == ["nights.policy"]  # the repr of a policy
