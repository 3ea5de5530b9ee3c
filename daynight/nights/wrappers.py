"""Sleep policies around another one: how its cycles are changed, whatever they are."""

from __future__ import annotations

import abc
from collections.abc import Generator

import attrs

from daynight.nights.cycle import Cycle, Night, share_of_wake
from daynight.nights.policy import MAX_CYCLES, SleepPolicy, advance, require_policy
from daynight.rates import Rate
from daynight.support import checks


class Wrapper(SleepPolicy):
    """A policy around another one.

    Args:
        inner: The other policy.

    Raises:
        SettingError: If it is none.
    """

    def __init__(self, inner: SleepPolicy) -> None:
        require_policy(inner)
        self.inner = inner

    @property
    def rewinds(self) -> tuple[float, ...]:
        """What the other policy may rewind to."""
        return self.inner.rewinds


class Around(Wrapper):
    """Changes the cycles of another policy, one by one. Write your own by subclassing it.

    Args:
        inner: The other policy.

    Raises:
        SettingError: If it is none.
    """

    @abc.abstractmethod
    def change(self, cycle: Cycle, night: Night) -> Cycle:
        """Give the cycle to have in place of `cycle`, before which `night` is the snapshot."""

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield the other policy's cycles, changed."""
        script = self.inner.cycles(night)
        cycle = next(script, None)
        while cycle is not None:
            night = yield self.change(cycle, night)
            cycle = advance(script, night)


class Rated(Around):
    """The cycles of another policy, with a learning-rate shape.

    Args:
        inner: The policy.
        rate: How the learning rate goes; see `daynight.rates`.
        over: ``"rem"``: over each REM anew. ``"night"``: over the whole night, on from REM to REM.

    Raises:
        SettingError: If an argument is of another kind.
    """

    def __init__(self, inner: SleepPolicy, rate: Rate, over: str = "rem") -> None:
        super().__init__(inner)
        checks.function("Rated: rate", rate)
        checks.one_of("Rated: over", over, ("rem", "night"))
        self.rate, self.over = rate, over

    def change(self, cycle: Cycle, night: Night) -> Cycle:
        """Give the cycle the rate."""
        rate = self.rate if self.over == "rem" else Part(self.rate, night.spent, cycle.length)
        return attrs.evolve(cycle, rate=rate)


class Rewound(Around):
    """The cycles of another policy, each of which begins its REM with weights of the wake.

    Source: Renda, Frankle & Carbin, "Comparing Rewinding and Fine-tuning in Neural Network Pruning", ICLR 2020.

    Args:
        inner: The policy.
        to: Share of the wake to whose weights the survivors of each NREM return, 0 to 1; 1 is dusk.

    Raises:
        SettingError: If an argument is outside its range.
    """

    def __init__(self, inner: SleepPolicy, to: float) -> None:
        super().__init__(inner)
        self.to = share_of_wake(to)

    @property
    def rewinds(self) -> tuple[float, ...]:
        """What this and the other policy may rewind to."""
        return (*self.inner.rewinds, self.to)

    def change(self, cycle: Cycle, night: Night) -> Cycle:
        """Let the cycle rewind."""
        return attrs.evolve(cycle, rewind=self.to)


@attrs.frozen
class Part:
    """A part of a learning-rate shape.

    Args:
        rate: The shape.
        begin: Share of it at which the part begins, 0 to 1.
        length: Share of it that the part is, 0 to 1.
    """

    rate: Rate
    begin: float
    length: float

    def __call__(self, share: float, cut: float) -> float:
        """Give the factor at a share of the part."""
        return self.rate(min(1.0, self.begin + share * self.length), cut)


class Capped(Wrapper):
    """The first cycles of another policy, and the rest of the night as one.

    Args:
        inner: The policy.
        n: Number of cycles that there may be at most, 1 or more.

    Raises:
        SettingError: If an argument is outside its range.
    """

    def __init__(self, inner: SleepPolicy, n: int) -> None:
        super().__init__(inner)
        self.n = checks.whole("Capped: n", n, least=1, most=MAX_CYCLES)

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield cycles of the other policy, as far as there may be any."""
        script, n = self.inner.cycles(night), 1
        cycle = next(script, None)
        while cycle is not None and n < self.n:
            night = yield cycle
            cycle, n = advance(script, night), n + 1
        if cycle is not None:
            yield attrs.evolve(cycle, keep="dawn", length=night.left)


class Floored(Wrapper):
    """The cycles of another policy, where those that are too short are put together.

    Several that follow each other become one, which prunes as far as the last of them and is as long as all. What is
    still too short at the end of the night stays as it is.

    Args:
        inner: The policy. One that reacts finds the last measurement until a cycle is over.
        least: Share of the budget that a cycle takes at least, 0 to 1.

    Raises:
        SettingError: If an argument is outside its range.
    """

    def __init__(self, inner: SleepPolicy, least: float) -> None:
        super().__init__(inner)
        self.least = checks.share("Floored: least", least)

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield the cycles of the other policy, put together."""
        script, seen = self.inner.cycles(night), night
        cycle, length = next(script, None), 0.0
        while cycle is not None:
            length += cycle.length
            if length >= self.least:
                night = seen = yield attrs.evolve(cycle, length=length)
                length, cycle = 0.0, advance(script, night)
            else:
                last, seen = cycle, seen.after(cycle, seen._measured)
                cycle = advance(script, seen)
                if cycle is None:
                    yield attrs.evolve(last, length=length)


class WarmStart(Wrapper):
    """Training on without a prune for a while, and then the night of another policy.

    Args:
        inner: The policy; it lays out what is left of the night.
        share: Share of the budget to train on for, 0 to 1.

    Raises:
        SettingError: If an argument is outside its range.
    """

    def __init__(self, inner: SleepPolicy, share: float) -> None:
        super().__init__(inner)
        self.share = checks.share("WarmStart: share", share)

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield a cycle that prunes nothing, and those of the other policy."""
        night = yield Cycle(keep=night.density, length=min(self.share, night.left))
        yield from self.inner.cycles(night)
