"""Questions that the paper leaves open: whether accuracy dips at some N, and the effect of unstated choices."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from torch import nn

from daynight.errors import DataError
from daynight.nights.schedules import GeometricCycles, equal_number
from daynight.study import statistics
from daynight.study.paper import drawing
from daynight.study.paper.drawing import panels
from daynight.study.paper.setups import Network, Setup, Source
from daynight.study.results import Results
from daynight.study.statistics import Summary
from daynight.study.tables import Rows

#: The optimizer's state at each cycle of a night, and the setting `carry_optimizer`.
STATES = {"cleared": False, "kept": True}


@attrs.frozen
class Dip:
    """Three N, the second of which has a lower accuracy than the other two.

    Attributes:
        before: The smaller N.
        lowest: The N between.
        after: The larger N.
        fall: Accuracy at the second N minus that at the first, seed by seed.
        rise: Accuracy at the third N minus that at the second.
    """

    before: int
    lowest: int
    after: int
    fall: Summary
    rise: Summary

    @property
    def is_shown(self) -> bool:
        """Whether both intervals exclude zero."""
        return self.fall.high < 0 < self.rise.low


def deepest(values: Mapping[int, Mapping[int, float]], confidence: float = statistics.CONFIDENCE) -> Dip | None:
    """Return the clearest dip: of all triples of N, the one with the most standard errors in both fall and rise.

    Args:
        values: Accuracy by N and seed; two or more seeds.
        confidence: Probability that all intervals cover their means. There is one interval per pair of N, each with
            the confidence 1 - (1 - confidence) / number of pairs (Bonferroni's correction).

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


def dips(setup: Setup, results: Source) -> tuple[Any, Rows]:
    """Accuracy against N, with the optimizer's state cleared or kept at each cycle, and the clearest dip of each."""
    found = by_state(setup, results)
    figure, axes = panels(len(found))
    rows: Rows = []
    for panel, (p, states) in zip(axes, found.items(), strict=True):
        for state, groups in states.items():
            drawing.line_of_cycles(panel, {n: group.summary("mean_accuracy") for n, group in groups.items()}, state)
            row = row_of({n: group.values("mean_accuracy") for n, group in groups.items()})
            looked_at = {"N": " ".join(map(str, groups)), "runs": sum(map(len, groups.values()))}
            rows.append({"p": p, "optimizer state": state, **looked_at, **row})
        panel.set_title(setup.title(p), fontsize="medium")
    axes[0].legend(frameon=False, fontsize="small", title="optimizer state")
    return figure, rows


def optimizer(setup: Setup, results: Source) -> tuple[Any, Rows]:
    """Gain in accuracy if the optimizer's state is kept at each cycle rather than cleared, at each N, seed by seed."""
    pairs = {}
    for p, states in by_state(setup, results).items():
        cleared, kept = (states.get(state, {}) for state in STATES)
        if both := sorted(cleared.keys() & kept.keys()):
            pairs[p] = {n: (cleared[n].values("mean_accuracy"), kept[n].values("mean_accuracy")) for n in both}
    if not pairs:
        raise DataError("there is no N with two seeds of both states of the optimizer. Do the runs of both first.")
    figure, axes = panels(len(pairs))
    rows: Rows = []
    for panel, (p, by_n) in zip(axes, pairs.items(), strict=True):
        gains = {n: statistics.paired(with_it, without) for n, (without, with_it) in by_n.items()}
        drawing.line_of_cycles(panel, gains, "kept over cleared")
        panel.axhline(0.0, color="0.7", linewidth=1.0, zorder=0)
        panel.set(title=setup.title(p), ylabel="gain in accuracy")
        for n, values in by_n.items():
            seeds = set.intersection(*map(set, values))
            means = (statistics.summarize(one[seed] for seed in seeds).mean for one in values)
            gain = {"": gains[n].mean, " low": gains[n].low, " high": gains[n].high}
            rows.append({"p": p, "N": n, "seeds": len(seeds), **dict(zip(STATES, means, strict=True))}
                        | {f"gain of kept{end}": value for end, value in gain.items()})  # fmt: skip
    return figure, rows


def by_state(setup: Setup, results: Source) -> dict[float, dict[str, dict[int, Results]]]:
    """Return the runs with uniform cycles by p, state of the optimizer and N.

    Of each p and state, only the N with the most seeds are returned, if these are two or more, so that every N is
    compared with the same number of seeds. A p or state without such an N is left out.

    Args:
        setup: How the tasks are learnt.
        results: Returns the runs.

    Raises:
        DataError: If no runs are left.
    """
    found: dict[float, dict[str, dict[int, Results]]] = {p: {} for p in setup.prunings}
    for state, is_kept in STATES.items():
        training = attrs.evolve(setup.training, carry_optimizer=is_kept)
        own = results("PackNet", setup.n_cycle_seeds, setup.prunings, setup.cycles, training=training)
        for (p,), group in own.groups("free_at_end").items():
            by_n = {int(n): runs for (n,), runs in group.groups("policy.n").items()}
            most = max(map(len, by_n.values()))
            if most > 1:
                found[p][state] = {n: by_n[n] for n in sorted(by_n) if len(by_n[n]) == most}
    found = {p: states for p, states in found.items() if states}
    if not found:
        raise DataError("there is no N with two seeds. Do more of the runs first, with --seeds 2 or more.")
    return found


def row_of(values: Mapping[int, Mapping[int, float]]) -> dict[str, Any]:
    """Return the clearest dip as a row of a table.

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
    shown = "yes" if dip is not None and dip.is_shown else "no"
    return row | {"shown": shown if len(values) > 2 else "too few N"}


def _in_errors(difference: float, summary: Summary) -> float:
    """Return a difference in units of its standard error, 0 if it is not positive; very large if the error is 0."""
    if difference <= 0 or math.isnan(summary.standard_error):
        return 0.0
    return difference / max(summary.standard_error, 1e-12)


def choices(setup: Setup, results: Source) -> tuple[Any, Rows]:
    """Gain in accuracy of other choices over the default ones, where the paper states no choice, seed by seed."""
    figure, axes = panels(len(setup.prunings))
    rows: Rows = []
    for panel, p in zip(axes, setup.prunings, strict=True):
        gains = {}
        for name, (n_cycles, changes) in CHOICES.items():
            usual = results("PackNet", setup.n_seeds, [p], [n_cycles])
            other = results("PackNet", setup.n_seeds, [p], [n_cycles], **changes(setup))
            accuracy, gain = other.summary("mean_accuracy"), other.compare(usual, "mean_accuracy")
            gains[name] = gain
            rows.append(
                {
                    "p": p, "choice": name, "N": n_cycles, "runs": gain.n, "accuracy": accuracy.mean,
                    "accuracy standard error": accuracy.standard_error, "gain": gain.mean, "gain low": gain.low,
                    "gain high": gain.high,
                }
            )  # fmt: skip
        drawing.gains(panel, gains, setup.title(p))
    return figure, rows


def _without_bias(network: Network, n_outputs: int) -> nn.Module:
    """Return a head like the network's, without a bias."""
    *_, head = network().modules()
    assert isinstance(head, nn.Linear)
    return nn.Linear(head.in_features, n_outputs, bias=False)


Changes = Callable[[Setup], dict[str, Any]]
#: The choices that the paper does not state: by name the number of cycles to compare at, and the other choice.
CHOICES: dict[str, tuple[int, Changes]] = {
    "biases frozen after the first task": (1, lambda setup: {"biases": "freeze-after-first"}),
    "heads without bias": (1, lambda setup: {"make_head": functools.partial(_without_bias, setup.network)}),
    "free weights drawn anew": (1, lambda setup: {"restart": "redraw"}),
    "free weights taken up": (1, lambda setup: {"restart": "keep"}),
    "one ranking of all layers": (1, lambda setup: {"ranking": "global"}),
    "optimizer carried through a night": (
        8, lambda setup: {"training": attrs.evolve(setup.training, carry_optimizer=True)}),
    "equal cuts of the total": (8, lambda setup: {"policy": GeometricCycles(8, 1.0, density=equal_number)}),
}  # fmt: skip
