"""`Day`: one task's wake and night, run on an agent's network."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import attrs
from torch import Tensor

from daynight.capacity import Capacity
from daynight.criteria import Criterion, needs
from daynight.deadlines import TimeLedger
from daynight.errors import PolicyError
from daynight.history import Hook, Progress, Record
from daynight.lesson import Lesson
from daynight.network import FREE, MaskedNetwork
from daynight.policies import SleepPolicy, advance, check_end, follow, paced, planned, remembered
from daynight.rates import Rate
from daynight.schedule import Budget, Cycle, Ledger, Measured, Night, Steps
from daynight.selection import Selection
from daynight.tasks import Task
from daynight.training import Batches, Training


def dusk_of(
    task: Task, budget: Budget, day: int, network: MaskedNetwork, capacity: Capacity, training: Training
) -> Night:
    """Give the snapshot at dusk of the night of `day`, which the totals alone determine."""
    steps_per_epoch = training.steps_per_epoch(task)
    ledger = budget.open(steps_per_epoch)
    return Night(
        day=day,
        budget=budget,
        n_steps=ledger.n_steps,
        price=ledger.price,
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
        criterion: Scores weights for a prune.
    """

    def __init__(
        self,
        task: Task,
        lesson: Lesson,
        network: MaskedNetwork,
        capacity: Capacity,
        training: Training,
        criterion: Criterion,
    ) -> None:
        self.lesson, self.task, self.index = lesson, task, network.n_tasks
        self.is_woken = False
        self.night: Night | None = None
        self._network, self._capacity, self._training = network, capacity, training
        self._criterion = criterion
        needs_start = "start" in needs(criterion)
        self._start = {name: w.detach().clone() for name, w in network.weights.items()} if needs_start else {}
        self._seconds = 0.0
        self._wake: Ledger | None = None
        self._learnt: dict[float, dict[str, Tensor]] = {}  # by share of the wake, what cycles may rewind to
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

    def wake(self, budget: Budget, on_event: Hook, remember: Sequence[float] = ()) -> None:
        """Train on the task until the budget is spent; a wake that was interrupted goes on with its own.

        Args:
            budget: What it may spend.
            on_event: Called with each record, and with signs of life.
            remember: Shares of the wake, 0 to 1, whose weights are kept for cycles that rewind.
        """
        if self._wake is None:
            self._batches = self.lesson.new_batches("wake")
            self._wake = budget.open(self._training.steps_per_epoch(self.task))
            self._learnt = {0.0: self._network.learnt()} if 0.0 in remember else {}
        ledger, due = self._wake, [share for share in sorted(remember) if share not in self._learnt]

        def keep(is_over: bool = False) -> None:
            while due and (is_over or ledger.reached(due[0])):
                self.lesson.flush()
                self._learnt[due.pop(0)] = self._network.learnt()

        with self._timed(ledger):
            if not ledger.reached(1.0):
                assert self._batches is not None
                if not self.lesson.is_begun:
                    self.lesson.optimize(ledger.n_steps, ledger.n_steps)
                sign = Progress(day=self.index, phase="wake")
                self.lesson.train(sign, self._batches, ledger, 1.0, on_event, after_step=keep if due else None)
        keep(is_over=True)
        self.lesson.rest()
        self._batches = None
        self.is_woken = True

    def sleep(self, policy: SleepPolicy, budget: Budget, on_event: Hook) -> None:
        """Run the cycles of the night, or of what is left of it (see `daynight.Agent.sleep`)."""
        night = self.night or self._dusk(budget)
        ledger = self._ledger or budget.open(night.steps_per_epoch)
        with self._timed(ledger):
            plan, planned_left = planned(policy, night), night.left
            # A night that was interrupted within a REM has spent more than its last finished cycle tells.
            night = attrs.evolve(night, spent=max(night.spent, ledger.spent))
            if plan is None:
                night = attrs.evolve(night, measured=self._measured(ledger))
            self.check_remembered(remembered(policy, plan))
            if self._ledger is None:
                self._batches, self._ledger = self.lesson.new_batches("night"), ledger
            self.night = night
            self.lesson.rest()
            timed = ledger if isinstance(ledger, TimeLedger) else None
            is_live = plan is None or timed is None
            script = follow(policy, self.night) if is_live else paced(plan or (), self.night, planned_left)
            cycle, is_late = next(script, None), False
            while cycle is not None:
                is_late = is_late or (timed is not None and self._is_late(cycle, timed))
                if is_late:
                    cycle = Cycle(keep="dawn", length=self.night.left)
                is_late |= self._cycle(cycle, None if plan is None else len(plan), on_event)
                self.night = attrs.evolve(self.night.after(cycle), density=self.night.density)
                if timed is not None:
                    self.night = attrs.evolve(self.night, spent=timed.spent)
                    if is_late:
                        break
                    is_late = plan is None and not timed.allows("other")
                    if is_late:
                        continue  # no time to measure what the policy would like to know
                if plan is None:
                    self.night = attrs.evolve(self.night, measured=self._measured(ledger))
                cycle = advance(script, self.night)
        if not is_late and (self.night.left > 0 or self.night.cycle == 0):
            check_end(policy, self.night)

    def check_remembered(self, shares: Iterable[float]) -> None:
        """Make sure that the weights of these shares of the wake have been kept.

        Raises:
            PolicyError: If some have not.
        """
        missing = [share for share in shares if share not in self._learnt]
        if missing:
            raise PolicyError(
                f"day {self.index}: a cycle rewinds to the share {missing[0]:g} of the wake, which has not kept its "
                f"weights there. Call wake(..., remember={missing!r}); a Clock does so for a plan, and for what a "
                "policy that reacts has in rewinds."
            )

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
            **self._times(),
        )

    def _is_late(self, cycle: Cycle, ledger: TimeLedger) -> bool:
        """Tell whether a night that does not reach its dawn density with a cycle has no time for it."""
        assert self.night is not None
        is_last = cycle.resolved(self.night) <= self.night.dawn_density
        return ledger.reached(1.0) or not (is_last or ledger.allows("prune"))

    def _cycle(self, cycle: Cycle, n_cycles: int | None, on_event: Hook) -> bool:
        """Prune, and retrain until the cycle's share of the budget is spent.

        Returns:
            Whether it had to be the last, for want of time.
        """
        assert self.night is not None
        assert self._ledger is not None
        assert self._batches is not None
        night, keep, ledger = self.night, cycle.resolved(self.night), self._ledger
        end = night.spent + cycle.length
        cut = self._prune(night, keep, on_event, weighs=cycle.rate is not None)
        is_last = self.night.density < keep
        if is_last:
            end = 1.0
        elif isinstance(ledger, TimeLedger) and keep > night.dawn_density:
            end = min(end, 1 - ledger.longest["prune"] / ledger.seconds)
        if ledger.reached(end):
            return is_last
        if cycle.rewind is not None:
            self.check_remembered([cycle.rewind])
            self._network.rewind(self._learnt[cycle.rewind])
        rate = None if cycle.rate is None else functools.partial(_factor, cycle.rate, cut)
        n_steps = ledger.steps_until(end)
        if not self._training.carry_optimizer:
            self.lesson.optimize(n_steps, n_steps)
        elif self.lesson.is_begun:
            self.lesson.carry_on(n_steps)
        else:
            self.lesson.optimize(ledger.steps_until(1.0), n_steps)
        sign = Progress(day=self.index, phase="rem", cycle=night.cycle, n_cycles=n_cycles)
        self.lesson.train(sign, self._batches, ledger, end, on_event, rate)
        return is_last

    def _prune(self, night: Night, keep: float, on_event: Hook, weighs: bool = False) -> float:
        """Keep exactly as many of the day's weights as the density `keep` means.

        Returns:
            How much that has cut, if it `weighs` it: the norm of the weights that it took, over that of those that were
            held, 0 to 1.
        """
        began = time.perf_counter()
        ledger = self._ledger or Steps(0).open(1)
        ledger.note_other()
        held, chosen = self._network.held(), self._selection(night)
        masks, before = chosen.masks(keep, held), chosen.squares(held) if weighs else 0.0
        # A prune may take longer than any before. What is left of a night then has no time for another: be ready.
        is_timed = isinstance(ledger, TimeLedger) and keep > night.dawn_density
        ready = chosen.masks(night.dawn_density, masks) if is_timed else None
        self._network.release(masks)
        self.night = attrs.evolve(night, density=keep)
        if keep < night.density:
            ledger.note_prune()
        if ready is not None and not ledger.allows("prune"):
            self._network.release(ready)
            self.night = attrs.evolve(night, density=night.dawn_density)
        cut = math.sqrt(max(0.0, 1 - chosen.squares(self._network.held()) / before)) if before else 0.0
        owned = sum(self._network.count(self.index).values())
        available = self._capacity.available(tuple(self._network.sizes.values()), self.index)
        on_event(
            Record(
                kind="prune",
                day=self.index,
                phase="nrem",
                step=self.step,
                cycle=night.cycle,
                **self.lesson.validated(ledger),
                density=owned / available if available else 1.0,
                owned=owned,
                free=sum(self._network.count(FREE).values()),
                elapsed_seconds=time.perf_counter() - began,
            )
        )
        ledger.note_other()
        return cut

    def _selection(self, night: Night) -> Selection:
        return Selection(
            network=self._network, capacity=self._capacity, criterion=self._criterion, lesson=self.lesson,
            start=self._start, cycle=night.cycle,
        )  # fmt: skip

    def _measured(self, ledger: Ledger) -> Measured:
        """Measure the task within the night, which takes its time."""
        measured = self.lesson.measure()
        ledger.note_other()
        return measured

    def _times(self) -> dict[str, Any]:
        """Give what a night in seconds took, for the record of the day."""
        ledger = self._ledger
        if not isinstance(ledger, TimeLedger):
            return {}
        return {
            "night_seconds": ledger.worked_seconds, "budget_seconds": ledger.seconds,
            "longest_step_seconds": ledger.longest["step"], "longest_prune_seconds": ledger.longest["prune"],
        }  # fmt: skip

    def _dusk(self, budget: Budget) -> Night:
        return dusk_of(self.task, budget, self.index, self._network, self._capacity, self._training)

    @contextlib.contextmanager
    def _timed(self, ledger: Ledger) -> Iterator[None]:
        began = time.perf_counter()
        try:
            ledger.resume()
            yield
        finally:
            ledger.pause()
            self._seconds += time.perf_counter() - began


def _factor(rate: Rate, cut: float, share: float) -> float:
    return rate(share, cut)
