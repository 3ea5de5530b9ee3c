"""`Sight`: whose weights each living task sees, and whose weights no living task needs any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import attrs
import torch
from torch import Tensor

#: Indices of tasks. A range stands for all tasks before its end, whatever their number.
Owners = Collection[int]


@attrs.frozen
class Told:
    """What a network must know of a task before its tensors are read.

    Attributes:
        n_outputs: Number of outputs.
        sees: The owners whose weights the task sees, besides its own; None is all earlier tasks.
        succeeds: Index of the task that this one succeeds; None if there is none.
    """

    n_outputs: int
    sees: Owners | None = None
    succeeds: int | None = None


class Sight:
    """Whose weights each living task sees. A task that has retired sees nothing.

    Attributes:
        of: By living finished task, the owners whose weights it sees, its own index included.
    """

    def __init__(self) -> None:
        self.of: dict[int, Owners] = {}

    @property
    def needed(self) -> Owners:
        """The owners whose weights some living task sees."""
        return _joined(self.of.values())

    def needed_beside(self, task: int | None) -> Owners:
        """Return the owners whose weights some living task other than `task` sees."""
        return _joined(seen for other, seen in self.of.items() if other != task)

    def own(self, task: int) -> frozenset[int]:
        """Return the owners whose weights no living task sees but `task`."""
        others = self.needed_beside(task)
        return frozenset(owner for owner in self.of[task] if owner not in others)

    def today(self, day: int, sees: Owners | None, succeeds: int | None) -> Owners:
        """Return the owners whose weights the task of a day sees, besides its own.

        Args:
            day: Index of the day.
            sees: The owners that it is to see; None is all earlier tasks or, for a successor, those that its
                predecessor sees and that stay.
            succeeds: Index of the living task that it succeeds; None if there is none.
        """
        if succeeds is not None:
            own = self.own(succeeds)
            return frozenset(owner for owner in self.of[succeeds] if owner not in own)
        return range(day) if sees is None else frozenset(sees)


def _joined(sets: Iterable[Owners]) -> Owners:
    """Return the union of sets of owners."""
    ranges, rest = range(0), set[int]()
    for owners in sets:
        if isinstance(owners, range):
            ranges = max(ranges, owners, key=len)
        else:
            rest.update(owners)
    rest.difference_update(ranges)
    return ranges if not rest else frozenset(rest.union(ranges))


def owned_by(owners: Tensor, which: Owners) -> Tensor:
    """Return which weights of an owner map belong to some of the owners `which`: bool, of the map's shape."""
    if isinstance(which, range):
        return (owners >= 0) & (owners < len(which))
    wanted = torch.tensor(sorted(which), dtype=owners.dtype, device=owners.device)
    return torch.isin(owners, wanted)
