"""Sleep policies that are laid out before the night: cycles of unequal length, and gradual pruning."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Generator, Iterable

from daynight.policies import MAX_CYCLES, SleepPolicy
from daynight.rates import Rate
from daynight.schedule import Cycle, Night
from daynight.support import checks

#: How the density falls: a function of the share of the prunes that are done, 0 to 1, and of the dawn density, that
#: gives 1 at 0 and the dawn density at 1.
Density = Callable[[float, float], float]


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

    def __init__(self, density: Density, rate: Rate | None) -> None:
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

    def __init__(self, n: int, ratio: float, *, density: Density = constant_share, rate: Rate | None = None) -> None:
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

    def __init__(self, n: int = 100, last: float = 0.5, *, density: Density = cubic, rate: Rate | None = None) -> None:
        super().__init__(density, rate)
        self.n = checks.whole("GradualPruning: n", n, least=1, most=MAX_CYCLES)
        self.last = checks.share("GradualPruning: last", last)

    def lengths(self) -> Iterable[float]:
        """Give the relative length of each cycle."""
        if self.n == 1:
            return [1.0]
        return [(1 - self.last) / (self.n - 1)] * (self.n - 1) + [self.last]
