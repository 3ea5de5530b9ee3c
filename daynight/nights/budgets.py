"""What a phase may spend and has spent."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import Any

import attrs

from daynight.errors import SettingError
from daynight.support import checks
from daynight.support.checks import round_half_up


class Ledger(abc.ABC):
    """What one phase may spend and has spent; a `Budget` opens one for each phase."""

    #: The optimizer steps that the phase will take; None where nobody knows, in budgets of time.
    n_steps: int | None
    #: The optimizer steps that it has taken.
    spent_steps: int
    #: Share of the budget that a prune costs, 0 or more.
    price: float = 0.0
    #: Share of the budget that a cycle has to take for its REM to be as long as its prune, as far as that is known.
    least_cycle: float = 0.0
    #: Seconds since its end, if it ends by the clock.
    overdue: float = 0.0

    @property
    @abc.abstractmethod
    def spent(self) -> float:
        """Share of the budget that is spent, 0 to 1."""

    @abc.abstractmethod
    def note_step(self) -> None:
        """Enter one optimizer step."""

    @abc.abstractmethod
    def reached(self, share: float) -> bool:
        """Tell whether `share` (0 to 1) of the budget is spent."""

    @abc.abstractmethod
    def steps_until(self, share: float) -> int | None:
        """Tell how many optimizer steps are left until `share` (0 to 1) of the budget is spent; None if unknown."""

    def note_prune(self) -> None:  # noqa: B027
        """Enter one prune, at the budget's price."""

    def note_other(self) -> None:  # noqa: B027
        """Enter what has been done since the last step or prune, and is neither: it takes time and no steps."""

    def allows(self, what: str) -> bool:
        """Tell whether there is time for a ``"prune"``, or for something ``"other"`` such as a measurement."""
        return True

    def note_outside(self) -> None:  # noqa: B027
        """Enter what others, such as hooks, have done since the last piece of work; it tells nothing of the next."""

    @property
    def seconds_left(self) -> float:
        """Seconds until the budget is spent; infinite, if it is not of time."""
        return math.inf

    def state(self) -> dict[str, Any]:
        """Give what has been spent, in plain values, for `restore`."""
        return dict(vars(self))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave of a ledger of the same kind."""
        vars(self).update(state)

    def resume(self) -> None:  # noqa: B027
        """Let time pass, if the budget is of time."""

    def pause(self) -> None:  # noqa: B027
        """Stop the time."""


class StepLedger(Ledger):
    """A ledger in optimizer steps. Shares and prices become whole steps by rounding cumulative totals.

    Args:
        n_steps: What may be spent.
        price_steps: What a prune costs.
    """

    n_steps: int

    def __init__(self, n_steps: int, price_steps: float = 0.0) -> None:
        self.n_steps, self.price_steps = n_steps, price_steps
        self.price = price_steps / n_steps if n_steps else (math.inf if price_steps else 0.0)
        self.spent_steps = 0
        self.n_prunes = 0

    @property
    def spent(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        return min(1.0, self._total / self.n_steps) if self.n_steps else 0.0

    def note_step(self) -> None:
        """Enter one optimizer step."""
        self.spent_steps += 1

    def note_prune(self) -> None:
        """Enter one prune."""
        self.n_prunes += 1

    def reached(self, share: float) -> bool:
        """Tell whether `share` (0 to 1) of the budget is spent."""
        return self.steps_until(share) == 0

    def steps_until(self, share: float) -> int:
        """Tell how many optimizer steps are left until `share` (0 to 1) is spent."""
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
    return checks.whole("Steps: n", n, least=0, most=MAX_BUDGET)


def price_of(price: Any) -> float:
    """Give what a prune costs, in the unit of a budget, 0 or more."""
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
    """Refuse what is no budget."""
    if not isinstance(value, Budget):
        raise SettingError(
            f"{name} must be a budget, such as Epochs(72), Steps(1000) or Seconds(30), not {checks.shown(value)}."
        )
