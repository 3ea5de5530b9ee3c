"""daynight: agents that learn by day and consolidate by night.

The public names are those listed here and the modules `daynight.study`, `daynight.testing`, `daynight.loggers`,
`daynight.plots` and `daynight.data.adapters`. The package is laid out in layers, from the ground up: errors and
metrics; support; data, history and the plug-ins; networks and nights; pruning and plots; training, reports and loggers;
storage; agent; clock; study and testing; cli. A module imports only from layers below its own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from daynight import criteria, errors, metrics, models, rates
from daynight._version import __version__
from daynight.agent import Agent
from daynight.clock import Clock
from daynight.data.replay import Replay
from daynight.data.splits import LazyDataset, Split
from daynight.data.streams import permuted_mnist, rotated_mnist, split_cifar10, split_mnist
from daynight.data.tasks import Task, TaskStream
from daynight.data.unions import union, within_union
from daynight.history import History, Progress, Record
from daynight.networks.masked import MaskedNetwork
from daynight.nights.budgets import Budget, Epochs, Ledger, Steps
from daynight.nights.cycle import Cycle, Night
from daynight.nights.deadlines import Seconds, Timer, Until
from daynight.nights.gate import Gate
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
    # agents and time
    "Agent",
    "Capacity",
    "Clock",
    # data
    "LazyDataset",
    "Replay",
    "Split",
    "Task",
    "TaskStream",
    "permuted_mnist",
    "rotated_mnist",
    "split_cifar10",
    "split_mnist",
    "union",
    "within_union",
    # nights: budgets, cycles, policies, and policies that change others
    "Budget",
    "Epochs",
    "Ledger",
    "Seconds",
    "Steps",
    "Timer",
    "Until",
    "Cycle",
    "Night",
    "SleepPolicy",
    "Controlled",
    "ExplicitCycles",
    "GeometricCycles",
    "GradualPruning",
    "NoSleep",
    "OneShot",
    "UniformCycles",
    "recommended_policy",
    "Around",
    "Capped",
    "Floored",
    "Rated",
    "Rewound",
    "WarmStart",
    # networks and pruning
    "MaskedNetwork",
    "kept_fraction_per_night",
    "pruned_fraction_per_round",
    # tasks that go on
    "Gate",
    # training
    "Training",
    # what happened
    "History",
    "Progress",
    "Record",
    "plots",
    # plug-ins and errors
    "criteria",
    "errors",
    "metrics",
    "models",
    "rates",
    # version
    "__version__",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Import `plots`, and with it Matplotlib, only when it is asked for."""
    if name == "plots":
        return importlib.import_module("daynight.plots")
    raise AttributeError(f"module 'daynight' has no attribute {name!r}")
