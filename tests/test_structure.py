"""The shape of the package: which way imports point, what an import costs, and what no file does to another."""

import ast
import functools
import subprocess
import sys
from collections import Counter
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


@functools.cache
def tree_of(path):
    """Return the syntax tree of a file, which is read once. No test changes it."""
    return ast.parse(path.read_text())


def imported(path):
    """Yield the modules of daynight that a module imports, whole or names from them."""
    for node in ast.walk(tree_of(path)):
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


@pytest.mark.parametrize("name", ["daynight", "daynight.study"])
def test_import_loads_nothing_that_only_some_users_need(name):
    code = f"import sys, torch; before = set(sys.modules); import {name}; print(*set(sys.modules) - before)"
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
    for kind in ast.walk(tree_of(path)):
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


#: Names with an underscore that belong to others, and why they are used all the same.
FOREIGN = {
    "_buffers": "PyTorch's buffers of a module by name, also those that are None: a forward may put a tensor there",
    "_version": "how often PyTorch has written to a tensor; there is no public count",
    "_reset_parameters": "the public reset_parameters of MultiheadAttention is called so",
    "_forward_pre_hooks": "PyTorch has no public list of hooks",
    "_forward_hooks": "likewise",
    "_backward_pre_hooks": "likewise",
    "_global_forward_pre_hooks": "likewise, of all modules",
    "_global_forward_hooks": "likewise",
    "_global_backward_pre_hooks": "likewise",
    "_global_backward_hooks": "likewise",
    "_backward_hooks": "likewise, of a tensor",
    "_post_accumulate_grad_hooks": "likewise",
    "_global_optimizer_pre_hooks": "likewise, of all optimizers",
    "_global_optimizer_post_hooks": "likewise",
    "_optimizer_step_pre_hooks": "likewise, of one optimizer",
    "_optimizer_step_post_hooks": "likewise",
    "_BatchNorm": "PyTorch's own root of all batch norms, which has no public name",
    "_InstanceNorm": "likewise, of all instance norms",
    "_y": "Continuum has no public name for the labels of a task set",
    "_exit": "os._exit ends a process without its clean-up",
    "_current_frames": "sys._current_frames is how Python documents the stack of another thread",
}


def private(name):
    return name.startswith("_") and not name.startswith("__")


def defined_in(tree):
    """Yield the private names that a file defines: functions, classes, variables and attributes of ``self``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node):
            yield node.attr


def is_own(attribute):
    return isinstance(attribute.value, ast.Name) and attribute.value.id in ("self", "cls")


def private_uses(tree):
    """Yield the private names that a file uses of other objects and modules, also by a text, each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not is_own(node):
            yield node.attr, node.lineno
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("getattr", "setattr", "hasattr", "delattr"):
                for text in (item.value for item in node.args[:2] if isinstance(item, ast.Constant)):
                    yield str(text).rpartition(".")[2], node.lineno


FOLDERS = ("daynight", "tests", "examples", "benchmarks", "docs")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_uses_what_is_private_in_another(path):
    tree = tree_of(path)
    own = {*defined_in(tree), *FOREIGN}
    found = {f"{name}, line {line}" for name, line in private_uses(tree) if private(name) and name not in own}
    assert not found, "give it a public name, or do it otherwise"


def test_private_names_of_others_are_all_in_use():
    trees = [tree_of(path) for path in SOURCES if path != Path(__file__)]
    assert {name for tree in trees for name, _ in private_uses(tree)} >= FOREIGN.keys()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_ledger_is_asked_of_which_kind_it_is(path):
    for node in ast.walk(tree_of(path)):
        kinds = []
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("isinstance", "issubclass")
        ):
            kinds = node.args[1:]
        elif isinstance(node, ast.Compare):
            kinds = [node.left, *node.comparators]
        named = {item.id for kind in kinds for item in ast.walk(kind) if isinstance(item, ast.Name)}
        particular = {name for name in named if name.endswith("Ledger") and name != "Ledger"}
        assert not particular, f"line {node.lineno}: ask the ledger what it can do, as a user's own could answer"


#: The ways to consolidate, which are objects beyond the file that makes them of texts.
WAYS, MAKES_WAYS = {"freeze", "rehearse", "fine-tune"}, "training.consolidation"


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p) != MAKES_WAYS], ids=name_of)
def test_no_text_is_compared_with_a_way_to_consolidate(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Compare | ast.MatchValue):
            texts = {item.value for item in ast.walk(node) if isinstance(item, ast.Constant)}
            assert not texts & WAYS, f"line {node.lineno}: ask the object that consolidates"


def named_in(node):
    """Yield the names that code reads, with how often: plain ones, and those of attributes."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            yield part.id
        elif isinstance(part, ast.Attribute):
            yield part.attr


def test_no_class_is_cut_in_two_by_inheritance():
    trees = {name: tree_of(path) for name, path in KNOWN.items()}
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    everywhere = Counter(name for tree in trees.values() for name in named_in(tree))
    # What a package offers is used by others.
    everywhere.update(
        alias.name
        for name, tree in trees.items()
        if KNOWN[name].name == "__init__.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )
    for parent in classes:
        children = [one for one in classes if any(parent.name in named_in(base) for base in one.bases)]
        if len(children) == 1:
            within = Counter(name for node in (parent, *children) for name in named_in(node))
            is_used = everywhere[parent.name] > within[parent.name]
            assert is_used, f"{parent.name} is there for {children[0].name} alone: make them one class"


def test_files_of_tests_have_names_of_their_own():
    """pytest imports them by their names alone, as no folder of tests is a package."""
    names = Counter(path.name for path in ROOT.joinpath("tests").rglob("test_*.py"))
    assert [name for name, n in names.items() if n > 1] == []
