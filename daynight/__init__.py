"""daynight: agents that learn by day and consolidate by night."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from daynight import criteria, errors, metrics, models, rates
from daynight._version import __version__
from daynight.agent import Agent
from daynight.clock import Clock
from daynight.data.splits import LazyDataset, Split
from daynight.data.streams import permuted_mnist, rotated_mnist, split_cifar10, split_mnist
from daynight.data.tasks import Task, TaskStream
from daynight.data.unions import union, within_union
from daynight.history import History, Progress, Record
from daynight.networks.masked import MaskedNetwork
from daynight.nights.budgets import Budget, Epochs, Ledger, Steps
from daynight.nights.cycle import Cycle, Night
from daynight.nights.deadlines import Seconds, Timer, Until
from daynight.nights.policy import SleepPolicy
from daynight.nights.reactive import Controlled
from daynight.nights.schedules import (
    ExplicitCycles,
    GeometricCycles,
    GradualPruning,
    NoSleep,
    OneShot,
    UniformCycles,
    recommended_policy,
)
from daynight.nights.wrappers import Around, Capped, Floored, Rated, Rewound, WarmStart
from daynight.pruning.capacity import Capacity, kept_fraction_per_night, pruned_fraction_per_round
from daynight.training.settings import Training

if TYPE_CHECKING:
    from daynight import plots

__all__ = [
    "Agent",
    "Around",
    "Budget",
    "Capacity",
    "Capped",
    "Clock",
    "Controlled",
    "Cycle",
    "Epochs",
    "ExplicitCycles",
    "Floored",
    "GeometricCycles",
    "GradualPruning",
    "History",
    "LazyDataset",
    "Ledger",
    "MaskedNetwork",
    "Night",
    "NoSleep",
    "OneShot",
    "Progress",
    "Rated",
    "Record",
    "Rewound",
    "Seconds",
    "SleepPolicy",
    "Split",
    "Steps",
    "Task",
    "TaskStream",
    "Timer",
    "Training",
    "UniformCycles",
    "Until",
    "WarmStart",
    "__version__",
    "criteria",
    "errors",
    "kept_fraction_per_night",
    "metrics",
    "models",
    "permuted_mnist",
    "plots",
    "pruned_fraction_per_round",
    "rates",
    "recommended_policy",
    "rotated_mnist",
    "split_cifar10",
    "split_mnist",
    "union",
    "within_union",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Import `plots`, and with it Matplotlib, only when it is asked for."""
    if name == "plots":
        return importlib.import_module("daynight.plots")
    raise AttributeError(f"module 'daynight' has no attribute {name!r}")
