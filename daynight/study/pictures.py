"""The figures and the report of a study: means, and differences seed by seed, of any settings."""

from __future__ import annotations

import itertools
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from matplotlib.axes import Axes

from daynight import plots, reports
from daynight.errors import SettingError
from daynight.plots.style import axes_or_new, bare, counted
from daynight.storage.identity import describe
from daynight.study.entries import setting
from daynight.study.labels import Labels, is_number, natural
from daynight.study.statistics import CONFIDENCE, Summary
from daynight.support import checks

#: A `daynight.study.Results`, the module of which imports this one.
Runs = Any

#: What bars can be.
BARS = ("standard errors", "95 %")
#: More colours and markers than these cannot be told apart.
N_LINES = 24
_WIDTH, _HEIGHT = 5.4, 3.4  # inches
#: How far below each other the points of several lines are, in inches.
_BESIDE = 0.12
_MARKERS = "os^DvPX<>*"
#: Characters in a line of a legend, and in a name beside an axis.
_LEGEND, _NAME = 62, 26


@attrs.frozen
class Group:
    """Runs with equal settings: how their settings are shown and ranked, and what is drawn of them."""

    names: tuple[Any, ...]
    ranks: tuple[Any, ...]
    summary: Summary


def report(
    results: Runs,
    path: str | os.PathLike[str],
    by: Sequence[str],
    values: Sequence[str],
    title: str,
    labels: Mapping[str, Any] | None,
    against: Mapping[str, Any] | None,
    bars: str,
) -> None:
    """Write the report of a study; see `daynight.study.Results.report`."""
    if not results.entries:
        raise SettingError(
            "report: there are no runs. Name the folder of a study's store that has some.", page="studies"
        )
    checks.one_of("bars", bars, BARS)
    table = results.table(by, values, labels=labels, against=against)
    groups = results.groups(*by)
    ranks = _ranks(results, by, Labels(labels))
    order = sorted(range(len(table)), key=lambda row: ranks[list(groups)[row]])
    facts = [f"{len(results)} runs", f"{len(table)} combinations of {', '.join(by)}", _n_each(groups.values())]
    notes = ["Intervals are 95 % confidence intervals of the mean (Student's t)."]
    if against is not None:
        notes.append(_about_differences(table, values, against, Labels(labels)))
    pictures = []
    try:
        for value in values if by else ():
            what = _across(results, by, labels)
            pictures.append((draw(results, value, by, labels, None, bars), f"{value} by {what}"))
            if against is not None:
                heading = f"{value}: paired differences by {what}"
                pictures.append((draw(results, value, by, labels, against, bars), heading))
    except TooManyError as error:
        notes.append(f"There is no figure: {error.args[0]}")
    reports.of_rows([_with_intervals(table[row]) for row in order], pictures, path, title, facts, notes)


