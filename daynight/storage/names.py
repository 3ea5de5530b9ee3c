"""Fixed names by which files refer to functions and classes of the package, also after these have moved.

The runs of a study are named by descriptions of their settings, checkpoints compare such descriptions, and an agent's
file names functions. A function or class that moves to another module gets a line here, and keeps its name in files.
"""

from __future__ import annotations

#: By name of a module, the name that files have for it, if that is another one.
MODULES = {
    "daynight.data.adapters": "daynight.adapters",
    "daynight.data.images": "daynight.images",
    "daynight.data.splits": "daynight.splits",
    "daynight.data.streams": "daynight.datasets",
    "daynight.data.tasks": "daynight.tasks",
    "daynight.data.unions": "daynight.unions",
    "daynight.nights.budgets": "daynight.schedule",
    "daynight.nights.cycle": "daynight.schedule",
    "daynight.nights.deadlines": "daynight.deadlines",
    "daynight.nights.policy": "daynight.policies",
    "daynight.nights.reactive": "daynight.reactive",
    "daynight.nights.schedules": "daynight.cycles",
    "daynight.nights.wrappers": "daynight.wrappers",
    "daynight.pruning.capacity": "daynight.capacity",
    "daynight.pruning.masks": "daynight.pruning",
    "daynight.study.paper.open_questions": "daynight.study.unsaid",
    "daynight.study.tournament.contestants": "daynight.study.contestants",
    "daynight.testing.timers": "daynight.testing",
    "daynight.testing.toys": "daynight.testing",
    "daynight.training.settings": "daynight.training",
}
#: The names in files of single functions and classes for which `MODULES` is not right.
SINGLE = {
    "daynight.data.splits.LazyDataset": "daynight.lazy.LazyDataset",
    "daynight.data.splits.LazyInputs": "daynight.lazy.LazyInputs",
    "daynight.nights.schedules.ExplicitCycles": "daynight.policies.ExplicitCycles",
    "daynight.nights.schedules.NoSleep": "daynight.policies.NoSleep",
    "daynight.nights.schedules.OneShot": "daynight.policies.OneShot",
    "daynight.nights.schedules.UniformCycles": "daynight.policies.UniformCycles",
    "daynight.nights.schedules.recommended_policy": "daynight.recommended.recommended_policy",
}


def name_in_files(module: str, qualname: str) -> str:
    """Return the full name that files have for a function or class.

    Args:
        module: The module that defines it.
        qualname: Its name there.
    """
    name = f"{module}.{qualname}"
    return SINGLE.get(name, f"{MODULES.get(module, module)}.{qualname}")
