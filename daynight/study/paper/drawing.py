"""The paper's figures, drawn from results. Most functions draw into given axes, and return them."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from daynight import plots
from daynight.nights.cycle import Cycle
from daynight.plots.style import counted
from daynight.study.matching import Match
from daynight.study.results import Results
from daynight.study.statistics import Summary, summarize
from daynight.study.tables import Rows
from daynight.support import atomic

#: Colours and markers that differ in grey and for the colour-blind.
STYLES: dict[str, dict[str, Any]] = {
    "PackNet": {"color": "#3a78b5", "marker": "o"},
    "Memory": {"color": "#c8791b", "marker": "s"},
    "Multinet": {"color": "#1b1b3a", "marker": "^"},
    "Fine-tuning": {"color": "#8a8a8a", "marker": "x"},
    "From scratch": {"color": "#2f7d5b", "marker": "D"},
    "cleared": {"color": "#3a78b5", "marker": "o"},
    "kept": {"color": "#c8791b", "marker": "s"},
}
#: For several values side by side: shades that differ in lightness, and markers.
_SHADES, _MARKERS = ("#9ec1e4", "#3a78b5", "#1b1b3a"), ("o", "s", "^")


def panels(n: int, n_rows: int = 1) -> tuple[Any, list[Axes]]:
    """Return a figure with n axes in each row, and its axes row by row."""
    size = 3.4 * n + 0.6, 3.0 * n_rows
    figure, axes = plt.subplots(n_rows, n, figsize=size, layout="constrained", squeeze=False)
    return figure, list(axes.flat)


def save(figure: Any, folder: Path, name: str) -> None:
    """Write a figure as PDF and PNG, and close it.

    Args:
        figure: The figure.
        folder: The folder of the files.
        name: Name of the files, without an ending.

    Raises:
        OutputError: If a file cannot be written.
    """
    for ending in ("pdf", "png"):
        with atomic.replacing(folder / f"{name}.{ending}") as path:
            figure.savefig(path, dpi=200)
    plt.close(figure)


def against_pruning(axes: Axes, results: Mapping[str, Results], name: str = "mean_accuracy") -> Axes:
    """Draw accuracy against p, one line per method; bars are standard errors (the paper's Figure 1).

    Args:
        axes: Where to draw.
        results: The runs of each method, by its name; those with the same p differ only in their seed.
        name: The result to draw.
    """
    shown, drawn = set[float](), []
    for method, own in results.items():
        points = {float(key[0]): group.summary(name) for key, group in own.groups("free_at_end").items()}
        _line(axes, [1 - p for p in sorted(points)], [points[p] for p in sorted(points)], method)
        shown |= set(points)
        drawn.append(points.values())
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.xaxis.set_major_locator(FixedLocator(sorted(1 - p for p in shown)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda kept, _: f"{1 - kept:g}"))
    axes.tick_params(axis="x", rotation=45)
    counts = [summary.n for line in drawn for summary in line]
    axes.set_xlabel(f"fraction of weights free at the end, $p$\n{counted(counts, 'standard errors')}")
    axes.set_ylabel("mean accuracy")
    axes.legend(frameon=False)
    return axes


def against_cycles(axes: Axes, results: Results, title: str, name: str = "mean_accuracy") -> Axes:
    """Draw accuracy against N, with standard errors, and each run as a dot (the paper's Figures 2 and 4).

    Args:
        axes: Where to draw.
        results: Runs that differ in the number of cycles and in their seed.
        title: Title of the axes.
        name: The result to draw.
    """
    groups = {int(key[0]): group for key, group in results.groups("policy.n").items()}
    for n, group in groups.items():
        values = list(group.values(name).values())
        axes.plot([n] * len(values), values, ".", color="#b5b5b5", ms=3, zorder=1)
    line_of_cycles(axes, {n: group.summary(name) for n, group in groups.items()}, "PackNet")
    axes.set_title(title, fontsize="medium")
    return axes


def line_of_cycles(axes: Axes, summaries: Mapping[int, Summary], label: str) -> Axes:
    """Draw a line against N, with standard errors.

    Args:
        axes: Where to draw.
        summaries: The accuracy, by N.
        label: Label of the line.
    """
    order = sorted(summaries)
    _line(axes, order, [summaries[n] for n in order], label)
    places = sorted({n for drawn in axes.containers for n in drawn[0].get_xdata()})
    labelled: list[float] = []
    for n in places:
        if not labelled or n >= labelled[-1] * (1.15 if n < 10 else 1.4):
            labelled.append(n)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}" if n in labelled else ""))
    axes.tick_params(axis="x", labelsize="small")
    said = counted([one.n for one in summaries.values()], "standard errors", axes.get_xlabel().rpartition("\n")[2])
    axes.set_xlabel(f"cycles a night, $N$\n{said}")
    axes.set_ylabel("mean accuracy")
    return axes


def per_task(axes: Axes, results: Mapping[str, Results], tasks: Sequence[str], title: str) -> Axes:
    """Draw the accuracy on each task, one group of points per task, with standard errors (the paper's Figure 3).

    Args:
        axes: Where to draw.
        results: The runs of each method, by its name; those of one method differ only in their seed.
        tasks: Names of the tasks.
        title: Title of the axes.
    """
    width = 0.8 / len(results)
    for place, (method, own) in enumerate(results.items()):
        last = np.asarray([matrix[-1] for matrix in own.values("accuracy").values()], dtype=np.float64)
        summaries = [summarize(list(column)) for column in last.T]
        offset = (place - (len(results) - 1) / 2) * width
        _points(axes, [index + offset for index in range(len(tasks))], summaries, method)
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set_xlabel(f"task\n{counted([len(own) for own in results.values()], 'standard errors')}")
    axes.set_ylabel("accuracy")
    axes.set_title(title, fontsize="medium")
    return axes


def legend_above(figure: Any, axes: Axes) -> None:
    """Draw one legend above all panels: within a panel, its entries look like further points.

    Args:
        figure: The figure.
        axes: One of its panels.
    """
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)


def gains(axes: Axes, summaries: Mapping[str, Summary], title: str) -> Axes:
    """Draw differences in accuracy, one below the other, with their confidence intervals.

    Args:
        axes: Where to draw.
        summaries: The differences, by name.
        title: Title of the axes.
    """
    for place, (name, summary) in enumerate(reversed(list(summaries.items()))):
        reach = 0.0 if math.isnan(summary.low) else summary.mean - summary.low
        axes.errorbar([summary.mean], [place], xerr=[reach], capsize=2, ms=4, **STYLES["PackNet"])
        axes.annotate(name, (0.01, place + 0.22), xycoords=("axes fraction", "data"), fontsize="x-small")
    axes.axvline(0, color="#b5b5b5", lw=1, zorder=0)
    axes.set_ylim(-0.5, len(summaries) - 0.2)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel(f"gain in mean accuracy\n{counted([one.n for one in summaries.values()], '95 %')}")
    axes.set_title(title, fontsize="medium")
    return axes


def contest(rows: Rows, night_of: Callable[[str], Sequence[Cycle]], n_columns: int = 12) -> Any:
    """Draw each policy's night above its errors, the best policies first.

    Args:
        rows: Each with ``"policy"``, ``"p"``, ``"error %"``, and optionally ``"error % standard error"`` and the
            number of ``"seeds"``.
        night_of: Returns the cycles of a policy's night by its name.
        n_columns: Number of policies side by side.
    """
    names = _ranked(rows)
    width = min(n_columns, len(names))
    n_bands = math.ceil(len(names) / width)
    figure, grid = plt.subplots(
        2 * n_bands, width, figsize=(1.15 * width + 0.8, 3.1 * n_bands), layout="constrained", squeeze=False,
        height_ratios=[1.0, 1.5] * n_bands,
    )  # fmt: skip
    for place in range(n_bands * width):
        upper, lower = (grid[2 * (place // width) + part, place % width] for part in (0, 1))
        if place >= len(names):
            upper.set_axis_off()
            lower.set_axis_off()
            continue
        plots.plan(night_of(names[place]), upper)
        upper.set(xticks=[], xlabel="", ylabel="")
        for twin in upper.get_shared_x_axes().get_siblings(upper):
            if twin is not upper:
                twin.set_axis_off()
        upper.set_title("\n".join(textwrap.wrap(names[place], 14)), fontsize="x-small")
        _errors(lower, rows, names[place])
        if place % width:
            upper.set_yticklabels([])
            lower.set_yticklabels([])
        else:
            lower.set_xlabel("$p$", fontsize="small")
            upper.set_ylabel("density", fontsize="small")
            lower.set_ylabel("error, %", fontsize="small")
    if counts := [row["seeds"] for row in rows if "seeds" in row]:
        figure.supxlabel(counted(counts, "standard errors"), fontsize="small")
    return figure


def evaluations(axes: Axes, match: Match, method: str) -> Axes:
    """Draw the evaluations of a matching: accuracy against compression, and the accuracy to reach."""
    kept = 1 - match.free_at_end
    points = [(kept / (1 - free), summary) for free, summary in match.evaluations]
    _points(axes, [x for x, _ in points], [summary for _, summary in points], method)
    axes.axhline(match.target.mean, color="#3a78b5", lw=1, label="PackNet")
    axes.axvspan(match.low, match.high, color="#e9ecf3", lw=0)
    counts = [match.target.n, *(summary.n for _, summary in points)]
    axes.set_xlabel(f"compression\n{counted(counts, 'standard errors')}")
    axes.set_ylabel("mean accuracy")
    beyond = ", or beyond" if match.at_edge else ""
    found = f"{match.compression:.2f}x{beyond}" if match.is_reached else "not reached"
    axes.set_title(f"{method}, $p$ = {match.free_at_end:g}: {found}", fontsize="medium")
    return axes


def _ranked(rows: Rows) -> list[str]:
    """Return the names of the policies by the ratio of their error to the usual error at each p, the best first."""
    errors = {(row["policy"], row["p"]): max(float(row["error %"]), 1e-6) for row in rows}
    usual = {
        p: statistics.geometric_mean(error for (_, other), error in errors.items() if other == p) for _, p in errors
    }
    scores: dict[str, list[float]] = {}
    for (name, p), error in errors.items():
        scores.setdefault(name, []).append(error / usual[p])
    return sorted(scores, key=lambda name: statistics.geometric_mean(scores[name]))


def _errors(axes: Axes, rows: Rows, name: str) -> None:
    """Draw the errors of one policy against p, on axes with the limits of all policies."""
    prunings = sorted({row["p"] for row in rows})
    bars = [(row["error %"], float(np.nan_to_num(row.get("error % standard error", 0.0)))) for row in rows]
    worst = max(error + bar for error, bar in bars)
    best = max(min(max(error - bar, error / 2) for error, bar in bars), 1e-2)
    for row, (error, bar) in zip(rows, bars, strict=True):
        if row["policy"] == name:
            at = prunings.index(row["p"])
            style: dict[str, Any] = {
                "color": _SHADES[at % len(_SHADES)],
                "marker": _MARKERS[at % len(_MARKERS)],
                "ms": 4,
                "capsize": 2,
            }
            axes.errorbar([at], [error], yerr=[bar], **style)
    axes.set_yscale("log")
    axes.set_ylim(best / 1.15, worst * 1.15)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{error:g}"))
    axes.grid(axis="y", lw=0.5, color="#dddddd")
    axes.set_xlim(-0.6, len(prunings) - 0.4)
    axes.set_xticks(range(len(prunings)), [f"{p:g}" for p in prunings], fontsize="xx-small", rotation=60)


def _line(axes: Axes, x: Sequence[float], summaries: Sequence[Summary], method: str) -> None:
    axes.errorbar(x, *_bars(summaries), label=method, lw=1.2, ms=4, capsize=2, zorder=2, **STYLES.get(method, {}))


def _points(axes: Axes, x: Sequence[float], summaries: Sequence[Summary], method: str) -> None:
    style: dict[str, Any] = {"ls": "", "ms": 4, "capsize": 2, **STYLES.get(method, {"marker": "o"})}
    axes.errorbar(x, *_bars(summaries), label=method, **style)


def _bars(summaries: Sequence[Summary]) -> tuple[list[float], list[float]]:
    errors = [0.0 if math.isnan(summary.standard_error) else summary.standard_error for summary in summaries]
    return [summary.mean for summary in summaries], errors
