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
from matplotlib.transforms import offset_copy

from daynight import plots, reports
from daynight.errors import SettingError
from daynight.plots.style import axes_or_new, bare, counted
from daynight.study.entries import OF_RUN, setting
from daynight.study.labels import Labels, hashable, is_number, natural
from daynight.study.statistics import Summary
from daynight.study.tables import Rows
from daynight.support import checks

#: A `daynight.study.Results`, the module of which imports this one.
Runs = Any

#: What bars can be.
BARS = ("intervals", "standard errors")
#: More colours and markers than these cannot be told apart.
N_LINES = 24
_WIDTH, _HEIGHT = 5.4, 3.4  # inches
#: How far below each other the points of several lines are, in inches, and how far beside each other, in points.
_BESIDE, _ASIDE = 0.12, 3.5
#: Numbers on an axis are named where points are, if they are this part of the axis apart.
_APART = 0.09
_MARKERS = "os^DvPX<>*"
#: Characters in a line of a legend, and in a name beside an axis.
_LEGEND, _NAME = 62, 26
#: More columns of settings than these leave no room for results in the table of a report.
_N_COLUMNS = 3


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
    about: str,
    labels: Mapping[str, Any] | None,
    against: Mapping[str, Any] | None,
    bars: str,
    confidence: float,
) -> None:
    """Write the report of a study; see `daynight.study.Results.report`."""
    if not results.entries:
        raise SettingError(
            "report: there are no runs. Name the folder of a study's store that has some.", page="studies"
        )
    checks.one_of("bars", bars, BARS)
    checks.kind("about", about, str, "'held-out data'")
    named = Labels(labels)
    table = results.table(by, values, confidence, labels=labels, against=against)
    groups = results.groups(*by)
    ranks = _ranks(results, by, named)
    order = sorted(range(len(table)), key=lambda row: ranks[list(groups)[row]])
    facts = [f"{len(results)} runs", f"{len(table)} combinations of {', '.join(by)}", _n_each(groups.values())]
    notes = [about] if about else []
    if alike := _alike(results, by, named):
        notes.append(f"All runs have {alike}.")
    notes.append(f"Intervals are {_percent(confidence)} confidence intervals of the mean (Student's t).")
    if against is not None:
        notes.append(_about_differences(table, against, named, confidence))
    pictures = []
    try:
        for value in values if by else ():
            what = _across(results, by, labels)
            pictures.append((draw(results, value, by, labels, None, bars, confidence), f"{value} by {what}"))
            if against is not None:
                heading = f"{value}: paired differences by {what}"
                pictures.append((draw(results, value, by, labels, against, bars, confidence), heading))
    except TooManyError as error:
        notes.append(f"There is no figure: {error.args[0]}")
    rows = _folded(table.for_page(), by)
    reports.of_rows([rows[number] for number in order], pictures, path, title, facts, notes)


def _folded(rows: Rows, by: Sequence[str]) -> Rows:
    """Return rows in which, of many settings, all but the last share a cell, so that results are on the page."""
    if len(by) <= _N_COLUMNS:
        return rows
    folded = by[:-1]
    return [
        {"settings": ", ".join(f"{name} {row[name]}" for name in folded)}
        | {name: value for name, value in row.items() if name not in folded}
        for row in rows
    ]


def _alike(results: Runs, by: Sequence[str], named: Labels) -> str:
    """Return the settings that all runs share, besides the seed and those in `by`, as text."""
    names = [*OF_RUN, *dict.fromkeys(name for entry in results for name in entry["run"]["settings"])]
    parts = []
    for name in names:
        found = {hashable(setting(entry, name)): setting(entry, name) for entry in results}
        if name not in ("seed", *by) and len(found) == 1:
            text = str(named.of(*found.values()))
            parts.append(f"{'daynight' if name == 'version' else name} {text[:8] if name == 'data' else text}")
    return ", ".join(parts)


def _percent(confidence: float) -> str:
    return f"{100 * confidence:.6g} %"


class TooManyError(SettingError):
    """A figure would have more colours than can be told apart."""


