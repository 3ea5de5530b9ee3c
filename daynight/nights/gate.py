"""The gate: whether a task's new version takes over from the old one, by results on the same held-out examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from daynight import metrics
from daynight.errors import DataError, SettingError
from daynight.support import checks

#: An interval for a metric that is no mean over examples is made from so many resamples.
N_RESAMPLES = 1000
#: What is less probable does not happen by chance.
_RARE = 0.001


def _tolerance(value: Any) -> float:
    return checks.finite("Gate: tolerance", value, least=0)


def _confidence(value: Any) -> float:
    confidence = checks.finite("Gate: confidence", value)
    if not 0 < confidence < 1:
        raise SettingError(f"Gate: confidence must be above 0 and below 1, not {value!r}.")
    return confidence


def _least(value: Any) -> int:
    return checks.integer("Gate: least", value, least=2)


def _holds(value: Any) -> int:
    return checks.integer("Gate: holds", value, least=0)


def _check_better(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    checks.one_of("Gate: better", value, ("higher", "lower"))


def _check_strict(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    checks.flag("Gate: strict", value)


@attrs.frozen(kw_only=True)
class Verdict:
    """What a gate decided.

    Attributes:
        accepted: Whether the new version takes over.
        reason: Why, in words.
        difference: Score of the new version minus score of the old one, on the same examples; NaN if there are none.
        low: Lower end of the confidence interval of the difference; NaN with fewer than two examples.
        high: Upper end of the interval.
        n: Number of held-out examples.
    """

    accepted: bool
    reason: str
    difference: float
    low: float
    high: float
    n: int

    def noted(self) -> dict[str, Any]:
        """Return the fields of the day's `Record`; without an interval if there are too few examples for one."""
        numbers = {"gate_difference": self.difference, "gate_low": self.low, "gate_high": self.high}
        found = {name: value for name, value in numbers.items() if math.isfinite(value)}
        return {"accepted": int(self.accepted), "gate_reason": self.reason, "gate_examples": self.n, **found}


