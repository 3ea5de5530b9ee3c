"""The figures and tables of the paper, each made by one command.

    python -m daynight.study.paper figure2 --dataset mnist --jobs 2

does the runs that are not in the store yet, and writes a figure (PDF and PNG) and a table (CSV) into the folder --out,
where it replaces older files of the same name. Data are read only if runs are missing:

    python -m daynight.study.paper figure2 --store docs/results/study/mnist

draws from the committed runs, offline. The command can be stopped at any time; the same command then continues.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from daynight.errors import SettingError
from daynight.pruning.capacity import check_free_at_end
from daynight.study import commands
from daynight.study.matching import Match, match
from daynight.study.paper import drawing, open_questions, setups
from daynight.study.paper.drawing import panels
from daynight.study.paper.setups import METHODS, UNPRUNED, Setup, Source
from daynight.study.results import Results
from daynight.study.tables import Rows
from daynight.support import checks


def figure1(setup: Setup, results: Source) -> tuple[Any, Rows]:
    """Accuracy against p for three methods, N = 1."""
    found = {method: results(method, setup.n_seeds, setup.curve) for method in METHODS}
    figure, axes = panels(1)
    drawing.against_pruning(axes[0], found)
    axes[0].set_title(setup.dataset.upper(), fontsize="medium")
    rows = [{"method": method, **row} for method, own in found.items() for row in own.table(["free_at_end"], _VALUES)]
    for row in rows:
        row["published"] = _published(setup, row["free_at_end"]) if row["method"] == "PackNet" else math.nan
    return figure, rows


def figure2(setup: Setup, results: Source) -> tuple[Any, Rows]:
    """Accuracy against N at a fixed budget."""
    return _against_cycles(setup, results("PackNet", setup.n_cycle_seeds, setup.prunings, setup.cycles))


def figure3(setup: Setup, results: Source) -> tuple[Any, Rows]:
    """Accuracy on each task, with Memory and Multinet matched to PackNet."""
    figure, axes = panels(len(setup.prunings))
    rows: Rows = []
    for panel, p in zip(axes, setup.prunings, strict=True):
        found = {"PackNet": results("PackNet", setup.n_seeds, [p])}
        for method in ("Memory", "Multinet"):
            found[method] = results(method, setup.n_seeds, [matched(setup, results, method, p).matched])
        title = f"$p$ = {p:g}, mean {found['PackNet'].summary('mean_accuracy').mean:.3f}"
        drawing.per_task(panel, found, setup.tasks, title)
        for method, own in found.items():
            last = [matrix[-1] for matrix in own.values("accuracy").values()]
            means = [sum(column) / len(column) for column in zip(*last, strict=True)]
            rows.append(
                {
                    "p": p, "method": method, "runs": len(own),
                    **dict(zip(setup.tasks, means, strict=True)), **own.table([], _VALUES)[0],
                    "published": _published(setup, p) if method == "PackNet" else math.nan,
                }
            )  # fmt: skip
    drawing.legend_above(figure, axes[0])
    return figure, rows


def figure4(setup: Setup, results: Source) -> tuple[Any, Rows]:
    """Accuracy against N without a fixed budget: each of the N REMs is as long as the whole night with N = 1."""
    found = [results("PackNet", setup.n_cycle_seeds, setup.prunings, [n], nights=float(n)) for n in setup.unbudgeted]
    return _against_cycles(setup, Results(entry for own in found for entry in own))


def table1(setup: Setup, results: Source) -> tuple[Any, Rows]:
    """Compression: how many times fewer weights Memory and Multinet own at PackNet's accuracy."""
    pairs = [(p, method) for method in ("Memory", "Multinet") for p in setup.prunings]
    figure, axes = panels(len(setup.prunings), n_rows=2, is_shared=True)
    rows: Rows = []
    for panel, (p, method) in zip(axes, pairs, strict=True):
        found = matched(setup, results, method, p)
        drawing.evaluations(panel, found, method)
        rows.append(
            {
                "p": p, "method": method, "runs": found.reached.n, "PackNet": found.target.mean,
                "PackNet standard error": found.target.standard_error, "reached": found.reached.mean,
                "reached standard error": found.reached.standard_error, "p of method": found.matched,
                "compression": found.compression, "compression low": found.low, "compression high": found.high,
                "published": setups.COMPRESSION[setup.dataset][method].get(p, math.nan),
                "gap": found.gap, "equal": "yes" if found.is_reached else "no",
                "beyond": "may be" if found.at_edge else "", "evaluations": len(found.evaluations),
            }
        )  # fmt: skip
    for panel in axes:
        panel.label_outer()
    drawing.legend_above(figure, axes[0], axes[-1])
    return figure, rows


