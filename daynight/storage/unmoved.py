"""`Unmoved`: finds out which finished tasks use the numbers that they were sealed with, in one pass over them all."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from daynight.networks.masked import MaskedNetwork
from daynight.networks.sight import Owners
from daynight.networks.views import stamp_of
from daynight.storage.seals import Seal, seal
from daynight.support.digests import digest_of, parts_of

#: The attributes of a module that hold its tensors, and the modules within it.
_HOLDERS = ("_parameters", "_buffers", "_modules")


@attrs.frozen(eq=False)
class Own:
    """What only some finished tasks use, and how it was when their seals were checked.

    There may be a thousand tasks, so all are compared at once, in lists.

    Attributes:
        tasks: The indices of the tasks.
        heads: Their heads.
        private: The tensors that are private to them besides.
        holders: The dicts that hold all these tensors, and the modules within the heads.
        names: The names in these.
        held: What has these names. It is kept, so that no other object gets the `id` of a part of it.
        tensors: The tensors among this.
        counts: How often PyTorch had counted a write to each tensor.
        places: Where the memory of each tensor was.
    """

    tasks: list[int] = attrs.field(factory=list)
    heads: list[nn.Module] = attrs.field(factory=list)
    private: list[dict[str, Tensor]] = attrs.field(factory=list)
    holders: list[dict[str, Any]] = attrs.field(factory=list)
    names: list[str] = attrs.field(factory=list)
    held: list[Any] = attrs.field(factory=list)
    tensors: list[Tensor] = attrs.field(factory=list)
    counts: list[int] = attrs.field(factory=list)
    places: list[int] = attrs.field(factory=list)

    @classmethod
    def of(cls, network: MaskedNetwork, task: int) -> Own | None:
        """Return what only a finished task uses; None if PyTorch does not count writes to it."""
        head, private = network.heads.of(task), network.private_of(task)
        holders = [private, *(vars(part)[name] for part in head.modules() for name in _HOLDERS)]
        held = _values(holders)
        tensors = [value for value in held if isinstance(value, Tensor)]
        if stamp_of(tensors) is None:
            return None
        return cls(
            [task], [head], [private], holders, _names(holders), held, tensors, _counts(tensors), _places(tensors)
        )

    @classmethod
    def joined(cls, parts: Iterable[Own]) -> Own:
        """Return what several of them are together."""
        lists = zip(*map(_LISTS, parts), strict=True)
        return cls(*(list(itertools.chain.from_iterable(each)) for each in lists))

    def is_same(self, network: MaskedNetwork) -> bool:
        """Return whether it is as it was, as far as PyTorch counts what is written to tensors."""
        held = _values(self.holders)
        return (
            not torch.is_inference_mode_enabled()  # where writes are not counted
            and _are_same(map(network.heads.of, self.tasks), self.heads)
            and _are_same(map(network.private_of, self.tasks), self.private)
            and len(held) == len(self.held)
            and _are_same(held, self.held)
            and _names(self.holders) == self.names
            and _counts(self.tensors) == self.counts
            and _places(self.tensors) == self.places
        )


_LISTS = operator.attrgetter(*(field.name for field in attrs.fields(Own)))


class Unmoved:
    """Finds out which finished tasks are as they were sealed. Copies, and those in other processes, begin anew.

    What tasks share is digested once, whatever the number of tasks, and compared with the digest of the last time. Of
    the tensors of a task's own, it is compared which they are and how often PyTorch has counted a write (see
    `daynight.networks.views.stamp_of`). A task for which these do not show that it is the same has its seal checked, as
    have the last task, whose head the module still holds, and one that the day's task succeeds, whose weights change
    with the dawn.

    What PyTorch does not count, in a task's own tensors, is found by `daynight.Agent.verify`.
    """

    def __init__(self) -> None:
        self._own: dict[int, Own] = {}  # of the tasks that were as sealed the last time
        self._together = Own()  # the same, but for the last one, together
        self._owners: Owners = range(0)  # whose weights the digest is of
        self._digest = ""

    def __reduce__(self) -> tuple[type[Unmoved], tuple[()]]:
        return type(self), ()

    def tasks(
        self,
        network: MaskedNetwork,
        sealed: Mapping[int, Seal],
        used: Callable[[int], Mapping[str, Tensor]],
        own_of: Callable[[int], Mapping[str, Tensor]] | None = None,
    ) -> frozenset[int]:
        """Return the indices of the finished tasks that are as they were sealed.

        Args:
            network: The network.
            sealed: The seal of each task, by index.
            used: Returns all tensors that were sealed, by name.
            own_of: Returns those of them that only this task uses. If it is given, these are digested, too, so that
                also what PyTorch does not count is found.
        """
        apart = {max(sealed, default=-1), network.succeeds}
        is_same = bool(self._own) and self._digest == _digest(network, self._owners)
        same = self._same(network, sealed.keys() - apart) if is_same else frozenset[int]()
        if own_of is not None:
            same = frozenset(task for task in same if seal(own_of(task)).items() <= sealed[task].items())
        found, known = set[int](), dict[int, Own]()
        for task in sealed:
            if task in same:
                known[task] = self._own[task]
            elif seal(used(task)) == sealed[task]:
                found.add(task)
                own = None if task == network.succeeds else Own.of(network, task)
                known.update({} if own is None else {task: own})
        staying = network.sight.needed_beside(network.succeeds)
        if not is_same or staying != self._owners:
            self._owners, self._digest = staying, _digest(network, staying)
        self._own = known
        return same | found

    def _same(self, network: MaskedNetwork, tasks: Collection[int]) -> frozenset[int]:
        """Return which of some tasks have the tensors of their own that they had the last time."""
        own = {task: part for task, part in self._own.items() if task in tasks}
        n_known = len(self._together.tasks)
        is_older = self._together.tasks == list(own)[:n_known]
        rest = list(own.values())[n_known if is_older else 0 :]
        if rest or not is_older:
            self._together = Own.joined([*([self._together] if is_older else []), *rest])
        if self._together.is_same(network):
            return frozenset(own)
        self._together = Own()
        return frozenset(task for task, part in own.items() if part.is_same(network))


def _digest(network: MaskedNetwork, owners: Owners) -> str:
    return digest_of(part for tensor in network.shared(owners).values() for part in parts_of(tensor))


def _are_same(some: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(map(operator.is_, some, others))


def _names(holders: Iterable[dict[str, Any]]) -> list[str]:
    return list(itertools.chain.from_iterable(holders))


def _values(holders: Iterable[dict[str, Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(map(dict.values, holders)))


def _counts(tensors: Iterable[Tensor]) -> list[int]:
    return list(map(operator.attrgetter("_version"), tensors))


def _places(tensors: Iterable[Tensor]) -> list[int]:
    return list(map(Tensor.data_ptr, tensors))