@attrs.frozen(kw_only=True)
class Gate:
    """The rule by which a task's new version takes over from the old one, or is refused.

    Both versions are tested on the same held-out examples, and the gate looks at the confidence interval of the
    difference between their scores. The new version is refused

    - if fewer than `least` of them are of the new version's own day: so small a day shows nothing;
    - if the whole interval says that it is worse than the old one by more than `tolerance`;
    - with ``strict=True``, also if a part of the interval says so.

    So without `strict`, a version that is as good as the old one is refused in at most (1 - confidence) / 2 of all
    nights, however few or many the examples are; a small decline that the examples cannot show is accepted, and the
    reason says so. With `strict`, a version that is worse by more than the tolerance is accepted in at most
    (1 - confidence) / 2 of all nights, but good versions are often refused unless the interval is narrower than the
    tolerance. (This is a test of non-inferiority.)

    If the labels of a day are wrong, those of its own held-out examples are also wrong, and on them both versions do
    equally badly. So an agent also keeps held-out examples of past days, and tries both versions on them, too. A day is
    also refused if its labels have nothing to do with its inputs, as far as the new version can tell: on the held-out
    examples of the day it is worse than on those of past days by more than `tolerance`, beyond chance, and no better
    than if the targets of these examples were shuffled. So is a day whose held-out examples all have the same target,
    if that would happen by chance in less than one of 1,000 days like those before. Both need `least` examples of each.

    Args:
        tolerance: Decline that is accepted, in units of the score, 0 or more.
        confidence: Probability that the interval covers the true difference, above 0 and below 1.
        least: Fewest held-out examples of its own day with which a version can be accepted, 2 or more. With 50, the
            interval of a difference in accuracy is about 0.1 to each side if the versions disagree on one example in
            eight.
        better: ``"higher"`` if higher scores are better, ``"lower"`` for errors and losses.
        strict: Whether a version is accepted only if it is shown not to be worse by more than the tolerance.
        holds: Largest number of held-out examples of past days that an agent keeps for each living task, a uniform
            sample, 0 or more. They are in the agent's file.

    Raises:
        SettingError: If a value is outside its range.
    """

    tolerance: float = attrs.field(converter=_tolerance)
    confidence: float = attrs.field(default=0.95, converter=_confidence)
    least: int = attrs.field(default=50, converter=_least)
    better: Literal["higher", "lower"] = attrs.field(default="higher", validator=_check_better)
    strict: bool = attrs.field(default=False, validator=_check_strict)
    holds: int = attrs.field(default=2000, converter=_holds)

    def compare(self, old: Tensor, new: Tensor, *, n_today: int | None = None) -> Verdict:
        """Compare two versions by a score that is a mean over examples, such as accuracy or a loss.

        The interval is that of Student's t for the mean of paired differences. If all scores are 0 or 1, it is the
        interval of A. Agresti and Y. Min, "Simple improved confidence intervals for comparing matched proportions",
        Statistics in Medicine 24 (2005), which adds half an example to each of the four cells: it holds for small
        samples, too, and if the two versions are right on the same examples.

        Args:
            old: Score of the old version on each example, (n,): numbers, or True where it is right.
            new: Score of the new version on the same examples, (n,).
            n_today: How many of the examples are of the new version's own day; None is all.

        Raises:
            DataError: If the two do not have the same shape (n,), or values are not finite.
        """
        if old.dim() != 1 or old.shape != new.shape:
            raise DataError(
                f"Gate: scores must be two tensors of one shape (n,), not {tuple(old.shape)} and {tuple(new.shape)}. "
                "Give one score per example, of both versions in the same order."
            )
        old, new = old.detach().cpu().double(), new.detach().cpu().double()
        both = torch.cat([old, new])
        if not checks.all_finite(both):
            raise DataError("Gate: scores are not all finite. Find out which example has none, and leave it out.")
        difference = new - old
        interval = _of_rights if bool(((both == 0) | (both == 1)).all()) else _of_numbers
        mean = float(difference.mean()) if len(difference) else math.nan
        return self._verdict(mean, interval(difference, self.confidence), len(difference), n_today)

    def judge(
        self,
        metric: Callable[[Tensor, Tensor], Any],
        old: Tensor,
        new: Tensor,
        targets: Tensor,
        generator: torch.Generator,
        *,
        n_today: int | None = None,
    ) -> Verdict:
        """Compare two versions by any metric of their outputs.

        For `daynight.metrics.accuracy`, this is `compare`. For other metrics, the interval is the percentile interval
        of the paired bootstrap: the metric of both versions is computed on 1,000 resamples of the examples. (B. Efron
        and R. J. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.) If targets repeat, such as
        labels, each resample has as many examples of each target as there are, so that no class is missing. A version
        is refused if the metric is not finite on one of them.

        Args:
            metric: Function of (outputs, targets) of a whole split to a number.
            old: Outputs of the old version, (n, ...).
            new: Outputs of the new version on the same examples, (n, ...); a new version may have more outputs.
            targets: int64 (n,), or floating point (n, outputs).
            generator: CPU generator that draws the resamples.
            n_today: How many of the examples, at the beginning, are of the new version's own day; None is all.

        Raises:
            DataError: If numbers of examples differ, or the metric fails.
        """
        n = len(targets)
        if not len(old) == len(new) == n:
            raise DataError(
                f"Gate: there are {len(old)} and {len(new)} outputs for {n} targets. Give one of each per example."
            )
        n_today = n if n_today is None else checks.integer("Gate: n_today", n_today, least=0, most=n)
        if metric is metrics.accuracy:
            verdict = self.compare(old.argmax(1) == targets, new.argmax(1) == targets, n_today=n_today)
        elif n < 2:
            verdict = self._verdict(math.nan, (math.nan, math.nan), n, n_today)
        else:
            mean = _difference(metric, old, new, targets)
            draws = [_difference(metric, old[i], new[i], targets[i]) for i in _resamples(targets, generator)]
            interval = self._interval([mean, *draws])
            if interval is None and n_today >= self.least:
                return Verdict(
                    accepted=False, difference=math.nan, low=math.nan, high=math.nan, n=n,
                    reason=f"the metric is not finite on all resamples of the {n:,} held-out examples",
                )  # fmt: skip
            verdict = self._verdict(mean, interval or (math.nan, math.nan), n, n_today)
        if verdict.accepted and self.least <= n_today <= n - self.least:
            reason = _same(targets, n_today) or self._aimless(metric, new, targets, generator, n_today)
            if reason:
                return attrs.evolve(verdict, accepted=False, reason=reason)
        return verdict

    def _interval(self, draws: list[float]) -> tuple[float, float] | None:
        """Return the percentile interval of some draws; None if some are not finite."""
        if not all(map(math.isfinite, draws)):
            return None
        ends = torch.tensor([(1 - self.confidence) / 2, (1 + self.confidence) / 2], dtype=torch.float64)
        low, high = torch.tensor(draws, dtype=torch.float64).quantile(ends).tolist()
        return low, high

    def _aimless(
        self,
        metric: Callable[[Tensor, Tensor], Any],
        outputs: Tensor,
        targets: Tensor,
        generator: torch.Generator,
        n_today: int,
    ) -> str | None:
        """Return, in words, that the day's targets have nothing to do with its inputs; None if that is not found.

        It is found if the new version is worse on the day's examples than on those of past days (the bootstrap of two
        samples: Efron and Tibshirani, chapter 16), and no better than with shuffled targets (a permutation test:
        chapter 15). The second test finds a relation where there is none in one of 1,001 days.
        """
        sign = 1 if self.better == "higher" else -1
        outputs, past_outputs = outputs[:n_today], outputs[n_today:]
        targets, past_targets = targets[:n_today], targets[n_today:]

        def scored(outputs: Tensor, targets: Tensor) -> float:
            return sign * _score(metric, outputs, targets)

        try:
            reached, usual = scored(outputs, targets), scored(past_outputs, past_targets)
            if not reached < usual - self.tolerance:
                return None
            places = zip(_resamples(targets, generator), _resamples(past_targets, generator), strict=True)
            interval = self._interval(
                [scored(outputs[i], targets[i]) - scored(past_outputs[j], past_targets[j]) for i, j in places]
            )
            if interval is None or interval[1] >= -self.tolerance:
                return None
            shuffled = (targets[torch.randperm(n_today, generator=generator)] for _ in range(N_RESAMPLES))
            if all(scored(outputs, drawn) < reached for drawn in shuffled):
                return None
        except DataError:
            return None  # the metric cannot measure the day's examples alone
        return (
            f"the targets of the day have nothing to do with its inputs: on its {n_today:,} held-out examples the new "
            f"version is no better ({sign * reached:.4g}) than with shuffled targets, and on those of past days it is "
            f"({sign * usual:.4g})"
        )

    def _verdict(self, difference: float, interval: tuple[float, float], n: int, n_today: int | None) -> Verdict:
        n_today = n if n_today is None else checks.integer("Gate: n_today", n_today, least=0, most=n)
        low, high = interval
        # The gain is the difference with the sign with which more is better.
        least_gain, most_gain = (low, high) if self.better == "higher" else (-high, -low)
        shown = f"{difference:+.4g} (interval {low:+.4g} to {high:+.4g}, {n:,} examples)"
        by_more = f"worse by more than {self.tolerance:g}"
        if n_today < self.least:
            reason = f"too few held-out examples of the day: {n_today}, and the gate needs {self.least} or more"
            accepted = False
        elif most_gain < -self.tolerance:
            accepted, reason = False, f"the new version is {by_more}: {shown}"
        elif least_gain >= -self.tolerance:
            accepted, reason = True, f"the new version is not {by_more}: {shown}"
        else:
            accepted = not self.strict
            reason = f"too few held-out examples to tell whether the new version is {by_more}: {shown}"
        return Verdict(accepted=accepted, reason=reason, difference=difference, low=low, high=high, n=n)


