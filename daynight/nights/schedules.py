"""Sleep policies that are laid out before the night: cycles of unequal length, and gradual pruning."""

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


class UniformCycles(SleepPolicy):
    """N cycles of equal length, each of which prunes the same share of what is left (the study's nights).

    Args:
        n: N, number of cycles, 1 or more. Where N does not divide the budget, lengths differ by one
            optimizer step; where N is above it, some cycles have no REM.

    Raises:
        SettingError: If `n` is not a whole number from 1 to 100,000.
    """

    def __init__(self, n: int) -> None:
        self.n = checks.whole("UniformCycles: n", n, least=1, most=MAX_CYCLES)

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield N cycles."""
        yield from _geometric(night, [1.0] * self.n)


class OneShot(SleepPolicy):
    """One prune, then the whole budget in one REM: PackNet's own night."""

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield the one cycle."""
        yield Cycle(keep="dawn", length=night.left)


class NoSleep(SleepPolicy):
    """One prune and no REM: what a night is worth shows against this."""

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield the one cycle."""
        yield Cycle(keep="dawn", length=night.price)


class ExplicitCycles(SleepPolicy):
    """Cycles given one by one, of any lengths and densities.

    Args:
        cycles: Either relative lengths such as ``[1, 2, 4]`` (numbers, 0 or more, which then share the
            whole budget while each cycle prunes the same share of what is left), or cycles as `Cycle`
            or ``(keep, length)`` pairs, such as ``[(0.2, 0.3), ("dawn", 0.7)]``, taken as they are.

    Raises:
        SettingError: If there are none, or one of them is not of these forms.
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
        """Yield the cycles that were given."""
        if self.relative_lengths:
            yield from _geometric(night, self.relative_lengths)
        else:
            yield from self.explicit


def _geometric(night: Night, lengths: Iterable[float]) -> Generator[Cycle, Night, None]:
    """Share what is left of the budget in proportion to `lengths`; prune the same share each time.

    With N cycles from density 1 to 1 - r, the density after cycle n is (1 - r)^(n/N), which is
    (1 - z)^n with the z of Algorithm 2.
    """
    lengths = list(lengths)
    left, start, total = night.left, night.density, math.fsum(lengths)
    for n, length in enumerate(lengths, start=1):
        keep = start * (night.dawn_density / start) ** (n / len(lengths))
        yield Cycle(keep=keep if n < len(lengths) else "dawn", length=left * length / total)


def _as_cycle(item: object) -> Cycle:
    if isinstance(item, Cycle):
        return item
    if isinstance(item, tuple) and len(item) == 2:
        return Cycle(keep=item[0], length=item[1])
    raise SettingError(
        f"ExplicitCycles: {item!r} is neither a Cycle nor a (keep, length) pair; relative lengths and "
        "cycles do not mix."
    )


#: How the density falls: a function of the share of the prunes that are done, 0 to 1, and of the dawn density, that
#: gives 1 at 0 and the dawn density at 1.
DensityCurve = Callable[[float, float], float]


def constant_share(share: float, dawn: float) -> float:
    """Prune the same share of what is left each time: dawn^share, the study's Algorithm 2.

    Source: Ball et al., "A Study on Efficiency in Continual Learning Inspired by Human Learning", Appendix D.

    Args:
        share: Share of the prunes that are done, 0 to 1.
        dawn: The dawn density, above 0 and up to 1.
    """
    return math.pow(dawn, share)


def cubic(share: float, dawn: float) -> float:
    """Prune much at first and ever less: dawn + (1 - dawn) (1 - share)^3.

    Source: Zhu & Gupta, "To Prune, or Not to Prune: Exploring the Efficacy of Pruning for Model Compression", 2017,
    equation 1, written for the density.

    Args:
        share: Share of the prunes that are done, 0 to 1.
        dawn: The dawn density, above 0 and up to 1.
    """
    return dawn + (1 - dawn) * (1 - share) ** 3


def equal_number(share: float, dawn: float) -> float:
    """Prune the same number of weights each time: 1 - (1 - dawn) share.

    Args:
        share: Share of the prunes that are done, 0 to 1.
        dawn: The dawn density, above 0 and up to 1.
    """
    return 1 - (1 - dawn) * share


class _Laid(SleepPolicy):
    """Cycles of given relative lengths, whose densities fall by a function."""

    def __init__(self, density: DensityCurve, rate: Rate | None) -> None:
        checks.function(f"{type(self).__name__}: density", density)
        if rate is not None:
            checks.function(f"{type(self).__name__}: rate", rate)
        self.density, self.rate = density, rate

    @abc.abstractmethod
    def lengths(self) -> Iterable[float]:
        """Give the relative length of each cycle."""

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield the cycles, which share what is left of the budget; a price is paid before it is shared."""
        lengths = list(self.lengths())
        left, start, total = night.left - len(lengths) * night.price, night.density, math.fsum(lengths)
        for n, length in enumerate(lengths, start=1):
            keep = start * self.density(n / len(lengths), night.dawn_density / start)
            share = max(0.0, left) * length / total + night.price
            yield Cycle(keep=keep if n < len(lengths) else "dawn", length=share, rate=self.rate)


