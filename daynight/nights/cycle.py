"""What a night may spend and how it is laid out: budgets, cycles and a policy's view of the night."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from daynight.errors import ReactivePolicyError, SettingError
from daynight.nights.budgets import Budget
from daynight.rates import Rate
from daynight.support import checks

Density = float | Literal["dawn"]

#: How far sums of shares may miss 1, and densities each other, through floating point alone.
TOLERANCE = 1e-9


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
    """Give a share of the wake to rewind to, 0 to 1."""
    return checks.share("what of the wake to rewind to", value)


def _check_rate(_instance: Any, _attribute: Any, rate: Any) -> None:
    if rate is not None:
        checks.function("Cycle: rate", rate)


@attrs.frozen
class Cycle:
    """One NREM (prune) and the REM (retrain) after it.

    Args:
        keep: Fraction of the day's available weights that is kept once this NREM is over, above 0 and
            up to 1. It is absolute, so fractions never compound. ``"dawn"`` is the density that the
            night must end with.
        length: Share of the whole night's budget that the cycle takes, 0 to 1, the price of its NREM included.
        rate: How the learning rate goes over the REM: a function of the share of it that is over and of how much the
            NREM has cut, both from 0 to 1, to a factor for the optimizer's learning rate (see `daynight.rates`). None
            leaves it as `Training` has it; with one, ``Training(scheduler=...)`` is not asked.
        rewind: Share of the wake, 0 to 1, to whose weights those that survive the NREM return before the REM (if there
            is one), with all else that the day trains; 1 is dusk. None leaves them. A policy that reacts says so
            beforehand, in `SleepPolicy.rewinds`.
    """

    keep: Density = attrs.field(converter=_density)
    length: float = attrs.field(converter=_length)
    rate: Rate | None = attrs.field(default=None, validator=_check_rate)
    rewind: float | None = attrs.field(default=None, converter=attrs.converters.optional(share_of_wake))

    def resolved(self, night: Night) -> float:
        """Give `keep` as a number: what ``"dawn"``, or a number equal to it but for rounding, means."""
        if self.keep == "dawn" or abs(self.keep - night.dawn_density) <= TOLERANCE * night.dawn_density:
            return night.dawn_density
        return self.keep


@attrs.frozen
class Measured:
    """Loss and score of the network as it is now, on validation or training data, never on test data."""

    loss: float
    score: float
    split: Literal["validation", "train"]


@attrs.frozen(kw_only=True)
class Night:
    """What a policy may see of a night: a frozen snapshot, taken at dusk and after each cycle.

    Attributes:
        day: Index of the day, from 0.
        budget: What the night may spend; its kind and settings differ, so read `left`, `n_steps` and `price` instead.
        n_steps: The budget in optimizer steps; None in a budget of time.
        steps_per_epoch: Optimizer steps in one epoch of the day's task.
        density: Fraction of the weights available at dusk that is kept now; 1 at dusk.
        dawn_density: The density to reach by dawn, above 0 and up to 1.
        price: Share of the budget that an NREM costs, 0 or more.
        spent: Share of the budget spent so far, 0 to 1.
        cycle: Index of the cycle to come, from 0.
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
    _measured: Measured | None = attrs.field(default=None, repr=False)  # None while a plan is made

    @property
    def measured(self) -> Measured:
        """Loss and score of the network as it is now, and the split that they are of.

        Raises:
            ReactivePolicyError: While a plan is made, when nothing is measured.
        """
        if self._measured is None:
            raise ReactivePolicyError(
                "the policy reads the night's loss or score, so it has no plan beforehand. agent.sleep and a Clock "
                "lay its nights out as they go; a policy that is to have a plan does not read them."
            )
        return self._measured

    @property
    def is_timed(self) -> bool:
        """Whether the budget is one of time, so that the number of steps is unknown."""
        return self.n_steps is None

    @property
    def left(self) -> float:
        """Share of the budget still to be spent, 0 to 1."""
        return max(0.0, 1.0 - self.spent)

    @property
    def loss(self) -> float:
        """Loss of the network as it is now, on the validation split if there is one, else on training data."""
        return self.measured.loss

    @property
    def score(self) -> float:
        """Metric of the network as it is now (accuracy by default), on the same data as `loss`."""
        return self.measured.score

    def after(self, cycle: Cycle, measured: Measured | None = None) -> Night:
        """Give the snapshot that follows once `cycle` is over."""
        return attrs.evolve(
            self,
            density=cycle.resolved(self),
            spent=min(1.0, self.spent + cycle.length),
            cycle=self.cycle + 1,
            measured=measured,
        )

    def to_json(self) -> dict[str, Any]:
        """Return all but the budget in plain values, for `from_json`."""
        values = attrs.asdict(self, filter=lambda field, _: field.name != "budget")
        return {name.lstrip("_"): value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any], budget: Budget) -> Night:
        """Make the snapshot of which `to_json` returned `values`, with its budget."""
        measured = values["measured"]
        return cls(**{**values, "measured": None if measured is None else Measured(**measured)}, budget=budget)