def _with_intervals(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for a page: both ends of an interval in one column, and without the number of comparisons."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        whole = name.removesuffix(" low")
        if whole != name and f"{whole} high" in row:
            found[f"{whole} interval"] = _interval(value, row[f"{whole} high"])
        elif not name.endswith(" high") and name != "comparisons":
            found[name] = value
    return found


def _interval(low: float, high: float) -> str | None:
    """Return an interval as text, with two digits of its width; None if it is not known."""
    if math.isnan(low):
        return None
    n_digits = 4 if high <= low else min(12, max(0, 1 - math.floor(math.log10(high - low))))
    return f"{low:.{n_digits}f} to {high:.{n_digits}f}"


class TooManyError(SettingError):
    """A figure would have more colours than can be told apart."""


def draw(
    results: Runs,
    value: str,
    by: Sequence[str],
    labels: Mapping[str, Any] | None,
    against: Mapping[str, Any] | None,
    bars: str,
) -> Axes:
    """Draw a result; see `daynight.study.Results.draw`."""
    checks.one_of("bars", bars, BARS)
    if not results.entries or not by:
        raise SettingError("draw: there must be runs, and at least one setting in by=.", page="studies")
    named = Labels(labels)
    groups = _groups(results, value, by, named, against)
    across = by.index(_across(results, by, labels))
    is_numeric = all(is_number(group.names[across]) for group in groups)
    # Also those without differences, so that colours are the same in all figures of a report.
    lines: dict[tuple[Any, ...], list[Group]] = {
        ranks: [] for ranks in sorted({_without(ranks, across) for ranks in _ranks(results, by, named).values()})
    }
    for group in groups:
        lines[_without(group.ranks, across)].append(group)
    if len(lines) > N_LINES:
        others = ", ".join(_without(by, across))
        raise TooManyError(
            f"{len(lines)} combinations of {others} are too many to tell apart. Select some of them.", page="studies"
        )
    ranked = sorted({group.ranks[across]: group.names[across] for group in groups}.items())
    places, height = _rows([name for _, name in ranked], len(lines))
    ax = axes_or_new(None, _WIDTH, _HEIGHT if is_numeric else 1.1 + height)
    is_difference = against is not None
    reach = "95 %" if is_difference else bars
    styles = zip(plots.shades(len(lines)), itertools.cycle(_MARKERS), strict=False)
    for number, (line, (colour, marker)) in enumerate(zip(lines.values(), styles, strict=False)):
        own = sorted(line, key=lambda group: group.ranks[across])
        if not own:
            continue
        key = _without(own[0].names, across)
        label = ", ".join(f"{name}={item}" for name, item in zip(_without(by, across), key, strict=True))
        style: dict[str, Any] = {"color": colour, "marker": marker, "ms": 4, "capsize": 2.5}
        style["label"] = _wrapped(label, _LEGEND, "   ") or None
        means = [group.summary.mean for group in own]
        errors = np.array([_bar(group.summary, reach) for group in own]).T
        if is_numeric:
            ax.errorbar([group.names[across] for group in own], means, errors, lw=1.4, **style)
        else:
            aside = _BESIDE * (number - (len(lines) - 1) / 2)
            at = [places[group.names[across]] + aside for group in own]
            ax.errorbar(means, at, xerr=errors, ls="", **style)
    _finish(ax, by[across], None if is_numeric else places, height, value)
    ax.set_title(counted([group.summary.n for group in groups], reach), loc="right", fontsize="small", color="0.3")
    if is_difference:
        assert against is not None
        from_what = ", ".join(f"{name}={named.of(describe(item))}" for name, item in against.items())
        (ax.axhline if is_numeric else ax.axvline)(0.0, color="0.6", lw=1.0, zorder=0)
        wrapped = _wrapped(f"{value}, minus that with {from_what}", 40)
        (ax.set_ylabel if is_numeric else ax.set_xlabel)(wrapped, fontsize="medium" if len(wrapped) < 41 else "small")
    if len(by) > 1:
        _legend_below(ax, len(lines))
    return ax


def _groups(
    results: Runs, value: str, by: Sequence[str], named: Labels, against: Mapping[str, Any] | None
) -> list[Group]:
    """Return what is drawn of each group of runs."""
    groups, ranks = results.groups(*by), _ranks(results, by, named)
    others = None if against is None else results.others(by, against)
    found = []
    for key, own in groups.items():
        names = tuple(named.of(setting(own.entries[0], name)) for name in by)
        if others is None:
            found.append(Group(names, ranks[key], own.summary(value)))
        elif key in others and own.values(value).keys() & others[key].values(value).keys():
            found.append(Group(names, ranks[key], own.compare(others[key], value)))
    named.check([group.names for group in found])
    if not found:
        raise SettingError("draw: no two runs that are compared have the same seed. Do both with the same seeds.")
    return found


def _ranks(results: Runs, by: Sequence[str], named: Labels) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Return the sort keys of groups, by their keys."""
    seen: list[list[Any]] = [[] for _ in by]
    firsts = {key: [setting(own.entries[0], name) for name in by] for key, own in results.groups(*by).items()}
    keys = [entry.get("key") for entry in results]
    if None not in keys and keys == sorted(map(str, keys)):  # in the order of a store, which has no meaning
        firsts = dict(sorted(firsts.items(), key=lambda first: [natural(named.of(item)) for item in first[1]]))
    for first in firsts.values():
        for known, item in zip(seen, first, strict=True):
            known += [] if item in known else [item]
    return {
        key: tuple(named.rank(item, known) for item, known in zip(first, seen, strict=True))
        for key, first in firsts.items()
    }


def _across(results: Runs, by: Sequence[str], labels: Mapping[str, Any] | None) -> str:
    """Return the setting along the axis: the last with numbers alone, or the last."""
    named = Labels(labels)
    numeric = [name for name in by if all(is_number(named.of(setting(entry, name))) for entry in results)]
    return (numeric or list(by))[-1]


def _rows(names: Sequence[Any], n_lines: int) -> tuple[dict[Any, float], float]:
    """Return where each name is below the top of the axes, in inches, and the height of all: each has its own lines."""
    places, height = dict[Any, float](), 0.0
    for name in names:
        row = max(0.14 * (_wrapped(name, _NAME).count("\n") + 1) + 0.1, _BESIDE * n_lines + 0.1)
        places[name] = height + row / 2
        height += row
    return places, height


def _finish(ax: Axes, across: str, places: Mapping[Any, float] | None, height: float, value: str) -> None:
    """Label the axes; `places` are those of names, None if there are numbers."""
    bare(ax)
    ax.grid(axis="y" if places is None else "x", alpha=0.3)
    if places is None:
        ax.set(xlabel=across, ylabel=value)
        return
    ax.set_yticks(list(places.values()), [_wrapped(name, _NAME) for name in places], fontsize="small")
    ax.set_ylim(height, 0.0)  # the first on top
    ax.set(xlabel=value, ylabel=across)


def _legend_below(ax: Axes, n_lines: int) -> None:
    """Put the legend below the axes, where it takes nothing of their width, and make the figure as much higher."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    legend = figure.legend(loc="outside lower left", frameon=False, fontsize="small", ncols=1)
    n_rows = sum(text.get_text().count("\n") + 1 for text in legend.get_texts())
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.17 * n_rows + 0.06 * n_lines)


