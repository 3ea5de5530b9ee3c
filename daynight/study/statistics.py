"""Statistics of runs that differ in their seed: means, standard errors, intervals, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import attrs
import numpy as np

from daynight.errors import SettingError
from daynight.support import checks

#: Probability that an interval covers the mean, unless another one is given.
CONFIDENCE = 0.95


@attrs.frozen
class Summary:
    """A sample's mean, with its standard error and confidence interval.

    Attributes:
        n: Number of values.
        mean: Mean of the values.
        standard_error: Standard error of the mean: sample standard deviation / sqrt(n); NaN for one value.
        low: Lower end of the confidence interval of the mean, by Student's t with n - 1 degrees of freedom.
        high: Upper end of the confidence interval.
    """

    n: int
    mean: float
    standard_error: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.n == 1:
            return f"{self.mean:.4g} (n = 1)"
        return f"{self.mean:.4g} ± {self.standard_error:.2g} (interval {self.low:.4g} to {self.high:.4g}, n = {self.n})"


def summarize(values: Iterable[float], confidence: float = CONFIDENCE) -> Summary:
    """Return the summary of values of independent runs.

    Args:
        values: One or more finite numbers.
        confidence: Probability that the interval covers the mean, above 0 and below 1.

    Raises:
        SettingError: If there are no values, one is not finite, or `confidence` is not a probability.
    """
    try:
        given = np.asarray(list(values), dtype=np.float64)
    except (TypeError, ValueError):
        given = np.empty(0)
    if given.ndim != 1 or not len(given) or not np.isfinite(given).all():
        raise SettingError(f"summarize takes one or more finite numbers, not {values!r}.")
    if not 0 < checks.finite("confidence", confidence) < 1:
        raise SettingError(f"confidence must be above 0 and below 1, not {confidence!r}.")
    mean, n = float(given.mean()), len(given)
    if n == 1:
        return Summary(1, mean, math.nan, math.nan, math.nan)
    error = float(given.std(ddof=1)) / math.sqrt(n)
    reach = reach_of(n, error, confidence)
    return Summary(n, mean, error, mean - reach, mean + reach)


def reach_of(n: int, standard_error: float, confidence: float = CONFIDENCE) -> float:
    """Return how far the confidence interval of a mean reaches to both sides, by Student's t; NaN for one value.

    Args:
        n: Number of values, 1 or more.
        standard_error: Standard error of the mean.
        confidence: Probability that the interval covers the mean, above 0 and below 1.
    """
    from scipy import special  # here, since workers of studies need no SciPy, and begin sooner without

    return float(special.stdtrit(n - 1, (1 + confidence) / 2)) * standard_error if n > 1 else math.nan


def paired(a: Mapping[int, float], b: Mapping[int, float], confidence: float = CONFIDENCE) -> Summary:
    """Return the summary of the differences a - b of runs with equal seeds, in which effects of the seed cancel.

    Args:
        a: Values by seed.
        b: Values by seed. Seeds that only `a` or only `b` has are left out.
        confidence: Probability that the interval covers the mean difference.

    Raises:
        SettingError: If `a` and `b` have no seed in common.
    """
    for values in (a, b):
        checks.kind("paired: values by seed", values, Mapping, "{0: 0.97, 1: 0.98}")
    shared = sorted(set(a) & set(b))
    if not shared:
        empty = "The first has no runs. " if not a else "The second has no runs. " if not b else ""
        raise SettingError(
            f"paired: no seed has a run of both kinds. {empty}Do both with the same seeds.", page="studies"
        )
    return summarize([a[seed] - b[seed] for seed in shared], confidence)


def errors(
    accuracies: Mapping[str, Mapping[int, float]], baselines: Mapping[str, str]
) -> dict[str, dict[str, float | int]]:
    """Return mean errors in percent, and how many percentage points they are below those of baselines, seed by seed.

    Args:
        accuracies: Accuracy, 0 to 1, by name and seed.
        baselines: The names to compare with, by their labels in the columns.

    Returns:
        By name the columns ``"seeds"``, ``"error %"``, ``"error % standard error"``, and for each baseline
        ``"less than ..."`` with its confidence interval, ``" low"`` and ``" high"``.
    """
    found = {}
    for name, own in accuracies.items():
        accuracy = summarize(own.values())
        row: dict[str, float | int] = {"seeds": accuracy.n, "error %": 100 * (1 - accuracy.mean)}
        row["error % standard error"] = 100 * accuracy.standard_error
        for label, other in baselines.items():
            gain = paired(own, accuracies[other])
            row[f"less than {label}"] = 100 * gain.mean
            row |= {f"less than {label} low": 100 * gain.low, f"less than {label} high": 100 * gain.high}
        found[name] = row
    return found
