"""Colours and axes of all figures, and the writing of figures to files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from daynight.errors import SettingError
from daynight.support import atomic

#: Colours. They differ in lightness as well as in hue, so that they differ in grey and for colour-blind readers.
COLOURS = {"wake": "#e8b24a", "rem": "#3a78b5", "nrem": "#1b1b3a", "night": "#e9ecf3", "earlier": "#b5b5b5"}
#: Formats a number as short as possible.
AS_IT_IS = FuncFormatter(lambda value, _: f"{value:g}")
#: Formats a whole number with commas.
WHOLE = FuncFormatter(lambda value, _: f"{value:,.0f}")
Colour = str | tuple[float, ...]


def axes_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """Return `ax`; if `ax` is None, return the axes of a new figure of `width` by `height` inches."""
    return plt.subplots(figsize=(width, height), layout="constrained")[1] if ax is None else ax


def shades(n: int) -> list[Colour]:
    """Return n colours from dark to light, for things that have an order."""
    return [tuple(shade) for shade in plt.get_cmap("viridis")(np.linspace(0.05, 0.8, n))]


def limit(ax: Axes, which: Literal["x", "y"], low: float, high: float, own: Sequence[Axes] = ()) -> None:
    """Set the limits of axes; if other axes share the limits and have data, only widen the current limits.

    Args:
        ax: The axes.
        which: ``"x"`` or ``"y"``.
        low: Lowest value.
        high: Highest value.
        own: Axes that are drawn together with `ax`, and do not count as other axes.
    """
    shared = ax.get_shared_x_axes() if which == "x" else ax.get_shared_y_axes()
    if any(other is not ax and other not in own and other.has_data() for other in shared.get_siblings(ax)):
        before = sorted(ax.get_xlim() if which == "x" else ax.get_ylim())
        low, high = min(low, before[0]), max(high, before[1])
    (ax.set_xlim if which == "x" else ax.set_ylim)(low, high)


def plain_log(axis: Axis) -> None:
    """Give a logarithmic axis few ticks, with plain numbers instead of powers of ten.

    Args:
        axis: The axis. Its limits must be final.
    """
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low) if low > 0 else math.inf
    locator = LogLocator(subs=(1.0,)) if decades > 2 else LogLocator(subs=(1.0, 2.0, 5.0))
    axis.set_major_locator(MaxNLocator(4) if decades < 0.7 else locator)
    axis.set_major_formatter(AS_IT_IS)
    axis.set_minor_formatter(NullFormatter())


def counted(counts: Iterable[int], bars: str, before: str = "") -> str:
    """Return what a figure says about its bars: ``n = 3 to 10, bars: standard errors``.

    Args:
        counts: Numbers of values of which the figure shows means.
        bars: What the bars are; ``""`` if there are none.
        before: What the figure says already; its numbers count, too.
    """
    known = [*counts, *(int(number) for number in re.findall(r"\d+", before.partition(",")[0]))]
    low, high = min(known), max(known)
    n = f"n = {low}" if low == high else f"n = {low} to {high}"
    return f"{n}, bars: {bars}" if bars and high > 1 else f"{n}, no bars"


def bare(ax: Axes) -> None:
    """Remove the lines above and to the right of axes."""
    ax.spines[["top", "right"]].set_visible(False)


def save(axes: Axes | Sequence[Axes], path: str | os.PathLike[str], dpi: float = 150.0) -> None:
    """Write the figure that axes belong to into a file, completely or not at all.

    Args:
        axes: One or several axes of the figure.
        path: The file; its ending, such as ``.png`` or ``.pdf``, chooses the format.
        dpi: Dots per inch, for formats such as PNG.

    Raises:
        SettingError: If the ending does not name a format.
        OutputError: If the file cannot be written.
    """
    figure = (axes if isinstance(axes, Axes) else axes[0]).get_figure(root=True)
    assert figure is not None
    formats = sorted(figure.canvas.get_supported_filetypes())
    if Path(path).suffix.lower().removeprefix(".") not in formats:
        endings = ", ".join(f".{name}" for name in formats)
        raise SettingError(f"path must end in the name of a format, one of {endings}, not {str(path)!r}.")
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
