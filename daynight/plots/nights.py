"""Figures of nights: hypnograms, a night as a path, and its plan."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from daynight.errors import DataError, SettingError
from daynight.history import History, Record
from daynight.nights.cycle import Cycle
from daynight.plots.style import COLOURS, WHOLE, axes_or_new, bare, limit, plain_log
from daynight.support import checks

_LEVELS = {"wake": 2.0, "rem": 1.0, "nrem": 0.0}


def hypnogram(history: History, axes: Sequence[Axes] | None = None, *, day: int | None = None) -> tuple[Axes, Axes]:
    """Draw a hypnogram: above, wake, NREM and REM over the days; below, the score of the day's task and the density.

    In the upper axes, each NREM is a line down to the lowest level, and nights are shaded. The lower axes show the
    score on the validation split after each epoch and each prune or, without such a split, the training loss. The
    stairs, on the axis to the right, are the density: the fraction of the day's available weights that is left.

    Args:
        history: A history with at least one epoch.
        axes: Two axes, the upper and the lower; None makes a figure.
        day: Index of the only day to draw, from 0; None draws all.

    Returns:
        The upper and the lower axes.

    Raises:
        DataError: If the history holds no epoch, or no epoch of `day`.
        SettingError: If `axes` is not two axes.
    """
    checks.kind("hypnogram: history", history, History, "clock.history")
    spans = _spans(history)
    if day is not None:
        metric, history = history.metric, History(history.select(day=checks.integer("day", day, least=0)))
        history.metric = metric
        spans = {day: spans[day]} if day in spans else {}
    epochs = history.select(kind="epoch")
    if not epochs:
        which = "" if day is None else f" of day {day}"
        raise DataError(
            f"the history holds no epoch{which} yet, so there is nothing to draw. Call clock.run() first.",
            page="pictures",
        )
    upper, lower = _two(axes)
    begin = min(spans.values())[0]
    _draw_phases(history, begin, upper)
    for index, span in spans.items():
        _shade_night(history, index, span, (upper, lower))
        _draw_course(history, index, lower)
        if index % -(-len(spans) // 10) == 0:  # more than ten labels would overlap
            upper.annotate(
                f"day {index}", (span[0], 2.42), xytext=(3, 0), textcoords="offset points", va="bottom",
                fontsize="small",
            )  # fmt: skip
    own = (upper, lower, *_draw_density(history, spans, lower))
    lower.margins(y=0.12)
    if any(record.validation_score is not None for record in epochs):
        lower.set_ylabel(f"validation {history.metric}")
    else:
        lower.set_ylabel("training loss")
        lower.set_yscale("log")
        lower.autoscale_view()
        plain_log(lower.yaxis)
    lower.set_xlabel("optimizer steps")
    lower.xaxis.set_major_formatter(WHOLE)
    upper.tick_params(labelbottom=False)
    end = max(begin + 1, *(record.step for record in epochs))
    for ax in (upper, lower):
        limit(ax, "x", begin, end + 0.004 * (end - begin), own)  # a prune at the end must be visible
        bare(ax)
    lower.grid(axis="y", alpha=0.3)
    return upper, lower


def descent(history: History, day: int = 0, ax: Axes | None = None) -> Axes:
    """Draw a night as a path of loss against density: each NREM leads to the right, and each REM down again.

    The path begins where the wake ended. The loss is the loss on the validation split. Without such a split it is the
    training loss, which is not measured after a prune: the path then leads straight to the first epoch after the prune.

    Args:
        history: A history with the night of `day`.
        day: Index of the day, from 0.
        ax: Axes to draw in; None makes a figure.

    Raises:
        DataError: If the history holds no prune of the night.
    """
    checks.kind("descent: history", history, History, "clock.history")
    day = checks.integer("day", day, least=0)
    prunes = history.select(kind="prune", day=day)
    if not prunes:
        raise DataError(f"the history holds no night of day {day}, so there is nothing to draw.")
    ax = axes_or_new(ax, 5.0, 3.6)
    has_validation = any(record.validation_loss is not None for record in prunes)
    points: list[tuple[str, float, float]] = []
    density = 1.0
    for record in history.measured(day):
        if record.kind not in ("epoch", "prune"):
            continue
        loss = record.validation_loss if has_validation else record.loss
        density = record.density or density
        if loss is not None and math.isfinite(loss):
            if record.phase == "wake":
                points.clear()  # only the last point of the wake is kept: the night begins there
            points.append((record.phase, density, loss))
    for before, after in itertools.pairwise(points):
        colour = COLOURS["nrem"] if after[1] < before[1] else COLOURS["rem"]
        ax.plot([before[1], after[1]], [before[2], after[2]], color=colour, lw=1.4, solid_capstyle="round")
    for (name, colour), label in zip(
        [("wake", COLOURS["wake"]), ("rem", COLOURS["rem"])], ("dusk", "dawn"), strict=True
    ):
        place = points[0 if name == "wake" else -1]
        ax.plot(*place[1:], "o", color=colour, markeredgecolor="white", zorder=3)
        ax.annotate(label, place[1:], xytext=(5, 5), textcoords="offset points", fontsize="small")
    ax.set_xscale("log")
    ax.set_yscale("log")
    if not ax.xaxis_inverted():  # axes may be shared
        ax.invert_xaxis()
    plain_log(ax.xaxis)
    plain_log(ax.yaxis)
    ax.set_xlabel("density")
    ax.set_ylabel("validation loss" if has_validation else "training loss")
    bare(ax)
    return ax


def plan(cycles: Sequence[Cycle], ax: Axes | None = None) -> Axes:
    """Draw a night's plan: how the density falls, and in grey the factor of the learning rate, if it changes.

    A plan does not know how much a prune will cut. A rate that depends on the cut is drawn for the largest cut, which
    is the square root of the share of the remaining weights that the prune takes. A triangle that points to the left
    marks each cycle that rewinds weights. Several plans in the same axes differ in colour, and the rates of all plans
    but the first are lines; ``ax.legend(["first", "second"])`` names the plans.

    Args:
        cycles: One or more cycles with densities as numbers, as `SleepPolicy.plan` returns them.
        ax: Axes to draw in; None makes a figure.

    Raises:
        DataError: If there are no cycles, or a density is not a number.
    """
    given = list(cycles) if isinstance(cycles, Sequence) and not isinstance(cycles, str) else []
    if not given or not all(isinstance(cycle, Cycle) and isinstance(cycle.keep, float) for cycle in given):
        raise DataError(
            f"plots.plan draws cycles with densities as numbers, as policy.plan(night) returns, not {cycles!r}."
        )
    ax = axes_or_new(ax, 5.0, 3.2)
    shares, densities, begin = [0.0], [1.0], 0.0
    rates: list[tuple[float, float]] = []
    rewound: list[tuple[float, float]] = []
    for cycle in cycles:
        density = float(cycle.keep)
        cut = math.sqrt(max(0.0, 1 - density / densities[-1]))
        shares += [begin, begin]
        densities += [densities[-1], density]
        if cycle.rewind is not None:
            rewound.append((begin, density))
        for share in np.linspace(0, 1, 9):
            rates.append((begin + share * cycle.length, 1.0 if cycle.rate is None else cycle.rate(float(share), cut)))
        begin += cycle.length
    n_before, low = len(ax.lines), densities[-1] / 1.6
    colour = COLOURS[("rem", "wake", "nrem", "earlier")[n_before % 4]]
    ax.plot([*shares, begin], [*densities, densities[-1]], color=colour, lw=1.4)
    if rewound:
        places, heights = zip(*rewound, strict=True)
        ax.scatter(places, heights, s=16, marker="<", color=colour)
    ax.set_yscale("log")
    limit(ax, "y", min(low, ax.get_ylim()[0]) if n_before else low, 1.6)
    plain_log(ax.yaxis)
    limit(ax, "x", -0.01, 1)
    ax.set_xlabel("share of the night")
    ax.set_ylabel("density")
    if any(cycle.rate is not None for cycle in cycles):
        _draw_rates(rates, ax, colour if n_before else None)
    bare(ax)
    return ax


def _draw_rates(rates: Sequence[tuple[float, float]], ax: Axes, colour: str | None) -> None:
    """Draw pairs (share of the night, factor of the learning rate) behind a plan: a coloured line, or a grey area."""
    name, bounds = "factor of the learning rate", ax.get_position().bounds
    siblings = ax.get_shared_x_axes().get_siblings(ax)
    own = (other for other in siblings if other.get_label() == name and other.get_position().bounds == bounds)
    behind = next(own, None) or ax.twinx()
    shares, factors = zip(*rates, strict=True)
    top = 1.05 * max(1.0, *factors)
    behind.set_ylim(0, max(top, behind.get_ylim()[1]) if behind.has_data() else top)
    if colour is None:
        behind.fill_between(shares, factors, color=COLOURS["night"], lw=0)
    else:
        behind.plot(shares, factors, color=colour, lw=0.8, ls=":")
    behind.set_label(name)
    behind.set_ylabel(name)
    behind.spines["top"].set_visible(False)
    ax.set_zorder(behind.get_zorder() + 1)
    ax.patch.set_visible(False)


def _two(axes: Sequence[Axes] | None) -> tuple[Axes, Axes]:
    """Return the two axes of a hypnogram; if `axes` is None, the two axes of a new figure."""
    if axes is None:
        _, axes = plt.subplots(
            2, 1, sharex=True, figsize=(9.0, 4.2), height_ratios=(1.0, 1.3), layout="constrained"
        )  # fmt: skip
    if isinstance(axes, Axes) or len(axes) != 2:
        raise SettingError("hypnogram: axes must be two, as in plt.subplots(2, 1, sharex=True), or None.")
    return axes[0], axes[1]


def _draw_phases(history: History, begin: int, ax: Axes) -> None:
    """Draw wake and REM as bands, and each NREM as a line down to the lowest level."""
    stretches = _stretches(history, begin)
    prunes = [end for phase, _, end in stretches if phase == "nrem"]
    for phase in ("wake", "rem"):  # all bands of a phase are one object: hundreds of them take seconds
        bands = [(start, end - start) for own, start, end in stretches if own == phase]
        ax.broken_barh(bands, (_LEVELS[phase] - 0.28, 0.56), color=COLOURS[phase], lw=0)
    n_steps = max((end for _, _, end in stretches), default=begin) - begin
    widths = _widths(prunes, n_steps, ax)
    ax.vlines(prunes, -0.28, 1.28, color=COLOURS["nrem"], lw=np.minimum(1.0, widths), capstyle="butt")
    ax.vlines(prunes, -0.28, 0.28, color=COLOURS["nrem"], lw=widths, capstyle="butt")
    ax.set_yticks(list(_LEVELS.values()), [name if name == "wake" else name.upper() for name in _LEVELS])
    ax.set_ylim(-0.4, 2.75)


def _widths(prunes: Sequence[int], n_steps: int, ax: Axes) -> np.ndarray:
    """Return the widths of lines at prunes, in points: up to 4, but neighbours stay apart where there is room."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    each = 72 * ax.get_window_extent().width / figure.dpi / max(1, n_steps)  # points of a step
    gaps = np.diff([-np.inf, *prunes, np.inf])
    nearest = np.minimum(gaps[:-1], gaps[1:])
    widths: np.ndarray = np.clip(0.6 * each * nearest, min(0.7, 160 / max(1, len(prunes))), 4.0)
    return widths


