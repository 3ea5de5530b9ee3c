"""`Planner`: which cycle of a night comes next."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs

from daynight.errors import PolicyError
from daynight.nights.budgets import Ledger
from daynight.nights.cycle import TOLERANCE, Cycle, Density, Night
from daynight.nights.policy import SleepPolicy, advance, follow, planned
from daynight.nights.wrappers import Part


@attrs.frozen
class Turn:
    """A cycle that comes next, or is running.

    Attributes:
        cycle: The cycle.
        is_last: Whether the cycle ends the night because there is no time for another one.
        takes_all: Whether the cycle takes all of the budget that is left.
        is_given: Whether the policy has yielded the cycle.
    """

    cycle: Cycle
    is_last: bool = False
    takes_all: bool = True
    is_given: bool = True


class Planner:
    """The cycles of a night, each chosen from the snapshot before the cycle and the time that is left.

    If the budget is in time, the cycles of a plan share the time that is left. A policy that reacts decides at each
    cycle. If there is no time for the policy's next cycle, the night ends with a cycle that prunes down to the dawn
    density.

    While a night chooses its dawn density (``Capacity(share="need")``), a cycle that would take all that is left is cut
    in two: after its first half the night chooses, and the second half retrains what it has chosen.

    Args:
        policy: Chooses the cycles of the night.
        night: The snapshot with which the policy is asked for a plan.
        ledger: The account of the night's budget.

    Attributes:
        plan: The policy's plan; None if the policy reacts.

    Raises:
        PolicyError: If the policy breaks a rule.
    """

    def __init__(self, policy: SleepPolicy, night: Night, ledger: Ledger) -> None:
        self.plan = planned(policy, night)
        self._policy, self._night, self._ledger = policy, night, ledger
        self._cycles: Generator[Cycle, Night, None] | None = None  # None until the first cycle is asked for
        self._last: Cycle | None = None
        self._half: Cycle | None = None  # the second half of the last cycle, if that was cut in two
        #: The snapshots with which the policy was asked for a cycle, each with the least length of that cycle.
        self._asked = list[tuple[Night, float]]()

    @property
    def n_cycles(self) -> int | None:
        """Number of cycles; None if unknown."""
        return None if self.plan is None or self._night.chooses else len(self.plan)

    def first(self, night: Night) -> Turn | None:
        """Return the first cycle; None if the policy yields none.

        Args:
            night: The snapshot before the cycle, measured if the policy reacts.

        Raises:
            PolicyError: If the policy breaks a rule.
        """
        return self._turn(self._ask(night, self._ledger.least_cycle), night)

    def next(self, night: Night, measure: Callable[[], Night]) -> Turn | None:
        """Return the next cycle; None if there is none.

        Args:
            night: The snapshot before the cycle.
            measure: Measures the network, and returns the snapshot with the result; called if the policy reacts.

        Raises:
            PolicyError: If the policy breaks a rule.
        """
        if self.plan is None:
            if night.density <= night.dawn_density and self._ledger.reached(1.0):
                return None
            if not self._ledger.allows("other"):
                return _to_dawn(night)  # there is no time for the measurement that the policy needs
            night = measure()
        return self._turn(self._ask(night, self._ledger.least_cycle), night)

    def state(self) -> dict[str, Any]:
        """Return, as plain values, the record of all calls made to the policy; `restore` takes it."""
        asked = [(night.to_json(), least) for night, least in self._asked]
        return {"asked": self._night.to_json(), "heard": asked}

    @classmethod
    def restore(cls, state: dict[str, Any], policy: SleepPolicy, night: Night, ledger: Ledger) -> Planner:
        """Make a planner, and repeat all calls to the policy that `state` has recorded.

        Args:
            state: What `state` returned.
            policy: The policy.
            night: A snapshot of the night.
            ledger: The account of the night's budget.

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
            night: The snapshot before that cycle.

        Raises:
            PolicyError: If the policy has yielded another cycle.
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
            night: The snapshot before the cycle.
            least: Least length of the cycle, as a share of the budget, 0 or more. It has an effect on plans with a
                budget in time: a cycle that is too short, or leaves too little for later cycles, is merged with the
                next one, and prunes as far as that.
        """
        if self._half is not None:
            # What the night has chosen needs a prune, and may begin anew, only if the first half went too far at once.
            rewind = self._half.rewind if night.density > night.dawn_density else None
            cycle: Cycle | None = attrs.evolve(self._half, length=night.left, rewind=rewind)
            self._half = None
        else:
            cycle = self._next(night, least)
            if cycle is not None and night.chooses and _is_whole(cycle, night):
                cycle, self._half = halves(cycle)
        self._asked.append((night, least))
        self._last = cycle
        return cycle

    def _next(self, night: Night, least: float) -> Cycle | None:
        """Return the cycle that the policy yields next (see `_ask`)."""
        if self._cycles is not None:
            cycle = advance(self._cycles, night)
        else:
            # With a budget in time, a cycle may take more or less time than planned.
            is_live = self.plan is None or not night.is_timed
            self._cycles = follow(self._policy, night) if is_live else paced(self.plan or (), night, self._night.left)
            cycle = next(self._cycles, None)
        if self.plan is not None and night.is_timed and least > 0:
            while cycle is not None and min(cycle.length, night.left - cycle.length) < least:
                following = advance(self._cycles, night.after(cycle))
                if following is None:
                    break
                cycle = cycle.merged(following)
        return cycle

    def _turn(self, cycle: Cycle | None, night: Night) -> Turn | None:
        if cycle is None:
            return None
        if self._ledger.is_timed:
            goes_to_dawn = not night.chooses and cycle.resolved(night) <= night.dawn_density
            if self._ledger.reached(1.0) or not (goes_to_dawn or self._ledger.allows("prune")):
                return _to_dawn(night)
        return Turn(cycle, takes_all=cycle.length >= night.left - TOLERANCE)


def _to_dawn(night: Night) -> Turn:
    """Return the cycle that ends a night without time for the policy's next cycle."""
    keep: Density = night.last_density if night.chooses else "dawn"
    return Turn(Cycle(keep=keep, length=night.left), is_last=True, is_given=False)


def _is_whole(cycle: Cycle, night: Night) -> bool:
    """Return whether a cycle goes down to the dawn density, and takes all that is left of the night."""
    return cycle.resolved(night) <= night.dawn_density and cycle.length >= night.left - TOLERANCE


def halves(cycle: Cycle) -> tuple[Cycle, Cycle]:
    """Return a cycle as two of half its length; the second one goes on with its learning rates, to the dawn density."""
    length = cycle.length / 2
    rates = [None if cycle.rate is None else Part(cycle.rate, begin, 0.5) for begin in (0.0, 0.5)]
    first = attrs.evolve(cycle, length=length, rate=rates[0])
    return first, attrs.evolve(cycle, keep="dawn", length=length, rate=rates[1])


def paced(plan: Sequence[Cycle], night: Night, left: float) -> Generator[Cycle, Night, None]:
    """Yield the cycles of a plan. The cycles to come share the budget that is left, in proportion to their lengths.

    Args:
        plan: The cycles.
        night: The snapshot before the cycles; send the next snapshot after each cycle.
        left: Share of the budget that was left when the cycles were planned.

    Yields:
        The cycles: longer if more of the budget is left than planned, shorter if less.
    """
    for cycle in plan:
        length = cycle.length * night.left / left if left > 0 else 0.0
        left -= cycle.length
        # What a night has chosen for its dawn may be above what was planned.
        night = yield attrs.evolve(cycle, keep=max(cycle.resolved(night), night.dawn_density), length=length)