class GeometricCycles(_Laid):
    """N cycles whose REMs grow, or shrink, by the same factor from one to the next.

    Human REM sleep lengthens toward morning (McCarley, "Neurobiology of REM and NREM sleep", 2007).

    Args:
        n: N, number of cycles, 1 or more.
        ratio: Length of the last REM over that of the first, above 0: above 1 they lengthen, below they shorten.
        density: How the density falls from cycle to cycle: `constant_share`, `cubic`, `equal_number` or one of your
            own.
        rate: How the learning rate goes over each REM; see `daynight.Cycle`.

    Raises:
        SettingError: If an argument is outside its range.
    """

    def __init__(
        self, n: int, ratio: float, *, density: DensityCurve = constant_share, rate: Rate | None = None
    ) -> None:
        super().__init__(density, rate)
        self.n = checks.whole("GeometricCycles: n", n, least=1, most=MAX_CYCLES)
        self.ratio = checks.positive("GeometricCycles: ratio", ratio)

    def lengths(self) -> Iterable[float]:
        """Give the relative length of each cycle."""
        return [self.ratio ** (i / max(1, self.n - 1)) for i in range(self.n)]


class GradualPruning(_Laid):
    """Many short cycles, and then a long last REM: gradual pruning within a night.

    Args:
        n: Number of prunes, 1 or more. The first is at dusk, and the others follow at equal distances.
        last: Share of the night that the last REM takes, 0 to 1; with one prune it takes all.
        density: How the density falls from prune to prune: `cubic`, `constant_share`, `equal_number` or one of your
            own.
        rate: How the learning rate goes over each REM; see `daynight.Cycle`, and `daynight.Rated` for one over the
            whole night.

    Raises:
        SettingError: If an argument is outside its range.
    """

    def __init__(
        self, n: int = 100, last: float = 0.5, *, density: DensityCurve = cubic, rate: Rate | None = None
    ) -> None:
        super().__init__(density, rate)
        self.n = checks.whole("GradualPruning: n", n, least=1, most=MAX_CYCLES)
        self.last = checks.share("GradualPruning: last", last)

    def lengths(self) -> Iterable[float]:
        """Give the relative length of each cycle."""
        if self.n == 1:
            return [1.0]
        return [(1 - self.last) / (self.n - 1)] * (self.n - 1) + [self.last]


def recommended_policy(n: int = 72) -> SleepPolicy:
    """Give the policy that was chosen among many kinds of nights, on data and seeds of their own.

    It prunes often, the same share of what is left each time, over the first 70 % of the night, and retrains for the
    rest. The learning rate rises evenly over the night, from the optimizer's own to three times that. It was chosen on
    MNIST, with a network of linear layers; the page on choosing a policy has how, and what it gains on which data.
    Where much may be kept, one prune a night can do better: compare it with `OneShot` on data that you hold out.

    Args:
        n: Number of prunes, 1 or more. Where they have a price, all together must fit in the night, or the plan is
            refused before it; a night in time has fewer of itself where they take long.

    Raises:
        SettingError: If `n` is outside its range.
    """
    return Rated(GradualPruning(n, 0.3, density=constant_share), Linear(1.0, 3.0), "night")
