"""Cycles, and the snapshots of a night that a policy reads."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from daynight.errors import ReactivePolicyError, SettingError
from daynight.nights.budgets import Budget
from daynight.rates import Rate
from daynight.support import checks

Density = float | Literal["dawn"]

#: Allowed rounding error: sums of shares that differ from 1 by this much, and densities by this fraction, are equal.
TOLERANCE = 1e-9


#: The attributes of a `Night` that have other values than their default ones only with ``share="need"``.
BY_NEED = ("bank", "due_density", "highest_density", "is_settled")


def _length(length: Any) -> float:
    return checks.finite("Cycle: length", length, least=0)


def _density(keep: Any) -> Density:
    if isinstance(keep, str) and keep == "dawn":
        return "dawn"
    density = checks.finite("Cycle: keep (a density, or 'dawn')", keep)
    if not 0 < density <= 1:
        raise SettingError(f"Cycle: keep must be a density above 0 and up to 1, or 'dawn', not {keep!r}.")
    return density


def share_of_wake(value: Any) -> float:
    """Return `value`, a point of the wake to rewind to, as a float from 0 to 1."""
    return checks.share("rewind (a point of the wake)", value)


def _check_rate(_instance: Any, _attribute: Any, rate: Any) -> None:
    if rate is not None:
        checks.function("Cycle: rate", rate)


@attrs.frozen
class Cycle:
    """One NREM (prune) and the REM (retrain) after it.

    Args:
        keep: Fraction of the weights available at dusk that is left after this NREM, above 0 and up to 1. Every cycle's
            fraction counts from dusk, so fractions never compound. ``"dawn"`` is the density that the night must end
            with.
        length: Share of the whole night's budget that the cycle takes, 0 to 1, including the price of the NREM.
        rate: How the learning rate changes over the REM: a function that returns a factor for the optimizer's learning
            rate. The function's arguments are the share of the REM that is over, and how much the NREM has cut, both
            from 0 to 1 (see `daynight.rates`). The factor replaces ``Training(scheduler=...)``. None leaves the
            learning rate as `Training` sets it.
        rewind: A point of the wake, as a share of the wake, 0 to 1; 1 is dusk. After the NREM, the weights that survive
            and all other numbers that the day trains return to their values at this point. None leaves their values
            unchanged. A policy that reacts must list such shares in `SleepPolicy.rewinds`.
    """

    keep: Density = attrs.field(converter=_density)
    length: float = attrs.field(converter=_length)
    rate: Rate | None = attrs.field(default=None, validator=_check_rate)
    rewind: float | None = attrs.field(default=None, converter=attrs.converters.optional(share_of_wake))

    def resolved(self, night: Night) -> float:
        """Return `keep` as a number: the dawn density if `keep` is ``"dawn"``, or equals it up to `TOLERANCE`."""
        if self.keep == "dawn" or abs(self.keep - night.dawn_density) <= TOLERANCE * night.dawn_density:
            return night.dawn_density
        return self.keep

    def merged(self, following: Cycle) -> Cycle:
        """Return one cycle in place of this cycle and `following`: `following` with the lengths of both added."""
        return attrs.evolve(following, length=self.length + following.length)


@attrs.frozen
class Measured:
    """Loss and score of the network at one moment, on validation or training data and never on test data."""

    loss: float
    score: float
    split: Literal["validation", "train"]


@attrs.frozen(kw_only=True)
class Night:
    """What a policy sees of a night: a frozen snapshot, taken at dusk and after each cycle.

    Attributes:
        day: Index of the day, from 0.
        budget: What the night may spend. `left`, `n_steps` and `price` describe budgets of every kind.
        n_steps: The budget in optimizer steps; None for a budget of time.
        steps_per_epoch: Optimizer steps in one epoch of the day's task.
        density: Fraction of the weights available at dusk that is kept now; 1 at dusk.
        dawn_density: The density to reach by dawn, above 0 and up to 1. While a night still chooses it
            (``Capacity(share="need")``), it is the lowest one that the night may choose, and then the chosen one.
        price: Share of the budget that an NREM costs, 0 or more.
        spent: Share of the budget spent so far, 0 to 1.
        cycle: Index of the next cycle, from 0.
        bank: With ``share="need"``, number of weights that earlier days have saved; below 0 if they have borrowed them.
        due_density: While the night chooses, the density of the equal share, at which it ends if it is cut off; else
            None.
        highest_density: While the night chooses, the highest density that it may choose; else None.
        is_settled: Whether the night has chosen its dawn density. It then leaves out prunes below this density.
    """

    day: int
    budget: Budget
    n_steps: int | None
    steps_per_epoch: int
    dawn_density: float
    price: float = 0.0
    density: float = 1.0
    spent: float = 0.0
    cycle: int = 0
    bank: int = attrs.field(default=0, repr=False)
    due_density: float | None = attrs.field(default=None, repr=False)
    highest_density: float | None = attrs.field(default=None, repr=False)
    is_settled: bool = attrs.field(default=False, repr=False)
    _measured: Measured | None = attrs.field(default=None, repr=False)

    @property
    def is_measured(self) -> bool:
        """Whether `measured`, `loss` and `score` have values. While a plan is made, they have none."""
        return self._measured is not None

    @property
    def measured(self) -> Measured:
        """Loss and score of the network now, and the name of the split on which both were measured.

        Raises:
            ReactivePolicyError: If nothing was measured, for example while a plan is made.
        """
        if self._measured is None:
            raise ReactivePolicyError(
                "the policy reads the night's loss or score, so it has no plan beforehand. agent.sleep and Clock ask "
                "it for one cycle after another; a policy that must have a plan cannot read them."
            )
        return self._measured

    @property
    def is_timed(self) -> bool:
        """Whether the budget is time, so that the number of steps is unknown."""
        return self.n_steps is None

    @property
    def chooses(self) -> bool:
        """Whether the night has yet to choose its dawn density."""
        return self.due_density is not None

    @property
    def last_density(self) -> float:
        """The density at which the night ends if no cycle follows. If it does not choose, it is the dawn density."""
        return self.dawn_density if self.due_density is None else min(self.density, self.due_density)

    @property
    def left(self) -> float:
        """Share of the budget that is not spent yet, 0 to 1."""
        return max(0.0, 1.0 - self.spent)

    @property
    def loss(self) -> float:
        """Loss of the network now, on the validation split if there is one, otherwise on training data."""
        return self.measured.loss

    @property
    def score(self) -> float:
        """Metric of the network now (accuracy by default), on the same data as `loss`."""
        return self.measured.score

    def after(self, cycle: Cycle, measured: Measured | None = None) -> Night:
        """Return the snapshot after `cycle`.

        Args:
            cycle: The cycle. The snapshot takes over its planned density and length.
            measured: Loss and score after the cycle; None if they were not measured.
        """
        return attrs.evolve(
            self,
            density=cycle.resolved(self),
            spent=min(1.0, self.spent + cycle.length),
            cycle=self.cycle + 1,
            measured=measured,
        )

    def settled(self, density: float) -> Night:
        """Return the snapshot of a night that has chosen `density`, up to that of now, as its dawn density."""
        return attrs.evolve(self, dawn_density=density, due_density=None, highest_density=None, is_settled=True)

    def to_json(self) -> dict[str, Any]:
        """Return all values except the budget in plain form; `from_json` takes them.

        Values that nights with equal shares do not have are left out.
        """
        usual = {field.name: field.default for field in attrs.fields(Night) if field.name in BY_NEED}
        values = attrs.asdict(
            self, filter=lambda field, value: field.name != "budget" and usual.get(field.name, ...) != value
        )
        return {name.lstrip("_"): value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any], budget: Budget) -> Night:
        """Return the snapshot, given its budget and the values that `to_json` returned."""
        measured = values["measured"]
        return cls(**{**values, "measured": None if measured is None else Measured(**measured)}, budget=budget)
