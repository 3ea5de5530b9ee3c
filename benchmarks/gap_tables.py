r"""Tables and figures of the gap at equal nights, from the runs of `gap.py` and those of the study.

    python benchmarks/gap_tables.py

prints the tables; the page `docs/gap.rst` shows them, with the figures. A run of the study counts if it has the
settings of a run of `gap.py`; if both have it, that of `gap.py` counts. A mean counts from two seeds on.

**Compression** is how many times fewer weights a method owns than PackNet with the same error. The method's mean errors
by weights are made falling (isotonic regression), and interpolated with both on a logarithmic scale. Its interval
comes from 1,000 draws of all means, each from its own Student's t distribution: few seeds make it wide. "More than" and
"less than" say that the equal error is beyond the weights that were tried.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import gap
import lives
import numpy as np
import rows

import daynight as dn
from daynight.storage.identity import describe
from daynight.study import Store
from daynight.study.statistics import Summary, paired, summarize

STORE = Path(__file__).parents[1] / "docs" / "results" / "study" / "mnist"
#: Runs of PackNet with other criteria (`criteria.py`); here, a criterion is a lift.
CRITERIA = Path(__file__).parents[1] / "docs" / "results" / "criteria.csv"
BY_CHANGE = "criterion output_change"
BY_NEED = f"{BY_CHANGE}, shares by need"
N_DRAWS = 1000
PRUNINGS = tuple(sorted(gap.PRUNINGS))
METHODS, NIGHTS, RESTARTS = ("PackNet", "Memory", "Multinet"), (gap.ONE, gap.BEST, gap.UNIFORM), ("zero", "redraw")
TITLES = {gap.ONE: "one prune", gap.BEST: "recommended", gap.UNIFORM: "uniform, 72"}
#: Number of units of each hidden layer.
WIDTH = 256
Rows = list[dict[str, Any]]
Kind = tuple[str, str, str, str]  # method, nights, restart, lift


@attrs.frozen(kw_only=True)
class Run:
    """A run: what it is, how many weights its tasks own together, and its error.

    Attributes:
        error: Mean over the tasks of the share of test images that get the wrong class.
        row: The row of `gap.py`; empty for a run of the study.
    """

    kind: Kind
    p: float
    seed: int
    weights: int
    error: float
    row: Mapping[str, str] = attrs.field(factory=dict)


Runs = dict[Kind, dict[float, dict[int, Run]]]


def read(path: Path = gap.RESULTS, store: Path = STORE, criteria: Path = CRITERIA) -> Runs:
    """Return all runs: by kind, by p, and by seed."""
    found: Runs = defaultdict(lambda: defaultdict(dict))
    own = rows.read(path)[1] if path.exists() else []
    others = lives.read(criteria) if criteria.exists() else []
    for run in [
        *filter(None, map(of_study, Store(store))),
        *map(of_row, own),
        *filter(None, map(of_criterion, others)),
    ]:
        found[run.kind][run.p][run.seed] = run
    return found


def of_row(row: Mapping[str, str]) -> Run:
    """Return the run of a row of `gap.py`."""
    return Run(
        kind=(row["method"], row["nights"], row["restart"], row["lift"]), p=float(row["p"]), seed=int(row["seed"]),
        weights=sum(json.loads(row["owned"])), error=1 - float(row["accuracy"]), row=row,
    )  # fmt: skip


def of_criterion(row: Mapping[str, str]) -> Run | None:
    """Return the run of a row of `criteria.py`; None if it is of another kind, or by magnitude, as all others here."""
    fixed = {
        "on": "test", "stream": "mnist", "nights": "recommended", "ranking": "layer", "epochs": "72",
    }  # fmt: skip
    if not fixed.items() <= row.items() or row["criterion"] == "magnitude":
        return None
    lift = f"criterion {row['criterion']}" + (", shares by need" if row["share"] == "need" else "")
    return Run(
        kind=("PackNet", gap.BEST, "zero", lift), p=float(row["p"]), seed=int(row["seed"]),
        weights=sum(map(int, row["owned"].split())), error=float(row["error"]) / 100,
    )  # fmt: skip


@functools.cache
def settings_of_study() -> tuple[dict[str, str], dict[str, str], dict[str, Any]]:
    """Return what names methods and nights in the store, and the other settings that a run must have."""
    from daynight.study.paper import setups

    methods = {json.dumps(describe(function)): name for name, function in setups.METHODS.items()}
    nights = {json.dumps(describe(gap.policy_of(name))): name for name in NIGHTS}
    setup = setups.full("mnist")
    fixed = {"network": setup.network, "training": setup.training, "wake": dn.Epochs(72), "night": dn.Epochs(72)}
    return methods, nights, {name: describe(value) for name, value in fixed.items()}


def of_study(entry: Mapping[str, Any]) -> Run | None:
    """Return the run of an entry of the study's store; None if `gap.py` has no such runs."""
    methods, nights, fixed = settings_of_study()
    settings = dict(entry["run"]["settings"])
    method, policy = methods.get(json.dumps(entry["run"]["method"])), json.dumps(settings.pop("policy", None))
    seed, p, restart = settings.pop("seed"), settings.pop("free_at_end", None), settings.pop("restart", "zero")
    if settings != fixed or method is None or policy not in nights:
        return None
    result = entry["result"]
    return Run(
        kind=(method, nights[policy], restart, ""), p=p, seed=seed, weights=sum(result["owned"]),
        error=1 - result["mean_accuracy"],
    )  # fmt: skip


