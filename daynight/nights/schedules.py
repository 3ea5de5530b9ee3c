"""Sleep policies with a plan: all their cycles are known before the night. The recommended policy is one of them."""

from __future__ import annotations

import abc
import math
import numbers
from collections.abc import Callable, Generator, Iterable

from daynight.errors import SettingError
from daynight.nights.cycle import Cycle, Density, Night
from daynight.nights.policy import MAX_CYCLES, SleepPolicy
from daynight.nights.wrappers import Rated
from daynight.rates import Linear, Rate
from daynight.support import checks

#: How the density falls over the prunes of a night: a function of the share of the prunes that are done, 0 to 1, and of
#: the dawn density. It returns the density, which is 1 at share 0 and the dawn density at share 1.
DensityCurve = Callable[[float, float], float]


def constant_share(share: float, dawn: float) -> float:
    """Return dawn^share: each prune takes the same share of the weights that are left (Algorithm 2 of the paper).

    Source: Ball et al., "A Study on Efficiency in Continual Learning Inspired by Human Learning", Appendix D.

    Args:
        share: Share of the prunes that are done, 0 to 1.
        dawn: The dawn density, above 0 and up to 1.
    """
    return math.pow(dawn, share)


def cubic(share: float, dawn: float) -> float:
    """Return dawn + (1 - dawn) (1 - share)^3: the first prunes take many weights, later prunes fewer and fewer.

    Source: Zhu & Gupta, "To Prune, or Not to Prune: Exploring the Efficacy of Pruning for Model Compression", 2017,
    equation 1, written for the density.

    Args:
        share: Share of the prunes that are done, 0 to 1.
        dawn: The dawn density, above 0 and up to 1.
    """
    return dawn + (1 - dawn) * (1 - share) ** 3


def equal_number(share: float, dawn: float) -> float:
    """Return 1 - (1 - dawn) share: each prune takes the same number of weights.

    Args:
        share: Share of the prunes that are done, 0 to 1.
        dawn: The dawn density, above 0 and up to 1.
    """
    return 1 - (1 - dawn) * share


class UniformCycles(SleepPolicy):
    """N cycles of equal length, each of which prunes the same share of the weights left (the nights of the paper).

    Args:
        n: N, the number of cycles, 1 or more. If N does not divide the budget in optimizer steps, lengths differ by one
            step; if N is larger than the budget, some cycles have no REM.

    Raises:
        SettingError: If `n` is not a whole number from 1 to 100,000.
    """

    def __init__(self, n: int) -> None:
        self.n = checks.integer("UniformCycles: n", n, least=1, most=MAX_CYCLES)

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield N cycles."""
        yield from _laid_out(night, [1.0] * self.n)


class OneShot(SleepPolicy):
    """One prune, then the whole budget in one REM, as in PackNet."""

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield one cycle."""
        yield Cycle(keep="dawn", length=night.left)


class NoSleep(SleepPolicy):
    """One prune and no REM: the baseline that shows how much a night improves the score."""

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield one cycle."""
        yield Cycle(keep="dawn", length=night.price)


class ExplicitCycles(SleepPolicy):
    """Cycles given one by one, with lengths and densities of your choice.

    Args:
        cycles: Either relative lengths, such as ``[1, 2, 4]``: numbers, 0 or more. The cycles share the whole budget in
            proportion to these numbers, and each cycle prunes the same share of the weights left. Or cycles, each a
            `Cycle` or a pair ``(keep, length)``, such as ``[(0.2, 0.3), ("dawn", 0.7)]``, which are used unchanged.

    Raises:
        SettingError: If there are no cycles, or a cycle is not valid.
    """

    def __init__(self, cycles: Iterable[Cycle | tuple[Density, float] | float]) -> None:
        try:
            given = list(cycles)
        except TypeError as error:
            raise SettingError(
                "ExplicitCycles: cycles must be several, such as [1, 2, 4] or [(0.2, 0.3), ('dawn', 0.7)], not "
                f"{cycles!r}."
            ) from error
        if not given:
            raise SettingError("ExplicitCycles: give at least one cycle.")
        self.relative_lengths: tuple[float, ...] = ()
        self.explicit: tuple[Cycle, ...] = ()
        if all(isinstance(item, numbers.Real) for item in given):
            self.relative_lengths = tuple(checks.finite("ExplicitCycles: a length", n, least=0) for n in given)
            if math.isinf(sum(self.relative_lengths)):
                raise SettingError("ExplicitCycles: the relative lengths must have a finite sum: give smaller ones.")
            if not any(self.relative_lengths):
                raise SettingError("ExplicitCycles: at least one relative length must be above 0.")
        else:
            self.explicit = tuple(_as_cycle(item) for item in given)

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield the given cycles."""
        if self.relative_lengths:
            yield from _laid_out(night, self.relative_lengths)
        else:
            yield from self.explicit


