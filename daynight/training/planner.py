"""`Planner`: which cycle of a night comes next."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs

from daynight.errors import PolicyError
from daynight.nights.budgets import Ledger
from daynight.nights.cycle import TOLERANCE, Cycle, Night
from daynight.nights.policy import SleepPolicy, advance, follow, planned


@attrs.frozen
class Turn:
    """A cycle that is to come, or is running.

    Attributes:
        cycle: The cycle.
        is_last: Whether it ends the night because there is no time for more.
        takes_all: Whether it takes all that is left of the budget.
        is_given: Whether the policy has yielded it.
    """

    cycle: Cycle
    is_last: bool = False
    takes_all: bool = True
    is_given: bool = True


class Planner:
    """The cycles of a night, one after another, each chosen by the snapshot before it and the time that is left.

    The cycles of a planned night in time share the time that is left. A policy that reacts decides at each cycle. Where
    there is no time for what the policy asks for, the next cycle prunes down to the dawn density and is the last.

    Args:
        policy: Lays the night out.
        night: The snapshot with which the policy is asked for a plan.
        ledger: What the night may spend.

    Attributes:
        plan: The policy's plan; None if it reacts.

    Raises:
        PolicyError: If the policy breaks a rule.
    """

    def __init__(self, policy: SleepPolicy, night: Night, ledger: Ledger) -> None:
        self.plan = planned(policy, night)
        self._policy, self._night, self._ledger = policy, night, ledger
        self._cycles: Generator[Cycle, Night, None] | None = None  # once the first one has been asked for
        self._last: Cycle | None = None
        #: Snapshots with which the policy was asked for a cycle, and the shortest cycle that there was to be.
        self._asked = list[tuple[Night, float]]()

    @property
    def n_cycles(self) -> int | None:
        """Number of cycles; None if unknown."""
        return None if self.plan is None else len(self.plan)

    def first(self, night: Night) -> Turn | None:
        """Return the first cycle; None if the policy yields none.

        Args:
            night: The snapshot before it, measured if the policy reacts.

        Raises:
            PolicyError: If the policy breaks a rule.
        """
        return self._turn(self._ask(night, self._ledger.least_cycle), night)

    def next(self, night: Night, measure: Callable[[], Night]) -> Turn | None:
        """Return the cycle after another one; None if there is none.

        Args:
            night: The snapshot before it.
            measure: Measures the network, and returns the snapshot with what it finds; for policies that react.

        Raises:
            PolicyError: If the policy breaks a rule.
        """
        if self.plan is None:
            if night.density <= night.dawn_density and self._ledger.reached(1.0):
                return None
            if not self._ledger.allows("other"):
                return _to_dawn(night)  # there is no time to measure what the policy asks for
            night = measure()
        return self._turn(self._ask(night, self._ledger.least_cycle), night)

    def state(self) -> dict[str, Any]:
        """Return what the policy has been asked, in plain values, for `restore`."""
        asked = [(night.to_json(), least) for night, least in self._asked]
        return {"asked": self._night.to_json(), "heard": asked}

    @classmethod
    def restore(cls, state: dict[str, Any], policy: SleepPolicy, night: Night, ledger: Ledger) -> Planner:
        """Ask a policy again for all that it was asked for when `state` was called.

        Args:
            state: What it returned.
            policy: The policy.
            night: A snapshot of the night.
            ledger: What the night may spend.

        Raises:
            PolicyError: If the policy breaks a rule.
        """
        planner = cls(policy, Night.from_json(state["asked"], night.budget), ledger)
        for values, least in state["heard"]:
            planner._ask(Night.from_json(values, night.budget), least)
        return planner

    def resumed(self, cycle: Cycle, night: Night) -> Cycle:
        """Return the last cycle that the policy has yielded, after `restore`.

        Args:
            cycle: The cycle that was running.
            night: The snapshot before it.

        Raises:
            PolicyError: If the policy has yielded another one.
        """
        last = self._last
        if last is None or (last.keep, last.length) != (cycle.keep, cycle.length):
            raise PolicyError(
                f"day {night.day}, cycle {night.cycle} was begun as {cycle!r}, and the policy now yields {last!r}. "
                "Resume with the policy that the night was begun with, which must yield the same cycles for the same "
                "night; or call finish_night to end the night without it."
            )
        return last

    def _ask(self, night: Night, least: float) -> Cycle | None:
        """Return the policy's next cycle; None if there is none.

        Args:
            night: The snapshot before it.
            least: Share of the budget, 0 or more, that a cycle of a planned night in time takes at least: several that
                are too short, or leave too little for those after them, become one, which prunes as far as the last.
        """
        if self._cycles is not None:
            cycle = advance(self._cycles, night)
        else:
            # A night in time takes more or less than planned.
            is_live = self.plan is None or not night.is_timed
            self._cycles = follow(self._policy, night) if is_live else paced(self.plan or (), night, self._night.left)
            cycle = next(self._cycles, None)
        self._asked.append((night, least))
        if self.plan is not None and night.is_timed and least > 0:
            while cycle is not None and min(cycle.length, night.left - cycle.length) < least:
                following = advance(self._cycles, night.after(cycle))
                if following is None:
                    break
                cycle = cycle.merged(following)
        self._last = cycle
        return cycle

    def _turn(self, cycle: Cycle | None, night: Night) -> Turn | None:
        if cycle is None:
            return None
        if self._ledger.is_timed:
            goes_to_dawn = cycle.resolved(night) <= night.dawn_density
            if self._ledger.reached(1.0) or not (goes_to_dawn or self._ledger.allows("prune")):
                return _to_dawn(night)
        return Turn(cycle, takes_all=cycle.length >= night.left - TOLERANCE)


def _to_dawn(night: Night) -> Turn:
    """Return the cycle that ends a night for which there is no time as it was laid out."""
    return Turn(Cycle(keep="dawn", length=night.left), is_last=True, is_given=False)


def paced(plan: Sequence[Cycle], night: Night, left: float) -> Generator[Cycle, Night, None]:
    """Yield the cycles of a plan; those that are still to come share what is left in proportion.

    Args:
        plan: The cycles.
        night: The snapshot before them; send the next one after each cycle.
        left: Share of the budget that was left when they were planned.

    Yields:
        The cycles, longer or shorter as there is more or less left than planned.
    """
    for cycle in plan:
        length = cycle.length * night.left / left if left > 0 else 0.0
        left -= cycle.length
        night = yield attrs.evolve(cycle, length=length)