@attrs.frozen
class Compression:
    """How many times fewer weights a method owns at equal error, with a 95 % interval.

    Attributes:
        is_least: Whether each of the three numbers is the least that it may be, since the equal error is beyond the
            fewest weights that were tried.
        is_most: Whether each is the largest that it may be, since it is beyond the most weights.
    """

    value: float
    low: float
    high: float
    is_least: tuple[bool, bool, bool] = (False, False, False)
    is_most: tuple[bool, bool, bool] = (False, False, False)

    @property
    def texts(self) -> list[str]:
        """The value and the ends of the interval, in words."""
        return [
            ("more than " if least else "less than " if most else "") + f"{number:.2f}"
            for number, least, most in zip((self.value, self.low, self.high), self.is_least, self.is_most, strict=True)
        ]

    @property
    def verdict(self) -> str:
        """What the interval shows of a gap, for a sentence of Multinet and PackNet."""
        if self.low > 1 and not self.is_most[1]:
            return "Multinet owns fewer weights, by more than chance"
        if self.high < 1 and not self.is_least[2]:
            return "PackNet owns fewer weights, by more than chance"
        return f"neither a gap nor its absence is shown, and {self.texts[2]} fits as well"

    def __str__(self) -> str:
        value, low, high = self.texts
        return f"{value} ({low} to {high})"


def compression(target: Iterable[Run], curve: Mapping[float, Mapping[int, Run]]) -> Compression | None:
    """Return how many times fewer weights a method owns than runs of another method, at equal error.

    Args:
        target: The runs of the other method, which differ in their seed.
        curve: The method's runs by p and seed.

    Returns:
        The compression; None if there are less than two runs of the other method, or of the method at two p.
    """
    target = list(target)
    points = sorted((mean_of(own, "weights"), errors_of(own)) for own in curve.values() if len(own) > 1)
    if len(target) < 2 or len(points) < 2:
        return None
    weights = np.log([weight for weight, _ in points])
    errors = [summarize(values) for _, values in points]
    aim, owned = summarize([run.error for run in target]), math.log(target[0].weights)
    generator = np.random.default_rng(0)
    drawn = np.stack([np.exp(owned - at_error(weights, *draw)) for draw in draws(errors, aim, generator)])
    value = float(np.exp(owned - at_error(weights, [one.mean for one in errors], aim.mean)))
    low, high = (float(end) for end in np.quantile(drawn, (0.025, 0.975), method="nearest"))
    least, most = math.exp(owned - weights[-1]), math.exp(owned - weights[0])
    found = (value, low, high)
    return Compression(
        *found, tuple(number >= most * 0.999 for number in found), tuple(number <= least * 1.001 for number in found)
    )  # fmt: skip


