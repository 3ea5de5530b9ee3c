"""`Unmoved`: finds out which finished tasks use the numbers that they were sealed with, in one pass over them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
from torch import Tensor

from daynight.networks.masked import MaskedNetwork
from daynight.networks.sight import Owners
from daynight.storage.seals import Seal, seal
from daynight.support.digests import digest_of, parts_of


@attrs.frozen(eq=False)
class _Own:
    """The tensors of a task's own, as they were when its seal was checked."""

    tensors: Sequence[Tensor]
    versions: Sequence[int]


class Unmoved:
    """Finds out which finished tasks are as they were sealed. Copies, and those in other processes, begin anew.

    What tasks share is digested once, whatever the number of tasks, and compared with the digest of the last time. For
    the tensors of a task's own, PyTorch's counts of writes are compared. A task for which these do not show that it is
    the same has its seal checked, as has the last task, whose head the module still holds.

    PyTorch does not count what is written through `Tensor.data` or shared memory of other libraries; in a task's own
    tensors, `daynight.Agent.verify` finds this.
    """

    def __init__(self) -> None:
        self._own: dict[int, _Own] = {}  # of the tasks that were as sealed the last time
        self._owners: Owners = range(0)  # whose weights the digest is of
        self._digest = ""

    def __reduce__(self) -> tuple[type[Unmoved], tuple[()]]:
        return type(self), ()

    def tasks(
        self, network: MaskedNetwork, sealed: Mapping[int, Seal], used: Callable[[int], Mapping[str, Tensor]]
    ) -> frozenset[int]:
        """Return the indices of the finished tasks that are as they were sealed.

        Args:
            network: The network.
            sealed: The seal of each task, by index.
            used: Returns all tensors that were sealed, by name.
        """
        is_same = bool(self._own) and self._digest == _digest(network, self._owners)
        known = {
            task: each for task, each in self._own.items()
            if is_same and task in sealed and [tensor._version for tensor in each.tensors] == each.versions
        }  # fmt: skip
        known.pop(max(sealed, default=-1), None)
        for task in sealed.keys() - known.keys():
            if seal(used(task)) == sealed[task]:
                tensors = list(network.own_of(task).values())
                known[task] = _Own(tensors, [tensor._version for tensor in tensors])
        needed = network.sight.needed
        if not is_same or needed != self._owners:
            self._owners, self._digest = needed, _digest(network, needed)
        self._own = known
        return frozenset(known)


def _digest(network: MaskedNetwork, owners: Owners) -> str:
    return digest_of(part for tensor in network.shared(owners).values() for part in parts_of(tensor))
