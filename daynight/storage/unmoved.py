"""`Unmoved`: finds out which finished tasks use the numbers that they were sealed with, in one pass over them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from daynight.networks.masked import MaskedNetwork
from daynight.networks.sight import Owners
from daynight.networks.views import stamp_of
from daynight.storage.seals import Seal, seal
from daynight.support.digests import digest_of, parts_of

#: The tensors of a task's own, and their stamp, as they were when its seal was checked.
Own = tuple[list[Tensor], list[tuple[int, int, int]]]


class Unmoved:
    """Finds out which finished tasks are as they were sealed. Copies, and those in other processes, begin anew.

    What tasks share is digested once, whatever the number of tasks, and compared with the digest of the last time. Of
    the tensors of a task's own, it is compared which they are and how often PyTorch has counted a write (see
    `daynight.networks.views.stamp_of`). A task for which these do not show that it is the same has its seal checked, as
    has the last task, whose head the module still holds.

    What PyTorch does not count, in a task's own tensors, is found by `daynight.Agent.verify`.
    """

    def __init__(self) -> None:
        self._own: dict[int, Own] = {}  # of the tasks that were as sealed the last time
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
        last, found, known = max(sealed, default=-1), set[int](), dict[int, Own]()
        for task in sealed:
            tensors = _own_of(network, task)
            stamp = stamp_of(tensors)
            is_known = is_same and task != last and stamp is not None and self._own.get(task, ((), None))[1] == stamp
            if is_known or seal(used(task)) == sealed[task]:
                found.add(task)
                if stamp is not None:
                    known[task] = tensors, stamp
        needed = network.sight.needed
        if not is_same or needed != self._owners:
            self._owners, self._digest = needed, _digest(network, needed)
        self._own = known
        return frozenset(found)


def _digest(network: MaskedNetwork, owners: Owners) -> str:
    return digest_of(part for tensor in network.shared(owners).values() for part in parts_of(tensor))


def _own_of(network: MaskedNetwork, task: int) -> list[Tensor]:
    """Return the tensors that only a finished task uses. It is quick: there may be a thousand tasks."""
    found: list[Tensor | None] = [*network.private_of(task).values()]
    modules: list[nn.Module | None] = [network.heads.of(task)]
    for module in modules:
        if module is not None:
            own = vars(module)
            found += [*own["_parameters"].values(), *own["_buffers"].values()]
            modules += own["_modules"].values()
    return [tensor for tensor in found if tensor is not None]