def _bar(summary: Summary, reach: str) -> tuple[float, float]:
    """Return how far a bar reaches below and above the mean; nothing for one run."""
    if math.isnan(summary.standard_error):
        return 0.0, 0.0
    if reach == "95 %":
        return summary.mean - summary.low, summary.high - summary.mean
    return summary.standard_error, summary.standard_error


def _wrapped(text: Any, width: int, indent: str = "") -> str:
    """Return text in lines, which may also be broken after a bracket."""
    plain = str(text).replace("$", r"\$").replace("(", "( ").replace("( )", "()")
    return textwrap.fill(plain, width, subsequent_indent=indent).replace("( ", "(")


def _without(items: Sequence[Any], index: int) -> tuple[Any, ...]:
    return (*items[:index], *items[index + 1 :])


def _n_each(groups: Any) -> str:
    """Return how many runs there are of each combination."""
    counts = [len(group) for group in groups]
    return f"n = {min(counts)}" + (f" to {max(counts)}" if min(counts) < max(counts) else "") + " each"


def _about_differences(
    table: Sequence[Mapping[str, Any]], values: Sequence[str], against: Mapping[str, Any], named: Labels
) -> str:
    """Return what the differences are, and how many."""
    to = ", ".join(f"{name}={named.of(describe(value))}" for name, value in against.items())
    n = table[0]["comparisons"]
    text = f"Differences are from {to}, paired by seed, each with its own 95 % interval. There are {n}"
    missed = (1 - CONFIDENCE) * n
    return text + (f": about {missed:.2g} of so many intervals miss by chance." if n > 1 else ".")
