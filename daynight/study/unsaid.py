"""What the study does not say, measured: other choices against the usual ones, with the same seeds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import attrs
from torch import nn

from daynight.nights.schedules import GeometricCycles, equal_number
from daynight.study import figures
from daynight.study.figures import panels
from daynight.study.plans import Network, Plan, Source
from daynight.study.tables import Rows


def choices(plan: Plan, results: Source) -> tuple[Any, Rows]:
    """What the study leaves unsaid: the gain in accuracy of other choices over the usual ones, seed by seed."""
    figure, axes = panels(len(plan.prunings))
    rows: Rows = []
    for panel, p in zip(axes, plan.prunings, strict=True):
        gains = {}
        for name, (n_cycles, changes) in CHOICES.items():
            usual = results("PackNet", plan.n_seeds, [p], [n_cycles])
            other = results("PackNet", plan.n_seeds, [p], [n_cycles], **changes(plan))
            accuracy, gain = other.summary("mean_accuracy"), other.compare(usual, "mean_accuracy")
            gains[name] = gain
            rows.append(
                {
                    "p": p, "choice": name, "N": n_cycles, "runs": gain.n, "accuracy": accuracy.mean,
                    "accuracy standard error": accuracy.standard_error, "gain": gain.mean, "gain low": gain.low,
                    "gain high": gain.high,
                }
            )  # fmt: skip
        figures.gains(panel, gains, plan.title(p))
    return figure, rows


def _without_bias(network: Network, n_outputs: int) -> nn.Module:
    """Make a head like the network's, without a bias."""
    *_, head = network().modules()
    assert isinstance(head, nn.Linear)
    return nn.Linear(head.in_features, n_outputs, bias=False)


Changes = Callable[[Plan], dict[str, Any]]
#: What the study does not say, each with the number of cycles to look at it with, and the other choice.
CHOICES: dict[str, tuple[int, Changes]] = {
    "biases frozen after the first task": (1, lambda plan: {"biases": "freeze-after-first"}),
    "heads without bias": (1, lambda plan: {"make_head": functools.partial(_without_bias, plan.network)}),
    "free weights drawn anew": (1, lambda plan: {"restart": "redraw"}),
    "free weights taken up": (1, lambda plan: {"restart": "keep"}),
    "one ranking of all layers": (1, lambda plan: {"ranking": "global"}),
    "optimizer carried through a night": (
        8, lambda plan: {"training": attrs.evolve(plan.training, carry_optimizer=True)}),
    "equal cuts of the total": (8, lambda plan: {"policy": GeometricCycles(8, 1.0, density=equal_number)}),
}  # fmt: skip
