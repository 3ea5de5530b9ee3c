"""The study's open question: is there a region of N where accuracy falls before it rises again?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import attrs

from daynight.study import figures, statistics
from daynight.study.figures import panels
from daynight.study.plans import Plan, Source
from daynight.study.statistics import Summary
from daynight.study.tables import Rows

#: What becomes of the optimizer's state at each cycle of a night.
STATES = {"cleared": False, "kept": True}


@attrs.frozen
class Dip:
    """Three N, of which the second does worse than those around it.

    Attributes:
        before: The smaller N.
        lowest: The N between.
        after: The larger N.
        fall: Difference of the second to the first, seed by seed.
        rise: Difference of the third to the second.
    """

    before: int
    lowest: int
    after: int
    fall: Summary
    rise: Summary

    @property
    def is_shown(self) -> bool:
        """Whether both intervals leave out zero."""
        return self.fall.high < 0 < self.rise.low


def deepest(values: Mapping[int, Mapping[int, float]], confidence: float = statistics.CONFIDENCE) -> Dip | None:
    """Give the dip that is clearest: of all triples of N, that whose fall and rise are most of their standard errors.

    Args:
        values: Accuracy by N and seed; two or more seeds.
        confidence: Probability that all intervals which were looked at cover their means. There is one for each two N,
            so that each has 1 - (1 - confidence) / number of pairs (Bonferroni's correction).

    Returns:
        The dip, or None if accuracy never falls and then rises.
    """
    pairs = list(itertools.combinations(sorted(values), 2))
    one = 1 - (1 - confidence) / max(1, len(pairs))
    found = {(a, b): statistics.paired(values[b], values[a], one) for a, b in pairs}
    best: tuple[float, Dip | None] = 0.0, None
    for a, b, c in itertools.combinations(sorted(values), 3):
        fall, rise = found[a, b], found[b, c]
        clear = min(_in_errors(-fall.mean, fall), _in_errors(rise.mean, rise))
        if clear > best[0]:
            best = clear, Dip(a, b, c, fall, rise)
    return best[1]


def dips(plan: Plan, results: Source) -> tuple[Any, Rows]:
    """Accuracy against N with the optimizer's state cleared or kept at each cycle, and the clearest dip of each."""
    figure, axes = panels(len(plan.prunings))
    rows: Rows = []
    for panel, p in zip(axes, plan.prunings, strict=True):
        for state, is_kept in STATES.items():
            training = attrs.evolve(plan.training, carry_optimizer=is_kept)
            own = results("PackNet", plan.n_cycle_seeds, [p], plan.cycles, training=training)
            groups = {int(key[0]): group for key, group in own.groups("policy.n").items()}
            figures.line_of_cycles(panel, {n: group.summary("mean_accuracy") for n, group in groups.items()}, state)
            found = row_of({n: group.values("mean_accuracy") for n, group in groups.items()})
            rows.append({"p": p, "optimizer state": state, "runs": len(own), **found})
        panel.set_title(f"{plan.dataset.upper()}, $p$ = {p:g}", fontsize="medium")
    axes[0].legend(frameon=False, fontsize="small", title="optimizer state")
    return figure, rows


def row_of(values: Mapping[int, Mapping[int, float]]) -> dict[str, Any]:
    """Give the clearest dip as a row of a table.

    Args:
        values: Accuracy by N and seed; two or more seeds.
    """
    dip = deepest(values)
    if dip is None:
        row: dict[str, Any] = dict.fromkeys(("from N", "to N", "on to N"), "")
        row |= dict.fromkeys(("fall", "fall low", "fall high", "rise", "rise low", "rise high"), math.nan)
    else:
        row = {
            "from N": dip.before, "to N": dip.lowest, "on to N": dip.after, "fall": dip.fall.mean,
            "fall low": dip.fall.low, "fall high": dip.fall.high, "rise": dip.rise.mean,
            "rise low": dip.rise.low, "rise high": dip.rise.high,
        }  # fmt: skip
    return row | {"shown": "yes" if dip is not None and dip.is_shown else "no"}


def _in_errors(difference: float, summary: Summary) -> float:
    """Give a difference in units of its standard error; one that is the same for all seeds counts as large."""
    if difference <= 0 or math.isnan(summary.standard_error):
        return 0.0
    return difference / max(summary.standard_error, 1e-12)