def draws(errors: Sequence[Summary], aim: Summary, generator: np.random.Generator) -> Iterable[tuple[Any, float]]:
    """Yield draws of the mean errors of a curve, and of that to reach."""
    summaries = [*errors, aim]
    means, scatter = (np.array([getattr(one, name) for one in summaries]) for name in ("mean", "standard_error"))
    for _ in range(N_DRAWS):
        drawn = means + scatter * generator.standard_t([one.n - 1 for one in summaries])
        yield drawn[:-1], drawn[-1]


def at_error(weights: np.ndarray, errors: Sequence[float], error: float) -> float:
    """Return the logarithm of the number of weights at which an error is reached, within those that were tried.

    Args:
        weights: Logarithms of numbers of weights, rising.
        errors: The mean error with each.
        error: The error.
    """
    logs = np.log(np.maximum(falling(errors), 1e-6))
    return float(np.interp(math.log(max(error, 1e-6)), logs[::-1], weights[::-1]))


def falling(values: Sequence[float]) -> np.ndarray:
    """Return the values that fall, or stay, and are closest to the given ones (isotonic regression).

    Source: R. E. Barlow et al., "Statistical Inference under Order Restrictions", 1972: pool adjacent violators.
    """
    blocks = list[tuple[float, int]]()  # mean and number
    for value in values:
        mean, n = float(value), 1
        while blocks and blocks[-1][0] < mean:
            before, m = blocks.pop()
            mean, n = (before * m + mean * n) / (m + n), m + n
        blocks.append((mean, n))
    return np.concatenate([np.full(n, mean) for mean, n in blocks])


def errors_of(own: Mapping[int, Run]) -> list[float]:
    """Return the errors of runs that differ in their seed."""
    return [run.error for run in own.values()]


def mean_of(own: Mapping[int, Run], name: str) -> float:
    """Return the mean of a number of runs."""
    return float(np.mean([getattr(run, name) for run in own.values()]))


def compressions(found: Runs) -> Rows:
    """Return the table of compression against PackNet, with equal nights and, of Memory, with the same restart."""
    table: Rows = []
    for nights, restart, lift in itertools.product(NIGHTS, RESTARTS, ("", BY_CHANGE, BY_NEED)):
        packnet = found.get(("PackNet", nights, restart, lift), {})
        for p in PRUNINGS:
            own = packnet.get(p, {})
            if len(own) < 2:
                continue
            row: dict[str, Any] = {"nights": TITLES[nights], "restart": restart, "p": p}
            row["PackNet's criterion"] = lift.removeprefix("criterion ") or "magnitude"
            row["weights"] = f"{mean_of(own, 'weights'):,.0f}"
            row["PackNet, error %"] = percent(summarize(errors_of(own)))
            for method in ("Memory", "Multinet"):
                curve = found.get((method, nights, restart if method == "Memory" else "zero", ""), {})
                result = compression(own.values(), curve)
                row[f"{method}, times fewer"] = "not measured" if result is None else str(result)
                row[f"{method}, seeds"] = seeds_of(curve)
            table.append(row)
    return table


def shown(found: Runs) -> list[str]:
    """Return what is known of a gap from PackNet by `output_change`, with recommended nights: a line for each p."""
    curve, lines = found.get(("Multinet", gap.BEST, "zero", ""), {}), []
    for p, lift in itertools.product(PRUNINGS, (BY_CHANGE, BY_NEED)):
        own = found.get(("PackNet", gap.BEST, "zero", lift), {}).get(p, {})
        if result := compression(own.values(), curve):
            seeds = f"with {len(own)} seeds of PackNet and {seeds_of(curve)} of Multinet"
            shares = "by need" if lift == BY_NEED else "equal"
            lines.append(f"- At p = {p:g}, shares {shares}, {seeds}, it is {result}: {result.verdict}.")
    return lines or ["Not measured yet."]


def percent(summary: Summary) -> str:
    """Return a mean error in percent with its standard error, and the number of seeds."""
    return f"{100 * summary.mean:.2f} ± {100 * summary.standard_error:.2f} ({summary.n})"