def _beginning(history: History) -> int:
    """Return the step at which the history's first day begins; if unknown, the first step in the history."""
    first = min(history.days, default=0)
    for record in history.select(kind="day", day=first):
        return record.step - (record.wake_steps or 0) - (record.night_steps or 0)
    return 0 if first == 0 else min(record.step for record in history.measured())


def _stretches(history: History, begin: int) -> list[tuple[str, int, int]]:
    """Return (phase, first step, last step) of all phases; consecutive epochs of a phase are joined."""
    phases: list[tuple[str, int, int]] = []
    for record in history.measured():
        if record.kind not in ("epoch", "prune"):
            continue
        phase, start = record.phase, phases[-1][2] if phases else begin
        if phases and phase == phases[-1][0] != "nrem":
            _, start, _ = phases.pop()
        phases.append((phase, start, record.step))
    return phases


def _spans(history: History) -> dict[int, tuple[int, int]]:
    """Return the steps at which each day begins and ends."""
    spans: dict[int, tuple[int, int]] = {}
    begin = _beginning(history)
    for day in sorted(history.days):
        last = max(record.step for record in history.measured(day))
        spans[day] = begin, last
        begin = last
    return spans


def _shade_night(history: History, day: int, span: tuple[int, int], axes: Sequence[Axes]) -> None:
    wake = [record.step for record in history.select(kind="epoch", day=day, phase="wake")]
    first, last = span
    for ax in axes:
        ax.axvspan(max(wake, default=first), last, color=COLOURS["night"], lw=0, zorder=0)