def draw(
    results: Runs,
    value: str,
    by: Sequence[str],
    labels: Mapping[str, Any] | None,
    against: Mapping[str, Any] | None,
    bars: str,
    confidence: float,
) -> Axes:
    """Draw a result; see `daynight.study.Results.draw`."""
    checks.one_of("bars", bars, BARS)
    if not results.entries or not by:
        raise SettingError("draw: there must be runs, and at least one setting in by=.", page="studies")
    named = Labels(labels)
    groups = _groups(results, value, by, labels, against, confidence)
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
    are_intervals = is_difference or bars == "intervals"
    styles = zip(plots.shades(len(lines)), itertools.cycle(_MARKERS), strict=False)
    for number, (line, (colour, marker)) in enumerate(zip(lines.values(), styles, strict=False)):
        own = sorted(line, key=lambda group: group.ranks[across])
        if not own:
            continue
        key = _without(own[0].names, across)
        named_key = zip(_without(by, across), key, strict=True)
        label = f"{key[0]}" if len(key) == 1 else ", ".join(f"{name}={item}" for name, item in named_key)
        style: dict[str, Any] = {"color": colour, "marker": marker, "ms": 4, "capsize": 2.5}
        style["label"] = _wrapped(label, _LEGEND, "   ") or None
        means = [group.summary.mean for group in own]
        errors = np.array([_bar(group.summary, are_intervals) for group in own]).T
        aside = number - (len(lines) - 1) / 2
        if is_numeric:
            beside = offset_copy(ax.transData, ax.get_figure(root=True), x=_ASIDE * aside, units="points")
            at = [group.names[across] for group in own]
            for artist in ax.errorbar(at, means, errors, lw=1.4, **style).get_children():
                artist.set_transform(beside)
        else:
            at = [places[group.names[across]] + _BESIDE * aside for group in own]
            ax.errorbar(means, at, xerr=errors, ls="", **style)
    _finish(ax, by[across], None if is_numeric else places, height, value)
    if is_numeric:
        ax.set_xticks(*_ticks([name for _, name in ranked]))
    about = counted([group.summary.n for group in groups], _percent(confidence) if are_intervals else bars)
    ax.set_title(_n_differences(len(groups), is_difference) + about, loc="right", fontsize="small", color="0.3")
    if is_difference:
        assert against is not None
        from_what = named.texts(against)
        (ax.axhline if is_numeric else ax.axvline)(0.0, color="0.6", lw=1.0, zorder=0)
        wrapped = _wrapped(f"{value}, minus that with {from_what}", 40)
        (ax.set_ylabel if is_numeric else ax.set_xlabel)(wrapped, fontsize="medium" if len(wrapped) < 41 else "small")
    if len(by) > 1:
        _legend_below(ax, len(lines), _without(by, across)[0] if len(by) == 2 else None)
    return ax


def _n_differences(n: int, is_difference: bool) -> str:
    return f"{n} differences, " if is_difference and n > 1 else ""


def _ticks(values: Sequence[float]) -> tuple[list[float], list[str]]:
    """Return those of some rising numbers that can be named on an axis without touching each other, and their names."""
    kept, reach = [values[-1]], values[-1] - values[0]
    for value in reversed(values[:-1]):
        if kept[-1] - value >= _APART * reach:
            kept.append(value)
    return kept[::-1], [f"{value:.12g}" for value in reversed(kept)]


def _groups(
    results: Runs,
    value: str,
    by: Sequence[str],
    labels: Mapping[str, Any] | None,
    against: Mapping[str, Any] | None,
    confidence: float,
) -> list[Group]:
    """Return what is drawn of each group of runs."""
    named = Labels(labels)
    groups, ranks = results.groups(*by), _ranks(results, by, named)
    others = None if against is None else results.others(by, against, labels)
    found = []
    for key, own in groups.items():
        names = tuple(named.of(setting(own.entries[0], name)) for name in by)
        if others is None:
            found.append(Group(names, ranks[key], own.summary(value, confidence)))
        elif key in others and own.values(value).keys() & others[key].values(value).keys():
            found.append(Group(names, ranks[key], own.compare(others[key], value, confidence)))
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


def _legend_below(ax: Axes, n_lines: int, title: str | None) -> None:
    """Put the legend below the axes, where it takes nothing of their width, and make the figure as much higher."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    style: dict[str, Any] = {"frameon": False, "fontsize": "small", "title_fontsize": "small", "alignment": "left"}
    legend = figure.legend(loc="outside lower left", title=title, ncols=1, **style)
    n_rows = (title is not None) + sum(text.get_text().count("\n") + 1 for text in legend.get_texts())
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.17 * n_rows + 0.06 * n_lines)


def _bar(summary: Summary, is_interval: bool) -> tuple[float, float]:
    """Return how far a bar reaches below and above the mean; nothing for one run."""
    if math.isnan(summary.standard_error):
        return 0.0, 0.0
    if is_interval:
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
    table: Sequence[Mapping[str, Any]], against: Mapping[str, Any], named: Labels, confidence: float
) -> str:
    """Return what the differences are, how many, and how often their intervals miss by chance."""
    n, percent = table[0]["comparisons"], _percent(confidence)
    text = f"Differences are from {named.texts(against)}, paired by seed, each with its own {percent} interval."
    if n < 2:
        return text
    missed = (1 - confidence) * n
    if missed < 1:
        return (
            f"{text} There are {n}: by chance, one or more of them miss in up to {100 * missed:.2g} % of such studies."
        )
    return f"{text} There are {n}, of which about {missed:.2g} miss by chance, on average."
