"""`Outlook`: what an agent can learn on the current day and on days to come, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import torch

from daynight.data.replay import Memory, Replay
from daynight.data.roll import Roll, Views
from daynight.data.signatures import Form, check_task
from daynight.data.splits import load
from daynight.data.tasks import Task, glimpse, titled
from daynight.errors import SettingError, StateError
from daynight.networks.connectivity import Connections
from daynight.networks.masked import MaskedNetwork
from daynight.networks.sight import Owners
from daynight.nights.budgets import Budget
from daynight.nights.cycle import Night
from daynight.pruning.capacity import Capacity, Room
from daynight.support import checks, seeding
from daynight.training import tryouts
from daynight.training.consolidation import Consolidation
from daynight.training.day import Day, dusk_of, room_of
from daynight.training.gatekeeper import Gatekeeper
from daynight.training.passed import Passed
from daynight.training.preflight import N_EXAMPLES, preflight
from daynight.training.settings import Training
from daynight.training.tryouts import Tryout


@attrs.frozen(eq=False, kw_only=True)
class Outlook:
    """What an agent can learn on its current day and on days to come. It is made for one call, and changes nothing.

    Attributes:
        network: The agent's network.
        capacity: How many weights may be owned after each night.
        training: How a task is learnt.
        consolidation: The way to consolidate.
        roll: The tasks that the agent knows.
        replay: How many examples of past days the agent keeps; None if it keeps none.
        memory: The kept examples; None if it keeps none.
        gatekeeper: Tries new versions beside old ones; None if there is no gate.
        seed: Names the agent's random streams.
        device: The network's device.
        today: The current day; None between days.
        passed: Which tasks have passed the checks.
    """

    network: MaskedNetwork
    capacity: Capacity
    training: Training
    consolidation: Consolidation
    roll: Roll
    replay: Replay | None
    memory: Memory | None
    gatekeeper: Gatekeeper | None
    seed: int
    device: torch.device
    today: Day | None
    passed: Passed

    @property
    def day(self) -> int:
        """Index of the current or next day."""
        return self.network.n_tasks

    def check(
        self, task: Task, day: int | None = None, like: Task | None = None, before: Sequence[Task] = (),
        views: Views | None = None, begins: bool = False,
    ) -> None:  # fmt: skip
        """Raise an error unless `task` can be learnt on `day` (see `daynight.Agent.check`).

        Args:
            task: The task.
            day: Index of the day, from 0; None is the current or next one.
            like: The task of day 0; used only if day 0 has not begun.
            before: The tasks of the days from the current or next one to the day before `day`.
            views: What the task sees, and which it succeeds; None is what the task says.
            begins: Whether the day begins now, so that a task that has passed need not be tried again.
        """
        check_task(task)
        checks.gradients("check", self.network.module.parameters())
        day = self.day if day is None else day
        if day == self.day:
            self.check_today(task)
        form, first = Form.of(task), next(iter(self.roll.forms.values()), None if like is None else Form.of(like))
        if first is not None:
            first.check_shape(task, form, day)
        if day < self.day:
            if day in self.roll.forms:
                self.roll.forms[day].check_name(task, day)
                self.roll.forms[day].check_outputs(task, day)
            return
        self.room(task, day, before, views)
        if not self._has_begun(day) and self.passed.is_new(task):
            self.roll.warn_of_new_classes(task, views or Views.of_task(task), before)
        if (views or Views.of_task(task)).is_tried and not self._has_begun(day):
            tryouts.check_held_out(task)
        if begins and self.passed.begins(task, day):
            return  # a clock has tried it, as all days, before the first one
        replays = self.replay_of(task, day, before, views) is not None
        preflight(self.network, self.training, task, day, self.seed, self.device, self.passed, replays)
        if self.capacity.connected:
            self._check_connected(task)
        if not replays:  # whether any are kept then is not known before the day
            self.passed.note(task, day)

    def check_tried(self, task: Task, budget: Budget, day: int) -> None:
        """Raise an error if trials are to choose what a task sees (``sees="best"``), and cannot be made.

        Of a later day, it is unknown how many trials there will be; there are two or more.

        Raises:
            DataError: If the task has no validation data.
            SettingError: If the budget has no step for each trial.
        """
        if not Views.of_task(task).is_tried or self._has_begun(day):
            return
        if day == self.day:
            Tryout(task, self.network, self.training, budget)
        else:
            tryouts.check(task, self.training, budget, 2)

    def check_today(self, task: Task) -> None:
        """Raise StateError if a day has begun with another task than `task`."""
        known = task if self.today is None else self.today.task
        if task is not known and glimpse(task) != glimpse(known):
            raise StateError(
                f"day {self.day} has begun and can be continued only with its task, {titled(known.name)}, not with "
                f"{titled(task.name)}. Give that; or end the day with finish_night, or give it up with abandon_day."
            )

    def night(self, task: Task, budget: Budget, day: int | None = None, before: Sequence[Task] = ()) -> Night:
        """Return the snapshot, at dusk, of the night after `task` (see `daynight.Agent.night`)."""
        check_task(task)
        self.training.check_budget("the night's budget", budget)
        day = checks.integer("day", self.day if day is None else day, least=0)
        if day < self.day:
            self.consolidation.check_room(self.network, self.capacity, task, day)
            room = self.capacity.room(tuple(self.network.sizes.values()), day)
        else:
            room = self.room(task, day, before)
        return dusk_of(task, budget, day, room, self.training, self.replay_of(task, day, before))

    def room(self, task: Task, day: int, before: Sequence[Task] = (), views: Views | None = None) -> Room:
        """Return how many weights a task has on a day; raise CapacityError if these are too few.

        Args:
            task: The task.
            day: Index of the day, the current one or later.
            before: The tasks of the days from the current or next one to the day before `day`.
            views: What the task sees, and which it succeeds; None is what the task says.
        """
        views = views or Views.of_task(task)
        if self._has_begun(day):
            return room_of(self.network, self.capacity)
        if not views.are_usual and not self.consolidation.freezes:
            raise SettingError(
                f"{titled(task.name)}: only with consolidation='freeze' may a task succeed another, or see some of the "
                "earlier tasks alone."
            )
        if day == self.day:
            succeeds = self.roll.predecessor(task, views)
            self._check_gate(task, succeeds is not None, succeeds)
            if succeeds is None:
                self.consolidation.check_room(self.network, self.capacity, task, day)
                return room_of(self.network, self.capacity)
            room = room_of(self.network, self.capacity, succeeds)
        else:
            is_successor = self.roll.is_successor(task, before)
            self.roll.check_seen(task, before)
            self._check_gate(task, is_successor)
            if self.capacity.keep_per_task is None or not self.consolidation.freezes:
                self.consolidation.check_room(self.network, self.capacity, task, day)
                return self.capacity.room(tuple(self.network.sizes.values()), day)
            # Each day before takes a share from what is free, unless its task succeeds another.
            is_begun = self.today is not None  # then the day holds what its predecessor leaves
            n_new = sum(
                (is_begun and not index) or not self.roll.is_successor(each, before[:index])
                for index, each in enumerate(before)
            )
            free = tuple(self.network.available().values())
            room = self.capacity.room(tuple(self.network.sizes.values()), day, free, n_new - is_successor)
        self.capacity.check(self.network.sizes, day, room)
        return room

    def replay_of(self, task: Task, day: int, before: Sequence[Task] = (), views: Views | None = None) -> Replay | None:
        """Return how many kept examples are in the batches of a task's day; None if there are none.

        That of a later day takes for granted that examples of the task's predecessor are kept. The arguments are those
        of `room`.
        """
        if self.memory is None:
            return None
        if self.today is not None and day == self.day:
            return self.today.trainer.replay
        if not self.consolidation.freezes:
            return self.replay if day else None
        if day != self.day:
            return self.replay if day > self.day and self.roll.is_successor(task, before) else None
        succeeds = self.roll.predecessor(task, views or Views.of_task(task))
        return self.replay if succeeds is not None and bool((self.memory.tasks == succeeds).any()) else None

    def seen(self, views: Views) -> Owners | None:
        """Return the owners whose weights the next day's task is to see; None is all earlier tasks."""
        if views.sees is None:
            return None
        tasks = [self.roll.index_of(task, "sees") for task in views.sees]
        return frozenset(owner for task in tasks for owner in self.network.sight.of[task])

    def _has_begun(self, day: int) -> bool:
        return self.today is not None and day == self.day

    def _check_connected(self, task: Task) -> None:
        """Raise NetworkError unless it can be told how the network's masked layers are connected."""
        index, transform = torch.arange(N_EXAMPLES) % len(task.train), self.training.transform
        inputs, _ = load(task.train.subset(index), self.network.dtype, self.device)
        with seeding.forked(self.seed, "probe", device=self.device):
            Connections.of(self.network, inputs if transform is None else transform(inputs))

    def _check_gate(self, task: Task, succeeds: bool, index: int | None = None) -> None:
        if self.gatekeeper is not None:
            self.gatekeeper.check(task, succeeds, self.training, index)