def baselines(setup: Setup, results: Source) -> tuple[Any, Rows]:
    """PackNet and other methods at equal cost: accuracy on each task at the end, forgetting, weights and steps."""
    figure, axes = panels(len(setup.prunings))
    rows: Rows = []
    for panel, p in zip(axes, setup.prunings, strict=True):
        found = {method: results(method, setup.n_seeds, [p]) for method in (*METHODS, *UNPRUNED)}
        drawing.per_task(panel, found, setup.tasks, setup.title(p))
        for method, own in found.items():
            is_pruned = method in METHODS
            if not is_pruned and p != setup.prunings[0]:
                continue  # does not depend on p
            one = own.entries[0]["result"]
            rows.append(
                {
                    "method": method, "p": p if is_pruned else math.nan, **own.table([], _VALUES)[0],
                    "forgetting": own.summary("forgetting").mean if "forgetting" in one else math.nan,
                    "weights owned": sum(one["owned"]), "private": sum(one["private"]), "steps": one["n_steps"],
                }
            )  # fmt: skip
    drawing.legend_above(figure, axes[0])
    return figure, rows


def matched(setup: Setup, results: Source, method: str, p: float) -> Match:
    """Match a method to PackNet at p (see `daynight.study.matching`)."""
    target = results("PackNet", setup.n_seeds, [p]).summary("mean_accuracy")
    return match(
        p, target, lambda free: results(method, setup.n_seeds, [free]).summary("mean_accuracy"),
        tolerance=setup.tolerance, curve=setup.curve,
    )  # fmt: skip


