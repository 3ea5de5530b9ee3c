"""`Script`: the cycles of a night as its policy lays them out, which can be read again."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import attrs

from daynight.errors import PolicyError
from daynight.nights.budgets import Budget
from daynight.nights.cycle import Cycle, Measured, Night
from daynight.nights.policy import SleepPolicy, advance, follow, planned


@attrs.define(eq=False)
class Turn:
    """A cycle whose turn it is.

    Attributes:
        cycle: The cycle.
        is_last: Whether it is the night's last, for want of time.
        takes_all: Whether it is to take all that is left of the budget.
        is_given: Whether the policy has given it.
    """

    cycle: Cycle
    is_last: bool = False
    takes_all: bool = True
    is_given: bool = True


class Script:
    """The cycles of a night, one after another, each laid out on what the snapshot before it tells.

    Args:
        policy: Lays them out.
        asked: The snapshot that it is asked for a plan with.

    Attributes:
        plan: Its plan; None if it reacts.
        last: The cycle that was given last.

    Raises:
        PolicyError: If the policy breaks a rule.
    """

    def __init__(self, policy: SleepPolicy, asked: Night) -> None:
        self.plan = planned(policy, asked)
        self.last: Cycle | None = None
        self._cycles: Generator[Cycle, Night, None]
        self._policy, self._asked, self._heard = policy, asked, list[tuple[Night, float]]()

    @property
    def n_cycles(self) -> int | None:
        """Number of cycles; None where nobody knows."""
        return None if self.plan is None else len(self.plan)

    def next(self, night: Night, least: float = 0.0) -> Cycle | None:
        """Give the next cycle; None if there is none.

        Args:
            night: The snapshot before it.
            least: Share of the budget, 0 or more, that a cycle of a planned night in time takes at least: several that
                are too short, or leave too little for those after them, become one, which prunes as far as the last.
        """
        if self._heard:
            self.last = advance(self._cycles, night)
        else:
            # What a night in seconds takes is more or less than planned.
            is_live = self.plan is None or night.n_steps is not None
            self._cycles = follow(self._policy, night) if is_live else paced(self.plan or (), night, self._asked.left)
            self.last = next(self._cycles, None)
        self._heard.append((night, least))
        if self.plan is not None and night.n_steps is None and least > 0:
            while self.last is not None and min(self.last.length, night.left - self.last.length) < least:
                following = advance(self._cycles, night.after(self.last))
                if following is None:
                    break
                self.last = attrs.evolve(following, length=self.last.length + following.length)
        return self.last

    def state(self) -> dict[str, Any]:
        """Give what was heard, in plain values, for `restore`."""
        return {"asked": told(self._asked), "heard": [(told(night), least) for night, least in self._heard]}

    @classmethod
    def restore(cls, state: dict[str, Any], policy: SleepPolicy, budget: Budget) -> Script:
        """Read the cycles of a policy again, up to where `state` was given.

        Args:
            state: What it gave.
            policy: The policy.
            budget: The night's.

        Raises:
            PolicyError: If the policy breaks a rule.
        """
        script = cls(policy, heard(state["asked"], budget))
        for night, least in state["heard"]:
            script.next(heard(night, budget), least)
        return script


def paced(plan: Sequence[Cycle], night: Night, left: float) -> Generator[Cycle, Night, None]:
    """Give the cycles of a plan, of which those to come share what is left in proportion.

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


def same(begun: Cycle, cycle: Cycle | None, night: Night) -> Cycle:
    """Give a cycle that was read again, which must be the one that was begun.

    Raises:
        PolicyError: If it is another.
    """
    if cycle is None or (cycle.keep, cycle.length) != (begun.keep, begun.length):
        raise PolicyError(
            f"day {night.day}, cycle {night.cycle} was begun as {begun!r}, and the policy now gives {cycle!r}. Go on "
            "with the policy that the night was begun with, which must give equal nights equal cycles; or call "
            "finish_night to end the night without it."
        )
    return cycle


def told(night: Night) -> dict[str, Any]:
    """Give a snapshot in plain values, but for the budget."""
    told = attrs.asdict(night, filter=lambda field, _: field.name != "budget")
    return {name.lstrip("_"): value for name, value in told.items()}


def heard(told: dict[str, Any], budget: Budget) -> Night:
    """Make a snapshot of what `told` gave."""
    measured = told["measured"]
    return Night(**{**told, "measured": None if measured is None else Measured(**measured)}, budget=budget)
