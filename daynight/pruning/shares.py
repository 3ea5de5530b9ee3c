"""Shares by need: how few and how many weights a day may keep, by what the days before have saved or borrowed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

#: Products of a whole number and a factor within this distance of a whole number are that number.
_ROUNDING = 1e-9


@attrs.frozen(kw_only=True)
class Bounds:
    """How many weights a day may keep of one layer, or of all if layers are ranked together.

    Attributes:
        least: The smallest number.
        due: The equal share or, while a loan is being paid, what the day's payment leaves of it.
        most: The largest number.
    """

    least: int
    due: int
    most: int


@attrs.frozen(kw_only=True)
class Rules:
    """The rules of a `daynight.Capacity` with ``share="need"``, whose arguments have the same names.

    Attributes:
        least: See `daynight.Capacity`.
        most: See `daynight.Capacity`.
        loan: See `daynight.Capacity`.
    """

    least: float
    most: float
    loan: float

    def bounds(self, totals: Sequence[int], day: int, owned: int, floor: int = 0) -> Bounds:
        """Return how many weights the task of a day may keep.

        All counts come from `totals` and `owned`, so that rounding errors never add up, and the last day gets exactly
        what is left. A loan is never so large that a later day could not have its least number.

        Args:
            totals: How many weights all tasks own after 0, 1, ... and all days, if each day keeps its equal share.
            day: Index of the day, from 0.
            owned: How many weights other tasks than the day's own at its dusk, at most that many of `totals` as
                earlier days with these bounds leave.
            floor: A number of weights that the least one must not be below, unless the equal share is.
        """
        shares = [after - before for before, after in zip(totals[day:], totals[day + 1 :], strict=False)]
        share, left = shares[0], totals[-1] - owned
        if len(shares) == 1:
            return Bounds(least=left, due=left, most=left)
        least = [self._least(each, floor) for each in shares]
        bank = totals[day] - owned
        # What later days can pay back, if each keeps its least number.
        payable = sum(shares[1:]) - sum(least[1:])
        if bank < 0:
            payment = -(bank // len(shares))  # an even part for each day that is left, rounded up
            due = min(max(share - payment, least[0]), share + bank + payable)
            return Bounds(least=least[0], due=due, most=due)
        borrowed = min(math.floor(self.loan * share + _ROUNDING), payable)
        most = min(math.floor(self.most * share + _ROUNDING), share + bank + borrowed)
        return Bounds(least=least[0], due=share, most=most)

    def _least(self, share: int, floor: int) -> int:
        return max(math.ceil(self.least * share - _ROUNDING), min(share, floor))
