"""What a phase may spend and has spent."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from daynight.errors import SettingError
from daynight.support import checks
from daynight.support.checks import round_half_up


class Ledger(abc.ABC):
    """What one phase may spend and has spent; a `Budget` opens one for each phase.

    A kind of your own says in `fields` which of its attributes a checkpoint holds.
    """

    #: Names of the attributes that a checkpoint holds: numbers, texts, None, or dicts and lists of them.
    fields: ClassVar[tuple[str, ...]] = ("spent_steps", "n_prunes")
    #: Whether the phase ends by time. Its cycles then share the time that is left, and `spent` is what has passed.
    is_timed: ClassVar[bool] = False

    #: Optimizer steps that the phase will take; None if unknown, as in budgets of time.
    n_steps: int | None
    #: Optimizer steps that it has taken.
    spent_steps: int = 0
    #: Prunes that it has had.
    n_prunes: int = 0
    #: Share of the budget that a prune costs, 0 or more.
    price: float = 0.0
    #: Share of the budget that a cycle must take for its REM to be as long as its prune, as far as is known.
    least_cycle: float = 0.0
    #: Share of the budget by which a REM must end so that there is time for another prune.
    latest_end: float = math.inf
    #: Seconds since its end, if it ends by the clock.
    overdue: float = 0.0

    @property
    @abc.abstractmethod
    def spent(self) -> float:
        """Share of the budget that is spent, 0 to 1."""

    @property
    def n_done(self) -> int:
        """Number of optimizer steps and prunes."""
        return self.spent_steps + self.n_prunes

    @property
    def seconds_left(self) -> float:
        """Seconds until the budget is spent; infinite, if it is not of time."""
        return math.inf

    @abc.abstractmethod
    def reached(self, share: float) -> bool:
        """Return whether `share` (0 to 1) of the budget is spent."""

    @abc.abstractmethod
    def steps_until(self, share: float) -> int | None:
        """Return how many optimizer steps are left until `share` (0 to 1) of the budget is spent; None if unknown."""

    def allows(self, what: str) -> bool:
        """Return whether there is time for a ``"prune"``, or for something ``"other"`` such as a measurement."""
        return True

    def note_step(self) -> None:
        """Enter one optimizer step."""
        self.spent_steps += 1

    def note_prune(self) -> None:
        """Enter one prune, at the budget's price."""
        self.n_prunes += 1

    def note_other(self) -> None:  # noqa: B027
        """Enter the work since the last step or prune that is neither: it takes time and no steps."""

    def note_outside(self) -> None:  # noqa: B027
        """Enter the work of others, such as hooks, since the last piece of work; it says nothing about the next."""

    def resume(self) -> None:  # noqa: B027
        """Start the time, if the budget is of time."""

    def pause(self) -> None:  # noqa: B027
        """Stop the time."""

    def times(self) -> dict[str, Any]:
        """Return what a phase in time took, by the fields of a `Record`; empty for other budgets."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return what has been spent, in plain values, for `restore`."""
        return {name: getattr(self, name) for name in self.fields}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned for a ledger of the same kind."""
        for name in self.fields:
            setattr(self, name, state[name])


class StepLedger(Ledger):
    """A ledger in optimizer steps. Shares and prices become whole steps by rounding cumulative totals.

    Args:
        n_steps: What may be spent.
        price_steps: What a prune costs.
    """

    fields = (*Ledger.fields, "n_steps", "price_steps", "price")

    n_steps: int

    def __init__(self, n_steps: int, price_steps: float = 0.0) -> None:
        self.n_steps, self.price_steps = n_steps, price_steps
        self.price = price_steps / n_steps if n_steps else (math.inf if price_steps else 0.0)
        self.spent_steps = self.n_prunes = 0

    @property
    def spent(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        return min(1.0, self._total / self.n_steps) if self.n_steps else 0.0

    def reached(self, share: float) -> bool:
        """Return whether `share` (0 to 1) of the budget is spent."""
        return self.steps_until(share) == 0

    def steps_until(self, share: float) -> int:
        """Return how many optimizer steps are left until `share` (0 to 1) is spent."""
        boundary = min(self.n_steps, round_half_up(share * self.n_steps))
        return max(0, boundary - self._total)

    @property
    def _total(self) -> int:
        return self.spent_steps + (round_half_up(self.n_prunes * self.price_steps) if self.price_steps else 0)


#: More epochs or steps than this are taken for a mistake: no machine lives to take them.
MAX_BUDGET = 10**12


def _epochs(n: Any) -> float:
    return checks.finite("Epochs: n", n, least=0, most=MAX_BUDGET)


def _steps(n: Any) -> int:
    return checks.integer("Steps: n", n, least=0, most=MAX_BUDGET)


def price_of(price: Any) -> float:
    """Return the price of a prune, in the unit of a budget, 0 or more."""
    return checks.finite("price", price, least=0, most=MAX_BUDGET)


class Budget(abc.ABC):
    """What a phase may spend. For a new kind of budget, write a subclass and the ledger that it opens."""

    @abc.abstractmethod
    def open(self, steps_per_epoch: int) -> Ledger:
        """Return the ledger of a new phase.

        Args:
            steps_per_epoch: Optimizer steps in one epoch of the day's task.
        """


@attrs.frozen
class Epochs(Budget):
    """A budget in epochs of the day's task.

    Args:
        n: Number of epochs, from 0 to 10^12; it need not be whole. It is rounded to whole optimizer steps.
        price: Epochs that each NREM costs, 0 or more.
    """

    n: float = attrs.field(converter=_epochs)
    price: float = attrs.field(default=0.0, converter=price_of, kw_only=True)

    def open(self, steps_per_epoch: int) -> StepLedger:
        """Return the ledger of a new phase."""
        return StepLedger(round_half_up(self.n * steps_per_epoch), self.price * steps_per_epoch)


@attrs.frozen
class Steps(Budget):
    """A budget in optimizer steps.

    Args:
        n: Number of optimizer steps, a whole number from 0 to 10^12.
        price: Optimizer steps that each NREM costs, 0 or more; it need not be whole.
    """

    n: int = attrs.field(converter=_steps)
    price: float = attrs.field(default=0.0, converter=price_of, kw_only=True)

    def open(self, steps_per_epoch: int) -> StepLedger:
        """Return the ledger of a new phase."""
        return StepLedger(self.n, self.price)


def check_budget(name: str, value: Any) -> None:
    """Raise SettingError unless `value` is a budget."""
    if not isinstance(value, Budget):
        raise SettingError(
            f"{name} must be a budget, such as Epochs(72), Steps(1000) or Seconds(30), not {checks.shown(value)}."
        )
