"""`Persistent`: an agent's knowledge and settings, written into files and read again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from torch import Tensor

from daynight.criteria import Criterion
from daynight.data.tasks import Task
from daynight.data.unions import union
from daynight.errors import StateError
from daynight.knowledge import Knowledge
from daynight.networks.shared import Consolidation
from daynight.nights.budgets import Budget
from daynight.pruning.capacity import Capacity
from daynight.storage import agents
from daynight.support import archive, seeding
from daynight.training.day import Day
from daynight.training.trainer import Lesson


class Persistent(Knowledge):
    """Knowledge that can be kept in a file, with all that an agent learns by; `daynight.Agent` makes it.

    Attributes:
        capacity: How many weights may be owned after each night.
        seed: Names every random stream of the agent.
        consolidation: What becomes of what is owned.
        criterion: Scores weights, of which a prune keeps the highest.
    """

    capacity: Capacity
    seed: int
    consolidation: Consolidation
    criterion: Criterion
    _n_steps: int  # before the day under way
    _kept: list[Task]  # to be rehearsed
    _today: Day | None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the agent into one file, whole or not at all; see `load`.

        Raises:
            StateError: If a day is under way.
            OutputError: If it cannot be written; what was there before stays.
        """
        if self._today is not None:
            raise StateError(f"save: day {self.day} is under way. Call finish_night, or abandon_day, before.")
        about = self._about([agents.mark(task) for task in self._kept])
        about = attrs.evolve(about, code=agents.code_of(self.network))
        archive.write(path, "agent", attrs.asdict(about), self.network.state())

    def _about(self, kept: Iterable[str]) -> agents.About:
        """Say what the agent is, with marks of the tasks that it keeps."""
        return agents.about(
            self.network, self.training, self.criterion, consolidation=self.consolidation, capacity=self.capacity,
            seed=self.seed, n_steps=self._n_steps, days=self.days, tasks=tuple(self._tasks), seals=tuple(self._seals),
            kept=tuple(kept),
        )  # fmt: skip

    def _state(self) -> tuple[agents.About, dict[str, Tensor], dict[str, Any] | None]:
        """Give all that the agent is, for `_restore`: what there is to say, the network's tensors, and its day's state.

        In the midst of a phase it may be called by what is told of its progress, and not elsewhere.
        """
        today = None if self._today is None else self._today.state()  # first, for it brings the network up to date
        return self._about(()), self.network.state(), today

    def _restore(
        self,
        about: agents.About,
        tensors: Mapping[str, Tensor],
        kept: Iterable[Task],
        day: tuple[Task, Budget, Budget, dict[str, Any]] | None = None,
    ) -> None:
        """Take up what `_state` gave of an agent with the same settings, in one that has no or fewer days.

        Args:
            about: What there is to say.
            tensors: The network's.
            kept: The tasks of the days so far, if it rehearses.
            day: The task of the day under way, the budgets of its wake and night, and its state.
        """
        forms = list(about.tasks)
        n_outputs = [form.n_outputs for form in forms[: len(about.days)]]
        with seeding.forked(self.seed, "load", device=self.device):
            self.network.restore(tensors, n_outputs, forms[-1].n_outputs if day else None)
        self._n_steps, self._days, self._tasks = about.n_steps, list(about.days), forms
        self._seals, self._kept = list(about.seals), list(kept)
        if self.consolidation == "freeze":
            self.verify()
        if day is not None:
            task, wake, night, state = day
            self._today = self._day_of(task, self._lesson_of(task))
            self._today.restore(state, wake, night)

    def _lesson_of(self, task: Task) -> Lesson:
        trained = union([*self._kept, task], task.name) if self._kept else task
        return Lesson(trained, self.network, self.training, self.seed, self.device, self._n_steps)

    def _day_of(self, task: Task, lesson: Lesson) -> Day:
        return Day(task, lesson, self.network, self.capacity, self.training, criterion=self.criterion)
