"""How owned weights consolidate: whether they freeze at dawn, whether data are kept, and what the next day trains on.

To add a way of your own, write a subclass of `Consolidation` and give an agent an instance.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import torch
from torch import nn

from daynight.data.replay import Kept, Memory, Replay, joined
from daynight.data.tasks import Task
from daynight.data.unions import after, check_can_join, union
from daynight.errors import SettingError
from daynight.networks.masked import MaskedNetwork
from daynight.pruning.capacity import Capacity, keeps_nothing
from daynight.support import checks
from daynight.training.settings import Training


class Consolidation(abc.ABC):
    """What happens to the weights that finished tasks own."""

    #: The name of the way in files.
    name: ClassVar[str]
    #: Whether the numbers that a finished task uses never move again, so that tasks are sealed at their dawn.
    freezes: ClassVar[bool] = False
    #: Whether the agent keeps the training data of finished tasks.
    keeps_tasks: ClassVar[bool] = False
    #: Whether a day may train on examples of past days, too, which the agent keeps with ``replay=``.
    replays: ClassVar[bool] = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @abc.abstractmethod
    def network(self, module: nn.Module, *, biases: Any, **settings: Any) -> MaskedNetwork:
        """Return the masked network in which owned weights consolidate in this way.

        Args:
            module: The module.
            biases: See `daynight.Agent`.
            settings: The other arguments of `MaskedNetwork`.

        Raises:
            NetworkError, SettingError: See `MaskedNetwork`.
        """

    def trained(self, task: Task, kept: Sequence[Task]) -> Task:
        """Return the task that a day trains on.

        Args:
            task: The day's task.
            kept: The tasks of all earlier days; empty unless the agent keeps them.
        """
        return task

    def replayed(
        self, task: Task, memory: Memory, succeeds: int | None, n_outputs: Sequence[int]
    ) -> tuple[Task, Kept | None]:
        """Return the task that a day of an agent with ``replay=`` trains on, and the kept examples for its batches.

        Unless a way says otherwise, these are the day's task and the examples of the task that it succeeds, with those
        that came before it: examples of other tasks have other heads.

        Args:
            task: The day's task.
            memory: The kept examples of all past days.
            succeeds: Index of the task that the day's task succeeds; None if there is none.
            n_outputs: Number of outputs of each finished task.

        Raises:
            DataError: If the kept examples have targets of another form.
        """
        return task, None if succeeds is None else joined(memory.examples(succeeds), task)

    @abc.abstractmethod
    def check_room(self, network: MaskedNetwork, capacity: Capacity, task: Task, day: int) -> None:
        """Raise an error unless a day has weights to train, and its task can be learnt together with earlier tasks.

        Raises:
            CapacityError: If the capacity has no such day, there are no weights to train, or the night keeps no weight.
            DataError: If the task cannot be trained together with the earlier tasks.
        """


class Freeze(Consolidation):
    """Owned weights never move again. Each task sees its own weights and those of earlier tasks."""

    name = "freeze"
    freezes = replays = True

    def network(self, module: nn.Module, *, biases: Any, **settings: Any) -> MaskedNetwork:
        """Return a masked network that freezes owned weights."""
        return MaskedNetwork(module, biases=biases, **settings)

    def check_room(self, network: MaskedNetwork, capacity: Capacity, task: Task, day: int) -> None:
        """Raise CapacityError unless the task gets new weights; if layers are ranked one by one, in each of them."""
        is_next = day == network.n_tasks
        sizes, free = tuple(network.sizes.values()), tuple(network.available().values()) if is_next else None
        capacity.check(network.sizes, day, capacity.room(sizes, day, free))


class _Shared(Consolidation):
    """Owned weights keep learning, and every task sees all of them. Biases and norms are shared."""

    #: Whether all earlier heads keep learning, too.
    joins_heads: ClassVar[bool]

    def network(self, module: nn.Module, *, biases: Any, **settings: Any) -> MaskedNetwork:
        """Return a masked network that freezes nothing."""
        checks.one_of("biases", biases, ("freeze-after-first", "per-task"))
        return MaskedNetwork(module, freezes=False, joins_heads=self.joins_heads, **settings)

    def check_room(self, network: MaskedNetwork, capacity: Capacity, task: Task, day: int) -> None:
        """Raise CapacityError if the night keeps no weight; DataError if the task's head must be joined and cannot."""
        if not capacity.dawn_density(tuple(network.sizes.values()), day):
            raise keeps_nothing(sum(network.sizes.values()), day)
        if self.joins_heads:
            check_can_join(task)


class Rehearse(_Shared):
    """Owned weights and all heads keep learning, from batches drawn evenly from the training data of all days."""

    name = "rehearse"
    keeps_tasks = joins_heads = replays = True

    def trained(self, task: Task, kept: Sequence[Task]) -> Task:
        """Return the union of the day's task and all earlier tasks."""
        return union([*kept, task], task.name) if kept else task

    def replayed(
        self, task: Task, memory: Memory, succeeds: int | None, n_outputs: Sequence[int]
    ) -> tuple[Task, Kept | None]:
        """Return the day's task and the examples of all earlier ones, with their classes numbered as in a union."""
        past = joined(memory.examples(), task)
        if past is None:
            return task, None
        first = torch.tensor([0, *n_outputs]).cumsum(0)
        return after(task, n_outputs), attrs.evolve(past, targets=past.targets + first[past.tasks])


class FineTune(_Shared):
    """Owned weights keep learning from the day's task alone; each head stays as it was at its task's dawn."""

    name = "fine-tune"
    joins_heads = False


_KNOWN: dict[str, Consolidation] = {way.name: way for way in (Freeze(), Rehearse(), FineTune())}


def consolidation_of(value: Any) -> Consolidation:
    """Return the way to consolidate that `value` is or names.

    Args:
        value: A `Consolidation`, or one of the names ``"freeze"``, ``"rehearse"`` or ``"fine-tune"``.

    Raises:
        SettingError: If `value` is neither, or its class has no name of its own.
    """
    if isinstance(value, Consolidation):
        kind, name = type(value), vars(type(value)).get("name")
        if not isinstance(name, str) or not name or type(_KNOWN.get(name, value)) is not kind:
            raise SettingError(
                f"consolidation: the class {kind.__name__} must have a name of its own, a text by which files know it, "
                f"such as name = {kind.__name__!r}; not one of {', '.join(map(repr, _KNOWN))}."
            )
        return value
    if isinstance(value, type) and issubclass(value, Consolidation):
        raise SettingError(f"consolidation must be an instance: {value.__name__}(), not the class.")
    checks.one_of("consolidation", value, tuple(_KNOWN))
    return _KNOWN[value]


def check_replay(replay: Any, way: Consolidation, training: Training) -> None:
    """Raise SettingError unless days of an agent with these settings can replay examples."""
    checks.kind("replay", replay, Replay, "Replay(5000)")
    if not way.replays:
        raise SettingError(
            f"replay does not go with consolidation={way.name!r}: there, no day would learn from kept examples. Take "
            "'freeze' or 'rehearse', or leave replay out."
        )
    if training.batch_size < 2:
        raise SettingError(
            "replay needs batches of two or more: one example of the day, and one of past days. Set batch_size."
        )


def is_known(name: str) -> bool:
    """Return whether `name` is the name of one of the library's own ways to consolidate."""
    return name in _KNOWN
