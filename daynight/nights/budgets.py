"""Budgets in epochs and steps, and ledgers: the accounts of what a phase has spent of its budget."""

from __future__ import annotations

import abc
import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from daynight.errors import SettingError
from daynight.support import checks, expected
from daynight.support.checks import round_half_up


class Ledger(abc.ABC):
    """The account of a budget for one phase: what the phase may spend, and has spent. `Budget.open` makes it.

    A subclass lists in `fields` those of its attributes that a checkpoint holds.
    """

    #: Names of the attributes that a checkpoint holds. They are numbers, texts, None, or dicts and lists of these.
    fields: ClassVar[tuple[str, ...]] = ("spent_steps", "n_prunes")
    #: Whether the budget is time. Cycles then share the time that is left, and `spent` is the share that has passed.
    is_timed: ClassVar[bool] = False

    #: The budget in optimizer steps; None for a budget of time.
    n_steps: int | None
    #: Optimizer steps that the phase has taken.
    spent_steps: int = 0
    #: Prunes that the phase has had.
    n_prunes: int = 0
    #: Share of the budget that each prune costs, 0 or more.
    price: float = 0.0
    #: Least share of the budget for a cycle whose REM is as long as its prune, as expected now; 0 if unknown.
    least_cycle: float = 0.0
    #: Latest end of a REM that leaves time for one more prune, as a share of the budget.
    latest_end: float = math.inf
    #: Seconds since the deadline; 0 before the deadline, and for budgets without a deadline.
    overdue: float = 0.0

    @property
    @abc.abstractmethod
    def spent(self) -> float:
        """Share of the budget that is spent, 0 to 1."""

    @property
    def n_done(self) -> int:
        """Number of optimizer steps and prunes so far, together."""
        return self.spent_steps + self.n_prunes

    @property
    def seconds_left(self) -> float:
        """Seconds until a budget of time is spent; infinite for other budgets."""
        return math.inf

    @abc.abstractmethod
    def reached(self, share: float) -> bool:
        """Return whether `share` (0 to 1) of the budget is spent."""

    @abc.abstractmethod
    def steps_until(self, share: float) -> int | None:
        """Return how many optimizer steps are left until `share` (0 to 1) of the budget is spent; None if unknown."""

    def allows(self, what: str) -> bool:
        """Return whether there is time for a ``"prune"``, or for ``"other"`` work, such as a measurement."""
        return True

    def note_step(self) -> None:
        """Enter one optimizer step."""
        self.spent_steps += 1

    def note_prune(self) -> None:
        """Enter one prune, at the budget's price."""
        self.n_prunes += 1

    def note_other(self) -> None:  # noqa: B027
        """Enter the time since the last entry as work that is neither a step nor a prune, such as a measurement."""

    def note_outside(self) -> None:  # noqa: B027
        """Enter the time since the last entry, such as that of hooks, without an effect on estimates of later work."""

    def rest(self) -> Ledger:
        """Return a new ledger for what is left of the budget, of the same kind, in which nothing is spent.

        Only a wake that begins with trials (``sees="best"``) asks for it.

        Raises:
            SettingError: If a ledger of a user's own has no such method.
        """
        raise SettingError(
            f"sees='best' divides the budget of the wake, and {type(self).__name__} cannot be divided: write its "
            "method rest(), which returns a new ledger for what is left; or say what the task sees, such as sees='all'."
        )

    def resume(self) -> None:  # noqa: B027
        """Begin to count time, if the budget is time."""

    def pause(self) -> None:  # noqa: B027
        """Stop counting time."""

    def times(self) -> dict[str, Any]:
        """Return the durations of a phase with a budget of time, by field of `Record`; empty for other budgets."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return the attributes in `fields` as plain values; `restore` takes them."""
        return {name: getattr(self, name) for name in (*Ledger.fields, *self.fields)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the values that `state` returned for a ledger of the same kind.

        Raises:
            ValueError: If values are missing, or of another kind.
        """
        expected.like(self.state())("ledger", dict(state))
        for name in Ledger.fields:
            expected.whole(0, MAX_BUDGET)(f"ledger.{name}", state[name])
        for name in (*Ledger.fields, *self.fields):
            setattr(self, name, state[name])


class StepLedger(Ledger):
    """A ledger in optimizer steps. Cumulative totals of shares and of prices are rounded to whole steps.

    Args:
        n_steps: The budget, in optimizer steps.
        price_steps: Optimizer steps that each prune costs.
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
        """Return how many optimizer steps are left until `share` (0 to 1) of the budget is spent."""
        boundary = min(self.n_steps, round_half_up(share * self.n_steps))
        return max(0, boundary - self._total)

    def rest(self) -> StepLedger:
        """Return a new ledger for the steps that are left, of the same class."""
        twin = copy.copy(self)
        StepLedger.__init__(twin, self.steps_until(1.0), self.price_steps)
        return twin

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the values that `state` returned for a ledger of the same kind.

        Raises:
            ValueError: If values are missing, or do not fit each other.
        """
        expected.whole(0, MAX_BUDGET)("ledger.n_steps", state["n_steps"])
        expected.number(0, MAX_BUDGET**2)("ledger.price_steps", state["price_steps"])
        super().restore(state)
        price = StepLedger(self.n_steps, self.price_steps).price
        if self.price != price or self.spent_steps > self.n_steps:
            raise ValueError(
                f"the ledger has spent {self.spent_steps} of {self.n_steps} steps, at a price of {self.price}"
            )

    @property
    def _total(self) -> int:
        return self.spent_steps + (round_half_up(self.n_prunes * self.price_steps) if self.price_steps else 0)


#: Largest number of epochs, steps or seconds in a budget. No machine can use up more, so more is a mistake.
MAX_BUDGET = 10**12


def _epochs(n: Any) -> float:
    return checks.finite("Epochs: n", n, least=0, most=MAX_BUDGET)


def _steps(n: Any) -> int:
    return checks.integer("Steps: n", n, least=0, most=MAX_BUDGET)


def price_of(price: Any) -> float:
    """Return `price`, the price of a prune in the unit of its budget, as a float of 0 or more."""
    return checks.finite("price", price, least=0, most=MAX_BUDGET)


class Budget(abc.ABC):
    """What a phase may spend. For a new kind of budget, write a subclass, and the ledger that `open` returns."""

    @abc.abstractmethod
    def open(self, steps_per_epoch: int) -> Ledger:
        """Open an account of the budget for one phase, and return this account, a ledger.

        Args:
            steps_per_epoch: Optimizer steps in one epoch of the day's task.
        """


@attrs.frozen
class Epochs(Budget):
    """A budget in epochs of the day's task.

    Args:
        n: Number of epochs, from 0 to 10^12. Fractions are allowed: the budget is rounded to whole optimizer steps.
        price: Epochs of the budget that each NREM costs, 0 or more. Fractions are allowed.
    """

    n: float = attrs.field(converter=_epochs)
    price: float = attrs.field(default=0.0, converter=price_of, kw_only=True)

    def open(self, steps_per_epoch: int) -> StepLedger:
        """Open an account of the budget for one phase, and return this account, a ledger."""
        return StepLedger(round_half_up(self.n * steps_per_epoch), self.price * steps_per_epoch)


@attrs.frozen
class Steps(Budget):
    """A budget in optimizer steps.

    Args:
        n: Number of optimizer steps, a whole number from 0 to 10^12.
        price: Optimizer steps of the budget that each NREM costs, 0 or more. Fractions are allowed.
    """

    n: int = attrs.field(converter=_steps)
    price: float = attrs.field(default=0.0, converter=price_of, kw_only=True)

    def open(self, steps_per_epoch: int) -> StepLedger:
        """Open an account of the budget for one phase, and return this account, a ledger."""
        return StepLedger(self.n, self.price)


def opened(budget: Budget, steps_per_epoch: int) -> Ledger:
    """Return a new ledger of a budget.

    Raises:
        SettingError: If the budget's `open` returns something else.
    """
    ledger: Any = budget.open(steps_per_epoch)
    if not isinstance(ledger, Ledger):
        raise SettingError(f"{type(budget).__name__}.open must return a Ledger, not {checks.shown(ledger)}.")
    return ledger


def check_budget(name: str, value: Any) -> None:
    """Raise SettingError unless `value` is a budget."""
    if not isinstance(value, Budget):
        raise SettingError(
            f"{name} must be a budget, such as Epochs(72), Steps(1000) or Seconds(30), not {checks.shown(value)}."
        )
