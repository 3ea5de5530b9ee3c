"""`Day`: one task's wake and night, run on an agent's network."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator
from typing import Literal

import attrs

from daynight import pruning
from daynight.capacity import Capacity
from daynight.history import Hook, Progress, Record
from daynight.lesson import Lesson
from daynight.network import FREE, MaskedNetwork
from daynight.policies import SleepPolicy, check_end, follow, planned_cycles
from daynight.schedule import Budget, Cycle, Ledger, Night, Steps
from daynight.tasks import Task
from daynight.training import Batches, Training


def dusk_of(
    task: Task, budget: Budget, day: int, network: MaskedNetwork, capacity: Capacity, training: Training
) -> Night:
    """Give the snapshot at dusk of the night of `day`, which the totals alone determine."""
    steps_per_epoch = training.steps_per_epoch(task)
    return Night(
        day=day,
        budget=budget,
        n_steps=budget.open(steps_per_epoch).n_steps,
        steps_per_epoch=steps_per_epoch,
        dawn_density=capacity.dawn_density(tuple(network.sizes.values()), day),
    )


class Day:
    """What lasts for one day only: its lesson, and the ledgers, batches and snapshots of its phases.

    Args:
        task: The day's task.
        lesson: What is trained, loaded.
        network: The network, in that day.
        capacity: How many weights the task may own at dawn.
        training: How it is learnt.
    """

    def __init__(
        self, task: Task, lesson: Lesson, network: MaskedNetwork, capacity: Capacity, training: Training
    ) -> None:
        self.lesson, self.task, self.index = lesson, task, network.n_tasks
        self.is_woken = False
        self.night: Night | None = None
        self._network, self._capacity, self._training = network, capacity, training
        self._seconds = 0.0
        self._wake: Ledger | None = None
        self._ledger: Ledger | None = None
        self._batches: Batches | None = None  # of the phase that is under way

    @property
    def step(self) -> int:
        """Number of optimizer steps that the agent has taken in its life."""
        return self.lesson.step

    @property
    def phase(self) -> Literal["wake", "dusk", "night"]:
        """What is under way."""
        if self.night is not None:
            return "night"
        return "dusk" if self.is_woken else "wake"

    def fork(self, network: MaskedNetwork, capacity: Capacity) -> Day:
        """Give the same dusk on a copy of the network, before a night by that capacity."""
        assert self.night is None
        twin = copy.copy(self)
        twin._network, twin._capacity, twin.lesson = network, capacity, self.lesson.fork(network)
        return twin

    def wake(self, budget: Budget, on_event: Hook) -> None:
        """Train on the task until the budget is spent; a wake that was interrupted goes on with its own."""
        if self._wake is None:
            self._batches = self.lesson.new_batches("wake")
            self._wake = budget.open(self._training.steps_per_epoch(self.task))
        ledger = self._wake
        with self._timed():
            if not ledger.reached(1.0):
                assert self._batches is not None
                if not self.lesson.is_begun:
                    self.lesson.optimize(ledger.n_steps, ledger.n_steps)
                self.lesson.train(Progress(day=self.index, phase="wake"), self._batches, ledger, 1.0, on_event)
        self.lesson.rest()
        self._batches = None
        self.is_woken = True

    def sleep(self, policy: SleepPolicy, budget: Budget, on_event: Hook) -> None:
        """Run the cycles of the night, or of what is left of it (see `daynight.Agent.sleep`)."""
        night = self.night or self._dusk(budget)
        n_cycles = planned_cycles(policy, night)
        with self._timed():
            if n_cycles is None:
                night = attrs.evolve(night, measured=self.lesson.measure())
            if self._ledger is None:
                self._batches = self.lesson.new_batches("night")
                self._ledger = budget.open(night.steps_per_epoch)
            # A night that was interrupted within a REM has spent more than its last finished cycle tells.
            self.night = night = attrs.evolve(night, spent=max(night.spent, self._ledger.spent))
            self.lesson.rest()
            script = follow(policy, night)
            cycle = next(script, None)
            while cycle is not None:
                self._cycle(cycle, n_cycles, on_event)
                self.night = self.night.after(cycle, self.lesson.measure() if n_cycles is None else None)
                try:
                    cycle = script.send(self.night)
                except StopIteration:
                    cycle = None
        if self.night.left > 0 or self.night.cycle == 0:
            check_end(policy, self.night)

    def dawn(self, on_event: Hook) -> Record:
        """Prune what is still above the dawn density, seal the task, and give the record of the day.

        Raises:
            TrainingError: If something that the task would own is not finite.
        """
        self.lesson.check_finite()
        night = self.night or self._dusk(Steps(0))
        if night.density > night.dawn_density:
            self._prune(night, night.dawn_density, on_event)
        self._network.end_day()
        return Record(
            kind="day",
            day=self.index,
            phase="dawn",
            step=self.step,
            owned=sum(self._network.count(self.index).values()),
            free=sum(self._network.count(FREE).values()),
            capacity=sum(self._network.sizes.values()),
            private=self._network.n_private(self.index),
            wake_steps=0 if self._wake is None else self._wake.spent_steps,
            night_steps=0 if self._ledger is None else self._ledger.spent_steps,
            unspent_steps=0 if self._ledger is None else self._ledger.steps_until(1.0),
            n_train=len(self.task.train),
            elapsed_seconds=self._seconds,
        )

    def _cycle(self, cycle: Cycle, n_cycles: int | None, on_event: Hook) -> None:
        """Prune, and retrain until the cycle's share of the budget is spent."""
        assert self.night is not None
        assert self._ledger is not None
        assert self._batches is not None
        night, end = self.night, self.night.spent + cycle.length
        self._prune(night, cycle.resolved(night), on_event)
        if self._ledger.reached(end):
            return
        n_steps = self._ledger.steps_until(end)
        if not self._training.carry_optimizer:
            self.lesson.optimize(n_steps, n_steps)
        elif self.lesson.is_begun:
            self.lesson.carry_on(n_steps)
        else:
            self.lesson.optimize(self._ledger.steps_until(1.0), n_steps)
        sign = Progress(day=self.index, phase="rem", cycle=night.cycle, n_cycles=n_cycles)
        self.lesson.train(sign, self._batches, self._ledger, end, on_event)

    def _prune(self, night: Night, keep: float, on_event: Hook) -> None:
        """Keep exactly as many of the day's weights as the density `keep` means."""
        began = time.perf_counter()
        held = self._network.held()
        sizes = self._network.sizes
        counts = self._capacity.kept(tuple(sizes.values()), self.index, keep)
        scores = {name: pruning.magnitude(weight) for name, weight in self._network.weights.items()}
        if self._capacity.ranking == "layer":
            masks = pruning.keep_top_per_layer(scores, held, dict(zip(sizes, counts, strict=True)))
        else:
            masks = pruning.keep_top_globally(scores, held, counts[0], self._capacity.min_per_layer)
        self._network.release(masks)
        self.night = attrs.evolve(night, density=keep)
        owned = sum(counts)
        available = self._capacity.available(tuple(sizes.values()), self.index)
        on_event(
            Record(
                kind="prune",
                day=self.index,
                phase="nrem",
                step=self.step,
                cycle=night.cycle,
                **self.lesson.validated(),
                density=owned / available if available else 1.0,
                owned=owned,
                free=sum(self._network.count(FREE).values()),
                elapsed_seconds=time.perf_counter() - began,
            )
        )

    def _dusk(self, budget: Budget) -> Night:
        return dusk_of(self.task, budget, self.index, self._network, self._capacity, self._training)

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - began