class _Laid(SleepPolicy):
    """Base class of policies in which REMs have relative lengths, and the density falls along a curve."""

    def __init__(self, density: DensityCurve, rate: Rate | None) -> None:
        checks.function(f"{type(self).__name__}: density", density)
        if rate is not None:
            checks.function(f"{type(self).__name__}: rate", rate)
        self.density, self.rate = density, rate

    @abc.abstractmethod
    def lengths(self) -> Iterable[float]:
        """Return one number for each REM; the lengths of the REMs are in proportion to these numbers."""

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield the cycles. The price of all prunes is subtracted first; the REMs share the rest of the budget."""
        yield from _laid_out(night, self.lengths(), self.density, self.rate, night.price)


class GeometricCycles(_Laid):
    """N cycles in which each REM is longer, or shorter, than the REM before by the same factor.

    Human REM sleep lengthens toward morning (McCarley, "Neurobiology of REM and NREM sleep", 2007).

    Args:
        n: N, the number of cycles, 1 or more.
        ratio: Length of the last REM divided by the length of the first REM, above 0. With a ratio above 1 the REMs
            lengthen, with a ratio below 1 they shorten.
        density: How the density falls from cycle to cycle: `constant_share`, `cubic`, `equal_number` or your own
            function with the same arguments.
        rate: How the learning rate changes over each REM; see `daynight.Cycle`.

    Raises:
        SettingError: If an argument is not valid.
    """

    def __init__(
        self, n: int, ratio: float, *, density: DensityCurve = constant_share, rate: Rate | None = None
    ) -> None:
        super().__init__(density, rate)
        self.n = checks.integer("GeometricCycles: n", n, least=1, most=MAX_CYCLES)
        self.ratio = checks.positive("GeometricCycles: ratio", ratio)

    def lengths(self) -> Iterable[float]:
        """Return one number for each REM; the lengths of the REMs are in proportion to these numbers."""
        return [self.ratio ** (i / max(1, self.n - 1)) for i in range(self.n)]


class GradualPruning(_Laid):
    """Many short cycles, and then a long last REM: gradual pruning within a night.

    Args:
        n: Number of prunes, 1 or more. The first prune is at dusk, and the other prunes follow at equal intervals.
        last: Share of the night that the last REM takes, 0 to 1. If `n` is 1, the last REM takes the whole night.
        density: How the density falls from prune to prune: `cubic`, `constant_share`, `equal_number` or your own
            function with the same arguments.
        rate: How the learning rate changes over each REM; see `daynight.Cycle`. `daynight.Rated` can change the
            learning rate over the whole night instead.

    Raises:
        SettingError: If an argument is not valid.
    """

    def __init__(
        self, n: int = 100, last: float = 0.5, *, density: DensityCurve = cubic, rate: Rate | None = None
    ) -> None:
        super().__init__(density, rate)
        self.n = checks.integer("GradualPruning: n", n, least=1, most=MAX_CYCLES)
        self.last = checks.share("GradualPruning: last", last)

    def lengths(self) -> Iterable[float]:
        """Return one number for each REM; the lengths of the REMs are in proportion to these numbers."""
        if self.n == 1:
            return [1.0]
        return [(1 - self.last) / (self.n - 1)] * (self.n - 1) + [self.last]


def recommended_policy(n: int = 72) -> SleepPolicy:
    """Return the policy to start with. It was chosen among many kinds of nights, on separate data and seeds.

    The policy prunes often over the first 70 % of the night, each time the same share of the weights left, and retrains
    for the rest of the night. The learning rate rises linearly over the night, from the optimizer's learning rate to
    three times that rate. The policy was chosen on MNIST with a network of linear layers; the page on choosing a policy
    says how, and what the policy gains on other data. When a task may keep many weights, one prune a night can be
    better: compare this policy with `OneShot` on validation data.

    Args:
        n: Number of prunes, 1 or more. If prunes have a price, the night's budget must cover the price of all prunes;
            otherwise the plan is refused before the night begins. With a budget of time, cycles are merged if prunes
            take long.

    Raises:
        SettingError: If `n` is not a whole number from 1 to 100,000.
    """
    return Rated(GradualPruning(n, 0.3, density=constant_share), Linear(1.0, 3.0), "night")


def _laid_out(
    night: Night,
    lengths: Iterable[float],
    density: DensityCurve = constant_share,
    rate: Rate | None = None,
    price: float = 0.0,
) -> Generator[Cycle, Night, None]:
    """Yield cycles that share the rest of the budget in proportion to `lengths`.

    Args:
        night: The snapshot before the first cycle.
        lengths: A relative length for each cycle.
        density: How the density falls. With `constant_share` and N cycles from density 1 to 1 - r, the density after
            cycle n is (1 - r)^(n/N), which is (1 - z)^n with the z of Algorithm 2.
        rate: How the learning rate changes over each REM; see `daynight.Cycle`.
        price: Share of the budget that each cycle gets for its prune before the rest is shared. With the price of a
            prune, `lengths` are the lengths of the REMs; with 0, they are the lengths of whole cycles.
    """
    lengths = list(lengths)
    left, start, total = night.left - len(lengths) * price, night.density, math.fsum(lengths)
    for n, length in enumerate(lengths, start=1):
        keep = start * density(n / len(lengths), night.dawn_density / start)
        share = max(0.0, left) * length / total + price
        yield Cycle(keep=keep if n < len(lengths) else "dawn", length=share, rate=rate)


def _as_cycle(item: object) -> Cycle:
    if isinstance(item, Cycle):
        return item
    if isinstance(item, tuple) and len(item) == 2:
        return Cycle(keep=item[0], length=item[1])
    raise SettingError(
        f"ExplicitCycles: {item!r} is neither a Cycle nor a (keep, length) pair; relative lengths and "
        "cycles do not mix."
    )