FIGURES: dict[str, Callable[[Setup, Source], tuple[Any, Rows]]] = {
    "figure1": figure1, "figure2": figure2, "figure3": figure3, "figure4": figure4, "table1": table1,
    "baselines": baselines, "choices": open_questions.choices, "dips": open_questions.dips,
    "optimizer": open_questions.optimizer,
}  # fmt: skip
_VALUES = ["mean_accuracy"]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = commands.new_parser("paper", __doc__, "figures and tables", "")
    add = parser.add_argument
    add("what", choices=sorted(FIGURES), help="what to make")
    add("--dataset", choices=("mnist", "cifar10", "cifar10-small"), default="mnist", help="data set (mnist)")
    add("--seeds", type=int, metavar="S", help="number of seeds (figures 2 and 4, dips and optimizer: 10, else 5; of "
        "cifar10-small 3)")  # fmt: skip
    add("--images", type=int, metavar="I", help="number of training images per task (all; of cifar10-small 1,000)")
    add("--epochs", type=float, metavar="E", help="epochs of each wake")
    add("--budget", type=float, metavar="B", help="epochs of each night")
    add("--prunings", type=float, nargs="+", metavar="P", help="fractions of weights free at the end")
    add("--cycles", type=int, nargs="+", metavar="N", help="numbers of cycles per night (figures 2 and 4, dips and "
        "optimizer)")  # fmt: skip
    add("--tolerance", type=float, metavar="T", help="relative tolerance of the kept fraction in table1 and figure3 "
        "(0.1; of cifar10-small 0.2)")  # fmt: skip
    add("--biases", choices=("per-task", "freeze-after-first"), default="per-task", help="whether each task has its "
        "own biases (per-task); for the same as --cycles")  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the missing runs, and write figure and table."""
    settings = parse(arguments)
    setup = setup_of(settings)
    commands.check(settings)
    fetch = commands.fetch_of(settings, setup.stream, setup.data)
    figure, rows = FIGURES[settings.what](setup, setups.source(setup, fetch))
    commands.write(settings, f"{settings.what}_{settings.dataset}", figure, rows)


def setup_of(settings: argparse.Namespace) -> Setup:
    """Return the setup that the command line asks for.

    Raises:
        SettingError: If an option is not valid.
    """
    _check_options(settings)
    if settings.images is not None:
        checks.integer("--images", settings.images, least=1)
    setup = setups.full(settings.dataset, commands.data_of(settings), settings.images)
    setup = setups.quick(setup, settings.images) if settings.quick else setup
    changes: dict[str, Any] = {}
    if settings.seeds is not None:
        seeds = checks.integer("--seeds", settings.seeds, least=2 if settings.what in _PAIRED else 1)
        changes |= {"n_seeds": seeds, "n_cycle_seeds": seeds}
    if settings.tolerance is not None:
        changes["tolerance"] = checks.finite("--tolerance", settings.tolerance, least=1e-6)
    for name in ("epochs", "budget"):
        if getattr(settings, name) is not None:
            changes[name] = checks.finite(f"--{name}", getattr(settings, name), least=0)
    if settings.prunings:
        prunings = tuple(dict.fromkeys(check_free_at_end(p) for p in settings.prunings))
        changes["curve" if settings.what == "figure1" else "prunings"] = prunings
    if settings.cycles:
        cycles = tuple(dict.fromkeys(checks.integer("--cycles", n, least=1) for n in settings.cycles))
        if settings.what == "dips" and len(cycles) < 3:
            raise SettingError(f"--cycles must be three numbers or more for dips, such as 1 8 72, not {cycles}.")
        changes |= {"cycles": cycles, "unbudgeted": cycles}
    if settings.biases != "per-task":
        changes["settings"] = {"biases": settings.biases}
    return attrs.evolve(setup, **changes)


def _check_options(settings: argparse.Namespace) -> None:
    """Raise SettingError if an option has no effect on the chosen figure or table."""
    for name, value, usual in (("cycles", settings.cycles, None), ("biases", settings.biases, "per-task"),
                               ("tolerance", settings.tolerance, None)):  # fmt: skip
        if value != usual and settings.what not in _ONLY[name]:
            *first, last = _ONLY[name]
            raise SettingError(f"--{name} is for {', '.join(first)} and {last}, and has no effect on {settings.what}.")


#: The figures and tables that compare runs seed by seed, which takes two seeds.
_PAIRED = ("dips", "optimizer")
#: The figures and tables on which an option has an effect. All other options have an effect on all of them.
_ONLY = {
    "cycles": ("dips", "figure2", "figure4", "optimizer"),
    "biases": ("dips", "figure2", "figure4", "optimizer"),
    "tolerance": ("figure3", "table1"),
}


def _against_cycles(setup: Setup, results: Results) -> tuple[Any, Rows]:
    figure, axes = panels(len(setup.prunings))
    rows: Rows = []
    for panel, p in zip(axes, setup.prunings, strict=True):
        own = results.select(free_at_end=p)
        groups = {n: group for (n,), group in own.groups("policy.n").items()}
        most = max(map(len, groups.values()))
        means = {n: one.summary("mean_accuracy").mean for n, one in groups.items() if len(one) == most}
        order = sorted(means, key=means.__getitem__)
        places = {order[0]: "worst", order[-1]: "best"} if len(order) > 1 else {}
        drawing.against_cycles(panel, own, setup.title(p))
        once = groups.get(1)
        for n, group in groups.items():
            row = {"p": p, "N": n, **group.table(["policy.n"], _VALUES)[0]}
            del row["policy.n"]
            if once is not None:
                gain = group.compare(once, "mean_accuracy")
                row |= {"gain over N = 1": gain.mean, "gain low": gain.low, "gain high": gain.high}
            row["published"] = _published(setup, p) if n == 1 else math.nan
            rows.append(row | {"of these N": places.get(n, "")})
    return figure, rows


def _published(setup: Setup, p: float) -> float:
    """Return the paper's mean accuracy at N = 1; NaN where the paper has none."""
    return setups.ACCURACY[setup.dataset].get(p, math.nan)