def _draw_density(history: History, spans: Mapping[int, tuple[int, int]], lower: Axes) -> tuple[Axes, ...]:
    """Draw the density of each day's weights on axes to the right. Return these axes, or () if nothing was pruned."""
    densities = [record.density for record in history.select(kind="prune") if record.density]
    if not densities:
        return ()
    ax = lower.twinx()
    for day, (first, last) in spans.items():
        stairs = [(first, 1.0)]
        stairs += [(record.step, record.density or 0.0) for record in history.select(kind="prune", day=day)]
        stairs.append((last, stairs[-1][1]))
        ax.step(*zip(*stairs, strict=True), where="post", color=COLOURS["rem"], lw=1.0, alpha=0.8)
    ax.set_yscale("log")
    ax.set_ylim(min(densities) / 1.4, 1.2)
    plain_log(ax.yaxis)
    ax.set_ylabel("density", color=COLOURS["rem"])
    ax.tick_params(axis="y", which="both", colors=COLOURS["rem"])
    ax.spines[["top", "left"]].set_visible(False)
    ax.spines["right"].set_color(COLOURS["rem"])
    return (ax,)


def _draw_course(history: History, day: int, ax: Axes) -> None:
    course: list[Record] = [record for record in history.measured(day) if record.kind in ("epoch", "prune")]
    scores = [(record.step, record.validation_score) for record in course if record.validation_score is not None]
    if scores:
        ax.plot(*zip(*scores, strict=True), color=COLOURS["nrem"], lw=1.2)
        return
    losses = [(record.step, record.loss) for record in course if record.loss is not None]
    if losses:
        ax.plot(*zip(*losses, strict=True), color=COLOURS["nrem"], lw=1.2)
