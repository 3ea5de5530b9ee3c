"""`Turn` and `Rem`: the cycle of a night whose turn it is, and its REM that is under way."""

from __future__ import annotations

from typing import Any

import attrs

from daynight.networks.masked import Mark
from daynight.nights.budgets import Budget
from daynight.nights.cycle import Cycle, Night
from daynight.scripts import heard, same, told


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


@attrs.define(eq=False, kw_only=True)
class Rem:
    """A REM that is under way.

    Attributes:
        turn: Its cycle.
        cut: How much its NREM has cut, 0 to 1.
        end: Share of the budget that is spent when it is over, 0 to 1.
        before: The snapshot before the cycle.
        mark: The network, likewise.
    """

    turn: Turn
    cut: float
    end: float
    before: Night
    mark: Mark

    def state(self) -> dict[str, Any]:
        """Give what it is, in plain values and tensors, for `restore`."""
        turn = attrs.asdict(self.turn, filter=lambda field, _: field.name != "cycle")
        cycle = {"keep": self.turn.cycle.keep, "length": self.turn.cycle.length}
        return {**turn, **cycle, "cut": self.cut, "end": self.end, "before": told(self.before), "mark": self.mark}

    @classmethod
    def restore(cls, state: dict[str, Any], cycle: Cycle | None, budget: Budget) -> Rem:
        """Make one of what `state` gave, with the cycle that a policy lays out for it.

        Raises:
            PolicyError: If that is another.
        """
        before, made = heard(state["before"], budget), Cycle(keep=state["keep"], length=state["length"])
        if state["is_given"]:
            made = same(made, cycle, before)
        turn = Turn(made, is_last=state["is_last"], takes_all=state["takes_all"], is_given=state["is_given"])
        return cls(turn=turn, cut=state["cut"], end=state["end"], before=before, mark=state["mark"])
