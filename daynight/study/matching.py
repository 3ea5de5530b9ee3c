"""Matching: the pruning at which another method is as accurate as PackNet, and its compression."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Sequence

import attrs
import numpy as np
from scipy.optimize import minimize_scalar

from daynight.errors import SettingError
from daynight.pruning.capacity import check_free_at_end
from daynight.study import measures
from daynight.study.statistics import Summary
from daynight.support import checks

#: Kept fractions are rounded to this number of digits, so that a repeated search finds its runs in the store.
_DIGITS = 3
#: Means that differ by less count as equal, for runs without scatter.
_EQUAL = 1e-3
#: The largest kept fraction that is tried.
_MOST = 0.999
#: Kept fractions on both sides of the optimum are tried at least this far from it, as a ratio.
_BESIDE = 1.15
#: A kept fraction closer than this ratio to the outermost one that was tried counts as equal to that.
_ALMOST = 1.001


@attrs.frozen(kw_only=True)
class Match:
    """The pruning at which a method reaches a given accuracy.

    Attributes:
        free_at_end: p, PackNet's fraction of free weights.
        target: PackNet's mean accuracy.
        matched: Fraction of free weights at which the other method is closest to `target`.
        reached: The other method's mean accuracy there.
        compression: (1 - p) / (1 - matched).
        low: Smallest compression at which the difference in accuracy is within its standard error, by linear
            interpolation between the evaluations; together with `high`, it shows how flat the optimum is.
        high: Largest compression at which that holds.
        gap: Mean of `reached` minus mean of `target`.
        is_reached: Whether the gap is within twice its standard error, so that the accuracies count as equal. If not,
            `compression` belongs to the nearest accuracy, not to an equal one.
        at_edge: Whether `low` or `high` is the end of the range tried, so that the compression may be beyond it.
        evaluations: (fraction free, mean accuracy) of each evaluation, by fraction.
    """

    free_at_end: float
    target: Summary
    matched: float
    reached: Summary
    compression: float
    low: float
    high: float
    gap: float
    is_reached: bool
    at_edge: bool
    evaluations: tuple[tuple[float, Summary], ...]


def match(
    free_at_end: float,
    target: Summary,
    accuracy_at: Callable[[float], Summary],
    *,
    compressions: tuple[float, float] = (0.7, 6.0),
    tolerance: float = 0.01,
    curve: Iterable[float] = (),
) -> Match:
    """Find the pruning at which a method is as accurate as PackNet.

    This minimizes the squared difference of mean accuracies over the logarithm of the kept fraction, with
    `scipy.optimize.minimize_scalar`. Fractions are rounded, and tried in the same order each time, so a repeated search
    finds its runs in the store.

    Source: Ball et al., "A Study on Efficiency in Continual Learning Inspired by Human Learning", Appendix B.

    Args:
        free_at_end: p of PackNet, between 0 and 1.
        target: PackNet's accuracy.
        accuracy_at: Returns the other method's accuracy at a fraction of free weights.
        compressions: The smallest and the largest compression to try.
        tolerance: Relative tolerance of the kept fraction at which the search ends.
        curve: Fractions of free weights at which the method's accuracy is known or needed anyway, such as those of a
            curve of accuracy against pruning. Those within `compressions` are tried first, and the search is between
            the neighbours of the one closest to the target. With noisy accuracies, this takes fewer evaluations.

    Raises:
        SettingError: If target or accuracies are not summaries of finite numbers, the compressions are not two rising
            positive numbers, the tolerance is not positive, or the curve does not consist of fractions.
    """
    kept = 1 - check_free_at_end(free_at_end)
    checks.kind("match: target", target, Summary, "results.summary('mean_accuracy')")
    checks.finite("match: the target's mean", target.mean)
    checks.function("match: accuracy_at", accuracy_at)
    bounds = least, most = _bounds(compressions, kept)
    if checks.finite("match: tolerance", tolerance) <= 0:
        raise SettingError(f"match: tolerance must be above 0, such as 0.01, not {tolerance!r}.")
    tried: dict[float, Summary] = {}

    def difference(free: float) -> float:
        if free not in tried:
            tried[free] = accuracy_at(free)
            checks.kind("match: the result of accuracy_at", tried[free], Summary, "results.summary('mean_accuracy')")
            checks.finite("match: an accuracy", tried[free].mean)
        return tried[free].mean - target.mean

    def squared_difference(logarithm: float) -> float:
        return difference(round(1 - min(float(f"{math.exp(logarithm):.{_DIGITS}g}"), _MOST), 12)) ** 2

    known = {math.log(1 - free): free for free in _fractions(curve)}
    points = [least, *sorted(point for point in known if least < point < most), most]
    if len(points) > 2:
        nearest = min(range(1, len(points) - 1), key=lambda index: abs(difference(known[points[index]])))
        bounds = points[nearest - 1], points[nearest + 1]
    minimize_scalar(squared_difference, bounds=bounds, method="bounded", options={"xatol": tolerance})
    matched = min(tried, key=lambda free: (abs(tried[free].mean - target.mean), free))
    # The search may have approached from one side only, but both sides show how flat the optimum is.
    if 1 - min(tried) < (1 - matched) * _BESIDE:
        squared_difference(min(most, math.log((1 - matched) * _BESIDE)))
    if 1 - max(tried) > (1 - matched) / _BESIDE:
        squared_difference(max(least, math.log((1 - matched) / _BESIDE)))
    matched = min(tried, key=lambda free: (abs(tried[free].mean - target.mean), free))
    flat = [measures.compression(free_at_end, free) for free in _within_error(tried, target, matched)]
    ends = [measures.compression(free_at_end, free) for free in (min(tried), max(tried))]
    at_edge = min(flat) <= ends[0] * _ALMOST or max(flat) >= ends[1] / _ALMOST
    gap = tried[matched].mean - target.mean
    errors = np.nan_to_num([tried[matched].standard_error, target.standard_error])
    return Match(
        free_at_end=free_at_end, target=target, matched=matched, reached=tried[matched],
        compression=measures.compression(free_at_end, matched), low=min(flat), high=max(flat), gap=gap,
        is_reached=bool(abs(gap) <= 2 * math.hypot(*errors) + _EQUAL), at_edge=at_edge,
        evaluations=tuple(sorted(tried.items())),
    )  # fmt: skip


def _bounds(compressions: tuple[float, float], kept: float) -> tuple[float, float]:
    """Return the logarithms of the least and the largest kept fraction to try.

    Raises:
        SettingError: If the compressions are not two rising positive numbers.
    """
    if isinstance(compressions, Sequence) and len(compressions) == 2:
        low, high = (checks.finite("match: compressions", value, least=0) for value in compressions)
        if 0 < low < high and kept / high < _MOST:
            return math.log(kept / high), math.log(min(kept / low, _MOST))
    raise SettingError(f"match: compressions must be two rising positive numbers, not {compressions!r}.")


def _fractions(curve: Iterable[float]) -> list[float]:
    fractions = list(curve) if isinstance(curve, Iterable) else [math.nan]
    if not all(isinstance(free, numbers.Real) and 0 < free < 1 for free in fractions):
        raise SettingError(f"match: curve must be fractions of free weights between 0 and 1, not {curve!r}.")
    return fractions


def _within_error(tried: dict[float, Summary], target: Summary, matched: float) -> list[float]:
    """Return the fractions around `matched` at which the accuracy is within its standard error of the target."""
    points = sorted(tried)
    kept = np.log(1 - np.asarray(points))[::-1]  # rising
    means = np.asarray([tried[free].mean for free in points])[::-1]
    errors = np.nan_to_num([math.hypot(tried[free].standard_error, target.standard_error) for free in points])[::-1]
    grid = np.unique(np.concatenate([np.linspace(kept[0], kept[-1], 1001), kept]))
    is_close = np.abs(np.interp(grid, kept, means) - target.mean) <= np.interp(grid, kept, errors)
    centre = int(np.argmin(np.abs(grid - math.log(1 - matched))))
    first = last = centre
    while first > 0 and is_close[first - 1]:
        first -= 1
    while last + 1 < len(grid) and is_close[last + 1]:
        last += 1
    return [matched, *(1 - math.exp(grid[index]) for index in (first, last) if is_close[index])]
