"""The paper's figures, drawn from results. Most functions draw into given axes, and return them."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from daynight.nights.cycle import Cycle
from daynight.plots.style import COLOURS, bare, counted, limit, plain_log
from daynight.study.matching import Match
from daynight.study.results import Results
from daynight.study.statistics import Summary, reach_of, summarize
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
    "kept over cleared": {"color": "#3a78b5", "marker": "o"},
}
#: For several values side by side: shades that differ in lightness, and markers.
_SHADES, _MARKERS = ("#9ec1e4", "#3a78b5", "#1b1b3a"), ("o", "s", "^")


def panels(n: int, n_rows: int = 1, *, is_shared: bool = False) -> tuple[Any, list[Axes]]:
    """Return a figure with n axes in each row, and its axes row by row; with `is_shared`, all have the same scales."""
    size = 3.4 * n + 0.6, 3.0 * n_rows
    figure, axes = plt.subplots(
        n_rows, n, figsize=size, layout="constrained", squeeze=False, sharex=is_shared, sharey=is_shared
    )
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


def against_pruning(axes: Axes, results: Mapping[str, Results]) -> Axes:
    """Draw the mean error against p, one line per method; bars are standard errors (the paper's Figure 1).

    The paper draws accuracies. Errors on a logarithmic scale show the differences between accuracies near 1, too.

    Args:
        axes: Where to draw.
        results: The runs of each method, by its name; those with the same p differ only in their seed.
    """
    shown, drawn = set[float](), []
    for method, own in results.items():
        groups = own.groups("free_at_end").items()
        points = {float(key[0]): _error_of(group.summary("mean_accuracy")) for key, group in groups}
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
    _scale_errors(axes, [(one.mean, one.standard_error) for line in drawn for one in line])
    axes.set_ylabel("mean error, %")
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
    lines: tuple[list[float], list[float]] = [], []  # labels that would touch stand on two lines
    for n in places:
        for line in lines:
            if not line or n >= line[-1] * (1.15 if n < 10 else 1.4):
                line.append(n)
                break
    labels = {n: "\n" * row + f"{n:g}" for row, line in enumerate(lines) for n in line}
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: labels.get(n, "")))
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


def legend_above(figure: Any, *panels: Axes) -> None:
    """Draw one legend above all panels: within a panel, its entries look like further points.

    Args:
        figure: The figure.
        panels: Panels that together have all entries.
    """
    found: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=len(found), frameon=False)


def gains(axes: Axes, summaries: Mapping[str, Summary], title: str) -> Axes:
    """Draw differences in accuracy, one below the other, with their confidence intervals.

    Args:
        axes: Where to draw.
        summaries: The differences, by name.
        title: Title of the axes.
    """
    for place, (name, summary) in enumerate(reversed(list(summaries.items()))):
        axes.errorbar([summary.mean], [place], xerr=[summary.mean - summary.low], capsize=2, ms=4, **STYLES["PackNet"])
        axes.annotate(
            name, (0.01, place), (0, 5), xycoords=("axes fraction", "data"), textcoords="offset points",
            fontsize="x-small",
        )  # fmt: skip
    axes.axvline(0, color="#b5b5b5", lw=1, zorder=0)
    axes.set_ylim(-0.4, len(summaries) - 0.3)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel(f"gain in mean accuracy\n{counted([one.n for one in summaries.values()], '95 %')}")
    axes.set_title(title, fontsize="medium")
    return axes


def contest(rows: Rows, night_of: Callable[[str], Sequence[Cycle]], in_words: Callable[[str], str] = str) -> Any:
    """Draw the errors of policies, with 95 % intervals, one row per policy with its night, the best policies first.

    The row of the policy that was chosen or, if the rows do not say so, of the best policy is marked.

    Args:
        rows: Each with ``"policy"``, ``"p"``, ``"error %"``, and optionally ``"error % standard error"``, the number of
            ``"seeds"``, and ``"chosen"``.
        night_of: Returns the cycles of a policy's night by its name.
        in_words: Returns what a policy does by its name.
    """
    names, prunings = _ranked(rows), sorted({row["p"] for row in rows})
    chosen = next((row["policy"] for row in rows if row.get("chosen") == "policy"), None)
    labels = ["\n".join(textwrap.wrap(in_words(name), 44)) for name in names]
    pitch = max(0.1 + 0.1 * len(prunings), 0.1 + 0.13 * max(label.count("\n") + 1 for label in labels))
    figure, (nights, axes) = plt.subplots(
        1, 2, sharey=True, width_ratios=(1, 5), figsize=(9.0, 1.1 + pitch * len(names)), layout="constrained"
    )
    winner = names.index(chosen or names[0])
    for panel in (nights, axes):
        marked = panel.axhspan(winner - 0.5, winner + 0.5, color="#f6e3bd", lw=0, zorder=0)
    marked.set_label("chosen" if chosen else "fewest errors")
    for place, name in enumerate(names):
        _night(nights, night_of(name), place)
    for at, p in enumerate(prunings):
        own = [row for row in rows if row["p"] == p]
        errors, reaches = zip(*map(_bar, own), strict=True)
        aside = 0.6 / len(prunings) * (at - (len(prunings) - 1) / 2)
        axes.errorbar(
            errors, [names.index(row["policy"]) + aside for row in own], xerr=reaches, ls="", ms=4,
            capsize=2, color=_SHADES[at % len(_SHADES)], marker=_MARKERS[at % len(_MARKERS)], label=f"$p$ = {p:g}",
        )  # fmt: skip
    _scale_errors(axes, [_bar(row) for row in rows], "x")
    axes.set_xlabel("error, %")
    nights.set_xlabel("night: density", fontsize="small")
    nights.set(xticks=[], xlim=(-0.03, 1.03), ylim=(len(names) - 0.5, -0.5))
    nights.set_yticks(range(len(names)), labels, fontsize="x-small")
    nights.get_yticklabels()[winner].set_fontweight("bold")
    nights.spines[:].set_visible(False)
    bare(axes)
    for panel in (nights, axes):
        panel.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper right", ncols=len(prunings) + 1, frameon=False, fontsize="small")
    counts = [row.get("seeds", 1) for row in rows]
    axes.set_title(counted(counts, "95 %"), loc="right", fontsize="small", color="0.3")
    return figure


def evaluations(axes: Axes, match: Match, method: str) -> Axes:
    """Draw the evaluations of a matching: mean error against compression, and the error to reach."""
    kept = 1 - match.free_at_end
    points = [(kept / (1 - free), _error_of(summary)) for free, summary in match.evaluations]
    _points(axes, [x for x, _ in points], [summary for _, summary in points], method)
    target = _error_of(match.target)
    axes.axhline(target.mean, color="#3a78b5", lw=1, label="PackNet, to be reached")
    axes.axvspan(match.low, match.high, color="#e9ecf3", lw=0, label="within a standard error of it")
    _scale_errors(axes, [(one.mean, one.standard_error) for one in (target, *(summary for _, summary in points))])
    counts = [match.target.n, *(summary.n for _, summary in points)]
    axes.set_xlabel(f"compression\n{counted(counts, 'standard errors')}")
    axes.set_ylabel("mean error, %")
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


def _error_of(accuracy: Summary) -> Summary:
    """Return the error in percent that belongs to an accuracy, 0 to 1."""
    low, high = 100 * (1 - accuracy.high), 100 * (1 - accuracy.low)
    return Summary(accuracy.n, 100 * (1 - accuracy.mean), 100 * accuracy.standard_error, low, high)


def _bar(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return the error of a row, and how far its 95 % interval reaches to both sides."""
    return float(row["error %"]), reach_of(row.get("seeds", 1), row.get("error % standard error", math.nan))


def _scale_errors(axes: Axes, bars: Iterable[tuple[float, float]], which: Literal["x", "y"] = "y") -> None:
    """Give axes a logarithmic scale of errors in percent, with plain numbers, on which some bars are seen.

    A bar that reaches down to zero is cut off at a third of its error. Shared axes show the errors of all.

    Args:
        axes: The axes.
        bars: Errors, and how far their bars reach to both sides; NaN for no bar.
        which: ``"x"`` or ``"y"``.
    """
    known = [(error, 0.0 if math.isnan(reach) else reach) for error, reach in bars if error > 0] or [(1.0, 0.0)]
    low = min(max(error - reach, error / 3) for error, reach in known)
    limit(axes, which, low / 1.2, 1.2 * max(error + reach for error, reach in known))
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    plain_log(axis)
    low, high = axis.get_view_interval()
    if high > 5 * low:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.grid(axis=which, alpha=0.3)


def _night(axes: Axes, cycles: Sequence[Cycle], place: int) -> None:
    """Draw the density of a night over its course, on a logarithmic scale, within the row at a place."""
    shares, densities = [0.0], [1.0]
    for cycle in cycles:
        shares += [shares[-1], shares[-1] + cycle.length]
        densities += [float(cycle.keep)] * 2
    depth = np.log(densities) / min(math.log(densities[-1]), -1e-9)
    axes.plot(shares, place - 0.32 + 0.64 * depth, color=COLOURS["rem"], lw=1.0)


def _line(axes: Axes, x: Sequence[float], summaries: Sequence[Summary], method: str) -> None:
    axes.errorbar(x, *_bars(summaries), label=method, lw=1.2, ms=4, capsize=2, zorder=2, **STYLES.get(method, {}))


def _points(axes: Axes, x: Sequence[float], summaries: Sequence[Summary], method: str) -> None:
    style: dict[str, Any] = {"ls": "", "ms": 4, "capsize": 2, **STYLES.get(method, {"marker": "o"})}
    axes.errorbar(x, *_bars(summaries), label=method, **style)


def _bars(summaries: Sequence[Summary]) -> tuple[list[float], list[float]]:
    """Return means and their standard errors; that of a single run is NaN, so that it has no bar."""
    return [summary.mean for summary in summaries], [summary.standard_error for summary in summaries]
