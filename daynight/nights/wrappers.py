"""Sleep policies that hold an inner policy, and change its cycles."""

from __future__ import annotations

import abc
from collections.abc import Generator

import attrs

from daynight.nights.cycle import Cycle, Night, share_of_wake
from daynight.nights.policy import MAX_CYCLES, SleepPolicy, advance, require_policy
from daynight.rates import Rate
from daynight.support import checks


class Wrapper(SleepPolicy):
    """Base class of policies that hold an inner policy.

    Args:
        inner: The inner policy.

    Raises:
        SettingError: If `inner` is not a SleepPolicy.
    """

    def __init__(self, inner: SleepPolicy) -> None:
        require_policy(inner)
        self.inner = inner

    @property
    def rewinds(self) -> tuple[float, ...]:
        """Points of the wake to which the inner policy may rewind; see `SleepPolicy.rewinds`."""
        return self.inner.rewinds


class Around(Wrapper):
    """Base class of policies that change each cycle of an inner policy. A subclass has the method `change`.

    Args:
        inner: The inner policy.

    Raises:
        SettingError: If `inner` is not a SleepPolicy.
    """

    @abc.abstractmethod
    def change(self, cycle: Cycle, night: Night) -> Cycle:
        """Return the cycle that replaces `cycle`.

        Args:
            cycle: A cycle of the inner policy.
            night: The snapshot before `cycle`.
        """

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield the inner policy's cycles, changed."""
        script = self.inner.cycles(night)
        cycle = next(script, None)
        while cycle is not None:
            night = yield self.change(cycle, night)
            cycle = advance(script, night)


class Rated(Around):
    """The cycles of an inner policy, with a learning-rate shape.

    Args:
        inner: The inner policy.
        rate: How the learning rate changes; see `daynight.rates`.
        over: ``"rem"`` starts the shape anew with each REM; ``"night"`` spreads one shape over the whole night.

    Raises:
        SettingError: If an argument is not valid.
    """

    def __init__(self, inner: SleepPolicy, rate: Rate, over: str = "rem") -> None:
        super().__init__(inner)
        checks.function("Rated: rate", rate)
        checks.one_of("Rated: over", over, ("rem", "night"))
        self.rate, self.over = rate, over

    def change(self, cycle: Cycle, night: Night) -> Cycle:
        """Return `cycle` with the learning-rate shape."""
        rate = self.rate if self.over == "rem" else Part(self.rate, night.spent, cycle.length)
        return attrs.evolve(cycle, rate=rate)


class Rewound(Around):
    """The cycles of an inner policy, each of which begins its REM with weights from a point of the wake.

    Source: Renda, Frankle & Carbin, "Comparing Rewinding and Fine-tuning in Neural Network Pruning", ICLR 2020.

    Args:
        inner: The inner policy.
        to: Point of the wake, as a share of the wake from 0 to 1; 1 is dusk. After each NREM, the weights that survive
            return to their values at this point.

    Raises:
        SettingError: If an argument is not valid.
    """

    def __init__(self, inner: SleepPolicy, to: float) -> None:
        super().__init__(inner)
        self.to = share_of_wake(to)

    @property
    def rewinds(self) -> tuple[float, ...]:
        """Points of the wake to which this policy and the inner policy may rewind."""
        return (*self.inner.rewinds, self.to)

    def change(self, cycle: Cycle, night: Night) -> Cycle:
        """Return `cycle` with the rewind."""
        return attrs.evolve(cycle, rewind=self.to)


@attrs.frozen
class Part:
    """A part of a learning-rate shape.

    Args:
        rate: The shape.
        begin: Where in the shape the part begins, 0 to 1.
        length: Share of the shape that the part covers, 0 to 1.
    """

    rate: Rate
    begin: float
    length: float

    def __call__(self, share: float, cut: float) -> float:
        """Return the factor of the learning rate.

        Args:
            share: Share of the part that is over, 0 to 1.
            cut: How much the prune has cut, 0 to 1; see `daynight.rates`.
        """
        return self.rate(min(1.0, self.begin + share * self.length), cut)


class Capped(Wrapper):
    """The first cycles of an inner policy, and then the rest of the night as one cycle.

    Args:
        inner: The inner policy.
        n: Maximum number of cycles in the night, 1 or more.

    Raises:
        SettingError: If an argument is not valid.
    """

    def __init__(self, inner: SleepPolicy, n: int) -> None:
        super().__init__(inner)
        self.n = checks.integer("Capped: n", n, least=1, most=MAX_CYCLES)

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield up to n - 1 cycles of the inner policy, and then one cycle for the rest of the night."""
        script, n = self.inner.cycles(night), 1
        cycle = next(script, None)
        while cycle is not None and n < self.n:
            night = yield cycle
            cycle, n = advance(script, night), n + 1
        if cycle is not None:
            yield attrs.evolve(cycle, keep="dawn", length=night.left)


class Floored(Wrapper):
    """The cycles of an inner policy, with short cycles merged.

    Consecutive cycles are merged until the merged cycle takes `least` of the budget. The merged cycle prunes as far as
    the last of its cycles, and is as long as all of them together. Only the last cycle of the night can be shorter.

    Args:
        inner: The inner policy. If it reacts, it gets the last measurement again until the merged cycle is over.
        least: Least share of the budget that a cycle must take, 0 to 1.

    Raises:
        SettingError: If an argument is not valid.
    """

    def __init__(self, inner: SleepPolicy, least: float) -> None:
        super().__init__(inner)
        self.least = checks.share("Floored: least", least)

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield the cycles of the inner policy, merged."""
        script = self.inner.cycles(night)
        cycle, merged = next(script, None), None
        while cycle is not None:
            merged = cycle if merged is None else merged.merged(cycle)
            if merged.length >= self.least:
                night, merged = (yield merged), None
            else:
                night = night.after(cycle, night.measured if night.is_measured else None)
            cycle = advance(script, night)
        if merged is not None:
            yield merged


class WarmStart(Wrapper):
    """Further training without a prune, and then the cycles of an inner policy.

    Args:
        inner: The inner policy, which divides the rest of the night into cycles.
        share: Share of the budget for the further training, 0 to 1.

    Raises:
        SettingError: If an argument is not valid.
    """

    def __init__(self, inner: SleepPolicy, share: float) -> None:
        super().__init__(inner)
        self.share = checks.share("WarmStart: share", share)

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield a cycle that prunes nothing, and then the cycles of the inner policy."""
        night = yield Cycle(keep=night.density, length=min(self.share, night.left))
        yield from self.inner.cycles(night)
