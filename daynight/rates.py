"""Learning-rate shapes: how the learning rate changes over a REM, as a policy sets it in ``Cycle(rate=...)``.

A shape is a function of two numbers that returns a factor for the optimizer's learning rate, 0 or more. The first
number is the share of the REM that is over, from 0 to below 1. The second number is how much the prune before the REM
has cut, from 0 to 1: the Euclidean norm of the pruned weights, divided by the norm of all weights that the day held
before the prune.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs

from daynight.errors import PolicyError
from daynight.support import checks

Rate = Callable[[float, float], float]


def factor_of(rate: Rate, share: float, cut: float) -> float:
    """Return the factor of the learning rate at a share of a REM.

    Raises:
        PolicyError: If `rate` fails, or the factor is not a number from 0 up.
    """
    try:
        return checks.finite("a factor of the learning rate", rate(share, cut), least=0)
    except Exception as error:
        raise PolicyError(
            f"its rate must give a number from 0 up for a share of the REM and for how much the prune has "
            f"cut, and for {share:g} and {cut:g} it fails: {error}"
        ) from error


def _factor(value: Any) -> float:
    return checks.finite("a factor of the learning rate", value, least=0)


def _pruned(value: Any) -> float:
    return checks.share("AdaptiveLinear: pruned", checks.positive("AdaptiveLinear: pruned", value))


def _least(value: Any) -> float:
    return checks.share("AdaptiveLinear: least", value)


@attrs.frozen
class _Between:
    start: float = attrs.field(default=1.0, converter=_factor)
    end: float = attrs.field(default=0.0, converter=_factor)


@attrs.frozen
class Linear(_Between):
    """A factor that changes linearly.

    Args:
        start: Factor at the beginning of the REM, 0 or more.
        end: Factor at the end of the REM, 0 or more.
    """

    def __call__(self, share: float, cut: float) -> float:
        """Return the factor at a share of the REM."""
        return self.start + (self.end - self.start) * share


@attrs.frozen
class Cosine(_Between):
    """A factor that changes by half a cosine wave: slowly, fast, and slowly again.

    Source: Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, equation 5.

    Args:
        start: Factor at the beginning of the REM, 0 or more.
        end: Factor at the end of the REM, 0 or more.
    """

    def __call__(self, share: float, cut: float) -> float:
        """Return the factor at a share of the REM."""
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * share)) / 2


@attrs.frozen
class AdaptiveLinear:
    """A factor that falls linearly to zero, and starts higher if the prune has cut more.

    The factor starts at ``max(cut / sqrt(pruned), least)``, and at most at 1. A prune by magnitude cuts at most the
    square root of the share of weights that it takes, so ``cut / sqrt(pruned)`` is between 0 and 1.

    Source: Zimmer, Spiegel & Pokutta, "How I Learned to Stop Worrying and Love Retraining", ICLR 2023, Section 2:
    adaptive linear learning rate restarting.

    Args:
        pruned: Share of the held weights that the prune takes, above 0 and up to 1.
        least: Least factor to start at, 0 to 1. In the source, it is the length of the REM divided by the length of
            the training before the prune.
    """

    pruned: float = attrs.field(converter=_pruned)
    least: float = attrs.field(default=0.0, converter=_least)

    def __call__(self, share: float, cut: float) -> float:
        """Return the factor at `share` of the REM, after a prune that has cut `cut`, both 0 to 1."""
        start = max(cut / math.sqrt(self.pruned), self.least)
        return min(1.0, start) * (1 - share)
