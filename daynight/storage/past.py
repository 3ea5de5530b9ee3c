"""`Past`: what an agent keeps of its finished tasks beside the network: records, forms, seals, and some of the data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from daynight.data.replay import Kept, Memory, Replay
from daynight.data.roll import Roll
from daynight.data.tasks import Task
from daynight.errors import SealError, StateError
from daynight.history import Hook, Record
from daynight.networks.masked import MaskedNetwork
from daynight.nights.gate import Gate, Verdict
from daynight.storage import contents, seals
from daynight.storage.unmoved import Unmoved
from daynight.support import seeding
from daynight.support.named import parted, prefixed
from daynight.training import keepsakes
from daynight.training.consolidation import Consolidation, is_known
from daynight.training.day import Day
from daynight.training.gatekeeper import Gatekeeper
from daynight.training.keepsakes import Keepsakes
from daynight.training.settings import Training


class Past:
    """What an agent keeps of its finished tasks that have not retired, beside the network.

    Args:
        consolidation: The way to consolidate.
        replay: How many examples of past days are kept; None keeps none.
        gate: Decides whether a task takes over from the one that it succeeds; None if there is no gate.
        keeps: What each task keeps of its data (see `daynight.training.keepsakes`).
        seed: Names the agent's random streams.
        dtype: Type of the network's weights.
        device: Device of the network.

    Attributes:
        records: The record of each finished day, by index of its task.
        roll: The forms of the tasks, that of the current day's included.
        seals: The seal of each task, by index; empty if tasks are not sealed.
        kept: The finished tasks whose data are kept; empty unless the way to consolidate keeps tasks.
        memory: The examples of past days that are kept; None without `replay`.
        keepsakes: What tasks keep of their data.
        gatekeeper: Tries new versions beside old ones; None without a gate.
        refused: The record of the last finished day, if the gate has refused its task.
    """

    def __init__(
        self, consolidation: Consolidation, replay: Replay | None, gate: Gate | None, keeps: tuple[str, ...], *,
        seed: int, dtype: torch.dtype, device: torch.device,
    ) -> None:  # fmt: skip
        self.records: dict[int, Record] = {}
        self.roll = Roll()
        self.seals: dict[int, seals.Seal] = {}
        self.kept: list[Task] = []
        self.memory = None if replay is None else Memory(replay.examples, seed)
        self.keepsakes = Keepsakes(keeps, dtype, device, seed)
        self.gatekeeper = None if gate is None else Gatekeeper(gate, seed)
        self.refused: Record | None = None
        self._consolidation, self._replay, self._gate, self._seed = consolidation, replay, gate, seed
        self._device, self._unmoved = device, Unmoved()

    def fork(self) -> Past:
        """Return a copy. Both share the examples, which are not copied."""
        twin = copy.copy(self)
        twin.records, twin.roll = dict(self.records), copy.deepcopy(self.roll)
        twin.seals, twin.kept, twin.memory = dict(self.seals), list(self.kept), copy.copy(self.memory)
        twin.gatekeeper = None if self.gatekeeper is None else self.gatekeeper.fork()
        twin.keepsakes, twin._unmoved = copy.deepcopy(self.keepsakes), Unmoved()
        return twin

    def closing(self, today: Day, network: MaskedNetwork, training: Training) -> Callable[[Hook], Record]:
        """Read what a day's task is to keep of its data, and return a function that ends the day and enters the task.

        Data that cannot be read leave the night open.

        Args:
            today: The day, at dusk or in its night.
            network: The network.
            training: How outputs are measured.

        Returns:
            A function of the hook that is called with the record of the last prune, if one is needed. It returns the
            record of the day. If the gate refuses the task, nothing of it is entered.

        Raises:
            DataError: If data cannot be read. The function may raise this, too, and what `Day.finish_night` raises.
        """
        index, succeeds, enter = today.index, network.succeeds, list[Callable[[], None]]()
        others = [task for task in network.living if task != succeeds]  # a predecessor retires with this dawn
        keepsake = self.keepsakes.made(today.task, index, others)

        def judge() -> Verdict | None:
            """Try the day's task beside the one that it succeeds, and read what is kept of it if it is accepted."""
            keeper = self.gatekeeper
            if keeper is None:
                return None
            with seeding.forked(self._seed, "gate", index, device=self._device):
                verdict = None
                if succeeds is not None:
                    verdict = keeper.judged(today.task, succeeds, network, training, self._device)
                if verdict is None or verdict.accepted:
                    enter.append(keeper.accept(index, today.task, succeeds))
            return verdict

        def close(on_event: Hook) -> Record:
            memory = copy.copy(self.memory)
            if memory is not None:
                memory.add(index, today.task.train, succeeds)
            record = today.finish_night(on_event, judge)
            self.refused = record if record.accepted == 0 else None
            if self.refused is None:
                self.records[index], self.memory = record, memory
                self.keepsakes.keep(index, keepsake)
                if self._consolidation.freezes:
                    self.seals[index] = seals.seal(self._sealed(index, network))
                for each in enter:
                    each()
                if self._consolidation.keeps_tasks and memory is None:
                    self.kept.append(today.task)
            else:
                del self.roll.forms[index]
            self.forget_retired(network)
            return record

        return close

    def taught(self, task: Task, succeeds: int | None) -> tuple[Task, Kept | None]:
        """Return the task that the next day, whose own is `task`, trains on, and the kept examples for its batches.

        Args:
            task: The day's task.
            succeeds: Index of the task that it succeeds; None if there is none.
        """
        if self.memory is None:
            return self._consolidation.trained(task, self.kept), None
        n_outputs = [form.n_outputs for index, form in self.roll.forms.items() if index < self.roll.day]
        return self._consolidation.replayed(task, self.memory, succeeds, n_outputs)

    def forget_retired(self, network: MaskedNetwork) -> None:
        """Drop what is kept of tasks that have retired from the network."""
        living = set(network.living)
        for task in self.seals.keys() - living:
            del self.records[task], self.roll.forms[task], self.seals[task]
        self.keepsakes.forget_all_but(living)
        self.roll.day = network.n_tasks
        if self.gatekeeper is not None:
            self.gatekeeper.forget(living)

    def verify(self, network: MaskedNetwork) -> None:
        """Raise an error unless all that is sealed is as it was (see `daynight.Agent.verify`)."""
        if len(self.seals) < len(network.living):
            raise StateError(
                "verify: tasks are sealed with consolidation='freeze' only; here owned weights go on learning."
            )

        def own_of(task: int) -> dict[str, Tensor]:
            return network.own_of(task) | self.keepsakes.used_by(task)

        same = self._unmoved.tasks(network, self.seals, lambda task: self._sealed(task, network), own_of)
        for task in self.seals:
            if task not in same:
                self.verify_task(task, network)
        for prefix, held in ((contents.REPLAY, self.memory), (contents.GATE, self.gatekeeper)):
            if held is not None and (changed := [prefix + name for name in held.changed()]):
                raise SealError(
                    f"examples of past days that the agent keeps have changed: {', '.join(changed)}. Something other "
                    "than the agent has written to them; load the agent from a file that was saved before."
                )

    def verify_task(self, task: int, network: MaskedNetwork) -> None:
        """Raise SealError unless a finished task is as it was sealed."""
        seals.check(task, self.seals[task], seals.seal(self._sealed(task, network)))

    def unmoved(self, network: MaskedNetwork) -> frozenset[int]:
        """Return the indices of the finished tasks that are as they were sealed; none if tasks are not sealed."""
        return self._unmoved.tasks(network, self.seals, lambda task: self._sealed(task, network))

    def about(self) -> dict[str, Any]:
        """Return the attributes of `About` that say what is kept, by name, without the slow field `kept`."""
        return {
            "days": tuple(self.records.values()), "tasks": tuple(self.roll.forms.values()),
            "seals": tuple(self.seals.values()), "kept": (), "keeps": self.keepsakes.kinds,
            "replay": contents.replay_of(self._replay, self.memory), "refused": self.refused,
            "gate": None if self._gate is None else attrs.asdict(self._gate),
            "gate_held": {} if self.gatekeeper is None else self.gatekeeper.values(),
        }  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that are kept beside the network, by their names in files."""
        held = {} if self.gatekeeper is None else self.gatekeeper.tensors()
        examples = {} if self.memory is None else self.memory.tensors()
        return self.keepsakes.state() | prefixed(contents.GATE, held) | prefixed(contents.REPLAY, examples)

    def parts(self) -> dict[str, Iterable[Tensor]]:
        """Return the tensors of each part that is kept, by what `Agent.sizes` calls the part."""
        found: dict[str, Iterable[Tensor]] = {}
        if kept := self.keepsakes.state():
            found["what finished tasks keep of their data"] = kept.values()
        if self.gatekeeper is not None:
            found["held-out examples for the gate"] = self.gatekeeper.tensors().values()
        if self.memory is not None:
            found["examples of past days"] = self.memory.tensors().values()
        return found

    def restore(
        self, about: contents.About, tensors: Mapping[str, Tensor], kept: Iterable[Task]
    ) -> dict[str, Tensor]:  # fmt: skip
        """Take over what an agent keeps, as its description and tensors have it.

        Args:
            about: The description.
            tensors: The tensors of the network, and those that are kept beside it, by name.
            kept: The tasks whose data are kept.

        Returns:
            The tensors of the network.

        Raises:
            ValueError: If values do not fit.
        """
        tensors, of_memory = parted(tensors, contents.REPLAY)
        if (kept_examples := contents.memory_state(about, of_memory)) is not None and self.memory is not None:
            self.memory.restore(kept_examples)
            contents.check_memory(self.memory, about)
        tensors, held = parted(tensors, contents.GATE)
        tensors, of_tasks = parted(tensors, keepsakes.PREFIX)
        living = {record.day: about.forms[record.day] for record in about.days}
        self.keepsakes.restore(of_tasks, living)
        self.records = {record.day: record for record in about.days}
        self.roll.forms, self.roll.day = about.forms, about.n_finished
        self.seals = dict(zip(self.records, about.seals, strict=False))
        self.kept, self.refused = list(kept) if self.memory is None else [], about.refused
        if self.gatekeeper is not None:
            self.gatekeeper.restore(about.gate_held, held, living)
            for task, part in self.gatekeeper.examples():
                contents.check_examples("held-out", part, task, living[task])
        elif held:
            raise ValueError("it has held-out examples for a gate, and no gate")
        return tensors

    def check_state(
        self, network: MaskedNetwork, about: contents.About, tensors: Mapping[str, Tensor], is_day: bool = False
    ) -> None:
        """Raise ValueError unless a description and tensors fit this agent, as every file's must.

        Args:
            network: The agent's network.
            about: The description.
            tensors: The tensors of the network; those that are kept beside it may be among them.
            is_day: Whether a day had begun.
        """
        contents.check_network(network, about, tensors, is_day, is_exact=is_known(self._consolidation.name))
        contents.check_seals(about, lambda task: network.names_seen_by(task) | self.keepsakes.used_by(task).keys())

    def _sealed(self, task: int, network: MaskedNetwork) -> dict[str, Tensor]:
        """Return all tensors that a finished task uses or keeps, by name."""
        return network.seen_by(task) | self.keepsakes.used_by(task)