def seeds_of(curve: Mapping[float, Mapping[int, Run]]) -> str:
    """Return how many seeds a curve has at its p."""
    numbers = sorted({len(own) for own in curve.values() if len(own) > 1})
    return "" if not numbers else f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def differences(found: Runs) -> Rows:
    """Return what another restart, and each lift, gains: percentage points of error, seed by seed."""
    table: Rows = []
    for kind in sorted(found, key=lambda kind: (METHODS.index(kind[0]), kind[3], NIGHTS.index(kind[1]), kind[2])):
        method, nights, restart, lift = kind
        usual = found.get((method, nights, "zero", ""), {})
        if (restart, lift) == ("zero", ""):
            continue
        for p, own in sorted(found[kind].items()):
            shared = own.keys() & usual.get(p, {}).keys()
            if len(shared) < 2:
                continue
            before, after = ({seed: 100 * runs[seed].error for seed in shared} for runs in (usual[p], own))
            gain = paired(before, after)
            table.append(
                {"method": method, "what": lift or f"restart {restart!r}", "nights": TITLES[nights], "p": p,
                 "seeds": gain.n, "error %": f"{np.mean(list(before.values())):.2f}",
                 "with it": f"{np.mean(list(after.values())):.2f}",
                 "gain": f"{gain.mean:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})"}
            )  # fmt: skip
    return table


def units(found: Runs) -> Rows:
    """Return what becomes of units and weights, by restart: means over seeds and all days but the first."""
    table: Rows = []
    for method in ("PackNet", "Memory"):
        for nights in NIGHTS:
            for p in PRUNINGS:
                for restart in RESTARTS:
                    own = [run.row for run in found.get((method, nights, restart, ""), {}).get(p, {}).values()
                           if run.row]  # fmt: skip
                    if own:
                        table.append(
                            {"method": method, "nights": TITLES[nights], "p": p, "restart": restart,
                             "seeds": len(own), **looked_at(own)}
                        )  # fmt: skip
    return table


def looked_at(own: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return what the rows of some runs say of units and weights, on the days after the first."""
    values = {name: np.array([json.loads(row[name]) for row in own]) for name in (
        "silent_dusk", "no_gradient", "in_vain", "owned", "blank")}  # fmt: skip
    silent, missing, vain = (values[name][:, 1:].mean((0, 1)) for name in ("silent_dusk", "no_gradient", "in_vain"))
    owned = values["owned"][:, 1:].mean()
    return {
        "silent at dusk": f"{silent[0]:.0f}, {silent[1]:.0f}", "no gradient": f"{missing[0]:.0f}, {missing[1]:.0f}",
        "in vain %": f"{100 * vain[0] / owned:.1f}, {100 * vain[1] / owned:.1f}",
        "blank %": f"{100 * values['blank'][:, 1:].mean() / owned:.1f}",
    }  # fmt: skip


def coverage(found: Runs) -> Rows:
    """Return how many seeds there are of each kind of runs, at each p of the grid; 0 is not measured yet."""
    kinds = dict.fromkeys((run["method"], run["nights"], run["restart"], run["lift"]) for run in gap.grid())
    prunings = sorted((*gap.PRUNINGS, *gap.MORE))
    order = sorted(kinds, key=lambda kind: (METHODS.index(kind[0]), kind[3], NIGHTS.index(kind[1]), kind[2]))
    return [
        {"method": kind[0], "lift": kind[3], "nights": TITLES[kind[1]], "restart": kind[2],
         **{f"p = {p:g}": len(found.get(kind, {}).get(p, {})) for p in prunings}}
        for kind in order
    ]  # fmt: skip


def errors_figure(found: Runs) -> Any:
    """Draw errors over weights, with a panel for each kind of nights that has runs."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    from daynight.plots.style import AS_IT_IS, WHOLE, bare, counted
    from daynight.study.paper.drawing import STYLES

    changes = {
        ("zero", ""): ("", {"ls": "-"}), ("redraw", ""): (", redraw", {"ls": ":"}),
        ("zero", BY_CHANGE): (f", {BY_CHANGE.partition(' ')[2]}", {"ls": "--", "mfc": "white", "marker": "D"}),
        ("zero", BY_NEED): (f", {BY_NEED.partition(' ')[2]}", {"ls": "-.", "mfc": "white", "marker": "s"}),
    }  # fmt: skip
    curves = defaultdict[str, dict[str, tuple[Any, Any]]](dict)  # points and style, by nights and label
    for nights, method, (change, (word, style)) in itertools.product(NIGHTS, METHODS, changes.items()):
        curve = found.get((method, nights, *change), {}).values()
        points = sorted((mean_of(own, "weights"), summarize(errors_of(own))) for own in curve if len(own) > 1)
        if points:
            curves[nights][method + word] = points, STYLES[method] | style
    size = {"figsize": (10.5, 3.8), "layout": "constrained"}
    figure, (axes,) = plt.subplots(1, max(1, len(curves)), sharex=True, sharey=True, squeeze=False, **size)
    for ax, (nights, own) in zip(axes, curves.items(), strict=False):
        for label, (points, style) in own.items():
            weights, means = zip(*points, strict=True)
            errors, bars = ([100 * getattr(one, name) for one in means] for name in ("mean", "standard_error"))
            ax.errorbar(weights, errors, bars, label=label, ms=4.5, lw=1.2, capsize=2, **style)
        n = counted((one.n for points, _ in own.values() for _, one in points), "standard errors")
        ax.set(xscale="log", yscale="log", title=TITLES[nights], xlabel=f"owned weights, all tasks\n{n}")
        ax.xaxis.set_major_formatter(WHOLE)
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(AS_IT_IS)
        ax.yaxis.set_minor_formatter(NullFormatter())
        bare(ax)
    axes[0].set_ylabel("error on test images, %")
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, fontsize="small")
    return figure


