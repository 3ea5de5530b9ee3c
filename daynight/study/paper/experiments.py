"""The study's figures and tables, each from one command.

    python -m daynight.study.paper figure2 --dataset mnist --jobs 2

runs what is not in the store yet, one small JSON file a run, and writes a figure (PDF and PNG) and a table (CSV) into
the folder named by --out, over those that it wrote there before. Stop it at any time: the same command goes on.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from daynight.errors import SettingError
from daynight.pruning.capacity import check_free_at_end
from daynight.study import tables
from daynight.study.matching import Match, match
from daynight.study.paper import drawing, open_questions, setups
from daynight.study.paper.drawing import panels
from daynight.study.paper.setups import METHODS, UNPRUNED, Plan, Source
from daynight.study.results import Results
from daynight.study.runner import Study
from daynight.study.tables import Rows
from daynight.support import atomic, checks


def figure1(plan: Plan, results: Source) -> tuple[Any, Rows]:
    """Accuracy against p for three methods, N = 1."""
    found = {method: results(method, plan.n_seeds, plan.curve) for method in METHODS}
    figure, axes = panels(1)
    drawing.against_pruning(axes[0], found)
    axes[0].set_title(plan.dataset.upper(), fontsize="medium")
    rows = [{"method": method, **row} for method, own in found.items() for row in own.table(["free_at_end"], _VALUES)]
    for row in rows:
        row["published"] = _published(plan, row["free_at_end"]) if row["method"] == "PackNet" else math.nan
    return figure, rows


def figure2(plan: Plan, results: Source) -> tuple[Any, Rows]:
    """Accuracy against N at a fixed budget."""
    return _against_cycles(plan, results("PackNet", plan.n_cycle_seeds, plan.prunings, plan.cycles))


def figure3(plan: Plan, results: Source) -> tuple[Any, Rows]:
    """Accuracy on each task, where Memory and Multinet are matched to PackNet."""
    figure, axes = panels(len(plan.prunings))
    rows: Rows = []
    for panel, p in zip(axes, plan.prunings, strict=True):
        found = {"PackNet": results("PackNet", plan.n_seeds, [p])}
        for method in ("Memory", "Multinet"):
            found[method] = results(method, plan.n_seeds, [matched(plan, results, method, p).matched])
        title = f"$p$ = {p:g}, mean {found['PackNet'].summary('mean_accuracy').mean:.3f}"
        drawing.per_task(panel, found, plan.tasks, title)
        for method, own in found.items():
            last = [matrix[-1] for matrix in own.values("accuracy").values()]
            means = [sum(column) / len(column) for column in zip(*last, strict=True)]
            rows.append(
                {
                    "p": p, "method": method, "runs": len(own),
                    **dict(zip(plan.tasks, means, strict=True)), **own.table([], _VALUES)[0],
                    "published": _published(plan, p) if method == "PackNet" else math.nan,
                }
            )  # fmt: skip
    drawing.legend_above(figure, axes[0])
    return figure, rows


def figure4(plan: Plan, results: Source) -> tuple[Any, Rows]:
    """Accuracy against N without a budget: each of the N REMs is as long as the whole night with N = 1."""
    found = [results("PackNet", plan.n_cycle_seeds, plan.prunings, [n], nights=float(n)) for n in plan.unbudgeted]
    return _against_cycles(plan, Results(entry for own in found for entry in own))


def table1(plan: Plan, results: Source) -> tuple[Any, Rows]:
    """How many times fewer weights Memory and Multinet need for PackNet's accuracy."""
    pairs = [(p, method) for method in ("Memory", "Multinet") for p in plan.prunings]
    figure, axes = panels(len(plan.prunings), n_rows=2)
    rows: Rows = []
    for panel, (p, method) in zip(axes, pairs, strict=True):
        found = matched(plan, results, method, p)
        drawing.evaluations(panel, found, method)
        rows.append(
            {
                "p": p, "method": method, "runs": found.reached.n, "PackNet": found.target.mean,
                "PackNet standard error": found.target.standard_error, "reached": found.reached.mean,
                "reached standard error": found.reached.standard_error, "p of method": found.matched,
                "compression": found.compression, "compression low": found.low, "compression high": found.high,
                "published": setups.COMPRESSION[plan.dataset][method].get(p, math.nan),
                "gap": found.gap, "equal": "yes" if found.is_reached else "no",
                "beyond": "may be" if found.at_edge else "", "evaluations": len(found.evaluations),
            }
        )  # fmt: skip
    return figure, rows