def _same(targets: Tensor, n_today: int) -> str | None:
    """Return, in words, that all targets of the day are the same, as those of past days are not; None if not so.

    A label that no past day has is a new class.
    """
    today, past = targets[:n_today], targets[n_today:]
    share = float((past == today[0]).reshape(len(past), -1).all(1).double().mean())
    is_new = not share and not targets.is_floating_point()
    if bool((today != today[0]).any()) or is_new or (share + 1 / len(past)) ** n_today >= _RARE:
        return None
    return (
        f"all {n_today:,} held-out examples of the day have the same target ({today[0].tolist()}), which {share:.0%} "
        "of those of past days have"
    )


def _of_numbers(difference: Tensor, confidence: float) -> tuple[float, float]:
    """Return the confidence interval of a mean, by Student's t."""
    from scipy import special  # here, since importing daynight does not load SciPy

    n = len(difference)
    if n < 2:
        return math.nan, math.nan
    mean = float(difference.mean())
    half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * float(difference.std()) / math.sqrt(n)
    return mean - half, mean + half


def _of_rights(difference: Tensor, confidence: float) -> tuple[float, float]:
    """Return the confidence interval of the mean of differences of 1, 0 and -1, by Agresti and Min."""
    from scipy import special

    n = len(difference)
    if n < 2:
        return math.nan, math.nan
    n_gained, n_lost = float((difference > 0).sum()), float((difference < 0).sum())
    mean = (n_gained - n_lost) / (n + 2)
    variance = (n_gained + n_lost + 1) / (n + 2) - mean**2
    half = float(special.ndtri((1 + confidence) / 2)) * math.sqrt(variance / (n + 2))
    return max(mean - half, -1.0), min(mean + half, 1.0)


def _difference(metric: Callable[[Tensor, Tensor], Any], old: Tensor, new: Tensor, targets: Tensor) -> float:
    return _score(metric, new, targets) - _score(metric, old, targets)


def _score(metric: Callable[[Tensor, Tensor], Any], outputs: Tensor, targets: Tensor) -> float:
    try:
        return float(metric(outputs, targets))
    except Exception as error:
        raise DataError(
            f"Gate: the metric fails on a resample of the held-out examples: {error!r}. Hold out more, or choose "
            "another metric."
        ) from error


def _resamples(targets: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Return places (int64) of examples, drawn with replacement; within groups of equal targets if these repeat."""
    n = len(targets)
    kinds, group = torch.unique(targets.cpu(), dim=0, return_inverse=True)
    if len(kinds) > n // 10:
        group = torch.zeros(n, dtype=torch.int64)
    order, sizes = group.argsort(stable=True), torch.bincount(group)
    first, size = (sizes.cumsum(0) - sizes)[group[order]], sizes[group[order]]
    draws = (torch.rand(N_RESAMPLES, n, generator=generator, dtype=torch.float64) * size).long()
    return list(order[first + draws])