def units_figure(found: Runs, p: float = 0.995) -> Any:
    """Draw silent units at dusk, and weights in vain, by day, for PackNet with both restarts."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.4), layout="constrained")
    titles = ("silent units at dusk, layer 1", "silent units at dusk, layer 2", "owned weights in vain, %")
    styles = dict(zip(NIGHTS, (("#c8791b", "s"), ("#3a78b5", "o"), ("#1b1b3a", "^")), strict=True))
    for nights in NIGHTS:
        for restart, line in zip(RESTARTS, ("-", ":"), strict=True):
            runs = found.get(("PackNet", nights, restart, ""), {}).get(p, {}).values()
            own = [run.row for run in runs if run.row]
            if not own:
                continue
            silent = np.array([json.loads(row["silent_dusk"]) for row in own])
            vain, owned = (np.array([json.loads(row[name]) for row in own]) for name in ("in_vain", "owned"))
            series = (silent[:, :, 0], silent[:, :, 1], 100 * vain.sum(2) / owned)
            for ax, values in zip(axes, series, strict=True):
                label = f"{TITLES[nights]}, {restart} (n = {len(own)})"
                color, marker = styles[nights]
                ax.plot(range(1, 6), values.mean(0), line, color=color, marker=marker, ms=4, lw=1.4, label=label)
    for ax, title in zip(axes, titles, strict=True):
        ax.set(title=title, xlabel="day (means of n runs, no bars)", xticks=range(1, 6))
        ax.set_ylim(bottom=0, top=WIDTH if "units" in title else None)
        ax.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return figure


#: The tables, by the name of what shows them.
TABLES = {"compression": compressions, "differences": differences, "units": units, "coverage": coverage}
FIGURES = {"compression": errors_figure, "units": units_figure}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=gap.RESULTS, metavar="CSV", help="the table of gap.py")
    found = read(parser.parse_args().runs)
    for name, function in TABLES.items():
        table = function(found)
        print(f"\n{name}" + ("" if table else ": no runs yet"))
        if table:
            print(*table[0], sep=" | ")
        for row in table:
            print(*row.values(), sep=" | ")


if __name__ == "__main__":
    main()