def baselines(plan: Plan, results: Source) -> tuple[Any, Rows]:
    """PackNet and its rivals at equal cost: accuracy on each task at the end, what was forgotten, and what it takes."""
    figure, axes = panels(len(plan.prunings))
    rows: Rows = []
    for panel, p in zip(axes, plan.prunings, strict=True):
        found = {method: results(method, plan.n_seeds, [p]) for method in (*METHODS, *UNPRUNED)}
        drawing.per_task(panel, found, plan.tasks, plan.title(p))
        for method, own in found.items():
            is_pruned = method in METHODS
            if not is_pruned and p != plan.prunings[0]:
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


def matched(plan: Plan, results: Source, method: str, p: float) -> Match:
    """Match a method to PackNet at p (see `daynight.study.matching`)."""
    target = results("PackNet", plan.n_seeds, [p]).summary("mean_accuracy")
    return match(
        p, target, lambda free: results(method, plan.n_seeds, [free]).summary("mean_accuracy"),
        tolerance=plan.tolerance, curve=plan.curve,
    )  # fmt: skip


FIGURES: dict[str, Callable[[Plan, Source], tuple[Any, Rows]]] = {
    "figure1": figure1, "figure2": figure2, "figure3": figure3, "figure4": figure4, "table1": table1,
    "baselines": baselines, "choices": open_questions.choices, "dips": open_questions.dips,
    "optimizer": open_questions.optimizer,
}  # fmt: skip
_VALUES = ["mean_accuracy"]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m daynight.study.paper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("what", choices=sorted(FIGURES), help="what to make")
    add("--dataset", choices=("mnist", "cifar10", "cifar10-small"), default="mnist", help="what is learnt (mnist)")
    add("--seeds", type=int, metavar="S", help="number of seeds (figures 2 and 4, dips and optimizer: 10, else 5; of "
        "cifar10-small 3)")  # fmt: skip
    add("--jobs", type=int, default=1, metavar="J", help="processes at a time (1)")
    add("--device", default="cpu", metavar="D", help="where runs are done, such as cuda; jobs share it (cpu)")
    add("--quick", action="store_true", help="few images, epochs, seeds and values: ends in minutes, and shows no more "
        "than that everything runs")  # fmt: skip
    add("--images", type=int, metavar="I", help="training images a task (all; of cifar10-small 1,000)")
    add("--epochs", type=float, metavar="E", help="epochs of each wake")
    add("--budget", type=float, metavar="B", help="epochs of each night")
    add("--prunings", type=float, nargs="+", metavar="P", help="fractions free at the end")
    add("--cycles", type=int, nargs="+", metavar="N", help="numbers of cycles a night (figures 2 and 4, dips and "
        "optimizer)")  # fmt: skip
    add("--tolerance", type=float, metavar="T", help="share of itself to which table1 and figure3 look for the kept "
        "fraction (0.1; of cifar10-small 0.2)")  # fmt: skip
    add("--biases", choices=("per-task", "freeze-after-first"), default="per-task", help="whether each task has biases "
        "of its own (per-task); for the same as --cycles")  # fmt: skip
    add("--data", choices=("full", "sample", "auto"), help="all of the images (default), or MNIST's sample of 5,000")
    add("--out", default="paper", metavar="FOLDER", help="where figures and tables go (paper)")
    add("--states", metavar="FOLDER", help="where unfinished runs put their state after each day, and first dusks are "
        "put by for other runs; delete it at the end (nowhere)")  # fmt: skip
    add("--store", metavar="FOLDER", help="where the runs are kept (FOLDER/runs)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that are missing, and write figure and table."""
    settings = parse(arguments)
    checks.usable_device(settings.device)
    plan = _plan(settings)
    out = atomic.check_folder(settings.out)
    study = Study(settings.store or out / "runs", jobs=settings.jobs, progress=True, states=settings.states,
                  device=settings.device)  # fmt: skip
    figure, rows = FIGURES[settings.what](plan, setups.source(plan, setups.doing(plan.stream, study)))
    name = f"{settings.what}_{settings.dataset}" + ("_quick" if settings.quick else "")
    drawing.save(figure, out, name)
    tables.write(out / f"{name}.csv", rows)
    print(tables.text(rows))
    print(f"Written: {out / name}.pdf, .png and .csv; {len(study.store)} runs in {study.store.folder}.")


def _plan(settings: argparse.Namespace) -> Plan:
    _check_options(settings)
    if settings.images is not None:
        checks.whole("--images", settings.images, least=1)
    data = settings.data or ("auto" if settings.quick else None)
    plan = setups.full(settings.dataset, data, settings.images)
    plan = setups.quick(plan, settings.images) if settings.quick else plan
    changes: dict[str, Any] = {}
    if settings.seeds is not None:
        seeds = checks.whole("--seeds", settings.seeds, least=2 if settings.what in _PAIRED else 1)
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
        cycles = tuple(dict.fromkeys(checks.whole("--cycles", n, least=1) for n in settings.cycles))
        if settings.what == "dips" and len(cycles) < 3:
            raise SettingError(f"--cycles must be three numbers or more for dips, such as 1 8 72, not {cycles}.")
        changes |= {"cycles": cycles, "unbudgeted": cycles}
    if settings.biases != "per-task":
        changes["settings"] = {"biases": settings.biases}
    return attrs.evolve(plan, **changes)


def _check_options(settings: argparse.Namespace) -> None:
    """Refuse an option that says nothing of what is to be made."""
    for name, value, usual in (("cycles", settings.cycles, None), ("biases", settings.biases, "per-task"),
                               ("tolerance", settings.tolerance, None)):  # fmt: skip
        if value != usual and settings.what not in _ONLY[name]:
            *first, last = _ONLY[name]
            raise SettingError(f"--{name} is for {', '.join(first)} and {last}, and says nothing of {settings.what}.")


#: What compares seed by seed, and says nothing of one.
_PAIRED = ("dips", "optimizer")
#: What some options are for.
_ONLY = {
    "cycles": ("dips", "figure2", "figure4", "optimizer"),
    "biases": ("dips", "figure2", "figure4", "optimizer"),
    "tolerance": ("figure3", "table1"),
}


def _against_cycles(plan: Plan, results: Results) -> tuple[Any, Rows]:
    figure, axes = panels(len(plan.prunings))
    rows: Rows = []
    for panel, p in zip(axes, plan.prunings, strict=True):
        own = results.select(free_at_end=p)
        groups = {n: group for (n,), group in own.groups("policy.n").items()}
        most = max(map(len, groups.values()))
        means = {n: one.summary("mean_accuracy").mean for n, one in groups.items() if len(one) == most}
        order = sorted(means, key=means.__getitem__)
        places = {order[0]: "worst", order[-1]: "best"} if len(order) > 1 else {}
        drawing.against_cycles(panel, own, plan.title(p))
        once = groups.get(1)
        for n, group in groups.items():
            row = {"p": p, "N": n, **group.table(["policy.n"], _VALUES)[0]}
            del row["policy.n"]
            if once is not None:
                gain = group.compare(once, "mean_accuracy")
                row |= {"gain over N = 1": gain.mean, "gain low": gain.low, "gain high": gain.high}
            row["published"] = _published(plan, p) if n == 1 else math.nan
            rows.append(row | {"of these N": places.get(n, "")})
    return figure, rows


def _published(plan: Plan, p: float) -> float:
    """Give the study's mean accuracy at N = 1, as far as it says so; NaN where it does not."""
    return setups.ACCURACY[plan.dataset].get(p, math.nan)
