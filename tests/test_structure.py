"""The shape of the house: which way imports point, how long files are, what an import costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import daynight

PACKAGE = Path(daynight.__file__).parent
ROOT = PACKAGE.parent

#: Floors, from the ground up. A module imports from lower floors, and from its own only what stands before it.
FLOORS = [
    [
        "_version",
        "errors",
        "checks",
        "seeding",
        "files",
        "locks",
        "containers",
        "interrupts",
        "exits",
        "seals",
        "packing",
        "code",
    ],
    [
        "rates",
        "ledgers",
        "schedule",
        "deadlines",
        "capacity",
        "history",
        "lazy",
        "splits",
        "tasks",
        "unions",
        "identity",
    ],
    [
        "policies",
        "scripts",
        "cycles",
        "wrappers",
        "reactive",
        "recommended",
        "criteria",
        "pruning",
        "metrics",
        "models",
        "anatomy",
        "images",
        "datasets",
        "adapters",
    ],
    ["heads", "ownership", "network", "sharing", "trials"],
    [
        "training",
        "prediction",
        "engines.arena",
        "engines.stages",
        "engines.dense",
        "engines.sparse",
        "engines.convolution",
        "engines.cost",
        "engines.blueprint",
        "engines.engine",
        "engines.proof",
        "stepping",
        "optimization",
        "lesson",
        "selection",
        "rehearsal",
        "turns",
        "sleep",
        "day",
        "sizes",
        "subnetworks",
        "export",
        "knowledge",
        "saving",
        "persistent",
    ],
    ["agent"],
    ["progress", "checkpoints", "clock"],
    ["plots.style", "plots.nights", "plots.lives", "reports", "loggers", "testing"],
    [
        "study.store",
        "study.statistics",
        "study.measures",
        "study.results",
        "study.methods",
        "study.worker",
        "study.runner",
        "study.matching",
        "study.published",
        "study.tables",
        "study.plans",
        "study.figures",
        "study.unsaid",
        "study.dips",
        "study.paper",
        "study.nights",
        "study.contestants",
        "study.tournament",
    ],
    ["expressions", "command", "__main__"],
]
ORDER = [name for floor in FLOORS for name in floor]
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imported(path):
    """Give the modules of daynight that a module imports, whole or names from them."""
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
                yield module_of(name)


def module_of(name):
    """Give the module that a name is in; of a package, the highest of its modules."""
    within = [known for known in ORDER if f"{name}.".startswith(f"daynight.{known}.")]
    if within:
        return max(within, key=len)
    below = [known for known in ORDER if f"daynight.{known}".startswith(f"{name}.")]
    return below[-1] if below else module_of(name.rpartition(".")[0])


def test_every_module_has_a_floor():
    assert sorted(ORDER) == sorted(map(name_of, MODULES))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_import_points_upward(path):
    above = [name for name in imported(path) if ORDER.index(name) >= ORDER.index(name_of(path))]
    assert not above, f"{path.name} imports {above}, which are not below it"


@pytest.mark.parametrize("folder", ["daynight", "docs", "examples", "tests"])
def test_no_file_is_over_350_lines(folder):
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert lengths
    assert not {name: n for name, n in lengths.items() if n > 350}


def test_import_loads_nothing_that_only_some_users_need():
    code = "import sys, torch; before = set(sys.modules); import daynight; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.split(".")[0] for name in loaded} <= {"daynight", "attr", "attrs"}


def test_all_public_names_exist_and_are_documented():
    for name in daynight.__all__:
        assert getattr(daynight, name).__doc__
    with pytest.raises(AttributeError, match="module 'daynight' has no attribute 'nothing'"):
        _ = daynight.nothing
