"""Figures of what happened. Each takes the axes to draw in, or makes a figure, and returns the axes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from daynight import files
from daynight.errors import DataError, SettingError
from daynight.history import History, Record
from daynight.schedule import Cycle

#: Colours that stay apart in grey and for the colour-blind: they differ in lightness, not in hue alone.
COLOURS = {"wake": "#e8b24a", "rem": "#3a78b5", "nrem": "#1b1b3a", "night": "#e9ecf3", "earlier": "#b5b5b5"}
_LEVELS = {"wake": 2.0, "rem": 1.0, "nrem": 0.0}


def hypnogram(history: History, axes: Sequence[Axes] | None = None) -> tuple[Axes, Axes]:
    """Draw wake, NREM and REM over the days, and under it how good the day's task is.

    Each NREM is a line down to the lowest level; nights are shaded. Below stands the score on the
    validation split after each epoch and each prune or, without such a split, the training loss.

    Args:
        history: A history with at least one epoch.
        axes: Two axes, the upper and the lower; None makes a figure.

    Returns:
        The upper and the lower axes.

    Raises:
        DataError: If the history holds no training.
    """
    epochs = history.select(kind="epoch")
    if not epochs:
        raise DataError("the history holds no epoch yet, so there is nothing to draw.")
    if axes is None:
        _, (upper, lower) = plt.subplots(
            2, 1, sharex=True, figsize=(9.0, 4.2), height_ratios=(1.0, 1.3), layout="constrained"
        )
    else:
        upper, lower = axes
    steps = [(record.step, _LEVELS[record.phase]) for record in history if record.kind in ("epoch", "prune")]
    width = min(4.0, 160 / max(1, len(history.select(kind="prune"))))  # in points, so that neighbours stay apart
    begin = _beginning(history)
    ends = [begin, *(step for step, _ in steps)]
    for (step, level), start in zip(steps, ends, strict=False):
        phase = {value: key for key, value in _LEVELS.items()}[level]
        if phase == "nrem":
            upper.plot([step, step], [-0.28, 1.28], color=COLOURS["nrem"], lw=min(1.0, width), solid_capstyle="butt")
            upper.plot([step, step], [-0.28, 0.28], color=COLOURS["nrem"], lw=width, solid_capstyle="butt")
        else:
            upper.fill_between([start, step], level - 0.28, level + 0.28, color=COLOURS[phase], lw=0)
    upper.set_yticks(list(_LEVELS.values()), [name if name == "wake" else name.upper() for name in _LEVELS])
    upper.set_ylim(-0.4, 2.75)
    days = sorted({record.day for record in epochs})
    for day in days:
        _shade_night(history, day, (upper, lower))
        first, last = _span(history, day)
        if day % -(-len(days) // 10) == 0:  # more than ten labels would run into each other
            upper.annotate(f"day {day}", ((first + last) / 2, 2.42), ha="center", va="bottom", fontsize="small")
        _draw_course(history, day, lower)
    has_validation = any(record.validation_score is not None for record in epochs)
    if has_validation:
        lower.set_ylabel("validation score")
    else:
        lower.set_ylabel("training loss")
        lower.set_yscale("log")
    lower.set_xlabel("optimizer steps")
    lower.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    lower.set_xlim(begin, max(begin + 1, *(record.step for record in epochs)))
    for ax in (upper, lower):
        ax.spines[["top", "right"]].set_visible(False)
    lower.grid(axis="y", alpha=0.3)
    return upper, lower


def capacity(history: History, ax: Axes | None = None) -> Axes:
    """Draw which task owns how many weights at each dawn, and what is free.

    What tasks of days before the history's first own stands below, in grey.

    Args:
        history: A history with at least one finished day.
        ax: Axes to draw in; None makes a figure.

    Raises:
        DataError: If no day is finished, or the history does not tell the capacity.
    """
    days = history.select(kind="day")
    if not days:
        raise DataError("the history holds no finished day yet, so there is nothing to draw.")
    total = days[0].capacity
    if total is None:
        raise DataError("the history does not tell the capacity. Make it with this version of daynight.")
    if ax is None:
        _, ax = plt.subplots(figsize=(6.0, 4.0), layout="constrained")
    owned = np.array([record.owned or 0 for record in days])
    earlier = total - (days[0].free or 0) - int(owned[0])
    tops = earlier + owned.cumsum()
    names = [record.day for record in days]
    few = len(days) <= 12  # more labels would run into each other
    if earlier:
        ax.bar(names, earlier, width=0.8, color=COLOURS["earlier"], edgecolor="white", lw=0.6)
        ax.annotate("earlier", (names[-1] + 0.45, earlier / 2), va="center", fontsize="small")
    shades = plt.get_cmap("viridis")(np.linspace(0.05, 0.9, len(days)))
    for index, (name, top) in enumerate(zip(names, tops, strict=True)):
        bottom = top - owned[index]
        ax.bar(names[index:], owned[index], bottom=bottom, width=0.8, color=shades[index], edgecolor="white", lw=0.6)
        if few:
            ax.annotate(f"task {name}", (names[-1] + 0.45, (bottom + top) / 2), va="center", fontsize="small")
        if few or index == len(days) - 1:
            ax.annotate(
                f"{1 - top / total:.2%} free", (name, top), xytext=(0, 3), textcoords="offset points",
                ha="center" if few else "right", fontsize="small",
            )  # fmt: skip
    if few:
        ax.set_xticks(names)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("dawn of day")
    ax.set_ylabel(f"owned weights, of {total:,}")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set_xlim(names[0] - 0.6, names[-1] + 1.2)
    ax.set_ylim(0, tops[-1] * 1.1)
    share = ax.secondary_yaxis("right", functions=(lambda n: np.asarray(n) / total, lambda f: np.asarray(f) * total))
    share.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.spines[["top"]].set_visible(False)
    return ax


def plan(cycles: Sequence[Cycle], ax: Axes | None = None) -> Axes:
    """Draw a night's plan: how the density falls, and in grey the factor of the learning rate, where it changes.

    A rate that depends on how much a prune cuts is drawn for the most that it can: the square root of the share of the
    weights held that it takes.

    Args:
        cycles: One or more, each with its density as a number, as `SleepPolicy.plan` gives them.
        ax: Axes to draw in; None makes a figure.

    Raises:
        DataError: If there are no cycles, or one's density is no number.
    """
    given = list(cycles) if isinstance(cycles, Sequence) and not isinstance(cycles, str) else []
    if not given or not all(isinstance(cycle, Cycle) and isinstance(cycle.keep, float) for cycle in given):
        raise DataError(
            f"plots.plan draws cycles with densities as numbers, as policy.plan(night) gives, not {cycles!r}."
        )
    if ax is None:
        _, ax = plt.subplots(figsize=(5.0, 3.2), layout="constrained")
    shares, densities, begin = [0.0], [1.0], 0.0
    rates: list[tuple[float, float]] = []
    for cycle in cycles:
        density = float(cycle.keep)
        cut = math.sqrt(max(0.0, 1 - density / densities[-1]))
        shares += [begin, begin]
        densities += [densities[-1], density]
        for share in np.linspace(0, 1, 9):
            rates.append((begin + share * cycle.length, 1.0 if cycle.rate is None else cycle.rate(float(share), cut)))
        begin += cycle.length
    ax.plot([*shares, begin], [*densities, densities[-1]], color=COLOURS["rem"], lw=1.4)
    ax.set_yscale("log")
    ax.set_ylim(densities[-1] / 1.6, 1.6)
    ax.set_xlim(0, 1)
    ax.set_xlabel("share of the night")
    ax.set_ylabel("density")
    if any(cycle.rate is not None for cycle in cycles):
        rate = ax.twinx()
        rate.fill_between([share for share, _ in rates], [factor for _, factor in rates], color=COLOURS["night"], lw=0)
        rate.set_ylim(0, 1.05 * max(1.0, *(factor for _, factor in rates)))
        rate.set_ylabel("factor of the learning rate")
        ax.set_zorder(rate.get_zorder() + 1)
        ax.patch.set_visible(False)
    return ax


def save(axes: Axes | Sequence[Axes], path: str | os.PathLike[str], dpi: float = 150.0) -> None:
    """Write the figure that axes are in to a file, whole or not at all.

    Args:
        axes: The axes, or one of several in the figure.
        path: Where to; its ending chooses the format, such as ``.png`` or ``.pdf``.
        dpi: Dots an inch, for formats of dots.

    Raises:
        SettingError: If the ending is that of no format.
        OutputError: If it cannot be written.
    """
    figure = (axes if isinstance(axes, Axes) else axes[0]).get_figure(root=True)
    assert figure is not None
    formats = sorted(figure.canvas.get_supported_filetypes())
    if Path(path).suffix.lower().removeprefix(".") not in formats:
        endings = ", ".join(f".{name}" for name in formats)
        raise SettingError(f"path must end in the name of a format, one of {endings}, not {str(path)!r}.")
    with files.whole(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def _beginning(history: History) -> int:
    """Give the step at which the history's first day begins; the earliest known where a day still lasts."""
    first = min(record.day for record in history)
    for record in history.select(kind="day", day=first):
        return record.step - (record.wake_steps or 0) - (record.night_steps or 0)
    return 0 if first == 0 else min(record.step for record in history)


def _span(history: History, day: int) -> tuple[int, int]:
    """Give the steps at which a day begins and ends."""
    before = [record.step for record in history if record.day < day]
    return max(before, default=_beginning(history)), max(record.step for record in history if record.day == day)


def _shade_night(history: History, day: int, axes: Sequence[Axes]) -> None:
    wake = [record.step for record in history.select(kind="epoch", day=day, phase="wake")]
    first, last = _span(history, day)
    for ax in axes:
        ax.axvspan(max(wake, default=first), last, color=COLOURS["night"], lw=0, zorder=0)


def _draw_course(history: History, day: int, ax: Axes) -> None:
    course: list[Record] = [record for record in history.select(day=day) if record.kind in ("epoch", "prune")]
    scores = [(record.step, record.validation_score) for record in course if record.validation_score is not None]
    if scores:
        ax.plot(*zip(*scores, strict=True), color=COLOURS["nrem"], lw=1.2)
        return
    losses = [(record.step, record.loss) for record in course if record.loss is not None]
    if losses:
        ax.plot(*zip(*losses, strict=True), color=COLOURS["nrem"], lw=1.2)
