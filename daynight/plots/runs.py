"""Figures of whole runs: which weights are owned, and the scores of the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import FuncNorm, Normalize
from matplotlib.ticker import FixedLocator, MaxNLocator, PercentFormatter

from daynight.errors import DataError, SettingError
from daynight.history import History
from daynight.networks.masked import MaskedNetwork
from daynight.plots.style import COLOURS, WHOLE, Colour, axes_or_new, bare, counted, limit, shades
from daynight.support import checks


def capacity(history: History, ax: Axes | None = None) -> Axes:
    """Draw how many weights each living task owns at each dawn, and how many are free.

    A task that has retired, or that another has succeeded, owns nothing from that dawn on. Drawn in grey, below all
    others, are weights of tasks from before the history's first day, and weights of retired tasks that others see.

    If a task has retired without a successor, the history says so only by the free weights and by who was evaluated.
    If this leaves open which one, it is taken to be the oldest.

    Args:
        history: A history with at least one finished day.
        ax: Axes to draw in; None makes a figure.

    Raises:
        DataError: If no day is finished, or the history does not contain the capacity.
    """
    checks.kind("capacity: history", history, History, "clock.history")
    days = history.select(kind="day")
    if not days:
        raise DataError(
            "the history holds no finished day yet, so there is nothing to draw. Call clock.run() first.",
            page="pictures",
        )
    total = days[0].capacity
    if total is None:
        raise DataError("the history does not contain the capacity. Make it with this version of daynight.")
    ax = axes_or_new(ax, 6.0, 4.0)
    names = [record.day for record in days]
    few = len(days) <= 12  # more labels would overlap
    bands, colours = bands_of(history), dict(zip(names, shades(len(days)), strict=True))
    tops = [total - (record.free or 0) for record in days]
    if few:
        for band in bands:
            ax.bar(
                names[band.first : band.end], band.top - band.bottom, bottom=band.bottom, width=0.8,
                color=colours.get(band.task, COLOURS["earlier"]), edgecolor="white", lw=0.6,
            )  # fmt: skip
            if band.end == len(days):
                label = f"task {band.task}" if band.task in colours else "earlier" if names[0] else "retired"
                place = names[-1] + 0.45, (band.bottom + band.top) / 2
                ax.annotate(label, place, va="center", fontsize="small")
        ax.set_xticks(names)
    else:
        ends = [*(name - 0.4 for name in names), names[-1] + 0.4]
        corners = [(ends[band.first], ends[band.end], band.bottom, band.top) for band in bands]
        areas = [[(left, low), (right, low), (right, high), (left, high)] for left, right, low, high in corners]
        shown = [colours.get(band.task, COLOURS["earlier"]) for band in bands]
        ax.add_collection(PolyCollection(areas, facecolors=shown, lw=0))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for index, (name, top) in enumerate(zip(names, tops, strict=True)):
        if len(days) <= 6 or index == len(days) - 1:
            ax.annotate(
                f"{1 - top / total:.2%} free", (name, top), xytext=(0, 3), textcoords="offset points",
                ha="center" if len(days) <= 6 else "right", fontsize="small",
            )  # fmt: skip
    ax.set_xlabel("dawn of day")
    ax.set_ylabel(f"owned weights, of {total:,}")
    ax.yaxis.set_major_formatter(WHOLE)
    limit(ax, "x", names[0] - 0.6, names[-1] + 0.5 + (0.14 * (len(days) + 1) if few else 0))
    limit(ax, "y", 0, max(1, *tops) * 1.1)
    share = ax.secondary_yaxis("right", functions=(lambda n: np.asarray(n) / total, lambda f: np.asarray(f) * total))
    share.yaxis.set_major_formatter(PercentFormatter(1.0))
    share.set_ylabel("owned share of all weights")
    ax.spines[["top"]].set_visible(False)
    return ax


class Band(NamedTuple):
    """What a task owns at some dawns in a row, in a pile of what all own.

    Attributes:
        task: Index of the task; -1 for weights of earlier tasks, and of retired ones that others see.
        first: Index of the first of these dawns, among the finished days of the history.
        end: Index of the dawn after the last one.
        bottom: Number of weights below it.
        top: Number of weights up to its end.
    """

    task: int
    first: int
    end: int
    bottom: int
    top: int


def bands_of(history: History) -> list[Band]:
    """Return how many weights each living task owns at each dawn, by task; at each dawn, the bands fill the owned part.

    Args:
        history: A history with finished days, whose records have the capacity.
    """
    successors, held = history.successors, dict[int, int]()
    found, now = list[Band](), dict[int, Band]()
    for index, record in enumerate(history.select(kind="day")):
        day, owned = record.day, (record.capacity or 0) - (record.free or 0)
        tested = history.tested(day, "dawn")  # all living tasks from the first of the clock's days on
        held |= {day: record.owned} if record.owned else {}
        for task in list(held):
            is_known = bool(tested) and min(tested) < task < max(tested)
            if successors.get(task, day + 1) <= day or (is_known and task not in tested):
                del held[task]
        while held and sum(held.values()) > owned:
            del held[min(held)]
        bottom, before, now = 0, now, {}
        for task, n in ((-1, owned - sum(held.values())), *held.items()):
            if n:
                band = before.get(task)
                is_same = band is not None and (band.bottom, band.top) == (bottom, bottom + n)
                first = band.first if band is not None and is_same else index
                now[task] = Band(task, first, index + 1, bottom, bottom + n)
                bottom += n
        found += [band for task, band in before.items() if task not in now or now[task].first == index]
    return sorted([*found, *now.values()])


def accuracy(history: History, phase: str = "dawn", ax: Axes | None = None) -> Axes:
    """Draw the score of each task at each dawn or dusk, as a matrix from the first to the last that were tested.

    If the highest score is from 0.9 to 1 and the lowest is not below 0, as with accuracies, the colours are on a
    logarithmic scale of the error, which is 1 minus the score: it tells 0.99 from 0.999.

    Args:
        history: A history with an evaluation.
        phase: ``"dawn"`` or ``"dusk"``.
        ax: Axes to draw in; None makes a figure.

    Raises:
        DataError: If the history holds no evaluation at `phase`.
        SettingError: If `phase` is not valid.
    """
    checks.kind("accuracy: history", history, History, "clock.history")
    scores = history.scores(phase)
    if not np.isfinite(scores).any():
        raise DataError(f"the history holds no evaluation at {phase} yet, so there is nothing to draw.")
    ends = [(int(found.min()), int(found.max())) for found in np.nonzero(np.isfinite(scores))]
    (top, bottom), (left, right) = ends
    scores = scores[top : bottom + 1, left : right + 1]
    height, width = (0.62 * min(max(n, 3), 12) for n in scores.shape)
    ax = axes_or_new(ax, 1.6 + width, 1.0 + height)
    is_near_one = bool(np.nanmin(scores) >= 0 and 0.9 <= np.nanmax(scores) <= 1)
    norm, ticks = _error_scale(scores) if is_near_one else (_score_scale(scores), None)
    picture = ax.imshow(scores, cmap="viridis", norm=norm, extent=(left - 0.5, right + 0.5, bottom + 0.5, top - 0.5))
    if (n := max(scores.shape)) <= 12:  # more numbers would overlap
        for (day, task), score in np.ndenumerate(scores):
            if np.isfinite(score):
                ax.annotate(
                    _short(score, (3 if n <= 8 else 2) + is_near_one), (left + task, top + day), ha="center",
                    va="center", fontsize="small", color="black" if norm(score) > 0.6 else "white",
                )  # fmt: skip
    for axis, (first, last) in zip((ax.yaxis, ax.xaxis), ends, strict=True):
        is_small = last - first < 12
        axis.set_major_locator(FixedLocator(range(first, last + 1)) if is_small else MaxNLocator(integer=True))
    ax.set_xlabel("task")
    ax.set_ylabel(f"{phase} of day")
    ax.spines[:].set_visible(False)
    assert ax.figure is not None
    bar = ax.figure.colorbar(picture, ax=ax, label=f"{history.metric} on test data", shrink=0.8)
    if ticks is not None:
        bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        bar.minorticks_off()
    return ax


def versions(history: History, ax: Axes | None = None) -> Axes:
    """Draw over the days the scores of each day's task: before its data are learnt, at dusk and at dawn.

    This is for tasks that succeed each other. The score before learning is that of the version before, on the training
    data of the day; the others are those of the day's task, on its test data. Days that a gate refused have none at
    dawn, and are marked by a cross at dusk.

    Args:
        history: A history with evaluations.
        ax: Axes to draw in; None makes a figure.

    Raises:
        DataError: If the history holds no such score.
    """
    checks.kind("versions: history", history, History, "clock.history")
    tests = history.select(kind="evaluation")
    lines = {
        "before learning, on the day's training data": ("before", "earlier", "o", 0.0),
        "at dusk, on test data": ("dusk", "wake", "o", 1.2),
        "at dawn, on test data": ("dawn", "rem", "o", 1.2),
        "refused, at dusk": ("dusk", "nrem", "x", 0.0),
    }
    refused = {record.day for record in history.select(kind="day") if record.accepted == 0}
    found = dict[str, list[tuple[int, float]]]()
    for label, (phase, _, marker, _) in lines.items():
        own = [test for test in tests if test.phase == phase and (phase == "before" or test.task == test.day)]
        found[label] = [(test.day, test.score or 0.0) for test in own if marker == "o" or test.day in refused]
    if not any(found.values()):
        raise DataError("the history holds no evaluation of a day's own task yet, so there is nothing to draw.")
    ax = axes_or_new(ax, 6.0, 4.0)
    for label, (_, colour, marker, width) in lines.items():
        if found[label]:
            ax.plot(
                *zip(*found[label], strict=True), label=label, marker=marker, ms=6 if marker == "x" else 3, lw=width,
                ls="-" if width else "", color=COLOURS[colour],
            )  # fmt: skip
    ax.set_xlabel("day")
    ax.set_ylabel(f"{history.metric} of the day's task")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(fontsize="small", frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    ax.grid(axis="y", alpha=0.3)
    bare(ax)
    return ax


def _score_scale(scores: np.ndarray) -> Normalize:
    """Return colours for scores of any kind."""
    low, high = np.nanmin(scores), np.nanmax(scores)
    span = max(high - low, 0.01 * max(abs(low), abs(high), 1e-6))  # equal scores need a range of colours, too
    return Normalize(low - 0.05 * span, low + span)


def _error_scale(scores: np.ndarray) -> tuple[Normalize, list[float]]:
    """Return colours for scores up to 1 by the logarithm of 1 - score, and scores to name beside them."""
    errors = 1 - scores[np.isfinite(scores)]
    least = float(min(errors[errors > 0], default=0.02)) / 2  # where errors of 0 are drawn
    low, high = max(float(errors.min()), least), max(float(errors.max()), 2 * least)
    norm = FuncNorm(
        (lambda s: -np.log(np.maximum(1 - np.asarray(s, dtype=float), least)), lambda t: 1 - np.exp(-np.asarray(t))),
        vmin=1 - 1.1 * high, vmax=1 - low,
    )  # fmt: skip
    marks = [1 - digit * 10.0**-power for power in range(7) for digit in (5, 2, 1)]
    shown = [mark for mark in marks if 1 - 1.1 * high <= mark <= 1 - low]
    return norm, shown[:: max(1, -(-len(shown) // 6))]


def _short(score: float, digits: int) -> str:
    return f"{score:.{digits}f}".removeprefix("0") if abs(score) < 10 else f"{score:.3g}"


def ownership(agent: Any, ax: Axes | None = None) -> Axes:
    """Draw the share of each layer's weights that each task owns; the rest of a row is free.

    Args:
        agent: A `daynight.Agent` with at least one finished task.
        ax: Axes to draw in; None makes a figure.

    Raises:
        SettingError: If `agent` is not an Agent.
        DataError: If no task is finished.
    """
    network = getattr(agent, "network", None)
    if not isinstance(network, MaskedNetwork):
        raise SettingError(f"ownership: agent must be an Agent, such as clock.agent, not {checks.shown(agent)}.")
    n_tasks, sizes = network.n_tasks, network.sizes
    if not n_tasks:
        raise DataError("the agent has finished no task yet, so nothing is owned.")
    ax = axes_or_new(ax, 6.5, 1.2 + 0.42 * len(sizes))
    left = np.zeros(len(sizes))
    for task, colour in enumerate(shades(n_tasks)):
        owned = network.count(task)
        widths = np.array([owned[name] / size for name, size in sizes.items()])
        ax.barh(range(len(sizes)), widths, left=left, height=0.7, color=colour, edgecolor="white", lw=0.6,
                label=f"task {task}")  # fmt: skip
        left += widths
    for row, (name, share) in enumerate(zip(sizes, left, strict=True)):
        ax.annotate(
            f"{1 - share:.2%} of {sizes[name]:,} free", (share, row), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize="small",
        )  # fmt: skip
    ax.set_yticks(range(len(sizes)), list(sizes))
    if not ax.yaxis_inverted():  # axes may be shared
        ax.invert_yaxis()
    limit(ax, "x", 0, min(1.45, max(1e-6, 1.45 * float(left.max()))))
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel("owned share of the layer's weights")
    if n_tasks <= 12:
        ax.legend(fontsize="small", frameon=False, ncols=min(n_tasks, 6), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    bare(ax)
    return ax


def means(
    samples: Mapping[float, Sequence[float]],
    label: str = "",
    ax: Axes | None = None,
    colour: Colour | None = None,
    marker: str = "o",
) -> Axes:
    """Draw means and standard errors against a number, such as accuracies against N. Each call draws one line.

    The number of values of each mean is on the right above the axes: ``n = 10, bars: standard errors``.

    Args:
        samples: For each number, one or more values, such as one for each seed.
        label: Name of the line in a legend.
        ax: Axes to draw in; None makes a figure.
        colour: Colour of the line; None is the colour of REM.
        marker: Marker of the means, as Matplotlib names it.

    Raises:
        DataError: If there are no samples, or a sample is not finite.
    """
    checks.kind("means: samples", samples, Mapping, "{1: [0.97, 0.98]}")
    values = {x: np.atleast_1d(np.asarray(samples[x], dtype=float)) for x in sorted(samples)}
    if not values or not all(value.size and np.isfinite(value).all() for value in values.values()):
        raise DataError("plots.means draws one or more finite values for each number, such as {1: [0.97, 0.98]}.")
    ax = axes_or_new(ax, 5.0, 3.6)
    errors = [value.std(ddof=1) / len(value) ** 0.5 if len(value) > 1 else 0.0 for value in values.values()]
    ax.errorbar(
        list(values), [value.mean() for value in values.values()], yerr=errors, label=label or None, marker=marker,
        markersize=4, lw=1.4, capsize=2.5, color=colour or COLOURS["rem"],
    )  # fmt: skip
    bare(ax)
    said = counted([len(value) for value in values.values()], "standard errors", ax.get_title(loc="right"))
    ax.set_title(said, loc="right", fontsize="small", color="0.3")
    ax.grid(axis="y", alpha=0.3)
    return ax
